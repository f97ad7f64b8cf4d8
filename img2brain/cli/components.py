"""``img2brain backbones``, ``regressors`` and ``metrics``: what there is to choose from."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable

import click

_json_option = click.option("--json", "as_json", is_flag=True, help="Print a list in JSON.")


@click.command()
@click.argument("pattern", default="*")
@_json_option
def backbones(pattern: str, as_json: bool) -> None:
    """List the networks, or those whose name fits PATTERN, such as 'resnet*'.

    \b
    Example:
      img2brain backbones 'vit*'
    """
    from img2brain.backbones import backbone_names

    found = [name for name in backbone_names() if fnmatch.fnmatchcase(name, pattern)]
    _print(found, as_json)


@click.command()
@_json_option
def regressors(as_json: bool) -> None:
    """List the regressors.

    \b
    Example:
      img2brain regressors
    """
    from img2brain.catalog import REGRESSORS

    _print(REGRESSORS.names, as_json)


@click.command()
@_json_option
def metrics(as_json: bool) -> None:
    """List the metrics.

    \b
    Example:
      img2brain metrics
    """
    from img2brain.catalog import METRICS

    _print(METRICS.names, as_json)


def _print(names: Iterable[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(list(names)))
        return
    for name in names:
        click.echo(name)
