from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from img2brain.errors import SpecError
from img2brain.spec import Interval, StudySpec, TrialSpec, load_study, parse, with_overrides

NETWORK = {"name": "alexnet", "weights": "random:0"}
STUDY: dict[str, Any] = {
    "name": "s",
    "dataset": {"path": "recordings"},
    "backbones": [NETWORK],
    "n_components": [10, 3],
    "regressors": ["ridge", {"name": "lasso", "alpha": {"low": 0.1, "high": 10, "log": True}}],
    "trials": 5,
}
ABSENT = object()
EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def make(**changes: Any) -> StudySpec:
    return parse(StudySpec, {key: value for key, value in (STUDY | changes).items() if value is not ABSENT}, "s.toml")


def test_a_study_is_read() -> None:
    spec = make()
    assert spec.n_components == (3, 10)
    assert [item.name for item in spec.regressors] == ["ridge", "lasso"]
    assert spec.regressors[1].search == {"alpha": Interval(low=0.1, high=10, log=True)}
    assert spec.sampler == "tpe"


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError):
        make().trials = 3


def test_a_grid_needs_no_number_of_trials() -> None:
    assert make(sampler="grid", trials=ABSENT).trials is None


def regressor(**search: Any) -> dict[str, Any]:
    return {"regressors": [{"name": "ridge", **search}]}


