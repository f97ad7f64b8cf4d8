"""What is kept: whether models and entries of the cache are what was written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from img2brain import sealed, store
from img2brain.amounts import counted
from img2brain.errors import ModelError
from img2brain.finding import Finding
from img2brain.home import Home
from img2brain.tracking.upkeep import registered_folders


def models(home: Home) -> Iterator[Finding]:
    """Tell which registered models in the home's own database are not what was registered, byte by byte."""
    if home.tracking_uri is not None or not home.database.exists():
        return
    for name, (folder, digest) in registered_folders(home).items():
        try:
            sealed.check(folder, digest)
        except ModelError as error:
            advice = "Put its folder back from a backup, or delete the version (img2brain ui) and publish it again."
            yield Finding(f"The model {name} is damaged. {error}", advice)


def cache(home: Home, deep: bool) -> Iterator[Finding]:
    """Tell which entries of the cache are torn or, where all bytes are read, damaged."""
    found = {entry: told for entry in store.entries(home.cache) if (told := store.damage(entry, deep) or _cut(entry))}
    if found:
        entry, told = next(iter(found.items()))
        entries = counted(len(found), "entry of the cache is", "entries of the cache are")
        said = f"{entries} damaged, such as {entry} ({told})."
        advice = "Run a study: it computes what it needs anew. To free all: img2brain home gc --home"
        yield Finding(said, f"{advice} {shlex.quote(str(home.folder))}")


def _cut(entry: Path) -> str:
    """Name an array of an entry that is shorter than it says, or nothing."""
    for path in sorted(entry.glob("*.npy")):
        try:
            np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return f"{path.name} is cut"
    return ""
