"""Progress for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

from img2brain.logs import is_watched

T = TypeVar("T")
log = logging.getLogger(__name__)

_STOP: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """Work was stopped between two of its items."""


@contextmanager
def stoppable(stop: threading.Event) -> Iterator[None]:
    """Let what is tracked in a context, by this thread, raise `Stopped` before its next item once an event is set.

    Parameters
    ----------
    stop : Event
        Set by whoever does not need the work any more.
    """
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


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

    Raises
    ------
    Stopped
        If it is not needed any more; see `stoppable`.
    """
    if not is_watched():
        log.info("%s", title)
        yield from _until_stopped(items)
        return
    with tqdm(total=total, desc=title, leave=False, dynamic_ncols=True) as bar:
        for item in _until_stopped(items):
            yield item
            bar.update()


def _until_stopped(items: Iterable[T]) -> Iterator[T]:
    stop = _STOP.get()
    for item in items:
        if stop is not None and stop.is_set():
            raise Stopped
        yield item


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
