"""What became of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from img2brain.controls import NAMES
from img2brain.publish import Publication
from img2brain.records import Against, Estimate
from img2brain.statistics.bootstrap import How
from img2brain.study.search import ToldTrial
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import over_members


@dataclass(frozen=True)
class MeanOutcome:
    """What confirmation rows say of the mean over members, see `OverMembers`.

    Attributes
    ----------
    score : Estimate
        The objective.
    controls : mapping of str to Against
        What the model has to beat, by name: those that all members have.
    is_of_a_sample : bool
        Whether the interval holds for the subjects that the members were drawn from, or for these alone.
    """

    score: Estimate
    controls: Mapping[str, Against]
    is_of_a_sample: bool


def mean_outcome(store: TrackingStore, run_ids: Mapping[str, str], how: How) -> MeanOutcome | None:
    """Read what is known of a model on the members of a study, by the run of each; None where one of them lacks it."""
    model = over_members(store, run_ids, how)
    if model is None:
        return None
    rivals = {name: over_members(store, run_ids, how, name) for name in NAMES}
    controls = {
        name: Against(score=rival.score(), difference=(model - rival).interval())
        for name, rival in rivals.items()
        if rival is not None
    }
    return MeanOutcome(model.interval(), controls, model.is_of_a_sample)


@dataclass(frozen=True)
class StudyOutcome:
    """What became of a study.

    Attributes
    ----------
    name : str
        Its full name.
    trials : list of ToldTrial
        All trials, in the order they were asked.
    best : ToldTrial, optional
        The trial with the highest objective on the validation rows; None where all failed.
    published : Publication, optional
        What became of the best trial; of several members, on the first.
    notes : tuple of str
        What a reader must know, such as a best trial at the edge of its range.
    features_s : float
        Seconds that this run took to extract features; next to none where they were cached.
    objective : str
        What was maximised, for people: the metric, and what stands for all voxels; of several members, their mean.
    members : mapping of str to Publication
        What became of the best trial on each member; empty where the study has one dataset.
    mean : MeanOutcome, optional
        What the confirmation rows of all members say of it; None where the study has one dataset, or a member has none.
    home : str
        The id of the home that the study belongs to, which all its runs carry: of several that share it, the first.
    """

    name: str
    trials: list[ToldTrial]
    best: ToldTrial | None
    published: Publication | None
    notes: tuple[str, ...]
    features_s: float
    objective: str
    members: Mapping[str, Publication] = field(default_factory=dict)
    mean: MeanOutcome | None = None
    home: str = ""

    def of(self, member: str) -> StudyOutcome:
        """Return what became of the study on a member; the empty name is that of its only dataset."""
        if not member:
            return self
        best = self.best.of(member) if self.best else None
        trials = [trial.of(member) for trial in self.trials]
        return replace(self, trials=trials, best=best, published=self.members[member], members={}, mean=None)
