"""Catalogs: where components come from, ours and those of others.

A component has one of three kinds of names:

- the name of a file in its folder of this package, such as ``ridge``;
- the name of an entry point of an installed package, in the group ``img2brain.FOLDER``;
- ``PATH.py:NAME``, a class in a file. From there on it is called ``FILE.py:NAME``, without the folders of a machine.

A file of functions that build networks, or a module of an installed package that holds such functions, is a library
of networks as a whole: ``PATH.py``, ``package.module``.
"""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from img2brain import digest, plain
from img2brain.errors import SpecError, UnknownComponentError, did_you_mean

_FILE = ".py:"
_WHOLE = ".py"
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True)
class Plugin:
    """A component that is not ours: where it comes from, and its code by digest.

    Attributes
    ----------
    kind : str
        What it is, such as ``"regressor"``.
    name : str
        ``FILE.py:NAME``, or the name of an entry point.
    digest : str
        Of the bytes of its file.
    path : Path
        Its file on this machine.
    content : bytes
        What that held when the component was loaded.
    """

    kind: str
    name: str
    digest: str
    path: Path
    content: bytes = field(repr=False, compare=False)

    @classmethod
    def of(cls, kind: str, name: str, path: Path) -> Plugin:
        """Read the file of a component, once: what is run, digested and kept is the same, whoever edits it."""
        content = path.read_bytes()
        return cls(kind, name, digest.of_bytes(content), path, content)

    def keep(self, folder: Path) -> None:
        """Keep the file in a folder, under its digest, as `Catalog.exactly` looks for it."""
        target = folder / self.digest / self.path.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.unfinished")
            unfinished.write_bytes(self.content)
            unfinished.replace(target)


class Catalog:
    """The components of one kind.

    A module of the folder whose name does not start with an underscore, and is not ``base``, holds one component, as
    `COMPONENT`. Listing the names imports nothing; a module is imported when its component is asked for.

    Parameters
    ----------
    kind : str
        What messages call a component, such as ``"regressor"``.
    folder : str
        The name inside the package, such as ``"regressors"``.
    base : str
        The class that every component extends, such as ``"img2brain.regressors.base:Regressor"``.
    instances : bool
        Whether a component is an object of such a class; a class of others is then called without arguments.
    whole : str, optional
        What makes a component of all that a file or module holds, such as ``"img2brain.backbones._own:Factories"``.

    Examples
    --------
    >>> "ridge" in REGRESSORS.names
    True
    """

    def __init__(self, kind: str, folder: str, base: str, *, instances: bool = False, whole: str | None = None) -> None:
        self.kind = kind
        self.folder = folder
        self._base = base
        self._instances = instances
        self._whole = whole
        self._loaded: dict[str, tuple[Plugin, Any]] = {}

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the components that are ours."""
        return self._own

    @cached_property
    def _own(self) -> tuple[str, ...]:
        path = Path(__file__).parent / self.folder
        found = (module.name for module in pkgutil.iter_modules([str(path)]))
        return tuple(sorted(name for name in found if not name.startswith("_") and name != "base"))

    @cached_property
    def _installed(self) -> dict[str, EntryPoint]:
        return {
            item.name: item for item in entry_points(group=f"img2brain.{self.folder}") if item.name not in self._own
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all components: ours, those of installed packages, and those that were loaded from files."""
        return tuple(sorted({*self._own, *self._installed, *self._loaded}))

    def check(self, name: str) -> str:
        """Return `name`, or raise `UnknownComponentError` with the close matches."""
        if name not in self.names:
            raise UnknownComponentError(self.kind, name, self.names)
        return name

    def __getitem__(self, name: str) -> Any:
        """Import and return the component called `name`."""
        if name in self._loaded:
            return self._loaded[name][1]
        if self.check(name) in self._installed:
            self._loaded[name] = self._load_installed(name)
            return self._loaded[name][1]
        return importlib.import_module(f"img2brain.{self.folder}.{name}").COMPONENT

    def plugin(self, name: str) -> Plugin | None:
        """Say where a component comes from that is not ours; None for one of ours."""
        if name in self._own:
            return None
        _ = self[name]
        return self._loaded[name][0]

    def load(self, name: str, folder: Path | None = None) -> str:
        """Make a component known, and return what it is called from here on.

        Parameters
        ----------
        name : str
            A name of the catalog, or ``PATH.py:NAME``.
        folder : Path, optional
            What a relative path starts from. By default the working folder, unless a file is known by this name.

        Raises
        ------
        UnknownComponentError
            If no catalog holds the name.
        SpecError
            If the file is absent, cannot be imported, or holds no such component.

        Notes
        -----
        A file is read each time, so that an edited one counts at once.
        """
        if name.endswith(_WHOLE) and self._whole is None:
            raise SpecError(f"The {self.kind} of a file must be named with its class, '{name}:NAME'. Got {name!r}.")
        if self._is_module(name):
            self._loaded[name] = self._load_module(name)
        if not _is_of_file(name):
            return self.check(name)
        path, attribute = _split(name)
        if folder is None and name in self._loaded:
            file = self._loaded[name][0].path
        else:
            file = _path_of(path, folder or Path.cwd())
        label = f"{file.name}:{attribute}" if attribute else file.name
        self._loaded[label] = self._load_file(label, file, attribute)
        return label

    def exactly(self, name: str, digest_: str, kept: Path | None = None) -> Any:
        """Return the component of this name whose code has this digest, such as a model was fitted with.

        Parameters
        ----------
        name : str
            In the catalog, or ``FILE.py:NAME``.
        digest_ : str
            Of its file; not looked at where the name is ours, or of an installed package.
        kept : Path, optional
            A folder that holds files of components, each in a folder named by its digest.

        Raises
        ------
        SpecError
            If no such file was loaded, and none is kept.
        """
        if name in self._loaded and self._loaded[name][0].digest == digest_:
            return self[name]
        if self._is_module(name) and kept is not None and (kept / digest_).is_dir():
            self.load(name)  # this home has used it: it is no code that somebody else's model names
        if not _is_of_file(name):
            return self[name]
        file, attribute = _split(name)
        path = None if kept is None or file != Path(file).name else kept / digest_ / file
        if path is None or not path.is_file() or digest.of_file(path) != digest_:
            raise SpecError(
                f"The {self.kind} {name!r} is needed, from the file {file!r} with the digest {digest_[:12]}. "
                "It is not known here: name the file with --plugin."
            )
        return self._load_file(name, path, attribute)[1]

    def _is_module(self, name: str) -> bool:
        is_name = self._whole is not None and not name.endswith(_WHOLE) and _MODULE.fullmatch(name) is not None
        return is_name and name not in self._own and name not in self._installed

    def _load_module(self, name: str) -> tuple[Plugin, Any]:
        module = _imported(f"The module {name!r}", lambda: importlib.import_module(name))
        path = Path(str(getattr(module, "__file__", None)))
        if not path.is_file():
            raise SpecError(f"The module {name!r} must be one in Python. It is not.")
        known, plugin = self._loaded.get(name), Plugin.of(self.kind, name, path)
        if known is not None and known[0].digest == plugin.digest:
            return known
        return plugin, self._checked(name, module)

    def _load_installed(self, name: str) -> tuple[Plugin, Any]:
        entry = self._installed[name]
        found = _imported(f"The {self.kind} {name!r} of an installed package", entry.load)
        path = Path(inspect.getfile(sys.modules[entry.module]))
        return Plugin.of(self.kind, name, path), self._checked(name, found)

    def _load_file(self, label: str, file: Path, attribute: str) -> tuple[Plugin, Any]:
        if not file.is_file():
            raise SpecError(f"The file of the {self.kind} {label!r} must exist. {str(file)!r} does not.")
        plugin, known = Plugin.of(self.kind, label, file), self._loaded.get(label)
        if known is not None and known[0].digest == plugin.digest:
            return plugin, known[1]
        module = _imported(f"The file {str(file)!r}", lambda: _module(plugin))
        if not attribute:
            return plugin, self._checked(label, module)
        if not hasattr(module, attribute):
            public = [name for name in vars(module) if not name.startswith("_")]
            raise SpecError(f"The file {str(file)!r} holds no {attribute!r}. {did_you_mean(attribute, public)}")
        return plugin, self._checked(label, getattr(module, attribute))

    def _checked(self, name: str, found: Any) -> Any:
        """Return the component, of the class that it must be of, with all that this leaves to be defined."""
        base = _named(self._base)
        if isinstance(found, ModuleType):
            return _named(str(self._whole))(found)
        if absent := sorted(getattr(found, "__abstractmethods__", ())):
            raise SpecError(f"The {self.kind} {name!r} must define {', '.join(map(repr, absent))}. It does not.")
        if self._instances and isinstance(found, type):
            found = _imported(f"The {self.kind} {name!r}", found)
        fits = isinstance(found, base) if self._instances else isinstance(found, type) and issubclass(found, base)
        if not fits:
            raise SpecError(
                f"The {self.kind} {name!r} must be a class that extends {self._base.replace(':', '.')}. It is not."
            )
        return found


