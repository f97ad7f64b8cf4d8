"""Finding the images of datasets whose stimuli lie apart from the responses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from img2brain.datasets._images import SUFFIXES
from img2brain.datasets._tables import few
from img2brain.errors import DataError


def image_folder(usual: Sequence[Path], apart: Path | None, whose: str) -> Path:
    """Return the folder that is given, or the first of the usual ones that is there.

    Raises
    ------
    DataError
        If there is none.
    """
    folders = [apart] if apart is not None else list(usual)
    found = next((item for item in folders if item.is_dir()), None)
    if found is None:
        raise DataError(
            f"The images of {whose} must be in {few(map(str, folders))}. There is no such folder: give it as "
            'images = "FOLDER".'
        )
    return found


def by_name(folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """Find images in a folder, and in folders in it, by the names of their files, with or without their endings.

    Raises
    ------
    DataError
        If one is not there.
    """
    known: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES:
            known |= {file.name: file, file.stem: file}
    plain = {name: re.split(r"[/\\]", name)[-1] for name in set(names)}
    found = {name: known.get(file) or known.get(Path(file).stem) for name, file in plain.items()}
    absent = sorted(name for name, file in found.items() if file is None)
    if absent:
        raise DataError(
            f"Each stimulus must have an image in {str(folder)!r}, of a film a frame. {len(absent)} of {len(plain)} "
            f"have none: {few(absent)}."
        )
    return {name: file for name, file in found.items() if file is not None}


def require_there(images: Iterable[Path]) -> None:
    """Refuse images that are not there.

    Raises
    ------
    DataError
        With their number and the first.
    """
    found = list(dict.fromkeys(images))
    absent = [image for image in found if not image.is_file()]
    if absent:
        raise DataError(
            f"{len(absent)} of {len(found)} images must be there and are not, the first: {str(absent[0])!r}."
        )
