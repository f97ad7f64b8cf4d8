from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from img2brain import digest
from img2brain.backbones import load_backbone
from img2brain.backbones._graph import Extractor
from img2brain.datasets._images import find_images, open_pixels
from img2brain.errors import FeatureError, StoreError, WeightsError
from img2brain.features import extract, network, pass_, pca
from img2brain.features.activations import Activations, OnDisk
from img2brain.features.extract import Precision
from img2brain.features.network import NetworkFeatures, choose_precision
from img2brain.features.pass_ import Budget
from img2brain.spec import BackboneSpec, parse
from img2brain.store import Store

LAYERS = ("features.2", "features.12", "classifier")
SPEC = BackboneSpec(name="squeezenet1_1", weights="random:0", layers=LAYERS)
N_IMAGES, N_COMPONENTS = 24, 6
ROWS = np.arange(0, N_IMAGES, 2)


class Counts:
    """How many pictures were opened, and how many passed through a network."""

    def __init__(self) -> None:
        self.n_opened, self.n_passed = 0, 0

    def passed(self, module: torch.nn.Module, inputs: Any) -> None:
        if isinstance(module, Extractor):
            self.n_passed += len(inputs[0])

    def opened(self, source: Any, *options: Any) -> Any:
        self.n_opened += 1
        return open_pixels(source, *options)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    counts = Counts()
    monkeypatch.setattr(extract, "open_pixels", counts.opened)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(counts.passed)
    yield counts
    hook.remove()


@pytest.fixture(scope="module")
def images(recordings: Path) -> tuple[Path, ...]:
    return find_images(recordings / "trainingIMG")[:N_IMAGES]


MakeBank = Callable[..., NetworkFeatures]


@pytest.fixture(scope="module")
def make_bank(images: tuple[Path, ...]) -> MakeBank:
    def make(
        folder: Path,
        spec: BackboneSpec = SPEC,
        pictures: tuple[Path, ...] = images,
        rows: Any = ROWS,
        n_components: int = N_COMPONENTS,
        **options: Any,
    ) -> NetworkFeatures:
        digests = [digest.of_file(path) for path in pictures]
        options = {"device": "cpu", "precision": "float32"} | options
        return NetworkFeatures(spec, pictures, digests, Store(folder), rows, n_components, **options)

    return make


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, make_bank: MakeBank) -> Path:
    """A cache that has all of the bank's features. No test changes it."""
    folder = tmp_path_factory.mktemp("full")
    bank = make_bank(folder)
    bank.extract()
    for layer in LAYERS:
        bank.axes(layer, ROWS, N_COMPONENTS)
    return folder


@pytest.fixture(scope="module")
def reference(make_bank: MakeBank, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray[Any, Any]]:
    """The activations themselves."""
    bank = make_bank(tmp_path_factory.mktemp("none"))
    network = bank.backbone.extractor(LAYERS)
    batches = extract.activations(network, bank.backbone.preprocessing, bank._shown.images, torch.device("cpu"))
    parts = [layers for _, layers in batches]
    return {layer: torch.cat([part[layer] for part in parts]).numpy().astype(np.float64) for layer in LAYERS}


def test_one_decode_and_one_pass_whatever_the_number_of_layers(
    make_bank: MakeBank, tmp_path: Path, counts: Counts
) -> None:
    make_bank(tmp_path).extract()
    assert (counts.n_opened, counts.n_passed) == (N_IMAGES, N_IMAGES)


@pytest.mark.parametrize("layer", LAYERS)
def test_components_are_the_pca_of_the_activations(
    make_bank: MakeBank, full: Path, reference: dict[str, np.ndarray[Any, Any]], layer: str
) -> None:
    expected = PCA(N_COMPONENTS, svd_solver="full").fit(reference[layer][ROWS])
    coordinates = expected.transform(reference[layer])
    bank = make_bank(full)
    found = bank.components(layer, ROWS, N_COMPONENTS).coordinates
    signs = np.sign((found * coordinates).sum(axis=0))
    np.testing.assert_allclose(found * signs, coordinates, atol=1e-3 * np.abs(coordinates).max())
    axes = bank.axes(layer, ROWS, N_COMPONENTS)
    np.testing.assert_allclose(reference[layer] @ axes.axes - axes.shift, found, atol=1e-3 * np.abs(found).max())


def forbid(*args: Any, **kwargs: Any) -> Any:
    pytest.fail("an image or a network was touched")


