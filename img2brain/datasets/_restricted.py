"""Pickled tables of others, read without running them: by a reader that knows dictionaries, numbers and texts only."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy.lib.format as npy

from img2brain.datasets._links import is_there
from img2brain.errors import DataError

_MOST_BYTES = 1 << 20


class _Restricted(pickle.Unpickler):
    """Makes no object but those that the language of pickles has words for, and the array around them."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every class and function but those that NumPy wraps an object in, which get stand-ins."""
        stand_in = _STAND_INS.get((module.replace("numpy._core", "numpy.core"), name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return stand_in

    def persistent_load(self, pid: Any) -> Any:
        """Refuse what lies outside."""
        raise pickle.UnpicklingError("it asks for what lies outside")


class _Array:
    """What stands for an array of objects: it keeps the objects that it is filled with."""

    def __init__(self, *_: Any) -> None:
        self.items: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        self.items = list(state[-1]) if isinstance(state, tuple) and state and isinstance(state[-1], list) else []


class _Type:
    """What stands for a type of NumPy's."""

    def __init__(self, *_: Any) -> None:
        return

    def __setstate__(self, state: Any) -> None:
        return


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Type,
    ("numpy", "dtype"): _Type,
}


def read_names(path: Path) -> dict[int, str]:
    """Read a pickled dictionary of names by number, as ``numpy.save`` writes one, without unpickling anything else.

    Raises
    ------
    DataError
        If it is absent, or holds anything but whole numbers and texts.
    """
    if not is_there(path):
        raise DataError(f"The file {str(path)!r} must exist. It does not.")
    content = path.read_bytes()[:_MOST_BYTES]
    stream = io.BytesIO(content)
    try:
        is_first = npy.read_magic(stream) == (1, 0)
        (npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0)(stream)
        found = _Restricted(stream).load()
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"{str(path)!r} must hold a dictionary of numbers and names, no more. Got: {reason}."
        ) from error
    names = found.items[0] if isinstance(found, _Array) and len(found.items) == 1 else found
    if not isinstance(names, dict) or not all(
        isinstance(key, int) and isinstance(name, str) for key, name in names.items()
    ):
        raise DataError(f"{str(path)!r} must hold a dictionary of numbers and names. It holds something else.")
    return dict(names)
