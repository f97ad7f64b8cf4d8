"""Read the rows of a leaderboard's site, from disk or from the web."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import requests

from img2brain import plain
from img2brain.errors import DataError
from img2brain.leaderboard.lines import is_count
from img2brain.leaderboard.table import COLUMNS

_FORMAT = 1  # the newest that is read
_ROWS = "api/rows.json"
_LARGEST = 1 << 28  # bytes: some 200,000 rows
_TIMEOUT_S = 30.0
_ADDRESSES = ("http://", "https://")


def read(where: str | Path) -> pd.DataFrame:
    """Read all rows of a leaderboard that ``img2brain leaderboard build`` wrote.

    Parameters
    ----------
    where : str or Path
        The folder of the site, its ``api/rows.json``, or the http(s) address of either.

    Returns
    -------
    pandas.DataFrame
        A line for each trial, board by board, best first: the columns of ``leaderboard.csv``, and row, board,
        dataset_id and page. Only scores of one board compare.

    Raises
    ------
    DataError
        If nothing answers, or what is there is no such file, one of a newer version, or larger than 256 MB.

    Examples
    --------
    >>> read("no-such-folder")
    Traceback (most recent call last):
    img2brain.errors.DataError: The leaderboard 'no-such-folder' cannot be read: no api/rows.json is there.
    """
    name = str(where)
    content = _of_web(name) if name.startswith(_ADDRESSES) else _of_disk(Path(where))
    return _table(_checked(name, content))


def _of_disk(path: Path) -> bytes:
    file = path if path.suffix == ".json" else path / _ROWS
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise _unreadable(str(path), f"no {_ROWS} is there") from None
    except OSError as error:
        raise _unreadable(str(path), str(error.strerror)) from error
    _require_bounds(str(path), len(content))
    return content


def _of_web(address: str) -> bytes:
    url = address if address.endswith(".json") else f"{address.rstrip('/').removesuffix('/index.html')}/{_ROWS}"
    content = bytearray()
    try:
        with requests.get(url, timeout=_TIMEOUT_S, stream=True) as answer:
            answer.raise_for_status()
            for part in answer.iter_content(1 << 20):
                content += part
                _require_bounds(address, len(content))
    except (requests.RequestException, UnicodeError) as error:
        raise _unreadable(address, " ".join(str(error).split())[:200]) from error
    return bytes(content)


def _require_bounds(where: str, size: int) -> None:
    if size > _LARGEST:
        raise _unreadable(where, f"it is larger than {_LARGEST >> 20} MB")


def _checked(where: str, content: bytes) -> list[dict[str, Any]]:
    try:
        found = plain.of_json(content, any_text=True)
    except (ValueError, UnicodeError) as error:
        raise _unreadable(where, f"it is no JSON ({str(error)[:100]})") from error
    if not isinstance(found, dict) or found.get("kind") != "rows":
        raise _unreadable(where, f"it is no {_ROWS} of a leaderboard")
    if type(found.get("format")) is not int or not 1 <= found["format"] <= _FORMAT:
        raise _unreadable(
            where, f"its format is {found.get('format')!r}, and {_FORMAT} is the newest that is known here"
        )
    return _require_rows(where, found.get("rows"))


def _require_rows(where: str, rows: Any) -> list[dict[str, Any]]:
    """Refuse what is no list of flat lines with the columns that every row has."""
    lines: list[Any] = rows if isinstance(rows, list) else [None]
    for number, line in enumerate(lines):
        if not isinstance(line, dict) or not all(_is_plain(value) for value in line.values()):
            raise _unreadable(where, f"its row {number} is no flat table")
        if missing := [name for name in COLUMNS if name not in line]:
            raise _unreadable(where, f"its row {number} has no {missing[0]!r}")
    return lines


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _table(lines: list[dict[str, Any]]) -> pd.DataFrame:
    names = dict.fromkeys([*COLUMNS, *(name for line in lines for name in line)])
    table = pd.DataFrame(lines, columns=list(names))
    counts = {name: "Int64" for name in table.columns if name not in COLUMNS and is_count(lines, name)}
    try:
        return table.astype(COLUMNS | counts)
    except (ValueError, TypeError) as error:
        raise DataError(f"The columns of a leaderboard must hold what they are for. Got: {error}.") from error


def _unreadable(where: str, reason: str) -> DataError:
    return DataError(f"The leaderboard {where!r} cannot be read: {reason}.")
