"""How all figures look, and how one becomes a page that needs no network.

Names from a study are shown as they are: whatever in them looks like markup is escaped. Colours are those of Okabe and
Ito (2008) and the map *cividis* (Nuñez, Anderton and Renslow, 2018), which readers with any colour vision tell apart.
"""

from __future__ import annotations

import html
from pathlib import Path

import plotly.graph_objects as go

from img2brain.leaderboard._templates import render
from img2brain.leaderboard._write import write_text
from img2brain.leaderboard.rows import printable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def label_of(name: str) -> str:
    """Show a name of others as it is: nothing in it acts as markup."""
    return html.escape(printable(name), quote=False)


def layout(title: str, x: str, y: str | None) -> go.Layout:
    """Lay a figure out as all are."""
    return go.Layout(
        title=title,
        xaxis_title=label_of(x),
        yaxis_title=None if y is None else label_of(y),
        template="plotly_white",
        colorway=COLOURS,
        font={"family": "system-ui, sans-serif", "size": 14},
        margin={"l": 20, "r": 20, "t": 60, "b": 20},
        xaxis_automargin=True,
        yaxis_automargin=True,
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
    )


def say(figure: go.Figure, text: str) -> go.Figure:
    """Say in the middle of a figure why it is empty."""
    place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper"}
    return figure.add_annotation(text=text, showarrow=False, font={"size": 18, "color": "#666"}, **place)


def write_page(figure: go.Figure, path: Path) -> Path:
    """Write a figure as one page that holds all it needs (about 5 MB) and asks nothing of the network.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    path : Path
        Where to write, atomically; missing folders are made.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    StoreError
        If the folder cannot be written or is full.
    """
    config = {"displaylogo": False, "responsive": True}
    drawing = figure.to_html(config=config, include_plotlyjs=True, full_html=False, div_id="figure")
    title = html.unescape(figure.layout.title.text or "Figure")
    return write_text(path, render("figure.html", title=title, drawing=drawing))
