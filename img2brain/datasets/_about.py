"""What a folder says beside images and responses: ``dataset.toml``, ``rois.json`` and the ceilings of its voxels."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from img2brain.datasets._responses import open_array
from img2brain.datasets._split import Rows
from img2brain.errors import DataError, ShapeError, SpecError
from img2brain.spec import NAME_PATTERN, Spec, parse

Array = NDArray[Any]
Guard = Callable[[], AbstractContextManager[Any]]  # raises what it finds, or keeps it and goes on


class About(Spec):
    """What ``dataset.toml`` may say. Names become file names and texts are printed, hence the patterns."""

    name: str = Field(default="dataset", pattern=NAME_PATTERN, max_length=100)
    unit: str = Field(default="a.u.", pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)
    subject: str = Field(default="", pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200)


def read_per_voxel(path: Path, n_voxels: int, most: float) -> Array | None:
    """Read one number in 0..`most` per voxel, or None where there is no file."""
    if not path.exists():
        return None
    values = open_array(path, ("voxels",)).astype(np.float64)
    if len(values) != n_voxels:
        raise ShapeError(f"{str(path)!r} must have shape ({n_voxels},), one value per voxel. Got {values.shape}.")
    bad = np.flatnonzero((values < 0) | (values > most) | np.isinf(values))  # NaN: not known for this voxel
    if len(bad):
        allowed = ">= 0" if np.isinf(most) else f"in 0..{most:g} (explained variance)"
        raise DataError(f"{str(path)!r} must be {allowed}, or NaN. Got {values[bad[0]]} for voxel {bad[0]}.")
    return values


def read_rois(path: Path, n_voxels: int, guard: Guard) -> dict[str, Rows]:
    """Read the regions of interest as sorted voxel indices; none where there is no file. Each is guarded by itself."""
    found: dict[str, Rows] = {}
    for name, roi in _read_regions(path).items():
        with guard():
            found[name] = _read_roi(f"The region {name!r} of {str(path)!r}", roi, n_voxels)
    return found


def _read_regions(path: Path) -> dict[str, object]:
    if not path.exists():
        return {}
    try:
        rois = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{str(path)!r} must be JSON: name -> voxel indices or mask. Got: {error}.") from error
    if not isinstance(rois, dict):
        raise DataError(f"{str(path)!r} must be an object, name -> voxel indices or mask. Got {type(rois).__name__}.")
    return rois


def _read_roi(label: str, roi: object, n_voxels: int) -> Rows:
    kinds = {type(value) for value in roi} if isinstance(roi, list) else set()
    if not isinstance(roi, list) or kinds not in ({int}, {bool}):
        raise DataError(f"{label} must be a list of voxel indices, or a mask of true and false with a true in it.")
    if kinds == {bool} and len(roi) != n_voxels:
        raise ShapeError(f"{label} must be a mask of {n_voxels} voxels. Got {len(roi)}.")
    voxels = [voxel for voxel, inside in enumerate(roi) if inside] if kinds == {bool} else sorted(roi)
    outside = [voxel for voxel in voxels if not 0 <= voxel < n_voxels]
    if outside or not voxels:
        found = outside[0] if outside else "none"
        raise DataError(f"{label} must hold voxels of 0..{n_voxels - 1}. Got {found}.")
    if len(set(voxels)) < len(voxels):
        raise DataError(f"{label} must hold each voxel once. A mask is written with true and false.")
    return np.array(voxels, dtype=np.intp)


def read_about(root: Path) -> About:
    """Read ``dataset.toml``; without one, or without a name in it, the folder's name serves."""
    path = root / "dataset.toml"
    return parse(About, {"name": _safe_name(root), **_read_toml(path)}, str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(f"{str(path)!r} must be TOML. Got: {error}.") from error


def _safe_name(root: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", root.resolve().name).lstrip("._-")[:100] or "dataset"
