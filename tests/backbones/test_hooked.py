"""Layers of networks that cannot be traced: what their modules give, however the network goes on with it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from img2brain.backbones._fast import accelerated
from img2brain.backbones._hooked import HookedGraph
from img2brain.backbones._network import graph_of
from img2brain.errors import FeatureError, UnknownLayerError

SIZE = (16, 16)


@dataclass
class Found:
    nothing: None
    hidden: torch.Tensor


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.act(self.norm(self.conv(x)))
        y = self.act(y - 0.5)
        return y.add_(x)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x + 1, x.mean((2, 3))


class Record(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return Found(None, x * 2)


class Dictionary(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return OrderedDict(last=x.flatten(1), first=x)


class Net(nn.Module):
    """All that makes layers hard: branches on numbers, writing in place, repeated modules, several values."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, stride=4)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.pair, self.record, self.dictionary = Pair(), Record(), Dictionary()
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.scale = nn.Parameter(torch.full((4,), 2.0))
        self.head, self.unused = nn.Linear(4, 5), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        x.mul_(0.5)
        first, pooled = self.pair(x)
        x = self.record(first).hidden
        x = self.dictionary(x)["first"]
        if float(x.sum()) == float("inf"):
            raise ValueError("no")
        tokens = self.encoder(x.flatten(2).transpose(1, 2))
        return self.head(tokens.mean(1) * self.scale + pooled)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def graph(net: nn.Module) -> HookedGraph:
    found = graph_of("net", net, lambda: SIZE)
    assert isinstance(found, HookedGraph)
    return found


def hooked(network: nn.Module, batch: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """What each module gives, by forward hooks on the plain network."""
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(path: str, output: Any) -> None:
        output = output.hidden if isinstance(output, Found) else output
        output = next(iter(output.values())) if isinstance(output, dict) else output
        seen.setdefault(path, []).append((output[0] if isinstance(output, tuple) else output).clone())

    handles = [
        module.register_forward_hook(lambda _m, _i, output, path=path: keep(path, output))
        for path, module in network.named_modules()
        if path and "encoder." not in path
    ]
    with torch.no_grad():
        network(batch.clone())
    for handle in handles:
        handle.remove()
    return seen


def batch_of(n_images: int) -> torch.Tensor:
    return torch.randn((n_images, 3, *SIZE), generator=torch.Generator().manual_seed(1))


def test_every_layer_is_what_a_forward_hook_sees(net: nn.Module, graph: HookedGraph) -> None:
    batch = batch_of(3)
    expected = {
        f"{path}_{number}" if len(outputs) > 1 else path: output
        for path, outputs in hooked(net, batch).items()
        for number, output in enumerate(outputs)
    }
    assert set(graph.nodes) == set(expected) >= {"blocks.0.act_0", "blocks.0.act_1", "pair", "record", "dictionary"}
    together = graph.extractor(graph.nodes, SIZE)
    with torch.inference_mode():
        found = together.body(batch.clone())
        for layer, values in expected.items():
            torch.testing.assert_close(found[layer], values)
            assert together.shapes[layer] == values.shape[1:]
            torch.testing.assert_close(graph.extractor([layer], SIZE).body(batch.clone())[layer], values)


def test_it_stops_after_the_last_layer(net: nn.Module, graph: HookedGraph) -> None:
    body = graph.prune(["blocks.0.norm", "stem"], SIZE)
    ran: list[str] = []
    for path, module in body.network.named_modules():
        module.register_forward_pre_hook(lambda *_, path=path: ran.append(path))
    with torch.inference_mode():
        body(batch_of(2))
    assert ran == ["", "stem", "blocks.0", "blocks.0.conv", "blocks.0.norm"]


def test_only_the_tensors_that_lead_to_a_layer_are_kept(net: nn.Module, graph: HookedGraph) -> None:
    kept = graph.prune(["stem"], SIZE).state_dict()
    assert set(kept) == {"stem.weight", "stem.bias"}
    assert kept["stem.weight"].data_ptr() == net.get_parameter("stem.weight").data_ptr()
    left = net.state_dict().keys() - graph.prune(["head"], SIZE).state_dict().keys()
    counts = {f"blocks.{number}.norm.num_batches_tracked" for number in range(2)}
    assert left == {"unused.weight", "unused.bias", *counts}


def test_the_network_is_left_as_it_is(net: nn.Module, graph: HookedGraph) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fast = accelerated(graph.extractor(["blocks.1", "head"], SIZE), torch.device("cpu"), torch.bfloat16)
    with torch.inference_mode():
        found = fast(batch_of(2).bfloat16())
        exact = graph.extractor(["blocks.1", "head"], SIZE)(batch_of(2))
    for layer, values in exact.items():
        assert found[layer].dtype == torch.bfloat16
        assert (found[layer].float() - values).norm() <= 0.02 * values.norm()
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_threads_do_not_take_from_each_other(graph: HookedGraph) -> None:
    extractor, batches = graph.extractor(["blocks.0", "head"], SIZE), [batch_of(2) + number for number in range(4)]
    with torch.inference_mode():
        expected = [extractor(batch)["head"] for batch in batches]
    found: dict[int, list[torch.Tensor]] = {}
    start = threading.Barrier(len(batches))

    def work(number: int) -> None:
        start.wait()
        with torch.inference_mode():
            found[number] = [extractor(batches[number])["head"] for _ in range(10)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, values in enumerate(expected):
        assert all(torch.allclose(item, values) for item in found[number])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("blocks.0.act", "could mean 'blocks.0.act_0' or 'blocks.0.act_1'. The module runs 2 times."),
        ("blocks.0.cnv", "Did you mean 'blocks.0.conv'"),
        ("blocks", "The module 'blocks' of net gives nothing itself. Inside it: 'blocks.0.conv'"),
        ("unused", "The module 'unused' of net does not run outside training."),
        (
            "encoder.linear1",
            "The module 'encoder.linear1' of net is a part of 'encoder', which torch computes at once.",
        ),
    ],
)
def test_a_name_that_is_no_layer_is_refused(graph: HookedGraph, layer: str, message: str) -> None:
    with pytest.raises(UnknownLayerError) as caught:
        graph.find([layer])
    assert message in str(caught.value)


def test_a_network_of_other_images_is_refused(net: nn.Module) -> None:
    with pytest.raises(FeatureError, match="net cannot take images of 2 x 2 pixels: RuntimeError"):
        graph_of("net", net, lambda: (2, 2)).extractor(["head"], (2, 2))
