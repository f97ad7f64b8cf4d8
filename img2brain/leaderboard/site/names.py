"""What the pages and sections of a site are called: names that are safe in paths and addresses, and stay the same."""

from __future__ import annotations

import re
import unicodedata

from img2brain import digest
from img2brain.leaderboard.rows import Row, printable
from img2brain.records import DatasetRecord

_LONGEST, _N_DIGITS = 40, 10


def slug(text: str) -> str:
    """Reduce a text to small letters, digits and hyphens.

    Examples
    --------
    >>> slug("V4 <left>"), slug("左V1"), slug("..")
    ('v4-left', 'v1', '')
    """
    plain = unicodedata.normalize("NFKD", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_LONGEST].strip("-")


def row_id(row: Row) -> str:
    """Name the page of a row: by its run, and whose it is."""
    return _named(row.trial.spec.backbone, [row.origin, row.home, *filter(None, map(str, row.trial.key)), row.run_id])


def dataset_id(record: DatasetRecord) -> str:
    """Name the page of a dataset."""
    return _named(record.name, [record.name, record.digest])


def board_id(row: Row) -> str:
    """Name the board that a row stands on."""
    return _named(row.trial.dataset.name, list(row.board_key))


def keyed(prefix: str, text: str) -> str:
    """Name a column after a text of others, as it is written in a filter.

    Examples
    --------
    >>> keyed("region", "left V1"), keyed("control", "pixels")
    ('region.left-v1', 'control.pixels')
    """
    return f"{prefix}.{slug(text) or digest.of_value(printable(text))[:_N_DIGITS]}"


def _named(text: str, parts: list[str]) -> str:
    return f"{slug(text)}-{digest.of_value(list(map(printable, parts)))[:_N_DIGITS]}".lstrip("-")
