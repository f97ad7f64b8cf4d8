"""``img2brain leaderboard export`` and its like: rows that leave their home, and rows of others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from img2brain.amounts import counted
from img2brain.cli._options import OpenHome, reads_home, writes_home

if TYPE_CHECKING:
    from img2brain.leaderboard.bundles.arithmetic import Checked
    from img2brain.verify import Verified

_MEANING = {
    "": "refused",
    "records": "what is stored agrees; not all can be computed again",
    "arithmetic": "every number follows from the arrays",
    "data": "the predictions score so on the data",
    "rerun": "the row was repeated",
}


_CHECKS = (
    click.option(
        "--data", metavar="[NAME=]DIR", multiple=True, help="A folder of data, of any dataset or of a named one."
    ),
    click.option("--rerun", metavar="ROW|all", multiple=True, help="Repeat a row, STUDY#NUMBER, or all of them."),
    click.option("--weights", multiple=True, type=click.Path(path_type=Path), help="A checkpoint that a rerun needs."),
    click.option("--signers", type=click.Path(path_type=Path), help="Allowed signers, as ssh-keygen -Y takes them."),
)


def _check_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a check."""
    for option in reversed(_CHECKS):
        command = option(command)
    return command


@click.command("export")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--dataset", help="One dataset's rows only, by its name.")
@click.option("--predictions", is_flag=True, help="With predictions of the confirmation rows; responses never enter.")
@click.option("--title", default="", help="What the lab calls itself, on one line.")
@click.option("--contact", default="", help="How the lab is reached, on one line.")
@click.option("--sign", "key", metavar="KEY", type=click.Path(path_type=Path), help="An SSH key to sign it with.")
@reads_home
def export_command(
    path: Path,
    dataset: str | None,
    predictions: bool,
    title: str,
    contact: str,
    key: Path | None,
    open_home: OpenHome,
) -> None:
    """Write the rows of a home as a bundle.

    Others can check it. It is a folder, or one file that ends in .zip.

    \b
    Example:
      img2brain leaderboard export my-bundle --title "Lab A"
    """
    from img2brain.leaderboard.bundles.export import export_bundle

    bundle = export_bundle(
        path, open_home(), dataset=dataset, predictions=predictions, title=title, contact=contact, key=key
    )
    click.echo(f"{path}: {counted(len(bundle.record.rows), 'row')}, bundle {bundle.digest[:12]}")


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@_check_options
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def verify_command(path: Path, as_json: bool, data: Sequence[str], **options: Any) -> None:
    """Check a bundle, and say how far each row holds.

    Tells for each row the highest level that holds. A bundle that does not agree with itself is refused.

    \b
      records     what is stored agrees, but not all of it can be computed again
      arithmetic  every summary, interval, control, rank, tie and flag follows from the arrays
      data        scores, intervals and significance follow from the predictions and the data at hand
      rerun       the row was repeated from its spec, and comes out the same

    Made-up scores that agree with one another pass the first two, made-up predictions the third; what was not computed
    so does not pass the last. No code of others is run at any level.

    \b
    Example:
      img2brain leaderboard verify their-bundle --data my-recordings
    """
    found = _checked(path, data, **options)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
    else:
        signed = f", signed by {found.signer}" if found.signer else ""
        click.echo(f"{found.origin}, bundle {found.digest[:12]}{signed}")
        for line in lines_of(found.rows):
            click.echo(line)
    found.require()


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path))
@_check_options
@writes_home
def import_command(path: Path, open_home: OpenHome, data: Sequence[str], **options: Any) -> None:
    """Take a bundle of others into a home, after a check.

    Its rows are on the boards then, with their levels.

    \b
    Example:
      img2brain leaderboard import their-bundle --data my-recordings
    """
    from img2brain.leaderboard.bundles.imported import import_bundle

    checked = _checked(path, data, **options)
    checked.require()
    found = import_bundle(path, open_home(), checked=checked.rows, expected=checked.digest)
    click.echo(f"{counted(found.n_rows, 'row')} of {found.origin}, bundle {found.digest[:12]}")


