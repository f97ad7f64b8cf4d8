from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2brain.datasets._layouts import check
from img2brain.datasets._looks import Report
from img2brain.datasets.folder import FolderDataset

MakeFolder = Callable[..., Path]


def _lines(report: Report) -> list[str]:
    return [f"{problem.severity}: {problem.message}" for problem in report.problems]


def _one(report: Report, *parts: str) -> None:
    """Expect one problem, and each part in its line."""
    (line,) = _lines(report)
    for part in parts:
        assert part in line
    assert "\n" not in line


def test_a_good_folder_has_no_problem(make_folder: MakeFolder) -> None:
    root = make_folder(training=8)
    report = check(root)
    shown = {"training": (0, 1, 7), "test": (0, 1, 2)}
    rows = tuple(f"{part} row {row}: {part}IMG/00{row}.png" for part, numbers in shown.items() for row in numbers)
    assert report == Report(8, 3, 4, "a.u.", "", FolderDataset.open(root).digest, (), "folder", rows, "data", "data")


@pytest.mark.parametrize("name", ["v4-210224", "v4-210325"])
def test_real_recordings_have_no_problem(shared: Path, name: str) -> None:
    report = check(shared / "data" / name)
    assert report.problems == ()
    assert (report.images, report.test_images, report.voxels) in {(720, 80, 67), (576, 64, 50)}


def test_every_problem_is_found_at_once(make_folder: MakeFolder) -> None:
    root = make_folder(training=6, test=3, voxels=4)
    Y = np.load(root / "trainingfMRI" / "training.npy")
    Y[2, 1] = np.nan
    Y[:, 3] = 7
    np.save(root / "trainingfMRI" / "training.npy", Y)
    images = root / "trainingIMG"
    (images / "004.png").write_bytes((images / "004.png").read_bytes()[:40])
    (root / "testIMG" / "001.png").write_bytes((images / "000.png").read_bytes())
    (images / "notes.txt").touch()
    np.save(root / "ncsnr.npy", np.ones(9))
    (root / "dataset.toml").write_text("title = 'x'")
    report = check(root)
    found = "\n".join(_lines(report))
    for part in (
        "error: Responses must be finite. Got 1 NaN or infinite value at",
        "row 2, voxel 1.",
        "has 1 constant voxel: 3.",
        "004.png' must decode",
        "000.png' (training row 0) and",
        "001.png' (test row 1) hold the same picture. A training image is also a test image.",
        "1 file that is no image: notes.txt.",
        "ncsnr.npy' must have shape (4,)",
        "'title'",
    ):
        assert part in found
    assert len(report.problems) == 7
    assert [problem.severity for problem in report.problems] == ["error"] * 4 + ["warning"] * 3
    assert report.digest is None


def test_both_parts_and_the_repeats_are_looked_at(make_folder: MakeFolder) -> None:
    root = make_folder(training=8, test=3, voxels=4)
    Y = np.load(root / "testfMRI" / "test.npy").astype("f8")
    Y[0, 3] = np.inf
    np.save(root / "testfMRI" / "test.npy", Y)
    repeats = np.repeat(np.load(root / "trainingfMRI" / "training.npy")[:, None], 2, axis=1)
    repeats[3, 1, 2] = np.inf
    np.save(root / "trainingfMRI" / "training_repeats.npy", repeats)
    lines = _lines(check(root))
    assert len(lines) == 2
    assert "training_repeats.npy', row 3, voxel 2." in lines[0]
    assert "test.npy', row 0, voxel 3." in lines[1]


def test_a_missing_repeat_is_no_problem(make_folder: MakeFolder) -> None:
    root = make_folder(training=8)
    responses = np.load(root / "trainingfMRI" / "training.npy")
    repeats = np.repeat(responses[:, None], 3, axis=1)
    repeats[:3, 2], repeats[3:, 1:] = np.nan, np.nan
    np.save(root / "trainingfMRI" / "training_repeats.npy", repeats)
    assert check(root).problems == ()


