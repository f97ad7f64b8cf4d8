"""Libraries that only some layouts need, and what to install where one is absent."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from img2brain.errors import DataError

_EXTRAS = {"h5py": "hdf5", "nibabel": "nifti", "zarr": "zarr"}


def needed(library: str, path: Path) -> Any:
    """Import a library that a file needs.

    Raises
    ------
    DataError
        If it is not installed.
    """
    try:
        return importlib.import_module(library)
    except ImportError:
        extra = _EXTRAS[library]
        raise DataError(
            f"Reading {str(path)!r} needs the package {library!r}. Install it with the extra {extra!r}: "
            f"pip install 'img2brain[{extra}]', or uv sync --extra {extra}."
        ) from None
