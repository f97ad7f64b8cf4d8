"""``img2brain model``: list registered models and run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.cli._options import home_option

if TYPE_CHECKING:
    from img2brain.tracking.registry import Registered, Registry


@click.group()
def model() -> None:
    """List, show and run registered models."""


@model.command("list")
@home_option
def list_command(home: Path) -> None:
    """List the registered models.

    \b
    Example:
      img2brain model list
    """
    for item in _registry(home).versions():
        aliases = f" ({', '.join(item.aliases)})" if item.aliases else ""
        click.echo(f"{item.name} version {item.version}{aliases}: {item.tags.get('trial', '')}, {_scores(item)}")


@model.command("show")
@click.argument("name")
@home_option
def show_command(name: str, home: Path) -> None:
    """Show a registered model: NAME, NAME@champion or NAME/VERSION.

    \b
    Example:
      img2brain model show v4-210224@champion
    """
    item = _registry(home).find(name)
    click.echo(f"{item.name} version {item.version} {' '.join(item.aliases)}".rstrip())
    for key, value in sorted(item.tags.items()):
        click.echo(f"  {key}: {value}")


@model.command("predict")
@click.argument("name")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write, .npy.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@home_option
def predict_command(name: str, images: tuple[Path, ...], out: Path, device: str, home: Path) -> None:
    """Predict the responses to images, one row each; a folder stands for its images in the order of their names.

    \b
    Example:
      img2brain model predict v4-210224@champion pictures/*.jpg --out predictions.npy
    """
    from img2brain.publish import load_model, predict_to_file

    n_images, n_voxels = predict_to_file(load_model(name, home), images, out, device=device)
    click.echo(f"{out}: {n_images} images, {n_voxels} voxels")


def _registry(home: Path) -> Registry:
    from img2brain.store import Home
    from img2brain.tracking._store import TrackingStore
    from img2brain.tracking.registry import Registry

    return Registry(TrackingStore(Home(home)))


def _scores(item: Registered) -> str:
    return f"validation r {item.score('validation'):.4f}, confirmation r {item.score('confirmation'):.4f}"
