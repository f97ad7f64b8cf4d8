"""Networks on a board: the best trial of each, and how its score runs over its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from img2brain.leaderboard.binning import by_value
from img2brain.leaderboard.rows import Row, placed

By = Literal["backbone", "layer", "regressor"]


class LayerScore(NamedTuple):
    """The best validation score that trials found at a layer, and how many there were."""

    name: str
    score: float
    n_trials: int


def network_of(row: Row) -> tuple[str, ...]:
    """Return what tells the network of a row from others: its name, weights and preprocessing."""
    spec = row.trial.spec
    return spec.backbone, spec.weights_digest, spec.preprocessing


def best_of_each(board: Iterable[Row], by: By = "backbone") -> list[Row]:
    """Return the best trial of each network, layer or regressor of a board, chosen by the validation score.

    Parameters
    ----------
    board : iterable of Row
        Of one dataset, one split and one objective.
    by : {"backbone", "layer", "regressor"}
        What there is to be one trial of: networks, layers of networks, or regressors whatever the network.

    Returns
    -------
    list of Row
        Best first.
    """
    found: dict[tuple[str, ...], Row] = {}
    for _, row in placed(board):
        found.setdefault(_one_of(row, by), row)
    return list(found.values())


def _one_of(row: Row, by: By) -> tuple[str, ...]:
    """Return what a row is one trial of."""
    spec = row.trial.spec
    if by == "regressor":
        return (spec.regressor,)
    return (*network_of(row), spec.layer) if by == "layer" else network_of(row)


def layer_scores(row: Row, same_network: Iterable[Row]) -> list[LayerScore]:
    """Return the best validation score of each layer of a row's network, in the order of the network.

    Layers that no trial has a score of are left out.
    """
    scores: dict[str, list[float]] = {}
    for other in same_network:
        scores.setdefault(other.trial.spec.layer, []).append(other.trial.score)
    best = {name: float(np.nanmax(found)) for name, found in scores.items() if np.isfinite(found).any()}
    return [LayerScore(name, best[name], len(scores[name])) for name in _in_order(best, row)]


def _in_order(layers: Iterable[str], row: Row) -> list[str]:
    """Order layers as the study lists them, which is the order of the network, or by name."""
    listed = _listed_layers(row)
    return sorted(layers, key=lambda name: (listed.index(name) if name in listed else len(listed), by_value(name)))


def _listed_layers(row: Row) -> list[str]:
    """Return the layers of a network as its study lists them; none where no study is known, or it says otherwise."""
    found: Any = row.study_record.description if row.study_record else {}
    for key in ("space", "layers", row.trial.spec.backbone):
        found = found.get(key) if isinstance(found, Mapping) else None
    return [str(name) for name in found] if isinstance(found, list | tuple) else []
