"""Any dataset as a plain folder: the same rows with the same numbers, bit for bit, whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from img2brain import beside
from img2brain.cli.data import data
from img2brain.datasets import _convert as module
from img2brain.datasets import open_dataset
from img2brain.datasets._convert import convert_dataset
from img2brain.datasets._images import open_pixels
from img2brain.datasets._layouts import check
from img2brain.datasets.base import Dataset
from img2brain.datasets.folder import FolderDataset
from img2brain.errors import DataError, ResourceError, SpecError
from tests.datasets.conftest import MakeFolder
from tests.datasets.miniatures import MINIATURES


def assert_same(one: Dataset, other: Dataset) -> None:
    """Compare all that a score depends on, bit for bit, and all that is said."""
    for fact in ("name", "n_training", "n_test", "n_voxels", "unit", "subject", "background", "orientation"):
        assert getattr(one, fact) == getattr(other, fact)
    assert (one.provenance, one.preparation) == (other.provenance, other.preparation)
    assert len(one.images) == len(other.images)
    assert len(one.test_images) == len(other.test_images) or one.n_test
    for first, second in zip(one.images, other.images, strict=True):
        np.testing.assert_array_equal(open_pixels(first, one.presentation), open_pixels(second, other.presentation))
    for rows in (np.arange(one.n_training), np.arange(one.n_training, one.n_images)):
        for read in ("_responses", "_repeats", "_counts"):
            assert_equal_bits(getattr(one, read)(rows), getattr(other, read)(rows))
    for fact in ("ncsnr", "noise_ceiling", "groups"):
        assert_equal_bits(getattr(one, fact), getattr(other, fact))
    assert one.stimuli == other.stimuli
    told = {name: column for name, column in one.columns.items() if max(map(len, column)) < 2}
    brought = {name: tuple((part,) if part else () for part in parts()) for name, parts in _available(one).items()}
    assert {**told, **brought} == dict(other.columns)
    for found in ("rois", "features"):
        assert list(getattr(one, found)) == list(getattr(other, found))
        for name, array in getattr(one, found).items():
            assert_equal_bits(array, getattr(other, found)[name])
    for kind in ("equal", "sets"):
        assert_equal_bits(getattr(one.ties, kind), getattr(other.ties, kind))


def _available(dataset: Dataset) -> dict[str, Any]:
    found = {}
    for name, parts in dataset.splits.items():
        with contextlib.suppress(DataError, SpecError):
            parts()
            found[name] = parts
    return found


def assert_equal_bits(one: Any, other: Any) -> None:
    assert (one is None) == (other is None)
    if one is not None:
        one, other = np.asarray(one), np.asarray(other)
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert one.tobytes() == other.tobytes()


ASKED: list[dict[str, Any]] = [{}, {"repeats": "single"}]


@pytest.mark.parametrize("extra", ASKED, ids=["as it is", "single trials"])
@pytest.mark.parametrize("name", MINIATURES)
def test_a_converted_miniature_is_the_original(name: str, extra: dict[str, Any], tmp_path: Path) -> None:
    mini = MINIATURES[name](tmp_path / "mini")
    out = convert_dataset(mini.path, tmp_path / "out", **mini.asked, **extra)
    assert_same(open_dataset(mini.path, **mini.asked, **extra), open_dataset(out))
    found = [problem.message for problem in check(out).problems]
    assert all("hold the same picture" in message for message in found)
    assert bool(found) == ("repeats" in extra and name != "algonauts2023")  # rows of one picture have a file each
    assert {path.name for path in tmp_path.iterdir()} == {"mini", "out"}


def test_voxels_that_were_chosen_stay_chosen(tmp_path: Path) -> None:
    mini = MINIATURES["table"](tmp_path / "mini")
    asked = {**mini.asked, "voxels": "V1"}
    out = convert_dataset(mini.path, tmp_path / "out", **asked)
    assert_same(open_dataset(mini.path, **asked), open_dataset(out))
    assert "V1" in open_dataset(out).preparation["voxels"]


def test_a_sample_is_itself(sample: Path, tmp_path: Path) -> None:
    assert_same(FolderDataset.open(sample), FolderDataset.open(convert_dataset(sample, tmp_path / "out", link=True)))


def test_features_in_place_of_images_groups_and_wide_numbers(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder(dtype="f8")
    for part, n in (("training", 6), ("test", 3)):
        shutil.rmtree(root / f"{part}IMG")
        (root / f"{part}Features").mkdir()
        np.save(root / f"{part}Features" / "mine.npy", np.arange(2.0 * n).reshape(n, 2))
        np.save(root / f"{part}fMRI" / f"{part}_groups.npy", np.array([f"film {row // 2}" for row in range(n)]))
    assert_same(open_dataset(root), open_dataset(convert_dataset(root, tmp_path / "out")))


def test_numbers_that_are_none_stay_what_they_are(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    responses = np.load(root / "trainingfMRI" / "training.npy")
    responses.view("u4")[1, :3] = 0x7FC01234, 0x7F800000, 0x80000000  # a NaN of its own bits, infinity, -0
    np.save(root / "trainingfMRI" / "training.npy", responses)
    out = convert_dataset(root, tmp_path / "out")
    assert_equal_bits(np.load(out / "trainingfMRI" / "training.npy"), responses)


def test_files_keep_their_names_and_bytes_and_rows_are_listed(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "images.csv").write_text(
        "file,row\n" + "".join(f"trainingIMG/00{row}.png,{5 - row}\n" for row in range(6)), encoding="utf-8"
    )
    out = convert_dataset(root, tmp_path / "out")
    for path in (root / "trainingIMG").iterdir():
        assert (out / "trainingIMG" / path.name).read_bytes() == path.read_bytes()
    with (out / "images.csv").open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert lines[0] == {"file": "trainingIMG/005.png", "row": "0"}
    assert_same(open_dataset(root), open_dataset(out))


@pytest.mark.parametrize(
    "names", [["a.png", "A.PNG"], [".a.png", "b.png"], ["a\nb.png", "c.png"], ["con.png", "d.png"]]
)
def test_names_that_some_system_does_not_take_are_told_by_rows(names: list[str]) -> None:
    found = module._names([Path("x") / name for name in names])
    assert [name[:6] for name in found] == ["000000", "000001"]
    assert module._are_plain(found)


def test_a_link_is_one_file(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    out = convert_dataset(root, tmp_path / "out", link=True)
    assert (out / "trainingIMG" / "000.png").samefile(root / "trainingIMG" / "000.png")
    assert not (out / "trainingfMRI" / "training.npy").samefile(root / "trainingfMRI" / "training.npy")


def test_a_file_system_without_links_gets_copies(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    root = make_folder()
    out = convert_dataset(root, tmp_path / "out", link=True)
    assert_same(open_dataset(root), open_dataset(out))


def test_a_name_without_an_ending_gets_that_of_its_content(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one", format="JPEG")
    Image.new("RGB", (8, 8)).save(tmp_path / "two.bmp", format="PNG")
    assert module._names([tmp_path / "one", tmp_path / "two.bmp"]) == ["one.jpg", "two.bmp.png"]


def test_what_is_there_is_not_touched(make_folder: MakeFolder, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(DataError, match="must be absent or empty"):
        convert_dataset(make_folder(), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_disk_without_room_is_said_before_work(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder()
    usage = shutil.disk_usage(tmp_path)._replace(free=50)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match=r"needs \d+ bytes of disk"):
        convert_dataset(root, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_a_failure_midway_leaves_nothing(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    root = make_folder()
    monkeypatch.setattr(module, "_write_pictures", full)
    with pytest.raises(OSError, match="No space left"):
        convert_dataset(root, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_a_kill_midway_leaves_no_folder_and_the_next_try_ends(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    code = f"""
        import os, signal
        from img2brain.datasets import _convert as module
        module._write_pictures = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        module.convert_dataset({str(root)!r}, {str(tmp_path / "out")!r})
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.unfinished").is_dir()
    assert_same(open_dataset(root), open_dataset(convert_dataset(root, tmp_path / "out")))
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out"}


def test_two_at_one_folder_do_not_meet(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    with beside.unfinished(tmp_path / "out"), pytest.raises(DataError, match="Another one is at it"):
        convert_dataset(root, tmp_path / "out")


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    mini = MINIATURES["table"](tmp_path / "mini")
    options = [word for key, value in mini.asked.items() for word in (f"--{key}", str(value))]
    result = CliRunner().invoke(data, ["convert", str(mini.path), str(tmp_path / "out"), *options])
    assert result.exit_code == 0, result.output
    made = open_dataset(tmp_path / "out")
    told = f"{made.n_training} training and {made.n_test} test images of {made.n_voxels} voxels"
    assert result.stdout == f"wrote {told} to {tmp_path / 'out'}\n"