@click.command("imported")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@reads_home
def imported_command(as_json: bool, open_home: OpenHome) -> None:
    """List the bundles that a home has taken in.

    \b
    Example:
      img2brain leaderboard imported
    """
    from img2brain.leaderboard.bundles.imported import imported_bundles

    found = imported_bundles(open_home())
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found], indent=1))
        return
    if not found:
        click.echo("no bundles were taken in")
    for item in found:
        levels = ", ".join(
            f"{level} {list(item.levels.values()).count(level)}" for level in dict.fromkeys(item.levels.values())
        )
        told = " ".join(filter(None, [item.origin, item.contact and f"<{item.contact}>"]))
        click.echo(f"{item.digest[:12]}  {counted(item.n_rows, 'row')}  {told}  ({levels})")


@click.command("forget")
@click.argument("digest")
@writes_home
def forget_command(digest: str, open_home: OpenHome) -> None:
    """Take a bundle out of a home again.

    It is named by the beginning of its digest.

    \b
    Example:
      img2brain leaderboard forget 0123456789ab
    """
    from img2brain.leaderboard.bundles.imported import forget_bundle

    click.echo(f"forgot the bundle {forget_bundle(digest, open_home())[:12]}")


@click.command("submit")
@click.argument("clone", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--name", required=True, help="Of your folder there: small letters, digits and hyphens.")
@click.option("--dataset", help="One dataset's rows only, by its name.")
@click.option("--predictions", is_flag=True, help="With predictions of the confirmation rows; responses never enter.")
@click.option("--title", default="", help="What the lab calls itself, on one line.")
@click.option("--contact", default="", help="How the lab is reached, on one line.")
@click.option("--sign", "key", metavar="KEY", type=click.Path(path_type=Path), help="An SSH key to sign it with.")
@reads_home
def submit_command(clone: Path, name: str, open_home: OpenHome, **options: Any) -> None:
    """Put a home's rows into a repository of results.

    They go into a clone of it, on a branch of their own.

    \b
    Example:
      img2brain leaderboard submit board --name my-lab --title "My lab"
    """
    from img2brain.leaderboard.bundles.submit import submit_bundle

    branch = submit_bundle(clone, name, open_home(), **options)
    click.echo(f"committed bundles/{name} on the branch {branch}. To hand it in, push it and open a pull request:")
    click.echo(f"  git -C {clone} push origin {branch}")
    click.echo("where origin is your fork; its page then offers the pull request, and so does: gh pr create")


COMMANDS: Sequence[click.Command] = (
    submit_command,
    export_command,
    verify_command,
    import_command,
    imported_command,
    forget_command,
)


def lines_of(rows: Sequence[Checked]) -> list[str]:
    """Tell what was found of each row."""
    width = max(len(item.name) for item in rows)
    return [
        f"{item.name:<{width}}  {item.level or 'refused':<10}  "
        + (f"{item.difference}" if item.difference else _MEANING[item.level])
        + (
            f" ({'not computed again' if item.level == 'records' else 'no higher'}: {'; '.join(item.missing)})"
            if item.missing
            else ""
        )
        for item in rows
    ]


def _checked(path: Path, data: Sequence[str], *, rerun: Sequence[str], **options: Any) -> Verified:
    from img2brain.verify import verify_bundle

    return verify_bundle(path, data=_by_name(data), rerun="all" in rerun or rerun, **options)


def _by_name(data: Sequence[str]) -> dict[str, Path]:
    """Return folders by the name of the dataset; those without one under blanks, each under another."""
    named: dict[str, Path] = {}
    for number, item in enumerate(data):
        name, equals, folder = item.partition("=")
        is_named = bool(equals) and not Path(item).exists()
        named[name if is_named else " " * number] = Path(folder if is_named else item)
    return named
