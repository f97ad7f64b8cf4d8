"""Catalogs: a component is a file in a folder, its name is the file's name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cached_property
from pathlib import Path
from typing import Any

from img2brain.errors import UnknownComponentError


class Catalog:
    """The components of one kind, found by looking into their folder.

    A module of the folder whose name does not start with an underscore holds one component, as `COMPONENT`. Listing the
    names imports nothing; a module is imported when its component is asked for.

    Parameters
    ----------
    kind : str
        What messages call a component, such as ``"regressor"``.
    folder : str
        The name inside the package, such as ``"regressors"``.

    Examples
    --------
    >>> "ridge" in Catalog("regressor", "regressors").names
    True
    """

    def __init__(self, kind: str, folder: str) -> None:
        self.kind = kind
        self.folder = folder

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all components, sorted."""
        path = Path(__file__).parent / self.folder
        found = (module.name for module in pkgutil.iter_modules([str(path)]))
        return tuple(sorted(name for name in found if not name.startswith("_")))

    def check(self, name: str) -> str:
        """Return `name`, or raise `UnknownComponentError` with the close matches."""
        if name not in self.names:
            raise UnknownComponentError(self.kind, name, self.names)
        return name

    def __getitem__(self, name: str) -> Any:
        """Import and return the component called `name`."""
        module = importlib.import_module(f"img2brain.{self.folder}.{self.check(name)}")
        return module.COMPONENT
