"""The conformance suite of libraries of networks: passed by one from elsewhere, and failed by broken ones, by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from img2brain.backbones.base import Library, Preprocessing, Weights
from img2brain.testing import backbone_checks, check_backbones

SIZE = 32


class Tiny(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.relu(self.norm(self.conv(x)))
        z: torch.Tensor = self.head(y.mean(dim=(2, 3)))
        return z


class Mine(Library):
    """A library as a stranger writes it."""

    names = ("tiny", "wide")

    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        return self.make({"tiny": 4, "wide": 8}[name])

    def make(self, width: int) -> nn.Module:
        return Tiny(width)

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        return Preprocessing(resize=(SIZE, SIZE))


def failures(library: Any) -> dict[str, str]:
    """What the suite says, by check."""
    try:
        check_backbones(library)
    except AssertionError as error:
        return dict(line.split(": ", 1) for line in str(error).splitlines())
    return {}


class WithoutBuild(Library):
    names = ("tiny",)


class OneText(Mine):
    names = "tiny"  # type: ignore[assignment]


class Twice(Mine):
    names = ("tiny", "tiny")


class AnyName(Mine):
    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        return Tiny()


class Untraceable(Mine):
    def make(self, width: int) -> nn.Module:
        class Branching(Tiny):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x if x.isfinite().all() else -x)

        return Branching(width)


class AlwaysAtWork(Mine):
    def make(self, width: int) -> nn.Module:
        class Stubborn(nn.Dropout):
            def train(self, mode: bool = True) -> Any:
                return super().train(True)

        return nn.Sequential(Tiny(width), Stubborn())


class Growing(Mine):
    n_built = 0

    def make(self, width: int) -> nn.Module:
        type(self).n_built += 1
        network = Tiny(width)
        nn.init.constant_(network.head.bias, type(self).n_built)
        return network


class WithoutSeed(Mine):
    def make(self, width: int) -> nn.Module:
        network = Tiny(width)
        for parameter in network.parameters():
            nn.init.constant_(parameter, 0.1)
        return network


class Drawing(Mine):
    def make(self, width: int) -> nn.Module:
        import numpy as np

        np.random.random()
        return Tiny(width)


class LayersElsewhere(Mine):
    def layers(self, name: str) -> tuple[str, ...]:
        return ("conv", "convolution")


class LayersTwice(Mine):
    def layers(self, name: str) -> tuple[str, ...]:
        return ("conv", "conv", "head")


class Mixing(Mine):
    def make(self, width: int) -> nn.Module:
        class Batched(Tiny):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x - x.roll(1, 0))

        return Batched(width)


class Looking(Mine):
    def make(self, width: int) -> nn.Module:
        class AnotherWhenTraced(Tiny):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.conv(x) if isinstance(x, torch.Tensor) else -self.conv(x)
                z: torch.Tensor = self.head(y.mean(dim=(2, 3)))
                return z

        return AnotherWhenTraced(width)


class AnotherSize(Mine):
    def make(self, width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.Linear(width * 20 * 20, 2))


class Cropping(Mine):
    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        class Flipped(Preprocessing):
            def pixels(self, picture: Any) -> torch.Tensor:
                return super().pixels(picture[::-1].copy())

        return Flipped(resize=(SIZE, SIZE))


class OpaqueOptions(Mine):
    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        return {"shape": (1, 2)}


def test_a_library_from_elsewhere_passes() -> None:
    check_backbones(Mine)
    check_backbones(Mine(), ["wide"])


def test_a_library_of_networks_that_cannot_be_traced_passes() -> None:
    check_backbones(Untraceable)


@pytest.mark.parametrize(
    ("library", "check", "says"),
    [
        (WithoutBuild, "complete", "It must define 'build'."),
        (OneText, "complete", "Its 'names' must be a tuple of texts without ':'. Got 'tiny'."),
        (Twice, "complete", "Its 'names' must differ. Got ('tiny', 'tiny')."),
        (AnyName, "unknown_networks_are_refused", "The network 'no such network' must raise Img2BrainError."),
        (AlwaysAtWork, "networks_are_at_rest", "The network 'tiny' must be in evaluation mode."),
        (Growing, "seeds_fix_the_weights", "The network 'tiny' must have the same weights for the same seed."),
        (Growing, "digests_tell_networks_apart", "The network 'tiny' must compute the same when it is built again."),
        (WithoutSeed, "seeds_fix_the_weights", "The network 'tiny' must have other weights for another seed."),
        (Drawing, "global_generators_stay", "The network 'tiny' must leave NumPy's generator alone."),
        (LayersElsewhere, "layers_exist", "Unknown layer 'convolution' of tiny."),
        (LayersTwice, "layers_exist", "The layers of 'tiny' must be listed once each."),
        (Mixing, "layers_give_one_row_per_image", "must not depend on the other images of a batch."),
        (Looking, "the_trace_is_the_network", "must compute when traced what it computes when called."),
        (AnotherSize, "preprocessing_fits_the_network", "tiny cannot take images of 32 x 32 pixels"),
        (Cropping, "preprocessing_fits_the_network", "The preprocessing of"),
        (OpaqueOptions, "options_are_plain_data", "The options of 'tiny' must be plain data."),
    ],
)
def test_a_broken_library_fails_by_name(library: Any, check: str, says: str) -> None:
    assert says in failures(library)[check]


def test_checks_have_names() -> None:
    names = [name for name, _ in backbone_checks()]
    assert len(names) == len(set(names)) >= 14
