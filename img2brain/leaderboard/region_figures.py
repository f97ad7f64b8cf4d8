"""Figures of what the confirmation rows say: by region of interest, and of two models against each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from img2brain.leaderboard.compare import Comparison
from img2brain.leaderboard.figures import COLOURS, MEDIAN_R, VOXEL_R, label_of, layout

_SERIES = {
    "median_r": "model",
    "ceiling_median_r": "noise ceiling",
    "control_untrained_median_r": "untrained twin",
    "control_pixels_median_r": "pixels",
    "control_shuffled_median_r": "shuffled",
}

_DRAWN_AS_SHAPES = 20_000  # points; more need WebGL, which not every browser has


def regions(summary: pd.DataFrame) -> go.Figure:
    """Draw the score of one published model by region, with intervals, beside its controls and ceiling.

    Parameters
    ----------
    summary : pandas.DataFrame
        Lines of `confirmed.region_table`: columns region, median_r, low, high, and those of controls and ceiling.

    Returns
    -------
    plotly.graph_objects.Figure
        A group of bars per region; the model's have error bars.
    """
    figure = go.Figure(layout=layout("Regions of interest", "Region", MEDIAN_R))
    names = [label_of(str(name)) for name in summary["region"]]
    for number, (column, name) in enumerate(_SERIES.items()):
        if column not in summary or not summary[column].notna().any():
            continue
        error = None
        if column == "median_r":
            above, below = summary["high"] - summary["median_r"], summary["median_r"] - summary["low"]
            error = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
        figure.add_bar(x=names, y=summary[column], name=name, marker_color=COLOURS[number], error_y=error)
    return figure.update_layout(barmode="group").update_xaxes(type="category")


def comparison(found: Comparison) -> go.Figure:
    """Draw two models against each other, a point per voxel, coloured by region."""
    first, second = found.first, found.second
    figure = go.Figure(layout=layout("A against B", f"A: {VOXEL_R}", f"B: {VOXEL_R}"))
    inside = np.zeros(len(first.accuracy), dtype=bool)
    parts = dict(first.regions)
    for voxels in parts.values():
        inside[voxels] = True
    if not inside.all():
        parts["other voxels" if parts else "voxels"] = np.flatnonzero(~inside)
    for number, (name, voxels) in enumerate(parts.items()):
        marker = {"color": COLOURS[number % len(COLOURS)], "size": 5, "opacity": 0.5}
        points = {"x": first.accuracy[voxels], "y": second.accuracy[voxels]}
        add = figure.add_scatter if len(inside) <= _DRAWN_AS_SHAPES else figure.add_scattergl
        add(**points, mode="markers", name=label_of(name), marker=marker)
    values = np.concatenate([first.accuracy, second.accuracy])
    ends = [float(np.nanmin(values)), float(np.nanmax(values))] if np.isfinite(values).any() else [0.0, 1.0]
    line = {"color": "#555", "dash": "dash", "width": 1}
    figure.add_scatter(x=ends, y=ends, mode="lines", name="equal", line=line, hoverinfo="skip")
    said = f"A: {label_of(first.label)}<br>B: {label_of(second.label)}<br>{label_of(found.rule)}"
    figure.update_layout(title={"text": "A against B", "subtitle": {"text": said}}, margin_t=140, height=800)
    return figure.update_xaxes(constrain="domain").update_yaxes(scaleanchor="x", constrain="domain")


def board_difference(table: pd.DataFrame) -> go.Figure:
    """Draw the scores of two boards against each other, a point per pipeline that both tried."""
    names = [str(column) for column in table if str(column).startswith("validation_r")]
    figure = go.Figure(layout=layout("Two boards", f"first: {MEDIAN_R}", f"second: {MEDIAN_R}"))
    texts = [label_of(f"{line.layer} {line.components} {line.regressor}") for line in table.itertuples()]
    figure.add_scatter(x=table[names[0]], y=table[names[1]], mode="markers", name="pipeline", text=texts)
    ends = [float(table[names].min().min()), float(table[names].max().max())]
    return figure.add_scatter(x=ends, y=ends, mode="lines", name="equal", line={"color": "#555", "dash": "dash"})
