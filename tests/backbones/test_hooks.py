"""What a layer's name means: what a forward hook sees of the module of this name, for every module of every network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from img2brain.backbones._content import layer_digests, tensor_digests
from img2brain.backbones._graph import Graph
from img2brain.backbones._source import Source
from img2brain.backbones.pixels import Pixels
from img2brain.backbones.torchvision import Torchvision
from img2brain.errors import FeatureError, UnknownLayerError

FAMILIES = ("alexnet", "googlenet", "mobilenet_v3_small", "resnet18", "vit_b_32")
SIZES = ((64, 64), (96, 96), (224, 224))
Seen = Mapping[str, list[Any]]


def drawn(network: nn.Module) -> nn.Module:
    """Give a network weights of a size that keeps activations finite: quicker than its own scheme."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point():
            low, high = (0.5, 1.5) if name.endswith("running_var") else (-0.08, 0.1)
            tensor.data.uniform_(low, high, generator=generator)
    return network


def hooked(network: nn.Module, batch: torch.Tensor) -> Seen:
    """Run a network, and return all that each of its modules gave, by each of the module's names."""
    seen: dict[nn.Module, list[Any]] = defaultdict(list)

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        seen[module].append(output.clone() if isinstance(output, torch.Tensor) else output)

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    with torch.inference_mode():
        network(batch.clone())
    for handle in handles:
        handle.remove()
    return {path: seen[module] for path, module in network.named_modules(remove_duplicate=False) if path}


def check_every_module(name: str, network: nn.Module, size: tuple[int, int]) -> int:
    """Hold all modules of a network against forward hooks; return how many gave a layer."""
    batch = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(1))
    graph, expected = Graph(name, network), {}
    for path, outputs in hooked(network, batch).items():
        names = (path,) if len(outputs) == 1 else tuple(f"{path}_{number}" for number in range(len(outputs)))
        if len(outputs) != 1:
            with pytest.raises(UnknownLayerError) as caught:
                graph.find([path])
            assert all(repr(item) in str(caught.value) for item in (*names[:2], *names[-1:]))
        for item, output in zip(names, outputs, strict=True):
            if isinstance(output, torch.Tensor) and len(output) == len(batch):
                expected[item] = output
            else:
                with pytest.raises(FeatureError, match="one tensor of numbers"):
                    graph.extractor([item], size)
    with torch.inference_mode():
        together = graph.extractor(list(expected), size)(batch.clone())
        for layer in list(expected)[:: max(1, len(expected) // 4)]:
            alone = graph.extractor([layer], size)(batch.clone())[layer]
            assert torch.equal(alone, together[layer]), layer
    for layer, output in expected.items():
        values = output.permute(0, 2, 3, 1) if output.ndim == 4 else output
        assert torch.equal(together[layer], values.reshape(len(batch), -1)), layer
    return len(expected)


def smallest(network: nn.Module) -> tuple[int, int]:
    """Return the first of some sizes that a network takes."""
    for size in SIZES[:-1]:
        try:
            with torch.inference_mode():
                network(torch.zeros(2, 3, *size))
        except (AssertionError, RuntimeError, ValueError):
            continue
        return size
    return SIZES[-1]


def check_network(name: str) -> None:
    library = Torchvision()
    source = Source(library, "torchvision", name)
    network = drawn(source.blank({"image_size": 224} if name.startswith("vit_") else {}))
    assert check_every_module(name, network, smallest(network)) > 10


@pytest.mark.parametrize("name", FAMILIES)
def test_the_modules_of_a_family_give_what_hooks_see(name: str) -> None:
    check_network(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in Torchvision().names if name not in FAMILIES])
def test_the_modules_of_every_network_give_what_hooks_see(name: str) -> None:
    check_network(name)


def test_the_pixels_give_what_hooks_see() -> None:
    assert check_every_module("pixels", Source(Pixels(), "pixels", "pixels").blank({}), (64, 64)) == 1


class Written(nn.Module):
    """Values are overwritten, by operations whose results are read, and by others."""

    def __init__(self, write: Callable[[torch.Tensor, Any], Any]) -> None:
        super().__init__()
        self.write = write
        self.conv_1, self.conv_2, self.relu_ = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)
        self.inner = nn.Sequential(nn.Identity(), nn.Dropout(), nn.Flatten())
        self.head_1 = nn.Linear(4 * 36, 3)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        first = self.conv_1(pictures)
        flat = self.inner(first)
        self.write(first, self.relu_)
        second = self.conv_2(first)
        return self.head_1(flat) + second.mean((1, 2, 3))[:, None]  # type: ignore[no-any-return]


