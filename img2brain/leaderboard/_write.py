"""Write a text file so that a reader finds the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from img2brain.errors import StoreError


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` atomically, and make its folder where it is missing.

    Raises
    ------
    StoreError
        If the folder cannot be written or is full; what was there stays.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(text, encoding="utf-8", newline="\n")
        scratch.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise StoreError(f"The page {path} cannot be written: {error.strerror}.") from error
    return path
