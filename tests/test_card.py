"""The card of a model, and what it is made of."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest
from huggingface_hub import ModelCard

from img2brain.model import EncodingModel
from img2brain.model._card import card, figure
from img2brain.model._metadata import histograms
from img2brain.registered import load_model

if TYPE_CHECKING:
    from tests.conftest import Finished

HOSTILE = (
    "<script>alert(1)</script>",
    "a\n---\nlicense: mit\n",
    "| a | b |\n# Title",
    "![x](http://example.org/x.png) [y](javascript:alert(1))",
    "`code` **bold** _it_ ~~no~~ &lt; &#60;",
    "\u2028--- \ud7ff \x85 \x7f {{ jinja }} ${shell}",
    "```",
)


@pytest.fixture(scope="module")
def model(finished: Finished) -> EncodingModel:
    return load_model("sample", finished.home)


def said_to_be(model: EncodingModel, text: str) -> EncodingModel:
    """Put one text wherever a text of others stands."""
    about = json.loads(json.dumps(dict(model.about)))
    about |= {"dataset": text, "subject": text, "unit": text}
    fields = ("species", "area", "licence", "url", "citation")
    about["trial"]["dataset"]["provenance"] = dict.fromkeys(fields, text)
    whole = about["confirmation"]["parts"]["confirmation"]["whole"]
    whole["controls"] = {text: next(iter(whole["controls"].values()))}
    about["confirmation"]["label"] = text
    return replace(model, about=about, regions={text: np.arange(3)})


def test_all_that_is_known_at_publication_is_in_the_metadata(model: EncodingModel, finished: Finished) -> None:
    found = model.metadata
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    best, published = finished.outcome.best, finished.outcome.published
    part = published.confirmation.confirmed
    assert found["dataset"]["name"] == "sample"
    assert set(found["dataset"]) >= {"digest", "subject", "unit", "species", "area", "licence", "url", "citation"}
    assert found["regions"] == {name: len(voxels) for name, voxels in model.regions.items()}
    assert found["scores"]["validation"] == best.score
    assert found["scores"]["confirmation"] == part.whole.score.model_dump()
    assert set(found["scores"]["regions"]) == set(model.regions)
    assert set(found["controls"]) == set(part.whole.controls)
    assert (found["looks"], found["scores"]["n_images"]) == (part.looks, part.n_images)
    assert found["network"]["digest"]
    assert found["versions"]["torch"]
    assert (found["n_voxels"], found["format"]) == (20, 6)


def test_nothing_of_this_machine_is_told(model: EncodingModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    for name in ("model.json", "README.md", "accuracy.svg"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert str(Path.home()) not in text
        assert not re.search(r"[\" (]/(?:tmp|home|root|work|Users)/", text)


@pytest.mark.parametrize("kind", ["model-format-2/given", "model-format-3/given", "model-format-5/given"])
def test_a_model_of_an_older_format_tells_what_it_knows(kind: str, tmp_path: Path) -> None:
    model = EncodingModel.load(Path(__file__).parent / "fixtures" / kind)
    found = model.metadata
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["dataset"]["name"] == model.about["dataset"]
    confirmed = model.about["scores"].get("confirmation")
    assert found["scores"]["validation"] in model.about["scores"].values()
    assert (found["scores"]["confirmation"] or {"estimate": None})["estimate"] == confirmed
    assert found["format"] == int(kind[13])
    model.save(tmp_path)
    assert ModelCard.load(tmp_path / "README.md").data.license == "unknown"


def test_the_card_is_one_that_a_hub_takes(model: EncodingModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = ModelCard.load(tmp_path / "README.md")
    data: Any = vars(loaded.data)
    assert data["library_name"] == "img2brain"
    assert data["pipeline_tag"] == "image-feature-extraction"
    assert data["datasets"] == ["sample"]
    (result,) = loaded.data.eval_results or []
    assert result.metric_value == model.metadata["scores"]["confirmation"]["estimate"]
    assert result.metric_type == "pearson"
    text = loaded.text
    score = model.metadata["scores"]["confirmation"]
    assert f"{score['estimate']:.4f} [{score['low']:.4f}, {score['high']:.4f}]" in text
    for said in (
        "## Data",
        "## Model",
        "## Scores",
        "## Use",
        "## Citation",
        "control pixels",
        "V1",
        "accuracy.svg",
    ):
        assert said in text, said


@pytest.mark.parametrize(
    ("says", "license", "name"),
    [
        ("", "unknown", None),
        ("CC BY 4.0", "cc-by-4.0", None),
        ("CC0 1.0", "cc0-1.0", None),
        ("Ask Ann (NSD terms)", "other", "ask-ann-nsd-terms"),
    ],
)
def test_a_licence_is_named_as_hubs_do(
    model: EncodingModel, tmp_path: Path, says: str, license: str, name: str | None
) -> None:
    about = json.loads(json.dumps(dict(model.about)))
    about["trial"]["dataset"]["provenance"] = {"licence": says}
    replace(model, about=about).save(tmp_path)
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.license_name) == (license, name)


def keys_of(read: ModelCard) -> set[str]:
    """Name what the front matter says."""
    return {name for name, value in vars(read.data).items() if value is not None}


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_shown_as_text(model: EncodingModel, text: str) -> None:
    honest = card(model.metadata, has_figure=True)
    written = card(said_to_be(model, text).metadata, has_figure=True)
    loaded = ModelCard(written)
    assert keys_of(loaded) <= keys_of(ModelCard(honest)) | {"license_name"}
    headings = [line for line in loaded.text.splitlines() if line.startswith("#")][1:]
    assert headings == [line for line in ModelCard(honest).text.splitlines() if line.startswith("#")][1:]
    outside = re.sub(r"```python.*?```", "", loaded.text, flags=re.DOTALL)
    for mark in ("<script", "](http", "](javascript", "**bold", "`code", "\n---\n", "{{", "```"):
        assert mark not in outside, mark
    assert written.count("\n---\n") == honest.count("\n---\n")
    compile(re.findall(r"```python\n(.*?)\n```\n", loaded.text, re.DOTALL)[0], "card", "exec")


@pytest.mark.parametrize("text", ["model", *HOSTILE])
def test_the_figure_is_a_picture_whatever_is_in_it(text: str) -> None:
    scores = np.random.default_rng(0).normal(0.2, 0.1, 500)
    found = histograms(scores, {text[:3] + "x": scores - 0.1, "pixels": np.append(scores, np.nan)})
    drawn = ElementTree.fromstring(re.sub(r"[\x00-\x08\x7f-\x9f]", "", figure(found, text)))
    assert drawn.tag.endswith("svg")
    assert {item.tag.rpartition("}")[2] for item in drawn.iter()} == {"svg", "rect", "line", "text"}
    assert sum(found["counts"]["model"]) == 500
    assert histograms(np.full(3, np.nan), {}) == {}


def test_histograms_of_one_score_have_bins() -> None:
    found: dict[str, Any] = histograms(np.zeros(4), {"pixels": np.zeros(4)})
    assert sum(found["counts"]["pixels"]) == 4
    assert found["edges"] == sorted(found["edges"])
