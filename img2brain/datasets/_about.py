"""What a folder says beside images and responses: ``dataset.toml``, ``rois.json`` and the ceilings of its voxels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from img2brain import plain
from img2brain.datasets._facts import About, require_per_voxel, require_region, require_region_name
from img2brain.datasets._links import is_there
from img2brain.datasets._responses import open_array
from img2brain.datasets._split import Rows
from img2brain.errors import DataError, SpecError
from img2brain.spec import parse

A = TypeVar("A", bound=About)
Guard = Callable[[], AbstractContextManager[Any]]  # raises what it finds, or keeps it and goes on


def read_per_voxel(path: Path, n_voxels: int, most: float) -> NDArray[np.float64] | None:
    """Read one number in 0..`most` per voxel, or None where there is no file."""
    if not is_there(path):
        return None
    return require_per_voxel(repr(str(path)), open_array(path, ("voxels",)), n_voxels, most)


def read_rois(path: Path, n_voxels: int, guard: Guard) -> dict[str, Rows]:
    """Read the regions of interest as sorted voxel indices; none where there is no file. Each is guarded by itself."""
    found: dict[str, Rows] = {}
    for name, roi in _read_regions(path).items():
        with guard():
            require_region_name(repr(str(path)), name)
            found[name] = _read_roi(f"The region {name!r} of {str(path)!r}", roi, n_voxels)
    return found


def _read_regions(path: Path) -> dict[str, object]:
    if not is_there(path):
        return {}
    twice: list[str] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        """Note what comes twice: of two values JSON keeps the last one without a word."""
        counts = Counter(name for name, _ in pairs)
        twice.extend(name for name, count in counts.items() if count > 1)
        return dict(pairs)

    try:
        rois = plain.of_json(path.read_text(encoding="utf-8"), once)
    except ValueError as error:
        raise DataError(f"{str(path)!r} must be JSON: name -> voxel indices or mask. Got: {error}.") from error
    if twice:
        raise DataError(f"{str(path)!r} must name each region once. Got {twice[0]!r} twice.")
    if not isinstance(rois, dict):
        raise DataError(f"{str(path)!r} must be an object, name -> voxel indices or mask. Got {type(rois).__name__}.")
    return rois


def _read_roi(label: str, roi: object, n_voxels: int) -> Rows:
    kinds = {type(value) for value in roi} if isinstance(roi, list) else set()
    if not isinstance(roi, list) or kinds not in ({int}, {bool}):
        raise DataError(f"{label} must be a list of voxel indices, or a mask of true and false with a true in it.")
    return require_region(label, roi, n_voxels)


class FolderAbout(About):
    """What ``dataset.toml`` may say."""

    order: Literal["name", "natural"] | None = None
    preparation: Mapping[str, str] = {}


def read_about(root: Path, kind: type[A] = FolderAbout) -> A:  # type: ignore[assignment]
    """Read ``dataset.toml``; without one, or without a name in it, the folder's name serves."""
    path = root / "dataset.toml"
    return parse(kind, {"name": safe_name(root.resolve().name), **_read_toml(path)}, str(path))


def _read_toml(path: Path) -> dict[str, Any]:
    if not is_there(path):
        return {}
    try:
        return plain.of_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SpecError(f"{str(path)!r} must be TOML. Got: {error}.") from error


def safe_name(text: str) -> str:
    """Return a text as a dataset may be called."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip("._-")[:100] or "dataset"
