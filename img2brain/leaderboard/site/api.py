"""The data of a site as JSON: files that programs read, and the schema that they follow.

A number that is not finite is null. Each file says its format, which is raised where a key changes its meaning or goes;
new keys do not raise it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from img2brain import plain
from img2brain.leaderboard.means import MeanBoard, mean_lines
from img2brain.leaderboard.rows import Row, placed
from img2brain.leaderboard.site.board import Board
from img2brain.leaderboard.site.cards import DatasetCard
from img2brain.leaderboard.site.names import board_id, dataset_id, row_id
from img2brain.leaderboard.table import COLUMNS, ranked_boards
from img2brain.records import ConfirmationRecord, DatasetRecord, TrialRecord
from img2brain.statistics.ties import Place

FORMAT = 1
ROWS = "rows.json"
_TYPES = {"str": "string", "float64": "number", "int64": "integer", "Int64": "integer", "bool": "boolean"}
_PAGE = re.compile(r"(rows|data)/[a-z0-9-]+\.html")
_ADDED = ("row", "board", "dataset_id", "page")  # to the columns of leaderboard.csv


def api_files(
    boards: Sequence[Board], cards: Sequence[DatasetCard], title: str, built: str, means: Sequence[MeanBoard] = ()
) -> Iterator[tuple[str, str]]:
    """Yield the files of ``api/``, by their names in the site's folder."""
    groups = [[row for _, row in board.ranked] for board in boards]
    yield "api/index.json", _text("index", _index(boards, cards, title, built, means))
    yield f"api/{ROWS}", _text("rows", {"rows": row_lines(groups)})
    yield "api/models.json", _text("models", {"models": [_model(row) for board in boards for row in board.published]})
    if lines := [known(line) for board in means for line in mean_lines(board)]:
        yield "api/means.json", _text("means", {"means": lines})
    yield "api/datasets.json", _text("datasets", {"datasets": list(map(_dataset, cards))})
    yield "api/schema.json", json.dumps(schema(), indent=1) + "\n"


def pages_before(folder: Path) -> set[str]:
    """Return the pages of rows and data sets that a site lists that was built in a folder before."""
    try:
        found = plain.of_json((folder / "api" / "index.json").read_bytes(), any_text=True)
    except (OSError, ValueError):
        return set()
    names = found.get("pages") if isinstance(found, dict) else None
    return (
        {name for name in names if isinstance(name, str) and _PAGE.fullmatch(name)}
        if isinstance(names, list)
        else set()
    )


