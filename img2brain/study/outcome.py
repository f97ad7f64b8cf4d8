"""What became of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from img2brain.publish import Publication
from img2brain.study.search import ToldTrial


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
    """

    name: str
    trials: list[ToldTrial]
    best: ToldTrial | None
    published: Publication | None
    notes: tuple[str, ...]
    features_s: float
    objective: str
    members: Mapping[str, Publication] = field(default_factory=dict)

    def of(self, member: str) -> StudyOutcome:
        """Return what became of the study on a member; the empty name is that of its only dataset."""
        if not member:
            return self
        best = self.best.of(member) if self.best else None
        trials = [trial.of(member) for trial in self.trials]
        return replace(self, trials=trials, best=best, published=self.members[member], members={})
