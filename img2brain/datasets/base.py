"""What every dataset is, whatever its layout: images, responses, and a search that sees the development rows only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from operator import index
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from img2brain import digest
from img2brain._mapped import Make
from img2brain.datasets._columns import Column, column_named, linked, require_column
from img2brain.datasets._development import (
    BLOCK_ROWS,
    Development,
    Guarded,
    frozen,
    gathered,
    row_blocks,
)
from img2brain.datasets._facts import (
    About,
    Provenance,
    is_constant,
    require_features,
    require_groups,
    require_per_voxel,
    require_region,
    require_region_name,
)
from img2brain.datasets._given import as_fitted, count
from img2brain.datasets._images import digest_of_picture, map_files
from img2brain.datasets._looks import Numbers, PartName, Problems, Refusal, Report, Section
from img2brain.datasets._parts import Known, by_numbers, given_parts
from img2brain.datasets._presentation import BACKGROUND, Orientation, Presentation
from img2brain.datasets._recorded import Recorded
from img2brain.datasets._responses import as_array, own_numbers
from img2brain.datasets._split import Rows, Split, split_rows
from img2brain.datasets._ties import DigestKeeper, Ties, first_of_each, kept_digests, picture_digests, row_contents
from img2brain.datasets._unchanged import Unchanged
from img2brain.errors import DataError, Img2BrainError, ShapeError, SpecError
from img2brain.spec import PreparationSpec, SplitSpec, parse

__all__ = ["Dataset", "Development", "Rows", "Split", "require_facts", "require_sound", "shuffled", "split_rows"]

Array = NDArray[Any]

_LEAST_TRAINING = 4


class Dataset(ABC):
    """Images and the responses to them.

    A subclass hands the facts below to this constructor and says how responses are read, in `read_responses`. Where it
    has repeats it says so in `read_repeats`. As a layout it also says which folders are its own, in `recognises`, and
    is opened by `open`, which calls the constructor with the folder if nothing else is said. All else is given here.
    ``img2brain.testing.check_dataset`` tells whether it keeps what is promised.

    Parameters
    ----------
    name : str
        What it is called: letters, digits, ``.``, ``_`` and ``-``.
    n_voxels : int
        Number of voxels (or neurons, or channels).
    images : iterable of Path
        All images that have responses, the training images first, then the test images. Empty for a dataset that
        brings features in place of images.
    features : mapping of str to ndarray (n_images, n_features), optional
        Feature matrices that came with the data, in the order of the images.
    n_training : int, optional
        Number of training images; by default all but the test images.
    n_test : int
        How many of `images`, at their end, are test images.
    test_images : iterable of Path, optional
        The test images, with or without responses; by default those with.
    unit, subject : str
        The unit of the responses, and whose they are.
    background : str
        The colour behind transparent pixels of an image when it was shown, ``#rrggbb``.
    orientation : {"stored", "exif"}
        Whether photographs were shown as their pixels are stored, or turned as their EXIF data say.
    provenance : Provenance or mapping of str to str, optional
        What readers ask: ``species``, ``area``, ``licence``, ``url``, ``citation``. Nothing that is computed depends on
        it.
    source : str, optional
        Name of the folder, or the like, that it was read from; by default that of the folder of the first image.
    rois : mapping of str to indices or mask, optional
        Voxels by region of interest. The empty text is no name: it stands for all voxels.
    ncsnr : ndarray, shape (n_voxels,), optional
        Standard deviation of the signal over that of the noise of one trial; NaN where it is not known.
    noise_ceiling : ndarray, shape (n_voxels,), optional
        Share of the variance of the responses that can be explained, 0..1; NaN where it is not known.
    groups : ndarray of int or str, shape (n_images,), optional
        The group of each image, such as its video, scene or session: rows of one group, and rows with equal pictures,
        stay on one side of every split.
    preparation : mapping of str to str, optional
        What was done to what was recorded until it was these responses, each under a name.
    stimuli : sequence of str, optional
        The id of what was shown in each row, where it has one beside its file: a split may name it.
    columns : mapping of str to sequence, optional
        What else is known of each row, such as its ``session`` or ``category``: texts or whole numbers, or a tuple of
        them where a row has several. A split groups and stratifies rows by them. Groups are the column ``group``.
    splits : mapping of str to callable, optional
        The splits that these data bring, such as those of their paper, by name: a function without arguments that
        returns the part of each row, ``train``, ``validation``, the name of a confirmation part, or the empty text
        where a row is of none.
    files : iterable of Path
        What responses, repeats and features are read from, again and again while a study is at work: one that is
        changed meanwhile ends it, so that scores of two different data are never mixed.

    Attributes
    ----------
    block_rows : int
        The most rows whose responses are read at a time.
    published : bool
        Whether its layout is that of published data, rather than one for a lab's own.
    origin : Path or None
        Where it was opened from.
    layout : str
        The layout that it was opened by; empty where it was not.
    presets : tuple of str
        The names that `splits` may have, whatever a folder holds.

    Raises
    ------
    SpecError
        If `name`, `unit` or `subject` is not a text of its kind.
    DataError
        If a number is out of its range, or (`ShapeError`) one thing does not fit another.

    Examples
    --------
    >>> class Ramp(Dataset):
    ...     def __init__(self):
    ...         super().__init__(name="ramp", n_voxels=2, features={"position": np.arange(20.0)[:, None]})
    ...     def read_responses(self, rows):
    ...         return np.stack([rows, -rows], axis=1)
    >>> ramp = Ramp()
    >>> ramp.n_training, ramp.check().problems
    (20, ())
    """

    block_rows: ClassVar[int] = BLOCK_ROWS
    published: ClassVar[bool] = False
    presets: ClassVar[tuple[str, ...]] = ()
    origin: Path | None = None
    layout: str = ""

    def __init__(
        self,
        *,
        name: str,
        n_voxels: int,
        images: Iterable[Path] = (),
        features: Mapping[str, ArrayLike] | None = None,
        n_training: int | None = None,
        n_test: int = 0,
        test_images: Iterable[Path] | None = None,
        unit: str = "a.u.",
        subject: str = "",
        background: str = BACKGROUND,
        orientation: Orientation = "stored",
        provenance: Provenance | Mapping[str, str] | None = None,
        source: str | None = None,
        rois: Mapping[str, ArrayLike] | None = None,
        ncsnr: ArrayLike | None = None,
        noise_ceiling: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        preparation: Mapping[str, str] | None = None,
        stimuli: Sequence[str] | None = None,
        columns: Mapping[str, Sequence[Any] | NDArray[Any]] | None = None,
        splits: Mapping[str, Callable[[], Sequence[str]]] | None = None,
        files: Iterable[Path] = (),
    ) -> None:
        told = {"name": name, "unit": unit, "subject": subject, "background": background, "orientation": orientation}
        about = parse(About, told | {"provenance": provenance or Provenance()}, "A dataset")
        self.name, self.unit, self.subject = about.name, about.unit, about.subject
        self.background, self.orientation, self.provenance = about.background, about.orientation, about.provenance
        self.images = _as_paths(images)
        label = f"The features {{!r}} of {self.name!r}".format
        given = {key: as_array(label(key), matrix) for key, matrix in (features or {}).items()}
        n_images = len(self.images) or max((len(np.atleast_1d(matrix)) for matrix in given.values()), default=0)
        self.n_test, self.n_voxels = index(n_test), index(n_voxels)
        self.n_training = n_images - self.n_test if n_training is None else index(n_training)
        self._require_numbers()
        self.test_images = self.images[self.n_training :] if test_images is None else _as_paths(test_images)
        self.source = source or (self.images[0].absolute().parent.name if self.images else self.name)
        self.features = self._given_features(given)
        self.rois = self._regions(rois or {})
        self.ncsnr = self._per_voxel("ncsnr", ncsnr, np.inf)
        self.noise_ceiling = self._per_voxel("noise_ceiling", noise_ceiling, 1.0)
        of_groups = f"The groups of {self.name!r}"
        self.groups = None if groups is None else require_groups(of_groups, groups, self.n_images)
        self.preparation = dict(preparation or {})
        self.stimuli = None if stimuli is None else self._told_of_rows("stimuli", stimuli)
        self.columns = self._given_columns(columns or {})
        self.splits = dict(splits or {})
        self.files = _as_paths(files)
        self._unchanged = Unchanged(self.name, self.files)

    def _told_of_rows(self, what: str, values: Sequence[str]) -> tuple[str, ...]:
        if len(values) != self.n_images:
            raise ShapeError(f"The {what} of {self.name!r} must be {self.n_images}, one a row. Got {len(values)}.")
        return tuple(map(str, values))

    def _given_columns(self, columns: Mapping[str, Sequence[Any] | NDArray[Any]]) -> dict[str, Column]:
        groups = {} if self.groups is None else {"group": self.groups}
        label = "The column {!r} of {!r}".format
        return {key: require_column(label(key, self.name), values, self.n_images)
                for key, values in {**groups, **columns}.items()}  # fmt: skip

    def _require_numbers(self) -> None:
        for key, value, least in (("n_voxels", self.n_voxels, 1), ("n_training", self.n_training, 1),
                                  ("n_test", self.n_test, 0)):  # fmt: skip
            if value < least:
                raise DataError(f"The {key!r} of {self.name!r} must be >= {least}. Got {value}.")
        if self.images and len(self.images) != self.n_images:
            raise ShapeError(f"The 'images' of {self.name!r} must be {self.n_images} or none. Got {len(self.images)}.")

    def _given_features(self, features: Mapping[str, ArrayLike]) -> Mapping[str, Array]:
        label = "The features {!r} of {!r}".format
        return {key: require_features(label(key, self.name), matrix, self.n_images) for key, matrix in features.items()}

    def _regions(self, rois: Mapping[str, ArrayLike]) -> Mapping[str, Rows]:
        for region in rois:
            require_region_name(f"The rois of {self.name!r}", region)
        label = "The region {!r} of {!r}".format
        return {key: require_region(label(key, self.name), voxels, self.n_voxels) for key, voxels in rois.items()}

    def _per_voxel(self, key: str, values: ArrayLike | None, most: float) -> NDArray[np.float64] | None:
        label = f"The {key} of {self.name!r}"
        return None if values is None else require_per_voxel(label, values, self.n_voxels, most)

    @classmethod
    def recognises(cls, path: Path) -> bool:  # noqa: ARG003 - a layout looks at it
        """Say whether a folder (or file) is of this layout, by names alone; never raises."""
        return False

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a folder (or file) of this layout.

        Parameters
        ----------
        path : Path
            The folder.

        Raises
        ------
        DataError
            If something is absent or does not fit.
        """
        make: Any = cls  # a layout's constructor takes the folder, unless it has an `open` of its own
        dataset: Self = make(path)
        return dataset

    @classmethod
    def open_prepared(cls, path: Path, asked: PreparationSpec) -> Dataset:
        """Open a folder of this layout as it is asked for; one that knows single trials can do more than this.

        Parameters
        ----------
        path : Path
            The folder.
        asked : PreparationSpec
            What `voxels` asks for is not done here: it is the same for all layouts.

        Raises
        ------
        DataError
            If something is asked for that this layout does not know, or as `open` does.
        """
        dataset = cls.open(path)
        known = {"voxels"} | ({"subject"} if asked.subject == dataset.subject else set())
        for name in asked.asked:
            if name not in known:
                raise DataError(
                    f"{name!r} must be left out of {dataset.name!r}: its layout knows one subject, its responses and "
                    f"its images, and no single trials. Got {getattr(asked, name)!s}."
                )
        return dataset

    def keeping(self, voxels: Rows) -> Dataset | None:
        """Return these data with some of their voxels, where less is read for them; None where that is not so."""
        return None

    @classmethod
    def problems_of(cls, path: Path, asked: PreparationSpec) -> tuple[str, ...]:  # noqa: ARG003 - a layout looks at it
        """Say all that keeps a folder from being opened, where a layout can say more than the first thing."""
        return ()

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:  # noqa: ARG003 - a layout of several looks at it
        """Name the subjects of a folder of this layout, where one of them has to be chosen."""
        return ()

    @classmethod
    def check_folder(cls, path: Path) -> Report:
        """Check a folder of this layout; one that can look into a folder that it cannot open says more than this."""
        return cls.open(path).check()

    @abstractmethod
    def read_responses(self, rows: Rows) -> Array:
        """Read the responses of some rows.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            Row numbers into `images`, 0..n_images - 1, in any order; one may come twice.

        Returns
        -------
        ndarray, shape (n, n_voxels)
            Numbers in the order of `rows`.
        """

    def read_repeats(self, rows: Rows) -> Array | None:
        """Read the single repeats that responses are the means of, where there are any.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            As for `read_responses`.

        Returns
        -------
        ndarray, shape (n, n_repeats, n_voxels), or None
            NaN where a repeat is missing. None where the dataset has no repeats of all these rows: training and test
            images may differ in this and in their number of repeats.
        """
        return None

    def read_counts(self, rows: Rows) -> NDArray[Any] | None:
        """Read how many repeats the responses of some rows are means of; by default those of `read_repeats`.

        Parameters
        ----------
        rows : ndarray of intp, shape (n,)
            As for `read_responses`.

        Returns
        -------
        ndarray of int, shape (n,), or None
            None where that is not told.
        """
        counts = np.empty(len(rows), dtype=np.int64)
        for block in row_blocks(np.arange(len(rows)), self.n_voxels, self.block_rows):
            repeats = self._repeats(rows[block])
            if repeats is None:
                return None
            counts[block] = (~np.isnan(repeats)).any(axis=2).sum(axis=1)
        return counts

    def where(self, row: int) -> str:
        """Say where the responses of a row are kept, for messages."""
        return f"row {row} of {self.name!r}"

    @property
    def recorded(self) -> Recorded:
        """What was recorded, in its order and as it lies in the files; the rows, where no single trials are known."""
        return Recorded("rows", self.n_images, self._responses)

    @property
    def averaged(self) -> Dataset:
        """The same data with a row for each image, where these have one for each of its trials."""
        return self

    @property
    def sections(self) -> tuple[Section, ...]:
        """The training and the test part with all that was recorded of them: for looking at data, not for a search."""
        return self._section_of("training"), self._section_of("test")

    @property
    def presentation(self) -> Presentation:
        """How the images were shown."""
        return Presentation(self.background, self.orientation)

    @property
    def n_images(self) -> int:
        """Number of images that have responses."""
        return self.n_training + self.n_test

    @cached_property
    def image_digests(self) -> tuple[str, ...]:
        """Digests of `images`, in their order: of their bytes, and of `presentation` where it has a say."""
        return self._digest_images(self.images)

    @cached_property
    def _unchanged_images(self) -> Unchanged:
        return Unchanged(self.name, self.images)

    def require_unchanged(self) -> None:
        """Refuse to go on where an image, or a file of `files`, is not what was digested.

        Raises
        ------
        ResourceError
            Naming it.
        """
        self._unchanged.require()
        self._unchanged_images.require()

    def _digest_images(self, images: Sequence[Path]) -> tuple[str, ...]:
        _ = self._unchanged_images  # as they are before they are read
        return tuple(map_files(partial(digest_of_picture, presentation=self.presentation), images, "digesting images"))

    @cached_property
    def digest(self) -> str:
        """Digest of all that a score depends on: image bytes in order, responses, repeats, regions, ceilings.

        Names of files and folders, unit, subject and test images without responses do not enter.
        """
        found = digest.of_value(dict(self.content_digests()))
        self._unchanged.require()
        return digest.of_digests([digest.of_digests(self.image_digests), found])

    def content_digests(self) -> Mapping[str, str]:
        """Digest everything but the images that a score depends on, each under a name.

        Notes
        -----
        Reads all responses and repeats once, block by block. A layout that has them as files may digest those.
        """
        kinds = {"responses": self._responses, "repeats": self._repeats, "counts": self._counts}
        parts = {"training": (0, self.n_training), "test": (self.n_training, self.n_images)}
        found = {
            f"{part} {kind}": self._digest_rows(read, np.arange(*rows))
            for kind, read in kinds.items()
            for part, rows in parts.items()
        }
        return {**{name: value for name, value in found.items() if value is not None}, **self._digest_facts()}

    def _digest_rows(self, read: Callable[[Rows], Array | None], rows: Rows) -> str | None:
        """Digest what is read row by row, so that the size of a block does not matter; None where nothing is there."""
        digests: list[str] = []
        for block in row_blocks(rows, self.n_voxels, self.block_rows):
            values = read(block)
            digests += [""] * len(block) if values is None else map(digest.of_array, map(np.asarray, values))
        return digest.of_digests(digests) if any(digests) else None

    def _digest_facts(self) -> dict[str, str]:
        arrays = {
            "ncsnr": self.ncsnr,
            "noise_ceiling": self.noise_ceiling,
            **{f"roi {name}": voxels.astype(np.int64) for name, voxels in self.rois.items()},
            **{f"features {name}": matrix for name, matrix in self.features.items()},
            "groups": self.group_rows,
        }
        found = {name: digest.of_array(array) for name, array in arrays.items() if array is not None}
        return found | ({"preparation": digest.of_value(dict(self.preparation))} if self.preparation else {})

    @property
    def group_rows(self) -> NDArray[np.int64] | None:
        """Of each row the first row of its group, whatever the groups are called; None where none are declared."""
        return None if self.groups is None else first_of_each(self.groups.tolist()).astype(np.int64)

    @cached_property
    def ties(self) -> Ties:
        """Which rows are equal, and which must stay on one side of every split.

        Rows are equal where they show the same picture: the same pixels, whatever the file is called and however it is
        compressed. So are rows whose given features are the same in all matrices, in float32, as they are fitted. Rows
        that are equal in one way or the other, of one stimulus, or of one group, are tied, also through others.

        Notes
        -----
        Decodes every image that has the size of another one: some 10 s for 9000 images of 425 x 425 on two cores.
        """
        return self._tied(picture_digests(self._pictures, self.presentation))

    def learn_ties(self, keeper: DigestKeeper) -> None:
        """Find `ties`, of pictures that were compared before without decoding them again.

        Parameters
        ----------
        keeper : DigestKeeper
            Where it is kept which pictures are equal.
        """
        if "ties" not in vars(self):
            vars(self)["ties"] = self._tied(kept_digests(self._picture_files, self.presentation, keeper))

    @property
    def _picture_files(self) -> Mapping[Path, str]:
        """The picture of each row that has one, with the digest of its file, as `image_digests` are."""
        shown = self._pictures
        digests = self.image_digests if self.images else self._digest_images(shown)
        return dict(zip(shown, digests, strict=True))

    @property
    def _pictures(self) -> Sequence[Path]:
        return [path for path in self._shown if path is not None]

    @property
    def _shown(self) -> Sequence[Path | None]:
        """The picture of each row, where it has one; `images` are empty unless all have."""
        return self.images or [None] * self.n_images

    def _tied(self, pixels: Mapping[Path, str]) -> Ties:
        """Tie rows, given digests of the pixels of those pictures that may be equal to another one."""
        pictures = [row if path is None else pixels.get(path, str(path)) for row, path in enumerate(self._shown)]
        given = row_contents(self._fitted_matrices()) or pictures
        contents = (pictures, given) if self.images else (given, pictures)
        others = [of_rows for of_rows in (self.stimuli,) if of_rows is not None]
        return Ties.of(*contents, *others, range(self.n_images) if self.groups is None else self.groups.tolist())

    def _fitted_matrices(self) -> Iterator[Array]:
        """Yield the given features, one matrix after another, as they are fitted."""
        for matrix in self.features.values():
            if len(matrix) == self.n_images:  # others say so of one that has other rows
                yield as_fitted(matrix, np.arange(self.n_training))

    def check(self) -> Report:
        """Read every response and decode every image, and report every problem at once.

        Returns
        -------
        Report
            Errors: responses that are not finite, images that do not decode. Warnings: constant voxels, images with the
            same pixels, repeats that are none of these responses.
        """
        problems = Problems()
        sections: list[Section] = []
        with problems.keep():
            sections.append(self._section_of("training"))
        with problems.keep():
            sections.append(self._section_of("test"))
        pixels = problems.look_at(sections, self.presentation)
        self._look_for_ncsnr_without_counts(problems)
        self._look_at_features(problems)
        ties = self._tied(pixels)
        with problems.keep():
            self._require_divisible(ties)
        return Report(
            images=len(self.images[: self.n_training]),
            test_images=len(self.test_images),
            voxels=self.n_voxels,
            unit=self.unit,
            subject=self.subject,
            digest=self._digest_or_none(problems),
            problems=problems.sorted,
            name=self.name,
            source=self.source,
            rows=tuple(line for section in sections for line in section.some_rows),
            ties=ties or None,
            preparation=self.preparation,
            splits=tuple(self.splits),
            columns=tuple(self.columns),
        )

    def _look_for_ncsnr_without_counts(self, problems: Problems) -> None:
        """Look for responses whose ncsnr gives no ceiling, as nobody tells how many repeats they are means of."""
        if self.ncsnr is None or self.noise_ceiling is not None:
            return
        for part, first, n_rows in (("training", 0, self.n_training), ("test", self.n_training, self.n_test)):
            with problems.keep():
                if n_rows and self._counts(np.array([first])) is None:
                    problems.warn(
                        f"The ncsnr of {self.name!r} gives its {part} responses no noise ceiling without their counts: "
                        f"how many repeats each is the mean of. A folder has them in {part}fMRI/{part}_counts.npy."
                    )

    def _require_enough(self) -> None:
        """Refuse what no split can divide, and rows that nothing was shown for."""
        if self.n_training < _LEAST_TRAINING:
            raise DataError(
                f"{self.name!r} must have at least {_LEAST_TRAINING} training images: 2 to fit to, and 2 to validate. "
                f"Got {self.n_training}."
            )
        if self.n_test == 1:
            raise DataError(f"{self.name!r} must have at least 2 test images with responses, or none. Got 1.")
        if not self.images and not self.features:
            raise DataError(f"{self.name!r} must have images, or features in their place, for all rows. It has none.")

    def _require_divisible(self, ties: Ties) -> None:
        """Refuse what no split divides, and what the default one does not: a study need not say another."""
        self._require_enough()
        self._require_sides(ties)
        try:
            split_rows(SplitSpec(), self.n_training, self.n_test, ties)
        except SpecError as error:
            raise DataError(
                f"{self.name!r} must have images enough for the default split of a study, or its study another split. "
                f"{error}"
            ) from error

    def _require_sides(self, ties: Ties) -> None:
        """Refuse rows that are tied so that no split divides them: each side needs two rows that are not equal."""
        different = np.flatnonzero(ties.equal[: self.n_training] == np.arange(self.n_training))
        if ties and np.minimum(np.bincount(ties.sets[different]), 2).sum() < _LEAST_TRAINING:
            raise DataError(
                f"{self.name!r} must have training images that a split can divide: 2 that differ to fit to, and 2 to "
                f"validate. There are tied {ties}, and each set stays on one side."
            )

    def _look_at_features(self, problems: Problems) -> None:
        """Look for features that float32 does not hold, and for those that are the same for every image of a part."""
        parts = {"training": slice(0, self.n_training), "test": slice(self.n_training, self.n_images)}
        for name, matrix in self.features.items():
            with problems.keep():
                count(f"The features {name!r} of {self.name!r}", matrix, np.arange(self.n_training))
            for part, rows in parts.items():
                if len(matrix[rows]) > 1 and is_constant(matrix[rows]):
                    problems.warn(f"The features {name!r} of {self.name!r} do not vary over the {part} images.")

    def _section_of(self, part: PartName) -> Section:
        """Show a part to the looks; a layout may say better where its numbers are kept."""
        if part == "training":
            return self._section(part, self.images[: self.n_training], 0, self.n_training)
        return self._section(part, self.test_images, self.n_training, self.n_test)

    def _section(self, name: PartName, images: tuple[Path, ...], first: int, n_rows: int) -> Section:
        """Show a part to the looks; its first repeats tell how many there are."""
        if not n_rows:
            return Section(name, images, None, None)
        label, first_repeats = f"The {name} {{}} of {self.name!r}".format, self._repeats(np.array([first]))
        responses = self._numbers(label("responses"), (n_rows, self.n_voxels), self._responses, first)
        if first_repeats is None:
            return Section(name, images, responses, None)
        shape = (n_rows, first_repeats.shape[1], self.n_voxels)
        return Section(name, images, responses, self._numbers(label("repeats"), shape, self._repeats, first))

    def _numbers(self, label: str, shape: tuple[int, ...], read: Callable[[Rows], Any], first: int) -> Numbers:
        def block(start: int, stop: int) -> Array:
            found = read(np.arange(first + start, first + stop))
            if found is None:
                raise DataError(f"{label} must be there for all rows or for none. Row {first + start} has none.")
            return np.asarray(found)

        return Numbers(label, shape, block, lambda row: self.where(first + row))

    def _digest_or_none(self, problems: Problems) -> str | None:
        """Return the digest, unless something that cannot be read is among the problems already."""
        try:
            return self.digest
        except (Img2BrainError, OSError):
            if not problems:
                raise
            return None

    def split(self, spec: SplitSpec) -> Split:
        """Split the rows as `split_rows` does, tied ones on one side.

        Parameters
        ----------
        spec : SplitSpec
            By seed, or given by a file, a column or one of `splits`.

        Raises
        ------
        SpecError
            If it names something that is not there, puts a stimulus on two sides or leaves a part without rows.
        """
        return self._split(spec, lambda: self.ties)

    def nearly_split(self, spec: SplitSpec) -> Split:
        """Split the rows as `split` does, but for pictures, which are not compared: parts are about as large."""
        return self._split(spec, lambda: self._tied({}))

    def _split(self, spec: SplitSpec, ties: Callable[[], Ties]) -> Split:
        given = given_parts(spec, self._known)
        strata = None if spec.stratify is None else first_of_each(self._column(spec.stratify, "stratify"))
        tied = self._tied_for(spec, given, ties())
        return split_rows(spec, self.n_training, self.n_test, tied, given=given, strata=strata)

    def portable(self, spec: SplitSpec) -> SplitSpec:
        """Say a split so that it can be made again where its file is not there, by the numbers of rows."""
        return by_numbers(spec, self._known)

    @property
    def _known(self) -> Known:
        return Known(
            name=self.name, subject=self.subject, shown=self._shown, stimuli=self.stimuli, columns=self.columns,
            splits=self.splits,
        )  # fmt: skip

    def _column(self, name: str, asking: str) -> Column:
        return column_named(self.columns, name, asking, self.name)

    def _tied_for(self, spec: SplitSpec, given: Mapping[str, Rows] | None, ties: Ties) -> Ties:
        """Tie rows of one value of the columns that a split groups by; those of folds among the training rows alone."""
        if spec.groups is not None:
            ties = ties.also(linked(self._column(spec.groups, "groups")).tolist())
        if not isinstance(spec.folds, str):
            return ties
        column = self._column(spec.folds, "folds")
        pool = np.arange(self.n_training) if given is None else given["train"]
        absent = [row for row in pool if not column[row]]
        if absent:
            raise SpecError(
                f"Each training row of {self.name!r} must have a value of {spec.folds!r}, whose values take turns to "
                f"validate. {len(absent)} have none, the first: row {absent[0]}."
            )
        labels: list[Any] = [("row", row) for row in range(self.n_images)]
        for row, label in zip(pool.tolist(), linked(tuple(column[row] for row in pool)).tolist(), strict=True):
            labels[row] = label
        return ties.also(labels)

    def development(self, split: Split) -> Development:
        """Hand out the development rows: all that a search may see."""
        rows = self._checked(split.development)
        allowed = frozenset(rows.tolist())
        return Development(
            rows=frozen(rows.astype(np.intp)),
            n_voxels=self.n_voxels,
            rois={name: frozen(voxels) for name, voxels in self.rois.items()},
            ncsnr=None if self.ncsnr is None else frozen(self.ncsnr),
            noise_ceiling=None if self.noise_ceiling is None else frozen(self.noise_ceiling),
            _read=Guarded(self._responses, allowed),
            _read_repeats=Guarded(self._repeats, allowed),
            _read_counts=Guarded(self._counts, allowed),
        )

    def confirmation(
        self, split: Split, part: str | None = None, as_kept: bool = False, make: Make = np.zeros
    ) -> NDArray[np.floating]:
        """Read the responses of the confirmation rows, for publishing alone.

        Parameters
        ----------
        split : Split
            Which rows they are.
        part : str, optional
            One of `Split.parts`; by default the rows of all, one part after another.
        as_kept : bool
            Whether responses that are kept in float32 stay so, which takes half the memory.
        make : callable
            Makes the array that they are read into, of a shape and a type.

        Returns
        -------
        ndarray of float64, or of float32 where it is as they are kept, shape (n_confirmation, n_voxels)

        Raises
        ------
        SpecError
            If there is no such part.
        """
        rows = self._checked(split.confirming(part))
        kind = np.float32 if as_kept else np.float64
        found: Array = gathered(self._responses, rows, self.n_voxels, make, kind, self.block_rows)
        return found

    def confirmation_repeats(self, split: Split, part: str | None = None, make: Make = np.zeros) -> Array | None:
        """Read single repeats of the rows of `confirmation` (n_confirmation, n_repeats, n_voxels).

        Parameters
        ----------
        split, part, make
            As for `confirmation`.

        Returns
        -------
        ndarray or None
            NaN where a repeat is missing; None where the dataset has no repeats of these rows.
        """
        rows = self._checked(split.confirming(part))
        found: Array | None = gathered(self._repeats, rows, self.n_voxels, make, None, self.block_rows)
        return found

    def confirmation_counts(self, split: Split, part: str | None = None) -> NDArray[np.int64] | None:
        """Read how many repeats the responses of `confirmation` are means of, or None where that is not told."""
        return self._counts(self._checked(split.confirming(part)))

    def _responses(self, rows: Rows) -> Array:
        """Read the responses of valid rows, as new float32 or float64 numbers (n, n_voxels)."""
        found = self._read("responses", self.read_responses, rows)
        return own_numbers(f"The responses of {self.name!r}", found, (len(rows), self.n_voxels))

    def _repeats(self, rows: Rows) -> Array | None:
        found = self._read("repeats", self.read_repeats, rows)
        shape = (len(rows), None, self.n_voxels)
        return None if found is None else own_numbers(f"The repeats of {self.name!r}", found, shape)

    def _counts(self, rows: Rows) -> NDArray[np.int64] | None:
        found = self._read("counts", self.read_counts, rows)
        if found is None:
            return None
        counts = as_array(f"The counts of {self.name!r}", found)
        if counts.shape != (len(rows),) or counts.dtype.kind not in "iu" or (counts < 0).any():
            raise DataError(f"The counts of {self.name!r} must be {len(rows)} whole numbers >= 0. They are not.")
        return counts.astype(np.int64)

    def _read(self, what: str, read: Callable[[Rows], Any], rows: Rows) -> Any:
        """Run the code of a layout, and say on one line where it fails."""
        try:
            found = read(rows)
            self._unchanged.require()
        except (Img2BrainError, OSError, MemoryError):
            raise
        except Exception as error:  # code of others raises anything
            reason = (str(error).splitlines() or [""])[0].rstrip(".")
            raise DataError(f"The {what} of {self.name!r} cannot be read: {type(error).__name__}: {reason}.") from error
        return found

    def _checked(self, rows: Rows) -> Rows:
        outside = rows[(rows < 0) | (rows >= self.n_images)]
        if len(outside):
            raise DataError(f"The rows of {self.name!r} must lie in 0..{self.n_images - 1}. Got {outside[0]}.")
        return rows


