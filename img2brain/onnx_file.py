"""A model as one ONNX file: pixels to voxels for people without this package.

The network, its normalisation, the principal axes and the regressor are in the file; the resize before them is not,
since no two libraries resize alike: the file says how large pictures must be. Numbers are float32, whatever the
network was fitted in; the file is written where it gives what the model gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from img2brain import digest
from img2brain.backbones import Preprocessing
from img2brain.errors import ModelError
from img2brain.features.given import ORIGIN
from img2brain.features.placement import Placement, placed
from img2brain.features.pooling import side_by_side
from img2brain.model import EncodingModel

SUFFIX = ".onnx"
PIXELS, FEATURES, RESPONSES = "pixels", "features", "responses"
_OPSET = 18
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_LINEAR = {"coef_", "intercept_"}
_CLOSE = 1e-4  # of the spread of predictions
_N_COMPARED = 3


def write_onnx(model: EncodingModel, file: Path) -> None:
    """Write a model as an ONNX file, which is there whole or not at all.

    Parameters
    ----------
    model : EncodingModel
        With a linear regressor.
    file : Path
        The file. Its input ``pixels`` is uint8 (n_images, height, width, 3), RGB, resized and cropped as its metadata
        say; of a model of features that came with the data it is ``features``, float64 (n_images, n_features). Its
        output ``responses`` is (n_images, n_voxels), float32, or float64 where the model's is.

    Raises
    ------
    ModelError
        If the regressor is not linear, the libraries are not installed, or the file would predict something else.
    """
    _require_libraries()
    arrays = model.regressor.to_arrays()
    if set(arrays) != _LINEAR:
        raise ModelError(f"Only linear models can be written as ONNX. Got a {model.spec.regressor}.")
    exact = replace(model, precision="float32")
    whole = _of_features(exact, arrays) if model.takes_features else _of_pixels(exact, arrays)
    given = _some_inputs(whole)
    inputs = whole.prepared(given)
    with TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as scratch:
        written = Path(scratch) / "model.onnx"
        _export(whole, inputs, written, _metadata(model, whole))
        _require_same(written, whole.name, inputs, exact.predict(given))
        written.replace(file)


class _Whole(nn.Module):
    """All that a model does to its input, as tensors; subclasses say what comes before the principal axes."""

    name: str
    shape: tuple[int, ...]

    def __init__(self, model: EncodingModel, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__()
        self.axes, self.shift = _fixed(model.axes.axes), _fixed(model.axes.shift)
        self.coef, self.intercept = (_fixed(np.asarray(arrays[name], np.float64)) for name in ("coef_", "intercept_"))
        self.dtype = torch.float64 if model.dtype == np.float64 else torch.float32

    def prepared(self, given: NDArray[Any]) -> NDArray[Any]:
        """Return what goes into the file for what a model takes."""
        return given

    def _responses(self, features: torch.Tensor) -> torch.Tensor:
        coordinates = (features @ self.axes - self.shift).double()
        return (coordinates @ self.coef.T + self.intercept).to(self.dtype)


class _OfPixels(_Whole):
    """From pixels: normalised, through the network, to responses."""

    name = PIXELS

    def __init__(self, model: EncodingModel, arrays: Mapping[str, NDArray[Any]], pooled: nn.Module) -> None:
        super().__init__(model, arrays)
        self.preparation = Preprocessing.from_dict(model.network["preprocessing"])
        self.placement = Placement.parse(model.spec.placement)
        mean, std = torch.tensor(self.preparation.mean), torch.tensor(self.preparation.std)
        self.offset, self.scale = nn.Buffer(-mean / std), nn.Buffer(1 / (255 * std))
        self.pooled, self.shape = pooled, (*self.preparation.size, 3)

    def prepared(self, given: NDArray[Any]) -> NDArray[Any]:
        """Resize and crop pictures as the model does."""
        preparation = placed(self.preparation, self.placement)
        return np.stack([preparation.pixels(picture).permute(1, 2, 0).numpy() for picture in given])

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, height, width, 3) to (n, n_voxels)."""
        pictures = torch.addcmul(self.offset, pixels.float(), self.scale).permute(0, 3, 1, 2)
        return self._responses(side_by_side(self.pooled(pictures)))


