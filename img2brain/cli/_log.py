"""The option that says how a command tells of its work; it stands before the command or among its own options."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from img2brain import logs

_FORM = "img2brain.log"  # in what the contexts of one command line share
_VARIABLE = "IMG2BRAIN_LOG"


def _choose(context: click.Context, _: click.Parameter, form: logs.Form | None) -> None:
    """Take the form that is named; the first that nobody names is text."""
    chosen = form or context.meta.get(_FORM, "text")
    if chosen != context.meta.get(_FORM):
        context.meta[_FORM] = chosen
        logs.to_stderr(chosen)


def log_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option ``--log``."""
    return click.option(
        "--log",
        type=click.Choice(["text", "json"]),
        envvar=_VARIABLE,
        show_envvar=True,
        expose_value=False,
        is_eager=True,
        callback=_choose,
        help="How work is told on stderr: in plain text, or as JSON, a line for each message.",
    )(command)


@contextmanager
def usage_told(words: Sequence[str]) -> Iterator[None]:
    """Tell as JSON, where a command line asks for that, why it cannot be taken: its options are not known by then.

    Parameters
    ----------
    words : sequence of str
        The command line.
    """
    try:
        yield
    except click.ClickException as error:
        if _asked_form(words) != "json":
            raise
        logs.to_stderr("json")
        told = " ".join(error.format_message().split())
        logging.getLogger("img2brain").error("Error: %s", told)  # noqa: TRY400 - it is no defect
        sys.exit(error.exit_code)


def _asked_form(words: Sequence[str]) -> str:
    """Return what a command line asks for last; else what the environment does."""
    following = zip(words, [*words[1:], ""], strict=True)
    found = [after if word == "--log" else word.removeprefix("--log=") for word, after in following
             if word == "--log" or word.startswith("--log=")]  # fmt: skip
    return found[-1] if found else os.environ.get(_VARIABLE, "")


def told_on_one_line(message: str) -> None:
    """Say on one line of stderr why a command ends."""
    line = " ".join(message.split())
    if click.get_current_context().meta.get(_FORM) == "json":
        logging.getLogger("img2brain").error(line)
    else:
        click.echo(line, err=True)
