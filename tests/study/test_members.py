"""Several datasets in one study: a trial is evaluated on each, and their mean ranks it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from img2brain.cli.study import _closing
from img2brain.datasets.base import Dataset
from img2brain.errors import DataError, SpecError
from img2brain.features.pass_ import Pass
from img2brain.home import Home
from img2brain.spec import StudySpec, parse
from img2brain.study.joint import joint_draws
from img2brain.study.outcome import StudyOutcome
from img2brain.study.runner import run_study
from img2brain.study.search import stored_trials
from img2brain.study.setting import Setting, make_ready
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import TrackedTrial, over_members, run_array, study_of, tracked_trials
from tests.datasets.miniatures.algonauts2023 import write_algonauts
from tests.datasets.miniatures.base import World, write_picture, write_plain

if TYPE_CHECKING:
    from tests.conftest import NewHome

Datasets = dict[str, Path]
N_IMAGES = 40


def write_given(folder: Path, X: Any, Y: Any) -> Path:
    """Write rows of features and responses as a plain folder, without an image."""
    for name, array in (("trainingFeatures/f.npy", X), ("trainingfMRI/training.npy", Y)):
        (folder / name).parent.mkdir(parents=True)
        np.save(folder / name, array)
    return folder


class InParts(Dataset):
    """Rows of features, each of a part that a column names."""

    def __init__(self, X: Any, name: str, parts: Sequence[str]) -> None:
        super().__init__(name=name, n_voxels=3, features={"f": X}, columns={"set": parts})
        self.X = X

    def read_responses(self, rows: Any) -> Any:
        return self.X[rows]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    """Two folders of features of their own, of other sizes, that responses follow to another degree."""
    folder, chance = tmp_path_factory.mktemp("pair"), np.random.default_rng(3)
    found = {}
    for name, n_images, noise in (("ada", N_IMAGES, 1.0), ("bob", N_IMAGES + 8, 2.0)):
        X = chance.standard_normal((n_images, 5))
        Y = X @ chance.standard_normal((5, 4)) + noise * chance.standard_normal((n_images, 4))
        found[name] = write_given(folder / name, X, Y)
    return found


def study(*datasets: Path, **changes: Any) -> StudySpec:
    table: dict[str, Any] = {
        "name": "both", "trials": 4, "n_components": [2, 4], "regressors": ["ridge"], "split": {"confirmation": 0.3},
        "backbones": [{"name": "given", "weights": "none"}],
    }  # fmt: skip
    data = {"datasets": [{"path": str(path)} for path in datasets]} if datasets else {}
    return parse(StudySpec, table | data | changes, "the test's study")


@pytest.fixture(scope="module")
def both(pair: Datasets, tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Home, StudyOutcome]:
    """A study of both. No test changes its home."""
    home = Home(tmp_path_factory.mktemp("both"))
    shutil.copyfile(empty_database, home.database)
    return home, run_study(study(*pair.values()), home)


def runs_of(home: Home, number: int | None = None) -> dict[str, TrackedTrial]:
    found = tracked_trials(TrackingStore(home))
    return {
        item.record.member or str(item.record.number): item for item in found if number in (None, item.record.number)
    }


def test_the_objective_is_the_mean_over_members(both: tuple[Home, StudyOutcome]) -> None:
    home, outcome = both
    for trial in outcome.trials:
        runs = runs_of(home, trial.number)
        assert list(trial.members) == ["ada", "bob"]
        assert {name: run.record.score for name, run in runs.items()} == {
            name: item.score for name, item in trial.members.items()
        }
        assert trial.score == np.mean([run.record.score for run in runs.values()])
        assert {run.record.dataset.name for run in runs.values()} == {"ada", "bob"}
    assert list(outcome.members) == ["ada", "bob"]
    assert [item.registered.name for item in outcome.members.values()] == ["ada", "bob"]


def test_each_member_has_a_record_of_the_study_of_its_own(both: tuple[Home, StudyOutcome]) -> None:
    home, outcome = both
    store = TrackingStore(home)
    for name, run in runs_of(home, 0).items():
        record = study_of(store, run.run_id)
        assert record is not None
        assert (record.name, record.member, list(record.members)) == (outcome.name, name, ["ada", "bob"])
        own = record.members[name]
        assert (record.dataset, record.rows, record.regions) == (own.dataset, own.rows, own.regions)
        assert (run.record.dataset, run.record.rows) == (own.dataset, own.rows)


def test_a_member_has_the_numbers_that_it_has_alone(
    both: tuple[Home, StudyOutcome], pair: Datasets, new_home: NewHome
) -> None:
    """Alphas that follow the scale of components follow that of the member's own."""
    home, outcome = both
    for name, path in pair.items():
        alone = Home(new_home(name))
        best = outcome.best
        assert best is not None
        own = best.of(name).spec
        fixed = study(
            trials=1, n_components=[own.n_components], dataset={"path": str(path)},
            regressors=[{"name": "ridge", "alpha": own.parameters["alpha"]}],
        )  # fmt: skip
        run_study(fixed, alone)
        (found,), expected = runs_of(alone).values(), runs_of(home, best.number)[name]
        assert found.record.metrics == expected.record.metrics
        assert found.record.spec == expected.record.spec
        for place in ("accuracy.npy", "confirmation/predictions.npy", "confirmation/summaries_resampled.npy"):
            one, other = (run_array(TrackingStore(at), run.run_id, place)
                          for at, run in ((alone, found), (home, expected)))  # fmt: skip
            assert one is not None
            assert other is not None
            np.testing.assert_array_equal(one, other)
        assert found.confirmation is not None
        assert expected.confirmation is not None
        assert found.confirmation.parts == expected.confirmation.parts