class _OfFeatures(_Whole):
    """From features that came with the data, to responses."""

    name = FEATURES

    def __init__(self, model: EncodingModel, arrays: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(model, arrays)
        self.shape = (len(model.axes.axes),)
        self.origin = nn.Buffer(model.tensors.get(ORIGIN, torch.zeros(self.shape)).double())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map float64 (n, n_features) to (n, n_voxels)."""
        return self._responses((features - self.origin).float())


def _of_pixels(model: EncodingModel, arrays: Mapping[str, NDArray[Any]]) -> _Whole:
    return _OfPixels(model, arrays, model.pooled(model.restored().pruned))


def _of_features(model: EncodingModel, arrays: Mapping[str, NDArray[Any]]) -> _Whole:
    return _OfFeatures(model, arrays)


def _fixed(array: NDArray[Any]) -> nn.Buffer:
    return nn.Buffer(torch.from_numpy(np.array(array)))


def _some_inputs(whole: _Whole) -> NDArray[Any]:
    """Return noise that a model takes: what is right of noise is right of pictures."""
    chance, shape = np.random.default_rng(0), (_N_COMPARED, *whole.shape)
    return chance.integers(0, 256, shape, np.uint8) if whole.name == PIXELS else chance.standard_normal(shape)


def _export(whole: _Whole, inputs: NDArray[Any], file: Path, metadata: Mapping[str, str]) -> None:
    import onnx

    made = torch.onnx.export(
        whole.eval(),
        (torch.from_numpy(inputs),),
        dynamo=True,
        opset_version=_OPSET,
        verbose=False,
        input_names=[whole.name],
        output_names=[RESPONSES],
        dynamic_shapes=({0: torch.export.Dim("n_images")},),
    )
    assert made is not None, "the exporter of graphs returns what it made"
    made.save(file, external_data=False)
    described = onnx.load(file)
    onnx.helper.set_model_props(described, dict(metadata))
    onnx.save(described, file)


def _require_same(file: Path, name: str, inputs: NDArray[Any], expected: NDArray[Any]) -> None:
    """Refuse a file that predicts something else than the model, of several inputs and of one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for n in (len(inputs), 1):
        (found,) = session.run([RESPONSES], {name: inputs[:n]})
        farthest = np.abs(found - expected[:n]).max(initial=0) / max(float(expected.std()), np.finfo(np.float32).tiny)
        if found.shape != expected[:n].shape or not farthest < _CLOSE:
            raise ModelError(
                f"The ONNX file must predict what the model does. It is {farthest:.2g} of the spread away."
            )


def _metadata(model: EncodingModel, whole: _Whole) -> dict[str, str]:
    """Say what a reader has to know who has nothing but the file."""
    about = model.about
    facts: dict[str, Any] = {
        "dataset": about.get("dataset", ""),
        "unit": about.get("unit", ""),
        "n_voxels": about["n_voxels"],
        "regions": {name: np.asarray(voxels).tolist() for name, voxels in model.regions.items()},
        "trial": model.spec.label,
        "digest": digest.of_arrays({name: buffer.numpy() for name, buffer in whole.named_buffers()}),
        "precision": f"float32; the model computes in {model.precision}",
        "version": version("img2brain"),
    }
    if whole.name == PIXELS:
        facts |= {"placement": model.spec.placement} if model.spec.placement else {}
        facts |= {"preprocessing": model.network["preprocessing"], "presentation": model.presentation.to_dict()}
    return {f"img2brain.{name}": item if isinstance(item, str) else json.dumps(item) for name, item in facts.items()}


def _require_libraries() -> None:
    if absent := [name for name in _NEEDED if find_spec(name) is None]:
        raise ModelError(f"ONNX needs {', '.join(absent)}, which is not installed: pip install img2brain[onnx].")
