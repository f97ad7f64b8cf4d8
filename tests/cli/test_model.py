from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from img2brain import sealed
from img2brain.cli import main
from img2brain.datasets._images import find_images
from img2brain.registered import load_model

if TYPE_CHECKING:
    from tests.conftest import Finished


def invoke(*args: object) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_models_are_listed_and_shown(finished: Finished) -> None:
    best, confirmed = finished.outcome.best, finished.outcome.published.score
    expected = (
        f"sample version 1 (champion): {best.spec.label}, Pearson r: validation {best.score:.4f}, "
        f"confirmation {confirmed:.4f}\n"
    )
    assert invoke("model", "list", "--home", finished.home).stdout == expected
    for name in ("sample", "sample@champion", "sample/1"):
        shown = invoke("model", "show", name, "--home", finished.home).stdout
        assert shown.startswith("sample version 1 champion\n")
        assert f"  trial: {best.spec.label}\n" in shown
        assert "  trained: untrained\n" in shown


def test_a_champion_is_crowned_by_hand(finished: Finished) -> None:
    result = invoke("model", "crown", "sample/1", "--home", finished.home)
    assert result.stdout == "sample/1: the champion already\n"
    result = invoke("model", "crown", "sample", "--home", finished.home)
    assert result.exit_code == 2
    assert result.stderr == "Error: The version to crown must be named as NAME/VERSION. Got 'sample'.\n"


def test_predictions_are_those_of_the_loaded_model(finished: Finished, recordings: Path, tmp_path: Path) -> None:
    pictures = list(find_images(recordings / "testIMG"))
    expected = load_model("sample", finished.home).predict(pictures)
    out = tmp_path / "out.npy"
    result = invoke("model", "predict", "sample@champion", *pictures, "--out", out, "--home", finished.home)
    rows = "".join(f"row {row}: testIMG/{pictures[row].name}\n" for row in (0, 1, 5))
    assert result.stdout == f"{out}: 6 images, 20 voxels\n{rows}"
    np.testing.assert_array_equal(np.load(out, allow_pickle=False), expected)
    invoke("model", "predict", "sample", recordings / "testIMG", "--out", out, "--home", finished.home)
    np.testing.assert_array_equal(np.load(out, allow_pickle=False), expected)


def test_a_model_is_checked_by_its_golden_example(finished: Finished, tmp_path: Path) -> None:
    result = invoke("model", "check", "sample", "--home", finished.home)
    assert result.stdout == "sample: computes what it did when it was saved\n"
    model = load_model("sample", finished.home)
    model.save(tmp_path)
    np.save(tmp_path / "golden" / "coordinates.npy", np.ones((1, model.spec.n_components)))
    sealed.seal(tmp_path)
    result = invoke("model", "check", tmp_path, "--home", tmp_path / "no home")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: The network 'torchvision:squeezenet1_1' is not what this model was saved")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_written_with_its_names(finished: Finished, recordings: Path, tmp_path: Path, kind: str) -> None:
    model, folder, out = load_model("sample", finished.home), recordings / "testIMG", tmp_path / f"out.{kind}"
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    assert invoke("model", "predict", "sample", folder, "--out", out, "--home", finished.home).exit_code == 0
    whole = read(out)
    assert list(whole.columns) == ["image", *map(str, range(20))]
    assert list(whole["image"]) == [path.name for path in find_images(folder)]
    regions = ("--roi", "IT", "--roi", "V1")
    assert invoke("model", "predict", "sample", folder, *regions, "--out", out, "--home", finished.home).exit_code == 0
    table = read(out).set_index("image")
    assert list(table.columns) == [f"{name}/{voxel}" for name in ("IT", "V1") for voxel in model.regions[name]]
    np.testing.assert_allclose(table.to_numpy(), model.predict(folder, ["IT", "V1"]), rtol=1e-6)


def test_a_region_that_is_none_is_refused(finished: Finished, recordings: Path, tmp_path: Path) -> None:
    words = ("sample", recordings / "testIMG", "--roi", "V0", "--out", tmp_path / "out.npy")
    result = invoke("model", "predict", *words, "--home", finished.home)
    assert (result.exit_code, result.stderr) == (2, "Error: Unknown region 'V0'. Known: V1, V4, IT.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_model_in_a_folder_of_its_own_needs_no_home(finished: Finished, recordings: Path, tmp_path: Path) -> None:
    model = load_model("sample", finished.home)
    model.save(str(tmp_path / "saved"))
    out, home, picture = tmp_path / "out.npy", tmp_path / "no home", find_images(recordings / "testIMG")[0]
    invoke("model", "predict", tmp_path / "saved", picture, "--out", out, "--home", home)
    np.testing.assert_array_equal(np.load(out), model.predict([picture]))
    assert not home.exists()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("smaple", "Error: No model is registered as 'smaple'. Did you mean 'sample'?"),
        ("sample/7", "Error: The model 'sample' has no version 7. It has version 1."),
        ("../../etc/passwd", "Error: No model is registered as '..'. Known: sample."),
        ("'; DROP TABLE runs; --", 'Error: No model is registered as "\'; DROP TABLE runs; --". Known: sample.'),
        ("name='x' or '1'='1", "Error: No model is registered as \"name='x' or '1'='1\". Known: sample."),
        ("\n", "Error: No model is registered as '\\n'. Known: sample."),
    ],
)
@pytest.mark.parametrize("command", ["show", "predict"])
def test_a_name_that_is_none_is_refused_on_one_line(
    finished: Finished, tmp_path: Path, name: str, line: str, command: str
) -> None:
    more = ("x.png", "--out", tmp_path / "out.npy") if command == "predict" else ()
    result = invoke("model", command, name, *more, "--home", finished.home)
    assert result.exit_code == 2
    assert result.stderr == f"{line}\n"


def test_what_cannot_be_predicted_leaves_no_file(finished: Finished, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    (tmp_path / "empty").mkdir()
    good = find_images(recordings / "testIMG")[0]
    cases = {
        (tmp_path / "none.png", "out.npy"): "none.png' must decode as JPEG or PNG. Got: No such file or directory.",
        (tmp_path / "bad.png", "out.npy"): "bad.png' must decode as JPEG or PNG. Got: neither of them.",
        (tmp_path / "empty", "out.npy"): "empty' must hold .jpg, .jpeg or .png files. It holds none.",
        (good, "out.txt"): "out.txt.",
        (good, "absent/out.npy"): "absent/out.npy.",
    }
    for (picture, out), line in cases.items():
        result = invoke("model", "predict", "sample", good, picture, "--out", tmp_path / out, "--home", finished.home)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("Error: ")
        assert result.stderr.endswith(f"{line}\n"), result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.png", "empty"]
