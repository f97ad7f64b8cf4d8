from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from img2brain.backbones import Preprocessing
from img2brain.errors import DataError, SpecError
from img2brain.features.placement import Placement, placed
from img2brain.home import Home
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeSpec

GREY = "#808080"
sides = st.integers(1, 40)
degrees = st.floats(0.5, 30)


def brain_score(picture: np.ndarray, degrees: float, field: float) -> np.ndarray:
    """Place a picture as Brain-Score's `place_on_screen` does, written anew from its description."""
    size = np.array(picture.shape[1::-1])
    screen = np.maximum((size * field / degrees).round().astype(int), 1)
    corner = ((screen - size) / 2).round().astype(int)
    image = Image.new("RGB", tuple(screen.tolist()), (128, 128, 128))
    image.paste(Image.fromarray(picture), tuple(corner.tolist()))
    return np.array(image)


@given(sides, sides, degrees, degrees)
def test_it_is_brain_scores(height: int, width: int, shown: float, field: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(Placement(shown, field, GREY).place(picture), brain_score(picture, shown, field))


@given(degrees, degrees, st.sampled_from([GREY, "#00ff10"]))
def test_what_is_written_is_read(shown: float, field: float, colour: str) -> None:
    placement = Placement(shown, field, colour)
    assert Placement.parse(str(placement)) == placement


@pytest.mark.parametrize(
    "text", ["8", "0.0 of 8.0 degrees on #808080", "8 of e degrees on #808080", "8 of 8 degrees on grey"]
)
def test_a_text_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="placement must be"):
        Placement.parse(text)


def test_no_text_is_no_placement() -> None:
    assert Placement.parse("") is None
    preparation = Preprocessing(resize=(8, 8))
    assert placed(preparation, None) is preparation


def test_pictures_of_the_size_of_the_field_stay_as_they_are() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    preparation = Preprocessing(resize=(8, 8))
    same = placed(preparation, Placement(8.0, 8.0, GREY))
    np.testing.assert_array_equal(same.pixels(picture).numpy(), preparation.pixels(picture).numpy())
    assert same.resized(30, 20) == preparation.resized(30, 20)


def test_a_canvas_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(DataError, match="must have at most"):
        Placement(0.001, 180.0, GREY).place(np.zeros((100, 100, 3), np.uint8))


def test_a_study_places_pictures_and_says_so(make_spec: MakeSpec, tmp_path: Path) -> None:
    network = {"name": "squeezenet1_1", "weights": "random:0", "layers": ["features.5"]}
    plain, shown = (
        make_ready(make_spec(backbones=[network], **more), Home(tmp_path))
        for more in ({}, {"stimulus": {"degrees": 4.0}})
    )
    assert plain.name != shown.name
    (before,), (after,) = plain.first.banks.values(), shown.first.banks.values()
    assert (before.placement, after.placement) == ("", "4.0 of 8.0 degrees on #808080")
    rows = plain.first.split.train
    first, second = (bank.components("features.5", rows, 2).coordinates for bank in (before, after))
    assert not np.allclose(first, second)
