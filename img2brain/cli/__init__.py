"""The command line: parse, call one function, print. Bad input gets one clear line and exit code 2."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from img2brain.cli._log import log_option, told_on_one_line, usage_told
from img2brain.errors import Img2BrainError, lack_of

COMMANDS = {
    "data": ("data", "data"),
    "backbones": ("components", "backbones"),
    "regressors": ("components", "regressors"),
    "metrics": ("components", "metrics"),
    "layers": ("components", "layers"),
    "study": ("study", "study"),
    "features": ("features", "features"),
    "model": ("model", "model"),
    "leaderboard": ("leaderboard", "leaderboard"),
    "algonauts": ("algonauts", "algonauts"),
    "compare": ("compare", "compare"),
    "home": ("home", "home"),
    "ui": ("ui", "ui"),
}


class _Commands(click.Group):
    """A group that imports a command when it is used, so that help comes at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(f"img2brain.cli.{module}"), name)
        return found

    def make_context(self, info_name: str | None, args: list[str], *others: Any, **extra: Any) -> click.Context:
        """Take the options that stand before a command."""
        words = tuple(args)  # click takes them out one by one
        with usage_told(words):
            context = super().make_context(info_name, args, *others, **extra)
        context.obj = words
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say what went wrong on one line."""
        try:
            with _interrupts_kept(), usage_told(ctx.obj):
                return super().invoke(ctx)
        except Img2BrainError as error:
            _leave(f"Error: {error}", 2)
        except KeyboardInterrupt:
            _leave("Interrupted. The same command goes on where this one stopped.", 130)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and not _is_heard():
                raise  # click ends without a word where nobody reads on, as behind a pipe to `head`
            if lack := lack_of(error):
                _leave(f"Error: {lack}.", 2)
            raise


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Send an interrupt again where Python drops it: in a destructor or the callback of a weak reference."""
    hook = sys.unraisablehook

    def again(dropped: sys.UnraisableHookArgs, /) -> None:
        if dropped.exc_type is not KeyboardInterrupt:
            hook(dropped)
            return
        # An interrupt sent from here would be dropped as well, so it comes a little later.
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook


def _is_heard() -> bool:
    """Tell whether anybody still reads what is printed."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # an end of a pipe whose other end is closed tells it unasked
    return not any(event & select.POLLERR for _, event in poll.poll(0))


def _leave(message: str, code: int) -> None:
    """Print one line and end."""
    told_on_one_line(message)
    if os.environ.get("IMG2BRAIN_TRACEBACK"):
        raise  # noqa: PLE0704 - in the handler of the error
    sys.exit(code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="img2brain")
@log_option
def main() -> None:
    """Find which vision network, layer and regressor predict the responses of a brain best.

    \b
    Example:
      img2brain study run experiments/quickstart.toml
      img2brain leaderboard show
    """