def row_lines(boards: Sequence[Sequence[Row]], most: int | None = None) -> list[dict[str, Any]]:
    """Return a line for each row of some boards, or for so many of the best of each.

    It holds what stands in ``leaderboard.csv``, and where the row's page is.

    A number that a row does not have is left out, or null where every row has the key.
    """
    table = ranked_boards(boards, most)
    found = table.astype(object).where(table.notna(), None).to_dict("records")
    about = [line for board in boards for line in islice(_about(board), most)]
    return [line | known(numbers) for line, numbers in zip(about, found, strict=True)]


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the files, a definition for each."""
    records = {record.__name__: _nullable(record.model_json_schema()) for record in (TrialRecord, ConfirmationRecord)}
    definitions = {name: item for found in records.values() for name, item in found.pop("$defs", {}).items()}
    columns = {name: {"type": [_TYPES[kind], "null"]} for name, kind in COLUMNS.items()}
    texts = {name: {"type": "string"} for name in _ADDED}
    files = {
        "rows": _listed("rows", _object({**texts, **columns}, {"type": ["number", "string", "boolean", "null"]})),
        "models": _listed("models", _object({
            "row": {"type": "string"}, "board": {"type": "string"}, "rank": {"type": ["integer", "null"]},
            "tie_group": {"type": ["integer", "null"]}, "trial": {"$ref": "#/$defs/TrialRecord"},
            "confirmation": {"$ref": "#/$defs/ConfirmationRecord"},
        })),
        "means": _listed("means", _object({
            "members": {"type": "string"}, "n_members": {"type": "integer"}, "study": {"type": "string"},
            "trial": {"type": "integer"}, "validation": {"type": ["number", "null"]},
        }, {"type": ["number", "string", "boolean", "null"]})),
        "datasets": _listed("datasets", _object({
            "id": {"type": "string"}, "boards": {"type": "array", "items": {"type": "string"}},
            "regions": {"type": "object", "additionalProperties": {"type": "integer"}},
            "record": {"$ref": "#/$defs/DatasetRecord"},
        })),
        "index": _object(_head("index") | {
            "title": {"type": "string"}, "built": {"type": "string"},
            "files": {"type": "array", "items": {"type": "string"}},
            "pages": {"type": "array", "items": {"type": "string"}},
            "boards": {"type": "array", "items": _object({
                "id": {"type": "string"}, "dataset": {"type": "string"}, "dataset_id": {"type": "string"},
                "metric": {"type": "string"}, "summary": {"type": "string"}, "split_digest": {"type": "string"},
                "n_trials": {"type": "integer"}, "n_published": {"type": "integer"},
                "parts": {"type": "array", "items": {"type": "string"}},
            })},
        }),
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The data of an img2brain leaderboard",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in files],
        "$defs": files | records | definitions,
    }


def _index(
    boards: Sequence[Board], cards: Sequence[DatasetCard], title: str, built: str, means: Sequence[MeanBoard]
) -> dict[str, Any]:
    return {
        "title": title,
        "built": built,
        "files": [ROWS, "models.json", *(["means.json"] if means else []), "datasets.json", "schema.json"],
        "pages": [
            *(f"rows/{row_id(row)}.html" for board in boards for row in board.published),
            *(f"data/{card.id}.html" for card in cards),
        ],
        "boards": [
            {
                "id": board.id,
                "dataset": board.dataset.name,
                "dataset_id": board.dataset_page,
                "metric": board.measure.metric,
                "summary": board.measure.summary,
                "split_digest": board.split.split,
                "n_trials": len(board.ranked),
                "n_published": len(board.published),
                "parts": [part.name for part in board.parts if part.name],
            }
            for board in boards
        ],
    }


def _model(row: Row) -> dict[str, Any]:
    assert row.confirmation is not None
    place: Place | None = row.place
    return {
        "row": row_id(row),
        "board": board_id(row),
        "rank": place.rank if place else None,
        "tie_group": place.group if place else None,
        "trial": row.trial.model_dump(mode="json"),
        "confirmation": row.confirmation.model_dump(mode="json"),
    }


def _dataset(card: DatasetCard) -> dict[str, Any]:
    record: DatasetRecord = card.record
    return {
        "id": card.id,
        "boards": [board.id for board in card.boards],
        "regions": card.regions,
        "record": record.model_dump(mode="json"),
    }


def _about(board: Sequence[Row]) -> Iterator[dict[str, str]]:
    """Tell of each row of a board, best first, where it is found, and whose it is."""
    where = {"board": board_id(board[0]), "dataset_id": dataset_id(board[0].trial.dataset)}
    for _, row in placed(board):
        name = row_id(row)
        page = f"rows/{name}.html" if row.confirmed else ""
        yield {"row": name, **where, "page": page}


def known(line: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a line for JSON: without numbers that are not known, but for those that every row has, which are null."""
    finite = {str(name): _finite(value) for name, value in line.items()}
    return {name: value for name, value in finite.items() if value is not None or name in COLUMNS}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(kind: str, table: Mapping[str, Any]) -> str:
    """Write a file: each item of a list on a line of its own, so that a change shows as few lines."""
    parts = [
        f'"format": {FORMAT}',
        f'"kind": {json.dumps(kind)}',
        *(_member(name, item) for name, item in table.items()),
    ]
    return "{" + ",\n".join(parts) + "}\n"


def _member(name: str, item: Any) -> str:
    if not isinstance(item, list) or not item:
        return f"{json.dumps(name)}: {_json(item)}"
    return f"{json.dumps(name)}: [\n" + ",\n".join(map(_json, item)) + "\n]"


def _json(item: Any) -> str:
    return json.dumps(item, allow_nan=False)


def _head(kind: str) -> dict[str, Any]:
    return {"format": {"const": FORMAT}, "kind": {"const": kind}}


def _object(properties: Mapping[str, Any], others: Any = True) -> dict[str, Any]:
    found = {"type": "object", "properties": dict(properties), "required": list(properties)}
    return found if others is True else found | {"additionalProperties": others}


def _listed(kind: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return _object(_head(kind) | {kind: {"type": "array", "items": dict(item)}})


def _nullable(found: Any) -> Any:
    """Let every number be null: JSON has no NaN."""
    if isinstance(found, list):
        return [_nullable(item) for item in found]
    if not isinstance(found, dict):
        return found
    inner = {name: _nullable(item) for name, item in found.items()}
    return inner | {"type": ["number", "null"]} if inner.get("type") == "number" else inner
