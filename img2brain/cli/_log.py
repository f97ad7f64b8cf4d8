"""The option that says how a command tells of its work; it stands before the command or among its own options."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import click

from img2brain import logs

_FORM = "img2brain.log"  # in what the contexts of one command line share


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
        envvar="IMG2BRAIN_LOG",
        show_envvar=True,
        expose_value=False,
        is_eager=True,
        callback=_choose,
        help="How work is told on stderr: in plain text, or as JSON, a line for each message.",
    )(command)


def told_on_one_line(message: str) -> None:
    """Say on one line of stderr why a command ends."""
    line = " ".join(message.split())
    if click.get_current_context().meta.get(_FORM) == "json":
        logging.getLogger("img2brain").error(line)
    else:
        click.echo(line, err=True)
