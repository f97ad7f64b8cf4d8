"""Progress for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from img2brain.logs import is_watched

T = TypeVar("T")
log = logging.getLogger(__name__)


def track(items: Iterable[T], total: int, title: str) -> Iterator[T]:
    """Yield the items, showing how far along they are.

    Parameters
    ----------
    items : iterable
        What is worked through.
    total : int
        How many there are.
    title : str
        What is going on.
    """
    if not is_watched():
        log.info("%s", title)
        yield from items
        return
    with tqdm(total=total, desc=title, leave=False, dynamic_ncols=True) as bar:
        for item in items:
            yield item
            bar.update()


def track_bytes(blocks: Iterable[bytes], total: int | None, title: str, done: int = 0) -> Iterator[bytes]:
    """Yield blocks of bytes, showing how far along they are.

    Parameters
    ----------
    blocks : iterable of bytes
        What is worked through.
    total : int, optional
        How many bytes there are in all, where that is known.
    title : str
        What is going on.
    done : int
        How many of them were there before.
    """
    if not is_watched():
        log.info("%s%s", title, f", from byte {done}" if done else "")
        yield from blocks
        return
    with tqdm(total=total, initial=done, desc=title, leave=False, dynamic_ncols=True, unit="B", unit_scale=True) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))
