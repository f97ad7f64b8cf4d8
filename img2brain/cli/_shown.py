"""What a command found, shown as lines to a person and as JSON to a program."""

from __future__ import annotations

import functools
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class Shown:
    """What a command found.

    Attributes
    ----------
    facts : plain data, or a callable that returns it
        What ``--json`` prints; a number that is not finite becomes null. A callable is asked only where it is printed.
    lines : iterable of str
        What is printed otherwise.
    exit_code : int
        How the command ends.
    """

    facts: Any
    lines: Iterable[str]
    exit_code: int = 0


def shows(command: Callable[..., Shown]) -> Callable[..., None]:
    """Give a command the option ``--json``, and print what it returns."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @functools.wraps(command)
    def run(*args: Any, as_json: bool, **options: Any) -> None:
        found = command(*args, **options)
        for line in [_json(found.facts)] if as_json else found.lines:
            click.echo(line)
        if found.exit_code:
            sys.exit(found.exit_code)

    return run


def terminal_width() -> int | None:
    """Return how many columns the terminal has; None where what is printed goes elsewhere, and may be of any width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def names(found: Iterable[str]) -> Shown:
    """Show names, one on a line."""
    listed = list(found)
    return Shown(listed, listed)


def _json(facts: Any) -> str:
    return json.dumps(_plain(facts() if callable(facts) else facts), indent=1)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, which knows no number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_plain, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