def test_the_mean_is_given_with_an_interval_that_follows_from_joint_resamples(both: tuple[Home, StudyOutcome]) -> None:
    home, outcome = both
    assert outcome.best is not None
    assert outcome.mean is not None
    scores = [item.score for item in outcome.members.values()]
    assert outcome.mean.score.estimate == pytest.approx(np.mean(scores), abs=1e-6)
    assert outcome.mean.score.low < outcome.mean.score.estimate < outcome.mean.score.high
    assert not outcome.mean.is_of_a_sample
    assert set(outcome.mean.controls) == {"shuffled"}
    runs = {name: run.run_id for name, run in runs_of(home, outcome.best.number).items()}
    found = over_members(TrackingStore(home), {name: runs[name] for name in outcome.members}, "median")
    assert found is not None
    assert found.interval() == outcome.mean.score
    confirmed = [run.confirmation for run in runs_of(home, outcome.best.number).values()]
    assert [len(item.parts) for item in confirmed if item] == [1, 1]
    assert "(mean over 2, interval for these members)" in _closing(outcome, home)
    assert _closing(outcome, home).count("\nmember         ") == 2


def test_equal_pictures_of_members_are_drawn_together(tmp_path: Path) -> None:
    """Whatever file they are in; and rows that are tied within a member, too."""
    world = World(24, 3, seed=1)
    shown = {"one": range(24), "two": [*range(23, 11, -1), *range(4)], "three": range(12, 24)}
    for name, pictures in shown.items():
        for place, picture in enumerate(pictures):
            suffix = "png" if name != "two" else "bmp.png"
            write_picture(tmp_path / name / "trainingIMG" / f"{place:02}.{suffix}", world.pictures[picture])
        (tmp_path / name / "trainingfMRI").mkdir()
        np.save(tmp_path / name / "trainingfMRI" / "training.npy", world.trials(list(pictures)))
    spec = study(
        *(tmp_path / name for name in shown), split={"confirmation": 0.4, "validation": 0.3}, n_components=[2],
        backbones=[{"name": "pixels", "weights": "random:0"}],
    )  # fmt: skip
    setting = make_ready(spec, Home(tmp_path / "home"))
    drawn = joint_draws(setting.members)
    seen: dict[int, Any] = {}
    n_shared = 0
    for member, counts in zip(setting.members, drawn, strict=True):
        assert counts is not None
        for row, column in zip(member.split.confirmation, counts.T, strict=True):
            picture = [*shown[member.name]][row]
            n_shared += picture in seen
            # A resample that would hold none of a member's few rows holds all of them once.
            assert (seen.setdefault(picture, column) == column).mean() > 0.97
    assert n_shared > 2


