"""The best layer of each voxel: chosen on the validation rows, so that its gain can be measured on the confirmation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from img2brain.confirm import BestLayers
from img2brain.evaluate import Evaluator, bank_key
from img2brain.predictions import Chosen
from img2brain.refit import Refit
from img2brain.study.member import Member
from img2brain.study.search import ToldTrial


def best_layers(
    best: ToldTrial, told: Sequence[ToldTrial], member: Member, evaluator: Evaluator, refit: Refit
) -> BestLayers | None:
    """Give each voxel the layer of the best trial's network that predicts it best.

    Parameters
    ----------
    best : ToldTrial
        The best trial of the study, as it was on the member.
    told : sequence of ToldTrial
        All trials, as they were on the member: of each layer, the best one stands for it.
    member, evaluator, refit : Member, Evaluator, Refit
        Of the study.

    Returns
    -------
    BestLayers or None
        None where the search scored one layer only, or there are no confirmation rows.
    """
    trials = [trial for trial in best_by_layer(told) if bank_key(trial.spec) == bank_key(best.spec)]
    if len(trials) < 2 or not len(member.split.confirmation):
        return None
    accuracy = np.stack([np.nan_to_num(evaluator.evaluate(trial.spec).accuracy, nan=-np.inf) for trial in trials])
    choice = accuracy.argmax(axis=0)
    sources = {
        place: refit(trial.spec, member.bank(trial.spec))[1].of_voxels(voxels)
        for place, trial in enumerate(trials)
        if (voxels := choice == place).any()
    }
    predictions = Chosen(choice, sources, len(member.split.confirmation))
    return BestLayers(tuple(trial.spec.layer for trial in trials), choice, predictions)


def best_by_layer(told: Sequence[ToldTrial]) -> list[ToldTrial]:
    """Return the best trial of each layer of each network, the best of all first."""
    ranked = sorted((trial for trial in told if trial.succeeded), key=lambda trial: -trial.score)
    found: dict[object, ToldTrial] = {}
    for trial in ranked:
        found.setdefault((bank_key(trial.spec), trial.spec.layer), trial)
    return list(found.values())
