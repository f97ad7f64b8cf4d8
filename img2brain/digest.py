"""Digests: short names for contents, so that equal content is computed and stored once.

All digests are SHA-256 in hexadecimal. Numbers enter with their type and shape, so that equal bytes of different
arrays differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from img2brain._mapped import release

SHORT = 12
_BLOCK = 1 << 24


def of_bytes(content: bytes) -> str:
    """Digest some bytes."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: Path) -> str:
    """Digest the bytes of a file, without its name."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def of_array(array: NDArray[Any], kind: DTypeLike | None = None) -> str:
    """Digest the values, type and shape of an array, block by block, so that a memory-mapped one is never held whole.

    Parameters
    ----------
    array : ndarray
        Of any shape.
    kind : dtype, optional
        A type that its values are digested as, by default its own.

    Examples
    --------
    >>> of_array(np.zeros(2)) == of_array(np.zeros((2, 1)))
    False
    """
    kind = np.dtype(array.dtype if kind is None else kind).newbyteorder("<")
    digest = hashlib.sha256(f"{kind.str}{array.shape}".encode())
    if array.ndim == 0:
        digest.update(array.tobytes())
        return digest.hexdigest()
    row_bytes = max(1, array[:1].nbytes)
    step = max(1, _BLOCK // row_bytes)
    for start in range(0, len(array), step):
        block = np.ascontiguousarray(array[start : start + step])
        digest.update(block.astype(kind, copy=False).data)
        release(array)
    return digest.hexdigest()


def of_value(value: Any) -> str:
    """Digest plain data (what JSON holds), whatever the order of its keys.

    Examples
    --------
    >>> of_value({"a": 1, "b": 2}) == of_value({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return of_bytes(text.encode())


def of_digests(digests: Iterable[str]) -> str:
    """Digest a sequence of digests, in their order."""
    return of_value(list(digests))


def of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Digest named arrays, whatever their order."""
    return of_value({name: of_array(array) for name, array in arrays.items()})
