"""The layout of a table: what it reads, and what it says where something does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from img2brain.cli.data import data
from img2brain.datasets import open_dataset
from img2brain.datasets._layouts import check, find_layout
from img2brain.datasets.base import require_sound
from img2brain.errors import DataError, Img2BrainError
from img2brain.home import Home
from tests.datasets.miniatures import table
from tests.datasets.miniatures.base import write_picture

KINDS = (".npy", ".npz", ".h5", ".mat", ".zarr", ".csv", ".tsv")


def responses_of(dataset: Any) -> Any:
    return dataset._responses(np.arange(dataset.n_images))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Six images in two sessions, each shown twice, and three voxels: 12 trials."""
    root = tmp_path / "lab"
    for number in range(6):
        write_picture(root / "images" / f"{number}.png", np.full((8, 8, 3), 40 * number, np.uint8))
    write_trials(root, [f"{trial % 6}.png,{trial // 6}" for trial in range(12)])
    np.save(root / "responses.npy", values())
    return root


def values() -> Any:
    return np.random.default_rng(3).standard_normal((12, 3)).astype(np.float32)


def write_trials(root: Path, lines: list[str], heads: str = "image,session") -> None:
    (root / "trials.csv").write_text("\n".join([heads, *lines]) + "\n", encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_responses_are_read_from_any_kind_of_file(kind: str, tmp_path: Path) -> None:
    mini = table.write_table(tmp_path / "lab", kind)
    dataset = open_dataset(mini.path, **mini.asked)
    np.testing.assert_allclose(responses_of(dataset), mini.responses, rtol=2e-6, atol=1e-6)
    assert {name: voxels.tolist() for name, voxels in dataset.rois.items()} == mini.rois
    assert dataset.preparation == {
        "trials": "1 of 54 show no image and are left out",
        "NaN voxels": "1 of 7 are left out",
        "normalise": "z-scored within each session, by voxel, over all its trials",
        "repeats": "mean over the trials of an image, 2 to 3",
    }


def test_the_kind_of_file_does_not_enter_the_digest(tmp_path: Path) -> None:
    minis = [table.write_table(tmp_path / kind / "lab", kind) for kind in (".npy", ".h5", ".zarr")]
    assert len({open_dataset(mini.path, **mini.asked).digest for mini in minis}) == 1


@pytest.mark.parametrize("write", [np.save, table.save_mat_7_3])
def test_voxels_first_are_read_transposed(lab: Path, write: Callable[[Path, Any], None]) -> None:
    (lab / "responses.npy").unlink()
    write(lab / ("responses.npy" if write is np.save else "responses.mat"), values().T)
    dataset = open_dataset(lab)
    expected = values().astype(float).reshape(2, 6, 3).mean(axis=0).astype(np.float32)
    np.testing.assert_array_equal(responses_of(dataset), expected)
    assert "voxels first" in dataset.preparation["responses"]


def test_a_file_of_matlab_7_3_is_read_as_matlab_shows_it(lab: Path) -> None:
    (lab / "responses.npy").unlink()
    table.save_mat_7_3(lab / "responses.mat", values())
    dataset = open_dataset(lab)
    assert "responses" not in dataset.preparation
    np.testing.assert_array_equal(open_dataset(lab, repeats="single").read_responses(np.arange(12)), values())


def test_single_trials_are_rows_that_stay_together(lab: Path) -> None:
    dataset = open_dataset(lab, repeats="single")
    assert (dataset.n_images, dataset.n_voxels) == (12, 3)
    np.testing.assert_array_equal(responses_of(dataset), values())
    assert dataset.ties.sets.tolist() == [*range(6), *range(6)]
    assert dataset.read_repeats(np.arange(12)) is None
    assert dataset.read_counts(np.arange(12)).tolist() == [1] * 12  # type: ignore[union-attr]


def test_repeats_and_counts_are_those_of_the_trials(lab: Path) -> None:
    dataset = open_dataset(lab)
    np.testing.assert_array_equal(
        dataset.read_repeats(np.array([4, 0])), np.stack([values()[[4, 10]], values()[[0, 6]]])
    )
    assert dataset.read_counts(np.arange(6)).tolist() == [2] * 6  # type: ignore[union-attr]
    assert dataset.where(2) == (
        f"'{lab / 'responses.npy'}', row 2 (line 4 of '{lab / 'trials.csv'}') and 1 more trial of its image"
    )


def test_lines_that_are_means_count_as_many_showings(lab: Path) -> None:
    write_trials(lab, [f"{trial % 6}.png,{1 + 2 * (trial // 6)}" for trial in range(12)], "image,repeats")
    dataset = open_dataset(lab)
    expected = (values()[:6].astype(float) + 3 * values()[6:].astype(float)) / 4
    np.testing.assert_array_equal(responses_of(dataset), expected.astype(np.float32))
    assert dataset.read_counts(np.array([5, 0])).tolist() == [4, 4]  # type: ignore[union-attr]


def test_a_given_ceiling_of_means_is_none_of_single_trials(lab: Path) -> None:
    np.save(lab / "noise_ceiling.npy", np.full(3, 0.5))
    assert open_dataset(lab).noise_ceiling is not None
    assert open_dataset(lab, repeats="single").noise_ceiling is None


def test_lines_may_come_in_another_order_than_responses(lab: Path) -> None:
    order = np.random.default_rng(1).permutation(12)
    write_trials(lab, [f"{trial % 6}.png,{trial}" for trial in order], "image,trial")
    dataset = open_dataset(lab, repeats="single")
    np.testing.assert_array_equal(responses_of(dataset), values()[order])
    write_trials(lab, [f"{trial % 6}.png,{trial + 1}" for trial in order], "image,trial")
    with pytest.raises(DataError, match=r"counted from 0\. Got 1\.\.12: subtract 1"):
        open_dataset(lab)


def test_runs_are_normalised_within_their_session(lab: Path) -> None:
    write_trials(lab, [f"{trial % 6}.png,{trial // 6},{trial % 2}" for trial in range(12)], "image,session,run")
    dataset = open_dataset(lab, normalise="run", repeats="single")
    found = responses_of(dataset)
    for start in (0, 1, 6, 7):
        np.testing.assert_allclose(found[start : start + 6 : 2].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(found[start : start + 6 : 2].std(axis=0), 1, atol=1e-6)


def test_a_voxel_that_does_not_vary_in_a_session_is_0_there(lab: Path) -> None:
    constant = values()
    constant[:6, 1] = 0.1
    np.save(lab / "responses.npy", constant)
    found = responses_of(open_dataset(lab, normalise="session", repeats="single"))
    assert (found[:6, 1] == 0).all()
    assert np.isfinite(found).all()


def test_single_nans_are_refused_with_their_number(lab: Path) -> None:
    lacking = values()
    lacking[[1, 2], [0, 2]] = np.nan
    np.save(lab / "responses.npy", lacking)
    for asked in ({}, {"normalise": "session"}):
        dataset = open_dataset(lab, **asked)
        assert dataset.n_voxels == 3
        with pytest.raises(DataError, match=r"Got 2 NaN or infinite values, the first at .*row 1 .*voxel 0"):
            require_sound(dataset)


def test_several_subjects_are_told_apart(lab: Path) -> None:
    subjects = ["s1"] * 6 + ["s2"] * 6
    write_trials(lab, [f"{trial % 6}.png,{subjects[trial]}" for trial in range(12)], "image,subject")
    with pytest.raises(DataError, match=r"2 subjects \('s1', 's2'\): say which, as in subject = \"s1\""):
        open_dataset(lab)
    with pytest.raises(DataError, match=r"no subject 's3'\. Known: s1, s2"):
        open_dataset(lab, subject="s3")
    one, other = (open_dataset(lab, subject=name) for name in ("s1", "s2"))
    assert (one.name, one.subject, other.name) == ("lab-s1", "s1", "lab-s2")
    np.testing.assert_array_equal(responses_of(other), values()[6:])
    (lab / "responses.npy").unlink()
    for name, rows in (("s1", slice(0, 6)), ("s2", slice(6, 12))):
        np.save(lab / f"responses_{name}.npy", values()[rows][:, : 1 + int(name[1])])
    assert [open_dataset(lab, subject=name).n_voxels for name in ("s1", "s2")] == [2, 3]
    np.testing.assert_array_equal(responses_of(open_dataset(lab, subject="s2")), values()[6:])


def test_groups_and_parts_are_of_images(lab: Path) -> None:
    heads = "image,group,part"
    write_trials(
        lab, [f"{trial % 6}.png,{trial % 2},{'test' if trial % 6 > 3 else 'train'}" for trial in range(12)], heads
    )
    dataset = open_dataset(lab)
    assert (dataset.n_training, dataset.n_test) == (4, 2)
    assert dataset.groups is not None
    assert dataset.groups.tolist() == ["0", "1"] * 3
    write_trials(lab, [f"{trial % 6}.png,{trial % 4},train" for trial in range(12)], heads)
    with pytest.raises(DataError, match=r"must be of one group\. .*'0' .*line 2.* and of '2' .*line 8"):
        open_dataset(lab)
    write_trials(lab, [f"{trial % 6}.png,a,{'test' if trial > 9 else 'train'}" for trial in range(12)], heads)
    with pytest.raises(DataError, match=r"must be of one part\. 2 are of both, the first: .*4\.png"):
        open_dataset(lab)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("../secret.png", r"must stay within .* Got '\.\./secret\.png' in line 13 of"),
        ("/etc/passwd.png", "must stay within"),
        ("C:\\x.png", "must stay within"),
        ("9.png", r"must be a file in .*1 lines name none, the first: '9\.png' in line 13"),
    ],
)
def test_images_that_are_not_there_or_lie_outside_are_refused(lab: Path, line: str, match: str) -> None:
    write_picture(lab.parent / "secret.png", np.zeros((4, 4, 3), np.uint8))
    write_trials(lab, [*(f"{trial % 6}.png,0" for trial in range(11)), f"{line},0"])
    with pytest.raises(DataError, match=match):
        open_dataset(lab)


