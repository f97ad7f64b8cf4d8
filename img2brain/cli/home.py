"""``img2brain home``: what a home holds, whether it is all there, what can be freed, and where its paths lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.amounts import counted, size_text
from img2brain.cli._log import log_option
from img2brain.cli._options import OpenHome, folder_option, looks_at_home, reads_home
from img2brain.cli._shown import Shown, shows

if TYPE_CHECKING:
    from img2brain.tracking.room import Room


@click.group()
def home() -> None:
    """Show, check, tidy, back up, restore or relocate a home."""


@home.command("show")
@reads_home
@shows
def show_command(open_home: OpenHome) -> Shown:
    """Show what a home is and holds, and what takes its room.

    \b
    Example:
      img2brain home show --home mlruns
    """
    from img2brain.study.search import stored_studies
    from img2brain.tracking.upkeep import holdings

    place = open_home()
    held = holdings(place)
    facts = {
        "home": str(place.folder),
        "id": place.id,
        "format": place.format,
        "runs go to": str(place.tracking_uri or place.database),
        "studies": len(stored_studies(place)),
        "finished trials": held.n_runs,
        "models": held.n_models,
    }
    lines = [f"{name}: {value}" for name, value in facts.items()]
    room = {"bytes": held.n_bytes, "room": [asdict(item) for item in held.room]}
    return Shown(facts | room, [*lines, _table(held.room)])


@home.command("gc")
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
@click.option("--deleted-runs", is_flag=True, help="Also the artifacts of what was deleted in MLflow: not restorable.")
@click.option("--dry-run", is_flag=True, help="Say what would be freed, and free nothing.")
@reads_home
@shows
def gc_command(kinds: tuple[str, ...], deleted_runs: bool, dry_run: bool, open_home: OpenHome) -> Shown:
    """Free what can be computed again.

    That is the cache, or some KINDs of its entries, such as axes. What a trial or a model keeps stays, also where the
    cache shares it. Refused while a study is at work.

    \b
    Example:
      img2brain home gc --dry-run
      img2brain home gc axes
    """
    from img2brain.tracking.room import free

    freed, left = free(open_home(), kinds, deleted_runs=deleted_runs, dry_run=dry_run)
    facts = {"freed": [asdict(item) for item in freed], "left": left, "dry_run": dry_run}
    return Shown(facts, [*left, _table(freed, "would be freed" if dry_run else "freed")])


def _table(found: Sequence[Room], title: str = "in all") -> str:
    """Show what takes room, a line for each kind."""
    n_files, n_bytes = sum(item.n_files for item in found), sum(item.n_bytes for item in found)
    lines = [(item.kind, item.n_files, item.n_bytes) for item in found] + [(title, n_files, n_bytes)]
    return "\n".join(f"{kind:<32} {counted(files, 'file'):>14} {size_text(size):>14}" for kind, files, size in lines)


@home.command("check")
@click.option("--deep", is_flag=True, help="Also read every byte of the cache.")
@looks_at_home
@shows
def check_command(open_home: OpenHome, deep: bool) -> Shown:
    """Check a home, and say what to do where all is not well.

    Looks at versions, devices, permissions, room, locks, the stores, runs that nobody will finish, artifacts, models
    and the cache, and changes nothing. Prints every problem, one line each. Exit code 2 if there is any.

    \b
    Example:
      img2brain home check --home mlruns
      img2brain home check --deep
    """
    from img2brain.health import check

    found = check(open_home(), deep)
    told = list(map(str, found.findings))
    facts = {"facts": found.facts, "problems": [item._asdict() for item in found.findings]}
    lines = [*(f"{name}: {value}" for name, value in found.facts.items()), *(told or ["no problems"])]
    return Shown(facts, lines, exit_code=2 if told else 0)


@home.command("backup")
@click.argument("place", metavar="FILE.zip|DIR", type=click.Path(path_type=Path))
@click.option("--with-cache", is_flag=True, help="Also the cache, which can be computed again.")
@reads_home
def backup_command(place: Path, with_cache: bool, open_home: OpenHome) -> None:
    """Copy all that a home keeps. Studies may be at work.

    \b
    Example:
      img2brain home backup monday.zip
      img2brain home backup /backups/monday --with-cache
    """
    from img2brain.tracking.backup import backup

    made = backup(open_home(), place, with_cache=with_cache)
    click.echo(f"backed up {counted(len(made.record.files), 'file')} ({size_text(made.n_bytes)}) to {place}")
    for line in made.record.left_out:
        click.echo(f"left out: {line}")


@home.command("restore")
@click.argument("backup", metavar="FILE.zip|DIR", type=click.Path(path_type=Path))
@folder_option
@log_option
def restore_command(backup: Path, home: Path) -> None:
    """Bring a home back from a backup, where none is.

    Each file is checked against its digest.

    \b
    Example:
      img2brain home restore monday.zip --home mlruns
    """
    from img2brain.tracking.backup import restore

    found = restore(backup, home)
    click.echo(f"restored {counted(len(found.record.files), 'file')} of {found.record.made} to {home}")


@home.command("relocate")
@click.option("--new-id", is_flag=True, help="This is a copy, whose original is on another computer.")
@reads_home
def relocate_command(new_id: bool, open_home: OpenHome) -> None:
    """Let the paths of a home that was moved or copied lead to it.

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
