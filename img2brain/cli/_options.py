"""Options that several commands share, and the one place where the environment says where results go."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from img2brain.cli._log import log_option
from img2brain.errors import SpecError
from img2brain.secret import masked, passwords

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


def _without_password(ctx: click.Context, option: click.Parameter, url: str | None) -> str | None:
    """Refuse a password on the command line, where every user of the machine can read it."""
    if url and passwords(url) and ctx.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
        others = " or ".join(_INSTEAD[str(option.name)])
        raise SpecError(
            f"The option {option.opts[0]} must hold no password: everybody on this machine can read command lines. "
            f"Say it by {others}. Got {masked(url)!r}."
        )
    return url


_INSTEAD = {
    "tracking_uri": ("MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",),
    "storage": ("IMG2BRAIN_STORAGE", "PGPASSWORD", "a PGPASSFILE"),
}
_server_option = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    callback=_without_password,
    help="An MLflow server that takes the runs, in place of the home's own database.",
)
_storage_option = click.option(
    "--storage",
    metavar="URL",
    envvar="IMG2BRAIN_STORAGE",
    show_envvar=True,
    callback=_without_password,
    help="A database that takes the search log, sqlite:///FILE or postgresql://HOST/DATABASE, in place of the home's "
    "own file.",
)
_cache_option = click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="IMG2BRAIN_CACHE",
    show_envvar=True,
    help="A folder that takes the cache, in place of the home's own; homes may share it.",
)


def names_home(command: Command) -> Command:
    """Give a command the options of a home that it may do without, and hand it `home` and `tracking_uri`."""
    return folder_option(_server_option(log_option(command)))


def writes_home(command: Command) -> Command:
    """Give a command the options of a home, and hand it `open_home`, which makes the home where there is none."""
    from img2brain.home import Home

    return _with_home(command, Home)


def reads_home(command: Command) -> Command:
    """Give a command the options of a home, and hand it `open_home`, which refuses where there is none."""
    from img2brain.home import Home

    return _with_home(command, Home.existing)


def looks_at_home(command: Command) -> Command:
    """Give a command the options of a home, and hand it `open_home`, which takes the home as it is."""
    from img2brain.home import Home

    return _with_home(command, Home.as_it_is)


def _with_home(command: Command, make: Callable[..., Home]) -> Command:
    @functools.wraps(command)
    def run(
        *args: Any, home: Path, tracking_uri: str | None, storage: str | None, cache: Path | None, **options: Any
    ) -> Any:
        return command(*args, open_home=functools.partial(make, home, tracking_uri, storage, cache), **options)

    return folder_option(_server_option(_storage_option(_cache_option(log_option(run)))))