def test_images_may_lie_elsewhere(lab: Path) -> None:
    shutil.move(lab / "images", lab.parent / "apart")
    with pytest.raises(DataError, match="12 lines name none"):
        open_dataset(lab)
    assert open_dataset(lab, images=lab.parent / "apart").n_images == 6


SPOILS: list[tuple[Callable[[Path], object], str]] = [
    (lambda root: (root / "responses.npy").unlink(), r"must hold the responses, such as .* could be they: none"),
    (lambda root: np.save(root / "responses.npy", values()[:9]), r"shape \(12, voxels\), a row for each .* \(9, 3\)"),
    (lambda root: np.save(root / "responses.npy", np.array([{}] * 12), allow_pickle=True), "must be a complete .npy"),
    (lambda root: (root / "trials.csv").write_text("session\n1\n2\n"), "must have a column 'image' or .*: session"),
    (lambda root: write_trials(root, ["0.png,1"], "image,sesion"), r"column 'sesion'\. Did you mean 'session'"),
    (lambda root: (root / "trials.csv").write_text("image\n"), "a line of names, and lines below it"),
    (lambda root: (root / "trials.csv").write_text("image,a\n0.png\n"), "must have 2 cells. Line 2 has not"),
    (lambda root: (root / "trials.csv").write_text("image,image\n0.png,0\n"), "each column once. Got 'image' twice"),
    (lambda root: (root / "trials.csv").write_bytes(b"image\n\xff\xfe\n"), "must be a table in UTF-8"),
    (lambda root: write_trials(root, ["0.png,tst"] * 12, "image,part"), r"'train' or 'test' in line 2.*Got 'tst'"),
    (lambda root: write_trials(root, ["0.png,x"] * 12, "image,trial"), "whole number in line 2"),
    (lambda root: (root / "regions.csv").write_text("V1\n1\n0\n"), "a line for each of 3 voxels. It has 2"),
    (lambda root: (root / "regions.csv").write_text("nc\n50\n0\n1\n"), "in percent"),
    (lambda root: (root / "regions.csv").write_text("voxel,V1\n2,1\n1,0\n3,1\n"), "in the order of 'voxel'"),
    (lambda root: (root / "dataset.toml").write_text('order = "name"'), "order"),
    (lambda root: (root / "rois.json").write_text('{"V1": [9]}'), "must hold voxels of 0..2"),
]


