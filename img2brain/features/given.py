"""Features that come with a dataset, in place of those of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from img2brain import digest
from img2brain.backbones._base import Backbone
from img2brain.errors import FeatureError
from img2brain.features.activations import InMemory, Rows
from img2brain.features.bank import FeatureBank
from img2brain.spec import BackboneSpec
from img2brain.store import Store

GIVEN = "given"


class GivenBank(FeatureBank):
    """Reduced features of the matrices that a dataset brings: each takes the place of a layer.

    Parameters
    ----------
    spec : BackboneSpec
        Named ``"given"``; its layers are names of matrices, all of them by default.
    matrices : mapping of str to ndarray (n_images, n_features)
        Features, images in the order of the responses.
    store : Store
        The cache.
    """

    def __init__(self, spec: BackboneSpec, matrices: Mapping[str, NDArray[Any]], store: Store) -> None:
        chosen = spec.layers or tuple(sorted(matrices))
        self._matrices = {name: np.asarray(matrices[name], dtype=np.float32) for name in chosen}
        # There are no files: a name stands for each row, so that rows are counted as those of images are.
        rows = [Path(f"row {number}") for number in range(len(next(iter(self._matrices.values()))))]
        named = spec.model_copy(update={"layers": chosen})
        super().__init__(named, rows, [], store, "cpu", "float32")

    @property
    def backbone(self) -> Backbone:
        """Refuse: there is no network."""
        raise FeatureError("Features that came with the data have no network.")

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is known of the features: their digest, and that nobody tells how they were made."""
        found = digest.of_arrays(self._matrices)
        return {"label": self.spec.weights, "weights_digest": found, "network_digest": found, "trained": GIVEN}

    def export(self, layer: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Give what a saved model needs to know: the name of the matrix."""
        return {"backbone": GIVEN, "layer": layer, "weights": self.spec.weights, "trained": GIVEN}, {}

    def _pass(self, layers: Sequence[str], rows: Rows, n_components: int) -> None:
        for layer in layers:
            matrix = torch.from_numpy(self._matrices[layer].copy())
            values = InMemory(len(matrix), matrix.shape[1], matrix.dtype, matrix.device)
            values.append(matrix)
            self._keep(layer, values, rows, n_components)
