"""Files that have to stay as they are while they are worked with: numbers of two different data are never mixed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from img2brain.datasets._inside import file_of
from img2brain.errors import ResourceError

Stamp = tuple[int, int] | None


class Unchanged:
    """Files as they are now, to be compared with what they are later.

    Parameters
    ----------
    name : str
        The dataset, for messages.
    files : iterable of Path
        Each may be a picture inside of an archive, whose file then counts, or a folder, whose files do.

    Notes
    -----
    A file that was written has another size or time. Its inode and its rights may change without a change of its
    content, as on a network disk, and are not looked at.
    """

    def __init__(self, name: str, files: Iterable[Path]) -> None:
        self._name = name
        named = dict.fromkeys(map(file_of, files))
        self._stamps = {file: _stamp(file) for item in named for file in (item.rglob("*") if item.is_dir() else [item])}

    def require(self) -> None:
        """Refuse to go on where one of the files is not as it was.

        Raises
        ------
        ResourceError
            Naming the first of them: it says nothing of what is tried with these data.
        """
        for file, stamp in self._stamps.items():
            if _stamp(file) != stamp:
                raise ResourceError(
                    f"The files of {self._name!r} must stay as they are while they are read. {str(file)!r} was changed "
                    "or removed meanwhile. What was found before is kept; the same command takes the data as they are "
                    "then, as another study where they differ."
                )


def _stamp(file: Path) -> Stamp:
    """Return size and time of a file; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
