"""What lies in a folder in place of what is looked for, and what to do with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from img2brain.datasets._images import SUFFIXES

_PICTURES = (".tif", ".tiff", ".webp", ".bmp", ".gif", ".heic", ".jp2", ".ppm", ".pgm", ".avif")
_SHOWN = 5


def instead_of_images(folder: Path) -> str:
    """Say what an image folder holds beside or in place of .jpg and .png files; the empty text where nothing.

    Parameters
    ----------
    folder : Path
        It may be absent.
    """
    files = Counter(path.suffix.lower() for path in _visible(folder) if path.is_file())
    pictures = [f"{count} {suffix}" for suffix, count in sorted(files.items()) if suffix in _PICTURES]
    nested = [path.name for path in _visible(folder) if path.is_dir() and _has_images(path)]
    told = [f"It holds {' and '.join(pictures)} files: save them as .png."] if pictures else []
    told += [f"Its folders hold images ({_few(nested)}): move them up, into it."] if nested else []
    return "".join(f" {line}" for line in told)


def instead_of_array(file: Path) -> str:
    """Say what lies in the folder of a .npy file that is absent; the empty text where nothing does."""
    found = [path.name for path in _visible(file.parent) if path.is_file()]
    if not found:
        return ""
    return f" There is {_few(found)}: load it and write it with numpy.save(), as {file.name!r}."


def instead_of_dataset(path: Path) -> str:
    """Say what a folder holds that is no dataset."""
    found = [item.name for item in _visible(path)]
    return f" It holds {_few(found)}." if found else " It holds nothing." if path.is_dir() else " It is a file."


def table_in(path: Path) -> str:
    """Say how a table that lies in a folder is read; the empty text where there is not one alone."""
    tables = [item.name for item in _visible(path) if item.suffix.lower() in (".csv", ".tsv")]
    if len(tables) != 1:
        return ""
    return f" If {tables[0]!r} lists the image of each row of the responses, give that file: its layout is 'table'."


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in (*SUFFIXES, *_PICTURES) for path in _visible(folder))


def _few(names: list[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")
