"""BrainIO's assemblies, as Brain-Score has them: netCDF files of presentations, neuroids and time bins."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.datasets import _hdf5
from img2brain.datasets._about import safe_name
from img2brain.datasets._inside import member
from img2brain.datasets._links import is_there
from img2brain.datasets._split import Rows
from img2brain.datasets._tables import Table, few, read_table
from img2brain.datasets._trials import Recording, TrialDataset
from img2brain.errors import DataError, ShapeError, did_you_mean
from img2brain.spec import PreparationSpec

_AXES = ("presentation", "neuroid", "time_bin")
_STIMULUS = ("stimulus_id", "image_id", "hash_id")
_ANIMAL = ("animal", "subject")
_CATEGORY = ("object_name", "category_name", "category")
_FILE = ("filename", "image_file_name", "image_current_local_file_path")


class BrainIo(TrialDataset):
    """An assembly of BrainIO, assy_NAME.nc, with its stimuli, stimulus_NAME.csv and stimulus_NAME.zip.

    Notes
    -----
    ::

        assy_dicarlo.MajajHong2015.public.nc     `data` of presentation, neuroid and time_bin, in any order; coordinates
                                                 stimulus_id (or image_id), neuroid_id, region, animal
        stimulus_dicarlo.hvm-public.csv          stimulus_id (or image_id) and filename
        stimulus_dicarlo.hvm-public.zip          the images, flat; or the folder that `images` names

    The file is netCDF4, which is HDF5. Presentations of one stimulus are its repeats; several time bins are averaged.
    Of several assemblies `responses` names one. `subject` keeps the neuroids of one animal; all are kept without it.
    The column ``category`` is that of the object shown.
    """

    published = True

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Say whether there is an assembly, or this is one."""
        is_file = path.is_file() and path.name.startswith("assy_") and path.suffix == ".nc"
        return is_file or (path.is_dir() and any(path.glob("assy_*.nc")))

    @classmethod
    def subjects(cls, path: Path) -> tuple[str, ...]:
        """Name the animals; of several assemblies, those that all have."""
        found = [_animals(file) for file in ([path] if path.is_file() else sorted(path.glob("assy_*.nc")))]
        return tuple(sorted(set.intersection(*map(set, found)))) if found else ()

    @classmethod
    def record(cls, path: Path, asked: PreparationSpec) -> Recording:
        """Find the axes, the neuroids and the images of an assembly."""
        file = _assembly(path, asked.responses)
        with _hdf5.opened(file) as opened:
            data = _hdf5.array_of(opened, "data", file)
            axes, shape, dtype = _hdf5.axes_of(data), tuple(data.shape), data.dtype
            if set(axes) - set(_AXES) or not set(_AXES[:2]) <= set(axes):
                raise DataError(
                    f"'data' of {str(file)!r} must be of presentation, neuroid and time_bin. It is of {axes}."
                )
            stimuli = _coordinate(opened, file, "presentation", _STIMULUS, shape[axes.index("presentation")])
            n_neuroids = shape[axes.index("neuroid")]
            regions = _coordinate(opened, file, "neuroid", ("region",), n_neuroids, optional=True)
            animals = _coordinate(opened, file, "neuroid", _ANIMAL, n_neuroids, optional=True)
            kinds = _coordinate(opened, file, "presentation", _CATEGORY, len(stimuli), optional=True)
            told = data.attrs.get("stimulus_set_identifier", opened.attrs.get("stimulus_set_identifier", ""))
        kept = _of_animal(animals, asked.subject, n_neuroids, file)
        table = _stimuli(file.parent, str(told))
        images = _images(table, asked.images, stimuli)
        kinds = _categories(table, stimuli) if kinds is None else kinds
        name = file.stem.removeprefix("assy_")
        notes = {"neuroids": f"{len(kept)} of {n_neuroids}, those of {asked.subject}"} if asked.subject else {}
        n_bins = shape[axes.index("time_bin")] if "time_bin" in axes else 1
        notes |= {"time bins": f"mean over {n_bins}"} if n_bins > 1 else {}
        names = [] if regions is None else [regions[voxel] for voxel in kept]
        return Recording(
            name=safe_name(f"{name}-{asked.subject}" if asked.subject else name),
            images=[images[stimulus] for stimulus in stimuli],
            n_voxels=len(kept),
            read=_reader(file, axes, kept),
            where=lambda trial: f"{str(file)!r}, presentation {trial}",
            dtype=dtype,
            rois={region: np.array([place for place, item in enumerate(names) if item == region], dtype=np.intp)
                  for region in dict.fromkeys(names) if region},
            stimuli=stimuli,
            columns={} if kinds is None else {"category": kinds},
            files=(file,),
            facts={"subject": asked.subject or "", "source": file.parent.resolve().name},
            notes=notes,
        )  # fmt: skip


COMPONENT = BrainIo


