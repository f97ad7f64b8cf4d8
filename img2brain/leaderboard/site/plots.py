"""Drawings of a row's page, in per cent: ridges of accuracies, scatters of voxels, a profile of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2brain.leaderboard.binning import bin_edges
from img2brain.leaderboard.networks import layer_scores
from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.axis import Axis
from img2brain.leaderboard.site.forest import kind_of

Array = NDArray[np.floating[Any]]
MODEL = "model"
_MOST_DOTS = 1000
_MOST_ON_A_LINE = 200


class VoxelRidge(NamedTuple):
    """How a score is distributed over voxels: an outline, and what stands for all of them."""

    name: str
    kind: str
    outline: str
    middle: float
    middle_at: float
    n_undefined: int


class Ridges(NamedTuple):
    """Ridges on one axis."""

    axis: Axis
    ridges: list[VoxelRidge]


class Series(NamedTuple):
    """Measured and predicted responses of a voxel over the images, a line each."""

    y: Axis
    measured: str
    predicted: str
    n_images: int


class Scatter(NamedTuple):
    """Predicted against measured responses of a voxel: a path of dots, and a line where they are equal."""

    name: str
    score: float
    x: Axis
    y: Axis
    dots: str
    equal: tuple[float, float, float, float]
    over: Series


class Layer(NamedTuple):
    """A layer of a profile: the best validation score that the search found there, and where it lies."""

    name: str
    score: float
    at: float
    n_trials: int
    is_own: bool


class Profile(NamedTuple):
    """The layers of a network, in the order of the network."""

    axis: Axis
    layers: list[Layer]


def ridges(scores: Mapping[str, Array], middles: Mapping[str, float]) -> Ridges | None:
    """Draw how scores are distributed over voxels, one ridge for each; None where no voxel has one.

    Parameters
    ----------
    scores : mapping of str to ndarray (n_voxels,)
        By what was scored, the model first.
    middles : mapping of str to float
        What stands for all voxels: the undefined ones have a say in it.
    """
    finite = {name: values[np.isfinite(values)].astype(np.float64) for name, values in scores.items()}
    finite = {name: values for name, values in finite.items() if len(values)}
    if not finite:
        return None
    edges = bin_edges(list(finite.values()))
    axis = Axis.around([float(edges[0]), float(edges[-1])])
    counts = {name: np.histogram(values, edges)[0] for name, values in finite.items()}
    heights = {name: count / count.max() for name, count in counts.items()}
    n_undefined = {name: len(scores[name]) - len(values) for name, values in finite.items()}
    drawn = [_ridge(name, middles[name], axis, edges, heights[name], n_undefined[name]) for name in finite]
    return Ridges(axis, drawn)


def scatters(row: Row) -> list[Scatter]:
    """Draw predicted against measured responses of the best, the median and the worst voxel, where they are stored."""
    found = [row.confirming(name) for name in ("shown_voxels", "shown_measured", "predictions", "accuracy")]
    if any(array is None for array in found):
        return []
    voxels, measured, predictions, accuracy = (np.asarray(array) for array in found)
    words = ("best", "median", "worst") if len(voxels) == 3 else ("best", "worst")
    if not _fit_together(voxels, measured, predictions, accuracy):
        return []
    return [
        _scatter(f"{word.capitalize()} voxel, {voxel}", float(accuracy[voxel]), measured[:, k], predictions[:, voxel])
        for k, (word, voxel) in enumerate(zip(words, voxels.tolist(), strict=False))
    ]


def profile(row: Row, same_network: Iterable[Row]) -> Profile | None:
    """Draw the best validation score of each layer of a row's network in its study; None of a single layer."""
    found = layer_scores(row, same_network)
    if len(found) < 2:
        return None
    axis = Axis.around([layer.score for layer in found])
    return Profile(axis, [
        Layer(name, score, axis.at(score), n_trials, name == row.trial.spec.layer) for name, score, n_trials in found
    ])  # fmt: skip


def accuracies(row: Row) -> dict[str, Array]:
    """Read the scores of all voxels, the model's first, of all that was scored beside it."""
    part = row.confirmed
    names = [] if part is None else list(part.whole.controls)
    files = {MODEL: "accuracy"} | {name: f"control_{name}_accuracy" for name in names}
    found = {name: row.confirming(file) for name, file in files.items()}
    return {name: np.asarray(array) for name, array in found.items() if array is not None and array.ndim == 1}


def _fit_together(voxels: Array, measured: Array, predictions: Array, accuracy: Array) -> bool:
    shapes = measured.shape == (len(predictions), len(voxels)) and predictions.shape[1:] == accuracy.shape
    return shapes and len(voxels) > 0 and bool(((voxels >= 0) & (voxels < len(accuracy))).all())


def _ridge(name: str, middle: float, axis: Axis, edges: Array, heights: Array, n_undefined: int) -> VoxelRidge:
    x = np.repeat([axis.at(edge) for edge in edges], 2)
    y = 100 - 96 * np.concatenate([[0], np.repeat(heights, 2), [0]])
    kind = MODEL if name == MODEL else kind_of(name)
    return VoxelRidge(name, kind, _path(x, y, "L"), middle, axis.at(middle), n_undefined)


def _scatter(name: str, score: float, measured: Array, predicted: Array) -> Scatter:
    some = slice(None, None, -(-len(measured) // _MOST_DOTS))
    x, y = (Axis.around(values.tolist(), 4, anchored=False) for values in (measured, predicted))
    dots = "".join(
        f"M{x.at(a):.1f} {y.down(b):.1f}h0"
        for a, b in zip(measured[some], predicted[some], strict=True)
        if np.isfinite([a, b]).all()
    )
    low, high = max(x.low, y.low), min(x.high, y.high)
    return Scatter(
        name, score, x, y, dots, (x.at(low), y.down(low), x.at(high), y.down(high)), _series(measured, predicted)
    )


def _series(measured: Array, predicted: Array) -> Series:
    """Draw responses over the images that both are known of, evenly spread ones where there are many."""
    known = np.flatnonzero(np.isfinite(measured) & np.isfinite(predicted))
    some = known[:: max(1, -(-len(known) // _MOST_ON_A_LINE))]
    axis = Axis.around([*measured[some].tolist(), *predicted[some].tolist()], 4, anchored=False)
    x = np.linspace(0, 100, len(some))
    lines = [_path(x, [axis.down(value) for value in values[some]], "L") for values in (measured, predicted)]
    return Series(axis, lines[0], lines[1], len(some))


def _path(x: Sequence[float] | Array, y: Sequence[float] | Array, by: str) -> str:
    return "M" + by.join(f"{a:.2f} {b:.2f}" for a, b in zip(x, y, strict=True))
