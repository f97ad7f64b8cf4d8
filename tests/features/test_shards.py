"""Shards give what one pass over all images gives, wherever they are computed."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from img2brain import digest
from img2brain.datasets._images import AS_STORED, find_images
from img2brain.errors import FeatureError, ResourceError
from img2brain.features import pca, shards
from img2brain.features.activations import Activations, InMemory
from img2brain.features.bases import Every, Norms, SparseProjection
from img2brain.features.network import NetworkFeatures
from img2brain.features.shards import SentTensor, Sharded, Showing
from img2brain.spec import BackboneSpec
from img2brain.store import Store

SPEC = BackboneSpec(name="squeezenet1_1", weights="random:0", layers=("features.2", "features.12", "classifier"))


@dataclass
class Given:
    """What work gave, as it travels."""

    content: bytes

    def result(self) -> Any:
        return pickle.loads(self.content)


@dataclass
class Elsewhere:
    """Hands that see nothing but what travels to them, and keep nothing."""

    has_files: bool = True
    turn: AbstractContextManager[object] = field(default_factory=threading.Lock)
    done: list[str] = field(default_factory=list)

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> Given:
        self.done.append(getattr(work, "__qualname__", "partial"))
        work, taken = pickle.loads(pickle.dumps((work, [_taken(item) for item in arguments])))
        return Given(pickle.dumps(work(*taken)))

    def everywhere(self, work: Callable[..., Any], /, *arguments: Any) -> list[Any]:
        return [self.has_files and work(*arguments)]


def _taken(item: Any) -> Any:
    return item.result() if isinstance(item, Given) else item


def sharded(values: torch.Tensor, n_rows: int) -> Sharded:
    hands = Elsewhere()
    starts = range(0, len(values), n_rows)
    parts = [
        (
            slice(start, min(start + n_rows, len(values))),
            hands.submit(partial(SentTensor.of, values[start : start + n_rows])),
        )
        for start in starts
    ]
    return Sharded(hands, parts, values.shape[1], values.dtype, "cpu")


def whole(values: torch.Tensor) -> Activations:
    found = InMemory(len(values), values.shape[1], values.dtype, torch.device("cpu"))
    found.append(values)
    return found


@given(st.integers(1, 9), st.sampled_from([torch.float32, torch.bfloat16]), st.integers(0, 3))
def test_shards_are_read_as_if_they_were_one(n_rows: int, dtype: torch.dtype, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    values = torch.from_numpy(drawn.standard_normal((9, 5))).to(dtype)
    one, other = whole(values), sharded(values, n_rows)
    numbers = drawn.integers(0, 9, 6)
    assert torch.equal(one.rows(numbers), other.rows(numbers))
    assert torch.equal(one.columns(slice(1, 4)), other.columns(slice(1, 4)))
    assert torch.equal(one.read(2, 7), other.read(2, 7))
    assert torch.equal(torch.cat([block for _, block in other.blocks()]), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n_images", "n_features", "exact"), [(40, 200, 1024), (40, 8, 1024), (300, 220, 100)])
def test_components_of_shards_are_those_of_all_images(
    n_images: int, n_features: int, exact: int, dtype: torch.dtype
) -> None:
    drawn = torch.Generator().manual_seed(0)
    strengths = 2.0 ** -torch.arange(12)  # that tell the components apart
    values = (strengths * torch.randn((n_images, 12), generator=drawn)) @ torch.randn((12, n_features), generator=drawn)
    values = (values + 0.01 * torch.randn(values.shape, generator=drawn)).to(dtype)
    rows = np.arange(0, n_images, 2)
    found = [
        pca.compress(item, rows, 5, exact_images=exact) for item in (whole(values), sharded(values, 1 + n_images // 7))
    ]
    one, other = (pca.fit(item.projected, rows, 5) for item in found)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    np.testing.assert_allclose(one.variances, other.variances, rtol=tolerance)
    scale = np.abs(one.coordinates).max()
    np.testing.assert_allclose(one.coordinates, other.coordinates, atol=tolerance * scale)
    axes = [pca.axes(made, item, components, rows) for made, item, components in zip(
        found, (whole(values), sharded(values, 11)), (one, other), strict=True)]  # fmt: skip
    np.testing.assert_allclose(axes[0].axes, axes[1].axes, atol=tolerance)


def test_what_bases_keep_of_shards_is_what_they_keep_of_all_images() -> None:
    values = torch.randn((30, 64), generator=torch.Generator().manual_seed(1))
    for keeper in (Every(), Norms(np.arange(20)), SparseProjection(10), SparseProjection(10, (3,), (4,))):
        one, other = keeper.keep(whole(values)), keeper.keep(sharded(values, 7))
        assert one.keys() == other.keys()
        for name, array in one.items():
            np.testing.assert_allclose(array, other[name], rtol=1e-6, atol=1e-6)


def test_sums_are_added_in_an_order_that_the_shards_alone_set() -> None:
    values = torch.randn((50, 4), generator=torch.Generator().manual_seed(2))
    sums = [sharded(values, 10).total(_sum)[0] for _ in range(2)]
    assert torch.equal(*sums)
    torch.testing.assert_close(sums[0], whole(values).total(_sum)[0])


def _sum(block: torch.Tensor, _rows: slice) -> tuple[torch.Tensor]:
    return (block.sum(dim=0),)


def test_shards_are_whole_batches() -> None:
    assert shards.n_rows_of(1, 1, 8) == 8
    assert shards.n_rows_of(10**6, 10**10, 64) == 64


@pytest.fixture(scope="module")
def images(recordings: Path) -> tuple[Path, ...]:
    return find_images(recordings / "trainingIMG")[:24]


@pytest.fixture(scope="module")
def one(images: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> NetworkFeatures:
    features = bank(images, tmp_path_factory.mktemp("one"))
    features.extract()
    return features


def bank(images: tuple[Path, ...], folder: Path, hands: Any = None, **options: Any) -> NetworkFeatures:
    digests = [digest.of_file(path) for path in images]
    asked = {"device": "cpu", "precision": "float32", "hands": hands} | options
    return NetworkFeatures(SPEC, images, digests, Store(folder), np.arange(0, len(images), 2), 6, **asked)


@pytest.mark.parametrize("has_files", [True, False])
def test_network_in_shards_leaves_the_entries_of_one_pass(
    one: NetworkFeatures, images: tuple[Path, ...], tmp_path: Path, has_files: bool
) -> None:
    hands = Elsewhere(has_files)
    other = bank(images, tmp_path, hands)
    other.extract()
    assert hands.done.count("Showing.of") == 3
    assert list(one._store.keys("layers")) == list(other._store.keys("layers"))
    for layer in SPEC.single_layers:
        np.testing.assert_array_equal(
            one.components(layer, np.arange(12), 4).coordinates, other.components(layer, np.arange(12), 4).coordinates
        )
    space, rows = "features.12", np.arange(0, 24, 2)
    np.testing.assert_allclose(one.axes(space, rows, 3).axes, other.axes(space, rows, 3).axes, atol=1e-6)


def test_host_with_another_network_is_refused(images: tuple[Path, ...]) -> None:
    showing = Showing(SPEC, (("features.2", "another"),), (), {}, "cpu", "float32", AS_STORED)
    with pytest.raises(ResourceError, match="must be the same on all hosts"):
        showing.of([shards.Picture(path.name, path) for path in images[:1]])


def test_picture_that_a_network_cannot_bear_is_named(
    images: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = bank(images, tmp_path, Elsewhere(has_files=False))
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda self: torch.zeros(self.shape, dtype=torch.bool))
    with pytest.raises(FeatureError, match=f"the image '{images[0].name}'"):
        features.extract()
