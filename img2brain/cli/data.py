"""``img2brain data``: check a dataset folder, write sample data."""

from __future__ import annotations

from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def data() -> None:
    """Check a dataset folder, or write sample data."""


@data.command("check")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.pass_context
def check_command(context: click.Context, folder: Path) -> None:
    """Check every image and response of a dataset folder.

    Prints what it holds, then every problem, one line each. Exit code 2 if there is any.

    \b
    Example:
      img2brain data check my-recordings
    """
    from img2brain.datasets._check import check

    report = check(folder)
    click.echo(f"images: {report.images} training, {report.test_images} test")
    click.echo(f"voxels: {report.voxels}")
    click.echo(f"unit: {report.unit}")
    click.echo(f"subject: {report.subject or '-'}")
    click.echo(f"digest: {report.digest or '-'}")
    for problem in report.problems:
        click.echo(f"{problem.severity}: {problem.message}")
    if report.problems:
        context.exit(2)
    click.echo("no problems")


@data.command("sample")
@click.argument("folder", metavar="DIR", type=_FOLDER)
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
