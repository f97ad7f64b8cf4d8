"""From trials to responses: what is the same for every layout that tells single trials."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain import digest
from img2brain.amounts import counted
from img2brain.datasets._normalise import Normalise, as_they_are, within
from img2brain.datasets._recorded import Recorded
from img2brain.datasets._responses import float_type
from img2brain.datasets._split import Rows
from img2brain.datasets._ties import first_of_each
from img2brain.datasets.base import Dataset
from img2brain.errors import DataError, did_you_mean
from img2brain.spec import PreparationSpec

Array = NDArray[Any]
Labels = Sequence[Hashable] | NDArray[Any]
Read = Callable[[Rows], Array]

_BLOCK_BYTES = 1 << 26
_SHOWN = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """What a layout reads of one subject: a line for each trial, and how the responses of trials are read.

    Attributes
    ----------
    name : str
        What the dataset is called.
    images : sequence of Path or None
        The image of each trial; None where none was shown, or none that is asked for.
    n_voxels : int
        Number of voxels.
    read : callable
        From numbers of trials, rising and each once, to their responses (n, n_voxels), NaN where there is none.
    where : callable
        Says where the responses of a trial are kept.
    dtype : dtype
        Of what is read.
    session, run, group : sequence of hashable, optional
        Of each trial.
    test : ndarray of bool (n_trials,), optional
        The trials of the test part; none by default.
    counts : ndarray of int (n_trials,), optional
        How many showings each trial is the mean of already; one by default.
    may_lack : bool
        Whether responses may be NaN: files of integers hold none, and need not be looked at.
    rois, ncsnr, noise_ceiling
        As for `Dataset`, of all voxels.
    test_images : sequence of Path
        Images of the test part that have no responses.
    stimuli : sequence of str, optional
        The id of what each trial showed.
    columns : mapping of str to sequence
        What else is known of each trial, such as its category; session, run and part are columns by themselves.
    splits : mapping of str to callable
        As for `Dataset`, of each trial.
    files : sequence of Path
        What `read` reads.
    facts : mapping
        What else `Dataset` takes: unit, subject, source, provenance and so on.
    notes : mapping of str to str
        What the layout has done itself, each under a name.
    """

    name: str
    images: Sequence[Path | None]
    n_voxels: int
    read: Read
    where: Callable[[int], str]
    dtype: np.dtype[Any]
    session: Labels | None = None
    run: Labels | None = None
    group: Labels | None = None
    test: NDArray[np.bool_] | None = None
    counts: NDArray[np.integer[Any]] | None = None
    may_lack: bool = True
    rois: Mapping[str, ArrayLike] = field(default_factory=dict)
    ncsnr: ArrayLike | None = None
    noise_ceiling: ArrayLike | None = None
    test_images: Sequence[Path] = ()
    stimuli: Sequence[str] | None = None
    columns: Mapping[str, Labels] = field(default_factory=dict)
    splits: Mapping[str, Callable[[], Sequence[str]]] = field(default_factory=dict)
    files: Sequence[Path] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


class TrialDataset(Dataset):
    """A dataset whose files hold trials: images that were shown become rows, their trials responses.

    A layout says in `record` what its files hold, and all else is done here, the same for all of them. Rows are in the
    order in which their images first come up, those of the test part last. Nothing is copied: what is asked for is
    read, z-scored and averaged each time.

    Notes
    -----
    With ``normalise = "session"`` or ``"run"`` each voxel is z-scored within each of them, over all its trials with an
    image, those of the test part among them, as the papers of these data do: the mean and the standard deviation of a
    session know nothing of which image was shown. A voxel that does not vary in a session is 0 there.

    A voxel that is NaN in the first, the middle and the last trial of a session is left out, and counted. Any other
    NaN is refused where a study starts.
    """

    normalised: ClassVar[Literal["none", "session", "run"]] = "none"

    def __init__(self, recording: Recording, asked: PreparationSpec, kept: Rows | None = None) -> None:
        self._recording, self._asked = recording, asked
        shown = np.array([row for row, image in enumerate(recording.images) if image is not None], dtype=np.intp)
        if not len(shown):
            raise DataError(f"{recording.name!r} must have trials with an image. It has none.")
        self._keys = _keys(recording, asked.normalise or self.normalised)
        self._kept = _present(recording, shown) if kept is None else kept
        self._trials_of = _rows(recording, shown, single=asked.repeats == "single")
        self._dtype = float_type(np.empty(0, recording.dtype))
        self._normalise: Normalise = as_they_are
        if self._keys is not None:
            what = asked.normalise or self.normalised
            self._normalise = within(what, self._keys, shown, self._read_kept, len(self._kept), self._blocks)
        firsts = [trials[0] for trials in self._trials_of]
        images = [image for image in map(recording.images.__getitem__, firsts) if image is not None]
        n_test = 0 if recording.test is None else int(recording.test[firsts].sum())
        with_test = images[len(images) - n_test :]
        single_ceiling = recording.noise_ceiling if asked.repeats != "single" else None
        super().__init__(
            name=recording.name,
            images=images,
            n_test=n_test,
            test_images=[*with_test, *recording.test_images],
            n_voxels=len(self._kept),
            rois=self._kept_regions(),
            ncsnr=None if recording.ncsnr is None else np.asarray(recording.ncsnr)[self._kept],
            noise_ceiling=None if single_ceiling is None else np.asarray(single_ceiling)[self._kept],
            groups=None if recording.group is None else _of_rows(recording.group, self._trials_of, "group", recording),
            preparation=self._said(asked, len(shown)),
            stimuli=None if recording.stimuli is None else [recording.stimuli[trial] for trial in firsts],
            columns=_columns(recording, self._trials_of),
            splits={name: partial(self._parts_of, parts) for name, parts in recording.splits.items()},
            files=recording.files,
            **recording.facts,
        )

    def _parts_of(self, parts: Callable[[], Sequence[str]]) -> list[str]:
        """Return the part of each row, of those of all trials."""
        of_trials = parts()
        return [of_trials[trials[0]] for trials in self._trials_of]

    @classmethod
    @abstractmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Look into a folder of this layout, and say what it holds of the subject that is asked for.

        Parameters
        ----------
        path : Path
            The folder.
        asked : PreparationSpec
            Its `subject`, `images` and `responses` say which of several; what else is asked is done here.

        Raises
        ------
        DataError
            If something is absent or does not fit.
        """

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder as this layout has it by default."""
        return cls.open_prepared(path, PreparationSpec())

    @classmethod
    def open_prepared(cls, path: Path, asked: PreparationSpec) -> Self:
        """Open a folder as it is asked for."""
        return cls(cls.record(path, asked), asked)

    def keeping(self, voxels: Rows) -> Self:
        """Read some of the voxels alone: no others are normalised and averaged."""
        return type(self)(self._recording, self._asked, self._kept[voxels])

    def read_responses(self, rows: Rows) -> Array:
        """Read the mean over the showings of some rows, summed in float64: a trial that is a mean counts as many."""
        unique, places = np.unique(rows, return_inverse=True)
        sums, counts = np.zeros((len(unique), self.n_voxels)), self._recording.counts
        for trial, place, _, values in self._each(unique):
            sums[place] += values if counts is None else values * counts[trial]
        sums /= self.read_counts(unique).reshape(-1, 1)
        return sums.astype(self._dtype)[places]

    def read_repeats(self, rows: Rows) -> Array | None:
        """Read the single trials of rows of one part, where any of this part has more than one."""
        n_repeats = self._n_repeats(rows)
        if n_repeats < 2:
            return None
        unique, places = np.unique(rows, return_inverse=True)
        repeats = np.full((len(unique), n_repeats, self.n_voxels), np.nan, dtype=self._dtype)
        for _, place, number, values in self._each(unique):
            repeats[place, number] = values
        return repeats[places]

    def read_counts(self, rows: Rows) -> NDArray[np.int64]:
        """Count the showings of some rows, those that the files hold the means of already among them."""
        counts = self._recording.counts
        n_of = [len(trials) if counts is None else int(counts[list(trials)].sum()) for trials in self._trials_of]
        return np.array(n_of, dtype=np.int64)[rows]

    def content_digests(self) -> Mapping[str, str]:
        """Digest each trial once, in the order of the files, and which row it belongs to."""
        row_of = np.full(len(self._recording.images), -1, dtype=np.int64)
        for row, own in enumerate(self._trials_of):
            row_of[list(own)] = row
        trials = np.flatnonzero(row_of >= 0)
        found = [digest.of_array(values.astype(self._dtype)) for _, values in self._values(trials)]
        sides = np.array([self.n_training, self.n_test], dtype=np.int64)
        arrays = {
            "rows of trials": row_of[trials],
            "sides": sides,
            "counts": self.read_counts(np.arange(self.n_images)),
        }
        return {
            "trials": digest.of_digests(found),
            **{name: digest.of_array(np.asarray(array)) for name, array in arrays.items()},
            **self._digest_facts(),
        }

    @property
    def recorded(self) -> Recorded:
        """The trials that show an image, in the order of the files."""
        trials = np.sort(np.concatenate(self._trials_of)).astype(np.intp)
        session = self._recording.session
        sessions = None if session is None else [session[trial] for trial in trials]
        return Recorded("trials", len(trials), lambda some: self._read_kept(trials[some]), sessions)

    @property
    def averaged(self) -> Dataset:
        """The same trials, those of an image together: single trials tell nothing of their reliability."""
        if self._asked.repeats != "single":
            return self
        return type(self)(self._recording, self._asked.model_copy(update={"repeats": "mean"}), self._kept)

    def where(self, row: int) -> str:
        """Say where the first trial of a row is kept."""
        first, *others = self._trials_of[row]
        return self._recording.where(first) + (
            f" and {counted(len(others), 'more trial')} of its image" if others else ""
        )

    def _each(self, rows: Rows) -> Iterator[tuple[int, int, int, Array]]:
        """Yield each trial of some rows, the place of its row, its number there, and its values.

        The files are read from their start to their end, whatever the order of the rows.
        """
        of_trial = {
            trial: (place, number)
            for place, row in enumerate(rows)
            for number, trial in enumerate(self._trials_of[row])
        }
        for trial, values in self._values(np.array(sorted(of_trial), dtype=np.intp)):
            yield (trial, *of_trial[trial], values)

    def _values(self, trials: Rows) -> Iterator[tuple[int, Array]]:
        """Yield trials with their normalised responses, in float64."""
        for block in self._blocks(trials):
            yield from zip(block.tolist(), self._normalise(block, self._read_kept(block)), strict=True)

    def _blocks(self, trials: Rows) -> Iterator[Rows]:
        step = max(1, _BLOCK_BYTES // (8 * self._recording.n_voxels))
        return (trials[start : start + step] for start in range(0, len(trials), step))

    def _read_kept(self, trials: Rows) -> NDArray[np.float64]:
        """Read trials as new numbers in float64."""
        values = self._recording.read(trials)
        kept = np.take(values, self._kept, axis=1) if len(self._kept) < values.shape[1] else values
        return np.array(kept, dtype=np.float64)

    def _n_repeats(self, rows: Rows) -> int:
        """Return the most trials of an image of the part that some rows are of; 0 where they are of both."""
        training = rows < self.n_training
        if not len(rows) or training.all():
            part = self._trials_of[: self.n_training]
        elif not training.any():
            part = self._trials_of[self.n_training :]
        else:
            return 0
        return max(map(len, part), default=0)

    def _kept_regions(self) -> dict[str, Rows]:
        """Return the regions without the voxels that are left out; a region of none is none."""
        number = np.full(self._recording.n_voxels, -1, dtype=np.intp)
        number[self._kept] = np.arange(len(self._kept))
        found = {name: number[np.asarray(voxels)] for name, voxels in self._recording.rois.items()}
        return {name: voxels[voxels >= 0] for name, voxels in found.items() if (voxels >= 0).any()}

    def _said(self, asked: PreparationSpec, n_shown: int) -> dict[str, str]:
        """Say what was done, in the order in which it was."""
        recording, what = self._recording, asked.normalise or self.normalised
        n_of = [len(trials) for trials in self._trials_of]
        said = dict(recording.notes)
        if n_shown < len(recording.images):
            said["trials"] = (
                f"{len(recording.images) - n_shown} of {len(recording.images)} show no image and are left out"
            )
        if len(self._kept) < recording.n_voxels:
            n_nan = recording.n_voxels - len(self._kept)
            said["NaN voxels"] = f"{n_nan} of {recording.n_voxels} are left out"
        if what != "none":
            said["normalise"] = f"z-scored within each {what}, by voxel, over all its trials"
        if asked.repeats == "single":
            said["repeats"] = "single trials, each a row"
        elif max(n_of) > 1:
            said["repeats"] = f"mean over the trials of an image, {min(n_of)} to {max(n_of)}"
        return said


def _keys(recording: Recording, what: str) -> NDArray[np.intp] | None:
    """Return the number of the session or run of each trial, by its first trial; None where nothing is normalised."""
    if what == "none":
        return None
    told = {"session": [recording.session], "run": [recording.session, recording.run]}[what]
    if told[-1] is None:
        raise DataError(
            f"'normalise' must be \"none\" for {recording.name!r}: nothing tells the {what} of its trials. "
            f'Got "{what}".'
        )
    return first_of_each(zip(*(np.asarray(labels).tolist() for labels in told if labels is not None), strict=True))


def _present(recording: Recording, shown: Rows) -> Rows:
    """Return the voxels that are there in every session."""
    missing = np.zeros(recording.n_voxels, dtype=bool)
    sessions = first_of_each(["" if recording.session is None else recording.session[trial] for trial in shown])
    for session in np.unique(sessions) if recording.may_lack else ():
        trials = shown[sessions == session]
        some = np.unique(trials[[0, len(trials) // 2, -1]])
        missing |= np.isnan(recording.read(some)).all(axis=0)
    if missing.all():
        n_voxels = counted(len(missing), "voxel is", "voxels are")
        raise DataError(f"The responses of {recording.name!r} must be numbers. All {n_voxels} NaN.")
    return np.flatnonzero(~missing)


def _rows(recording: Recording, shown: Rows, *, single: bool) -> tuple[tuple[int, ...], ...]:
    """Return the trials of each row, those of the training part first."""
    by_row: dict[Hashable, list[int]] = {}
    for trial in shown.tolist():
        by_row.setdefault(trial if single else recording.images[trial], []).append(trial)
    test = np.zeros(len(recording.images), dtype=bool) if recording.test is None else recording.test
    mixed = [trials for trials in by_row.values() if len({bool(test[trial]) for trial in trials}) > 1]
    if mixed:
        names = ", ".join(repr(str(recording.images[trials[0]])) for trials in mixed[:_SHOWN])
        raise DataError(f"Each image must be of one part. {len(mixed)} are of both, the first: {names}.")
    parts = ([trials for trials in by_row.values() if test[trials[0]] == side] for side in (False, True))
    return tuple(tuple(trials) for part in parts for trials in part)


def _columns(recording: Recording, rows: Sequence[tuple[int, ...]]) -> dict[str, list[tuple[str, ...]]]:
    """Return what is known of the trials of each row: a mean over trials of several sessions is of all of them."""
    session, run, test = recording.session, recording.run, recording.test
    own: dict[str, Labels | None] = {
        "session": session,
        "run": run
        if run is None or session is None
        else [f"{one}/{other}" for one, other in zip(session, run, strict=True)],
        "part": None if test is None else np.where(test, "test", "train"),
    }
    told = {**{name: labels for name, labels in own.items() if labels is not None}, **recording.columns}
    return {name: [tuple(dict.fromkeys(str(labels[trial]) for trial in trials)) for trials in rows]
            for name, labels in told.items()}  # fmt: skip


def _of_rows(labels: Labels, rows: Sequence[tuple[int, ...]], what: str, recording: Recording) -> list[Any]:
    """Return what is said of each row, which must be the same for all its trials."""
    for first, *others in rows:
        for trial in others:
            if labels[trial] != labels[first]:
                raise DataError(
                    f"An image must be of one {what}. {str(recording.images[first])!r} is of {labels[first]!r} "
                    f"({recording.where(first)}) and of {labels[trial]!r} ({recording.where(trial)})."
                )
    return [labels[trials[0]] for trials in rows]


def chosen_subject(known: Sequence[str], asked: str | None, where: str) -> str:
    """Return the subject that is asked for, or the only one.

    Raises
    ------
    DataError
        If there are several and none is asked for, or there is none of this name.
    """
    if asked is None:
        if len(known) == 1:
            return known[0]
        names = ", ".join(map(repr, known))
        raise DataError(f'{where} holds {len(known)} subjects ({names}): say which, as in subject = "{known[0]}".')
    if asked not in known:
        raise DataError(f"{where} holds no subject {asked!r}. {did_you_mean(asked, known)}")
    return asked
