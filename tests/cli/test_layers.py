from __future__ import annotations

import pytest
from click.testing import CliRunner

from img2brain.backbones import curated_layers, layer_names
from img2brain.cli.components import layers
from img2brain.errors import UnknownComponentError


def test_curated_layers_are_listed() -> None:
    result = CliRunner().invoke(layers, ["resnet50"])
    assert result.exit_code == 0
    assert tuple(result.output.split()) == curated_layers("resnet50")


def test_all_layers_are_listed() -> None:
    result = CliRunner().invoke(layers, ["alexnet", "--all"])
    assert tuple(result.output.split()) == layer_names("alexnet")


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(UnknownComponentError, match="resnet50"):
        CliRunner().invoke(layers, ["resnet5O"], catch_exceptions=False)


def test_help_shows_an_example() -> None:
    assert "img2brain layers resnet50" in CliRunner().invoke(layers, ["--help"]).output
