"""Rank trials and print them: plain rows in, a table out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from img2brain.leaderboard.rows import Row, boards, parameters_text, placed, printable

__all__ = ["Row", "as_csv", "as_text", "boards", "ranked"]

_TYPES = {
    "rank": "Int64",
    "backbone": "str",
    "weights": "str",
    "trained": "str",
    "layer": "str",
    "components": "int64",
    "regressor": "str",
    "alpha": "float64",
    "parameters": "str",
    "preprocessing": "str",
    "validation_r": "float64",
    "confirmation_r": "float64",
    "confirmation_low": "float64",
    "confirmation_high": "float64",
    "confirmation_rank": "Int64",
    "confirmations": "Int64",
    "optimism": "float64",
    "ceiling": "str",
    "ceiling_r": "float64",
    "share_of_ceiling": "float64",
    "unreliable": "Int64",
    "untrained_r": "float64",
    "pixels_r": "float64",
    "shuffled_r": "float64",
    "beats_its_twin": "str",
    "voxels": "int64",
    "undefined": "int64",
    "study": "str",
    "trial": "int64",
    "run_id": "str",
    "champion": "bool",
    "registered": "str",
    "note": "str",
    "dataset": "str",
    "dataset_digest": "str",
    "split_digest": "str",
}
_ALWAYS = ("rank", "backbone", "weights", "trained", "layer", "components", "regressor", "alpha")
_SCORES = ("validation_r", "confirmation_r")
_EXTRAS = ("registered", "parameters", "preprocessing", "trial", "undefined", "study")  # the last makes room first
_FORMULA = "=+-@＝＋－＠"  # what a spreadsheet takes for the start of a formula, wide forms too


def ranked(rows: Iterable[Row]) -> pd.DataFrame:
    """Rank the rows of one board by their validation score.

    Parameters
    ----------
    rows : iterable of Row
        Of one dataset and one split; `boards` groups them.

    Returns
    -------
    pandas.DataFrame
        One line per row, best first, with the columns rank, backbone, weights, trained, layer, components, regressor,
        alpha, parameters, preprocessing, validation_r, confirmation_r (Pearson r, median over voxels), what the
        confirmation rows say of a published model (its interval, rank among the published, ceiling and controls),
        voxels, undefined, study, trial, run_id, champion, registered, note, dataset, dataset_digest and split_digest.

    Raises
    ------
    DataError
        If the rows are not all of one dataset and one split.
    """
    records = [_record(rank, row) for rank, row in placed(rows)]
    return pd.DataFrame(records, columns=list(_TYPES)).astype(_TYPES)


def as_text(table: pd.DataFrame, width: int | None = None) -> str:
    """Print a table for a terminal, aligned, with no cell cut.

    Parameters
    ----------
    table : pandas.DataFrame
        From `ranked`.
    width : int, optional
        Columns of the terminal. Extra columns make room until the table fits; the ranking's own are always there.

    Returns
    -------
    str
        Lines without trailing blanks; ``"-"`` where there is nothing.
    """
    if table.empty:
        return "No finished trials."
    marked = table["registered"].mask(table["champion"], table["registered"] + " (champion)").str.strip()
    table = table.assign(registered=marked)
    cells = {name: [name, *(_cell(name, value) for value in table[name])] for name in _telling(table)}
    for name in reversed(_EXTRAS):
        if width is not None and name in cells and _width(cells) > width:
            del cells[name]
    columns = [_aligned(name, column) for name, column in cells.items()]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def as_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV, numbers in full, with nothing that a spreadsheet would run as a formula.

    Parameters
    ----------
    table : pandas.DataFrame
        From `ranked`.

    Returns
    -------
    str
        A header line and one line per trial. Text that starts like a formula is preceded by an apostrophe.
    """
    return inert_csv(table)


def inert_csv(table: pd.DataFrame) -> str:
    """Write any table as CSV, its texts and headings with nothing that a spreadsheet would run as a formula."""
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    inert = table.assign(**{name: table[name].map(_inert) for name in texts}).rename(columns=_inert)
    return str(inert.to_csv(index=False, lineterminator="\n"))


def _record(rank: int | None, row: Row) -> dict[str, Any]:
    shared = {name: getattr(row, name) for name in _TYPES if hasattr(row, name)}
    return (
        shared
        | _confirmed(row)
        | {
            "rank": rank,
            "components": row.n_components,
            "parameters": parameters_text(row.parameters),
            "validation_r": row.validation_median_r,
            "confirmation_r": row.confirmation_median_r,
            "voxels": row.n_voxels,
            "undefined": row.n_undefined,
            "registered": row.registered or "",
        }
    )


def _confirmed(row: Row) -> dict[str, Any]:
    """Return what the confirmation rows say; nothing of a row that was not published."""
    item = row.confirmed
    if item is None:
        return {"ceiling": "", "beats_its_twin": ""}
    controls = {f"{name}_r": score for name, (score, _) in item.controls.items()}
    return controls | {
        "confirmation_low": item.score.low,
        "confirmation_high": item.score.high,
        "confirmation_rank": item.place.rank if item.place else None,
        "confirmations": item.count,
        "optimism": item.optimism,
        "ceiling": item.ceiling,
        "ceiling_r": item.ceiling_r,
        "share_of_ceiling": item.normalised_r,
        "unreliable": item.n_unreliable,
        "beats_its_twin": {None: "", True: "yes", False: "no"}[item.beats_its_twin],
    }


def _telling(table: pd.DataFrame) -> list[str]:
    """Name the columns that say something here: an extra one is there when its lines differ, or hold what is rare."""
    rare = {"registered": table["registered"].ne(""), "undefined": table["undefined"].gt(0)}
    extras = {name for name in _EXTRAS if rare.get(name, table[name].ne(table[name].iloc[0])).any()}
    order = (*_ALWAYS, "parameters", "preprocessing", *_SCORES, "undefined", "study", "trial", "registered")
    return [name for name in order if name in extras or name not in _EXTRAS]


def _cell(name: str, value: Any) -> str:
    if pd.isna(value) or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if name == "alpha" else f"{value:.4f}"
    return printable(str(value))


def _width(cells: Mapping[str, list[str]]) -> int:
    return sum(max(map(len, column)) for column in cells.values()) + 2 * (len(cells) - 1)


def _aligned(name: str, column: list[str]) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) if _TYPES[name] == "str" else cell.rjust(width) for cell in column]


def _inert(text: object) -> str:
    shown = printable(str(text))
    return f"'{shown}" if shown.lstrip().startswith(tuple(_FORMULA)) else shown
