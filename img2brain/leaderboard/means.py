"""Boards of the mean over the members of a study: trials that were evaluated on all of them, and models of them.

A row of such a board is made of one row for each member. What is said of the mean on confirmation rows follows from
arrays of the members' own runs, whose resamples are joint, see `img2brain.statistics.members`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

from img2brain.leaderboard.measure import Measure
from img2brain.leaderboard.record_numbers import interval_text
from img2brain.leaderboard.rows import Row
from img2brain.records import Against, Estimate, TrialRecord
from img2brain.records.confirmation import UNTRAINED
from img2brain.result import WHOLE
from img2brain.statistics.members import OverMembers
from img2brain.statistics.ties import Place, place
from img2brain.tracking.reading import joint_summaries_in

Key = tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class MeanRow:
    """A trial on all members of its study.

    Attributes
    ----------
    rows : mapping of str to Row
        By the name of the member, in the order of the study.
    place : Place, optional
        Where it stands among the models that met the same joint resamples.
    """

    rows: Mapping[str, Row]
    place: Place | None = None

    @property
    def first(self) -> Row:
        """Its row on the first member: study, number, network and all that members share."""
        return next(iter(self.rows.values()))

    @property
    def trial(self) -> TrialRecord:
        """Its trial on the first member."""
        return self.first.trial

    @property
    def name(self) -> str:
        """What it is called."""
        return f"{self.trial.study} #{self.trial.number}" + (f" ({self.first.origin})" if self.first.origin else "")

    @property
    def validation(self) -> float:
        """The objective of its study: the mean over members of the validation score."""
        return fmean(row.trial.score for row in self.rows.values())

    @cached_property
    def scores(self) -> OverMembers | None:
        """Its scores on confirmation rows; None where it was not published on each member."""
        return self._over_members("")

    @property
    def confirmed(self) -> Estimate | None:
        """The mean over members of the confirmation score."""
        return None if self.scores is None else self.scores.interval()

    @cached_property
    def controls(self) -> dict[str, Against]:
        """What it has to beat on average over members, by name: the controls that all members have."""
        found = {name: (self._over_members(name), self.scores) for name in self._shared_controls}
        return {
            name: Against(score=rival.score(), difference=(own - rival).interval())
            for name, (rival, own) in found.items()
            if rival is not None and own is not None
        }

    @property
    def flags(self) -> tuple[str, ...]:
        """What a reader must know before the score."""
        twin = self.controls.get(UNTRAINED)
        return ("does not beat its untrained twin",) if twin and not twin.difference.low > 0 else ()

    @property
    def resamples(self) -> Key:
        """Names the joint resamples that it met."""
        return tuple(item.draws for item in self.scores.members.values()) if self.scores else ()

    @property
    def _shared_controls(self) -> list[str]:
        named = [list(row.confirmed.whole.controls) for row in self.rows.values() if row.confirmed]
        return [name for name in (named[0] if named else ()) if all(name in other for other in named)]

    def _over_members(self, control: str) -> OverMembers | None:
        how = self.first.measure.summary
        found = {name: joint_summaries_in(row.arrays, how, control) for name, row in self.rows.items() if row.confirmed}
        known = {_data(self.rows[name]): item for name, item in found.items() if item is not None}
        return OverMembers(known) if len(known) == len(self.rows) else None


@dataclass(frozen=True, eq=False)
class MeanBoard:
    """The trials of all studies of the same members, by one objective.

    Attributes
    ----------
    rows : list of MeanRow
        Best validation mean first, at least one.
    """

    rows: list[MeanRow]

    @property
    def members(self) -> list[str]:
        """The names of the members."""
        return list(self.rows[0].rows)

    @property
    def datasets(self) -> dict[str, str]:
        """The names of their datasets, by member."""
        return {name: row.trial.dataset.name for name, row in self.rows[0].rows.items()}

    @property
    def measure(self) -> Measure:
        """What the scores are."""
        return self.rows[0].first.measure

    @property
    def title(self) -> str:
        """What it is called."""
        return f"Mean of {len(self.members)} members"

    @property
    def is_of_a_sample(self) -> bool:
        """Whether its intervals hold for the subjects that the members were drawn from, or for these alone."""
        return any(row.scores is not None and row.scores.is_of_a_sample for row in self.rows)

    @cached_property
    def published(self) -> list[MeanRow]:
        """The models that were published on all members, best mean first, ties as ties."""
        known = [row for row in self.rows if row.confirmed is not None and math.isfinite(row.confirmed.estimate)]
        groups: dict[Key, list[MeanRow]] = {}
        for row in known:
            groups.setdefault(row.resamples, []).append(row)
        return sorted((row for group in groups.values() for row in _placed(group)), key=_by_score)


def mean_boards(rows: Iterable[Row]) -> list[MeanBoard]:
    """Gather the rows of studies of several members into boards of their mean.

    A trial whose row of some member is not there has no mean.

    Parameters
    ----------
    rows : iterable of Row
        Of any boards.
    """
    boards: dict[Key, list[MeanRow]] = {}
    for found in _trials(rows):
        boards.setdefault(tuple(row.board_key for row in found.rows.values()), []).append(found)
    return [MeanBoard(sorted(group, key=_by_validation)) for _, group in sorted(boards.items())]


def text_lines(board: MeanBoard, most: int) -> Iterator[str]:
    """Tell of a board of means for a terminal: its published models, and its best trials."""
    whom = "members like these" if board.is_of_a_sample else "these members"
    yield f"{board.title}: {', '.join(board.members)} ({board.measure.over_voxels}; intervals of 95 % for {whom})"
    for row in board.published:
        rank = f"{row.place.rank}. " if row.place else ""
        yield f"  {rank}{row.name}: {interval_text(row.confirmed or Estimate(estimate=math.nan), 4)}"
        yield from (f"     {name}: {text}" for name, text in _texts(row).items())
    for row in board.rows[:most]:
        yield f"  validation {row.validation:.4f}  {row.name}  {row.trial.spec.label}"


def mean_lines(board: MeanBoard) -> list[dict[str, Any]]:
    """Return a line of plain numbers for each row of a board of means, the published ones first."""
    published = {row.first: row for row in board.published}
    others = [row for row in board.rows if row.first not in published]
    return [_line(board, row) for row in (*published.values(), *others)]


def _trials(rows: Iterable[Row]) -> Iterator[MeanRow]:
    for found, names in _groups(rows).values():
        if all(name in found for name in names):
            yield MeanRow({name: found[name] for name in names})


def _groups(rows: Iterable[Row]) -> dict[tuple[str, int, str], tuple[dict[str, Row], list[str]]]:
    """Group the rows of each trial of a study of several members, with the names of all members."""
    groups: dict[tuple[str, int, str], tuple[dict[str, Row], list[str]]] = {}
    for row in rows:
        if row.trial.member and row.study_record is not None:
            key = row.study, row.trial.number, row.home or row.origin
            found, _ = groups.setdefault(key, ({}, list(row.study_record.members)))
            found[row.trial.member] = row
    return groups


def _data(row: Row) -> str:
    """Name a member by its data: studies may call it otherwise."""
    return f"{row.trial.dataset.digest} {row.trial.rows.split}"


def _placed(group: Sequence[MeanRow]) -> Iterator[MeanRow]:
    ordered = sorted(group, key=_by_score)
    scores = [row.scores for row in ordered if row.scores is not None]
    for row, found in zip(ordered, place(scores, WHOLE), strict=True):
        yield replace(row, place=found)


def _by_score(row: MeanRow) -> tuple[float, str, int]:
    score = row.confirmed.estimate if row.confirmed else math.nan
    return -score if math.isfinite(score) else math.inf, row.trial.study, row.trial.number


def _by_validation(row: MeanRow) -> tuple[float, str, int]:
    return -row.validation if math.isfinite(row.validation) else math.inf, row.trial.study, row.trial.number


def _texts(row: MeanRow) -> dict[str, str]:
    found = {"flag": "; ".join(row.flags)} if row.flags else {}
    if row.place is not None and row.place.difference is not None:
        found["below the row above by"] = f"{interval_text(row.place.difference)}, p = {row.place.p_value:.2g}"
    for name, item in row.controls.items():
        found[name] = f"{item.score:.3f}, the model {interval_text(item.difference, sign=True)}"
    scores = {name: item.confirmed_score for name, item in row.rows.items()}
    return found | {"members": ", ".join(f"{name} {score:.3f}" for name, score in scores.items())}


def _line(board: MeanBoard, row: MeanRow) -> dict[str, Any]:
    spec, score = row.trial.spec, row.confirmed or Estimate(estimate=math.nan)
    found: dict[str, Any] = {
        "members": ", ".join(board.members),
        "n_members": len(board.members),
        "backbone": spec.backbone,
        "weights": spec.weights,
        "trained": row.trial.network.trained,
        "layer": spec.layer,
        "components": spec.n_components,
        "regressor": spec.regressor,
        "objective": row.trial.objective,
        "summary": board.measure.summary,
        "validation": row.validation,
        "confirmation": score.estimate,
        "confirmation_low": score.low,
        "confirmation_high": score.high,
        "confirmation_rank": row.place.rank if row.place else None,
        "tie_group": row.place.group if row.place else None,
        "of_a_sample": board.is_of_a_sample,
    }
    for name, item in row.controls.items():
        found |= {f"control_{name}_score": item.score, f"control_{name}_difference": item.difference.estimate}
        found |= {f"control_{name}_low": item.difference.low, f"control_{name}_high": item.difference.high}
    for name, own in row.rows.items():
        found |= {f"validation[{name}]": own.trial.score, f"confirmation[{name}]": own.confirmed_score}
    return found | {
        "study": row.trial.study,
        "trial": row.trial.number,
        "home": row.first.home,
        "origin": row.first.origin,
    }
