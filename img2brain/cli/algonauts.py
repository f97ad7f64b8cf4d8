"""``img2brain algonauts``: the files of a challenge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from img2brain.cli._options import reads_home

if TYPE_CHECKING:
    from img2brain.cli._options import OpenHome


@click.group()
def algonauts() -> None:
    """Take part in the Algonauts challenge of 2023."""


@algonauts.command("submit")
@click.argument("name", metavar="NAME")
@click.argument("data", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--subject", help="Whose responses, where the folder holds several subjects.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where the arrays go.")
@reads_home
def submit_command(name: str, data: Path, subject: str | None, out: Path, open_home: OpenHome) -> None:
    """Predict a subject's test images, as the challenge takes them.

    NAME is a registered model, or the folder of a saved one; DIR the folder of the challenge, or of the subject.

    \b
    Example:
      img2brain algonauts submit algonauts2023-subj01@champion algonauts --subject subj01 --out submission
    """
    from img2brain.registered import is_saved, load_model
    from img2brain.submission import write_algonauts

    model = load_model(name) if is_saved(name) else load_model(name, open_home())
    for file in write_algonauts(model, data, out, subject):
        click.echo(str(file))