def _assembly(path: Path, asked: str | None) -> Path:
    if path.is_file():
        return path
    found = {file.stem.removeprefix("assy_"): file for file in sorted(path.glob("assy_*.nc"))}
    if asked is not None and asked not in found:
        raise DataError(f"{str(path)!r} holds no assembly {asked!r}. {did_you_mean(asked, found)}")
    if asked is None and len(found) > 1:
        raise DataError(
            f'{str(path)!r} holds {len(found)} assemblies ({few(found)}): say which, as in responses = "{min(found)}".'
        )
    return found[asked] if asked is not None else next(iter(found.values()))


def _coordinate(
    opened: Any, file: Path, axis: str, names: tuple[str, ...], n_items: int, *, optional: bool = False
) -> Any:
    """Read the first of some coordinates along an axis; those of a multi-index are arrays of their own."""
    name = next((item for item in names if item in opened), None)
    if name is None and optional:
        return None
    if name is None:
        raise DataError(
            f"{str(file)!r} must tell {' or '.join(map(repr, names))} of each {axis}. It has "
            f"{few(_hdf5.names_of(opened), 12)}."
        )
    found = _hdf5.texts(opened, _hdf5.array_of(opened, name, file))
    if len(found) != n_items:
        raise ShapeError(f"{name!r} of {str(file)!r} must have a value for each of {n_items}. It has {len(found)}.")
    return found


def _animals(file: Path) -> list[str]:
    """Name the animals of an assembly, none where it does not tell."""
    with _hdf5.opened(file) as opened:
        data = _hdf5.array_of(opened, "data", file)
        n_neuroids = dict(zip(_hdf5.axes_of(data), data.shape, strict=True)).get("neuroid", 0)
        return list(_coordinate(opened, file, "neuroid", _ANIMAL, n_neuroids, optional=True) or ())


def _of_animal(animals: Any, subject: str | None, n_neuroids: int, file: Path) -> Rows:
    """Return the neuroids of the animal that is asked for; all without one."""
    if subject is None:
        return np.arange(n_neuroids, dtype=np.intp)
    known = sorted(set(animals or ()))
    if subject not in known:
        raise DataError(f"{str(file)!r} has no animal {subject!r}. {did_you_mean(subject, known)}")
    return np.array([place for place, animal in enumerate(animals) if animal == subject], dtype=np.intp)


def _reader(file: Path, axes: tuple[str, ...], kept: Rows) -> Any:
    order = [axes.index(name) for name in _AXES if name in axes]
    take = _hdf5.reader(file, "data", order[0])

    def read(trials: Rows) -> NDArray[Any]:
        found = np.transpose(take(trials), order)
        return (found.mean(axis=2) if found.ndim == 3 else found)[:, kept]

    return read


def _stimuli(folder: Path, told: str) -> Table:
    """Read the table of the stimulus set."""
    tables = [file for file in sorted(folder.glob("stimulus_*.csv")) if not told or told in file.name]
    if len(tables) != 1:
        raise DataError(
            f"{str(folder)!r} must hold one table of stimuli, stimulus_{told or 'NAME'}.csv. It holds {len(tables)}."
        )
    return read_table(tables[0])


def _categories(table: Table, stimuli: list[str]) -> list[str] | None:
    """Return the category of each presentation, where the table of stimuli tells it."""
    told = table.optional(*_CATEGORY)
    known = dict(zip(table.column(*_STIMULUS), told, strict=True)) if told else {}
    return [known.get(stimulus, "") for stimulus in stimuli] if known else None


def _images(table: Table, apart: Path | None, stimuli: list[str]) -> dict[str, Path]:
    """Find the image of each stimulus: by the table of the stimulus set, in its archive or in a folder."""
    files = dict(zip(table.column(*_STIMULUS), table.column(*_FILE), strict=True))
    absent = sorted(set(stimuli) - set(files))
    if absent:
        raise DataError(
            f"{table.label} must tell the file of each stimulus. {len(absent)} are not in it: {few(absent)}."
        )
    wanted = {stimulus: re.split(r"[/\\]", files[stimulus])[-1] for stimulus in set(stimuli)}
    if apart is not None:
        return _there({stimulus: apart / name for stimulus, name in wanted.items()}, apart)
    archive = table.path.with_suffix(".zip")
    if not is_there(archive):
        raise DataError(f'The images must be in {str(archive)!r}, or in a folder: images = "FOLDER".')
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {name.rpartition("/")[2]: name for name in opened.namelist() if not name.endswith("/")}
    except zipfile.BadZipFile as error:
        raise DataError(f"{str(archive)!r} must be a zip archive. Got: {error}.") from error
    missing = sorted(set(wanted.values()) - set(members))
    if missing:
        raise DataError(f"{str(archive)!r} must hold each image. {len(missing)} are not in it: {few(missing)}.")
    return {stimulus: member(archive, members[name]) for stimulus, name in wanted.items()}


def _there(images: dict[str, Path], folder: Path) -> dict[str, Path]:
    absent = [image.name for image in images.values() if not image.is_file()]
    if absent:
        raise DataError(f"{str(folder)!r} must hold each image. {len(absent)} are not in it: {few(absent)}.")
    return images
