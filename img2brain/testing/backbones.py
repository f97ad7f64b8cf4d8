"""What every library of networks owes, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from img2brain.backbones import Backbone, Library, Request, Source, restore
from img2brain.backbones._hooked import HookedGraph, first_tensor
from img2brain.backbones._preprocessing import Preprocessing
from img2brain.errors import Img2BrainError
from img2brain.testing._suite import Check, named, owed, refused, run

UNKNOWN = "no such network"
_NEAR = 1e-3  # of the largest number: a batch of another size rounds another way


def check_backbones(library: type[Library] | Library, names: Collection[str] | None = None) -> None:
    """Check all that a library of networks owes.

    Parameters
    ----------
    library : type or Library
        A class that extends `img2brain.backbones.base.Library` and is called without arguments, or an object of it.
    names : collection of str, optional
        The networks to look at; by default all. Each costs some seconds and several times its memory.

    Raises
    ------
    AssertionError
        With a line for each check that failed, starting with its name.

    Examples
    --------
    >>> from img2brain.backbones.pixels import Pixels
    >>> check_backbones(Pixels)
    """
    run(_CHECKS, LibraryUnderTest(library, None if names is None else tuple(names)))


def backbone_checks() -> Iterator[tuple[str, Check[LibraryUnderTest]]]:
    """Yield each check with its name; a check takes a `LibraryUnderTest`.

    Examples
    --------
    >>> from img2brain.backbones.pixels import Pixels
    >>> checks = dict(backbone_checks())
    >>> checks["options_are_plain_data"](LibraryUnderTest(Pixels))
    """
    return named(_CHECKS)


@dataclass(eq=False)
class LibraryUnderTest:
    """A library, and what was built of it so far.

    Attributes
    ----------
    made : type or Library
        As handed to `check_backbones`.
    names : tuple of str, optional
        The networks to look at; all by default.
    """

    made: Any
    names: tuple[str, ...] | None = None
    _loaded: dict[tuple[str, int, int], Backbone] = field(default_factory=dict, repr=False)

    @property
    def library(self) -> Library:
        """The library itself."""
        if isinstance(self.made, type):
            self.made = self.made()
        found: Library = self.made
        return found

    def sources(self) -> Iterator[Source]:
        """Yield the networks to look at."""
        for name in self.library.names if self.names is None else self.names:
            yield self.source(name)

    def source(self, name: str) -> Source:
        """Return a network of this name."""
        return Source(self.library, type(self.library).__name__, name)

    def load(self, source: Source, seed: int = 1, build: int = 0) -> Backbone:
        """Return a network with random weights, built once for each seed and number of a build."""
        key = source.name, seed, build
        if key not in self._loaded:
            self._loaded[key] = fresh(source, seed)
        return self._loaded[key]


def fresh(source: Source, seed: int) -> Backbone:
    """Build a network with random weights."""
    return Request.of(source, f"random:{seed}").load()


def check_complete(tested: LibraryUnderTest) -> None:
    """Check that it extends `Library`, defines what that leaves open, and names its networks."""
    absent = sorted(getattr(tested.made, "__abstractmethods__", ())) if isinstance(tested.made, type) else []
    owed(not absent, f"It must define {', '.join(repr(name) for name in absent)}.")
    library = tested.library
    owed(isinstance(library, Library), f"It must extend Library. Got {type(library).__name__}.")
    names = library.names
    proper = isinstance(names, tuple) and all(isinstance(name, str) and name and ":" not in name for name in names)
    owed(proper and names, f"Its 'names' must be a tuple of texts without ':'. Got {names!r}.")
    owed(len(set(names)) == len(names), f"Its 'names' must differ. Got {names!r}.")
    unknown = [name for name in tested.names or () if not library.holds(name)]
    owed(not unknown, f"It must hold the networks to look at. It lacks {unknown}.")


def check_unknown_networks_are_refused(tested: LibraryUnderTest) -> None:
    """Check that a name that is not among `names` gives no network."""
    refused(Img2BrainError, lambda: tested.source(UNKNOWN).blank({}), f"The network {UNKNOWN!r}")


def check_networks_can_be_built_and_traced(tested: LibraryUnderTest) -> None:
    """Check that each network is a module with operations, the same each time."""
    for source in tested.sources():
        owed(source.nodes, f"The network {source.name!r} must have operations.")
        owed(tested.load(source).nodes == source.nodes, f"The network {source.name!r} must have the same nodes again.")


def check_networks_are_at_rest(tested: LibraryUnderTest) -> None:
    """Check that evaluation mode reaches every module, and that no output asks for gradients."""
    for source in tested.sources():
        network = tested.load(source).network
        at_work = [name for name, module in network.named_modules() if module.training]
        owed(not at_work, f"The network {source.name!r} must be in evaluation mode. Not so: {at_work}.")
        needed = [name for name, tensor in network.named_parameters() if tensor.requires_grad]
        owed(not needed, f"The network {source.name!r} must need no gradients. Not so: {needed}.")
        owed(
            all(torch.isfinite(tensor).all() for tensor in network.state_dict().values()),
            f"The network {source.name!r} must have finite weights.",
        )


def check_seeds_fix_the_weights(tested: LibraryUnderTest) -> None:
    """Check that ``random:SEED`` gives the same numbers twice, and others for another seed."""
    for source in tested.sources():
        one, same, other = tested.load(source), tested.load(source, build=1), tested.load(source, 2)
        owed(
            one.weights_digest == same.weights_digest,
            f"The network {source.name!r} must have the same weights for the same seed.",
        )
        owed(
            not any(True for _ in one.network.parameters()) or one.weights_digest != other.weights_digest,
            f"The network {source.name!r} must have other weights for another seed.",
        )


def check_global_generators_stay(tested: LibraryUnderTest) -> None:
    """Check that building a network moves neither torch's nor NumPy's random numbers."""
    for source in tested.sources():
        before = torch.get_rng_state(), str(np.random.get_state())
        fresh(source, 1)
        after = torch.get_rng_state(), str(np.random.get_state())
        owed(torch.equal(before[0], after[0]), f"The network {source.name!r} must leave torch's generator alone.")
        owed(before[1] == after[1], f"The network {source.name!r} must leave NumPy's generator alone.")


def check_layers_exist(tested: LibraryUnderTest) -> None:
    """Check that the layers that it lists are in the graph, each once, in a tuple."""
    for source in tested.sources():
        listed = source.library.layers(source.name)
        proper = isinstance(listed, tuple) and all(isinstance(layer, str) for layer in listed)
        owed(proper, f"The layers of {source.name!r} must be a tuple of texts. Got {listed!r}.")
        found = tested.load(source).graph.find(source.curated)
        nodes = [found[layer].given for layer in source.curated]
        owed(nodes, f"The network {source.name!r} must have layers.")
        owed(
            all(one < next_ for one, next_ in pairwise(nodes)),
            f"The layers of {source.name!r} must be listed once each. Got {source.curated}.",
        )


def check_layers_give_one_row_per_image(tested: LibraryUnderTest) -> None:
    """Check that each curated layer gives finite numbers, as many as it says, for each image on its own."""
    for source in tested.sources():
        backbone = tested.load(source)
        extractor, batch = backbone.extractor(backbone.layers), _batch(backbone)
        together, alone = _run(extractor, batch), _run(extractor, batch[1:])
        for layer, values in together.items():
            shape = (len(batch), extractor.n_features[layer])
            owed(values.shape == shape, f"{source.name} {layer} must be of shape {shape}. Got {tuple(values.shape)}.")
            owed(torch.isfinite(values).all(), f"{source.name} {layer} must be finite.")
            owed(
                _near(values[1:], alone[layer]),
                f"{source.name} {layer} must not depend on the other images of a batch.",
            )


def check_layers_do_not_depend_on_each_other(tested: LibraryUnderTest) -> None:
    """Check that a layer is the same whichever others are asked for, and that none is overwritten later."""
    for source in tested.sources():
        backbone = tested.load(source)
        batch = _batch(backbone)
        together = _run(backbone.extractor(backbone.layers), batch)
        n_layers = len(backbone.layers)
        for layer in {backbone.layers[place] for place in (0, n_layers // 2, n_layers - 1)}:
            alone = _run(backbone.extractor([layer]), batch)[layer]
            owed(_near(alone, together[layer]), f"{source.name} {layer} must be the same alone and with the others.")


def check_the_trace_is_the_network(tested: LibraryUnderTest) -> None:
    """Check that what is traced computes what the network computes."""
    for source in tested.sources():
        backbone = tested.load(source)
        if isinstance(backbone.graph, HookedGraph):
            continue
        batch, last = _batch(backbone), backbone.nodes[-1]
        with torch.inference_mode():
            expected = backbone.network(batch.clone())
        if isinstance(expected, torch.Tensor):
            with torch.inference_mode():
                found = backbone.extractor([last]).body(batch)[last]
            owed(
                found.shape == expected.shape and _near(found, expected),
                f"The network {source.name!r} must compute when traced what it computes when called.",
            )


def check_layers_are_what_modules_give(tested: LibraryUnderTest) -> None:
    """Check that a curated layer that is a module is what a forward hook sees of it."""
    for source in tested.sources():
        backbone = tested.load(source)
        batch, modules = _batch(backbone), dict(backbone.network.named_modules(remove_duplicate=False))
        layers = [layer for layer in backbone.layers if layer in modules]
        with torch.inference_mode():
            found = backbone.extractor(backbone.layers).body(batch.clone())
        for layer, seen in zip(
            layers, _hooked(backbone.network, [modules[item] for item in layers], batch), strict=True
        ):
            owed(
                seen.shape == found[layer].shape and _near(found[layer], seen),
                f"{source.name} {layer} must be what a forward hook sees of the module.",
            )


def check_a_restored_layer_is_equal(tested: LibraryUnderTest) -> None:
    """Check that a saved layer computes the same again, bit for bit, and holds no more than it needs."""
    for source in tested.sources():
        backbone = tested.load(source)
        layer = backbone.layers[len(backbone.layers) // 2]
        config, tensors = backbone.export(layer)
        restored = restore(json.loads(json.dumps(config)), tensors, source)
        expected = _run(backbone.extractor([layer]), _batch(backbone))[layer]
        found = _run(restored.extractor([layer]), _batch(backbone))[layer]
        owed(torch.equal(found, expected), f"{source.name} {layer} must be equal, bit for bit, when it is restored.")


def check_digests_tell_networks_apart(tested: LibraryUnderTest) -> None:
    """Check that the digest of what a layer computes is stable, and changes with the weights and the preprocessing."""
    for source in tested.sources():
        one, other = tested.load(source), tested.load(source, 2)
        last = one.layers[-1]
        found = one.digests(one.layers)
        owed(
            found == tested.load(source, build=1).digests(one.layers),
            f"The network {source.name!r} must compute the same when it is built again.",
        )
        owed(
            not one.extractor([last]).body.state_dict() or found[last] != other.digests(one.layers)[last],
            f"The digest of {source.name!r} must change with its weights.",
        )


def check_preprocessing_fits_the_network(tested: LibraryUnderTest) -> None:
    """Check that the preprocessing is plain, and gives pictures that the network takes."""
    for source in tested.sources():
        for weights in (None, *source.library.weight_names(source.name)):
            found = source.library.preprocessing(source.name, weights)
            owed(type(found) is Preprocessing, f"The preprocessing of {source.name!r} must be one. Got {found!r}.")
            again = Preprocessing.from_dict(json.loads(json.dumps(found.to_dict())))
            owed(again == found, f"The preprocessing of {source.name!r} must hold plain values. Got {found!r}.")
        backbone = tested.load(source)
        backbone.extractor(backbone.layers)


def check_options_are_plain_data(tested: LibraryUnderTest) -> None:
    """Check that the constructor's options survive being saved, and are the same each time."""
    for source in tested.sources():
        known = source.library.weight_names(source.name)
        owed(
            isinstance(known, tuple) and all(isinstance(item, str) for item in known),
            f"The weights of {source.name!r} must be a tuple of texts. Got {known!r}.",
        )
        for weights in ("random:0", *known):
            options = Request.of(source, weights).options(())
            try:
                plain = json.loads(json.dumps(options)) == options
            except (TypeError, ValueError):
                plain = False
            owed(plain, f"The options of {source.name!r} must be plain data. Got {options!r}.")


