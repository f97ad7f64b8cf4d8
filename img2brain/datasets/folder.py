"""The predecessor's layout: images in ``trainingIMG/``, responses in ``trainingfMRI/``, and the same for ``test``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain._mapped import release
from img2brain.datasets._contents import (
    Contents,
    PartContents,
    image_folder,
    joined,
    joined_groups,
    misplaced,
    read_contents,
    read_from,
    responses_file,
)
from img2brain.datasets._looks import Numbers, PartName, Problems, Report, Section
from img2brain.datasets._responses import float_type, require_exact
from img2brain.datasets._split import Rows
from img2brain.datasets.base import Dataset

Array = NDArray[Any]

STIMULUS = "stimulus"  # the column of images.csv that names what was shown
_FOLDERS = ("trainingfMRI", "trainingIMG", "trainingFeatures", "testfMRI", "testIMG", "testFeatures")


class FolderDataset(Dataset):
    """Images in trainingIMG/ and responses in trainingfMRI/training.npy; the same for test, which is optional.

    Notes
    -----
    ::

        trainingIMG/*.jpg|png      testIMG/*.jpg|png             the i-th row belongs to the i-th image by file name
        images.csv                 optional, file; row, where names do not tell which one an image belongs to; others of
                                   your own, such as session, category or part, that a split may go by
        trainingFeatures/*.npy     testFeatures/*.npy            optional, (images, features) each; images may lack;
                                   .h5 with an array "features", or .zarr, as well
        trainingfMRI/training.npy  testfMRI/test.npy             (images, voxels); the test part is optional
        trainingfMRI/training_repeats.npy, testfMRI/test_repeats.npy   optional, (images, repeats, voxels), NaN = none
        trainingfMRI/training_counts.npy, testfMRI/test_counts.npy     optional, (images,), repeats that were averaged
        trainingfMRI/training_groups.npy, testfMRI/test_groups.npy     optional, (images,), integers or texts
        rois.json                  optional, name -> voxel indices or a mask of true and false
        ncsnr.npy, noise_ceiling.npy   optional, (voxels,)
        dataset.toml               optional: name, unit, subject, order of file names ("name" or "natural"), background,
                                   orientation; [provenance]: species, area, licence, url, citation;
                                   [preparation]: what was done to what was recorded, NAME = "TEXT" each

    Where the plain and the natural order of file names differ, as those of 2.png and 10.png do, one of them must be
    asked for. Responses are memory-mapped: opening reads no image and no response. Images and features serve where
    every row has them. Images of one group stay on one side of every split.
    """

    def __init__(self, contents: Contents) -> None:
        training, test = contents.training, contents.test
        n_training, n_test = len(training.responses), len(test.responses)
        self._contents, self.origin = contents, contents.root
        self._found = training.images + (test.images if n_test else ())
        self._matrices = joined(training.features, test.features if n_test else {})
        whole = n_training + n_test
        told = {
            name: [cells.get(path, "") for path in self._found]
            for name, cells in contents.columns.items()
            if len(self._found) == whole
        }
        super().__init__(
            name=contents.about.name,
            unit=contents.about.unit,
            subject=contents.about.subject,
            background=contents.about.background,
            orientation=contents.about.orientation,
            provenance=contents.about.provenance,
            source=contents.root.resolve().name,
            images=self._found if len(self._found) == whole else (),
            features={name: matrix for name, matrix in self._matrices.items() if len(matrix) == whole},
            n_training=n_training,
            n_test=n_test,
            test_images=test.images,
            n_voxels=training.responses.shape[1],
            rois=contents.rois,
            ncsnr=contents.ncsnr,
            noise_ceiling=contents.noise_ceiling,
            groups=joined_groups(contents.root, training, test),
            stimuli=told.pop(STIMULUS, None),
            columns=told,
            preparation=contents.about.preparation,
            files=read_from(contents.root),
        )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether one of the folders of this layout is there."""
        return any(folder.is_dir() or folder.is_symlink() for folder in (path / name for name in _FOLDERS))

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder after the cheap checks; `check_folder` makes all of them.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        FolderDataset

        Raises
        ------
        DataError
            If a file is absent, of another kind, or does not fit the others (`ShapeError`).
        SpecError
            If ``dataset.toml`` holds something that is not allowed.
        """
        return cls(read_contents(path, nullcontext))

    @classmethod
    def check_folder(cls, path: Path) -> Report:
        """Check a folder, also one that cannot be opened, and report every problem at once.

        Parameters
        ----------
        path : Path
            The folder.

        Returns
        -------
        Report
            Errors: files that are absent or do not fit each other, images that do not decode, values that are not
            finite. Warnings: constant voxels, images with the same pixels, files that are no images.

        Notes
        -----
        Decodes every image and reads every response once: some 10 s for 9000 images of 425 x 425 on two cores.
        """
        problems = Problems()
        contents = read_contents(path, problems.keep)
        dataset: FolderDataset | None = None
        if not problems:
            with problems.keep():
                dataset = cls(contents)
        sections = [_section(path, "training", contents.training), _section(path, "test", contents.test)]
        pixels = problems.look_at(sections, contents.about.presentation)
        for name in ("training", "test"):
            problems.look_at_other_files(image_folder(path, name))
        for stray in misplaced(path):
            problems.warn(f"{str(stray)!r} is not read: {_where_it_belongs(stray.stem)}.")
        ties = None if dataset is None else dataset._tied(pixels)
        if dataset is not None and ties is not None:
            with problems.keep():
                dataset._require_divisible(ties)
            dataset._look_for_what_serves_no_row(problems)
            dataset._look_for_ncsnr_without_counts(problems)
            dataset._look_at_features(problems)
        return Report(
            images=len(contents.training.images),
            test_images=len(contents.test.images),
            voxels=contents.training.responses.shape[1],
            unit=contents.about.unit,
            subject=contents.about.subject,
            digest=None if dataset is None else dataset._digest_or_none(problems),
            problems=problems.sorted,
            name=contents.about.name,
            source=path.resolve().name,
            rows=() if dataset is None else tuple(line for section in sections for line in section.some_rows),
            ties=ties or None,
            preparation=contents.about.preparation,
            columns=() if dataset is None else tuple(dataset.columns),
        )

    def _look_for_what_serves_no_row(self, problems: Problems) -> None:
        """Look for images and features that only the training or only the test rows have."""
        partial = ["images"] if self._found and not self.images else []
        partial += [f"features {name!r}" for name in self._matrices if name not in self.features]
        for what in partial:
            problems.warn(f"The {what} of {str(self._contents.root)!r} must be there for all rows. They are left out.")

    @property
    def _shown(self) -> Sequence[Path | None]:
        parts = (self._contents.training.images, self.n_training), (self._contents.test.images, self.n_test)
        return [path for images, n_rows in parts for path in (images[:n_rows] or [None] * n_rows)]

    def _section_of(self, part: PartName) -> Section:
        contents = self._contents
        return _section(contents.root, part, contents.training if part == "training" else contents.test)

    def read_responses(self, rows: Rows) -> Array:
        """Read the responses of some rows, each from its file."""
        training, test = self._contents.training.responses, self._contents.test.responses
        out = np.empty((len(rows), self.n_voxels), float_type(training, test) if self.n_test else float_type(training))
        for place, row in zip(out, rows, strict=True):
            place[...] = training[row] if row < self.n_training else test[row - self.n_training]
        release(training, test)
        return out

    def read_repeats(self, rows: Rows) -> Array | None:
        """Read the repeats of rows of one part, where it has any."""
        found = self._part_of(rows)
        if found is None or found[0].repeats is None:
            return None
        part, places = found
        assert part.repeats is not None, "looked at above"
        repeats: Array = np.asarray(part.repeats)[places]
        release(part.repeats)
        return repeats

    def read_counts(self, rows: Rows) -> NDArray[Any] | None:
        """Read the counts of rows of one part, from their file or from the repeats."""
        found = self._part_of(rows)
        if found is not None and found[0].counts is not None:
            return found[0].counts[found[1]]
        return super().read_counts(rows)

    def _part_of(self, rows: Rows) -> tuple[PartContents, Rows] | None:
        """Return the part that some rows are all in, and their places there."""
        if (rows < self.n_training).all():
            return self._contents.training, rows
        if (rows >= self.n_training).all():
            return self._contents.test, rows - self.n_training
        return None

    @cached_property
    def image_digests(self) -> tuple[str, ...]:
        """Digests of `images`, or of those that are there where not every row has one."""
        return self._digest_images(self.images or self._found)

    def content_digests(self) -> Mapping[str, str]:
        """Digest the arrays of the folder, each by the name that old studies know it by."""
        contents = self._contents
        arrays = {
            "training": contents.training.responses,
            "training_repeats": contents.training.repeats,
            "test": contents.test.responses if self.n_test else None,
            "test_repeats": contents.test.repeats,
            "training_counts": contents.training.counts,
            "test_counts": contents.test.counts,
            "ncsnr": self.ncsnr,
            "noise_ceiling": self.noise_ceiling,
            **{f"roi {name}": voxels.astype(np.int64) for name, voxels in self.rois.items()},
            **{f"features {name}": matrix for name, matrix in self._matrices.items()},
            "groups": self.group_rows,
        }
        found = {name: digest.of_array(array) for name, array in arrays.items() if array is not None}
        return found | ({"preparation": digest.of_value(dict(self.preparation))} if self.preparation else {})

    def where(self, row: int) -> str:
        """Say where the responses of a row are kept, for messages."""
        part, first = ("training", 0) if row < self.n_training else ("test", self.n_training)
        return f"{str(responses_file(self._contents.root, part))!r}, row {row - first}"


COMPONENT = FolderDataset


def _where_it_belongs(stem: str) -> str:
    """Say where a file is looked for, given its name or that of its kind."""
    if stem in ("ncsnr", "noise_ceiling"):
        return f"{stem}.npy is looked for in the folder of the dataset"
    part, _, kind = stem.rpartition("_")
    places = [f"{name}fMRI/{name}_{kind}.npy" for name in ([part] if part else ["training", "test"])]
    return f"{' or '.join(places)} is looked for"


def _section(root: Path, name: PartName, part: PartContents) -> Section:
    repeats = None if part.repeats is None else _numbers(responses_file(root, name, "_repeats"), part.repeats)
    responses = _numbers(responses_file(root, name), part.responses) if part.responses.size else None
    return Section(name, part.images, responses, repeats)


def _numbers(path: Path, array: Array) -> Numbers:
    label = repr(str(path))
    return Numbers(label, array.shape, partial(_block, label, array), lambda row: f"{label}, row {row}")


def _block(label: str, array: Array, start: int, stop: int) -> Array:
    block = require_exact(label, np.array(array[start:stop]))
    release(array)
    return block
