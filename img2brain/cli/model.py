"""``img2brain model``: list registered models and run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.cli._options import OpenHome, reads_home

if TYPE_CHECKING:
    from img2brain.tracking.registry import Registered, Registry


@click.group()
def model() -> None:
    """List, show and run registered models."""


@model.command("list")
@reads_home
def list_command(open_home: OpenHome) -> None:
    """List the registered models.

    \b
    Example:
      img2brain model list
    """
    for item in _registry(open_home).versions():
        aliases = f" ({', '.join(item.aliases)})" if item.aliases else ""
        click.echo(f"{item.name} version {item.version}{aliases}: {item.tags.get('trial', '')}, {_scores(item)}")


@model.command("show")
@click.argument("name")
@reads_home
def show_command(name: str, open_home: OpenHome) -> None:
    """Show a registered model: NAME, NAME@champion or NAME/VERSION.

    \b
    Example:
      img2brain model show v4-210224@champion
    """
    item = _registry(open_home).find(name)
    click.echo(f"{item.name} version {item.version} {' '.join(item.aliases)}".rstrip())
    for key, value in sorted(item.tags.items()):
        click.echo(f"  {key}: {value}")


@model.command("predict")
@click.argument("name")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write, .npy.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@reads_home
def predict_command(name: str, images: tuple[Path, ...], out: Path, device: str, open_home: OpenHome) -> None:
    """Predict the responses to images, one row each; a folder stands for its images in the order of their names.

    \b
    Example:
      img2brain model predict v4-210224@champion pictures/*.jpg --out predictions.npy
    """
    from img2brain._heap import keep_freed_memory
    from img2brain.publish import load_model, predict_to_file

    keep_freed_memory()
    n_images, n_voxels = predict_to_file(load_model(name, open_home()), images, out, device=device)
    click.echo(f"{out}: {n_images} images, {n_voxels} voxels")


def _registry(open_home: OpenHome) -> Registry:
    from img2brain.tracking._store import TrackingStore
    from img2brain.tracking.registry import Registry

    return Registry(TrackingStore(open_home()))


def _scores(item: Registered) -> str:
    return f"validation r {item.score('validation'):.4f}, confirmation r {item.score('confirmation'):.4f}"