def test_a_second_bank_touches_no_image_and_no_network(
    make_bank: MakeBank, full: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = make_bank(full)
    monkeypatch.setattr(extract, "open_pixels", forbid)
    monkeypatch.setattr(network, "load_backbone", forbid)
    bank.extract()
    for layer in LAYERS:
        assert bank.components(layer, ROWS[:9], 4).coordinates.shape == (N_IMAGES, 4)
        bank.axes(layer, ROWS, N_COMPONENTS)
    assert bank.facts["trained"] == "untrained"


def test_more_layers_cost_one_pass_for_those_that_are_missing(
    make_bank: MakeBank, full: Path, tmp_path: Path, counts: Counts
) -> None:
    shutil.copytree(full, tmp_path / "cache")
    bank = make_bank(tmp_path / "cache", SPEC.model_copy(update={"layers": (*LAYERS, "features.5", "features.8")}))
    bank.extract()
    assert (counts.n_opened, counts.n_passed) == (N_IMAGES, N_IMAGES)
    assert bank.components("features.5", ROWS, 3).coordinates.shape == (N_IMAGES, 3)


ROOTS = """
import torch


class Roots(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.shape, self.root = torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Identity()

    def forward(self, x):
        x = self.shape(x)
        return self.root(x.sqrt())


def net():
    return Roots()
"""


def test_activations_that_are_not_finite_are_refused_on_one_line(make_bank: MakeBank, tmp_path: Path) -> None:
    (tmp_path / "roots.py").write_text(ROOTS)
    table = {"name": "roots.py:net", "weights": "random:0", "layers": ["shape", "root"]}
    bank = make_bank(tmp_path / "cache", parse(BackboneSpec, table, "here", tmp_path))
    said = r"'root' of roots\.py:net must give finite numbers\. It does not of the image '00001\.png', in float32"
    with pytest.raises(FeatureError, match=said):
        bank.extract()


def test_images_that_changed_are_computed_anew(
    make_bank: MakeBank, full: Path, tmp_path: Path, images: tuple[Path, ...], counts: Counts
) -> None:
    shutil.copytree(full, tmp_path / "cache")
    shutil.copytree(images[0].parent, tmp_path / "images")
    copies = tuple(tmp_path / "images" / path.name for path in images)
    make_bank(tmp_path / "cache", pictures=copies).extract()
    assert counts.n_opened == 0, "images moved elsewhere are the same images"
    shutil.copyfile(copies[1], copies[0])
    bank = make_bank(tmp_path / "cache", pictures=copies)
    bank.extract()
    assert counts.n_opened == N_IMAGES
    coordinates = bank.components("features.2", ROWS, N_COMPONENTS).coordinates
    np.testing.assert_allclose(coordinates[0], coordinates[1], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("change", [{"weights": "random:1"}, {"preprocessing": "resize224"}])
def test_another_network_is_another_entry(make_bank: MakeBank, full: Path, change: dict[str, str]) -> None:
    ours, other = make_bank(full), make_bank(full, SPEC.model_copy(update=change))
    assert ours._described["classifier"] != other._described["classifier"]


def test_axes_of_a_smaller_size_are_a_prefix_and_touch_no_image(
    make_bank: MakeBank, full: Path, counts: Counts
) -> None:
    bank = make_bank(full)
    smaller, larger = (bank.axes("features.12", ROWS, size) for size in (N_COMPONENTS - 2, N_COMPONENTS))
    np.testing.assert_array_equal(smaller.axes, larger.axes[:, :-2])
    np.testing.assert_array_equal(smaller.shift, larger.shift[:-2])
    assert (counts.n_opened, counts.n_passed) == (0, 0)


def test_axes_are_kept_of_the_layer_that_is_asked_for_and_no_more_than_asked(
    make_bank: MakeBank, full: Path, tmp_path: Path, counts: Counts
) -> None:
    bank, expected = make_bank(tmp_path), make_bank(full)
    bank.extract()
    sizes = []
    for size in (2, N_COMPONENTS, 4):
        found = bank.axes("features.12", ROWS, size)
        whole = expected.axes("features.12", ROWS, N_COMPONENTS).leading(size)
        np.testing.assert_allclose(found.axes, whole.axes, atol=1e-6)
        np.testing.assert_allclose(found.shift, whole.shift, atol=1e-5 * np.abs(whole.shift).max())
        sizes.append(sorted(np.load(path).shape[1] for path in (tmp_path / "axes").rglob("axes.npy")))
    assert sizes == [[2], [2, N_COMPONENTS], [2, N_COMPONENTS]]
    assert counts.n_passed == 3 * N_IMAGES, "one pass for the layers, and one for axes of each larger size"


def test_axes_of_other_rows_come_from_the_images_again(make_bank: MakeBank, full: Path, tmp_path: Path) -> None:
    shutil.copytree(full, tmp_path / "cache")
    rows = ROWS[:7]
    bank, other = make_bank(tmp_path / "cache"), make_bank(tmp_path / "other", rows=rows, n_components=5)
    other.extract()
    for layer in LAYERS:
        found, expected = bank.axes(layer, rows, 5), other.axes(layer, rows, 5)
        np.testing.assert_allclose(found.axes, expected.axes, atol=1e-4)
        np.testing.assert_allclose(found.shift, expected.shift, rtol=1e-4, atol=1e-3)


def test_a_disk_without_room_is_told_before_any_work(
    make_bank: MakeBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = make_bank(tmp_path, budget=Budget(memory_bytes=0))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    monkeypatch.setattr(extract, "open_pixels", forbid)
    message = r"A pass of squeezenet1_1 needs \S+ MB of disk\. .* has 10\.0 MB free\."
    with pytest.raises(StoreError, match=message):
        bank.extract()


def test_layers_that_exceed_the_scratch_budget_together_take_another_pass(
    make_bank: MakeBank, full: Path, tmp_path: Path, counts: Counts
) -> None:
    bank = make_bank(tmp_path, budget=Budget(0.02, memory_bytes=0))
    bank.extract()
    assert (counts.n_opened, counts.n_passed) == (2 * N_IMAGES, 2 * N_IMAGES)
    for layer in LAYERS:
        found, expected = (item.components(layer, ROWS, N_COMPONENTS).coordinates for item in (bank, make_bank(full)))
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_layer_that_exceeds_the_scratch_budget_is_refused(
    make_bank: MakeBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "open_pixels", forbid)
    message = r"squeezenet1_1 features\.2 take \S+ MB for a while\. The budget, 'scratch_gb', is 0\.01\."
    with pytest.raises(StoreError, match=message):
        make_bank(tmp_path, budget=Budget(0.01)).extract()


def test_bfloat16_and_float32_are_told_apart_and_agree(make_bank: MakeBank, full: Path, tmp_path: Path) -> None:
    bank, exact = make_bank(tmp_path, precision="bfloat16"), make_bank(full)
    assert bank._described["classifier"] != exact._described["classifier"]
    bank.extract()
    for layer in LAYERS:
        found, expected = (item.components(layer, ROWS, N_COMPONENTS).coordinates for item in (bank, exact))
        assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.99


def test_few_images_are_exact_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})

    def precision(name: Precision, n_images: int) -> torch.dtype:
        return choose_precision(name, n_images, torch.device("cpu"))

    assert (precision("auto", 8192), precision("bfloat16", 8192)) == (torch.float32, torch.bfloat16)
    assert (precision("auto", 8193), precision("float32", 8193)) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("in_memory", [True, False])
def test_narrow_layers_keep_their_weakest_components(
    make_bank: MakeBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    reduced, compress = [], pca.compress

    def watched(kept: Activations, **options: Any) -> pca.Compressed:
        reduced.append(kept.dtype)
        return compress(kept, **options)

    monkeypatch.setattr(pca, "compress", watched)
    budget = Budget(memory_bytes=None if in_memory else 0)
    make_bank(tmp_path, precision="bfloat16", budget=budget).extract()
    assert reduced == [torch.bfloat16, torch.bfloat16, torch.float32]


def test_layers_stay_in_memory_as_far_as_it_goes(
    make_bank: MakeBank, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    class Watched(OnDisk):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            written.append(f"{self.n_features}")

    sizes = make_bank(tmp_path).backbone.extractor(LAYERS).n_features
    work = pca.work_bytes(max(sizes.values()), torch.float32, N_COMPONENTS)
    room = 4 * N_IMAGES * (sizes["features.12"] + sizes["classifier"])
    assert sizes["features.2"] > sizes["features.12"] + sizes["classifier"]
    monkeypatch.setattr(pass_, "OnDisk", Watched)
    bank = make_bank(tmp_path, budget=Budget(memory_bytes=work + room))
    bank.extract()
    assert written == [f"{sizes['features.2']}"]
    for layer in LAYERS:
        found, expected = (item.components(layer, ROWS, N_COMPONENTS).coordinates for item in (bank, make_bank(full)))
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_pass_leaves_nothing_but_the_entries(make_bank: MakeBank, tmp_path: Path) -> None:
    make_bank(tmp_path).extract()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "locks") == [
        "components", "layers", "networks", "unfinished",
    ]  # fmt: skip
    assert list((tmp_path / "unfinished").iterdir()) == []
    kept = {path.name for path in (tmp_path / "layers").rglob("*") if path.is_file()}
    assert kept == {"projected.npy", "method.txt", "key.json", "digests.json"}, "activations are not kept"


def test_features_are_one_file_for_all_who_ask(make_bank: MakeBank, full: Path, tmp_path: Path) -> None:
    shutil.copytree(full, tmp_path / "cache")
    bank = make_bank(tmp_path / "cache")
    path = bank.coordinates_file("classifier", ROWS, N_COMPONENTS, 4)
    assert make_bank(tmp_path / "cache").coordinates_file("classifier", ROWS, N_COMPONENTS, 4) == path
    np.testing.assert_array_equal(np.load(path), bank.components("classifier", ROWS, N_COMPONENTS).coordinates[:, :4])


def test_what_is_missing_is_computed_when_it_is_asked_for(
    make_bank: MakeBank, full: Path, tmp_path: Path, counts: Counts
) -> None:
    features, expected = make_bank(tmp_path), make_bank(full)
    for layer in LAYERS:
        found = features.components(layer, ROWS, N_COMPONENTS).coordinates
        np.testing.assert_array_equal(found, expected.components(layer, ROWS, N_COMPONENTS).coordinates)
    assert (counts.n_opened, counts.n_passed) == (N_IMAGES, N_IMAGES), "all layers in one pass"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["networks", "layers", "components", "axes", "features"])
def test_damaged_features_are_said_and_computed_anew(
    make_bank: MakeBank, full: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    def numbers(features: NetworkFeatures) -> list[Any]:
        features.extract()
        file = features.coordinates_file("classifier", ROWS, N_COMPONENTS, 2)
        layers = [features.components(layer, ROWS[:9], 4).coordinates for layer in LAYERS]
        return [np.load(file), *layers, *(features.axes(layer, ROWS, N_COMPONENTS).axes for layer in LAYERS)]

    shutil.copytree(full, tmp_path / "cache")
    expected = numbers(make_bank(tmp_path / "cache"))
    damaged = [path for path in (tmp_path / "cache" / kind).rglob("*") if path.suffix in (".npy", ".json")]
    for path in damaged:
        if path.name not in ("key.json", "digests.json"):
            flip(path)
    for found, other in zip(numbers(make_bank(tmp_path / "cache")), expected, strict=True):
        np.testing.assert_allclose(found, other, atol=1e-5 * np.abs(other).max())
    said = [line for line in caplog.messages if "is damaged" in line]
    assert said
    assert all(line.startswith(f"the cache entry {kind}/") for line in said)
    caplog.clear()
    numbers(make_bank(tmp_path / "cache"))
    assert not [line for line in caplog.messages if "is damaged" in line]


def test_a_checkpoint_without_classifier_serves_the_layers_before_it(make_bank: MakeBank, tmp_path: Path) -> None:
    state = load_backbone("squeezenet1_1", "random:0").network.state_dict()
    kept = {f"module.{key}": value for key, value in state.items() if not key.startswith("classifier")}
    torch.save({"model_ema": kept, "other": {"a": torch.zeros(1)}}, tmp_path / "mine.pth")
    weights = str(tmp_path / "mine.pth")
    banks = [
        make_bank(tmp_path / "cache", BackboneSpec(name="squeezenet1_1", weights=weights, layers=layers))
        for layers in (LAYERS[:2], LAYERS[:2], LAYERS)
    ]
    for bank in banks[:2]:  # the second time from the cache
        assert bank.facts["label"] == "mine.pth#model_ema"
        assert bank.facts["taken"] == (
            "the part 'model_ema'; names without 'module.'; no classifier.1.weight, classifier.1.bias"
        )
    random = make_bank(tmp_path / "cache", BackboneSpec(name="squeezenet1_1", weights="random:0", layers=LAYERS[:2]))
    assert banks[0].facts["network_digest"] == random.facts["network_digest"]
    with pytest.raises(WeightsError, match="'classifier' needs weights"):
        _ = banks[2].facts
