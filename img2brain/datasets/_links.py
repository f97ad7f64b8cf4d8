"""Links that lead to nothing: what they stand for is part of a dataset, and must not be passed over as if absent."""

from __future__ import annotations

from pathlib import Path

from img2brain.errors import DataError


def is_there(path: Path) -> bool:
    """Tell whether there is a file or folder.

    Raises
    ------
    DataError
        If it, or a folder that it is in, is a link that leads to nothing, as those of git-annex do until their content
        is fetched.
    """
    if path.exists():
        return True
    for link in (path, *path.parents):
        if link.is_symlink() and not link.exists():
            raise DataError(
                f"The link {str(link)!r} must lead to what is there. It leads to {str(link.readlink())!r}, which is "
                "not: fetch it (git annex get, datalad get), or remove the link."
            )
    return False