@pytest.mark.parametrize(("spoil", "match"), SPOILS)
def test_what_does_not_fit_is_said_on_one_line(lab: Path, spoil: Callable[[Path], object], match: str) -> None:
    spoil(lab)
    with pytest.raises(Img2BrainError, match=match) as caught:
        open_dataset(lab)
    assert "\n" not in str(caught.value)
    assert {problem.severity for problem in check(lab).problems} == {"error"}


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"normalise": "run"}, "nothing tells the run of its trials"),
        ({"normalise": "scan"}, "'normalise' must be"),
        ({"subject": "s1"}, "no column 'subject', so all its lines are of one"),
        ({"voxels": "nc > 0.3"}, "must not ask for 'nc'"),
        ({"voxels": "V9"}, "It has no 'V9'"),
        ({"responses": "other.npy"}, "must exist"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_asked_for_is_said_on_one_line(lab: Path, asked: dict[str, str], match: str) -> None:
    with pytest.raises(Img2BrainError, match=match) as caught:
        open_dataset(lab, **asked)
    assert "\n" not in str(caught.value)


def test_several_arrays_that_fit_are_named(lab: Path) -> None:
    (lab / "responses.npy").unlink()
    np.savez(lab / "betas.npz", one=values(), two=values() + 1)
    with pytest.raises(DataError, match=r"one \(12, 3\) of float32, two .*responses = 'betas\.npz#one'"):
        open_dataset(lab)
    two = open_dataset(lab, responses="betas.npz#two", repeats="single")
    np.testing.assert_array_equal(responses_of(two), values() + 1)
    with pytest.raises(DataError, match="must hold an array 'three'"):
        open_dataset(lab, responses="betas.npz#three")


def test_a_zarr_array_whose_codec_would_run_code_is_refused(lab: Path) -> None:
    (lab / "responses.npy").unlink()
    table.save(lab / "responses.zarr", values())
    about = lab / "responses.zarr" / "zarr.json"
    found = json.loads(about.read_text())
    found["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    about.write_text(json.dumps(found))
    with pytest.raises(DataError, match="codecs of numbers only"):
        open_dataset(lab)


def test_hdf5_links_out_of_the_file_are_not_followed(lab: Path) -> None:
    import h5py

    (lab / "responses.npy").rename(lab.parent / "other.npy")
    with h5py.File(lab.parent / "outside.h5", "w") as file:
        file["betas"] = values()
    with h5py.File(lab / "responses.h5", "w") as file:
        file["betas"] = h5py.ExternalLink("../outside.h5", "betas")
    with pytest.raises(DataError, match="It holds no array"):
        open_dataset(lab)
    with h5py.File(lab / "responses.h5", "w") as file:
        layout = h5py.VirtualLayout((12, 3), np.float32)
        layout[:] = h5py.VirtualSource(str(lab.parent / "outside.h5"), "betas", (12, 3))
        file.create_virtual_dataset("betas", layout)
    with pytest.raises(DataError, match="lie in another one"):
        open_dataset(lab)


def test_a_table_may_be_given_itself(lab: Path) -> None:
    (lab / "trials.csv").rename(lab / "mine.csv")
    assert find_layout(lab / "mine.csv") == "table"
    assert open_dataset(lab / "mine.csv").n_images == 6
    with pytest.raises(DataError, match=r"published datasets are 'algonauts2023', .* If 'mine\.csv' lists the image"):
        open_dataset(lab)


def test_spreadsheets_write_semicolons_and_a_mark(lab: Path) -> None:
    text = (lab / "trials.csv").read_text()
    (lab / "trials.csv").write_text("\ufeff" + text.replace(",", ";").replace("image", "Image"), encoding="utf-8")
    assert open_dataset(lab, normalise="session").n_images == 6


def test_a_check_tells_all_that_is_wrong_at_once(lab: Path) -> None:
    lines = [f"{trial % 6}.png,{trial // 6},{'tst' if trial == 3 else 'train'}" for trial in range(11)]
    write_trials(lab, [*lines, "9.png,1,train"], "image,session,part")
    np.save(lab / "responses.npy", values()[:9])
    (lab / "dataset.toml").write_text("colour = 1\n")
    found = [problem.message for problem in check(lab).problems]
    assert len(found) == 4
    for message, part in zip(
        found, ("1 lines name none", "'train' or 'test' in line 5", "colour", "shape"), strict=True
    ):
        assert part in message


def test_fewer_voxels_are_the_same_numbers(tmp_path: Path) -> None:
    mini = table.write_table(tmp_path / "lab")
    whole, some = open_dataset(mini.path, **mini.asked), open_dataset(mini.path, voxels="IT or V1", **mini.asked)
    kept = np.array([0, 1, 2, 4, 5])
    np.testing.assert_array_equal(responses_of(some), responses_of(whole)[:, kept])
    rows = np.arange(4)
    np.testing.assert_array_equal(some.read_repeats(rows), whole.read_repeats(rows)[..., kept])  # type: ignore[index]
    assert {name: voxels.tolist() for name, voxels in some.rois.items()} == {"V1": [0, 1, 2], "IT": [3, 4]}
    assert (some.name, some.layout, some.digest == whole.digest) == ("lab", "table", False)
    said = {**whole.preparation, "voxels": "IT or V1: 5 of 6 are kept"}
    assert some.preparation == said
    reliable = open_dataset(mini.path, voxels="reliability > -2", **mini.asked)
    np.testing.assert_array_equal(responses_of(reliable), responses_of(whole))


def test_what_was_done_is_in_the_record(lab: Path, new_home: Any) -> None:
    from img2brain.spec import StudySpec, parse
    from img2brain.study.setting import make_ready

    spec = parse(StudySpec, {
        "name": "lab", "trials": 1, "n_components": [2], "regressors": ["ridge"],
        "dataset": {"path": str(lab), "normalise": "session"}, "backbones": [{"name": "pixels", "weights": "random:0"}],
        "split": {"confirmation": 0.0, "validation": 0.4},
    }, "the test's study")  # fmt: skip
    record = make_ready(spec, Home(new_home())).first.record.dataset
    assert record.layout == "table"
    assert record.preparation == open_dataset(lab, normalise="session").preparation
    assert record.prepared.startswith(
        "normalise: z-scored within each session, by voxel, over all its trials; repeats:"
    )


def test_the_command_takes_what_is_asked(lab: Path) -> None:
    (lab / "regions.csv").write_text("V1,V2\n1,0\n0,1\n0,0\n")
    words = ["check", str(lab), "--normalise", "session", "--voxels", "V1 or V2", "--repeats", "mean"]
    result = CliRunner().invoke(data, [*words, "--home", str(lab.parent / "none")])
    problems = [line for line in result.stdout.splitlines() if line.startswith(("error", "warning"))]
    assert ["default split" in line for line in problems] == [True], "six images are too few for it"
    assert "voxels: V1 or V2: 2 of 3 are kept" in result.stdout.splitlines()
    result = CliRunner().invoke(data, ["check", str(lab), "--voxels", "V1 or"])
    assert result.exit_code == 2
    assert "it needs a region or a comparison" in result.stdout
