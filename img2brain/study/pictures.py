"""What is known of pictures, kept in the cache of a home: one process decodes them, and later ones read it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from img2brain import plain
from img2brain.datasets._ties import DigestKeeper
from img2brain.store import Store

KIND = "pictures"
VERSION = 1  # It is raised where a change of code changes a digest, or the file of an entry.

_FILE = "pixels.json"

log = logging.getLogger(__name__)


def keeper_of(store: Store) -> DigestKeeper:
    """Return what keeps texts by name in a cache.

    Parameters
    ----------
    store : Store
        Where they are kept; what is damaged there is found anew.
    """

    def keep(key: Mapping[str, Any], find: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        def write(folder: Path) -> None:
            (folder / _FILE).write_text(json.dumps(find()), encoding="utf-8")

        files = store.read_or_compute(KIND, {**key, "version": VERSION}, write)
        try:
            return _read(files[_FILE])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the cache entry of compared pictures cannot be used (%s): they are compared again", error)
            return find()

    return keep


def _read(content: bytes) -> dict[str, str]:
    found = plain.of_json(content)
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise TypeError("no texts by name")
    return found
