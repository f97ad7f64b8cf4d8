"""Commands of ``img2brain model`` that move models: out of a home, into another, to a hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.amounts import size_text
from img2brain.cli._options import OpenHome, names_home, reads_home

if TYPE_CHECKING:
    from img2brain.model._weights import Kind

_plugins = click.option(
    "--plugin", "plugins", multiple=True, metavar="FILE.py:NAME", help="A component of others that it needs."
)


@click.command("export")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "kind", type=click.Choice(["img2brain.zip", "onnx"]), help="By default as FILE ends.")
@click.option(
    "--without-weights", is_flag=True, help="Name the network's weights, with their digest, in place of them."
)
@reads_home
def export_command(name: str, file: Path, kind: str | None, without_weights: bool, open_home: OpenHome) -> None:
    """Write a registered model into one file.

    Any home imports the file, NAME.img2brain.zip, and Python loads it.

    A file that ends in .onnx maps pixels to responses for people without this package: its input is uint8 (images,
    height, width, 3), resized and cropped as its metadata say. Only linear models can be written so.

    With the model goes what is known of it: its origin, tags, and the records and scores of its trial. Neither pictures
    nor responses do, unless the regressor itself keeps responses (k_neighbors), which is said then.

    NAME may be the folder of a saved model: no home is needed then.

    \b
    Example:
      img2brain model export v4-210224@champion v4.img2brain.zip
      img2brain model export v4-210224@champion v4.onnx
    """
    from img2brain.errors import ModelError
    from img2brain.moving import export_model
    from img2brain.registered import is_saved

    if kind is not None and not file.name.endswith(f".{kind}"):
        raise ModelError(f"The file of --format {kind} must end in .{kind}. Got {str(file)!r}.")
    weights: Kind = "reference" if without_weights else "embedded"
    export_model(name, file, Path() if is_saved(name) else open_home(), weights=weights)
    click.echo(f"{file}: {size_text(file.stat().st_size)}")


@click.command("push")
@click.argument("name")
@click.argument("target", metavar="FOLDER|hf://OWNER/NAME")
@click.option("--public", is_flag=True, help="Whether a repository that is made can be read by all.")
@reads_home
def push_command(name: str, target: str, public: bool, open_home: OpenHome) -> None:
    """Write a model as a hub shows it, with its card, or upload it.

    It goes into a folder, or into a repository of Hugging Face's hub.

    The card is checked by the hub's own library, huggingface_hub, whose login is used.

    \b
    Example:
      img2brain model push v4-210224@champion hub-folder
      img2brain model push v4-210224@champion hf://my-lab/v4-210224
    """
    from img2brain.moving import push_model
    from img2brain.registered import is_saved

    where = push_model(name, target, Path() if is_saved(name) else open_home(), private=not public)
    click.echo(f"{name}: {where}")


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--as", "name", default="", metavar="NAME", help="What it is called here; by default as it was.")
@_plugins
@click.option("--weights", metavar="FILE", help="Weights of a model that only names them.")
@names_home
def import_command(
    file: Path, name: str, plugins: tuple[str, ...], weights: str | None, home: Path, tracking_uri: str | None
) -> None:
    """Register the model of a file that `model export` wrote.

    No data are needed. All of the file is checked before.

    \b
    Example:
      img2brain model import v4.img2brain.zip
    """
    from img2brain.home import Home
    from img2brain.moving import arriving, register

    with arriving(file, home, name, plugins, weights) as arrival:
        found = register(arrival, Home(home, tracking_uri))
    item = f"{found.registered.name}/{found.registered.version}"
    click.echo(f"{item}: {'imported' if found.is_new else 'there already, imported'} from {found.origin}")
    click.echo(f"{item}: {'the champion' if found.is_champion else 'not the champion'} ({found.reason})")
