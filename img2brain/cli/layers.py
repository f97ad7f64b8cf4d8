"""``img2brain layers``: what a network's layers are called."""

from __future__ import annotations

import click


@click.command()
@click.argument("backbone")
@click.option("--all", "every", is_flag=True, help="List every graph node, in order of execution.")
def layers(backbone: str, every: bool) -> None:
    """List the curated layers of BACKBONE, in order of depth.

    A network of one's own is named PATH.py:LIBRARY:NETWORK, and one of several of its name LIBRARY:NETWORK.

    \b
    Example:
        img2brain layers resnet50
        img2brain layers torchvision:resnet50 --all
    """
    from img2brain.backbones import curated_layers, layer_names

    for name in layer_names(backbone) if every else curated_layers(backbone):
        click.echo(name)
