"""Features of a network: a pass over the images, known by what the network computes."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from img2brain import digest
from img2brain.backbones import Backbone, Request, Weights, curated_layers, load_backbone
from img2brain.backbones._weights import UNTRAINED
from img2brain.datasets._images import AS_STORED
from img2brain.datasets._presentation import Presentation
from img2brain.datasets._unchanged import Unchanged
from img2brain.errors import FeatureError
from img2brain.features.activations import Activations, Rows
from img2brain.features.bases import Keeper, work_bytes
from img2brain.features.cache import VERSION, Cache
from img2brain.features.extract import Precision, find_device, find_precision
from img2brain.features.features import Features
from img2brain.features.freshness import freshness
from img2brain.features.pass_ import Budget, Pass
from img2brain.features.placement import Placement
from img2brain.features.pooling import Block, possible, resolved, to_dict, width
from img2brain.features.shards import Hands, Showing, SpreadPass
from img2brain.features.shared import ShownImages, Union, of_rows, sharing
from img2brain.features.shelf import CacheEntry, Shelf
from img2brain.spec import ALL, NO_POOLING, PCA, BackboneSpec, FeatureSpace, Layers, joined
from img2brain.store import Store

log = logging.getLogger(__name__)

UNTRAINED_BY_ITS_ACTIVATIONS = "untrained (by its activations)"
_FEW_IMAGES = 8192  # At 4140 images bfloat16 was measured to change a score by .003; at 8857 none by more than .0014.


class NetworkFeatures(Features):
    """Reduced features of a backbone's layers.

    Parameters
    ----------
    spec : BackboneSpec
        The network, its weights and preprocessing; curated layers that can be pooled in no way that is asked for are
        left out.
    images : sequence of Path
        One row each.
    image_digests : sequence of str
        Digests of their bytes; an image that changed is computed anew.
    store, rows, n_components, bases
        As for `Features`.
    device : str
        Where the network runs.
    precision : {"auto", "bfloat16", "float32"}
        What it computes in; see `choose_precision`.
    budget : Budget
        The disk and memory that activations may take for a while.
    presentation : Presentation
        How the images were shown. Where that has a say, it is in their digests.
    others : sequence of ShownImages
        Images of datasets that are searched together with this one: those that they share pass the network once.
    placement : Placement, optional
        How large pictures were shown, where the network shall see them as large.
    hands : Hands, optional
        Where images pass the network in shards; by default they all do here.
    shelf : Shelf, optional
        Where other machines, with caches of their own, leave what they computed, and find it.
    require_unchanged : callable
        Raises where an image is not what was digested; asked after each pass, before anything of it is kept.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        images: Sequence[Path],
        image_digests: Sequence[str],
        store: Store,
        rows: Rows,
        n_components: int,
        *,
        device: str = "auto",
        precision: Precision = "auto",
        budget: Budget | None = None,
        presentation: Presentation = AS_STORED,
        others: Sequence[ShownImages] = (),
        bases: Sequence[str] = (PCA,),
        placement: Placement | None = None,
        hands: Hands | None = None,
        shelf: Shelf | None = None,
        require_unchanged: Callable[[], None] = lambda: None,
    ) -> None:
        self._require_unchanged = require_unchanged
        self._hands, self._device_name, self._shelf = hands, device, shelf
        self._placement = placement
        self._request = Request.parse(spec.name, spec.weights, spec.preprocessing)
        self._unchanged = Unchanged(spec.name, [path] if (path := self._request.weights.path) else [])
        self._asked = spec.pooling or (NO_POOLING,)
        curated = curated_layers(spec.name) if spec.layers is None else ()
        layers = spec.layers or curated
        are_plain = self._asked == (NO_POOLING,) and all(isinstance(item, str) for item in layers)
        self._kinds = {} if are_plain else self._request.layer_kinds(spec.single_layers or curated)
        found = self._poolable(layers, spec.layers is not None)
        super().__init__(spec, found, len(images), store, rows, n_components, bases)
        self._shown = ShownImages(images, image_digests, rows, presentation)
        self._device = find_device(device)
        self._dtype = choose_precision(precision, len(images), self._device)
        alike = [item for item in others if choose_precision(precision, len(item.images), self._device) == self._dtype]
        self._sharing = sharing(self._shown, alike)
        self._budget = budget or Budget()

    @cached_property
    def backbone(self) -> Backbone:
        """The network with its weights, loaded when an image has to pass through it."""
        found = load_backbone(self.spec.name, self.spec.weights, self.spec.preprocessing)
        self._unchanged.require()  # or what is known of its weights may not be true of these
        return found

    @property
    def precision(self) -> Precision:
        """What the network computes in."""
        return "bfloat16" if self._dtype == torch.bfloat16 else "float32"

    @property
    def placement(self) -> str:
        """How pictures are placed before the network; empty where they are not."""
        return "" if self._placement is None else str(self._placement)

    @property
    def is_renamed(self) -> bool:
        """Whether the name of a layer meant another one in studies of the first format."""
        return self._request.is_renamed(self._named)

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the network; one that claims to be trained is compared with fresh ones (see `freshness`)."""
        source = self._request.source
        return {
            **{name: self._seen[name] for name in ("label", "weights_digest", "trained", "distances")},
            "network_digest": digest.of_value(self._digests),
            "library": source.library_name,
            "plugin": source.plugin,
            "taken": self._seen.get("taken", ""),
        }

    def export(self, space: FeatureSpace | str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what a saved model needs to compute a space (see `Backbone.export`), and how it pools."""
        space = FeatureSpace(space) if isinstance(space, str) else space
        blocks = self._blocks_of(space)
        config, tensors = self.backbone.export(*(block.layer for block in blocks))
        pooled = {block.layer: told for block in blocks for told in self._told(block).values()}
        return config | ({"pooling": pooled} if pooled else {}), tensors

    def poolings(self, layer: str) -> tuple[str, ...]:
        """Name the poolings that a layer can have, of those that are asked for; those that come to one count once."""
        return self._poolings_of(self.together(layer))

    def _poolings_of(self, item: Layers) -> tuple[str, ...]:
        kinds = [self._kinds[name] for name in _parts(item) if name in self._kinds]
        if all(kind.kind == "vector" for kind in kinds):
            return (NO_POOLING,)
        having = [name for name in self._asked if all(possible(kind, name) for kind in kinds)]
        first = {tuple(resolved(kind, name) for kind in kinds): name for name in reversed(having)}
        return tuple(name for name in having if name in first.values())

    def block(self, layer: str, pooling: str) -> Block:
        """Return what a pass has to compute for a layer."""
        return Block(layer) if pooling == NO_POOLING else Block(layer, resolved(self._kinds[layer], pooling))

    def _poolable(self, layers: Sequence[Layers], are_asked: bool) -> tuple[Layers, ...]:
        """Return the layers that have a pooling; all must that are asked for."""
        found = tuple(item for item in layers if self._poolings_of(item))
        left = [item for item in layers if item not in found]
        if left and (are_asked or not found):
            kinds = [self._kinds[name].kind for name in _parts(left[0])]
            raise FeatureError(
                f"A layer must have one of the poolings {', '.join(self._asked)}. {joined(left[0])!r} of "
                f"{self._request.source.name}, a {' and a '.join(kinds)}, has none."
            )
        if left:
            names = ", ".join(map(joined, left))
            log.info("%s: without %s, which have none of the poolings", self._request.source.name, names)
        return found

    @property
    def _named(self) -> tuple[str, ...]:
        """The layers of the network that are asked for, each once."""
        return tuple(dict.fromkeys(name for layer in self.layers for name in self.together(layer)))

    def widths(self) -> Mapping[Block, int]:
        """Count the features of all that a pass computes, by the shapes that layers have."""
        kinds = self._kinds or self._request.layer_kinds(self._named)
        return {
            block: width(math.prod((kind := kinds[block.layer]).shape), kind, block.pooling) for block in self._blocks
        }

    @property
    def is_known(self) -> bool:
        """Whether a pass of this network with these weights was made before, or looked at, in this home."""
        return not self._is_looked_at and self._store.find("networks", self._known_by) is not None

    def _width(self, block: Block) -> int:
        return width(math.prod(self._kinds[block.layer].shape), self._kinds[block.layer], block.pooling)

    def _told(self, block: Block) -> dict[str, Any]:
        """Say how a block is pooled, where it is."""
        return {} if block.pooling == NO_POOLING else {"pooling": to_dict(self._kinds[block.layer], block.pooling)}

    def _about(self) -> Mapping[str, Mapping[str, Any]]:
        return self._about_of(self._shown)

    def _about_of(self, shown: ShownImages) -> Mapping[str, Mapping[str, Any]]:
        images = digest.of_digests(shown.digests)
        shared = {"images": images, "precision": self.precision, "pooling": NO_POOLING}
        shared |= {"placement": self.placement} if self.placement else {}
        digests = self._digests
        return {str(block): shared | {"layer": digests[block.layer]} | self._told(block) for block in self._blocks}

    def _activations(self, blocks: Sequence[Block], n_components: int) -> Iterator[tuple[Block, Activations]]:
        return self._shown_once(self._pass(self._shown.images), blocks, n_components)

    def _shown_once(
        self, passing: Pass, blocks: Sequence[Block], n_components: int
    ) -> Iterator[tuple[Block, Activations]]:
        """Show images to the network, as they were when they were digested."""
        for block, values in passing.activations(blocks, n_components):
            self._require_unchanged()
            yield block, values

    def _pass(self, images: Sequence[Path]) -> Pass:
        reserved = work_bytes(len(images)) if ALL in self.bases else 0
        asked = (
            self.backbone, images, self._device, self._dtype, self._store, self._budget, self._shown.presentation,
            self._kinds, reserved, self._placement,
        )  # fmt: skip
        return Pass(*asked) if self._hands is None else SpreadPass(self._hands, self._showing, *asked)

    @property
    def _showing(self) -> Showing:
        """What hosts have to know of the network."""
        return Showing(
            self.spec, tuple(self._digests.items()), (), self._kinds, self._device_name, self.precision,
            self._shown.presentation, self._placement,
        )  # fmt: skip

    def _record(self, spaces: Sequence[FeatureSpace]) -> None:
        """Take what other machines have computed; compute the rest, and leave it for them."""
        if self._shelf is None:
            self._show(spaces)
            return
        with self._shelf.alone(digest.of_value(self._described)):
            self._shelf.take(self._entries(spaces), self._store)
            if lacking := self._entries(spaces):
                self._show(spaces)
                self._shelf.give(f"{self.spec.name} {self.facts['label']}", lacking, self._store)

    def _entries(self, spaces: Sequence[FeatureSpace]) -> list[CacheEntry]:
        """Return what the cache lacks of some spaces, for these images and those of others."""
        return [
            cache.entry(str(block))
            if keeper is None
            else cache.entry_of(str(block), keeper.key, keeper.most_bytes(cache.n_images))
            for _, cache in self._caches
            for block, keepers in self._missing(cache, spaces).items()
            for keeper in keepers
        ]

    def _show(self, spaces: Sequence[FeatureSpace]) -> None:
        """Show all images once, those of others that share some included, where that is less work than to go by turns.

        It is more where so many activations do not fit the disk together.
        """
        lacking = [(item, cache, missing) for item, cache in self._caches if (missing := self._missing(cache, spaces))]
        blocks = list(dict.fromkeys(block for *_, missing in lacking for block in missing))
        images = [item.images for item, *_ in lacking]
        union = Union.of([item for item, *_ in lacking])
        together = self._pass(union.images)
        if len(lacking) == 1 or not self._is_less(together, blocks, images):
            super()._record(spaces)
            return
        for block, values in self._shown_once(together, blocks, self._n_components):
            for (_, cache, missing), rows in zip(lacking, union.rows, strict=True):
                if block in missing:
                    self._keep(cache, block, of_rows(values, rows), missing[block])

    def _keep(self, cache: Cache, block: Block, values: Activations, keepers: Sequence[Keeper | None]) -> None:
        """Keep what is made of a block: that takes all cores and much memory here, for one network at a time."""
        with nullcontext() if self._hands is None else self._hands.turn:
            super()._keep(cache, block, values, keepers)

    def _is_less(self, together: Pass, blocks: Sequence[Block], images: Sequence[Sequence[Path]]) -> bool:
        n_shown = together.n_shown(blocks)
        return math.isfinite(n_shown) and n_shown <= sum(self._pass(each).n_shown(blocks) for each in images)

    @property
    def _caches(self) -> list[tuple[ShownImages, Cache]]:
        """What is kept of these images, and of those of others."""
        return [(self._shown, self._cache), *((item, self._cache_of(item)) for item in self._sharing)]

    def _cache_of(self, shown: ShownImages) -> Cache:
        about = self._about_of(shown)
        return Cache(self._store, about, len(shown.images), shown.rows, self._n_components)

    @cached_property
    def _digests(self) -> dict[str, str]:
        """What each layer computes, by digest."""
        if self._is_looked_at:
            return self.backbone.digests(self._named)
        seen = self._seen
        return self._request.digests(seen["options"], seen["tensors"], self._named, seen.get("absent", ()))

    @property
    def _is_looked_at(self) -> bool:
        """Whether the network itself must be asked, as its library may give others under these names by now."""
        source = self._request.source
        return source.plugin is not None or not source.library.version

    @cached_property
    def _seen(self) -> Mapping[str, Any]:
        """What it takes the network with its weights to tell; kept where the library says which version it is of."""
        if self._is_looked_at:
            return self._look()
        files = self._store.read_or_compute("networks", self._known_by, self._write_seen)
        found: Mapping[str, Any] = json.loads(files["network.json"])
        return found

    @property
    def _known_by(self) -> dict[str, Any]:
        """All that what a network tells depends on, of a library that says which version it is of."""
        library = self._request.source.library
        key = {
            "library": self._request.source.library_name,
            "version": library.version,
            "code": digest.of_file(Path(str(sys.modules[type(library).__module__].__file__))),
            "network": self._request.source.name,
            "weights": _content(self._request.weights) or self.spec.weights,
            "preprocessing": self.spec.preprocessing,
            "numbers": VERSION,
        }
        return key | ({"content": content} if (content := library.content(self._request.source.name)) else {})

    def _look(self) -> dict[str, Any]:
        network = self.backbone
        found = freshness(network) if network.trained != UNTRAINED else None
        return {
            "label": network.label,
            "weights_digest": network.weights_digest,
            "trained": UNTRAINED_BY_ITS_ACTIVATIONS if found and found.is_fresh else network.trained,
            "distances": found.distances if found else {},
            "options": network.options,
            "tensors": dict(network.tensors),
            "taken": network.taken,
            "absent": list(network.absent),
        }

    def _write_seen(self, folder: Path) -> None:
        (folder / "network.json").write_text(json.dumps(self._look(), indent=1), encoding="utf-8")


def _parts(item: Layers) -> tuple[str, ...]:
    return (item,) if isinstance(item, str) else item


def choose_precision(
    name: Precision, n_images: int, device: torch.device, few_images: int = _FEW_IMAGES
) -> torch.dtype:
    """Return the type that a network computes in, for so many images.

    Up to 8192 images ``"auto"`` is float32: they are a matter of minutes, and the fewer rows there are, the more a
    score moves by rounding. For more it is as `find_precision` says.
    """
    exact = name == "auto" and n_images <= few_images
    return find_precision("float32" if exact else name, device)


def _content(weights: Weights) -> str:
    """Name the weights by their content where they are a file, and by the part of it that was asked for."""
    found = digest.of_file(weights.path) if weights.path else ""
    return found if weights.part is None else f"{found}#{weights.part}"
