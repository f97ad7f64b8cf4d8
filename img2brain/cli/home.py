"""``img2brain home``: what a home holds, whether it is all there, and where its paths lead."""

from __future__ import annotations

import click

from img2brain.cli._options import OpenHome, reads_home


@click.group()
def home() -> None:
    """Show, check or relocate the folder that holds everything."""


@home.command("show")
@reads_home
def show_command(open_home: OpenHome) -> None:
    """Show what a home is and holds.

    \b
    Example:
      img2brain home show --home mlruns
    """
    from img2brain.study.search import stored_studies
    from img2brain.tracking.upkeep import holdings

    place = open_home()
    held = holdings(place)
    click.echo(f"home: {place.folder}")
    click.echo(f"id: {place.id}")
    click.echo(f"format: {place.format}")
    click.echo(f"runs go to: {place.tracking_uri or place.database}")
    click.echo(f"studies: {len(stored_studies(place))}")
    click.echo(f"finished trials: {held.n_runs}")
    click.echo(f"models: {held.n_models}")
    click.echo(f"size: {held.n_bytes / 1e6:.1f} MB")


@home.command("check")
@reads_home
@click.pass_context
def check_command(context: click.Context, open_home: OpenHome) -> None:
    """Check the home's own database, and that the artifacts of every run and model are in the home.

    Prints every problem, one line each. Exit code 2 if there is any.

    \b
    Example:
      img2brain home check --home mlruns
    """
    from img2brain.tracking.upkeep import problems

    found = problems(open_home())
    for line in found:
        click.echo(line)
    if found:
        context.exit(2)
    click.echo("no problems")


@home.command("relocate")
@click.option("--new-id", is_flag=True, help="This is a copy, whose original is on another computer.")
@reads_home
def relocate_command(new_id: bool, open_home: OpenHome) -> None:
    """Let the paths in the database of a home that was moved or copied lead to where it is now.

    Any command does this by itself where all artifacts are in the home; this one also where some are not.

    \b
    Example:
      img2brain home relocate --home backup/mlruns
    """
    from img2brain.tracking.upkeep import relocate

    place = open_home()
    if new_id:
        place.take_new_id()
    done = relocate(place)
    click.echo(f"{done.n_paths} paths were changed; {len(done.missing)} folders of artifacts are not there")
    for uri in done.missing:
        click.echo(f"not there: {uri}")
