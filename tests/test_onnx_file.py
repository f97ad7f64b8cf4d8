"""Models as ONNX files: what onnxruntime makes of pixels is what the model makes of pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from img2brain.backbones import Preprocessing, load_backbone
from img2brain.errors import ModelError
from img2brain.features.given import ORIGIN
from img2brain.features.pca import Axes
from img2brain.model import EncodingModel
from img2brain.onnx_file import write_onnx
from img2brain.regressors.k_neighbors import COMPONENT as K_NEIGHBORS
from img2brain.regressors.ridge import COMPONENT as RIDGE
from img2brain.spec import GIVEN, TrialSpec

N_VOXELS, N_COMPONENTS = 7, 5


def a_spec(backbone: str, weights: str, layer: str) -> TrialSpec:
    return TrialSpec(
        backbone=backbone, weights=weights, weights_digest="", preprocessing="weights", layer=layer,
        n_components=N_COMPONENTS, regressor="ridge",
    )  # fmt: skip


def a_model(backbone: str, layer: str) -> EncodingModel:
    """Make a model of an untrained network and coefficients by chance."""
    chance = np.random.default_rng(0)
    loaded = load_backbone(backbone, "random:0")
    network, tensors = loaded.export(layer)
    n_features = loaded.extractor([layer]).n_features[layer]
    return fitted(
        a_spec(backbone, "random:0", layer),
        network,
        tensors,
        chance.standard_normal((n_features, N_COMPONENTS)) / n_features**0.5,
    )


def fitted(spec: TrialSpec, network: Any, tensors: Any, axes: NDArray[np.float64]) -> EncodingModel:
    chance = np.random.default_rng(1)
    shift = chance.standard_normal(N_COMPONENTS)
    arrays = {"coef_": chance.standard_normal((N_VOXELS, N_COMPONENTS)), "intercept_": chance.standard_normal(N_VOXELS)}
    about = {"dataset": "pictures", "unit": "z", "n_voxels": N_VOXELS}
    return EncodingModel(
        spec,
        network,
        tensors,
        Axes(axes.astype(np.float32), shift.astype(np.float32)),
        RIDGE.from_arrays({}, arrays),
        about,
    )


def run(file: Path, inputs: NDArray[Any]) -> Any:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (name,) = (item.name for item in session.get_inputs())
    return session.run(["responses"], {name: inputs})[0]


def metadata(file: Path) -> dict[str, str]:
    found: dict[str, str] = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    return found


@pytest.mark.parametrize(
    ("backbone", "layer"),
    [
        ("alexnet", "features.5"),
        ("squeezenet1_1", "features.12"),
        ("resnet18", "layer2.0"),
        pytest.param("vit_b_16", "encoder.layers.encoder_layer_3", marks=pytest.mark.slow),
        pytest.param("inception_v3", "Mixed_5b", marks=pytest.mark.slow),
        pytest.param("vgg11_bn", "classifier.0", marks=pytest.mark.slow),
    ],
)
def test_pixels_give_what_pictures_do(backbone: str, layer: str, tmp_path: Path) -> None:
    model = a_model(backbone, layer)
    write_onnx(model, tmp_path / "model.onnx")
    pictures = np.random.default_rng(2).integers(0, 256, (5, 70, 90, 3), np.uint8)
    preparation = Preprocessing.from_dict(json.loads(metadata(tmp_path / "model.onnx")["img2brain.preprocessing"]))
    pixels = np.stack([preparation.pixels(picture).permute(1, 2, 0).numpy() for picture in pictures])
    expected = model.predict(pictures)
    for n in (5, 1):
        found = run(tmp_path / "model.onnx", pixels[:n])
        assert (found.shape, found.dtype) == ((n, N_VOXELS), np.float32)
        np.testing.assert_allclose(found, expected[:n], atol=1e-4 * expected.std())
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_model_that_computes_in_bfloat16_is_written_in_float32(tmp_path: Path) -> None:
    model = replace(a_model("squeezenet1_1", "features.2"), precision="bfloat16")
    write_onnx(model, tmp_path / "model.onnx")
    assert metadata(tmp_path / "model.onnx")["img2brain.precision"] == "float32; the model computes in bfloat16"


def test_features_that_came_with_the_data_are_the_input(tmp_path: Path) -> None:
    import torch

    spec = a_spec(GIVEN, "none", "f")
    axes = np.random.default_rng(3).standard_normal((9, N_COMPONENTS))
    model = fitted(spec, {}, {ORIGIN: torch.full((9,), 1e6, dtype=torch.float64)}, axes)
    write_onnx(model, tmp_path / "model.onnx")
    features = 1e6 + np.random.default_rng(4).standard_normal((4, 9))
    np.testing.assert_allclose(run(tmp_path / "model.onnx", features), model.predict(features), rtol=1e-4, atol=1e-4)
    said = metadata(tmp_path / "model.onnx")
    assert (said["img2brain.unit"], said["img2brain.n_voxels"], said["img2brain.trial"]) == ("z", "7", spec.label)
    assert "img2brain.preprocessing" not in said


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = a_spec(GIVEN, "none", "f")
    model = fitted(spec, {}, {}, np.eye(9, N_COMPONENTS))
    neighbours = K_NEIGHBORS(n_neighbors=1).fit(np.eye(N_COMPONENTS), np.eye(N_COMPONENTS, N_VOXELS))
    with pytest.raises(ModelError, match=r"Only linear models can be written as ONNX\. Got a k_neighbors\."):
        write_onnx(
            replace(model, regressor=neighbours, spec=spec.model_copy(update={"regressor": "k_neighbors"})),
            tmp_path / "a.onnx",
        )
    monkeypatch.setattr("img2brain.onnx_file.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ModelError, match=r"needs onnxscript, which is not installed: pip install img2brain\[onnx\]"):
        write_onnx(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
