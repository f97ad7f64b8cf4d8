"""The rows of leaderboards and their ranks: each is made of the records of a trial.

Scores are comparable within a *board* only: the same data, the same rows and the same objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

from numpy.typing import NDArray

from img2brain import digest
from img2brain.errors import DataError
from img2brain.leaderboard.measure import Measure
from img2brain.records import ConfirmationRecord, Estimate, MetricRecord, PartRecord, StudyRecord, TrialRecord
from img2brain.statistics.bootstrap import Summaries
from img2brain.statistics.ties import VOXEL_RULE, Place
from img2brain.tracking.names import part_array
from img2brain.tracking.reading import summaries_in

_HOME_LENGTH = 8

Arrays = Callable[[str], NDArray[Any] | None]  # from a name as in the run, ``confirmation/accuracy.npy``


def no_arrays(name: str) -> None:
    """Say of every array that it is not there."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Row:
    """One finished trial.

    Attributes
    ----------
    run_id : str
        Its run.
    trial : TrialRecord
        What was tried and found.
    confirmation : ConfirmationRecord, optional
        What rows say that the search never saw.
    study_record : StudyRecord, optional
        What all trials of its study share, the voxels of the regions among it; None where that is not known.
    arrays : callable
        Reads an array of the trial by its name among the files of its run, such as ``"accuracy.npy"`` or
        ``"confirmation/predictions.npy"``: per voxel, per image or per resample. None where there is none.
    origin : str
        Whose row it is, where it is not this home's own.
    verified : str
        The highest level at which a row of others was verified.
    registered : str
        The registered model of this trial and its version, such as ``"v4 v3"``; empty where there is none.
    champion : bool
        Whether that model has the alias ``champion``.
    home : str
        Id of the home that made it; empty where it is not known.
    has_namesake : bool
        Whether another home has a study of the same name.
    summaries : Summaries, optional
        Resamples of its score on the confirmation rows.
    place : Place, optional
        Where it stands among the models that were scored on the same confirmation rows.
    tie : Place, optional
        Where it stands among results of others, of which only the scores of voxels are known.
    """

    run_id: str
    trial: TrialRecord
    confirmation: ConfirmationRecord | None = None
    study_record: StudyRecord | None = None
    arrays: Arrays = no_arrays
    origin: str = ""
    verified: str = ""
    registered: str = ""
    champion: bool = False
    home: str = ""
    has_namesake: bool = False
    summaries: Summaries | None = None
    place: Place | None = None
    tie: Place | None = None

    @property
    def metric(self) -> MetricRecord:
        """What it scored by the objective."""
        return self.trial.metrics[self.trial.objective]

    @property
    def measure(self) -> Measure:
        """What its scores are."""
        return Measure(self.metric.label, self.metric.summary, self.trial.objective)

    @property
    def confirmed(self) -> PartRecord | None:
        """What the confirmation rows say."""
        return self.confirmation.confirmed if self.confirmation else None

    @property
    def drop(self) -> Estimate | None:
        """The score on the first part of the confirmation rows minus that on the part that ranks this row."""
        return self.confirmation.drops.get(self.confirmation.ranking) if self.confirmation else None

    def by(self, part: str) -> Row:
        """Return the row as one part of the confirmation rows ranks it, not yet placed; unconfirmed where it has none.

        Parameters
        ----------
        part : str
            The name of the part.
        """
        record = self.confirmation
        if record is None or part not in record.parts:
            return replace(self, confirmation=None, summaries=None, place=None)
        if part == record.ranking:
            return self
        summaries = summaries_in(self.arrays, self.measure.summary, part)
        return replace(self, confirmation=record.by(part), summaries=summaries, place=None)

    def confirming(self, name: str) -> NDArray[Any] | None:
        """Read an array of the part of the confirmation rows that ranks; None where there is none of this name."""
        return self.arrays(part_array(self.confirmation.ranking, name)) if self.confirmation else None

    @property
    def confirmed_score(self) -> float:
        """The score on the confirmation rows; NaN where it has none."""
        return self.confirmed.whole.score.estimate if self.confirmed else math.nan

    @property
    def alpha(self) -> float | None:
        """The regressor's penalty; None where it has none."""
        found = self.trial.spec.parameters.get("alpha")
        return None if found is None or isinstance(found, tuple) else float(found)

    @cached_property
    def other_parameters(self) -> str:
        """The regressor's other parameters, for people."""
        return parameters_text({name: value for name, value in self.trial.spec.parameters.items() if name != "alpha"})

    @property
    def n_undefined(self) -> int:
        """Voxels whose validation score is undefined."""
        return int(self.metric.whole.get("n_undefined", 0))

    @property
    def study(self) -> str:
        """The full name of its study."""
        return self.trial.study

    @property
    def name(self) -> str:
        """What the trial is called, so that it is found again."""
        of_home = f" of home {home_name(self.home)}" if self.has_namesake else ""
        return f"{self.trial.name}{of_home}"

    @property
    def model(self) -> str:
        """What its model is called: as it is registered, or by its trial, with whose it is."""
        return (self.registered or self.name) + (f" ({self.origin})" if self.origin else "")

    @property
    def note(self) -> str:
        """What has to be known of it."""
        return "; ".join(filter(None, [self.trial.note, VOXEL_RULE if self.tie else ""]))

    @property
    def board(self) -> str:
        """The name of the board that this row belongs to, with both digests shortened."""
        dataset, split = self.trial.dataset, self.trial.rows.split
        where = f"data {dataset.digest[: digest.SHORT]}, split {split[: digest.SHORT]}"
        return f"{dataset.name} ({where}; {self.measure.over_voxels})"

    @cached_property
    def board_key(self) -> tuple[str, ...]:
        """What is the same in all rows of its board; of a metric of others the code, too."""
        trial, measure = self.trial, self.measure
        code = next(
            (item.digest for item in trial.plugins if (item.kind, item.name) == ("metric", trial.objective)), ""
        )
        return trial.dataset.digest, trial.rows.split, trial.objective, measure.summary, code

    @cached_property
    def order(self) -> tuple[Any, ...]:
        """What rows of a board are sorted by: the best score first, equal ones by name."""
        score, alpha, spec = self.trial.score, self.alpha, self.trial.spec
        where = (spec.backbone, spec.weights, spec.preprocessing, spec.space, spec.n_components)
        how = (spec.regressor, -math.inf if alpha is None else alpha, self.other_parameters)
        which = (self.study, self.trial.number, self.run_id)
        return (-score if math.isfinite(score) else math.inf, *where, *how, *which)


