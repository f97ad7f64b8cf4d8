"""Writing a dataset of any layout as a plain folder: the same rows with the same numbers, bit for bit."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from img2brain import untrusted
from img2brain.beside import link_or_copy, require_free, require_room, whole
from img2brain.datasets._contents import image_folder, responses_file
from img2brain.datasets._development import row_blocks
from img2brain.datasets._images import SUFFIXES, open_image, size_of
from img2brain.datasets._inside import content_of, name_of
from img2brain.datasets._layouts import open_dataset
from img2brain.datasets._order import LISTING
from img2brain.datasets._split import Rows
from img2brain.datasets.base import Dataset
from img2brain.datasets.folder import STIMULUS, FolderDataset
from img2brain.errors import DataError, ShapeError, SpecError
from img2brain.progress import track

Array = NDArray[Any]
Read = Callable[[Rows], Array | None]

_JPEG = b"\xff\xd8"
_APART = Path("otherIMG")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """The rows of the training or the test part."""

    name: str
    rows: Rows


def convert_dataset(
    path: Path | str, out: Path | str, layout: str | None = None, *, link: bool = False, **asked: Any
) -> Path:
    """Write a dataset of any layout as a plain folder, which opens to the same numbers bit for bit.

    Parameters
    ----------
    path : Path or str
        A folder, or a file where the layout is one of files.
    out : Path or str
        The folder that is written: absent or empty. It is there whole or not at all.
    layout, **asked
        As for `open_dataset`: what is asked for is done once and for all.
    link : bool
        Whether image files are linked (hard links, on one disk) rather than copied.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    DataError
        If something is at `out`, or the dataset does not open or cannot be a plain folder.
    ResourceError
        If the disk has no room for it.

    Notes
    -----
    Responses and repeats are read and written in blocks of some 16 MB. Image files stay byte for byte as they are;
    pictures inside of HDF5 files and arrays become PNG files of the same pixels. ``images.csv`` says which row each
    belongs to, its stimulus and its columns, unless a row has several values of one; each split that the layout brings
    is a column there. Test images without responses are in ``otherIMG`` where there are others with responses.
    Provenance and preparation are in ``dataset.toml``.
    """
    out = Path(out)
    require_free(out)
    dataset = open_dataset(path, layout, **asked)
    plan = _Plan(dataset, link=link)
    require_room(out.parent, plan.n_bytes, f"The folder {str(out)!r}")
    with whole(out) as folder:
        plan.write(folder)
        FolderDataset.open(folder)  # what was written must open, before it takes its place
    return out


class _Plan:
    """What a plain folder of a dataset will hold."""

    def __init__(self, dataset: Dataset, *, link: bool) -> None:
        self.dataset, self.link = dataset, link
        n_training, n_images = dataset.n_training, dataset.n_images
        training, test = np.arange(n_training), np.arange(n_training, n_images)
        self.parts = [_Part("training", training)] + ([_Part("test", test)] if len(test) else [])
        self.pictures = _pictures(dataset)
        self.arrays = [
            _Rows(responses_file(Path(), part.name, kind), part.rows, dataset.n_voxels, read, first)
            for kind, read in (("", dataset._responses), ("_repeats", dataset._repeats))
            for part in self.parts
            if (first := read(part.rows[:1])) is not None
        ]

    @property
    def n_bytes(self) -> int:
        """How much is written, at most."""
        return sum(array.n_bytes for array in self.arrays) + _size_of_pictures(self.pictures, link=self.link)

    def write(self, folder: Path) -> None:
        """Write all of it into an empty folder."""
        for array in self.arrays:
            array.write(folder)
        for part in self.parts:
            self._write_facts_of_rows(folder, part)
        self._write_facts_of_voxels(folder)
        _write_pictures(folder, self.pictures, link=self.link)
        if self.pictures:
            _write_listing(folder / LISTING, self.pictures, _cells(self.dataset))
        (folder / "dataset.toml").write_text("\n".join(_about(self.dataset)) + "\n", encoding="utf-8")

    def _write_facts_of_rows(self, folder: Path, part: _Part) -> None:
        counts = self.dataset._counts(part.rows)
        if counts is not None and counts.all():  # a row without a repeat is told by its repeats alone
            np.save(folder / responses_file(Path(), part.name, "_counts"), counts)
        if self.dataset.groups is not None:
            np.save(folder / responses_file(Path(), part.name, "_groups"), self.dataset.groups[part.rows])
        names = [f"{name}.npy" for name in self.dataset.features]
        untrusted.check_names(names, f"The features of {self.dataset.name!r}")
        for name, matrix in zip(names, self.dataset.features.values(), strict=True):
            target = folder / f"{part.name}Features" / name
            target.parent.mkdir(exist_ok=True)
            np.save(target, matrix[part.rows])

    def _write_facts_of_voxels(self, folder: Path) -> None:
        for name in ("ncsnr", "noise_ceiling"):
            if (values := getattr(self.dataset, name)) is not None:
                np.save(folder / f"{name}.npy", values)
        if self.dataset.rois:
            regions = {name: voxels.tolist() for name, voxels in self.dataset.rois.items()}
            (folder / "rois.json").write_text(json.dumps(regions) + "\n", encoding="utf-8")


class _Rows:
    """An array whose first axis is rows, which is read and written block by block."""

    def __init__(self, place: Path, rows: Rows, n_voxels: int, read: Read, first: Array) -> None:
        self._place, self._rows, self._n_voxels, self._read = place, rows, n_voxels, read
        self._shape, self._dtype = (len(rows), *first.shape[1:]), first.dtype

    @property
    def n_bytes(self) -> int:
        return int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize

    def write(self, folder: Path) -> None:
        """Write a .npy file."""
        target = folder / self._place
        target.parent.mkdir(exist_ok=True)
        blocks = list(row_blocks(self._rows, int(np.prod(self._shape[1:]))))
        header = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": self._shape}
        with target.open("xb") as stream:
            npy.write_array_header_2_0(stream, header)
            for rows in track(blocks, len(blocks), f"writing {self._place.name}"):
                stream.write(np.ascontiguousarray(self._block(rows)).data)

    def _block(self, rows: Rows) -> Array:
        found = self._read(rows)
        if found is None or (found.shape[1:], found.dtype) != (self._shape[1:], self._dtype):
            got = "none" if found is None else f"{found.dtype} of shape {found.shape}"
            raise ShapeError(
                f"All rows of {self._place.name!r} must be {self._dtype} of shape {self._shape[1:]}, as the first is. "
                f"Got {got} from row {rows[0]}."
            )
        return found


@dataclass(frozen=True)
class _Picture:
    """A picture, where it goes, and its row there."""

    source: Path
    place: Path
    row: int


def _pictures(dataset: Dataset) -> list[_Picture]:
    """Say where each picture goes; test images without responses apart from those with."""
    with_responses = set(dataset.images)
    others = [image for image in dataset.test_images if image not in with_responses]
    apart = _APART if dataset.n_test else image_folder(Path(), "test")
    folders = {
        image_folder(Path(), "training"): dataset.images[: dataset.n_training],
        image_folder(Path(), "test"): dataset.images[dataset.n_training :],
        **({apart: others} if others else {}),
    }
    return [
        _Picture(image, folder / name, row)
        for folder, images in folders.items()
        for row, (image, name) in enumerate(zip(images, _names(images), strict=True))
    ]


def _names(images: Sequence[Path]) -> list[str]:
    """Name the files of a part as they were called, or by their rows where that is not possible."""
    own = [_name(image) for image in images]
    numbered = [f"{row:06}-{name}" for row, name in enumerate(own)]
    plain = (names for names in (own, numbered) if _are_plain(names))
    return next(plain, [f"{row:06}{Path(name).suffix}" for row, name in enumerate(own)])


def _name(image: Path) -> str:
    name = name_of(image)
    return name if Path(name).suffix.lower() in SUFFIXES else f"{name}{_ending(image)}"


def _ending(image: Path) -> str:
    """Return the ending of a picture whose name tells none."""
    content = content_of(image)
    if isinstance(content, Path):
        with content.open("rb") as stream:
            content = stream.read(len(_JPEG))
    return ".jpg" if isinstance(content, bytes) and content.startswith(_JPEG) else ".png"


def _are_plain(names: Sequence[str]) -> bool:
    try:
        untrusted.check_names(names, "a folder")
    except DataError:
        return False
    return not any(name.startswith(".") for name in names)


def _size_of_pictures(pictures: Sequence[_Picture], *, link: bool) -> int:
    """Add up the files, and for pictures inside of others as many pixels as the first of them has."""
    files = {picture.source for picture in pictures}
    n_bytes, inside = 0, []
    for file in files:
        if file.suffix != ".npy" and file.is_file():
            n_bytes += 0 if link else file.stat().st_size
        else:
            inside.append(file)
    if not inside:
        return n_bytes
    width, height = size_of(min(inside))
    return n_bytes + 3 * width * height * len(inside)


def _write_pictures(folder: Path, pictures: Sequence[_Picture], *, link: bool) -> None:
    """Write each picture once, and list whose row it is; one that several rows show is linked."""
    firsts: dict[Path, _Picture] = {}
    for picture in pictures:
        (folder / picture.place).parent.mkdir(exist_ok=True)
        firsts.setdefault(picture.source, picture)

    def write(picture: _Picture) -> None:
        _write_picture(picture.source, folder / picture.place, link=link)

    with ThreadPoolExecutor() as pool:
        for _ in track(pool.map(write, firsts.values()), len(firsts), "writing images"):
            pass
    for picture in pictures:
        if (first := firsts[picture.source]) is not picture:
            link_or_copy(folder / first.place, folder / picture.place)


def _write_picture(source: Path, target: Path, *, link: bool) -> None:
    content = content_of(source)
    if isinstance(content, Path):
        (link_or_copy if link else shutil.copyfile)(content.resolve(), target)
    elif isinstance(content, bytes):
        target.write_bytes(content)
    else:
        open_image(content).save(target, format="PNG")


def _write_listing(path: Path, pictures: Sequence[_Picture], cells: Mapping[str, Sequence[str]]) -> None:
    """List the pictures of rows, those with responses first, and what is known of each row."""
    listed = [picture for picture in pictures if picture.place.parent != _APART]
    with path.open("x", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["file", "row", *cells])
        for number, picture in enumerate(listed):
            known = [column[number] if number < len(column) else "" for column in cells.values()]
            lines.writerow([picture.place.as_posix(), picture.row, *known])


def _cells(dataset: Dataset) -> dict[str, list[str]]:
    """Return what is known of each row as columns of a table: its stimulus, its columns, the splits of its layout."""
    found = {} if dataset.stimuli is None else {STIMULUS: list(dataset.stimuli)}
    for name, column in dataset.columns.items():
        if any(len(values) > 1 for values in column):
            log.info("the column %r is left out: some rows have several values of it", name)
        elif name != "group" or dataset.groups is None:  # which has a file of its own
            found[name] = [values[0] if values else "" for values in column]
    return found | dict(_splits(dataset))


def _splits(dataset: Dataset) -> Iterator[tuple[str, list[str]]]:
    """Yield the splits that a layout brings, each as a column of the same name."""
    for name, parts in dataset.splits.items():
        try:
            yield name, list(map(str, parts()))
        except (DataError, SpecError) as error:
            log.info("the split %r is left out: %s", name, error)


def _about(dataset: Dataset) -> Iterator[str]:
    """Yield the lines of ``dataset.toml``."""
    for key in ("name", "unit", "subject", "background", "orientation"):
        yield f"{key} = {_text(getattr(dataset, key))}"
    told = {key: value for key, value in dataset.provenance.model_dump().items() if value}
    yield from _table("provenance", told)
    yield from _table("preparation", dataset.preparation)


def _table(name: str, texts: Mapping[str, str]) -> Iterator[str]:
    if texts:
        yield f"\n[{name}]"
        yield from (f"{_text(key)} = {_text(value)}" for key, value in texts.items())


def _text(text: str) -> str:
    """Write a text as TOML does, which takes JSON's escapes of what is not printed."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
