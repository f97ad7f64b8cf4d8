from __future__ import annotations

import base64
import copy
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from img2brain import sealed
from img2brain.backbones import load_backbone
from img2brain.backbones.torchvision import Torchvision
from img2brain.datasets._images import find_images
from img2brain.datasets._presentation import Presentation
from img2brain.errors import DataError, DeviceError, ModelError, SpecError
from img2brain.model import EncodingModel
from img2brain.registered import load_model

if TYPE_CHECKING:
    from tests.conftest import Finished

CARD = ("README.md", "accuracy.svg")
FILES = ("network.safetensors", "pca.safetensors", "regions.safetensors", "regressor.safetensors")


@pytest.fixture(scope="module")
def model(finished: Finished) -> EncodingModel:
    return load_model("sample", finished.home)


@pytest.fixture(scope="module")
def pictures(recordings: Path) -> tuple[Path, ...]:
    return find_images(recordings / "testIMG")


@pytest.fixture(scope="module")
def expected(model: EncodingModel, pictures: tuple[Path, ...]) -> np.ndarray[Any, Any]:
    return model.predict(list(pictures))


def damages(folder: Path) -> Iterator[tuple[str, str]]:
    """Damage a sealed folder in every way, one after another, and yield what the message must say of each."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        for place in (0, len(content) // 2, -1):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            yield name, "is not the file that the model was saved with|holds no whole model|is no file of the model"
        path.write_bytes(content + b" ")
        yield name, "is not the file that the model was saved with"
        path.unlink()
        yield name, "holds no whole model"
        path.symlink_to("/dev/zero")
        yield name, "is not the file that the model was saved with|holds no whole model"
        path.unlink()
        path.write_bytes(content)
    for name in ("more.txt", "deep/__pycache__/flavor.pyc", ".hidden"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        yield name, "is no file of the model"
        (folder / name).unlink()


def as_floats(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path)) / 255


@pytest.mark.parametrize("source", [str, Image.open, lambda path: np.asarray(Image.open(path)), as_floats])
def test_paths_pictures_and_arrays_agree(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], source: Callable[[Path], Any]
) -> None:
    assert expected.dtype == np.float32
    assert expected.shape == (6, 20)
    np.testing.assert_array_equal(model.predict([source(path) for path in pictures]), expected)
    np.testing.assert_allclose(model.predict(source(pictures[2])), expected[2:3], rtol=1e-3, atol=1e-4)


def test_an_array_of_four_dimensions_is_a_sequence(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any]
) -> None:
    array = np.stack([np.asarray(Image.open(path)) for path in pictures])
    np.testing.assert_array_equal(model.predict(array), expected)


def test_a_folder_stands_for_its_images_by_name(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    (folder / "inside").mkdir(parents=True)
    for path in pictures:
        shutil.copy(path, folder / path.name)
    shutil.copy(pictures[0], folder / "inside" / "00000.png")
    (folder / "notes.txt").touch()
    for images in (folder, str(folder), [folder]):
        np.testing.assert_array_equal(model.predict(images), expected)
    table = model.predict([folder, pictures[1]], as_frame=True)
    assert list(table.index) == [*(str(folder / path.name) for path in pictures), str(pictures[1])]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"'.*empty' must hold \.jpg, \.jpeg or \.png files\. It holds none\."):
        model.predict(tmp_path / "empty")


def test_regions_are_chosen_in_their_order(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    assert list(model.regions) == ["V1", "V4", "IT"]
    model.save(tmp_path)
    loaded = EncodingModel.load(tmp_path)
    for name, voxels in model.regions.items():
        np.testing.assert_array_equal(loaded.regions[name], voxels)
        np.testing.assert_array_equal(loaded.predict(list(pictures), [name]), expected[:, voxels])
        np.testing.assert_array_equal(loaded.predict(list(pictures), name), expected[:, voxels])
    both = np.concatenate([model.regions["IT"], model.regions["V1"]])
    np.testing.assert_array_equal(loaded.predict(list(pictures), ["IT", "V1"]), expected[:, both])
    assert loaded.predict([], ["V1"]).shape == (0, len(model.regions["V1"]))


@pytest.mark.parametrize(
    ("rois", "message"),
    [
        (["v1"], r"Unknown region 'v1'\. Did you mean 'V1'"),
        (["V1", "LGN"], r"Unknown region 'LGN'\. Known: V1, V4, IT\."),
        ([3], r"Unknown region '3'\. Known: V1, V4, IT\."),
        ([], r"The 'rois' must name one region or several, each once\. Got \[\]\."),
        (["IT", "IT"], r"each once\. Got \['IT', 'IT'\]\."),
    ],
)
def test_a_region_that_is_none_is_refused_before_any_work(model: EncodingModel, rois: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        model.predict("no such image.png", rois)


def test_a_table_names_images_regions_and_voxels(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any]
) -> None:
    whole = model.predict(pictures, as_frame=True)
    assert whole.index.tolist() == [path.name for path in pictures]
    assert np.array_equal(whole.columns, range(20))
    assert (whole.index.name, whole.columns.name) == ("image", "voxel")
    np.testing.assert_array_equal(whole.to_numpy(), expected)
    table = model.predict([Image.open(path) for path in pictures], ["IT", "V1"], as_frame=True)
    assert list(table.index) == [path.name for path in pictures]
    assert table.columns.names == ["region", "voxel"]
    assert table["V1"].columns.tolist() == model.regions["V1"].tolist()
    np.testing.assert_array_equal(table["V1"].to_numpy(), expected[:, model.regions["V1"]])
    assert model.predict([pictures[0].read_bytes(), pictures[1]], as_frame=True).index.tolist() == [0, 1]
    assert model.predict([], ["V1"], as_frame=True).shape == (0, len(model.regions["V1"]))


def test_a_table_of_given_features_is_numbered() -> None:
    model = EncodingModel.load(Path(__file__).parent / "fixtures" / "model-format-5" / "given")
    table = model.predict(np.zeros((3, 5)), as_frame=True)
    assert table.index.tolist() == [0, 1, 2]
    assert np.array_equal(table.columns, range(4))
    with pytest.raises(SpecError, match=r"Unknown region 'V1'\. Known: none\."):
        model.predict(np.zeros((3, 5)), "V1")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_batches_do_not_matter(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], batch_size: int
) -> None:
    found = model.predict(list(pictures), batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_saved_model_predicts_the_same(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    model.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*CARD, "digests.json", "model.json", "golden", *FILES}
    loaded = EncodingModel.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(list(pictures)), expected)
    assert loaded.spec == model.spec
    assert loaded.about == model.about
    assert loaded.about["dataset"] == "sample"


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused(model: EncodingModel, tmp_path: Path, name: str) -> None:
    model.save(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is not the file that the model was saved with"):
        EncodingModel.load(tmp_path)


def test_a_byte_a_file_more_or_a_file_less_is_refused_by_name(model: EncodingModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    for name, message in damages(tmp_path):
        with pytest.raises(ModelError, match=message) as caught:
            EncodingModel.load(tmp_path)
        assert "\n" not in str(caught.value)
        if name != sealed.SEAL:
            assert name in str(caught.value)
    assert EncodingModel.load(tmp_path).spec == model.spec


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "\0", "[" * 50_000, '{"model.json": 3}'])
def test_a_seal_that_is_none_is_refused_on_one_line(model: EncodingModel, tmp_path: Path, text: str) -> None:
    model.save(tmp_path)
    (tmp_path / sealed.SEAL).write_text(text)
    with pytest.raises(ModelError) as caught:
        EncodingModel.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["model.json", *FILES])
def test_an_absent_file_is_refused(model: EncodingModel, tmp_path: Path, name: str) -> None:
    model.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match="holds no whole model"):
        EncodingModel.load(tmp_path)
    (tmp_path / sealed.SEAL).unlink()
    with pytest.raises(ModelError, match="holds no whole model"):
        EncodingModel.load(tmp_path)


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda table: {name: value for name, value in table.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table | {"format": 99}, "the format of a model must be 6. Got 99."),
        (lambda table: [table], "holds no whole model"),
        (without("spec"), "holds no whole model"),
        (without("network"), "holds no whole model"),
        (lambda table: table | {"format": 4}, "holds no whole model"),
        (lambda table: table | {"format": 4, "files": []}, "holds no whole model"),
        (lambda table: table | {"spec": table["spec"] | {"n_components": "many"}}, "holds no whole model"),
        (lambda table: table | {"spec": table["spec"] | {"regressor": "os"}}, "holds no whole model"),
        (lambda table: table | {"spec": table["spec"] | {"regressor": "decision_tree"}}, "decision_tree"),
    ],
)
def test_a_changed_description_is_refused(
    model: EncodingModel, tmp_path: Path, change: Callable[[Any], Any], message: str
) -> None:
    model.save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(table := change(json.loads(path.read_text()))))
    if isinstance(table, dict) and table["format"] == 4:
        (tmp_path / sealed.SEAL).unlink()
    else:
        sealed.seal(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        EncodingModel.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_network_of_other_tensors_is_refused(
    model: EncodingModel, pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    model.save(tmp_path)
    path = tmp_path / "model.json"
    table = json.loads(path.read_text())
    table["network"]["backbone"] = "alexnet"
    path.write_text(json.dumps(table))
    sealed.seal(tmp_path)
    with pytest.raises(ModelError, match="tensors of a saved backbone"):
        EncodingModel.load(tmp_path).predict(list(pictures))


def test_what_is_no_picture_is_refused(model: EncodingModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png"):
        model.predict(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"A float image array must lie in 0\.\.1"):
        model.predict(np.full((4, 4), 2.0))
    with pytest.raises(DataError, match="Got int"):
        model.predict([3])  # type: ignore[list-item]
    with pytest.raises(DeviceError):
        model.predict(np.zeros((4, 4)), device="cuda:99")


@pytest.mark.parametrize("kind", ["network", "given"])
def test_a_model_of_format_2_predicts_what_it_predicted(kind: str) -> None:
    folder, random = Path(__file__).parent / "fixtures" / "model-format-2", np.random.RandomState(5)
    pictures = list(random.randint(0, 256, (3, 40, 50, 3)).astype(np.uint8))
    features = np.random.RandomState(5).standard_normal((3, 40)).astype(np.float32)
    model = EncodingModel.load(folder / kind)
    found = model.predict(features if model.takes_features else pictures, device="cpu")
    expected = np.load(folder / f"{kind}-predictions.npy")
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_model_of_format_3_predicts_what_it_predicted() -> None:
    folder = Path(__file__).parent / "fixtures" / "model-format-3"
    features = np.random.RandomState(5).standard_normal((3, 5)).astype(np.float32)
    found = EncodingModel.load(folder / "given").predict(features)
    np.testing.assert_allclose(found, np.load(folder / "given-predictions.npy"), atol=1e-6)


def test_a_model_of_format_5_predicts_what_it_predicted() -> None:
    folder = Path(__file__).parent / "fixtures" / "model-format-5"
    features = np.random.RandomState(5).standard_normal((3, 5)).astype(np.float32)
    found = EncodingModel.load(folder / "given").predict(features)
    np.testing.assert_allclose(found, np.load(folder / "given-predictions.npy"), atol=1e-6)


def test_a_model_that_was_registered_in_format_5_is_loaded_by_mlflow(tmp_path: Path) -> None:
    folder = Path(__file__).parent / "fixtures" / "model-format-5"
    whole = unpacked(tmp_path)
    random = np.random.RandomState(5)
    pictures = [Image.fromarray(random.randint(0, 256, (40, 50, 3)).astype(np.uint8)) for _ in range(3)]
    expected = np.load(folder / "network-predictions.npy")
    ours = EncodingModel.load(whole / "artifacts" / "network").predict(pictures, device="cpu")
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
    theirs = mlflow.pyfunc.load_model(str(whole))
    found = theirs.predict(pd.DataFrame({"image": [encoded(picture) for picture in pictures]}))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def encoded(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_a_folder_of_images_is_no_file_of_features(tmp_path: Path) -> None:
    model = EncodingModel.load(Path(__file__).parent / "fixtures" / "model-format-3" / "given")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match=r"takes the features .*, a \.npy file .*Got the folder '.*pictures'\."):
        model.predict(tmp_path / "pictures")
    with pytest.raises(DataError, match=r"'.*none\.npy' must exist\. It does not\."):
        model.predict(tmp_path / "none.npy")


def test_a_network_that_is_not_what_it_was_is_refused(
    model: EncodingModel, pictures: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save(tmp_path)
    build = Torchvision.build

    def edited(self: Torchvision, name: str, options: Any) -> Any:
        network = build(self, name, options)
        for module in list(network.modules()):
            for key, child in module.named_children():
                if isinstance(child, torch.nn.ReLU):
                    module.register_module(key, torch.nn.LeakyReLU(0.05))
        return network

    EncodingModel.load(tmp_path).check()
    monkeypatch.setattr(Torchvision, "build", edited)
    message = r"The network 'torchvision:squeezenet1_1' is not what this model was saved with"
    for use in (EncodingModel.check, lambda loaded: loaded.predict(list(pictures))):
        with pytest.raises(ModelError, match=message) as caught:
            use(EncodingModel.load(tmp_path))
        assert "\n" not in str(caught.value)


def test_a_network_of_format_5_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    old = EncodingModel.load(unpacked(tmp_path) / "artifacts" / "network")
    assert old.format == 5
    assert old.probe is not None
    with pytest.raises(ModelError, match="is not what this model was saved with"):
        replace(old, probe=tuple(value + 0.1 for value in old.probe)).check()
    old.save(tmp_path / "saved")
    assert EncodingModel.load(tmp_path / "saved").golden is not None


def test_a_regressor_that_is_not_what_it_was_is_refused(model: EncodingModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = EncodingModel.load(tmp_path)
    other: Any = copy.deepcopy(loaded.regressor)
    other.intercept_ = other.intercept_ + 0.01
    with pytest.raises(ModelError, match="The regressor 'ridge' is not what this model was saved with"):
        replace(loaded, regressor=other).check()


def test_the_golden_example_is_kept_as_it_was(model: EncodingModel, tmp_path: Path) -> None:
    model.save(tmp_path / "once")
    EncodingModel.load(tmp_path / "once").save(tmp_path / "twice")
    for path in (tmp_path / "once" / "golden").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / "golden" / path.name).read_bytes()
    found = model.predict(tmp_path / "once" / "golden" / "input.png")
    np.testing.assert_allclose(found, np.load(tmp_path / "once" / "golden" / "responses.npy"), atol=1e-4)


@pytest.mark.parametrize("capability", ["default", pytest.param("avx2", marks=pytest.mark.slow)])
def test_it_predicts_the_same_on_a_processor_of_another_kind(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], tmp_path: Path, capability: str
) -> None:
    model.save(tmp_path / "model")
    code = (
        "import sys, numpy, img2brain; model = img2brain.load_model(sys.argv[1]); "
        "numpy.save(sys.argv[2], model.predict(sys.argv[3:]))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "model"), str(tmp_path / "found.npy"), *map(str, pictures)]
    subprocess.run(words, check=True, env={**os.environ, "ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": "1"})
    # Where bytes are resized otherwise, by rounding alone, coordinates are up to .0005 of their size away.
    most = 1e-4 if capability == "avx2" else 2e-3
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=0, atol=most * np.abs(expected).max())


def unpacked(folder: Path) -> Path:
    """Unpack the model that MLflow registered in format 5."""
    with tarfile.open(Path(__file__).parent / "fixtures" / "model-format-5" / "registered.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "registered"


def test_it_is_shown_in_five_lines_without_its_numbers(model: EncodingModel) -> None:
    lines = repr(model).splitlines()
    assert len(lines) == 5
    assert lines[0] == "<EncodingModel of sample: images -> 20 voxels"
    assert "squeezenet1_1 random:0 (untrained), float32" in lines[1]
    assert f"{model.about['scores']['confirmation']:.4f}" in lines[4]
    assert max(map(len, lines)) < 120


def test_a_notebook_shows_it_as_a_table_of_plain_text(model: EncodingModel) -> None:
    strange = replace(model, about={**model.about, "dataset": "<b>"})
    page = strange._repr_html_()
    assert page.count("<tr>") == 5
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_a_model_lays_pictures_over_the_background_of_its_dataset(model: EncodingModel, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 4), dtype=np.uint8)
    pixels[:30, :, 3] = 0
    pixels[30:, :, 3] = 255
    cut = Image.fromarray(pixels)
    shown = pixels[..., :3].copy()
    for shade in (0, 255):
        shown[:30] = shade
        replace(model, presentation=Presentation(background=f"#{shade:02x}{shade:02x}{shade:02x}")).save(tmp_path)
        found = EncodingModel.load(tmp_path).predict(cut)
        np.testing.assert_array_equal(found, model.predict(shown))
    assert not np.array_equal(found, model.predict(cut))


def test_a_picture_too_long_is_refused(model: EncodingModel, tmp_path: Path) -> None:
    Image.new("L", (20_000, 1)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png' must have at most 16777216 pixels when it is resized"):
        model.predict(tmp_path / "a.png")


def test_weights_may_be_named_in_place_of_kept(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    model.save(tmp_path / "named", weights="reference")
    assert not (tmp_path / "named" / "network.safetensors").exists()
    loaded = load_model(str(tmp_path / "named"), check=True)
    np.testing.assert_array_equal(loaded.predict(list(pictures)), expected)
    loaded.save(tmp_path / "kept")
    with pytest.raises(ModelError, match=r"The weights of this model are in its files\. Got another file of them"):
        load_model(str(tmp_path / "kept"), weights="any.pth")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The weights of the model, as a file."""
    network = load_backbone("squeezenet1_1", "random:0").network
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def test_weights_of_a_file_are_asked_for_and_compared(
    model: EncodingModel, pictures: tuple[Path, ...], expected: np.ndarray[Any, Any], checkpoint: Path
) -> None:
    folder, other = checkpoint.parent / "named", checkpoint.parent / "other.pth"
    replace(model, network={**model.network, "weights": "mine.pth"}).save(folder, weights="reference")
    torch.save(load_backbone("squeezenet1_1", "random:1").network.state_dict(), other)
    for weights, message in (
        (None, r"are not in its files\. They were the file 'mine\.pth': name it, as in load_model"),
        (
            checkpoint.parent / "none.pth",
            r"are not in its files\. The weights of squeezenet1_1 must be a file that exists",
        ),
        (
            other,
            r"must be those that this model was saved with\. They are others: their digest is \w{12}, not \w{12}\.",
        ),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            load_model(str(folder), weights=weights)
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(load_model(str(folder), weights=checkpoint).predict(list(pictures)), expected)


def test_a_model_of_features_has_no_weights_to_name(tmp_path: Path) -> None:
    given = EncodingModel.load(Path(__file__).parent / "fixtures" / "model-format-5" / "given")
    given.save(tmp_path, weights="reference")
    np.testing.assert_array_equal(EncodingModel.load(tmp_path).predict(np.eye(5)), given.predict(np.eye(5)))
