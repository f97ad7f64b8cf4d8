"""A view of a dataset with some of its voxels, whatever its layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import digest
from img2brain.datasets._choice import VoxelChoice, split_half_reliability
from img2brain.datasets._development import row_blocks
from img2brain.datasets._split import Rows
from img2brain.datasets.base import FACTS, Dataset, View
from img2brain.errors import DataError

Array = NDArray[Any]


class _Selected(View):
    def __init__(self, dataset: Dataset, voxels: Rows) -> None:
        number = np.full(dataset.n_voxels, -1, dtype=np.intp)
        number[voxels] = np.arange(len(voxels))
        facts = {key: getattr(dataset, key) for key in FACTS}
        facts["n_voxels"] = len(voxels)
        facts |= {key: facts[key][voxels] for key in ("ncsnr", "noise_ceiling") if facts[key] is not None}
        rois = {name: number[region] for name, region in dataset.rois.items()}
        facts["rois"] = {name: found[found >= 0] for name, found in rois.items() if (found >= 0).any()}
        super().__init__(name=dataset.name, **facts)
        self._dataset, self._voxels = dataset, voxels

    def _some(self, read: Callable[[Rows], Array | None], rows: Rows) -> Array | None:
        """Read in blocks that fit into memory with all voxels."""
        blocks = [read(block) for block in row_blocks(rows, self._dataset.n_voxels)] or [read(rows)]
        found = [block[..., self._voxels] for block in blocks if block is not None]
        return np.concatenate(found) if len(found) == len(blocks) else None

    def read_responses(self, rows: Rows) -> Array:
        found = self._some(self._dataset._responses, rows)
        assert found is not None, "a dataset has all its responses"
        return found

    def read_repeats(self, rows: Rows) -> Array | None:
        return self._some(self._dataset._repeats, rows)

    def read_counts(self, rows: Rows) -> NDArray[Any] | None:
        return self._dataset.read_counts(rows)

    def content_digests(self) -> Mapping[str, str]:
        return {**self._dataset.content_digests(), **self._digest_facts(), "voxels": digest.of_array(self._voxels)}

    def where(self, row: int) -> str:
        return self._dataset.where(row)


def select(dataset: Dataset, text: str) -> Dataset:
    """View a dataset with the voxels that a text chooses.

    Parameters
    ----------
    dataset : Dataset
        Left as it is.
    text : str
        Such as ``"nc > 0.3 and (V1 or V2)"``: ``nc`` is the noise ceiling of the training rows, as a share of variance,
        from ``noise_ceiling`` or else from ``ncsnr`` and the counts of repeats; ``reliability`` the split-half
        reliability of the training rows, which knows nothing of the test rows.

    Raises
    ------
    SpecError, DataError
        As `VoxelChoice` does, and if a quantity is not known of the dataset.
    """
    quantities = {
        "nc": lambda: _ceiling(dataset),
        "ncsnr": lambda: _known(dataset, "ncsnr", dataset.ncsnr),
        "reliability": lambda: _reliability(dataset),
    }
    voxels = VoxelChoice(text, dataset.n_voxels, dataset.rois, quantities).voxels.astype(np.intp)
    own = dataset.keeping(voxels)
    found = _Selected(dataset, voxels) if own is None else own
    said = f"{' '.join(text.split())}: {len(voxels)} of {dataset.n_voxels} are kept"
    found.origin, found.layout = dataset.origin, dataset.layout
    found.preparation = {**dataset.preparation, "voxels": said}
    return found


def _known(dataset: Dataset, name: str, values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if values is None:
        raise DataError(f"'voxels' must not ask for {name!r}: {dataset.name!r} does not tell it.")
    return values


def _ceiling(dataset: Dataset) -> NDArray[np.float64]:
    counts = None if dataset.noise_ceiling is not None else dataset.read_counts(np.arange(dataset.n_training))
    if counts is None or dataset.ncsnr is None:
        return _known(dataset, "nc", dataset.noise_ceiling)
    squared = dataset.ncsnr**2
    return np.asarray(squared / (squared + float(np.mean(1 / counts))))


def _reliability(dataset: Dataset) -> NDArray[np.float64]:
    dataset = dataset.averaged
    blocks = row_blocks(np.arange(dataset.n_training), dataset.n_voxels)
    return split_half_reliability(map(dataset._repeats, blocks), dataset.n_voxels)
