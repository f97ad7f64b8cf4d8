"""Libraries that are extras of this package: imported when a network of theirs is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from img2brain._quiet import ignored
from img2brain.errors import FeatureError


def imported(module: str, extra: str) -> Any:
    """Import a library.

    Raises
    ------
    FeatureError
        Saying how to install it, where it is absent.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise FeatureError(
            f"Networks of {extra} need the package {module.partition('.')[0]}, which is not installed: "
            f"pip install 'img2brain[{extra}]', or uv sync --extra {extra}."
        )
    with ignored():
        return importlib.import_module(module)


def version_of(package: str) -> str:
    """Return the version of a package; nothing where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