def _as_paths(items: Iterable[Path]) -> tuple[Path, ...]:
    """Return what was given as paths; those that are paths are not taken apart again."""
    return tuple(item if isinstance(item, Path) else Path(item) for item in items)


class View(Dataset):
    """A view of another dataset: of the same pictures, which are digested and compared once."""

    _dataset: Dataset

    @cached_property
    def image_digests(self) -> tuple[str, ...]:
        same = self.images == self._dataset.images
        return self._dataset.image_digests if same else super().image_digests

    @cached_property
    def ties(self) -> Ties:
        return self._dataset.ties

    def learn_ties(self, keeper: DigestKeeper) -> None:
        self._dataset.learn_ties(keeper)

    def require_unchanged(self) -> None:
        """Refuse what the dataset itself does: it may have digested the images."""
        super().require_unchanged()
        self._dataset.require_unchanged()


class _Shuffled(View):
    def __init__(self, dataset: Dataset, seed: int) -> None:
        super().__init__(name=f"{dataset.name[:91]}-shuffled", **{key: getattr(dataset, key) for key in FACTS})
        self._dataset, self.origin, self.layout = dataset, dataset.origin, dataset.layout
        random = np.random.RandomState(seed)
        training, test = random.permutation(self.n_training), random.permutation(self.n_test)
        self._order = np.concatenate([training, self.n_training + test]).astype(np.intp)

    def read_responses(self, rows: Rows) -> Array:
        return self._dataset.read_responses(self._order[rows])

    def read_repeats(self, rows: Rows) -> Array | None:
        return self._dataset.read_repeats(self._order[rows])

    def read_counts(self, rows: Rows) -> NDArray[Any] | None:
        return self._dataset.read_counts(self._order[rows])

    def content_digests(self) -> Mapping[str, str]:
        return {**self._dataset.content_digests(), "shuffled": digest.of_array(self._order)}

    def where(self, row: int) -> str:
        return self._dataset.where(int(self._order[row]))


