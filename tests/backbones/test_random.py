from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from img2brain.backbones import load_backbone
from img2brain.backbones._random import SeededFill, filled_by
from img2brain.errors import FeatureError

# Frozen: other numbers here mean that published results with random weights cannot be repeated.
GOLDEN = {
    "squeezenet1_1": "27e6669d2fbb",
    "resnet18": "7deddd80b615",
    "swin_t": "592842be13f4",
}


def stream(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


@pytest.mark.parametrize("name", GOLDEN)
def test_numbers_are_frozen(name: str) -> None:
    assert load_backbone(name, "random:0").weights_digest.startswith(GOLDEN[name])


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_global_generators_neither_matter_nor_move(name: str) -> None:
    digests = set()
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state()
        digests.add(load_backbone(name, "random:7").weights_digest)
        assert torch.equal(torch.get_rng_state(), before)
        assert np.random.random() == stream(seed).random_sample()
    assert len(digests) == 1


def test_seeds_differ() -> None:
    assert len({load_backbone("squeezenet1_1", f"random:{seed}").weights_digest for seed in (0, 1, 2**32 - 1)}) == 3


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "efficientnet_b0", "swin_t", "googlenet"])
def test_keeps_the_scheme_of_each_network(name: str) -> None:
    torch.manual_seed(0)
    scheme = {"init_weights": True} if name == "googlenet" else {}
    plain = models.get_model(name, weights=None, **scheme).state_dict()
    for key, value in load_backbone(name, "random:0").network.state_dict().items():
        if value.is_floating_point() and value.numel() > 2000:
            torch.testing.assert_close(value.std(), plain[key].std(), rtol=0.1, atol=1e-7)
            torch.testing.assert_close(value.mean(), plain[key].mean(), rtol=0, atol=float(plain[key].std()) / 5 + 1e-7)
        elif not value.is_floating_point() or plain[key].unique().numel() == 1:
            assert torch.equal(value, plain[key])


def test_truncated_normal_stays_within_bounds() -> None:
    with filled_by(stream()):
        values = nn.init.trunc_normal_(torch.empty(10_000), mean=0.5, std=2.0, a=-1.0, b=1.0)
    assert values.min() >= -1
    assert values.max() <= 1
    assert values.std() > 0.5


def test_blocks_continue_one_stream() -> None:
    with filled_by(stream()):
        whole = torch.empty(1001).normal_()
    with filled_by(stream(), block=100):
        assert torch.equal(torch.empty(1001).normal_(), whole)
    assert np.array_equal(whole.numpy(), stream().normal(size=1001).astype(np.float32))


def test_nothing_falls_through_to_torch() -> None:
    with filled_by(stream()), pytest.raises(FeatureError, match="normal_ and uniform_"):
        torch.randperm(3)
    with filled_by(stream()), pytest.raises(FeatureError, match="bernoulli"):
        torch.empty(3).bernoulli_()


def test_tensors_that_are_made_random_are_drawn_from_the_stream() -> None:
    with filled_by(stream()):
        found = [torch.randn(3), torch.rand(2, 2), torch.randn_like(torch.ones(2)), torch.normal(1.0, 2.0, (2,))]
    own = stream()
    expected = [own.normal(size=3), own.uniform(size=4).reshape(2, 2), own.normal(size=2), own.normal(1.0, 2.0, 2)]
    for values, drawn in zip(found, expected, strict=True):
        assert np.array_equal(values.numpy(), drawn.astype(np.float32))
    state = torch.get_rng_state()
    with SeededFill(3):
        again = [torch.randn(3), torch.rand(3)]
    torch.manual_seed(3)
    assert torch.equal(again[0], torch.randn(3))
    assert torch.equal(again[1], torch.rand(3))
    torch.set_rng_state(state)


def test_the_truncated_normal_numbers_of_other_libraries_are_ours() -> None:
    kept = nn.init.trunc_normal_  # a copy, as transformers keeps one
    layers = pytest.importorskip("timm.layers")
    found = [torch.empty(50) for _ in range(3)]
    for fill, values in zip((nn.init.trunc_normal_, kept, layers.trunc_normal_), found, strict=True):
        with filled_by(stream()):
            fill(values, std=0.02)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_without_a_stream_nothing_is_drawn() -> None:
    kept = torch.full((5,), 3.0)
    with filled_by(None):
        nn.init.trunc_normal_(kept)
        kept.uniform_()
    assert torch.equal(kept, torch.full((5,), 3.0))


def test_torch_is_itself_afterwards() -> None:
    original = nn.init.trunc_normal_
    with pytest.raises(ZeroDivisionError), filled_by(stream()):
        _ = 1 / 0
    assert nn.init.trunc_normal_ is original


def test_other_threads_keep_torch() -> None:
    found = []

    def elsewhere() -> None:
        torch.manual_seed(3)
        found.append(nn.init.trunc_normal_(torch.empty(9)))

    with filled_by(None):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    torch.manual_seed(3)
    assert torch.equal(found[0], nn.init.trunc_normal_(torch.empty(9)))
