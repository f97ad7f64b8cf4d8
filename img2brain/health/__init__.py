"""Whether a home is in order: its machine, disk, locks, stores, cache and models, with what to do about each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from img2brain.errors import Img2BrainError, lack_of
from img2brain.finding import Finding
from img2brain.health import disk, kept, machine, stores
from img2brain.home import Home


@dataclass(frozen=True)
class Health:
    """What a look at a home found.

    Attributes
    ----------
    facts : mapping of str to str
        Versions, devices, where things are kept and how much room is left.
    findings : tuple of Finding
        What is not as it should be.
    """

    facts: Mapping[str, str]
    findings: tuple[Finding, ...]


def check(home: Home, deep: bool = False) -> Health:
    """Look at a home, and at the machine and the stores that it uses; nothing is changed.

    Parameters
    ----------
    home : Home
        The home, best `Home.as_it_is`: any other way of opening it puts some of it right.
    deep : bool
        Whether to read every byte of the cache, which takes a second for some GB.

    Returns
    -------
    Health
        Each part is looked at whatever is found of the others, unless one of its files is none, such as a pipe.
    """
    parts: tuple[Callable[[], Iterable[Finding]], ...] = (
        partial(disk.permissions, home),
        partial(disk.room, home),
        partial(disk.place, home),
        partial(disk.standing, home),
        partial(disk.leftovers, home),
        partial(stores.search_log, home),
        partial(stores.tracking, home),
        partial(stores.half_tracked, home),
        partial(kept.models, home),
        partial(kept.cache, home, deep),
    )
    facts = machine.facts() | stores.facts(home) | disk.facts(home)
    if no_files := tuple(disk.no_files(home)):  # which nobody may open
        return Health(facts, no_files)
    return Health(facts, tuple(dict.fromkeys(found for part in parts for found in _looked(part))))


def _looked(part: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a part finds, and what keeps it from looking further."""
    try:
        yield from part()
    except Img2BrainError as error:
        yield Finding(str(error), "")
    except OSError as error:
        yield Finding(f"Not all can be read: {lack_of(error)}.", "Give this user the right to read it.")
