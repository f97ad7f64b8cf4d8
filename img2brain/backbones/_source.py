"""From the name of a network to the library that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from torch import nn

from img2brain.backbones._blocks import blocks
from img2brain.backbones._network import AnyGraph, graph_of
from img2brain.backbones._random import filled_by
from img2brain.backbones._spread import spread
from img2brain.backbones._trace import in_short
from img2brain.backbones._weights import parse_weights
from img2brain.backbones.base import Library
from img2brain.catalog import LIBRARIES, fitting
from img2brain.errors import FeatureError, Img2BrainError, SpecError, UnknownComponentError

_KIND = "backbone"
_CONTROL = "pixels"  # a name that means the control, whatever other libraries hold


@dataclass(frozen=True, eq=False)
class Source:
    """A network of a library, not built yet.

    Attributes
    ----------
    library : Library
        Where it comes from.
    library_name : str
        What the catalog calls that.
    name : str
        What the library calls the network.
    plugin : dict, optional
        Name and digest of the file of a library that is not ours.
    """

    library: Library
    library_name: str
    name: str
    plugin: dict[str, str] | None = None

    @property
    def full_name(self) -> str:
        """The name that no other network has: ``LIBRARY:NETWORK``."""
        return f"{self.library_name}:{self.name}"

    def build(self, options: Mapping[str, Any]) -> nn.Module:
        """Construct the network at rest: in evaluation mode, without gradients."""
        try:
            network = self.library.build(self.name, options)
        except Img2BrainError:
            raise
        except (Exception, SystemExit) as error:  # code of others raises anything, and may want to end the process
            raise FeatureError(f"{self.full_name} cannot be built: {in_short(error)}.") from error
        return self._at_rest(network)

    def pretrained(self, weights: str, options: Mapping[str, Any]) -> nn.Module | None:
        """Construct the network with weights by means of its library, at rest; None where there are no such means."""
        with filled_by(None):
            network = self.library.pretrained(self.name, weights, options)
        return None if network is None else self._at_rest(network)

    def _at_rest(self, network: nn.Module) -> nn.Module:
        if not isinstance(network, nn.Module):
            raise FeatureError(f"{self.full_name} must be a torch.nn.Module. Got {type(network).__name__}.")
        return network.eval().requires_grad_(False)

    def blank(self, options: Mapping[str, Any]) -> nn.Module:
        """Construct the network without giving its parameters values."""
        with filled_by(None):
            return self.build(options)

    def graph(self, options: Mapping[str, Any], size: tuple[int, int]) -> AnyGraph:
        """Look at the network without its weights; the last look is remembered, as a study asks several things of it.

        Parameters
        ----------
        options : mapping
            As for `build`.
        size : tuple of int
            Height and width of the images that it will see.
        """
        return _graph(_Look(self, size, options))

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The names of all operations, or modules that run, in order of execution."""
        return self._looked_at(self._plain).nodes

    @cached_property
    def curated(self) -> tuple[str, ...]:
        """The curated layers, in order of depth."""
        listed, network = tuple(self.library.layers(self.name)), self._plain
        graph = self._looked_at(network)
        if not listed:
            return blocks(network, graph) if self.library.lists_blocks else spread(network, graph)
        found = graph.find(listed)
        return tuple(sorted(listed, key=lambda layer: found[layer].given))

    def _looked_at(self, network: nn.Module) -> AnyGraph:
        return graph_of(self.name, network, lambda: self.library.preprocessing(self.name, None).size)

    @property
    def _plain(self) -> nn.Module:
        return self.blank(self.library.options(self.name, parse_weights(self.name, "random:0", ()), ()))


@dataclass(frozen=True)
class _Look:
    """What a look at a network depends on."""

    source: Source
    size: tuple[int, int]
    options: Mapping[str, Any] = field(hash=False)


@lru_cache(maxsize=1)
def _graph(look: _Look) -> AnyGraph:
    return graph_of(look.source.name, look.source.blank(look.options), lambda: look.size)


def find(name: str) -> Source:
    """Find a network.

    Parameters
    ----------
    name : str
        ``NETWORK``, where one library holds it; ``LIBRARY:NETWORK``; or ``PATH.py:LIBRARY:NETWORK``.

    Raises
    ------
    UnknownComponentError
        For an unknown one, with the close matches.
    SpecError
        For a name that several libraries hold, with all that it may mean.
    """
    library, colon, network = name.rpartition(":")
    if colon:
        label = library if library in LIBRARIES.names else LIBRARIES.load(library)
        return find_in(label, LIBRARIES[label].known(network, None))
    holders = [item for item in _short_libraries() if name in names_of(item)]
    if not holders:
        raise UnknownComponentError(_KIND, name, all_names())
    if len(holders) > 1 and name != _CONTROL:
        meant = " or ".join(repr(f"{item}:{name}") for item in holders)
        raise SpecError(f"The backbone {name!r} must be named with its library, as several hold it: {meant}.")
    return find_in(_CONTROL if name == _CONTROL else holders[0], name)


def find_in(library: str, name: str) -> Source:
    """Find a network of a library that the catalog knows."""
    names_of(library)
    if not LIBRARIES[library].holds(name):
        raise UnknownComponentError(_KIND, f"{library}:{name}", (f"{library}:{item}" for item in names_of(library)))
    return _source(_Same(LIBRARIES[library]), library, name)


def names_of(library: str) -> tuple[str, ...]:
    """Name the networks of a library; raises `SpecError` where it does not say them properly."""
    found = LIBRARIES[library].names
    if not isinstance(found, tuple) or not all(isinstance(item, str) and item and ":" not in item for item in found):
        raise SpecError(f"The 'names' of the library {library!r} must be a tuple of texts without ':'. Got {found!r}.")
    return found


def all_names() -> tuple[str, ...]:
    """Name every network of the libraries that need no name: alone where one holds it, otherwise with its library."""
    held = [(library, name) for library in _short_libraries() for name in names_of(library)]
    single = [name for _, name in held]
    return tuple(name if single.count(name) == 1 else f"{library}:{name}" for library, name in held)


def matching(pattern: str) -> tuple[str, ...]:
    """Name the networks that fit a pattern: with a library, ``LIBRARY:PATTERN``, those of it, by their full names.

    A name with the tag of its weights, ``NETWORK.TAG``, fits only a pattern with a point.
    """
    library, colon, network = pattern.rpartition(":")
    if not colon:
        return tuple(fitting(pattern, all_names()))
    libraries = fitting(library, LIBRARIES.names)
    return tuple(
        f"{item}:{name}" for item in libraries for name in fitting(network, names_of(item), LIBRARIES[item].variants)
    )


def _short_libraries() -> list[str]:
    return [library for library in LIBRARIES.names if not LIBRARIES[library].in_full]


class _Same:
    """Makes a library a key by its identity, whatever equality its class defines: an edited one is another."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.library is other.library

    def __hash__(self) -> int:
        return id(self.library)


@lru_cache(maxsize=64)
def _source(key: _Same, library: str, name: str) -> Source:
    found = LIBRARIES.plugin(library)
    return Source(key.library, library, name, {"name": found.name, "digest": found.digest} if found else None)
