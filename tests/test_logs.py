from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from img2brain.logs import JsonLines, about


def told(*args: Any, **facts: Any) -> dict[str, Any]:
    record = logging.LogRecord("img2brain.study", logging.INFO, "file", 1, args[0], args[1:], facts.get("exc_info"))
    line = JsonLines().format(record)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_line_says_when_what_and_of_which_process() -> None:
    found = told("trial #%d", 3)
    assert {name: found[name] for name in ("level", "logger", "message")} == {
        "level": "info", "logger": "img2brain.study", "message": "trial #3",
    }  # fmt: skip
    assert found["time"].endswith("Z")
    assert set(found) == {"time", "level", "logger", "process", "message"}


def test_a_line_says_what_it_is_about_and_of_several_the_innermost() -> None:
    with about(study="v4"), about(trial=1):
        with about(trial=2, member=None):
            assert {name: told("x").get(name) for name in ("study", "trial", "member")} == {
                "study": "v4", "trial": 2, "member": None,
            }  # fmt: skip
        assert told("x")["trial"] == 1
    assert "study" not in told("x")


@pytest.mark.parametrize("text", ["two\nlines", "\x1b[2J", "ü", '"quoted"', "\u2028"])
def test_any_message_is_one_line(text: str) -> None:
    assert told("%s", text)["message"] == text


def test_an_exception_follows_its_message() -> None:
    try:
        int("no\nnumber")
    except ValueError:
        found = told("failed", exc_info=sys.exc_info())
    assert "ValueError: invalid literal" in found["exception"]
