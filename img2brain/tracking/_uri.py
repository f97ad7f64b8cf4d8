"""What the places of artifacts are called."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def local_folder(uri: str) -> Path | None:
    """Return the folder that a ``file:`` URI or a plain path names, or None for a remote place.

    Examples
    --------
    >>> local_folder("file:///data/100%25/artifacts").as_posix()
    '/data/100%/artifacts'
    >>> local_folder("mlflow-artifacts:/1") is None
    True
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(uri)
