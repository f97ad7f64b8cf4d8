"""``img2brain data``: check a dataset, list layouts, write sample data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.cli._options import names_home

if TYPE_CHECKING:
    from img2brain.datasets._looks import Report


@click.group()
def data() -> None:
    """Check a dataset, list the layouts, or write sample data."""


@data.command("check")
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--layout", metavar="NAME", help="A layout, or FILE.py:NAME; by default the one that recognises it.")
@names_home
@click.pass_context
def check_command(context: click.Context, path: Path, layout: str | None, home: Path, tracking_uri: str | None) -> None:
    """Check every image and response of a dataset.

    Prints what it holds, then every problem, one line each. Exit code 2 if there is any. Where there is a home, no
    other data set in it may have the same name.

    \b
    Example:
      img2brain data check my-recordings
      img2brain data check my-table --layout my_layout.py:Table
    """
    from img2brain.datasets._layouts import check

    report = check(path, layout)
    click.echo(f"layout: {report.layout or '-'}")
    click.echo(f"images: {report.images} training, {report.test_images} test")
    click.echo(f"voxels: {report.voxels}")
    click.echo(f"unit: {report.unit or '-'}")
    click.echo(f"subject: {report.subject or '-'}")
    click.echo(f"digest: {report.digest or '-'}")
    for line in report.rows:
        click.echo(line)
    if report.ties:
        click.echo(f"tied: {report.ties}")
    for problem in report.problems:
        click.echo(f"{problem.severity}: {' '.join(problem.message.split())}")
    taken = _name_of_others(report, path, home, tracking_uri) if report.digest else ""
    if taken:
        click.echo(f"error: {taken}")
    if report.problems or taken:
        context.exit(2)
    click.echo("no problems")


def _name_of_others(report: Report, path: Path, folder: Path, tracking_uri: str | None) -> str:
    """Say whose the name of a dataset is in the home, where it is that of other data."""
    from img2brain.errors import DataError, StoreError
    from img2brain.home import Home
    from img2brain.tracking._local import open_to_read
    from img2brain.tracking.own_name import origin_of, require_own_name

    try:
        home = Home.existing(folder, tracking_uri)
    except StoreError:  # there is none: every name is free
        return ""
    try:
        require_own_name(open_to_read(home), report.name, str(report.digest), report.source, origin_of(path))
    except DataError as error:
        return str(error)
    return ""


@data.command("layouts")
def layouts_command() -> None:
    """List the layouts of datasets, and what each needs.

    \b
    Example:
      img2brain data layouts
    """
    from img2brain.datasets._layouts import layouts

    for name, needs in layouts().items():
        click.echo(f"{name}: {needs}")


@data.command("sample")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--images", "n_images", default=600, show_default=True, help="Images; every tenth is a test image.")
@click.option("--voxels", "n_voxels", default=500, show_default=True, help="Simulated voxels.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other images and voxels.")
def sample_command(folder: Path, n_images: int, n_voxels: int, seed: int) -> None:
    """Write sample data: generated pictures and simulated responses to them.

    The same numbers always give the same files; the pictures do not depend on the number of voxels.

    \b
    Example:
      img2brain data sample sample-data --images 600 --voxels 500
    """
    from img2brain.datasets._sample import write_sample

    write_sample(folder, n_images=n_images, n_voxels=n_voxels, seed=seed)
    click.echo(f"wrote {n_images} images and {n_voxels} voxels to {folder}")
