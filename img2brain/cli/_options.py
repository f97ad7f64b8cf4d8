"""Options that several commands share, and the one place where the environment says where results go."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from img2brain.home import Home

Command = Callable[..., Any]
OpenHome = Callable[[], "Home"]

folder_option = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("mlruns"),
    envvar="IMG2BRAIN_HOME",
    show_default=True,
    show_envvar=True,
    help="Folder of runs, models, search log and cache.",
)
_server_option = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    help="An MLflow server that takes the runs, in place of the home's own database.",
)


def names_home(command: Command) -> Command:
    """Give a command the options of a home that it may do without, and hand it `home` and `tracking_uri`."""
    return folder_option(_server_option(command))


def writes_home(command: Command) -> Command:
    """Give a command the options of a home, and hand it `open_home`, which makes the home where there is none."""
    from img2brain.home import Home

    return _with_home(command, Home)


def reads_home(command: Command) -> Command:
    """Give a command the options of a home, and hand it `open_home`, which refuses where there is none."""
    from img2brain.home import Home

    return _with_home(command, Home.existing)


def _with_home(command: Command, make: Callable[[Path, str | None], Home]) -> Command:
    @functools.wraps(command)
    def run(*args: Any, home: Path, tracking_uri: str | None, **options: Any) -> Any:
        return command(*args, open_home=functools.partial(make, home, tracking_uri), **options)

    return folder_option(_server_option(run))
