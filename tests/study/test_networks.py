"""Many networks in one study: by pattern, from a list, and what becomes of those that fail."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torchvision

from img2brain.backbones._source import Source, _graph
from img2brain.catalog import LIBRARIES
from img2brain.errors import FeatureError, SpecError, StoreError, UnavailableError, UnknownLayerError, WeightsError
from img2brain.home import Home
from img2brain.spec import BackboneSpec, StudySpec, parse
from img2brain.study.networks import that_can_be_had, with_networks
from img2brain.study.runner import run_study
from img2brain.study.setting import make_ready

if TYPE_CHECKING:
    from tests.conftest import MakeSpec, NewHome

TABLE = {"name": "zoo", "trials": 2, "n_components": [3], "regressors": ["linear"]}


def study(*backbones: dict[str, Any], folder: Path | None = None) -> StudySpec:
    return parse(StudySpec, {**TABLE, "backbones": list(backbones)}, "study.toml", folder)


def names(spec: StudySpec) -> list[tuple[str, str]]:
    return [(item.name, item.weights) for item in spec.backbones]


def test_a_pattern_stands_for_all_that_fit() -> None:
    spec = study({"name": "resnet1*", "weights": "random:0"}, {"name": "resnet18", "weights": "random:0"})
    assert names(with_networks(spec)) == [
        ("resnet101", "random:0"),
        ("resnet152", "random:0"),
        ("resnet18", "random:0"),
    ]
    plain = study({"name": "resnet18", "weights": "random:0"})
    assert with_networks(plain) is plain


def test_a_pattern_of_timm_is_of_tags_where_it_has_a_point() -> None:
    pytest.importorskip("timm")
    spec = study(
        {"name": "timm:test_vit?", "weights": "random:0"}, {"name": "timm:test_r*.r160*", "weights": "DEFAULT"}
    )
    assert names(with_networks(spec)) == [
        *((f"timm:test_vit{number}", "random:0") for number in (2, 3, 4)),
        ("timm:test_resnet.r160_in1k", "DEFAULT"),
    ]


@pytest.mark.parametrize("name", ["resnt*", "torchvision:resnt*"])
def test_a_pattern_that_fits_nothing_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"No backbone fits '.*resnt\*'\. Did you mean '.*resnet"):
        with_networks(study({"name": name, "weights": "random:0"}))


def test_a_list_in_a_file_stands_for_its_networks(tmp_path: Path) -> None:
    lines = "# mine\nresnet18\n\nalexnet random:4  # older\nresnet3*\n"
    (tmp_path / "zoo.txt").write_text(lines, encoding="utf-8")
    spec = study({"name": "zoo.txt", "weights": "random:0", "preprocessing": "resize224"}, folder=tmp_path)
    assert names(spec) == [("resnet18", "random:0"), ("alexnet", "random:4"), ("resnet3*", "random:0")]
    assert {item.preprocessing for item in spec.backbones} == {"resize224"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "the list of networks 'zoo.txt' cannot be read: No such file or directory"),
        (b"\xff\xfe\x00", "the list of networks 'zoo.txt' cannot be read: it is no text"),
        (b"# none\n", "the list of networks 'zoo.txt' holds none"),
        (b"alexnet\nresnet18 random:0 layer1\n", "a line of 'zoo.txt' must be NAME or NAME WEIGHTS. Line 2 is not"),
        (b"alexnet\nalexnet\n", "is listed twice"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, lines: bytes | None, message: str) -> None:
    if lines is not None:
        (tmp_path / "zoo.txt").write_bytes(lines)
    with pytest.raises(SpecError) as caught:
        study({"name": "zoo.txt", "weights": "random:0"}, folder=tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Failing:
    """Features that raise an error for some networks."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors

    def __call__(self, item: BackboneSpec) -> None:
        if item.name in self.errors:
            raise self.errors[item.name]


TWO = ({"name": "alexnet", "weights": "random:0"}, {"name": "resnet18", "weights": "random:1"})


