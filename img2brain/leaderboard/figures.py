"""Figures of a study: its search, its parameters, its layers, its voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from img2brain.errors import DataError
from img2brain.leaderboard.binning import bin_edges, layer_table, size_columns
from img2brain.leaderboard.drawing import COLOURS, label_of, layout, say
from img2brain.leaderboard.measure import Measure

MOST_NUMBERED = 8  # columns whose numbers still fit into the cells
_DONE, _WAITING = {"COMPLETE", "FINISHED"}, {"RUNNING", "WAITING", "SCHEDULED"}


def optimisation_history(values_by_trial: pd.DataFrame, measure: Measure) -> go.Figure:
    """Draw the score of every trial and the best so far.

    Parameters
    ----------
    values_by_trial : pandas.DataFrame
        Columns `trial`, `score` and `state` (Optuna's or MLflow's word). A trial that ended without a score is drawn
        as a cross on the lower edge; one that is still running is not drawn.
    measure : Measure
        What the scores are.

    Returns
    -------
    plotly.graph_objects.Figure
        Traces: the trials, the best so far and, where there are any, the failed ones.
    """
    trials = _frame("values_by_trial", values_by_trial, "trial", "score", "state").sort_values("trial", kind="stable")
    states, scores = trials["state"].str.upper(), trials["score"].to_numpy(float, na_value=np.nan)
    done = states.isin(_DONE).to_numpy() & np.isfinite(scores)
    failed = ~done & ~states.isin(_WAITING).to_numpy()
    x, size = trials["trial"].to_numpy(), 7 if done.sum() < 500 else 4
    figure = go.Figure(layout=layout("Search history", "Trial", measure.over_voxels))
    points = {"color": COLOURS[5], "size": size, "opacity": 0.7}
    figure.add_scatter(x=x[done], y=scores[done], mode="markers", name="trial", marker=points)
    best = np.maximum.accumulate(scores[done])
    line = {"color": COLOURS[1], "shape": "hv", "width": 2}
    figure.update_xaxes(dtick=1 if len(trials) <= 10 else None)
    figure.add_scatter(x=x[done], y=best, mode="lines", name="best so far", line=line)
    _crosses(figure, x[failed])
    return figure if done.any() else say(figure, "No trial has a score yet.")


def parameter_importances(importances: Mapping[str, float]) -> go.Figure:
    """Draw how much of the score's variation each parameter explains, the largest on top.

    Parameters
    ----------
    importances : mapping of str to float
        Share of each parameter, from 0 to 1.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace of horizontal bars.
    """
    pairs = sorted(importances.items(), key=lambda pair: (pair[1], pair[0]))
    shape = layout("Parameter importances", "Share of the score's variation", None)
    figure = go.Figure(layout=shape)
    names, shares = [label_of(name) for name, _ in pairs], [share for _, share in pairs]
    figure.add_bar(x=shares, y=names, orientation="h", marker_color=COLOURS[0], texttemplate="%{x:.2f}")
    figure.update_xaxes(range=[0, 1.1 * max(shares, default=1) or 1])
    figure.update_yaxes(type="category")
    figure.update_layout(height=160 + 36 * max(len(pairs), 3), showlegend=False)
    return figure if pairs else say(figure, "Too few trials to tell.")


def layer_by_components(
    trials: pd.DataFrame, measure: Measure, layers: Mapping[str, Sequence[str]] | None = None
) -> go.Figure:
    """Draw the best score of each layer and number of components, a panel for each backbone and regressor.

    Parameters
    ----------
    trials : pandas.DataFrame
        Columns `backbone`, `layer`, `n_components`, `regressor` and `score`; NaN where a trial failed.
    measure : Measure
        What the scores are.
    layers : mapping of str to sequence of str, optional
        The layers of each backbone in the order of the network. Others follow by name, numbers by value.

    Returns
    -------
    plotly.graph_objects.Figure
        A heat map for each backbone (downwards) and regressor (across), blank where nothing was tried: what differs
        in a panel is the layer and the size alone. More than 16 sizes are gathered into ranges, evenly spaced on a
        logarithmic scale.
    """
    trials = _frame("trials", trials, "backbone", "layer", "n_components", "regressor", "score")
    backbones, regressors = (sorted(trials[name].unique()) for name in ("backbone", "regressor"))
    if not backbones:
        return say(go.Figure(layout=layout("Layers and components", "Principal components", "Layer")), "No trials yet.")
    columns, place = size_columns(trials["n_components"].to_numpy(int))
    trials = trials.assign(column=place)
    orders = {name: list(_best_of(trials, {"backbone": name}, (layers or {}).get(name, ()), columns).index)
              for name in backbones}  # fmt: skip
    figure = _panels(backbones, regressors, [len(order) for order in orders.values()], measure)
    for (row, (backbone, order)), (column, regressor) in product(
        enumerate(orders.items(), 1), enumerate(regressors, 1)
    ):
        best = _best_of(trials, {"backbone": backbone, "regressor": regressor}, order, columns).reindex(order)
        drawn = _heat_map(best, measure, numbered=len(columns) * len(regressors) <= MOST_NUMBERED)
        figure.add_trace(drawn, row=row, col=column)
    return figure


def accuracy_histogram(scores: Mapping[str, NDArray[np.floating]], measure: Measure) -> go.Figure:
    """Draw how the score is distributed over voxels, a panel for each model, one below the other on one axis.

    Parameters
    ----------
    scores : mapping of str to array of float, shape (n_voxels,)
        Score of each voxel under the name of its model; NaN where it is undefined.
    measure : Measure
        What the scores are.

    Returns
    -------
    plotly.graph_objects.Figure
        Two traces for each name: bars of the counts (bins of 0.02, wider ones where a few voxels lie far off) and a
        line at the median or mean, which the panel's title gives with the number of undefined voxels.
    """
    finite = {name: values[np.isfinite(values)] for name, values in scores.items()}
    edges = bin_edges(list(finite.values()))
    counts = {name: np.histogram(values, edges)[0] for name, values in finite.items()}
    top = max((int(count.max()) for count in counts.values()), default=1)
    titles = [_summary(name, values, measure, len(scores[name]) - len(values)) for name, values in finite.items()]
    figure = _ridges(titles, measure)
    for row, (name, values) in enumerate(finite.items(), start=1):
        colour = COLOURS[(row - 1) % len(COLOURS)]
        x = np.round((edges[:-1] + edges[1:]) / 2, 6)
        bars = go.Bar(x=x, y=counts[name], width=edges[1] - edges[0], marker_color=colour, name=titles[row - 1])
        figure.add_trace(bars, row=row, col=1)
        if len(values):
            ends = {"x": [_middle(values, measure)] * 2, "y": [0, top]}
            line = go.Scatter(**ends, mode="lines", line={"color": "#222", "width": 2}, hoverinfo="skip")
            figure.add_trace(line, row=row, col=1)
    return figure if any(map(len, finite.values())) else say(figure, "No voxel has a score.")


def _best_of(trials: pd.DataFrame, which: Mapping[str, str], order: Sequence[str], columns: list[str]) -> pd.DataFrame:
    """Lay out the best scores of some trials, layers down and sizes across."""
    chosen = trials[(trials[list(which)] == pd.Series(which)).all(axis=1)]
    return layer_table(chosen.groupby(["layer", "column"])["score"].max(), order, columns)


def _frame(name: str, frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DataError(f"The '{name}' of a figure must have the columns {', '.join(columns)}. Missing: {missing[0]}.")
    return frame


def _crosses(figure: go.Figure, failed: NDArray[np.int64]) -> None:
    """Put the failed trials on the lower edge, on an axis of their own: they have no score to be drawn at."""
    if not len(failed):
        return
    marker = {"symbol": "x-thin", "size": 8, "line": {"width": 2, "color": "#555"}}
    label, edge = f"failed ({len(failed)})", np.zeros(len(failed))
    hover = {"hovertemplate": "trial %{x}: failed<extra></extra>", "cliponaxis": False}
    figure.add_scatter(x=failed, y=edge, yaxis="y2", mode="markers", name=label, marker=marker, **hover)
    figure.update_layout(yaxis2={"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True})


def _ridges(titles: list[str], measure: Measure) -> go.Figure:
    """Lay out panels for histograms, one below the other, with the same axes."""
    n_panels = max(len(titles), 1)
    height = 120 * n_panels + 160
    figure = make_subplots(
        rows=n_panels, cols=1, shared_xaxes=True, shared_yaxes="all", subplot_titles=titles,
        vertical_spacing=30 / height if n_panels > 1 else 0,
    )  # fmt: skip
    shape = layout("Accuracy of the voxels", "", "")
    figure.update_layout(shape, height=height, bargap=0, showlegend=False)
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    figure.update_xaxes(title_text="").update_yaxes(title_text="")
    figure.update_xaxes(title_text=label_of(measure.of_a_voxel), row=n_panels, col=1)
    return figure.update_yaxes(title_text="Voxels", row=(n_panels + 1) // 2, col=1)


def _panels(backbones: list[str], regressors: list[str], n_layers: list[int], measure: Measure) -> go.Figure:
    """Lay out panels for heat maps, backbones downwards and regressors across."""
    height, gap = 28 * sum(n_layers) + 40 * len(n_layers), 24
    figure = make_subplots(
        rows=len(backbones),
        cols=len(regressors),
        shared_xaxes=True,
        shared_yaxes=True,
        row_heights=n_layers,
        column_titles=[label_of(name) for name in regressors],
        row_titles=[label_of(name) for name in backbones],
        vertical_spacing=gap / (height + gap * len(backbones)) if len(backbones) > 1 else 0,
        horizontal_spacing=0.12 / len(regressors) if len(regressors) > 1 else 0,
    )
    figure.update_layout(layout("Layers and components", "", None), height=max(height, 240) + 220, margin_t=100)
    place = {"orientation": "h", "y": 0, "yref": "container", "yanchor": "bottom", "thickness": 14}
    bar = {"title": {"text": label_of(measure.over_voxels), "side": "bottom"}, **place}
    figure.update_layout(coloraxis={"colorscale": "Cividis", "colorbar": bar}, plot_bgcolor="#eee")
    figure.update_xaxes(type="category", showgrid=False, title_text="")
    figure.update_xaxes(title_text="Principal components", row=len(backbones), col=(len(regressors) + 1) // 2)
    return figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True)


def _heat_map(table: pd.DataFrame, measure: Measure, *, numbered: bool) -> go.Heatmap:
    hover = f"%{{y}}, %{{x}} components<br>{_in_hover(measure)}: %{{z:.4f}}<extra></extra>"
    text = {"texttemplate": "%{z:.3f}" if numbered else None, "textfont": {"size": 11}}
    return go.Heatmap(
        x=list(table.columns),
        y=[label_of(name) for name in table.index],
        z=table.to_numpy(float),
        coloraxis="coloraxis",
        hovertemplate=hover,
        hoverongaps=False,
        xgap=1,
        ygap=1,
        **text,
    )


def _summary(name: str, values: NDArray[np.floating], measure: Measure, n_undefined: int) -> str:
    middle = f"{measure.summary} {_middle(values, measure):.4f}" if len(values) else f"no {measure.summary}"
    return f"{label_of(name)}: {middle}" + (f", {n_undefined:,} undefined" if n_undefined else "")


def _middle(values: NDArray[np.floating], measure: Measure) -> float:
    return float(np.mean(values) if measure.summary == "mean" else np.median(values))


def _in_hover(measure: Measure) -> str:
    """Show the label of a metric of others in a template, in which braces would be its own."""
    return label_of(measure.over_voxels).replace("{", "(").replace("}", ")")
