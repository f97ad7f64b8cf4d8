"""Progress for people: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

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
    if not sys.stderr.isatty():
        log.info("%s", title)
        yield from items
        return
    with tqdm(total=total, desc=title, leave=False, dynamic_ncols=True) as bar:
        for item in items:
            yield item
            bar.update()