FACTS = (
    "n_voxels", "images", "features", "n_training", "n_test", "test_images", "unit", "subject", "background",
    "orientation", "provenance", "source", "rois", "ncsnr", "noise_ceiling", "groups", "preparation",
    "stimuli", "columns", "splits", "files",
)  # fmt: skip


def shuffled(dataset: Dataset, seed: int) -> Dataset:
    """View a dataset with its responses permuted against its images: a control in which nothing can be predicted.

    Parameters
    ----------
    dataset : Dataset
        Left as it is.
    seed : int
        Seed of the two permutations, one within the training rows and one within the test rows.

    Returns
    -------
    Dataset
        Named ``NAME-shuffled``, with another digest.
    """
    return _Shuffled(dataset, seed)


def require_facts(dataset: Dataset) -> None:
    """Refuse a dataset whose class has not handed its facts to `Dataset`.

    Raises
    ------
    DataError
        If it has not.
    """
    if not all(hasattr(dataset, fact) for fact in ("name", *FACTS)):
        raise DataError(f"{type(dataset).__name__} must hand its facts to Dataset.__init__. It does not.")


def require_sound(dataset: Dataset) -> None:
    """Refuse, before any work starts, what `Dataset.check` calls an error: the looks are the same.

    Raises
    ------
    DataError
        For the first thing that is wrong: too few rows, no images and no features, a response that is not finite (with
        its file, row and voxel), responses that never change.

    Notes
    -----
    One pass over all responses and repeats, in blocks of some 16 MB. Images are not decoded here: they are as soon as
    their features are taken, which is before the first trial.
    """
    require_facts(dataset)
    dataset._require_enough()
    Refusal().look_at_numbers([dataset._section_of("training"), dataset._section_of("test")])
