"""What networks there are and what their layers are called, told without loading them.

To ask a network takes seconds, nearly all of it the import of torch and torchvision. So the answers for our own
libraries are kept in ``listing.json.gz``, together with the version of torchvision that gave them, which goes with one
version of torch. Where another is installed, or networks of others are known, the networks themselves are asked.

``python -m img2brain.listing`` writes the file again: after a change of curated layers, or for a newer torchvision.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from img2brain.catalog import LIBRARIES
from img2brain.errors import UnknownComponentError

_FILE = Path(__file__).with_suffix(".json.gz")


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


def write(path: Path = _FILE) -> None:
    """Ask every network, and keep what is said."""
    content = {"torchvision": _installed(), "networks": ask()}
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
    told_by, networks = _read()
    libraries = {full.partition(":")[0] for full in networks}
    return networks if told_by == _installed() and libraries == set(LIBRARIES.names) else {}


@cache
def _read() -> tuple[str, dict[str, ListedLayers]]:
    content = json.loads(gzip.decompress(_FILE.read_bytes()))
    return content["torchvision"], {full: ListedLayers(*lists) for full, lists in content["networks"].items()}


def _installed() -> str:
    """Return the version of torchvision that is installed, whatever device it was built for."""
    return version("torchvision").partition("+")[0]


def _short(full_name: str) -> str:
    return full_name.rpartition(":")[2]  # no two of our own networks have one name


if __name__ == "__main__":
    write()