def test_too_few_repeats_for_a_ceiling_are_told(make_folder: MakeFolder) -> None:
    root = make_folder(training=8)
    repeats = np.full((8, 2, 4), np.nan, dtype="f2")
    repeats[:2] = np.load(root / "trainingfMRI" / "training.npy")[:2, None]
    np.save(root / "trainingfMRI" / "training_repeats.npy", repeats)
    _one(check(root), "warning", "Got 2 such images")


@pytest.mark.parametrize("are_theirs", [True, False])
def test_repeats_of_other_responses_are_told(make_folder: MakeFolder, are_theirs: bool) -> None:
    root, random = make_folder(training=30, voxels=4), np.random.default_rng(0)
    responses = np.load(root / "trainingfMRI" / "training.npy") if are_theirs else random.standard_normal((30, 4))
    noise = random.standard_normal((30, 2, 4)) * np.array([1, -1])[:, None]
    np.save(root / "trainingfMRI" / "training_repeats.npy", responses[:, None] + noise * 0.01)
    report = check(root)
    if are_theirs:
        assert report.problems == ()
    else:
        _one(report, "warning", "training_repeats.npy' must hold the repeats that the responses are the means of")


def test_two_rows_with_one_picture_are_both_named(make_folder: MakeFolder) -> None:
    root = make_folder(training=8)
    images = root / "trainingIMG"
    (images / "005.png").write_bytes((images / "001.png").read_bytes() + b"another ending, the same pixels")
    report = check(root)
    _one(report, "warning", "001.png' (training row 1)", "005.png' (training row 5)", "the same picture.")
    assert report.digest == FolderDataset.open(root).digest


def test_a_test_image_without_responses_has_no_row(make_folder: MakeFolder) -> None:
    root = make_folder(training=15)
    (root / "testfMRI" / "test.npy").unlink()
    (root / "testIMG" / "001.png").write_bytes((root / "trainingIMG" / "001.png").read_bytes())
    _one(check(root), "(training row 1)", "testIMG/001.png' hold", "also a test image")


def test_an_image_too_many_is_counted(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "trainingIMG" / "000.png").unlink()
    report = check(root)
    _one(report, "error", "Got shape (6, 4) and 5 images.")
    assert (report.images, report.voxels, report.digest) == (5, 4, None)


def test_an_empty_folder_is_of_no_layout_and_what_each_needs_is_said(tmp_path: Path) -> None:
    report = check(tmp_path)
    _one(report, "error: No dataset layout recognises", "There are 'folder': Images in trainingIMG/ and")
    assert (report.layout, report.images, report.digest) == ("", 0, None)


def test_what_lacks_is_described(tmp_path: Path) -> None:
    lines = _lines(check(tmp_path, "folder"))
    assert len(lines) == 2
    assert "trainingIMG' must exist" in lines[0]
    assert "training.npy' must exist" in lines[1]


def test_an_absent_folder_is_one_problem(tmp_path: Path) -> None:
    _one(check(tmp_path / "absent"), "error", "absent' must exist")


def test_a_cut_file_leaves_the_rest_checked(make_folder: MakeFolder) -> None:
    root = make_folder()
    file = root / "trainingfMRI" / "training.npy"
    file.write_bytes(file.read_bytes()[:-4])
    (root / "trainingIMG" / "000.png").write_bytes(b"")
    lines = _lines(check(root))
    assert len(lines) == 2
    assert "training.npy' must be a complete .npy" in lines[0]
    assert "000.png' must decode" in lines[1]


def test_integers_are_checked_too(make_folder: MakeFolder) -> None:
    root = make_folder(training=8, dtype="u1")
    np.save(root / "testfMRI" / "test.npy", np.array([[0, 0, 0, 1], [0, 0, 0, 2], [0, 0, 0, 3]], "i8"))
    _one(check(root), "warning", "test.npy' has 3 constant voxels: 0, 1, 2.")


