"""``img2brain backbones``, ``layers``, ``regressors`` and ``metrics``: what there is to choose from."""

from __future__ import annotations

import click

from img2brain.cli._shown import Shown, names, shows


@click.command()
@click.argument("pattern", default="*")
@shows
def backbones(pattern: str) -> Shown:
    """List the networks, or those whose name fits a pattern.

    PATTERN is such as 'resnet*'. Those of timm, transformers and open_clip are named with their library; a name with
    the tag of its weights fits a pattern with a point.

    \b
    Example:
      img2brain backbones 'vit*'
      img2brain backbones 'timm:*dino*'
      img2brain backbones 'timm:resnet*.a1_in1k'
    """
    from img2brain.errors import SpecError, did_you_mean, quoted
    from img2brain.listing import backbone_names, matching

    found = matching(pattern)
    if not found:
        known = matching(f"{pattern.partition(':')[0]}:*") if ":" in pattern else backbone_names()
        raise SpecError(f"No backbone fits {quoted(pattern)}. {did_you_mean(pattern.strip('*'), known)}")
    return names(found)


@click.command()
@click.argument("backbone")
@click.option("--all", "every", is_flag=True, help="List every graph node, in order of execution.")
@shows
def layers(backbone: str, every: bool) -> Shown:
    """List the curated layers of BACKBONE, in order of depth.

    A network of one's own is named PATH.py:LIBRARY:NETWORK, and one of several of its name LIBRARY:NETWORK.

    \b
    Example:
        img2brain layers resnet50
        img2brain layers torchvision:resnet50 --all
    """
    from img2brain.listing import curated_layers, layer_names

    return names(layer_names(backbone) if every else curated_layers(backbone))


@click.command()
@shows
def regressors() -> Shown:
    """List the regressors.

    \b
    Example:
      img2brain regressors
    """
    from img2brain.catalog import REGRESSORS

    return names(REGRESSORS.names)


@click.command()
@shows
def metrics() -> Shown:
    """List the metrics.

    \b
    Example:
      img2brain metrics
    """
    from img2brain.catalog import METRICS

    return names(METRICS.names)