def network(**changes: Any) -> dict[str, Any]:
    return {"backbones": [NETWORK | changes]}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ABSENT}, "the key 'name' is missing."),
    ({"name": 3}, "'name' must be text. Got 3."),
    ({"name": datetime.date(2020, 1, 2)}, "'name' must be text. Got 2020-01-02."),
    ({"name": "../s"}, "'name' must start with a letter or digit, and hold letters, digits, '.', '_' and '-' only. "
                       "Got '../s'."),
    ({"name": "s" * 65}, "'name' must have at most 64 characters. Got '" + "s" * 65 + "'."),
    ({"trails": 3}, "unknown key 'trails'. Did you mean 'trials' or 'metrics'?"),
    ({"choices": 3}, "unknown key 'choices'. Known: name, dataset, datasets, backbones, n_components, regressors, "
                     "metrics, objective, split, sampler, trials, seed, ...."),
    ({"dataset": "recordings"}, "'dataset' must be a table. Got 'recordings'."),
    ({"dataset": {}}, "'dataset': give either 'path' (a dataset folder) or 'sample' (generated data)."),
    ({"dataset": {"path": "d", "sample": {}}},
     "'dataset': give either 'path' (a dataset folder) or 'sample' (generated data)."),
    ({"dataset": {"pth": "d"}}, "unknown key 'dataset.pth'. Did you mean 'path'?"),
    ({"dataset": {"path": 3}}, "'dataset.path' must be text. Got 3."),
    ({"dataset": {"path": "d", "shuffle": True}}, "'dataset.shuffle' must be a whole number. Got true."),
    ({"dataset": {"sample": {"images": 3}}}, "'dataset.sample.images' must be >= 20. Got 3."),
    ({"dataset": {"sample": {"images": "30"}}}, "'dataset.sample.images' must be a whole number. Got '30'."),
    ({"backbones": NETWORK}, "'backbones' must be a list. Got a table."),
    ({"backbones": []}, "'backbones' must hold at least 1 item. Got an empty list."),
    ({"backbones": ["alexnet"]}, "'backbones[0]' must be a table. Got 'alexnet'."),
    ({"backbones": [NETWORK, NETWORK]}, "'backbones': 'alexnet random:0 weights' is listed twice."),
    ({"backbones": [{"name": "alexnet"}]}, "the key 'backbones[0].weights' is missing."),
    (network(weights=0), "'backbones[0].weights' must be text. Got 0."),
    (network(layer=["a"]), "unknown key 'backbones[0].layer'. Did you mean 'layers'?"),
    (network(layers="features.2"), "'backbones[0].layers' must be a list. Got 'features.2'."),
    (network(layers=["a", "a"]), "'backbones[0].layers': 'a' is listed twice."),
    (network(preprocessing="resize"), "'backbones[0].preprocessing' must be 'weights' or 'resize224'. Got 'resize'."),
    ({"n_components": 3}, "'n_components' must be a list. Got 3."),
    ({"n_components": ["3"]}, "'n_components[0]' must be a whole number. Got '3'."),
    ({"n_components": [3, 2.5]}, "'n_components[1]' must be a whole number. Got 2.5."),
    ({"n_components": [0]}, "'n_components[0]' must be >= 1. Got 0."),
    ({"n_components": [3, 3]}, "'n_components': 3 is listed twice."),
    ({"regressors": "ridge"}, "'regressors' must be a list. Got 'ridge'."),
    ({"regressors": ["rigde"]}, "'regressors[0].name': Unknown regressor 'rigde'. Did you mean 'ridge' or 'ridge_cv'?"),
    ({"regressors": ["ridge", "ridge"]}, "'regressors': 'ridge' is listed twice."),
    ({"regressors": [{"alpha": 1}]}, "the key 'regressors[0].name' is missing."),
    (regressor(alpha="1"), "'regressors[0].alpha' must be a number. Got '1'."),
    (regressor(alpha=[True]), "'regressors[0].alpha[0]' must be a number. Got true."),
    (regressor(alpha=[]), "'regressors[0].alpha' must hold at least 1 item. Got an empty list."),
    (regressor(alpha=[1, "a"]), "'regressors[0].alpha[1]' must be a number. Got 'a'."),
    (regressor(alpha={"low": 2, "high": 1}), "'regressors[0].alpha': 'low' must be below 'high'. Got 2 and 1."),
    (regressor(alpha={"low": 0, "high": 1, "log": True}),
     "'regressors[0].alpha': 'low' of a logarithmic range must be > 0. Got 0."),
    (regressor(alpha={"low": 0, "hihg": 1}), "unknown key 'regressors[0].alpha.hihg'. Did you mean 'high'?"),
    (regressor(alpha={"low": 0}), "the key 'regressors[0].alpha.high' is missing."),
    (regressor(alpha={"low": 1, "high": 2, "log": "yes"}),
     "'regressors[0].alpha.log' must be true or false. Got 'yes'."),
    ({"sampler": "tp"}, "'sampler' must be 'tpe', 'random' or 'grid'. Got 'tp'."),
    ({"trials": 0}, "'trials' must be >= 1. Got 0."),
    ({"trials": "3"}, "'trials' must be a whole number. Got '3'."),
    ({"trials": ABSENT}, "'trials' is needed with the sampler 'tpe'."),
    ({"seed": -1}, "'seed' must be >= 0. Got -1."),
    ({"seed": 2**32}, "'seed' must be < 4294967296. Got 4294967296."),
    ({"device": "gpu"}, "'device' must be 'auto', 'cpu', 'cuda' or 'cuda:N'. Got 'gpu'."),
    ({"split": 2023}, "'split' must be a table. Got 2023."),
    ({"split": {"preset": "img2brain"}}, "'split.preset': it must be 'img2brain-2023', or a split that a layout "
                                         "brings, such as 'nsd:shared515'. Got 'img2brain'."),
    ({"split": "tau"}, "'split.preset': it must be 'img2brain-2023', or a split that a layout brings, such as "
                       "'nsd:shared515'. Got 'tau'."),
    ({"split": {"preset": "nsd:shared515", "file": "s.json"}},
     "'split': 'preset' and 'file' both give the rows: leave one out."),
    ({"split": {"rest": "train"}}, "'split': 'rest' is of a split that 'file' or 'column' gives: leave it out."),
    ({"split": {"file": "s.csv", "rest": "test"}}, "'split.rest' must be 'train' or 'leave out'. Got 'test'."),
    ({"split": {"file": 3}}, "'split.file' must be text. Got 3."),
    ({"split": {"file": "s.csv", "parts": ["a", "a"]}}, "'split.parts': 'a' is listed twice."),
    ({"split": {"folds": 1}}, "'split.folds' must be >= 2. Got 1."),
    ({"split": {"folds": 2.5}}, "'split.folds' must be a whole number. Got 2.5."),
    ({"split": {"folds": True}}, "'split.folds' must be a whole number. Got true."),
    ({"split": {"folds": "session", "validation": 0.2}},
     "'split': 'folds' take turns to validate: leave out 'validation'."),
    ({"split": {"preset": "img2brain-2023", "seed": 3}},
     "'split': the preset 'img2brain-2023' fixes the rows: leave out seed."),
    ({"split": {"validation": 1.5}}, "'split.validation' must be < 1. Got 1.5."),
    ({"split": {"validation": float("nan")}}, "'split.validation' must be finite. Got nan."),
    ({"split": {"validaton": 0.2}}, "unknown key 'split.validaton'. Did you mean 'validation'?"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:60] for _, message in BAD])
