"""Work that a scheduler hands on without reading it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

Work = Callable[..., Any]


def handed_on(work: Work, values: Sequence[Any], places: Sequence[int] = ()) -> Work:
    """Return a function of no module: only who calls it reads what it holds, and imports what that is made of.

    A scheduler unpickles the functions that pass it. One that named this package would have to load it first, and all
    its libraries, while it answers nobody; on a machine without them it could not.

    Parameters
    ----------
    work : callable
        What is called.
    values : sequence
        Its arguments.
    places : sequence of int
        Of the arguments that the function is given when it is called, in this order, in place of those values.
    """
    content = pickle.dumps((work, list(values), list(places)))

    def call(*found: Any) -> Any:
        import pickle  # What it calls it has to import: a function of no module has no others.

        work, values, places = pickle.loads(content)  # noqa: S301 - by the worker that it was sent to
        for place, value in zip(places, found, strict=True):
            values[place] = value
        return work(*values)

    return call
