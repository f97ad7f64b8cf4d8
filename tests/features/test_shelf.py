"""Features move between caches, whole and of the key that was asked for, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.features.test_network import Counts, counts, images

__all__ = ["counts", "images"]

from img2brain import digest
from img2brain.features.network import NetworkFeatures
from img2brain.features.shelf import CacheEntry
from img2brain.spec import BackboneSpec, FeatureSpace
from img2brain.store import Store

SPEC = BackboneSpec(name="squeezenet1_1", weights="random:0", layers=("features.2", "features.12"), pooling=("mean",))
KEY = {"to": "V4"}
ARRAY_HEAD = 128  # bytes of a file before the numbers


def copy_of(folder: Path) -> Callable[[Path], None]:
    """Return what brings the files of a folder into another, links as links."""

    def bring(place: Path) -> None:
        shutil.copytree(folder, place, dirs_exist_ok=True, symlinks=True)

    return bring


class Folder:
    """A shelf that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.held = folder, list[str]()

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        self.held.append(name)
        yield

    def take(self, entries: Sequence[CacheEntry], store: Store) -> None:
        for entry in entries:
            if (self.folder / self._place(entry)).exists():
                store.adopt(entry.kind, entry.key, copy_of(self.folder / self._place(entry)))

    def give(self, title: str, entries: Sequence[CacheEntry], store: Store) -> None:
        for entry in entries:
            found = store.find(entry.kind, entry.key)
            assert found is not None, f"{title}: what was computed is there"
            arrays = [path.stat().st_size - ARRAY_HEAD for path in found.glob("*.npy")]
            assert 0 < sum(arrays) <= entry.n_bytes
            shutil.copytree(found, self.folder / self._place(entry))

    @staticmethod
    def _place(entry: CacheEntry) -> str:
        return f"{entry.kind}-{digest.of_value(entry.key)}"


@pytest.fixture
def make(images: tuple[Path, ...], tmp_path: Path) -> Callable[[str], NetworkFeatures]:
    shelf = Folder(tmp_path / "shelf")

    def features(cache: str) -> NetworkFeatures:
        digests, rows = [digest.of_file(path) for path in images], np.arange(len(images) - 4)
        options: dict[str, Any] = {"device": "cpu", "precision": "float32", "bases": ("pca", "srp:8"), "shelf": shelf}
        return NetworkFeatures(SPEC, images, digests, Store(tmp_path / cache), rows, 4, **options)

    return features


def components(features: NetworkFeatures) -> list[np.ndarray[Any, Any]]:
    spaces = [FeatureSpace(layer, "mean", basis) for layer in features.layers for basis in features.bases]
    return [features.components(space, features._rows, 4).coordinates for space in spaces]


def test_a_second_cache_takes_what_the_first_has_computed(
    make: Callable[[str], NetworkFeatures], images: tuple[Path, ...], tmp_path: Path, counts: Counts
) -> None:
    first, second = make("first"), make("second")
    first.extract()
    second.extract()
    assert counts.n_passed == len(images)
    for mine, theirs in zip(components(first), components(second), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    (spoilt,) = list((tmp_path / "shelf").glob("layers-*/projected.npy"))[:1]
    spoilt.chmod(0o644)
    spoilt.write_bytes(spoilt.read_bytes()[:-1])
    third = make("third")
    shutil.rmtree(tmp_path / "shelf" / spoilt.parent.name)
    third.extract()
    assert counts.n_passed == 2 * len(images)
    np.testing.assert_array_equal(components(third)[0], components(first)[0])


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    def write(folder: Path) -> None:
        (folder / "text").write_text("hello")

    made = Store(tmp_path / "made").put("greeting", KEY, write)
    return Path(shutil.copytree(made, tmp_path / "entry"))


def test_a_copy_of_an_entry_is_adopted(entry: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    assert store.adopt("greeting", KEY, copy_of(entry))
    assert store.adopt("greeting", KEY, copy_of(entry))
    assert (store.read("greeting", KEY) or {})["text"] == b"hello"


@pytest.mark.parametrize("damage", ["cut", "edited", "more", "link", "other key", "no key", "no digests"])
def test_a_copy_that_is_not_as_it_was_written_is_left(
    damage: str, entry: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in entry.iterdir():
        path.chmod(0o644)
    match damage:
        case "cut":
            (entry / "text").unlink()
        case "edited":
            (entry / "text").write_text("hullo")
        case "more":
            (entry / "other").write_text("hello")
        case "link":
            (entry / "text").unlink()
            (entry / "text").symlink_to("/etc/hostname")
        case "other key":
            text = json.dumps({"to": "V1"})
            (entry / "key.json").write_text(text)
            kept = json.loads((entry / "digests.json").read_text())
            kept["key.json"] = digest.of_file(entry / "key.json")
            (entry / "digests.json").write_text(json.dumps(kept))
        case "no key":
            (entry / "key.json").unlink()
        case "no digests":
            (entry / "digests.json").unlink()
    store = Store(tmp_path / "cache")
    assert not store.adopt("greeting", KEY, copy_of(entry))
    assert store.find("greeting", KEY) is None
    assert "a copy of the cache entry" in caplog.text
