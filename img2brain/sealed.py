"""Sealed folders: a file that names the digest of every other, so that a byte, a file more and a file less are seen."""

from __future__ import annotations

import json
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from img2brain import digest, plain
from img2brain.errors import ModelError

SEAL = "digests.json"
# MLflow writes the first when it downloads a registered version; nothing here reads it. Python keeps compiled code in a
# folder of the second name: an empty file in its place keeps it from doing so, in a folder that is checked.
_UNSEALED, NO_CACHE = "registered_model_meta", "__pycache__"


def seal(folder: Path) -> str:
    """Name the digest of every file of a folder in one more, and return that one's own, which stands for the folder."""
    (folder / SEAL).write_text(_text(dict(_digests(folder))), encoding="utf-8")
    return digest.of_file(folder / SEAL)


def is_sealed(folder: Path) -> bool:
    """Tell whether a folder was sealed."""
    return (folder / SEAL).is_file() and not (folder / SEAL).is_symlink()


def check(folder: Path, expected: str = "", but_for: Collection[str] = ()) -> None:
    """Check that a sealed folder is what it was, reading no file for anything else.

    Parameters
    ----------
    folder : Path
        What `seal` sealed.
    expected : str
        What `seal` returned, where that is known from elsewhere: whoever can change a file can seal the folder anew.
    but_for : collection of str
        Names at the top of the folder that are left alone.

    Raises
    ------
    ModelError
        Naming the first file that was changed, is not there, or was not there before.
    """
    try:
        if not stat.S_ISREG((folder / SEAL).lstat().st_mode):  # a link may lead to a file without an end
            raise ModelError(f"{folder}: {SEAL} is not the file that the model was saved with.")
        text = (folder / SEAL).read_text(encoding="utf-8")
        named = plain.of_json(text)
        found = {name: value for name, value in _digests(folder) if name.partition("/")[0] not in but_for}
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no whole model: {error}.") from None
    if not isinstance(named, dict):
        raise ModelError(f"{folder} holds no whole model: {SEAL} names no files.")
    for name in sorted(named.keys() | found.keys()):
        _compare(folder, name, named.get(name), found.get(name))
    if text != _text(found) or expected not in ("", digest.of_bytes(text.encode())):
        raise ModelError(f"{folder}: {SEAL} is not the file that the model was saved with.")


def _compare(folder: Path, name: str, named: object, found: str | None) -> None:
    if found is None:
        raise ModelError(f"{folder} holds no whole model: {name} is not there.")
    if named is None:
        raise ModelError(f"{folder}: {name} is no file of the model.")
    if named != found:
        raise ModelError(f"{folder}: {name} is not the file that the model was saved with.")


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and digest of every file; a link, or what is no file, has no digest that a file has."""
    for path in sorted(folder.rglob("*")):
        name, mode = path.relative_to(folder).as_posix(), path.lstat().st_mode
        is_file = stat.S_ISREG(mode)
        if stat.S_ISDIR(mode) or (is_file and name in (SEAL, _UNSEALED, NO_CACHE)):
            continue
        yield name, digest.of_file(path) if is_file else ""


def _text(digests: dict[str, str]) -> str:
    return json.dumps(digests, indent=1, sort_keys=True) + "\n"