def home_name(home: str) -> str:
    """Name a home for people, by the start of its id; runs of the first format do not say which home made them.

    Examples
    --------
    >>> home_name("0123456789abcdef0123456789abcdef")
    '01234567'
    """
    return home[:_HOME_LENGTH] or "unknown"


def boards(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows that may be ranked together, in the order of the datasets' names.

    Parameters
    ----------
    rows : iterable of Row

    Returns
    -------
    list of list of Row
        One list for each dataset, split and objective, best row first.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.board_key, []).append(row)
    ordered = [sorted(group, key=attrgetter("order")) for group in groups.values()]
    return sorted(ordered, key=lambda group: (min(row.trial.dataset.name for row in group), group[0].board_key))


def placed(rows: Iterable[Row]) -> Iterator[tuple[int | None, Row]]:
    """Yield the rows of one board with their ranks, best first.

    Equal scores share a rank (1, 1, 3) and follow each other by name; a row without a score comes last and has no rank.
    Results of others share one where their voxels cannot tell them apart.

    Parameters
    ----------
    rows : iterable of Row

    Yields
    ------
    rank : int or None
    row : Row

    Raises
    ------
    DataError
        If the rows are not all of one dataset, one split and one objective.
    """
    ordered = sorted(rows, key=attrgetter("order"))
    _check_one_board(ordered)
    rank, last = 0, math.nan
    for place, row in enumerate(ordered, start=1):
        score = row.trial.score
        if row.tie is not None:
            rank, last = row.tie.rank, score
        else:
            rank, last = (rank, last) if score == last else (place, score)
        yield (rank if math.isfinite(score) else None), row


def printable(text: str) -> str:
    r"""Spell out what would act instead of being seen: line ends, terminal codes, changes of direction.

    Examples
    --------
    >>> printable("layer\x1b[2J")
    'layer\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Print the parameters of a regressor, by name.

    Examples
    --------
    >>> parameters_text({"n_neighbors": 5, "l1_ratio": 0.5, "per_voxel": True, "alphas": (0.1, 1.0)})
    'alphas=[0.1, 1], l1_ratio=0.5, n_neighbors=5, per_voxel=True'
    """
    return ", ".join(f"{name}={_value_text(value)}" for name, value in sorted(parameters.items()))


def _value_text(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value_text, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def revision_of(trial: TrialRecord) -> str:
    """Name the objective so that scores of one name may be compared: with the revision of the metric, and its code.

    The first revision of a metric of ours is named by the metric alone; one of others by the digest of its file.
    """
    code = next((item.digest for item in trial.plugins if (item.kind, item.name) == ("metric", trial.objective)), "")
    revision = trial.metrics[trial.objective].revision
    return " ".join(filter(None, [trial.objective, f"revision {revision}" if revision else "", code]))


def _check_one_board(rows: list[Row]) -> None:
    if len({row.board_key for row in rows}) > 1:
        found = " and ".join(sorted({row.board for row in rows})[:2])
        raise DataError(f"The 'rows' of a ranking must share one dataset, one split and one objective. Got {found}.")