def relu_inside(values: torch.Tensor, relu: Any) -> Any:
    return relu(values)


def double_a_view(values: torch.Tensor, relu: Any) -> Any:
    values.view(-1).mul_(2)
    return relu(values)


WRITES: dict[str, Callable[[torch.Tensor, Any], Any]] = {
    "module": relu_inside,
    "method": lambda values, _: values.add_(1),
    "function": lambda values, _: torch.relu_(values),
    "flag": lambda values, _: nn.functional.relu(values, inplace=True),
    "part": lambda values, _: values[:, 0].zero_(),
    "view": double_a_view,
    "out": lambda values, _: torch.mul(values, 2, out=values),
}


@pytest.mark.parametrize("write", WRITES)
def test_what_is_written_in_place_is_seen_as_hooks_see_it(write: str) -> None:
    network = drawn(Written(WRITES[write])).eval().requires_grad_(False)
    assert check_every_module("written", network, (8, 8)) >= 7


def test_the_digest_of_a_layer_holds_what_is_written_into_it() -> None:
    found = set()
    for write in ("method", "function", "module", "flag"):
        network = drawn(Written(WRITES[write])).eval().requires_grad_(False)
        body = Graph("written", network).prune(["conv_2", "conv_1"], (8, 8))
        digests = layer_digests(body, tensor_digests(network))
        found.add(digests["conv_2"])
        assert digests["conv_1"] not in found
    assert len(found) == 4


class Several(nn.Module):
    """Modules that run several times, give several values, have several names, or never run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU()
        self.same = self.conv
        self.pair = Pair()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()) for _ in range(2)])
        self.idle = nn.Conv2d(4, 4, 1)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        values = self.relu(self.conv(pictures))
        one, other = self.pair(values)
        values = self.relu(one + other)
        for block in self.blocks:
            values = block(block(values))
        found, _ = self.attention(*3 * [values.flatten(2).transpose(1, 2)])
        return found.sum(1)  # type: ignore[no-any-return]


class Pair(nn.Module):
    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return values + 1, values * 2


@pytest.fixture
def several() -> nn.Module:
    return drawn(Several()).eval().requires_grad_(False)


def test_modules_of_every_kind_give_what_hooks_see(several: nn.Module) -> None:
    assert check_every_module("several", several, (8, 8)) > 10


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("relu", "could mean 'relu_0' or 'relu_1'. The module runs 2 times."),
        ("blocks.1", "could mean 'blocks.1_0' or 'blocks.1_1'."),
        ("pair", "The module 'pair' of net gives a tuple. Inside it: 'pair.add', 'pair.mul'."),
        ("attention", "one tensor of numbers per image. The node 'attention'"),
        ("attention.out_proj", "is a part of 'attention', which torch computes at once."),
        ("blocks", "gives nothing itself. Inside it: 'blocks.0.0_0', 'blocks.0.0_1'"),
        ("idle", "The module 'idle' of net does not run outside training."),
        ("rel", "Unknown layer 'rel' of net. Did you mean 'relu_1' or 'relu_0'?"),
    ],
)
def test_what_is_not_one_layer_is_refused(several: nn.Module, layer: str, message: str) -> None:
    with pytest.raises(FeatureError) as caught:
        Graph("net", several).extractor([layer], (8, 8))
    assert message in str(caught.value)


class Twofold(nn.Module):
    """An operation has the name of a module, and another the name that one of several runs has."""

    def __init__(self) -> None:
        super().__init__()
        self.add, self.relu_1, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ReLU()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        values = self.add(pictures + 1)
        return self.relu(self.relu(self.relu_1(values)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("layer", "meanings"),
    [
        ("add", ("what the module 'add' gives", "the operation 'add'")),
        ("relu_1", ("what the module 'relu_1' gives", "what the module 'relu', run several times, gives")),
    ],
)
def test_a_name_of_two_things_is_refused_with_both(layer: str, meanings: tuple[str, str]) -> None:
    with pytest.raises(UnknownLayerError) as caught:
        Graph("net", Twofold().eval()).find([layer])
    assert all(meaning in str(caught.value) for meaning in meanings)


def test_a_vision_transformers_norms_are_those_that_are_named() -> None:
    graph = Graph("vit_b_32", Source(Torchvision(), "torchvision", "vit_b_32").blank({"image_size": 224}))
    block = "encoder.layers.encoder_layer_0"
    found = graph.find([f"{block}.ln_1", f"{block}.ln_2", f"{block}.mlp.0"])
    assert [value.given.target for value in found.values()] == list(found)
    with pytest.raises(UnknownLayerError, match=r"encoder_layer_0.ln_1'"):
        graph.find([f"{block}.ln"])
