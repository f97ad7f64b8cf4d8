"""Features that come with a dataset, in place of those of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from img2brain import digest
from img2brain.datasets._given import count
from img2brain.features.activations import Activations, OfMatrix, Rows
from img2brain.features.extract import Precision
from img2brain.features.features import Features
from img2brain.features.pooling import Block
from img2brain.spec import GIVEN, PCA, BackboneSpec, FeatureSpace
from img2brain.store import Store

ORIGIN = "origin"


class GivenFeatures(Features):
    """Reduced features of the matrices that a dataset brings: each takes the place of a layer.

    Parameters
    ----------
    spec : BackboneSpec
        Named ``"given"``; its layers are names of matrices, all of them by default.
    matrices : mapping of str to ndarray (n_images, n_features)
        Features, images in the order of the responses; see `img2brain.datasets._given.count`.
    store, rows, n_components, bases
        As for `Features`.
    require_unchanged : callable
        Raises where the files of the matrices are not as they were.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        matrices: Mapping[str, NDArray[Any]],
        store: Store,
        rows: Rows,
        n_components: int,
        bases: Sequence[str] = (PCA,),
        require_unchanged: Callable[[], None] = lambda: None,
    ) -> None:
        self._require_unchanged = require_unchanged
        names = spec.single_layers or tuple(sorted(matrices))
        layers = spec.layers or names
        self._counted = {name: count(f"The features {name!r}", np.asanyarray(matrices[name]), rows) for name in names}
        # What they are known by: as they came, unless float32 holds them.
        self._known = {
            name: found.values if found.origin is None else np.asanyarray(matrices[name])
            for name, found in self._counted.items()
        }
        n_images = len(next(iter(self._known.values())))
        named = spec.model_copy(update={"layers": layers})
        super().__init__(named, layers, n_images, store, rows, n_components, bases)

    @property
    def precision(self) -> Precision:
        """What the matrices are kept in, once what float32 would lose is taken off."""
        return "float32"

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the features: their digest, and that nobody tells how they were made."""
        found = digest.of_arrays(self._known)
        return {
            "label": self.spec.weights,
            "weights_digest": found,
            "network_digest": found,
            "trained": GIVEN,
            "library": None,
            "plugin": None,
        }

    def export(self, space: FeatureSpace | str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what a saved model needs to know: the name of the matrix, and the origin that it is counted from."""
        layer = space if isinstance(space, str) else space.layer
        counted = [self._counted[name] for name in self.together(layer)]
        origins = [np.zeros(item.values.shape[1]) if item.origin is None else item.origin for item in counted]
        is_counted = any(item.origin is not None for item in counted)
        tensors = {ORIGIN: torch.from_numpy(np.concatenate(origins))} if is_counted else {}
        return {"backbone": GIVEN, "layer": layer, "weights": self.spec.weights, "trained": GIVEN}, tensors

    def widths(self) -> Mapping[Block, int]:
        """Count the features of each matrix."""
        return {block: self._width(block) for block in self._blocks}

    def _width(self, block: Block) -> int:
        return int(self._counted[block.layer].values.shape[1])

    def _about(self) -> Mapping[str, Mapping[str, Any]]:
        origins = {name: found.origin for name, found in self._counted.items()}
        counted = {name: {} if at is None else {"origin": digest.of_array(at)} for name, at in origins.items()}
        return {name: {"given": digest.of_array(matrix), **counted[name]} for name, matrix in self._known.items()}

    def _activations(self, blocks: Sequence[Block], n_components: int) -> Iterator[tuple[Block, Activations]]:
        return (
            (block, OfMatrix(self._counted[block.layer].values, require_unchanged=self._require_unchanged))
            for block in blocks
        )
