"""What networks there are and what their layers are called, told without loading them.

To ask a network takes seconds, nearly all of it the import of torch and torchvision. So the answers for our own
libraries are kept in ``listing.json.gz``, together with the version of torchvision that gave them, which goes with one
version of torch. Where another is installed, or networks of others are known, the networks themselves are asked. Of
the libraries that are extras the names are kept, with the version of each: there are thousands.

``python -m img2brain.listing`` writes the file again: after a change of curated layers, or for newer libraries.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from img2brain.catalog import LIBRARIES, fitting
from img2brain.errors import UnknownComponentError

_FILE = Path(__file__).with_suffix(".json.gz")


class ListedNames(NamedTuple):
    """The networks of a library that is an extra.

    Attributes
    ----------
    package, version : str
        Which package told them.
    names, variants : list of str
        As the library says them.
    """

    package: str
    version: str
    names: list[str]
    variants: list[str]


class ListedLayers(NamedTuple):
    """The names of the layers of a network, as `img2brain.backbones` tells them.

    Attributes
    ----------
    curated : list of str
        Good layers, in order of depth.
    every : list of str
        All operations, in order of execution.
    """

    curated: list[str]
    every: list[str]


def backbone_names() -> tuple[str, ...]:
    """Name every backbone, as `img2brain.backbones.backbone_names` does.

    Examples
    --------
    >>> "resnet50" in backbone_names()
    True
    """
    if kept := _kept():
        return tuple(map(_short, kept))
    from img2brain import backbones

    return backbones.backbone_names()


def matching(pattern: str) -> tuple[str, ...]:
    """Name the networks that fit a pattern, as `img2brain.backbones.matching` does.

    Examples
    --------
    >>> matching("timm:test_vit.*")
    ('timm:test_vit.r160_in1k',)
    """
    library, colon, network = pattern.partition(":")
    if not colon:
        return tuple(fitting(pattern, backbone_names()))
    extra = _extras().get(library)
    if extra and version_of(extra.package) in ("", extra.version):
        return tuple(f"{library}:{name}" for name in fitting(network, extra.names, extra.variants))
    from img2brain import backbones

    return backbones.matching(pattern)


def curated_layers(name: str) -> tuple[str, ...]:
    """List good layers of a backbone, as `img2brain.backbones.curated_layers` does."""
    if found := _find(name):
        return tuple(found.curated)
    from img2brain import backbones

    return backbones.curated_layers(name)


def layer_names(name: str) -> tuple[str, ...]:
    """Name every operation of a backbone, as `img2brain.backbones.layer_names` does."""
    if found := _find(name):
        return tuple(found.every)
    from img2brain import backbones

    return backbones.layer_names(name)


def ask() -> dict[str, ListedLayers]:
    """Ask every network that is known, by its full name; takes some ten seconds."""
    from img2brain import backbones

    found = map(backbones.find, backbones.backbone_names())
    return {source.full_name: ListedLayers(list(source.curated), list(source.nodes)) for source in found}


def ask_names() -> dict[str, ListedNames]:
    """Ask the libraries that are extras for the names of their networks."""
    found = {}
    for name in LIBRARIES.own:
        library = LIBRARIES[name]
        if library.in_full:
            told = (library.package, library.version, list(library.names), list(library.variants))
            found[name] = ListedNames(*told)
    return found


def version_of(package: str) -> str:
    """Return the version of a package; nothing where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def write(path: Path = _FILE) -> None:
    """Ask every network, and keep what is said."""
    content = {"torchvision": _installed(), "networks": ask(), "extras": ask_names()}
    path.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))


def _find(name: str) -> ListedLayers | None:
    """Return what is kept of a network; None where it has to be asked."""
    kept = _kept()
    by_name = kept | {_short(full): listed for full, listed in kept.items()}
    if kept and ":" not in name and name not in by_name:
        raise UnknownComponentError("backbone", name, map(_short, kept))
    return by_name.get(name)


def _kept() -> dict[str, ListedLayers]:
    """Return what is kept, by full name; nothing where that is not all, or was said by another version."""
    told_by, networks, _ = _read()
    libraries = {full.partition(":")[0] for full in networks} | _extras().keys()
    return networks if told_by == _installed() and libraries == set(LIBRARIES.names) else {}


def _extras() -> dict[str, ListedNames]:
    return _read()[2]


@cache
def _read() -> tuple[str, dict[str, ListedLayers], dict[str, ListedNames]]:
    content: dict[str, Any] = json.loads(gzip.decompress(_FILE.read_bytes()))
    networks = {full: ListedLayers(*lists) for full, lists in content["networks"].items()}
    return content["torchvision"], networks, {name: ListedNames(*told) for name, told in content["extras"].items()}


def _installed() -> str:
    """Return the version of torchvision that is installed, whatever device it was built for."""
    return version("torchvision").partition("+")[0]


def _short(full_name: str) -> str:
    return full_name.rpartition(":")[2]  # no two of our own networks have one name


if __name__ == "__main__":
    write()