def _batch(backbone: Backbone) -> torch.Tensor:
    shape = (2, 3, *backbone.preprocessing.size)
    return torch.from_numpy(np.random.RandomState(0).standard_normal(shape).astype(np.float32))


def _run(extractor: Any, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        found: dict[str, torch.Tensor] = extractor(batch.clone())
    return found


def _hooked(network: nn.Module, modules: Sequence[nn.Module], batch: torch.Tensor) -> list[torch.Tensor]:
    """Run a network, and copy the first tensor that each module gives when it gives it."""
    seen: dict[nn.Module, torch.Tensor] = {}

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        owed(tensor is not None, "A layer must give a tensor.")
        seen.setdefault(module, tensor.clone() if tensor is not None else torch.empty(0))

    handles = [module.register_forward_hook(keep) for module in dict.fromkeys(modules)]
    try:
        with torch.inference_mode():
            network(batch.clone())
    finally:
        for handle in handles:
            handle.remove()
    return [seen[module] for module in modules]


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    scale = other.abs().max().clamp_min(1e-30)
    return bool((one - other).abs().max() <= _NEAR * scale)


_CHECKS: tuple[Check[LibraryUnderTest], ...] = (
    check_complete,
    check_unknown_networks_are_refused,
    check_networks_can_be_built_and_traced,
    check_networks_are_at_rest,
    check_seeds_fix_the_weights,
    check_global_generators_stay,
    check_layers_exist,
    check_layers_give_one_row_per_image,
    check_layers_do_not_depend_on_each_other,
    check_the_trace_is_the_network,
    check_layers_are_what_modules_give,
    check_a_restored_layer_is_equal,
    check_digests_tell_networks_apart,
    check_preprocessing_fits_the_network,
    check_options_are_plain_data,
)
