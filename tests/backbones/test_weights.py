from __future__ import annotations

from pathlib import Path

import pytest

from img2brain.backbones._weights import parse_weights
from img2brain.errors import WeightsError

KNOWN = ("IMAGENET1K_V1", "DEFAULT")


def test_a_name_of_the_library() -> None:
    request = parse_weights("alexnet", "DEFAULT", KNOWN)
    assert (request.library_name, request.trained, request.label) == ("DEFAULT", "trained", "DEFAULT")


@pytest.mark.parametrize("seed", [0, 224, 2**32 - 1])
def test_a_seed(seed: int) -> None:
    request = parse_weights("alexnet", f"random:{seed}", KNOWN)
    assert (request.seed, request.trained, request.library_name) == (seed, "untrained", None)


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "x", str(2**32), " 1", "²"])
def test_a_bad_seed_is_refused(seed: str) -> None:
    with pytest.raises(WeightsError, match=r"must be an integer from 0 to 4294967295. Got "):
        parse_weights("alexnet", f"random:{seed}", KNOWN)


@pytest.mark.parametrize("name", ["mine.pth", "mine.safetensors", "mine"])
def test_a_file_tells_its_name_only(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    request = parse_weights("alexnet", str(tmp_path / name), KNOWN)
    assert (request.path, request.label, request.trained) == (tmp_path / name, name, "trained (file)")


def test_an_absent_file_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"alexnet must be a file that exists. Got 'absent.pth'"):
        parse_weights("alexnet", "absent.pth", KNOWN)


def test_unknown_weights_name_the_near_ones() -> None:
    with pytest.raises(WeightsError, match=r"Unknown weights 'IMAGENET1K_V2' of alexnet. Did you mean 'IMAGENET1K_V1'"):
        parse_weights("alexnet", "IMAGENET1K_V2", KNOWN)