@pytest.mark.parametrize("error", [UnavailableError("It is far away."), FeatureError("It cannot be built.")])
def test_a_network_that_fails_is_left_out_with_its_reason(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    spec, left_out = that_can_be_had(study(*TWO), Failing(resnet18=error))
    assert (names(spec), left_out) == ([("alexnet", "random:0")], {"resnet18 random:1": str(error)})
    assert f"resnet18 is left out: {error}" in caplog.text
    with pytest.raises(type(error)):
        that_can_be_had(study(*TWO), Failing(resnet18=error, alexnet=error))


@pytest.mark.parametrize(
    "error",
    [
        WeightsError("They do not fit."),
        UnknownLayerError("Unknown layer."),
        StoreError("The disk is full."),
        MemoryError(),
        SpecError("Unknown backbone."),
    ],
)
def test_what_is_no_result_of_a_network_stops_the_study(error: Exception) -> None:
    with pytest.raises(type(error)):
        that_can_be_had(study(*TWO), Failing(resnet18=error))


def test_a_failure_for_want_of_memory_stops_the_study() -> None:
    error = FeatureError("It cannot be built.")
    error.__cause__ = MemoryError()
    with pytest.raises(FeatureError):
        that_can_be_had(study(*TWO), Failing(resnet18=error))


CODE = """
    from torch import nn

    def good():
        return nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.ReLU(), nn.Flatten())

    def bad():
        raise OverflowError("too deep")
"""


def test_a_study_goes_on_with_the_others(
    tmp_path: Path, make_spec: MakeSpec, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    from img2brain.tracking._local import open_to_read
    from img2brain.tracking.reading import study_records

    monkeypatch.setattr(LIBRARIES, "_loaded", dict(LIBRARIES._loaded))
    (tmp_path / "mine.py").write_text(textwrap.dedent(CODE), encoding="utf-8")
    home, chosen = new_home(), [{"name": f"{tmp_path / 'mine.py'}:*", "weights": "random:0"}]
    outcome = run_study(make_spec(trials=1, backbones=chosen, n_components=[3], regressors=["linear"]), home)
    assert outcome.best is not None
    assert outcome.best.spec.backbone == "mine.py:good"
    store = open_to_read(Home.of(home))
    assert store is not None
    (record,) = study_records(store, outcome.name).values()
    assert record.left_out == {"mine.py:bad random:0": "mine.py:bad cannot be built: OverflowError: too deep."}


def test_the_same_weights_under_two_names_are_refused(
    recordings: Path, tmp_path: Path, new_home: NewHome, make_spec: MakeSpec
) -> None:
    state = torchvision.models.squeezenet1_1(num_classes=10).state_dict()
    for name in ("a.pth", "b.pth"):
        torch.save(state, tmp_path / name)
    table = [{"name": "squeezenet1_1", "weights": name, "layers": ["features.2"]} for name in ("a.pth", "b.pth")]
    spec = make_spec().model_copy(update={"backbones": study(*table, folder=tmp_path).backbones})
    with pytest.raises(SpecError, match=r"Those of '.*b\.pth' are those of '.*a\.pth'"):
        make_ready(spec, Home(new_home()))


PICKY = """
    from torch import nn

    def good():
        return nn.Sequential(nn.Conv2d(3, 4, 32, stride=32), nn.ReLU(), nn.Flatten())


    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 32, stride=32)

        def forward(self, x):
            if x.shape[0] > 15:
                raise OverflowError("too many")
            return self.conv(x).flatten(1)


    def picky():
        return Picky()
"""


def test_a_network_that_fails_before_the_pictures_has_trials_that_fail_and_the_study_goes_on(
    tmp_path: Path, make_spec: MakeSpec, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LIBRARIES, "_loaded", dict(LIBRARIES._loaded))
    (tmp_path / "mine.py").write_text(textwrap.dedent(PICKY), encoding="utf-8")
    table = [{"name": f"{tmp_path / 'mine.py'}:{name}", "weights": "random:0"} for name in ("good", "picky")]
    asked = {"sampler": "grid", "trials": None, "n_components": [3], "regressors": ["linear"]}
    outcome = run_study(make_spec(backbones=table, **asked), home := new_home())
    failures = {trial.spec.backbone: trial.failure for trial in outcome.trials}
    assert failures["mine.py:good"] == ""
    told = "mine.py:picky does not take these pictures: OverflowError: too many."
    assert failures["mine.py:picky"].endswith(told)
    assert outcome.best is not None
    assert outcome.best.spec.backbone == "mine.py:good"
    assert [trial.failure for trial in run_study(make_spec(backbones=table, **asked), home).trials] == [
        trial.failure for trial in outcome.trials
    ]
    with pytest.raises(FeatureError, match="too many"):
        run_study(make_spec(backbones=table[1:], **asked), home)


def test_a_network_is_looked_at_once_or_twice_where_all_of_it_is_known(
    make_spec: MakeSpec, new_home: NewHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, built = Home(new_home()), Counter[str]()
    chosen: Any = [{"name": name, "weights": "random:0", "pooling": ["mean"]} for name in ("alexnet", "squeezenet1_1")]
    spec = make_spec(backbones=chosen)
    first = make_ready(spec, home)
    build = Source.build

    def counted(source: Source, options: Mapping[str, Any]) -> Any:
        built[source.name] += 1
        return build(source, options)

    _graph.cache_clear()
    monkeypatch.setattr(Source, "build", counted)
    assert make_ready(spec, home).name == first.name
    assert all(built[name] <= 2 for name in ("alexnet", "squeezenet1_1")), built
