"""Figures of what the confirmation rows say: by region of interest, and of two models against each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from img2brain.leaderboard.compare import Comparison
from img2brain.leaderboard.drawing import COLOURS, label_of, layout
from img2brain.leaderboard.record_numbers import statistics_of
from img2brain.leaderboard.rows import Row
from img2brain.records import RegionRecord

_DRAWN_AS_SHAPES = 20_000  # points; more need WebGL, which not every browser has


def regions(row: Row) -> go.Figure:
    """Draw the score of one published model by region, with intervals, beside its controls and ceiling.

    Parameters
    ----------
    row : Row
        One that was published, with regions.

    Returns
    -------
    plotly.graph_objects.Figure
        A group of bars per region; the model's have error bars.
    """
    figure = go.Figure(layout=layout("Regions of interest", "Region", row.measure.over_voxels))
    found = row.confirmed.regions if row.confirmed else {}
    names = [label_of(name) for name in found]
    scores = pd.DataFrame([_scores(region) for region in found.values()])
    above = [region.score.high - region.score.estimate for region in found.values()]
    below = [region.score.estimate - region.score.low for region in found.values()]
    whiskers = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    for number, name in enumerate(scores):
        error = whiskers if number == 0 else None
        colour = COLOURS[number % len(COLOURS)]
        figure.add_bar(x=names, y=scores[name], name=label_of(str(name)), marker_color=colour, error_y=error)
    return figure.update_layout(barmode="group").update_xaxes(type="category")


def _scores(region: RegionRecord) -> dict[str, float]:
    """Return the scores of a region, that of the model first, by what people call what was scored."""
    others = {item.heading: item.value for item in statistics_of(region) if item.name.endswith("_score")}
    return {"model": region.score.estimate, **others}


def comparison(found: Comparison) -> go.Figure:
    """Draw two models against each other, a point per voxel, coloured by region."""
    first, second = found.first, found.second
    figure = go.Figure(layout=layout("A against B", f"A: {first.measure.of_a_voxel}", f"B: {first.measure.of_a_voxel}"))
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
    names = [str(column) for column in table if str(column).startswith("validation")]
    figure = go.Figure(layout=layout("Two boards", "first: validation score", "second: validation score"))
    texts = [label_of(f"{line.layer} {line.components} {line.regressor}") for line in table.itertuples()]
    figure.add_scatter(x=table[names[0]], y=table[names[1]], mode="markers", name="pipeline", text=texts)
    ends = [float(table[names].min().min()), float(table[names].max().max())]
    return figure.add_scatter(x=ends, y=ends, mode="lines", name="equal", line={"color": "#555", "dash": "dash"})
