from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from img2brain.catalog import REGRESSORS
from img2brain.errors import SpecError
from img2brain.spec import BackboneSpec, StudySpec, load_study, parse
from img2brain.study.space import Candidate, Choice, Range, Space, find_domains

LAYERS = {"alexnet": ("a", "b", "c"), "vgg16": ("x", "y")}
TABLE: dict[str, Any] = {
    "name": "s",
    "dataset": {"path": "d"},
    "backbones": [{"name": name, "weights": "random:0"} for name in LAYERS],
    "n_components": [3, 8],
    "regressors": ["linear", "ridge", {"name": "lasso", "alpha": [0.1, 1, 10]}],
    "trials": 1,
}


class Answers:
    """Answers with what it is told, and keeps what it was asked for."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: dict[str, Any] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> Any:
        return self._answer(name, (low, high, log), low)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> Any:
        return self._answer(name, (low, high, log), low)

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name, tuple(choices), choices[0])

    def _answer(self, name: str, domain: Any, default: Any) -> Any:
        self.asked[name] = domain
        return self.answers.get(name, default)


def make(**changes: Any) -> Space:
    spec = parse(StudySpec, TABLE | changes, "s.toml")
    networks = {
        item: Candidate(item.weights, f"digest of {item.weights}", LAYERS[item.name]) for item in spec.backbones
    }
    return Space(spec, find_domains(spec), networks)


@given(st.floats(0, 1), st.sampled_from(sorted(LAYERS)))
def test_every_depth_is_a_layer(depth: float, backbone: str) -> None:
    spec = make().ask(Answers(backbone=backbone, depth=depth)).spec
    layers = LAYERS[backbone]
    assert spec.layer == layers[min(int(depth * len(layers)), len(layers) - 1)]
    assert (spec.backbone, spec.weights_digest) == (backbone, "digest of random:0")


def test_alpha_is_asked_for_only_where_there_is_one() -> None:
    answers = Answers(regressor="linear")
    assert make().ask(answers).spec.parameters == {}
    assert set(answers.asked) == {"backbone", "depth", "size", "regressor"}


def test_a_default_alpha_is_relative_and_a_given_one_absolute() -> None:
    assert make().ask(Answers(regressor="ridge")).relative == {"alpha"}
    request = make().ask(Answers(regressor="lasso", **{"lasso.alpha": 10}))
    assert request.relative == frozenset()
    assert request.spec.parameters == {"alpha": 10}


def test_what_has_one_value_is_not_asked_for() -> None:
    answers = Answers()
    table = {"backbones": TABLE["backbones"][:1], "n_components": [3], "regressors": [{"name": "ridge", "alpha": 2.0}]}
    request = make(**table).ask(answers)
    assert set(answers.asked) == {"depth"}
    assert request.spec.parameters == {"alpha": 2.0}


@pytest.mark.parametrize(("size", "n_components"), [(0, 3), (1, 8)])
def test_a_size_is_asked_for_by_its_rank(size: int, n_components: int) -> None:
    assert make().ask(Answers(size=size)).spec.n_components == n_components


def test_networks_that_differ_in_their_weights_are_told_apart() -> None:
    two = [{"name": "alexnet", "weights": weights} for weights in ("random:0", "random:1")]
    answers = Answers(backbone="alexnet random:1")
    assert make(backbones=two).ask(answers).spec.weights_digest == "digest of random:1"
    assert answers.asked["backbone"] == ("alexnet random:0", "alexnet random:1")


def test_a_grid_has_every_cell_once() -> None:
    space = make()
    cells = list(space.grid())
    assert len(cells) == (3 + 2) * 2 * (1 + 5 + 3)
    requests = {space.ask(Answers(**cell)).digest for cell in cells}
    assert len(requests) == len(cells)


def test_a_champion_at_an_edge_is_said_so() -> None:
    space = make()
    assert space.edges({"size": 0, "regressor": "lasso", "lasso.alpha": 10}) == [
        "lasso.alpha lies at the upper edge of its range"
    ], "of two sizes none is in the middle"
    assert make(n_components=[3, 8, 16]).edges({"size": 0, "regressor": "linear"}) == [
        "n_components lies at the lower edge of its range"
    ]
    low = Range(1e-3, 1e3, log=True)
    assert [low.edge(value) for value in (1e-3, 1.1e-3, 1.0, 1e3)] == ["lower", "lower", "", "upper"]
    assert Choice((30, 50, 100)).edge(30) == "lower"
    assert Choice((30, 50)).edge(30) == "", "two values are all edges"


def test_whole_numbers_stay_whole() -> None:
    assert Range(1, 10, integer=True).points() == [1, 3, 6, 8, 10]
    answers = Answers(regressor="k_neighbors", **{"k_neighbors.n_neighbors": 4})
    assert make(regressors=["k_neighbors"]).ask(answers).spec.parameters == {"n_neighbors": 4}


def test_a_name_that_a_size_has_too_is_asked_for_as_the_regressors_own() -> None:
    answers = Answers(size=1, **{"pls.n_components": 2})
    request = make(regressors=["pls", "ridge"]).ask(answers)
    assert answers.asked["pls.n_components"] == (1, 32, True)
    assert (request.spec.n_components, request.spec.parameters) == (8, {"n_components": 2})


@pytest.mark.parametrize("own", ["pls", {"name": "pls", "n_components": {"low": 2.0, "high": 20.0}}])
def test_what_counts_features_stays_within_the_components(own: Any) -> None:
    space = make(regressors=[own])
    for size, n_components in enumerate(TABLE["n_components"]):
        answers = Answers(size=size, **{"pls.n_components": 20})
        assert space.ask(answers).spec.parameters == {"n_components": n_components}
    cells = [space.ask(Answers(**cell)).spec for cell in space.grid()]
    assert len({spec.digest for spec in cells}) == len(cells)
    assert {spec.n_components for spec in cells} == {3, 8}
    for spec in cells:
        own = spec.parameters["n_components"]
        assert isinstance(own, int)
        assert own <= spec.n_components
    listed = make(regressors=[{"name": "pls", "n_components": [2, 20]}])
    assert listed.ask(Answers(size=0, **{"pls.n_components": 20})).spec.parameters == {"n_components": 20}


def test_a_description_names_within_features_only_where_it_counts() -> None:
    described = make(regressors=["pls", "ridge", "k_neighbors"]).describe()["regressors"]
    assert described["pls"]["n_components"]["within_features"] is True
    assert "within_features" not in described["ridge"]["alpha"]
    assert set(described["k_neighbors"]["n_neighbors"]) == {"low", "high", "log", "integer", "relative"}


def test_an_option_is_one_value_even_as_a_list() -> None:
    options = {"alphas": [0.1, 1.0, 10.0], "cv": 5, "per_voxel": True}
    space = make(regressors=[{"name": "ridge_cv", **options}])
    request = space.ask(Answers())
    assert request.spec.parameters == {"alphas": (0.1, 1.0, 10.0), "cv": 5, "per_voxel": True}
    assert len(list(space.grid())) == (3 + 2) * 2
    assert space.describe()["regressors"]["ridge_cv"]["cv"] == {"values": (5,), "relative": False}
    assert space.ask(Answers()).relative == frozenset()


def test_the_predecessors_comparison_has_six_trials() -> None:
    spec = load_study(Path(__file__).parents[2] / "experiments" / "predecessor_regressors.toml")
    networks = {item: Candidate(item.weights, "digest", item.single_layers) for item in spec.backbones}
    space = Space(spec, find_domains(spec), networks)
    trials = [space.ask(Answers(**cell)).spec for cell in space.grid()]
    assert [trial.regressor for trial in trials] == [item.name for item in spec.regressors]
    assert trials[1].parameters == {"alphas": (0.01, 0.1, 1.0, 10.0, 100.0), "cv": 3}


def test_what_a_cross_validation_cannot_choose_is_searched() -> None:
    answers = Answers(**{"elastic_net_cv.l1_ratio": 0.7})
    request = make(regressors=["elastic_net_cv"]).ask(answers)
    assert request.spec.parameters == {"l1_ratio": 0.7}
    assert answers.asked["elastic_net_cv.l1_ratio"] == (0.1, 0.9, False)


@pytest.mark.parametrize(
    ("regressor", "message"),
    [
        ({"name": "ridge", "alfa": 1}, r"Unknown hyperparameter 'alfa' of ridge\. Did you mean 'alpha'\?"),
        ({"name": "linear", "alpha": 1}, r"Unknown hyperparameter 'alpha' of linear\. "),
        ({"name": "ridge", "alpha": -1}, r"The 'alpha' of ridge must be > 0\. Got -1\."),
        ({"name": "ridge", "alpha": [1, 0]}, r"The 'alpha' of ridge must be > 0\. Got 0\."),
        ({"name": "lasso", "alpha": {"low": 0, "high": 1}}, r"The 'alpha' of lasso must be > 0\. Got 0\.0\."),
        ({"name": "ridge", "alpha": True}, r"The 'alpha' of ridge must be > 0\. Got True\."),
        ({"name": "ridge_cv", "alpha": 1}, r"Unknown hyperparameter 'alpha' of ridge_cv\. Did you mean 'alphas'\?"),
        ({"name": "ridge_cv", "alphas": [1, 0]}, r"The 'alphas' of ridge_cv must be a list of numbers > 0, or None\."),
        ({"name": "ridge_cv", "cv": [3, 5]}, r"The 'cv' of ridge_cv must be a whole number >= 2\. Got \(3, 5\)\."),
        ({"name": "ridge_cv", "per_voxel": 1}, r"The 'per_voxel' of ridge_cv must be true or false\. Got 1\."),
        ({"name": "k_neighbors", "n_neighbors": 2.5}, r"The 'n_neighbors' of k_neighbors must be a whole number"),
    ],
)
def test_hyperparameters_are_checked_before_work(regressor: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make(regressors=[regressor])


def test_the_description_tells_spaces_apart() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"n_components": [3]}, {"regressors": ["linear"]}, {"backbones": TABLE["backbones"][:1]},
        {"regressors": [{"name": "ridge", "alpha": 1}]}, {"regressors": [{"name": "ridge", "alpha": 2}]},
    ]  # fmt: skip
    found = [str(make(**change).describe()) for change in changes]
    assert len(set(found)) == len(found)
    assert BackboneSpec(name="alexnet", weights="random:0").layers is None


def test_a_regressor_that_cannot_be_made_is_refused_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(REGRESSORS, "_loaded", dict(REGRESSORS._loaded))
    forgetful = "class Forgetful(Ridge):\n    def __init__(self, width=1):\n        pass\n"
    (tmp_path / "mine.py").write_text(f"from img2brain.regressors.ridge import Ridge\n{forgetful}", encoding="utf-8")
    spec = parse(StudySpec, TABLE | {"regressors": ["mine.py:Forgetful"]}, "s.toml", tmp_path)
    must = (
        r"^The regressor 'mine\.py:Forgetful' must keep each parameter under its name\. Got AttributeError: .*'width'"
    )
    with pytest.raises(SpecError, match=must):
        find_domains(spec)
