"""``img2brain features``: features as files."""

from __future__ import annotations

from pathlib import Path

import click

from img2brain.cli._options import OpenHome, writes_home


@click.group()
def features() -> None:
    """Write features as files."""


@features.command("export")
@click.argument("experiment", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder, which must not be there.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["npy", "hdf5", "zarr"]),
    default="npy",
    show_default=True,
    help="Of the files.",
)
@click.option("--full", is_flag=True, help="All features of each layer as it is pooled, not reduced.")
@writes_home
def export_command(experiment: Path, out: Path, kind: str, full: bool, open_home: OpenHome) -> None:
    """Write the features that a study searches.

    A file for each network, layer and pooling, with a manifest of rows and files.

    \b
    Example:
      img2brain features export my-study.toml --out features
      img2brain features export my-study.toml --out features --full --format zarr
    """
    from img2brain.spec import load_study
    from img2brain.study.export import export_features

    click.echo(f"wrote {export_features(load_study(experiment), out, open_home(), kind=kind, full=full)}")
