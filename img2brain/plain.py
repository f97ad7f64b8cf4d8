"""Plain data and paths that others write: whatever is in them, what cannot be used is a `ValueError` with one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FORMULA = tuple("=+-@＝＋－＠")  # what a spreadsheet takes for the start of a formula, wide forms too
_DEEPEST = 100  # lists and tables within one another; a file of ours has some six
_LONGEST_NAME, _LONGEST_PATH = 255, 4000  # bytes, that file systems take


def of_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises
    ------
    ValueError
        If it is no TOML, is nested more than 100 deep, or holds a whole number of more than 64 bits or the character
        NUL.

    Examples
    --------
    >>> of_toml("seed = 1")
    {'seed': 1}
    """
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    _require_usable(found)
    return found


def of_json(
    text: str | bytes, of_pairs: Callable[[list[tuple[str, Any]]], Any] = dict, *, any_text: bool = False
) -> Any:
    """Read JSON, as `of_toml` does TOML.

    Parameters
    ----------
    text : str or bytes
        The JSON.
    of_pairs : callable
        Makes an object of its names and values.
    any_text : bool
        Whether texts are only shown, and may hold anything.

    Examples
    --------
    >>> of_json("[" * 50_000)
    Traceback (most recent call last):
    ValueError: lists and tables must be nested at most 100 deep
    """
    try:
        found = json.loads(text, object_pairs_hook=of_pairs)
    except RecursionError:
        raise _too_deep() from None
    _require_usable(found, any_text=any_text)
    return found


def path_of(text: str | Path, folder: Path | None = None) -> Path:
    """Return a path, from a folder where it is relative and one is given, ``~`` and ``~somebody`` written out.

    Raises
    ------
    ValueError
        If no file can have this name, or nobody has it.

    Examples
    --------
    >>> path_of("data", Path("/somewhere")).as_posix()
    '/somewhere/data'
    >>> path_of("~nosuchuser/data")
    Traceback (most recent call last):
    ValueError: the user of '~nosuchuser/data' must be known here
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise ValueError(f"the user of {str(text)!r} must be known here") from None
    _require_text(str(path))
    if len(str(path)) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in path.parts):
        raise ValueError(f"no file can have a name so long as {str(text)[:40]!r}...")
    return path if folder is None else folder / path


def _require_usable(value: Any, *, any_text: bool = False) -> None:
    """Look at each value, level by level: what is nested deep must not be looked at by recursion."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise _too_deep()
        for item in level:
            if isinstance(item, str) and not any_text:
                _require_text(item)
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise ValueError("whole numbers must have at most 64 bits")
        level = [inner for item in level for inner in _within(item)]
        depth += 1


def _within(item: Any) -> list[Any]:
    return item if isinstance(item, list) else [*item, *item.values()] if isinstance(item, dict) else []


def _require_text(text: str) -> None:
    if "\0" in text or (not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)):
        raise ValueError(f"texts must hold characters alone, neither NUL nor half of one. Got {text[:40]!r}")


def _too_deep() -> ValueError:
    return ValueError(f"lists and tables must be nested at most {_DEEPEST} deep")


def inert(text: object) -> str:
    """Return a text that no spreadsheet runs as a formula: one that starts like one is preceded by an apostrophe.

    Examples
    --------
    >>> inert("=1+1"), inert("V1")
    ("'=1+1", 'V1')
    """
    shown = str(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown
