"""How all figures look, and how they become a page that needs no network.

Names from a study are shown as they are: whatever in them looks like markup is escaped. Colours are those of Okabe and
Ito (2008) and the map *cividis* (Nuñez, Anderton and Renslow, 2018), which readers with any colour vision tell apart.
"""

from __future__ import annotations

import base64
import gzip
import html
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from img2brain.leaderboard._write import write_text
from img2brain.leaderboard.rows import printable
from img2brain.leaderboard.site.templating import asset, render

Figure: TypeAlias = go.Figure
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


def write_page(figures: Figure | Sequence[Figure], path: Path, title: str | None = None) -> Path:
    """Write figures as one page that holds all it needs (about 2 MB) and asks nothing of the network.

    Parameters
    ----------
    figures : plotly.graph_objects.Figure, or a sequence of them
        Drawn one below the other.
    path : Path
        Where to write, atomically; missing folders are made.
    title : str, optional
        Of the page; by default that of the first figure.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    StoreError
        If the folder cannot be written or is full.

    Notes
    -----
    Nearly all of a page is plotly's code. It is there once for all figures, compressed: MLflow shows a page in a frame
    that may load nothing, not even from the server that it comes from.
    """
    drawn = [figures] if isinstance(figures, go.Figure) else list(figures)
    title = title or html.unescape(drawn[0].layout.title.text or "Figure")
    texts = [figure.to_json() for figure in drawn]
    page = render("figure.html", title=title, figures=texts, script=asset("figure.js"), library=_library())
    return write_text(path, page)


@cache
def _library() -> str:
    """Return plotly's code for browsers, compressed, as text."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()
