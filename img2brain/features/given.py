"""Features that come with a dataset, in place of those of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from img2brain import digest
from img2brain.features.activations import Activations, InMemory, Rows
from img2brain.features.extract import Precision
from img2brain.features.features import Features
from img2brain.spec import BackboneSpec
from img2brain.store import Store

GIVEN = "given"


class GivenFeatures(Features):
    """Reduced features of the matrices that a dataset brings: each takes the place of a layer.

    Parameters
    ----------
    spec : BackboneSpec
        Named ``"given"``; its layers are names of matrices, all of them by default.
    matrices : mapping of str to ndarray (n_images, n_features)
        Features, images in the order of the responses.
    store, rows, n_components
        As for `Features`.
    """

    def __init__(
        self, spec: BackboneSpec, matrices: Mapping[str, NDArray[Any]], store: Store, rows: Rows, n_components: int
    ) -> None:
        layers = spec.layers or tuple(sorted(matrices))
        self._matrices = {name: np.asarray(matrices[name], dtype=np.float32) for name in layers}
        n_images = len(next(iter(self._matrices.values())))
        named = spec.model_copy(update={"layers": layers})
        super().__init__(named, layers, n_images, store, rows, n_components)

    @property
    def precision(self) -> Precision:
        """What the matrices are kept in."""
        return "float32"

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the features: their digest, and that nobody tells how they were made."""
        found = digest.of_arrays(self._matrices)
        return {
            "label": self.spec.weights,
            "weights_digest": found,
            "network_digest": found,
            "trained": GIVEN,
            "library": None,
            "plugin": None,
        }

    def export(self, layer: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what a saved model needs to know: the name of the matrix."""
        return {"backbone": GIVEN, "layer": layer, "weights": self.spec.weights, "trained": GIVEN}, {}

    def _about(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: {"given": digest.of_array(matrix)} for name, matrix in self._matrices.items()}

    def _activations(self, layers: Sequence[str], n_components: int) -> Iterator[tuple[str, Activations]]:
        for layer in layers:
            matrix = torch.from_numpy(self._matrices[layer].copy())
            values = InMemory(len(matrix), matrix.shape[1], matrix.dtype, matrix.device)
            values.append(matrix)
            yield layer, values
