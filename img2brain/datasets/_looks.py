"""Looking at all that a dataset holds: every problem at once, the same looks whatever the layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain._quiet import ignored
from img2brain.amounts import counted
from img2brain.datasets._images import (
    AS_STORED,
    Silent,
    find_other_files,
    look_for_silent,
    map_files,
    open_pixels,
    usual_resized,
)
from img2brain.datasets._presentation import Presentation
from img2brain.datasets._responses import Scan, steps
from img2brain.datasets._ties import Ties
from img2brain.errors import DataError, Img2BrainError

Array = NDArray[Any]
PartName = Literal["training", "test"]

_SHOWN = 5
_SOME_VOXELS = 200
_SAME_RESPONSES = 0.9
_FEW_VOXELS = 0.1  # that have hardly a signal, in any recording
_FIRST_BYTES = 1 << 20
_LEAST_REPEATED = 3  # images, for a correlation


@dataclass(frozen=True)
class Problem:
    """One line on what is wrong: an *error* stops a study or spoils its scores, a *warning* is worth a look."""

    severity: Literal["error", "warning"]
    message: str


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes
    ----------
    images, test_images, voxels : int
        Numbers of training images, test images and voxels, 0 where they cannot be read.
    unit, subject : str
        As the dataset says.
    digest : str or None
        Digest of the dataset, None where it cannot be opened.
    problems : tuple of Problem
        All of them, errors first.
    layout : str
        The layout that the dataset was opened by; empty where there is none.
    rows : tuple of str
        The first, second and last row of each part with the image that it belongs to, one line each.
    name, source : str
        What the dataset is called, and its folder.
    ties : Ties, optional
        Which rows stay on one side of every split, where any two belong together.
    preparation : mapping of str to str
        What was done to what was recorded, each under a name.
    splits, columns : tuple of str
        The splits that the data bring, and the columns that a split may go by.
    """

    images: int = 0
    test_images: int = 0
    voxels: int = 0
    unit: str = ""
    subject: str = ""
    digest: str | None = None
    problems: tuple[Problem, ...] = ()
    layout: str = ""
    rows: tuple[str, ...] = ()
    name: str = ""
    source: str = ""
    ties: Ties | None = None
    preparation: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """Responses or repeats that can be read in blocks of rows; the last axis is voxels.

    Parameters
    ----------
    label : str
        What they are called in messages.
    shape : tuple of int
        Shape of the whole.
    read : callable
        ``read(start, stop)`` gives these rows.
    where : callable
        Says where a row is kept.
    """

    label: str
    shape: tuple[int, ...]
    read: Callable[[int, int], Array]
    where: Callable[[int], str]

    def voxels(self, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """Read some voxels of all rows."""
        blocks = [self.read(*step)[..., chosen].astype(np.float64) for step in steps(self.shape)]
        return np.concatenate(blocks)


@dataclass(frozen=True)
class Section:
    """The training or the test images, with what was recorded of them."""

    name: PartName
    images: tuple[Path, ...]
    responses: Numbers | None
    repeats: Numbers | None

    @property
    def labels(self) -> list[str]:
        """Name each image, and its row where it has responses."""
        rows = [f" ({self.name} row {i})" if self.responses else "" for i in range(len(self.images))]
        return [f"{str(path)!r}{row}" for path, row in zip(self.images, rows, strict=True)]

    @property
    def some_rows(self) -> list[str]:
        """Say which images the first, the second and the last row belong to, where rows have images."""
        n_rows = self.responses.shape[0] if self.responses else 0
        if len(self.images) != n_rows:
            return []
        return [f"{self.name} row {row}: {place_of(self.images[row])}" for row in some_rows(n_rows)]


class Problems:
    """Collects what each look finds."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def __len__(self) -> int:
        return len(self._found)

    @property
    def sorted(self) -> tuple[Problem, ...]:
        """All problems, errors first."""
        return tuple(sorted(self._found, key=lambda problem: problem.severity))

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Turn an error into a problem, and go on."""
        try:
            yield
        except (Img2BrainError, OSError) as error:
            self.error(str(error))

    def error(self, message: str) -> None:
        """Note what stops a study."""
        self._found.append(Problem("error", message))

    def warn(self, message: str) -> None:
        """Note what is worth a look."""
        self._found.append(Problem("warning", message))

    def look_at(self, sections: Sequence[Section], presentation: Presentation = AS_STORED) -> dict[Path, str]:
        """Read every response and repeat, decode every image as it was shown, and return digests of the pixels."""
        self.look_at_numbers(sections)
        for section in sections:
            with self.keep():
                self._compare_repeats(section.responses, section.repeats)
        return self._look_at_images(sections, presentation)

    def look_at_numbers(self, sections: Sequence[Section]) -> None:
        """Read every response and repeat, and look for what no study can use."""
        for section in sections:
            with self.keep():
                self._look_at_responses(section.name, section.responses)
            with self.keep():
                self._look_at_repeats(section.repeats)

    def _look_at_responses(self, part: PartName, responses: Numbers | None) -> None:
        """Look for values that are not finite, and for voxels that never change."""
        if responses is None:
            return
        scan = Scan(responses.read, responses.shape)
        self._not_finite(responses, scan)
        if scan.unheld:
            self.error(f"{responses.label} {scan.unheld}")
        if len(scan.constant) == responses.shape[1] and responses.shape[0] > 1:
            self.error(_placeholder(part, responses))
        elif len(scan.constant) and responses.shape[0] > 1:
            shown = _shown([str(voxel) for voxel in scan.constant])
            self.warn(f"{responses.label} has {counted(len(scan.constant), 'constant voxel')}: {shown}.")
        if part == "training" and len(scan.constant) < responses.shape[1] and _vary_in_one_row(responses):
            self.error(_placeholder(part, responses, ", but for one row"))

    def _look_at_repeats(self, repeats: Numbers | None) -> None:
        """Look for infinite values."""
        if repeats is not None:
            self._not_finite(repeats, Scan(repeats.read, repeats.shape, np.isinf))  # NaN is a missing repeat

    def _compare_repeats(self, responses: Numbers | None, repeats: Numbers | None) -> None:
        """Look at what a noise ceiling rests on."""
        if repeats is None or responses is None or not repeats.shape[0] == responses.shape[0] > 2:
            return
        some = np.unique(np.linspace(0, responses.shape[1] - 1, _SOME_VOXELS).astype(np.intp))
        values = repeats.voxels(some)
        self._look_for_repeated_images(repeats.label, values)
        self._look_for_baselines(repeats.label, values)
        self._compare_with_means(repeats.label, responses.voxels(some), values)

    def _look_for_repeated_images(self, label: str, repeats: Array) -> None:
        n_repeated = int(((~np.isnan(repeats)).sum(axis=1) >= 2).sum(axis=0).max())
        if n_repeated < _LEAST_REPEATED:
            self.warn(
                f"{label} must hold two repeats or more of at least {_LEAST_REPEATED} images, or no noise ceiling can "
                f"be estimated from it. Got {counted(n_repeated, 'such image')} (most of any voxel looked at)."
            )

    def _look_for_baselines(self, label: str, repeats: Array) -> None:
        """Compare what sessions add to all their images with what images differ by."""
        repeated = (np.isfinite(repeats).sum(axis=1) >= 2).any(axis=0)
        baseline, signal = _baselines_and_signal(repeats[..., repeated])
        n_shifted = int((baseline > signal).sum())
        if n_shifted > _FEW_VOXELS * repeats.shape[2]:
            in_means = " Images lack repeats, so that baselines are noise of their responses: subtract them first."
            self.warn(
                f"{label} holds repeats whose baselines, their means over the images, differ by more than the signal, "
                f"at {n_shifted} of {counted(repeats.shape[2], 'voxel')} looked at. The noise ceiling leaves them out "
                f"where every image has every repeat.{in_means if np.isnan(repeats).any() else ''}"
            )

    def _compare_with_means(self, label: str, responses: Array, repeats: Array) -> None:
        with ignored(RuntimeWarning), np.errstate(all="ignore"):  # no repeat of an image
            means = np.nanmean(repeats, axis=1)
            seen = np.isfinite(means).all(axis=1)
            pairs = zip(responses[seen].T, means[seen].T, strict=True)
            r = np.array([np.corrcoef(*pair)[0, 1] for pair in pairs])
        median = float(np.nanmedian(r)) if np.isfinite(r).any() else 1.0
        if median < _SAME_RESPONSES:
            self.warn(
                f"{label} must hold the repeats that the responses are the means of, or its noise ceiling is that of "
                f"other responses. Got means that correlate with them at {median:.2f} (median over voxels)."
            )

    def _not_finite(self, numbers: Numbers, scan: Scan) -> None:
        if scan.first_bad:
            row, voxel = scan.first_bad
            self.error(not_finite(numbers.where(row), voxel, scan.n_bad))

    def look_at_other_files(self, folder: Path) -> None:
        """Look for files that are no images."""
        others = find_other_files(folder)
        if others:
            shown = _shown([path.name for path in others])
            files = counted(len(others), "file that is no image", "files that are no images")
            self.warn(f"{str(folder)!r} has {files}: {shown}.")

    def _look_at_images(self, sections: Sequence[Section], presentation: Presentation) -> dict[Path, str]:
        """Decode every image, and look for pixels that come twice and for what most programs pass over."""
        paths = [path for section in sections for path in section.images]
        labels = [label for section in sections for label in section.labels]
        parts = [section.name for section in sections for _ in section.images]
        first: dict[str, int] = {}
        again: list[str] = []
        pictures = map_files(partial(_picture, presentation=presentation), paths, "decoding images")
        decoded = [found for found in pictures if isinstance(found, _Picture)]
        self._look_for_silent(decoded, presentation)
        for i, found in enumerate(pictures):
            if isinstance(found, DataError):
                self.error(str(found))
            elif (j := first.setdefault(found.digest, i)) != i and paths[j] != paths[
                i
            ]:  # rows of one image are asked for
                note = " A training image is also a test image." if parts[j] != parts[i] else ""
                again.append(f"{labels[j]} and {labels[i]} hold the same picture.{note}")
        for message in again[:_SHOWN]:
            self.warn(message)
        if len(again) > _SHOWN:
            more = counted(len(again) - _SHOWN, "more image holds", "more images hold")
            self.warn(f"{more} the same picture as another one.")
        return {found.path: found.digest for found in decoded}

    def _look_for_silent(self, pictures: Sequence[_Picture], presentation: Presentation) -> None:
        """Count the photographs that are to be turned, and the pictures that something is seen through."""
        turned = [repr(str(found.path)) for found in pictures if found.silent.is_turned]
        if turned:
            how = "They are turned so" if presentation.orientation == "exif" else "Their pixels are taken as stored"
            images = counted(len(turned), "image is", "images are")
            self.warn(
                f"{images} to be turned by EXIF data: {_shown(turned)}. {how}: 'orientation' in "
                'dataset.toml says "stored" or "exif", as they were shown.'
            )
        through = [repr(str(found.path)) for found in pictures if found.silent.is_transparent]
        if through:
            images = counted(len(through), "image has", "images have")
            self.warn(
                f"{images} transparent pixels: {_shown(through)}. They are laid over "
                f"{presentation.background}: 'background' in dataset.toml says what was behind them."
            )


def _baselines_and_signal(repeats: Array) -> tuple[Array, Array]:
    """Return the standard deviation of baselines over the repeats, and of the signal over the images, by voxel.

    Both less what noise adds to them; 0 where no image has two repeats.
    """
    present = np.isfinite(repeats)  # what is infinite is said elsewhere
    counts, repeated = present.sum(axis=1), present.sum(axis=1) >= 2
    filled = np.where(present, repeats, 0.0)
    means = filled.sum(axis=1) / np.maximum(counts, 1)
    left = np.where(present & repeated[:, None], filled - means[:, None], 0.0)
    n_rows = np.maximum((present & repeated[:, None]).sum(axis=0), 1)
    baselines = left.sum(axis=0) / n_rows
    rest = np.where(present & repeated[:, None], left - baselines, 0.0)
    noise = (rest**2).sum(axis=(0, 1)) / np.maximum((counts - 1).clip(0).sum(axis=0), 1)
    adjusted = np.where(present, filled - baselines, 0.0).sum(axis=1) / np.maximum(counts, 1)
    own = noise * np.mean(1 / np.maximum(counts, 1), axis=0)
    signal = np.sqrt(np.maximum(np.var(adjusted, axis=0, where=counts > 0) - own, 0.0))
    return np.sqrt(np.maximum(np.var(baselines, axis=0) - 3 * noise / n_rows.mean(axis=0), 0.0)), signal


@dataclass(frozen=True)
class _Picture:
    path: Path
    digest: str
    silent: Silent


class Refusal(Problems):
    """Raises the first error that a look finds, and lets warnings pass: what a study does before it starts."""

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Let an error through."""
        yield

    def error(self, message: str) -> None:
        """Refuse what stops a study."""
        raise DataError(message)

    def warn(self, message: str) -> None:
        """Let pass what is worth a look."""


def _vary_in_one_row(responses: Numbers) -> bool:
    """Tell whether each voxel has one value in all rows but one: that row is fitted to or scored, so one is constant.

    Of three rows of such a voxel two at least are equal, and the middle one of them is its value.
    """
    if responses.shape[0] < 3:
        return False
    value, n_others = np.sort(responses.read(0, 3), axis=0)[1], np.zeros(responses.shape[1], np.intp)
    for step in steps(responses.shape, _FIRST_BYTES):
        n_others += np.count_nonzero(responses.read(*step) != value, axis=0)
        if (n_others > 1).any():  # as of any recording, in the first block
            return False
    return True


def _placeholder(part: PartName, responses: Numbers, but: str = "") -> str:
    """Write the message on responses that never change: public challenges hand out zeros for what they keep back."""
    what = "Remove them, and training images confirm." if part == "test" else "Nothing can be learned from them."
    return (
        f"{responses.label} must hold responses that differ between images. Each voxel has one value alone{but}. {what}"
    )


def some_rows(n_rows: int) -> list[int]:
    """Return the first, the second and the last of some rows: they show what order these have.

    Examples
    --------
    >>> some_rows(60), some_rows(2), some_rows(0)
    ([0, 1, 59], [0, 1], [])
    """
    return sorted({0, 1, n_rows - 1} & set(range(n_rows)))


def place_of(path: Path) -> str:
    """Name a file with its folder, quoted where it could not be printed."""
    place = f"{path.absolute().parent.name}/{path.name}"
    return place if place.isprintable() else repr(place)


def not_finite(where: str, voxel: int, n_bad: int) -> str:
    """Write the message on values that are NaN or infinite."""
    values = "1 NaN or infinite value" if n_bad == 1 else f"{n_bad} NaN or infinite values, the first"
    return f"Responses must be finite. Got {values} at {where}, voxel {voxel}."


def _picture(path: Path, presentation: Presentation) -> _Picture | DataError:
    try:
        found = digest.of_array(open_pixels(path, presentation, usual_resized))
        return _Picture(path, found, look_for_silent(path))
    except DataError as error:
        return error


def _shown(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")
