from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from img2brain import _arrays
from img2brain.errors import DataError, DeviceError
from img2brain.features import extract
from img2brain.features.extract import Precision, activations, find_device, find_precision

CPU = torch.device("cpu")


class Sums(torch.nn.Module):
    """Two layers: the sum of each colour, and all pixels."""

    n_widest = 60

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": batch.sum(dim=(2, 3)), "pixels": batch.flatten(1)}


class AsItIs:
    """Leaves pictures as they are."""

    size = (4, 5)

    def resized(self, height: int, width: int, /) -> tuple[int, int]:
        return height, width

    def pixels(self, picture: NDArray[np.uint8], /) -> torch.Tensor:
        return torch.from_numpy(picture).permute(2, 0, 1)

    def normalise(self, pixels: torch.Tensor, dtype: torch.dtype, /) -> torch.Tensor:
        return pixels.to(dtype)


def pictures(n_images: int) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(0).integers(0, 256, (n_images, 4, 5, 3), dtype=np.uint8))


def collect(images: Any, **options: Any) -> dict[str, torch.Tensor]:
    batches = [layers for _, layers in activations(Sums(), AsItIs(), images, CPU, **options)]
    return {layer: torch.cat([batch[layer] for batch in batches]) for layer in batches[0]}


def test_paths_pictures_and_arrays_give_the_same(tmp_path: Path) -> None:
    arrays = pictures(4)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    expected = collect(arrays)
    for images in (paths, list(map(str, paths)), list(map(Image.fromarray, arrays))):
        found = collect(images)
        assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_rows_keep_their_order_whatever_the_batches(batch_size: int) -> None:
    arrays = pictures(7)
    assert torch.equal(collect(arrays, batch_size=batch_size)["sum"], collect(arrays)["sum"])
    expected = torch.tensor(np.stack(arrays).sum(axis=(1, 2)), dtype=torch.float32)
    assert torch.equal(collect(arrays)["sum"], expected)


def test_pictures_are_opened_by_the_threads_that_the_process_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    opened_by: set[int] = set()

    def open_pixels(image: Any, *_: Any) -> Any:
        opened_by.add(threading.get_ident())
        return image

    monkeypatch.setattr(extract, "open_pixels", open_pixels)
    monkeypatch.setattr(_arrays._Share, "n_threads", 1)
    collect(pictures(40), n_together=40)
    assert len(opened_by) == 1


@pytest.mark.parametrize("n_ahead", [0, 2])
def test_no_more_than_a_few_batches_are_opened_ahead(monkeypatch: pytest.MonkeyPatch, n_ahead: int) -> None:
    opened: list[Any] = []

    def open_pixels(image: Any, *_: Any) -> Any:
        opened.append(image)
        return image

    monkeypatch.setattr(extract, "open_pixels", open_pixels)
    batches = activations(Sums(), AsItIs(), pictures(60), CPU, batch_size=2, n_together=4, n_ahead=n_ahead)
    for n_taken in range(1, 6):
        next(batches)
        assert len(opened) <= 4 * ((n_taken + 1) // 2 + n_ahead)
    batches.close()  # type: ignore[attr-defined]
    assert len(opened) < 60


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        collect([pictures(1)[0], tmp_path / "bad.png"])


def test_the_network_gets_the_type_that_is_asked_for() -> None:
    batches = activations(Sums(), AsItIs(), pictures(3), CPU, torch.bfloat16)
    assert all(values.dtype == torch.bfloat16 for _, layers in batches for values in layers.values())


@pytest.mark.parametrize("name", ["bfloat16", "float32"])
def test_a_precision_is_what_was_asked_for(name: Precision) -> None:
    assert find_precision(name, CPU) == getattr(torch, name)


@pytest.mark.parametrize(("unit", "expected"), [("avx512_bf16", torch.bfloat16), ("avx2", torch.float32)])
def test_the_processor_chooses_the_precision(monkeypatch: pytest.MonkeyPatch, unit: str, expected: torch.dtype) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True})
    assert find_precision("auto", CPU) == expected


def test_a_device_is_there_or_refused() -> None:
    assert find_device("cpu") == CPU
    assert find_device("auto").type in ("cpu", "cuda")
    with pytest.raises(DeviceError, match=r"The device 'cuda:99' is not there: \d+ GPUs found\. Use device = 'cpu'"):
        find_device("cuda:99")