def _is_of_file(name: str) -> bool:
    return _FILE in name or name.endswith(_WHOLE)


def _split(name: str) -> tuple[str, str]:
    """Return the file of a component and its name in there; nothing where it is the whole file."""
    path, _, attribute = (name, "", "") if name.endswith(_WHOLE) else name.rpartition(":")
    return path, attribute


def _named(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _path_of(path: str, folder: Path) -> Path:
    try:
        return plain.path_of(path, folder).resolve()
    except ValueError as error:
        raise SpecError(f"{error}.") from None


def _imported(what: str, load: Callable[[], Any]) -> Any:
    """Run code of others, and say on one line where it fails."""
    try:
        return load()
    except (Exception, SystemExit) as error:  # code of others raises anything, and may want to end the process
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise SpecError(f"{what} cannot be loaded: {type(error).__name__}: {reason}.") from error


def _module(plugin: Plugin) -> ModuleType:
    """Run a file as a module of its own; another content is another module."""
    file = plugin.path
    name = f"img2brain_plugin_{file.stem}_{plugin.digest[: digest.SHORT]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a file that ends in .py has a loader"
    assert spec.loader is not None, "a file that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Compiled from what is there now: a stale byte-code file must not stand for an edited source.
        exec(compile(plugin.content, str(file), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def fitting(pattern: str, names: Iterable[str], variants: Iterable[str] = ()) -> list[str]:
    """Return the names that fit a pattern of wildcards; variants, ``NAME.TAG``, only where it has a point as they have.

    Examples
    --------
    >>> fitting("resnet*", ["resnet18", "vit"], ["resnet18.a1"]), fitting("resnet*.a1", ["resnet18"], ["resnet18.a1"])
    (['resnet18'], ['resnet18.a1'])
    """
    return [name for name in (*names, *(variants if "." in pattern else ())) if fnmatch.fnmatchcase(name, pattern)]


REGRESSORS = Catalog("regressor", "regressors", "img2brain.regressors.base:Regressor")
METRICS = Catalog("metric", "metrics", "img2brain.metrics.base:Metric", instances=True)
LAYOUTS = Catalog("dataset layout", "datasets", "img2brain.datasets.base:Dataset")
LIBRARIES = Catalog(
    "library of networks",
    "backbones",
    "img2brain.backbones.base:Library",
    instances=True,
    whole="img2brain.backbones._own:Factories",
)