def test_placeholders_are_told(make_folder: MakeFolder) -> None:
    root = make_folder(training=8)
    np.save(root / "testfMRI" / "test.npy", np.zeros((3, 4), "i8"))
    _one(check(root), "error", "test.npy' must hold responses that differ between images.", "Remove them, and training")


def test_what_most_programs_pass_over_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for name in ("trainingIMG", "trainingfMRI"):
        (folder / name).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 4), dtype=np.uint8)
    Image.fromarray(noise[..., :3]).save(folder / "trainingIMG" / "a.jpg", exif=exif)
    Image.fromarray(noise).save(folder / "trainingIMG" / "b.png")
    Image.fromarray(noise[..., :3]).save(folder / "trainingIMG" / "c.png")
    np.save(folder / "trainingfMRI" / "training.npy", np.random.default_rng(1).standard_normal((3, 4)))
    silent = [item.message for item in check(folder).problems if "in dataset.toml says" in item.message]
    assert [message.split(":")[0] for message in silent] == [
        "1 image is to be turned by EXIF data", "1 image has transparent pixels",
    ]  # fmt: skip
    assert "laid over #808080" in silent[1]
    assert "taken as stored" in silent[0]
    before = FolderDataset.open(folder).digest
    (folder / "dataset.toml").write_text('background = "#ffffff"\norientation = "exif"\n', encoding="utf-8")
    silent = [item.message for item in check(folder).problems if "in dataset.toml says" in item.message]
    assert "laid over #ffffff" in silent[1]
    assert "turned so" in silent[0]
    assert FolderDataset.open(folder).digest != before
    (folder / "dataset.toml").write_text('background = "white"\n', encoding="utf-8")
    assert any("be a colour such as '#808080'" in item.message for item in check(folder).problems)


def test_a_sliver_is_an_error(tmp_path: Path, recordings: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(recordings, folder)
    path = min((folder / "trainingIMG").iterdir())
    Image.new("L", (20_000, 1)).save(path, "PNG")
    errors = [item.message for item in check(folder).problems if item.severity == "error"]
    assert len(errors) == 1
    assert path.name in errors[0]
    assert "must have at most 16777216 pixels when it is resized" in errors[0]


def repeated(root: Path, baseline: float, *, lacking: bool = False) -> list[str]:
    """Add repeats in three sessions, and return what is said of their baselines."""
    random = np.random.default_rng(0)
    signal = random.standard_normal((40, 1, 4))
    repeats = signal + random.standard_normal((40, 3, 4)) + baseline * np.arange(3)[None, :, None]
    if lacking:
        repeats[::3, 1] = np.nan
    np.save(root / "trainingfMRI" / "training.npy", np.nanmean(repeats, axis=1))
    np.save(root / "trainingfMRI" / "training_repeats.npy", repeats)
    return [line for line in _lines(check(root)) if "baselines" in line]


def test_baselines_above_the_signal_are_said(make_folder: MakeFolder) -> None:
    root = make_folder(training=40)
    assert repeated(root, 0.0) == []
    assert repeated(root, 0.3) == []
    (line,) = repeated(root, 5.0)
    assert "at 4 of 4 voxels" in line
    assert "subtract" not in line
    (line,) = repeated(root, 5.0, lacking=True)
    assert "Images lack repeats" in line


def test_ncsnr_without_counts_is_said(make_folder: MakeFolder) -> None:
    root = make_folder(training=8)
    np.save(root / "ncsnr.npy", np.ones(4))
    assert [line.split(" responses ")[0] for line in _lines(check(root))] == [
        "warning: The ncsnr of 'data' gives its training", "warning: The ncsnr of 'data' gives its test",
    ]  # fmt: skip
    for part, n_images in (("training", 8), ("test", 3)):
        np.save(root / f"{part}fMRI" / f"{part}_counts.npy", np.ones(n_images, np.int64))
    assert _lines(check(root)) == []
