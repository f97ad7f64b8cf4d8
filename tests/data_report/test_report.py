"""The page on a dataset: what it shows of each layout, in which order, and that it is inert."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import img2brain
from img2brain.cli.data import data
from img2brain.data_report.page import DataPage
from img2brain.data_report.report import report_data
from img2brain.datasets._sample import write_sample
from img2brain.errors import DataError, Img2BrainError, SpecError
from tests.datasets.miniatures import MINIATURES, Miniature

EVIL = "<script>x</script><b id=evil>"
ORDER = ["what", "rows", "responses", "quality", "splits", "duplicates", "drift", "suspicious"]


def lab(root: Path) -> Path:
    """Write a table of 4 sessions that drift, with repeats, groups, regions, two equal pictures and a broken trial."""
    chance = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    for number in range(40):
        pixels = np.random.default_rng(max(number, 1)).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number:02}.png")
    shown = np.concatenate([chance.permutation(40) for _ in range(4)])
    session = np.arange(160) // 40
    values = chance.standard_normal((40, 30))[shown] * np.linspace(0.2, 3, 30) + chance.standard_normal((160, 30))
    values += (3.0 * chance.standard_normal((4, 30)))[session]
    values[7] += 100
    part = ["test" if item >= 32 else "train" for item in shown]
    lines = [f"{i:02}.png,{EVIL}{s},g{i // 4},{p}" for i, s, p in zip(shown, session, part, strict=True)]
    (root / "trials.csv").write_text("\n".join(["image,session,group,part", *lines]) + "\n", encoding="utf-8")
    np.save(root / "responses.npy", values.astype(np.float32))
    (root / "rois.json").write_text(json.dumps({"V1": list(range(10)), EVIL: list(range(10, 30))}), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataPage, Path]:
    folder = tmp_path_factory.mktemp("lab")
    out = folder / "report.html"
    return report_data(lab(folder / "lab"), out), out


def test_sections_are_in_order_and_all_there(made: tuple[DataPage, Path]) -> None:
    html = made[1].read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="(\w+)"', html) == ORDER
    assert html.index('href="#suspicious"') < html.index('<h2 id="what"'), "what is suspicious is counted at the head"


def test_it_shows_what_is_there(made: tuple[DataPage, Path]) -> None:
    page, _ = made
    assert [album.name for album in page.albums] == [
        "Training images: the first ones, some at random, the last ones",
        "Test images: all",
    ]
    rows = [shot.row for shot in page.albums[0].shots]
    assert (rows[:4], rows[-4:], len(rows)) == ([0, 1, 2, 3], [28, 29, 30, 31], 16)
    assert all(shot.picture.startswith("data:image/jpeg;base64,") for album in page.albums for shot in album.shots)
    assert page.by_session is not None
    assert len(page.by_session.spans) == 4
    assert [line.name for line in page.regions] == ["All voxels", "V1", EVIL]
    assert [label for label, _ in page.region_spans] == [
        "noise ceiling of the training responses, r",
        "noise ceiling of the test responses, r",
        "reliability of the training responses, r",
    ]
    assert [line[:2] for line in page.split_lines] == [("train", 28), ("validation", 4), ("confirmation", 8)]
    assert page.group_facts[0] == ("groups", "10")
    assert page.n_equal == (2, 1)
    assert page.likeness is not None
    assert page.likeness[2] == 1


def test_it_says_what_is_suspicious(made: tuple[DataPage, Path]) -> None:
    texts = [each.text for each in made[0].suspicions]
    assert any("hold the same picture" in text for text in texts), "what the check says"
    assert any("of their variance between sessions" in text for text in texts)
    assert any(text.endswith("by their place in the files: 7.") for text in texts)
    assert made[0].n_errors == 0


def test_texts_of_others_are_escaped_and_the_policy_is_strict(made: tuple[DataPage, Path]) -> None:
    html = made[1].read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<b id" not in html
    assert html.count("&lt;script&gt;") >= 3
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;" in html
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", html) == []


@pytest.mark.parametrize("name", MINIATURES)
def test_every_layout_has_a_page(name: str, tmp_path: Path) -> None:
    mini: Miniature = MINIATURES[name](tmp_path / "mini")
    page = report_data(mini.path, tmp_path / "report.html", **mini.asked)
    assert page.failed == []
    assert page.n_errors == 0, page.suspicions
    single = report_data(mini.path, tmp_path / "single.html", **mini.asked, repeats="single")
    assert {each.severity for each in single.suspicions} <= {"note"}, "rows of one image are what was asked for"
    assert page.quality is not None
    assert single.quality is not None
    np.testing.assert_array_equal(_or_none(single.quality.reliability), _or_none(page.quality.reliability))
    assert f"in the layout &#39;{name}&#39;" in (tmp_path / "report.html").read_text(encoding="utf-8")
    means = np.concatenate([seen.row_mean for seen in page.seen.values()])
    np.testing.assert_allclose(means, mini.responses.mean(axis=1), rtol=1e-4, atol=1e-5)


def _or_none(values: Any) -> Any:
    return np.array([]) if values is None else values


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "data", n_images=40, n_voxels=12, size=32)


def test_numbers_that_are_not_finite_leave_a_page(sample: Path, tmp_path: Path) -> None:
    file = sample / "trainingfMRI" / "training.npy"
    values = np.load(file)
    values[3, 2] = np.nan
    np.save(file, values)
    page = report_data(sample, tmp_path / "report.html")
    assert (page.n_errors, page.failed) == (1, [])
    assert page.seen["training"].n_not_finite == 1


def test_a_picture_that_does_not_decode_is_shown_as_such(sample: Path, tmp_path: Path) -> None:
    sorted((sample / "trainingIMG").iterdir())[0].write_bytes(b"no picture")
    page = report_data(sample, tmp_path / "report.html")
    assert page.n_errors == 1
    assert page.albums[0].shots[0].picture == ""
    assert "not readable" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_opened_has_a_page(sample: Path, tmp_path: Path) -> None:
    (sample / "trainingfMRI" / "training.npy").unlink()
    out = tmp_path / "report.html"
    result = CliRunner().invoke(data, ["report", str(sample), "--out", str(out)])
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
    assert result.stdout.startswith(f"wrote {out}: 1 error")
    html = out.read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="(\w+)"', html) == ["what", "suspicious"]
    assert "training.npy" in html


class _Broken(img2brain.Dataset):
    """Reads its responses, and nothing else."""

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return False

    def __init__(self, path: Path) -> None:
        super().__init__(name="broken", n_voxels=3, features={"x": np.arange(60.0)[:, None]})

    def read_responses(self, rows: Any) -> Any:
        return np.sin(np.outer(rows + 1, [1.0, 2.0, 3.0]))

    @property
    def recorded(self) -> Any:
        raise ZeroDivisionError("by nothing")


def test_what_fails_is_said_and_the_rest_is_shown(tmp_path: Path) -> None:
    page = DataPage(_Broken(tmp_path).check(), _Broken(tmp_path))
    assert [each.text for each in page.suspicions if each.severity == "error"] == [
        "The drift cannot be shown. ZeroDivisionError: by nothing"
    ]
    assert page.albums == []
    assert len(page.distributions) == 4


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (lambda root: (root / "none", root / "r.html"), DataError, "must exist"),
        (lambda root: (root, root / "r.html"), DataError, "No dataset layout recognises"),
        (lambda root: (root / "data", root), SpecError, "must name a file"),
        (lambda root: (root / "data", root / "r.html", "tabel"), SpecError, "Unknown"),
    ],
)
def test_bad_input_is_refused(
    words: Callable[[Path], tuple[Any, ...]], error: type[Img2BrainError], says: str, sample: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        report_data(*words(tmp_path))
    assert not (tmp_path / "r.html").exists()


def test_large_data_are_drawn_in_part(tmp_path: Path) -> None:
    root = tmp_path / "many"
    (root / "trainingfMRI").mkdir(parents=True)
    (root / "trainingFeatures").mkdir()
    chance = np.random.default_rng(0)
    np.save(root / "trainingfMRI" / "training.npy", chance.standard_normal((60, 9000), dtype=np.float32))
    np.save(root / "trainingFeatures" / "x.npy", chance.standard_normal((60, 3)))
    page = report_data(root, tmp_path / "report.html")
    assert page.sampled.startswith("At most 2,000 images")
    assert page.seen["training"].values.shape == (60, 2000)
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_a_page_of_data_has_no_class_that_the_site_has_rules_for_under_another_meaning() -> None:
    package = Path(img2brain.__file__).parent
    sheets = (
        package / "leaderboard" / "site" / "templates" / "site.css",
        package / "data_report" / "templates" / "report.css",
    )
    site, report = ({*re.findall(r"^(\.[\w-]+) \{", sheet.read_text(), re.MULTILINE)} for sheet in sheets)
    assert site
    assert not site & report
