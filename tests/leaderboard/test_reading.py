"""The data of a site: JSON that follows its schema, and rows that are read back from disk and from the web."""

from __future__ import annotations

import functools
import http.server
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import img2brain
from img2brain.errors import DataError
from img2brain.leaderboard import read
from img2brain.leaderboard.rows import Row, boards
from img2brain.leaderboard.site.build import build
from img2brain.leaderboard.table import ranked_boards
from tests.leaderboard.conftest import MakeRow, against, confirmation_of, region_record, trial_record

KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


@pytest.fixture
def rows(make_row: MakeRow) -> list[Row]:
    trial = trial_record(number=3, score=0.4)
    whole = region_record(0.3, n_significant=7, controls={"pixels": against(0.1, math.nan)})
    found = Row(run_id="a" * 32, trial=trial, confirmation=confirmation_of(trial, whole, {"V1": region_record(0.2)}))
    others = [make_row(number=number, score=value) for number, value in enumerate((0.1, math.nan))]
    return [found, *others, make_row(number=9, dataset={"name": "other", "digest": "e" * 64}, alpha=None)]


@pytest.fixture
def site(rows: list[Row], tmp_path: Path) -> Path:
    build(rows, tmp_path / "site", built="today")
    return tmp_path / "site"


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    """The address of the site on a server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_is_read_is_what_was_ranked(rows: list[Row], site: Path) -> None:
    expected = ranked_boards(boards(rows))
    found = img2brain.leaderboard.read(site)
    kept = [name for name in expected if name in found]
    pd.testing.assert_frame_equal(found[kept], expected[kept])
    assert expected.drop(columns=kept).isna().all(axis=None), "a column without a number is left out"
    assert set(found) - set(expected) == {"row", "board", "dataset_id", "page"}
    assert all((site / page).is_file() for page in found["page"] if page)
    assert found["board"].nunique() == 2


@pytest.mark.parametrize("end", ["", "/", "/index.html", "/api/rows.json"])
def test_a_site_is_read_from_the_web(site: Path, served: str, end: str) -> None:
    pd.testing.assert_frame_equal(read(served + end), read(site / "api" / "rows.json"))


def test_what_does_not_answer_is_told(served: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read: 404 Client Error"):
        read(served + "/nothing")
    with pytest.raises(DataError, match=r"cannot be read: "):
        read("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "its format is 2, and 1 is the newest that is known here"),
        ({"format": True}, "its format is True"),
        ({"kind": "models"}, "it is no api/rows.json of a leaderboard"),
        ({"rows": 3}, "its row 0 is no flat table"),
        ({"rows": [{"rank": [1]}]}, "its row 0 is no flat table"),
        ({"rows": [{"rank": 1}]}, "its row 0 has no 'backbone'"),
    ],
)
def test_a_file_that_is_no_board_is_refused_on_one_line(site: Path, change: dict[str, Any], told: str) -> None:
    file = site / "api" / "rows.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(DataError, match=r"^The leaderboard .* cannot be read: ") as error:
        read(site)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["{", "[" * 99999, '{"format": 1, "kind": "rows", "rows": [{"rank": 1e999999}]}', "\xff"]
)
def test_no_text_is_more_than_refused(site: Path, text: str) -> None:
    (site / "api" / "rows.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError):
        read(site)


def test_every_file_follows_the_schema(site: Path) -> None:
    schema = json.loads((site / "api" / "schema.json").read_text(encoding="utf-8"))
    names = json.loads((site / "api" / "index.json").read_text(encoding="utf-8"))["files"]
    assert sorted(names) == sorted(path.name for path in (site / "api").iterdir() if path.name != "index.json")
    for name in {"index.json", *names} - {"schema.json"}:
        text = (site / "api" / name).read_text(encoding="utf-8")
        assert "NaN" not in text
        found = json.loads(text)
        assert list(differences(found, {"$ref": f"#/$defs/{found['kind']}"}, schema)) == []


def test_what_does_not_follow_the_schema_is_found(site: Path) -> None:
    schema = json.loads((site / "api" / "schema.json").read_text(encoding="utf-8"))
    found = json.loads((site / "api" / "rows.json").read_text(encoding="utf-8"))
    found["rows"][0]["rank"] = "first"
    del found["rows"][1]["layer"]
    assert sorted(differences(found, {"$ref": "#/$defs/rows"}, schema)) == ["rows.0.rank: type", "rows.1: no layer"]


def differences(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "") -> Iterator[str]:
    """Name where a value does not follow a schema, for the words that ours are written in."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        found = [list(differences(value, each, root, where)) for each in schema["anyOf"]]
        yield from [] if [] in found else found[0]
        return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not (value is None and "null" in kinds) and not any(_is(value, kind) for kind in kinds):
        yield f"{where}: type"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where}: const"
    if isinstance(value, dict):
        yield from (f"{where}: no {name}" for name in schema.get("required", []) if name not in value)
        for name, item in value.items():
            its = schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
            if its is False:
                yield f"{where}: unknown {name}"
            elif its is not True:
                yield from differences(item, its, root, f"{where}.{name}".lstrip("."))
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from differences(item, schema["items"], root, f"{where}.{number}")


def _is(value: Any, kind: str) -> bool:
    return kind in KINDS and isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))  # type: ignore[arg-type]
