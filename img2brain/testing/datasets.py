"""What every dataset owes, whoever wrote it.

A check takes a `Specimen`: a dataset, or how one is opened. Give a small one, of 12 images or more: some checks read
all of it, and it is opened anew for each.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from img2brain.datasets._facts import require_per_voxel, require_region, require_region_name
from img2brain.datasets._images import open_pixels
from img2brain.datasets.base import Dataset, Development, Rows, Split, require_facts
from img2brain.errors import DataError
from img2brain.spec import SplitSpec
from img2brain.testing._suite import Check, named, owed, refused, run

_CACHED = ("digest", "image_digests", "ties")
_SPLIT = SplitSpec(validation=0.5, confirmation=0.25)
_MOST_ROWS = 256


@dataclass(frozen=True)
class Specimen:
    """A dataset to be checked.

    Parameters
    ----------
    dataset : Dataset or type or callable
        A dataset; or its class, or a function, which gives one of `path`, or without arguments where there is no path.
    path : Path, optional
        The folder that it is opened from.
    change : callable, optional
        ``change(folder)`` changes one response in a copy of the folder. A class whose `content_digests` or `digest` is
        its own needs it: nobody else can tell whether these follow the responses.
    """

    dataset: Dataset | type[Dataset] | Callable[..., Dataset]
    path: Path | None = None
    change: Callable[[Path], object] | None = None

    def made(self) -> Dataset:
        """Open the dataset anew; one that is given as it is forgets its digests."""
        if isinstance(self.dataset, Dataset):
            return _forgetful(self.dataset)
        make: Any = self.dataset
        found: Dataset = make() if self.path is None else getattr(make, "open", make)(self.path)
        return found


def check_dataset(
    dataset: Dataset | type[Dataset] | Callable[..., Dataset],
    path: Path | None = None,
    change: Callable[[Path], object] | None = None,
) -> None:
    """Check all that a dataset owes.

    Parameters
    ----------
    dataset, path, change
        As for `Specimen`.

    Raises
    ------
    AssertionError
        With a line for each check that failed, starting with its name.

    Examples
    --------
    >>> class Ramp(Dataset):
    ...     def __init__(self):
    ...         super().__init__(name="ramp", n_voxels=2, features={"position": np.arange(20.0)[:, None]})
    ...     def read_responses(self, rows):
    ...         return np.stack([rows, -rows], axis=1)
    >>> check_dataset(Ramp)
    """
    run(_CHECKS, Specimen(dataset, path, change))


def dataset_checks() -> Iterator[tuple[str, Check[Specimen]]]:
    """Yield each check with its name.

    Examples
    --------
    >>> [name for name, check in dataset_checks()][:2]
    ['complete', 'rows_agree']
    """
    return named(_CHECKS)


def check_complete(specimen: Specimen) -> None:
    """Check that it extends `Dataset`, says how responses are read, and hands its facts on."""
    absent = sorted(getattr(specimen.dataset, "__abstractmethods__", ()))
    owed(not absent, f"It must define {', '.join(map(repr, absent))}.")
    dataset = specimen.made()
    owed(isinstance(dataset, Dataset), f"It must be a Dataset. Got {type(dataset).__name__}.")
    require_facts(dataset)


def check_rows_agree(specimen: Specimen) -> None:
    """Check that there is an image or a row of features for each row of responses."""
    dataset = specimen.made()
    n_images = dataset.n_training + dataset.n_test
    owed(dataset.n_training >= 1 and dataset.n_test >= 0, "There must be training images.")
    owed(dataset.images or dataset.features, "There must be images, or features in their place.")
    n_found = len(dataset.images)
    owed(n_found in (0, n_images), f"There must be an image for each of {n_images} rows, or none. Got {n_found}.")
    for name, matrix in dataset.features.items():
        fits = np.ndim(matrix) == 2 and len(matrix) == n_images and np.isfinite(matrix).all()
        owed(fits, f"The features {name!r} must be finite, a row for each of {n_images} images.")
    confirming = dataset.images[dataset.n_training :]
    owed(set(confirming) <= set(dataset.test_images), "The test images with responses must be among 'test_images'.")


def check_responses_are_finite_floats(specimen: Specimen) -> None:
    """Check the shape, the type and the values of responses."""
    dataset = specimen.made()
    rows = _some(dataset)
    responses = _all_rows(dataset).responses(rows)
    owed(responses.dtype in (np.float32, np.float64), f"Responses must be float32 or float64. Got {responses.dtype}.")
    wanted = (len(rows), dataset.n_voxels)
    owed(responses.shape == wanted, f"The responses of {len(rows)} rows must have shape {wanted}.")
    owed(np.isfinite(responses).all(), "Responses must be finite. They are not.")


def check_rows_in_any_order_and_repeated(specimen: Specimen) -> None:
    """Check that each row is the same whatever it is asked with."""
    dataset = specimen.made()
    read, rows = _all_rows(dataset).responses, _some(dataset)
    whole = read(rows)
    order = np.random.default_rng(0).integers(0, len(rows), 2 * len(rows))
    owed(_same(read(rows[order]), whole[order]), "Responses must come in the order of the rows asked for, also twice.")
    for place in (0, len(rows) - 1):
        alone = read(rows[place : place + 1])
        owed(_same(alone, whole[place : place + 1]), "The responses of a row alone must be those among others.")
    owed(read(rows[:0]).shape == (0, dataset.n_voxels), "No rows must give no responses.")


def check_responses_are_new(specimen: Specimen) -> None:
    """Check that nobody who changes what was read changes what is read next."""
    dataset = specimen.made()
    for what, read in (("responses", _all_rows(dataset).responses), ("repeats", _all_rows(dataset).repeats)):
        rows = np.arange(dataset.n_training)[:_MOST_ROWS]
        first = read(rows)
        if first is None:
            continue
        kept = first.copy()
        read(rows[::-1])
        owed(_same(first, kept), f"What was read of {what} must stay as it is while others are read.")
        first[...] = 12345.0
        owed(_same(read(rows), kept), f"Writing to {what} that were read must change nothing.")


def check_digest_is_stable(specimen: Specimen) -> None:
    """Check that the same data has the same digest, from wherever it is opened."""
    first, second = specimen.made().digest, specimen.made().digest
    owed(isinstance(first, str) and first, f"The digest must be a text. Got {first!r}.")
    owed(first == second, "The digest must be the same each time that the dataset is opened.")
    if specimen.change is not None:
        with _copied(specimen) as moved:
            owed(moved.made().digest == first, "The digest must not depend on where the folder is.")


def check_digest_follows_a_response(specimen: Specimen) -> None:
    """Check that another response is another digest."""
    before = specimen.made().digest
    if specimen.change is not None:
        with _copied(specimen) as moved:
            assert moved.path is not None, "what is copied has a path"
            specimen.change(moved.path)
            owed(moved.made().digest != before, "The digest must change with a response. It does not.")
        return
    hint = "A class with digests of its own is checked with 'change'."
    owed(_with_another_response(specimen.made()).digest != before, f"The digest must change with a response. {hint}")


def check_digest_follows_an_image(specimen: Specimen) -> None:
    """Check that another byte of an image is another digest."""
    dataset = specimen.made()
    if not dataset.images:
        return
    before, last = dataset.digest, dataset.images[-1]
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / f"{last.stem}.png"
        if last.is_file():
            other = other.with_name(last.name)
            other.write_bytes(last.read_bytes() + b"\0")
        else:  # a picture inside of another file
            Image.fromarray(255 - open_pixels(last)).save(other)
        changed = _forgetful(dataset)
        changed.images = (*dataset.images[:-1], other)
        owed(changed.digest != before, "The digest must change with the bytes of an image. It does not.")


def check_confirmation_rows_are_kept(specimen: Specimen) -> None:
    """Check that what is handed to a search reads no confirmation row."""
    dataset = specimen.made()
    split = dataset.split(_SPLIT)
    development = dataset.development(split)
    owed(not np.isin(split.confirmation, development.rows).any(), "No development row must be a confirmation row.")
    for name in ("responses", "repeats", "counts"):
        read = getattr(development, name)
        for row in split.confirmation[:_MOST_ROWS]:
            refused(DataError, partial(read, np.array([row])), f"The {name} of a confirmation row")


def check_split_covers_each_row_once(specimen: Specimen) -> None:
    """Check that each row trains, validates or confirms, or is left out for its ties, and that test rows confirm."""
    dataset = specimen.made()
    split = dataset.split(_SPLIT)
    left_out = np.concatenate([split.train[:0], *split.left_out.values()])
    rows = np.sort(np.concatenate([split.train, split.validation, split.confirmation, left_out]))
    owed(np.array_equal(rows, np.arange(dataset.n_images)), "A split must hold each row once.")
    confirming = np.sort(np.concatenate([split.confirmation, split.left_out.get("confirmation", split.train[:0])]))
    test = np.arange(dataset.n_training, dataset.n_images)
    owed(not len(test) or np.array_equal(confirming, test), "The test rows, and no others, must confirm.")


def check_split_keeps_ties_whole(specimen: Specimen) -> None:
    """Check that rows that are equal, or of one group, are on one side of a split."""
    dataset = specimen.made()
    split = dataset.split(_SPLIT)
    sides = [set(dataset.ties.sets[rows].tolist()) for rows in (split.train, split.validation, split.confirmation)]
    owed(len(set().union(*sides)) == sum(map(len, sides)), "A split must keep tied rows on one side. It does not.")


def check_regions(specimen: Specimen) -> None:
    """Check that each region of interest has a name and holds voxels that are there, each once."""
    dataset = specimen.made()
    for name, voxels in dataset.rois.items():
        require_region_name("The rois", name)
        require_region(f"The region {name!r}", voxels, dataset.n_voxels)
        owed(np.asarray(voxels).dtype == np.intp, f"The region {name!r} must hold voxel indices of type intp.")


def check_ceilings(specimen: Specimen) -> None:
    """Check the shape and the range of what is said of the voxels."""
    dataset = specimen.made()
    for name, values, most in (("ncsnr", dataset.ncsnr, np.inf), ("noise_ceiling", dataset.noise_ceiling, 1.0)):
        if values is not None:
            require_per_voxel(f"The {name}", values, dataset.n_voxels, most)


def check_repeats_and_counts(specimen: Specimen) -> None:
    """Check the shapes of repeats and counts, and that they come in the order of rows."""
    dataset = specimen.made()
    reading = _all_rows(dataset)
    for rows in (np.arange(dataset.n_training), np.arange(dataset.n_training, dataset.n_images)):
        some = rows[:_MOST_ROWS]
        for name, read in (("repeats", reading.repeats), ("counts", reading.counts)):
            found: Any = read(some) if len(some) else None
            if found is not None:
                owed(not np.isinf(found).any(), f"The {name} must be finite, or NaN where one is missing.")
                owed(_same(read(some[::-1]), found[::-1]), f"The {name} must come in the order of the rows asked for.")


def check_images_decode(specimen: Specimen) -> None:
    """Check that each image is there and decodes."""
    dataset = specimen.made()
    for path in {*dataset.images, *dataset.test_images}:
        open_pixels(path)


def check_where_is_a_text(specimen: Specimen) -> None:
    """Check that messages can say where a row is kept."""
    dataset = specimen.made()
    for row in (0, dataset.n_images - 1):
        found = dataset.where(row)
        good = isinstance(found, str) and found and "\n" not in found
        owed(good, f"It must say on one line where row {row} is kept. Got {found!r}.")


def check_recognises(specimen: Specimen) -> None:
    """Check that a layout takes no folder for its own that is not, and never raises."""
    kind: Any = specimen.dataset if isinstance(specimen.dataset, type) else type(specimen.made())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file.txt"
        file.touch()
        (Path(folder) / "empty").mkdir()
        for name, path in (
            ("an empty folder", file.with_name("empty")), ("an absent one", file.with_name("absent")), ("a text", file),
        ):  # fmt: skip
            owed(kind.recognises(path) is False, f"'recognises' must be False for {name}.")
    own = getattr(kind.recognises, "__func__", None) is not getattr(Dataset.recognises, "__func__", None)
    if own and specimen.path is not None and isinstance(specimen.dataset, type):
        owed(kind.recognises(specimen.path) is True, "'recognises' must be True for a folder of its own.")


_CHECKS: tuple[Check[Specimen], ...] = (
    check_complete,
    check_rows_agree,
    check_responses_are_finite_floats,
    check_rows_in_any_order_and_repeated,
    check_responses_are_new,
    check_digest_is_stable,
    check_digest_follows_a_response,
    check_digest_follows_an_image,
    check_confirmation_rows_are_kept,
    check_split_covers_each_row_once,
    check_split_keeps_ties_whole,
    check_regions,
    check_ceilings,
    check_repeats_and_counts,
    check_images_decode,
    check_where_is_a_text,
    check_recognises,
)


def _forgetful(dataset: Dataset) -> Dataset:
    """Copy a dataset without the digests that it keeps."""
    copied = copy.copy(dataset)
    for name in _CACHED:
        copied.__dict__.pop(name, None)
    return copied


def _with_another_response(dataset: Dataset) -> Dataset:
    """Have the last row read as one with another first voxel."""
    read, last = dataset.read_responses, dataset.n_images - 1

    def other(rows: Rows) -> Any:
        values = np.array(read(rows))
        values[rows == last, 0] = values[rows == last, 0] == 0
        return values

    vars(dataset)["read_responses"] = other
    return dataset


@contextmanager
def _copied(specimen: Specimen) -> Iterator[Specimen]:
    """Give the same of a copy of its folder, of the same name."""
    owed(specimen.path is not None, "'change' needs the 'path' of a folder.")
    assert specimen.path is not None, "looked at above"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / specimen.path.name
        (shutil.copytree if specimen.path.is_dir() else shutil.copyfile)(specimen.path, path)
        yield replace(specimen, path=path)


def _all_rows(dataset: Dataset) -> Development:
    """Hand out all rows, test rows too: a check is no search."""
    none = np.empty(0, dtype=np.intp)
    return dataset.development(Split(np.arange(dataset.n_images), none, none))


def _some(dataset: Dataset) -> Rows:
    """Choose rows of all parts, the first and the last among them."""
    return np.unique(np.linspace(0, dataset.n_images - 1, _MOST_ROWS).astype(np.intp))


def _same(first: Any, second: Any) -> bool:
    return np.array_equal(first, second, equal_nan=True)
