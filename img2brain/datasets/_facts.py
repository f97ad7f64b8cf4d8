"""The rules for what is said of a dataset beside its responses: its texts, regions, ceilings and features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator

from img2brain._mapped import release
from img2brain.datasets._presentation import BACKGROUND, BACKGROUND_PATTERN, Orientation, Presentation
from img2brain.datasets._responses import as_array, steps
from img2brain.datasets._split import Rows
from img2brain.errors import DataError, ShapeError
from img2brain.spec import NAME_PATTERN, Spec

Array = NDArray[Any]

_TEXT_PATTERN = r"^[^\x00-\x1f\x7f]*$"
_TEXT = "be one line of printable text"
_COLOUR = f"be a colour such as '{BACKGROUND}', in small letters"
_NAME = "start with a letter or digit, and hold letters, digits, '.', '_' and '-' only"
_OF_MLFLOW = "Default"  # the experiment of runs that belong to none
_WHOLE = "all"  # what tables call all voxels
_LONGEST_REGION = 200


def _one_line(longest: int = 200) -> Any:
    """Describe a text that may be empty."""
    return Field(default="", pattern=_TEXT_PATTERN, max_length=longest, description=_TEXT)


class Provenance(Spec):
    """What readers of a result ask about its data, each in one line; nothing that is computed depends on it.

    Attributes
    ----------
    species, area, licence, url, citation : str
        Whose responses they are, from where, how they may be used, where they are published, and how to cite them.
    """

    species: str = _one_line()
    area: str = _one_line()
    licence: str = _one_line()
    url: str = _one_line()
    citation: str = _one_line(2000)


class About(Spec):
    """What is said of a dataset in words. Names become file names and texts are printed, hence the patterns."""

    name: str = Field(default="dataset", pattern=NAME_PATTERN, max_length=100, description=_NAME)
    unit: str = Field(default="a.u.", pattern=_TEXT_PATTERN, max_length=200, description=_TEXT)
    subject: str = Field(default="", pattern=_TEXT_PATTERN, max_length=200, description=_TEXT)
    background: str = Field(default=BACKGROUND, pattern=BACKGROUND_PATTERN, description=_COLOUR)
    orientation: Orientation = "stored"
    provenance: Provenance = Provenance()

    @property
    def presentation(self) -> Presentation:
        """How the pictures were shown."""
        return Presentation(self.background, self.orientation)

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name == _OF_MLFLOW:
            raise ValueError(f'{name!r} is MLflow\'s own. Write another one, such as name = "{name.lower()}-data"')
        return name


def require_per_voxel(label: str, values: ArrayLike, n_voxels: int, most: float) -> NDArray[np.float64]:
    """Return one number in 0..`most`, or NaN where it is not known, per voxel.

    Raises
    ------
    DataError
        If a number is out of range; if there is not one per voxel, a `ShapeError`.
    """
    found = as_array(label, values)
    if found.shape != (n_voxels,):
        raise ShapeError(f"{label} must have shape ({n_voxels},), one value per voxel. Got {found.shape}.")
    if found.dtype.kind not in "fiu":
        raise DataError(f"{label} must hold numbers. Got {found.dtype}.")
    numbers = found.astype(np.float64)
    bad = np.flatnonzero((numbers < 0) | (numbers > most) | np.isinf(numbers))
    if len(bad):
        allowed = ">= 0" if np.isinf(most) else f"in 0..{most:g} (explained variance)"
        raise DataError(f"{label} must be {allowed}, or NaN. Got {numbers[bad[0]]} for voxel {bad[0]}.")
    return numbers


def require_region_name(label: str, name: str) -> None:
    """Refuse a name of a region that no table can show: the empty text and ``all`` stand for all voxels.

    Raises
    ------
    DataError
        If the name is no text, empty, blank at an end, too long, not printable, or ``all``.
    """
    if not isinstance(name, str) or not name:
        raise DataError(f"{label} must give each region a name. Got {name!r}.")
    if name == _WHOLE:
        raise DataError(f"{label} must not call a region {name!r}: all voxels are called so.")
    if len(name) > _LONGEST_REGION or not name.isprintable() or name != name.strip():
        raise DataError(
            f"{label} must call each region by at most {_LONGEST_REGION} printable characters, none of them blank at "
            f"an end. Got {name[:40]!r}, {len(name)} characters."
        )


def require_region(label: str, region: ArrayLike, n_voxels: int) -> Rows:
    """Return the voxels of a region, sorted, from their indices or a mask.

    Raises
    ------
    DataError
        If it holds none, one that is not there or one twice; if a mask has another length, a `ShapeError`.
    """
    voxels = as_array(label, region)
    if voxels.dtype == bool:
        if voxels.shape != (n_voxels,):
            raise ShapeError(f"{label} must be a mask of {n_voxels} voxels. Got {voxels.size}.")
        voxels = np.flatnonzero(voxels)
    if voxels.ndim != 1 or (voxels.size and voxels.dtype.kind not in "iu"):
        raise DataError(f"{label} must be a list of voxel indices, or a mask of true and false with a true in it.")
    outside = voxels[(voxels < 0) | (voxels >= n_voxels)]
    if outside.size or not voxels.size:
        raise DataError(f"{label} must hold voxels of 0..{n_voxels - 1}. Got {outside[0] if outside.size else 'none'}.")
    if len(np.unique(voxels)) < len(voxels):
        raise DataError(f"{label} must hold each voxel once. A mask is written with true and false.")
    return np.sort(voxels).astype(np.intp)


def require_features(label: str, matrix: ArrayLike, n_images: int) -> Array:
    """Return a matrix of features (n_images, n_features).

    Raises
    ------
    DataError
        If a value is not a finite number; if there is not one row per image, a `ShapeError`.
    """
    found = as_array(label, matrix)
    if found.ndim != 2 or len(found) != n_images:
        raise ShapeError(f"{label} must have shape ({n_images}, features), a row for each image. Got {found.shape}.")
    if found.dtype.kind not in "fiu" or not all(np.isfinite(block).all() for block in _blocks(found)):
        raise DataError(f"{label} must be finite numbers. They are not.")
    return found


def is_constant(matrix: Array) -> bool:
    """Tell whether all rows of a matrix are equal."""
    first = np.array(matrix[:1])
    return all((block == first).all() for block in _blocks(matrix))


def _blocks(matrix: Array) -> Iterator[Array]:
    """Yield a matrix in blocks of rows, so that no more is held of one that is mapped to a file."""
    for start, stop in steps(matrix.shape):
        yield matrix[start:stop]
        release(matrix)


def require_groups(label: str, groups: ArrayLike, n_images: int) -> Array:
    """Return the group of each image, an integer or a text.

    Raises
    ------
    DataError
        If one is neither, or they are of both kinds; if there is not one per image, a `ShapeError`.
    """
    found = as_array(label, groups)
    if found.shape != (n_images,):
        raise ShapeError(f"{label} must have shape ({n_images},), the group of each image. Got {found.shape}.")
    if found.dtype.kind == "O" and all(isinstance(group, str) for group in found):
        found = found.astype(np.str_)
    if found.dtype.kind not in "iuU":
        raise DataError(f"{label} must be integers or texts. Got {found.dtype}.")
    return found
