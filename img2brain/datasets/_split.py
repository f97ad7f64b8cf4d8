"""Splits: which rows train, which validate and which confirm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.datasets._shares import Sets, numbered
from img2brain.datasets._ties import Labels, Ties, first_of_each
from img2brain.errors import SpecError, did_you_mean
from img2brain.spec import NAME_PATTERN, PREDECESSOR, SplitSpec

Rows = NDArray[np.intp]

UNNAMED = "confirmation"  # what the only confirmation part is called where nobody names any
DEVELOPMENT = ("train", "validation")

_PRESET_SEED = 224
_LEAST = 2  # a correlation needs two rows
_NONE = np.empty(0, dtype=np.intp)
_LONGEST_NAME = 64


class Fold(NamedTuple):
    """Rows that a trial is fitted to, and rows that it is scored on."""

    train: Rows
    validation: Rows


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers into `Dataset.images`, in parts that share none.

    Parameters
    ----------
    train, validation : ndarray of intp
        The development rows: the search sees them.
    confirmation : ndarray of intp
        The rows that only publishing reads. May be empty.
    held_out : tuple of ndarray of intp
        The parts of `train` that take turns to validate, where there is no validation part: each row in one of them.
    ties : Ties, optional
        Which rows belong together, where any two do.
    left_out : mapping of str to ndarray of intp
        By the name of a part, ``validation`` or that of a confirmation part, the rows that would have been in it, and
        are in none: they are tied to rows that are trained on, or that the search sees.
    parts : mapping of str to ndarray of intp, optional
        The confirmation parts by name, in order: all rows of `confirmation`, one part after another. Where it is not
        given, they are one part called ``confirmation``.

    Raises
    ------
    SpecError
        If a row is in two parts, or twice in one; if tied rows are on two sides, of which all confirmation parts are
        one; if a part has no name of its own.
    """

    train: Rows
    validation: Rows
    confirmation: Rows
    held_out: tuple[Rows, ...] = ()
    ties: Ties | None = None
    left_out: Mapping[str, Rows] = field(default_factory=dict)
    parts: Mapping[str, Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", dict(self.parts) or {UNNAMED: self.confirmation})
        require_part_names(self.parts)
        if not np.array_equal(np.concatenate([*self.parts.values()]), self.confirmation):
            raise SpecError("The confirmation rows must be those of the named parts, one after another. They are not.")
        rows, counts = np.unique(np.concatenate([self.train, self.validation, self.confirmation]), return_counts=True)
        if (counts > 1).any():
            raise SpecError(f"A split must hold each row once. Got row {rows[counts > 1][0]} twice.")
        if self.held_out and not np.array_equal(np.sort(np.concatenate(self.held_out)), np.sort(self.train)):
            raise SpecError("The parts that take turns to validate must hold each training row once.")
        self._require_whole_sets()

    def _require_whole_sets(self) -> None:
        if self.ties is None:
            return
        sides = [*(self.held_out or (self.train,)), self.validation, self.confirmation]
        sets = np.concatenate([np.unique(self.ties.sets[rows]) for rows in sides])
        if len(np.unique(sets)) < len(sets):
            raise SpecError("A split must keep tied rows on one side. It does not.")

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """What a trial is fitted to and scored on: one pair, or as many as parts take turns."""
        if not self.held_out:
            return (Fold(self.train, self.validation),)
        return tuple(Fold(np.setdiff1d(self.train, rows), rows) for rows in self.held_out)

    @cached_property
    def scored(self) -> Rows:
        """The rows that a trial is scored on, fold after fold."""
        return np.concatenate([fold.validation for fold in self.folds])

    @cached_property
    def development(self) -> Rows:
        """The rows that train or validate, sorted."""
        return np.sort(np.concatenate([self.train, self.validation]))

    @cached_property
    def digest(self) -> str:
        """Digest of all parts, each in its order, and of the tied sets, where there are any."""
        parts = {"train": self.train, "validation": self.validation, "confirmation": self.confirmation}
        if list(self.parts) != [UNNAMED]:  # their order says which is the first, and their names what it is called
            parts |= {f"part {number} {name}": rows for number, (name, rows) in enumerate(self.parts.items())}
        parts |= {f"held out {number}": rows for number, rows in enumerate(self.held_out)}
        parts |= {} if self.ties is None else {"tied sets": self.ties.sets}
        return digest.of_arrays({name: rows.astype(np.int64) for name, rows in parts.items()})

    def confirming(self, part: str | None = None) -> Rows:
        """Return the rows of a confirmation part, those of all by default.

        Raises
        ------
        SpecError
            If there is no such part.
        """
        if part is None:
            return self.confirmation
        if part not in self.parts:
            raise SpecError(f"There is no confirmation part {part!r}. {did_you_mean(part, self.parts)}")
        return self.parts[part]

    def sets(self, rows: Rows) -> Labels:
        """Return the tied set of each of some rows: rows of one set are no independent observations."""
        return rows if self.ties is None else self.ties.sets[rows]

    def n_different(self, rows: Rows) -> int:
        """Count rows, equal ones once."""
        return len(rows if self.ties is None else np.unique(self.ties.equal[rows]))

    def runs(self, rows: Rows, n_runs: int) -> list[Rows]:
        """Divide rows for a cross-validation among them, none of their tied sets cut.

        Parameters
        ----------
        rows : ndarray of intp
            Rows of the dataset.
        n_runs : int
            How many parts there are to be; fewer where there are fewer sets.

        Returns
        -------
        list of ndarray of intp
            Places in `rows`, rising. Without ties those of scikit-learn's ``KFold``; a tied set of one row that would
            be a part of its own, in which nothing varies, joins another.
        """
        sets = numbered(first_of_each(self.sets(rows).tolist()))
        part = Sets.of(sets).shared_out(n_runs)[sets]
        runs = [np.flatnonzero(part == number) for number in range(part.max(initial=-1) + 1)]
        return runs if self.ties is None else _none_alone(runs)


def require_part_names(names: Iterable[str]) -> None:
    """Refuse names that no folder of results can have, or that stand for development rows.

    Raises
    ------
    SpecError
        Naming the first of them.
    """
    folded: dict[str, str] = {}
    for name in names:
        if name.lower() in DEVELOPMENT:
            raise SpecError(f"A confirmation part must not be called {name!r}: development rows are.")
        if len(name) > _LONGEST_NAME or not re.fullmatch(NAME_PATTERN, name):
            raise SpecError(
                f"A confirmation part must be called by at most {_LONGEST_NAME} letters, digits, '.', '_' and '-', the "
                f"first a letter or digit. Got {name[:40]!r}."
            )
        if folded.setdefault(name.lower(), name) != name:
            raise SpecError(
                f"Confirmation parts must differ by more than case. Got {folded[name.lower()]!r} and {name!r}."
            )


def split_rows(
    spec: SplitSpec,
    n_training: int,
    n_test: int = 0,
    ties: Ties | None = None,
    *,
    given: Mapping[str, Rows] | None = None,
    strata: Labels | None = None,
) -> Split:
    """Split the rows of a dataset by seed, as far as they are not given.

    Parameters
    ----------
    spec : SplitSpec
        Preset, or seed and fractions. A column of `folds` is among the ties already: each set of tied training rows has
        its turn.
    n_training : int
        Number of training rows.
    n_test : int
        Number of test rows that have responses. Where there are any, they alone confirm.
    ties : Ties, optional
        Which of all rows belong together: they stay on one side.
    given : mapping of str to ndarray of intp, optional
        The rows of each part, sorted, where they are given: ``train``, ``validation`` where it is not cut from these,
        and confirmation parts by their names. Rows of none are left out.
    strata : ndarray of intp, shape (n_training + n_test,), optional
        A label of each row, such as its category: labels have like shares in every part that is cut.

    Returns
    -------
    Split
        Sorted parts; those of the preset keep their shuffled order, since an incremental PCA depends on it.

    Raises
    ------
    SpecError
        If a part would hold fewer than two rows that differ.

    Notes
    -----
    Tied sets are shuffled as wholes and put into a part one after another, each that brings the part closer to its
    share. The rows of the preset, the test rows and those of parts that are given are what they are: one of them that
    is tied to a row that is trained on, or seen by the search, is left out.

    Examples
    --------
    >>> split = split_rows(SplitSpec(preset="img2brain-2023"), 8857)
    >>> len(split.train), len(split.validation), len(split.confirmation)
    (7086, 1771, 0)
    """
    ties = ties or None
    if spec.preset == PREDECESSOR:
        split, confirms = _preset(n_training, n_test, ties), n_test > 0
    else:
        share = spec.confirmation if given is None or "confirmation" in spec.model_fields_set else 0.0
        parts = {"train": np.arange(n_training, dtype=np.intp), UNNAMED: _test(n_training, n_test)}
        split = _seeded(spec, share, parts if given is None else given, ties, strata)
        confirms = share > 0 or (n_test > 0 if given is None else bool({*given} - {*DEVELOPMENT}))
    _require_folds(spec, split)
    for fold in split.folds:
        _require_rows("train", fold.train, split)
        _require_rows("validation", fold.validation, split)
    for name, rows in split.parts.items() if confirms else ():
        _require_rows(name, rows, split)
    return split


def _preset(n_training: int, n_test: int, ties: Ties | None) -> Split:
    rows = np.random.RandomState(_PRESET_SEED).permutation(n_training).astype(np.intp)
    train, validation = np.split(rows, [round(0.8 * n_training)])
    kept, tied = _untied(validation, train, ties)
    confirmation, tied_too = _untied(_test(n_training, n_test), rows, ties)
    return Split(train, kept, confirmation, (), ties, _any({"validation": tied, UNNAMED: tied_too}))


def _seeded(
    spec: SplitSpec, share: float, given: Mapping[str, Rows], ties: Ties | None, strata: Labels | None
) -> Split:
    """Cut from the training rows what is not given: their tied sets are shuffled as wholes, and chosen in turn."""
    pool, validation = given["train"], given.get("validation", _NONE)
    confirming = {name: rows for name, rows in given.items() if name not in DEVELOPMENT}
    kept, left_out = _kept({"validation": validation, **confirming}, pool, ties)
    sets = _shuffled(pool, spec.seed, ties)
    left = Sets.of(sets, None if strata is None else strata[pool])
    if not sum(map(len, confirming.values())):
        chosen = left.one_at_least(round(share * len(pool)))
        kept, left = {**kept, UNNAMED: pool[chosen[sets]]}, left.without(chosen)
    validation = kept.pop("validation")
    confirmation = np.concatenate([*kept.values()])
    if len(given.get("validation", _NONE)):
        return Split(pool[left.there[sets]], validation, confirmation, (), ties, left_out, kept)
    if spec.folds:
        held_out = _turns(pool, sets, left, spec.folds)
        return Split(pool[left.there[sets]], validation, confirmation, held_out, ties, left_out, kept)
    chosen = left.one_at_least(round(spec.validation * int(left.sizes.sum())))
    train = left.without(chosen).there
    return Split(pool[train[sets]], pool[chosen[sets]], confirmation, (), ties, left_out, kept)


def _kept(parts: Mapping[str, Rows], pool: Rows, ties: Ties | None) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Divide parts that are given into what is kept of them, and what is tied to rows that are fitted to or seen."""
    seen = {name: pool if name == "validation" else np.concatenate([pool, parts["validation"]]) for name in parts}
    divided = {name: _untied(rows, seen[name], ties) for name, rows in parts.items()}
    return {name: kept for name, (kept, _) in divided.items()}, _any(
        {name: tied for name, (_, tied) in divided.items()}
    )


def _shuffled(pool: Rows, seed: int, ties: Ties | None) -> Rows:
    """Give the tied sets of some rows numbers: the places, in a shuffled order, of the first row of each."""
    place = np.argsort(np.random.RandomState(seed).permutation(len(pool)))
    return numbered(place if ties is None else place[first_of_each(ties.sets[pool].tolist())])


def _turns(pool: Rows, sets: Rows, left: Sets, folds: int | str) -> tuple[Rows, ...]:
    """Share the rows of the sets that are left out among so many turns, or give each set one, in the order of rows."""
    part = sets if isinstance(folds, str) else left.shared_out(folds)[sets]
    part = np.where(left.there[sets], part, -1)
    turns = [pool[part == number] for number in np.unique(part[part >= 0])]
    return tuple(sorted(turns, key=lambda rows: int(rows[0])) if isinstance(folds, str) else turns)


def _test(n_training: int, n_test: int) -> Rows:
    return np.arange(n_training, n_training + n_test, dtype=np.intp)


def _untied(rows: Rows, seen: Rows, ties: Ties | None) -> tuple[Rows, Rows]:
    """Divide rows into those that are not tied to any that is seen, and those that are."""
    tied = np.zeros(len(rows), bool) if ties is None else np.isin(ties.sets[rows], ties.sets[seen])
    return rows[~tied], rows[tied]


def _any(parts: Mapping[str, Rows]) -> dict[str, Rows]:
    return {name: rows for name, rows in parts.items() if len(rows)}


def _none_alone(runs: list[Rows]) -> list[Rows]:
    """Let a run of one row join the shortest of the others."""
    by_length = sorted(runs, key=len)
    if len(runs) < 2 or len(by_length[0]) >= _LEAST:
        return runs
    alone, shortest = by_length[:2]
    left = [run for run in runs if run is not alone and run is not shortest]
    return _none_alone([*left, np.sort(np.concatenate([alone, shortest]))])


def _require_folds(spec: SplitSpec, split: Split) -> None:
    n_folds = 2 if isinstance(spec.folds, str) else spec.folds
    if n_folds and len(split.held_out) < _LEAST and isinstance(spec.folds, str):
        raise SpecError(
            f"The values of {spec.folds!r} that take turns to validate must be at least 2 that share no rows, nor rows "
            f"that are tied. Got {len(split.held_out)}."
        )
    if n_folds and len(split.train) < _LEAST * n_folds:
        most = len(split.train) // _LEAST
        raise SpecError(f"Each of the 'folds' must hold at least {_LEAST} rows: {most} at most. Got {n_folds}.")
    if n_folds and len(split.held_out) < n_folds:
        most = len(split.held_out)
        raise SpecError(f"Each of the 'folds' must hold a set of tied rows: {most} at most. Got {n_folds}.")


def _require_rows(part: str, rows: Rows, split: Split) -> None:
    """Refuse a part in which nothing varies."""
    n_rows = split.n_different(rows)
    if n_rows >= _LEAST:
        return
    what, why = "rows", "."
    if split.ties is not None:
        what = "rows that are not equal"
        n_left_out = len(split.left_out.get(part, ()))
        why = f"; {n_left_out} are left out, tied to rows that are trained on" if n_left_out else ""
        why += f". There are tied {split.ties}, and each set stays on one side."
    raise SpecError(f"The {part!r} part of a split must hold at least {_LEAST} {what}. Got {n_rows}{why}")