def test_bad_input_is_told_on_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        make(**changes)
    assert str(caught.value) == f"s.toml: {message}"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        """name = "s"\ntrials = 1\nn_components = [3]\nregressors = ["ridge"]\ndataset.path = "../recordings"
        backbones = [{name = "alexnet", weights = "w.pth"}, {name = "vgg16", weights = "random:0"},
                     {name = "vgg11", weights = "w.ckpt#ema"}]"""
    )
    spec = load_study(path)
    assert spec.dataset is not None
    assert spec.dataset.path is not None
    assert spec.dataset.path.resolve() == tmp_path.parent / "recordings"
    weights = [item.weights for item in spec.backbones]
    assert weights == [str(tmp_path / "w.pth"), "random:0", str(tmp_path / "w.ckpt#ema")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such study file"),
        (b"name = ", "not a TOML file: "),
        (b'name = "a"\nname = "b"', "not a TOML file: Cannot overwrite a value"),
        (b"\xff\xfe", "not a TOML file: "),
        (b"", "the keys 'name', 'dataset', 'backbones', 'n_components' and 'regressors' are missing."),
        (
            b"name = 'a'\nbackbones = [{}]\nregressors = ['ridge']\ndataset = {path = 'd'}",
            "the keys 'backbones[0].name', 'backbones[0].weights' and 'n_components' are missing.",
        ),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "s.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_study(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_study(tmp_path)


def test_overrides_are_validated_again() -> None:
    spec = make()
    assert with_overrides(spec, trials=9) == make(trials=9)
    with pytest.raises(SpecError, match=r"study 's': 'trials' must be >= 1\. Got 0\."):
        with_overrides(spec, trials=0)


def test_a_trials_digest_is_of_all_its_fields() -> None:
    table: dict[str, Any] = dict.fromkeys(("backbone", "weights", "weights_digest", "preprocessing", "layer"), "x")
    table |= {"n_components": 3, "regressor": "ridge", "parameters": {"alpha": 2.0}}
    others = [TrialSpec(**table | {key: 4 if key == "n_components" else "y"}) for key in table if key != "parameters"]
    others += [TrialSpec(**table | {"parameters": {"alpha": 2.5}}), TrialSpec(**table)]
    assert len({spec.digest for spec in others}) == len(others)
    assert TrialSpec(**table).label == "x x 3 ridge alpha=2"


def test_a_trials_parameters_may_be_lists_and_flags() -> None:
    table: dict[str, Any] = dict.fromkeys(("backbone", "weights", "weights_digest", "preprocessing", "layer"), "x")
    table |= {"n_components": 3, "regressor": "ridge_cv"}
    spec = TrialSpec(**table | {"parameters": {"alphas": [0.1, 10], "cv": 3, "per_voxel": True}})
    assert spec.label == "x x 3 ridge_cv alphas=[0.1,10] cv=3 per_voxel=true"
    again = TrialSpec.model_validate_json(spec.model_dump_json())
    assert (again, again.digest) == (spec, spec.digest)
    assert again.parameters["per_voxel"] is True
    assert again.parameters["alphas"] == (0.1, 10)
    assert TrialSpec(**table | {"parameters": {"alphas": [0.1, 11], "cv": 3, "per_voxel": True}}).digest != spec.digest


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_experiment_is_a_study(path: Path) -> None:
    assert load_study(path).name == tomllib.loads(path.read_text())["name"]
