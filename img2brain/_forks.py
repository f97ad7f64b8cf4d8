"""Threads, and what a fork leaves of them in the child: one, and locks that nobody gives back."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Held where a call changes what all threads share, so that one does so at a time and no fork cuts it off. It is one for
# all such places: of several a fork could hold one while it waits for another.
alone = threading.RLock()

_forked_in: int | None = None  # in the child of a fork, the thread that goes on there


def works_after_fork(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function work in the child of a fork as well.

    Notes
    -----
    OpenMP keeps the threads that work for a thread of ours. In the child they are gone, and the first operation that
    is spread over them waits for ever. A thread that is new in the child gets new ones: there the function runs.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if threading.get_ident() != _forked_in:
            return function(*args, **kwargs)
        with ThreadPoolExecutor(1, "after-fork") as pool:
            return pool.submit(function, *args, **kwargs).result()

    return call


def _after_in_child() -> None:
    global _forked_in  # noqa: PLW0603
    _forked_in = threading.get_ident()
    alone.release()


os.register_at_fork(before=alone.acquire, after_in_parent=alone.release, after_in_child=_after_in_child)