def test_data_that_cannot_be_members_are_refused(pair: Datasets, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    with pytest.raises(SpecError, match=r"members of a study must be different data\. 'ada' and 'ada' are the same"):
        make_ready(study(pair["ada"], pair["ada"]), home)
    other = write_given(tmp_path / "ada", np.eye(30), np.random.default_rng(0).normal(size=(30, 2)))
    with pytest.raises(DataError, match=r"must have names of their own\. Two are called 'ada': write another name"):
        make_ready(study(pair["ada"], other), home)
    every = study(dataset={"path": str(pair["ada"]), "subjects": "all"})
    with pytest.raises(DataError, match=r"'subjects' must be those of a folder that tells them\. .*ada' tells none"):
        make_ready(every, home)
    with pytest.raises(SpecError, match=r"A study must name its dataset, or be handed one\. Got none"):
        make_ready(study(), home, [])


def test_a_trial_that_fails_on_one_member_fails_and_says_on_which(pair: Datasets, new_home: NewHome) -> None:
    """A number of neighbours that only the larger one has rows for."""
    regressors = [{"name": "k_neighbors", "n_neighbors": [3, 24]}]
    spec = study(*pair.values(), n_components=[2], regressors=regressors, sampler="grid", trials=None)
    home = Home(new_home())
    outcome = run_study(spec, home)
    good, bad = sorted(outcome.trials, key=lambda trial: trial.failure)
    assert good.succeeded
    assert bad.failure.endswith("(member 'ada')")
    assert np.isnan(bad.score)
    (stored,) = stored_trials(home).values()
    assert [trial.failure for trial in stored] == [trial.failure for trial in outcome.trials]


def test_members_that_would_rank_by_parts_of_two_names_are_refused(new_home: NewHome) -> None:
    """The mean over members would be of no one thing."""
    rng = np.random.default_rng(0)
    orders = {"ada": ["train"] * 20 + ["near"] * 5 + ["far"] * 5, "bob": ["train"] * 20 + ["far"] * 5 + ["near"] * 5}
    both = [InParts(rng.standard_normal((30, 3)), name, parts) for name, parts in orders.items()]
    with pytest.raises(SpecError, match=r"rank by one confirmation part, .* by 'near' of 'ada', 'far' of 'bob'\.$"):
        make_ready(study(split={"column": "set"}), Home(new_home()), dataset=both)
    named = study(split={"column": "set", "parts": ["far", "near"]})
    assert [list(member.split.parts) for member in make_ready(named, Home(new_home()), dataset=both).members] == [
        ["far", "near"]
    ] * 2


def test_subjects_of_a_folder_are_members_under_their_names(tmp_path: Path) -> None:
    mini, home = write_algonauts(tmp_path / "mini"), Home(tmp_path / "home")
    pixels = [{"name": "pixels", "weights": "random:0"}]

    def ready(**asked: Any) -> Setting:
        return make_ready(study(dataset={"path": str(mini.path), **asked}, backbones=pixels, n_components=[2]), home)

    for asked in ("all", ["subj01", "subj06"]):
        setting = ready(subjects=asked)
        assert [member.name for member in setting.members] == ["subj01", "subj06"]
        assert [member.dataset.name for member in setting.members] == ["algonauts2023-subj01", "algonauts2023-subj06"]
        assert [member.settings["dataset"] for member in setting.members] == [
            {"subject": "subj01"}, {"subject": "subj06"},
        ]  # fmt: skip
    one, alone = ready(subjects=["subj06"]), ready(subject="subj06")
    assert one.name == alone.name
    assert one.record(one.name) == alone.record(one.name)
    assert (one.first.name, one.record(one.name).members) == ("", {})
    with pytest.raises(DataError, match=r"holds no subject 'subj02'\. Did you mean"):
        ready(subjects=["subj01", "subj02"])


def test_images_that_members_share_pass_a_network_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Eight members with the same images cost one pass and one PCA, and others no more than the images they add."""
    world, shown = World(30, 3, seed=2), []
    for number in range(10):
        pictures = {8: [*range(10, 30)][::-1], 9: range(18)}.get(number, range(20))
        responses = world.trials(list(pictures))
        write_plain(tmp_path / f"m{number}", [world.pictures[picture] for picture in pictures], responses, 0)
    shown_of = Pass.activations

    def watched(self: Pass, *args: Any) -> Any:
        shown.append(len(self._images))
        return shown_of(self, *args)

    monkeypatch.setattr(Pass, "activations", watched)
    pixels = [{"name": "pixels", "weights": "random:0"}]

    def extracted(home: str, numbers: Sequence[int]) -> Setting:
        paths = [tmp_path / f"m{number}" for number in numbers]
        setting = make_ready(study(*paths, backbones=pixels, n_components=[2]), Home(tmp_path / home))
        setting.extraction.now()
        return setting

    of_equal = extracted("equal", range(8))
    assert shown == [20]
    for member in of_equal.members:
        for bank in member.banks.values():
            bank.components("grid", member.split.train, 2)
    assert len(list(of_equal.home.store.keys("layers"))) == 1
    assert len(list(of_equal.home.store.keys("components"))) == 1 + 1, "of the rows that train, and all that are seen"
    shown.clear()
    together = extracted("some", (7, 8, 9))
    assert shown == [30]
    for member in together.members:
        alone = extracted(member.name, [int(member.name[1:])])
        one, other = (item.banks[key].components("grid", item.split.train, 2).coordinates
                      for item in (member, alone.first) for key in item.banks)  # fmt: skip
        np.testing.assert_array_equal(one, other)


def test_a_member_whose_rows_are_too_few_is_named(pair: Datasets, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    few = write_given(tmp_path / "few", chance.standard_normal((8, 5)), chance.standard_normal((8, 4)))
    with pytest.raises(SpecError, match=r"must hold at least 2 rows.* \(member 'few'\)\.$"):
        make_ready(study(pair["ada"], few), Home(tmp_path / "home"))
