"""Rank trials and print them: rows in, a table out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pandas as pd

from img2brain.leaderboard.lines import encodable, is_count
from img2brain.leaderboard.published import by_part, part_names
from img2brain.leaderboard.record_numbers import statistics_of
from img2brain.leaderboard.rows import Row, home_name, placed, printable
from img2brain.plain import inert
from img2brain.result import score_text
from img2brain.spec import NO_POOLING, PCA

_FIRST = {
    "rank": "Int64",
    "backbone": "str",
    "weights": "str",
    "trained": "str",
    "layer": "str",
    "pooling": "str",
    "components": "int64",
    "reduction": "str",
    "regressor": "str",
    "alpha": "float64",
    "parameters": "str",
    "preprocessing": "str",
    "objective": "str",
    "summary": "str",
    "validation": "float64",
    "confirmation": "float64",
    "confirmation_low": "float64",
    "confirmation_high": "float64",
    "confirmation_rank": "Int64",
    "looks": "Int64",
    "optimism": "float64",
}
_LAST = {
    "ceiling": "str",
    "beats_its_twin": "str",
    "voxels": "int64",
    "undefined": "int64",
    "study": "str",
    "trial": "int64",
    "home": "str",
    "origin": "str",
    "verified": "str",
    "run_id": "str",
    "champion": "bool",
    "registered": "str",
    "note": "str",
    "dataset": "str",
    "dataset_digest": "str",
    "split_digest": "str",
}
COLUMNS: dict[str, Any] = _FIRST | _LAST  # that every row has, with their types
_OF_SOME = {"member": "str"}  # texts that there are where some row has them
_ALWAYS = ("rank", "backbone", "weights", "trained", "layer", "components", "regressor", "alpha")
_SCORES = ("validation", "confirmation")
# The last of these makes room first.
_EXTRAS = (
    "registered",
    "pooling",
    "reduction",
    "parameters",
    "preprocessing",
    "home",
    "origin",
    "verified",
    "trial",
    "undefined",
    "study",
)


def ranked(rows: Iterable[Row], most: int | None = None) -> pd.DataFrame:
    """Rank the rows of one board by their validation score.

    Parameters
    ----------
    rows : iterable of Row
        Of one dataset, one split and one objective; `boards` groups them.
    most : int, optional
        How many lines are wanted, of the best rows; by default all.

    Returns
    -------
    pandas.DataFrame
        One line per row, best first, with the columns rank, backbone, weights, trained, layer, pooling, components,
        reduction, regressor, alpha, parameters, preprocessing, objective (the metric), summary (what stands for all
        voxels), validation, confirmation (scores), what the confirmation rows say of a published model (its interval,
        rank among the published, and all statistics of `RegionRecord` by name), the same of each named part of the
        confirmation rows (``confirmation[NAME]``, ``drop[NAME]`` from the first ...), other metrics as
        ``validation_NAME``, voxels, undefined, study, trial, home, origin, verified (see `Row`), run_id, champion,
        registered, note, dataset, dataset_digest and split_digest.

    Raises
    ------
    DataError
        If the rows are not all of one dataset, one split and one objective.
    """
    return ranked_boards([list(rows)], most)


def ranked_boards(boards: Sequence[Sequence[Row]], most: int | None = None) -> pd.DataFrame:
    """Rank the rows of several boards, each for itself, in one table; see `ranked`."""
    records = [encodable(line) for board in boards for line in _records(board, most)]
    found = list(dict.fromkeys(name for record in records for name in record))
    others = [name for name in found if name not in COLUMNS and name not in _OF_SOME]
    statistics = {name: "Int64" if is_count(records, name) else "float64" for name in others}
    types = _FIRST | statistics | _LAST | {name: _OF_SOME[name] for name in found if name in _OF_SOME}
    return pd.DataFrame(records, columns=list(types)).astype(types)


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
    """Write any table as CSV, numbers in full, with nothing that a spreadsheet would run as a formula.

    Parameters
    ----------
    table : pandas.DataFrame
        From `ranked`, or another.

    Returns
    -------
    str
        A header line and one line per line of the table. A text or heading that starts like a formula is preceded by an
        apostrophe.
    """
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    inert = table.assign(**{name: table[name].map(_inert) for name in texts}).rename(columns=_inert)
    return str(inert.to_csv(index=False, lineterminator="\n"))


def _records(board: Sequence[Row], most: int | None) -> Iterator[dict[str, Any]]:
    """Yield the lines of a board, best first; of each named part of the confirmation rows with columns of its own."""
    parts = {name: {_key(row): row for row in by_part(board, name)} for name in part_names(board)}
    for rank, row in islice(placed(board), most):
        others = [_of_part(name, rows[_key(row)]) for name, rows in parts.items()]
        yield _record(rank, row) | {name: value for other in others for name, value in other.items()}


def _key(row: Row) -> tuple[str, str, str]:
    return row.run_id, row.origin, row.home


def _of_part(name: str, row: Row) -> dict[str, Any]:
    """Return what a part of the confirmation rows says of a row that it ranks, in columns that end in its name."""
    if row.confirmed is None:
        return {}
    score = row.confirmed.whole.score
    found: dict[str, Any] = {"confirmation_rank": row.place.rank if row.place else None}
    found |= {"confirmation": score.estimate, "confirmation_low": score.low, "confirmation_high": score.high}
    found |= {"looks": row.confirmed.looks}
    if row.drop is not None:
        found |= {"drop": row.drop.estimate, "drop_low": row.drop.low, "drop_high": row.drop.high}
    return {f"{column}[{name}]": value for column, value in found.items()}


def _record(rank: int | None, row: Row) -> dict[str, Any]:
    trial, spec = row.trial, row.trial.spec
    others: dict[str, Any] = {"member": trial.member} if trial.member else {}
    others |= {f"validation_{name}": item.score for name, item in trial.metrics.items() if name != trial.objective}
    return others | _confirmed(row) | {
        "rank": rank,
        "backbone": spec.backbone,
        "weights": spec.weights,
        "trained": trial.network.trained,
        "layer": spec.layer,
        "pooling": spec.pooling,
        "components": spec.n_components,
        "reduction": spec.reduction,
        "regressor": spec.regressor,
        "alpha": row.alpha,
        "parameters": row.other_parameters,
        "preprocessing": spec.preprocessing,
        "objective": trial.objective,
        "summary": row.measure.summary,
        "validation": trial.score,
        "confirmation": row.confirmed_score,
        "voxels": trial.dataset.n_voxels,
        "undefined": row.n_undefined,
        "study": row.study,
        "trial": trial.number,
        "home": row.home,
        "origin": row.origin,
        "verified": row.verified,
        "run_id": row.run_id,
        "champion": row.champion,
        "registered": row.registered,
        "note": row.note,
        "dataset": trial.dataset.name,
        "dataset_digest": trial.dataset.digest,
        "split_digest": trial.rows.split,
    }  # fmt: skip


def _confirmed(row: Row) -> dict[str, Any]:
    """Return what the confirmation rows say; nothing of a row that was not published."""
    part = row.confirmed
    if part is None:
        return {"ceiling": "", "beats_its_twin": ""}
    statistics = {item.name: item.value for item in statistics_of(part.whole)}
    low, high = (statistics.pop(f"score_{end}") for end in ("low", "high"))
    del statistics["score"], statistics["n_voxels"]
    return statistics | {
        "confirmation_low": low,
        "confirmation_high": high,
        "confirmation_rank": row.place.rank if row.place else None,
        "looks": part.looks,
        "optimism": row.trial.score - row.confirmed_score,
        "ceiling": part.ceiling,
        "beats_its_twin": {None: "", True: "yes", False: "no"}[part.beats_its_twin],
    }


def _telling(table: pd.DataFrame) -> list[str]:
    """Name the columns that say something here: an extra one is there when its lines differ, or hold what is rare."""
    homes = table.groupby("study")["home"].transform("nunique")
    rare = {name: table[name].ne("") for name in ("registered", "origin", "verified")}
    rare |= {"pooling": table["pooling"].ne(NO_POOLING), "reduction": table["reduction"].ne(PCA)}
    rare |= {"undefined": table["undefined"].gt(0), "home": homes.gt(1)}
    extras = {name for name in _EXTRAS if rare.get(name, table[name].ne(table[name].iloc[0])).any()}
    whose = ("study", "trial", "home", "origin", "verified", "registered")
    order = (*_ALWAYS, "pooling", "reduction", "parameters", "preprocessing", *_SCORES, "undefined", *whose)
    return [name for name in order if name in extras or name not in _EXTRAS]


def _cell(name: str, value: Any) -> str:
    if pd.isna(value) or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if name == "alpha" else score_text(value)
    return printable(home_name(value) if name == "home" else str(value))


def _width(cells: Mapping[str, list[str]]) -> int:
    return sum(max(map(len, column)) for column in cells.values()) + 2 * (len(cells) - 1)


def _aligned(name: str, column: list[str]) -> list[str]:
    width = max(map(len, column))
    is_text = (_FIRST | _LAST)[name] == "str"
    return [cell.ljust(width) if is_text else cell.rjust(width) for cell in column]


def _inert(text: object) -> str:
    return inert(printable(str(text)))
