"""Models that move: the same file, the same model, the same predictions; and nothing else is taken for one."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from img2brain import model_file, sealed
from img2brain.amounts import size_text
from img2brain.backbones import load_backbone
from img2brain.cli import main
from img2brain.datasets._images import find_images
from img2brain.errors import Img2BrainError, ModelError
from img2brain.home import Home
from img2brain.leaderboard.collect import collect
from img2brain.moving import export_model, import_model
from img2brain.registered import crown_model, load_model
from img2brain.spec import RegressorSpec, load_study
from img2brain.study.runner import run_study
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import find_trial, stored_summaries, study_of
from img2brain.tracking.registry import Registry
from img2brain.tracking.upkeep import problems

if TYPE_CHECKING:
    from tests.conftest import Finished, Launcher, MakeSpec, NewHome, OldHome

BY_HAND = (
    "imported, and not compared with version 1, the champion: 'img2brain model crown sample/2' crowns it by hand; "
    "it keeps the crown"
)
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def exported(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_model("sample", tmp_path_factory.mktemp("exported") / "sample.img2brain.zip", finished.home)


@contextmanager
def opened_up(file: Path, changed: Path) -> Iterator[Path]:
    """Hand out a folder of what is in a file, and write it as another file, sealed, with all that was done to it."""
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(file) as archive:
            archive.extractall(scratch)
        yield Path(scratch)
        model_file.write(Path(scratch), changed)


def edited(file: str, /, **changes: Any) -> Change:
    """Change keys of a file of JSON; a key with a dot is within a table."""

    def change(folder: Path) -> None:
        table = json.loads((folder / file).read_text())
        for key, value in changes.items():
            *within, last = key.split("__")
            place = table
            for part in within:
                place = place[part]
            place[last] = value
        (folder / file).write_text(json.dumps(table, indent=1))

    return change


def test_the_same_model_is_the_same_file(finished: Finished, exported: Path, tmp_path: Path) -> None:
    again = export_model("sample/1", tmp_path / "again.img2brain.zip", Home(finished.home))
    assert again.read_bytes() == exported.read_bytes()
    with zipfile.ZipFile(exported) as archive:
        names = archive.namelist()
    assert {"model/model.json", "origin.json", "digests.json", "run/record.json", "run/study.json"} <= set(names)
    scores = ("accuracy", "summaries_", "control_", "best_layer", "ceiling_", "p.npy", "q.npy")
    arrays = [name.rpartition("/")[2] for name in names if name.startswith("run/") and name.endswith(".npy")]
    assert [name for name in arrays if not name.startswith(scores)] == []
    kept = {path.name for path in (finished.home / "artifacts").rglob("confirmation/*.npy")}
    assert {"predictions.npy", "shown_measured.npy"} <= kept - set(arrays), "what was measured stays behind"


def test_another_process_imports_it_into_an_empty_home_without_the_data(
    finished: Finished, recordings: Path, tmp_path: Path, img2brain: Launcher
) -> None:
    pictures = tmp_path / "pictures"
    shutil.copytree(recordings / "testIMG", pictures)
    file = tmp_path / "moved.img2brain.zip"
    process = img2brain.run("model", "export", "sample@champion", file, "--home", finished.home)
    assert (process.code, process.stdout) == (0, f"{file}: {size_text(file.stat().st_size)}\n"), process.stderr
    home = tmp_path / "empty"
    process = img2brain.run("model", "import", file, "--home", home)
    name = f"home {Home(finished.home).id[:8]}, sample/1"
    assert process.stdout == f"sample/1: imported from {name}\nsample/1: the champion (the first champion)\n"
    for place in (finished.home, home):  # in equal processes: threads alone change the sixth digit
        img2brain.run("model", "predict", "sample", pictures, "--out", tmp_path / f"{place.name}.npy", "--home", place)
    expected, found = (np.load(tmp_path / f"{place.name}.npy") for place in (finished.home, home))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.std())
    again = CliRunner().invoke(main, ["model", "import", str(file), "--home", str(home)]).stdout
    assert again == f"sample/1: there already, imported from {name}\nsample/1: the champion (the champion already)\n"
    assert problems(Home(home)) == []
    listed = CliRunner().invoke(main, ["model", "list", "--home", str(home)]).stdout
    assert f"confirmation {finished.outcome.published.score:.4f}" in listed


def test_records_and_scores_travel(finished: Finished, exported: Path, tmp_path: Path) -> None:
    there = import_model(exported, tmp_path / "home").registered
    here = Registry(TrackingStore(Home(finished.home))).find("sample")
    stores = [TrackingStore(Home(folder)) for folder in (finished.home, tmp_path / "home")]
    one, other = (find_trial(store, item.run_id) for store, item in zip(stores, (here, there), strict=True))
    assert one is not None
    assert other is not None
    assert (one.record, one.confirmation, one.validation) == (other.record, other.confirmation, other.validation)
    assert study_of(stores[0], here.run_id) == study_of(stores[1], there.run_id)
    how = one.record.metrics[one.record.objective].summary
    resampled = [stored_summaries(store, item.run_id, how) for store, item in zip(stores, (here, there), strict=True)]
    assert resampled[0] is not None
    assert resampled[1] is not None
    np.testing.assert_array_equal(resampled[0].resampled, resampled[1].resampled)
    (row,) = collect(Home(tmp_path / "home"))
    assert (row.home, row.registered, row.champion) == (Home(finished.home).id, "sample v1", True)
    assert row.study_record is not None
    again = export_model("sample", tmp_path / "again.img2brain.zip", tmp_path / "home")
    with zipfile.ZipFile(again) as first, zipfile.ZipFile(exported) as second:
        same = {name for name in first.namelist() if name.startswith(("model/", "run/"))}
        assert all(first.read(name) == second.read(name) for name in same)
        assert same == {name for name in second.namelist() if name.startswith(("model/", "run/"))}


def test_a_file_is_loaded_without_a_home(
    finished: Finished, exported: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = find_images(recordings / "testIMG")
    expected = load_model("sample", finished.home).predict(pictures)
    np.testing.assert_array_equal(load_model(str(exported)).predict(pictures), expected)
    assert list(tmp_path.iterdir()) == []


def test_a_file_names_its_weights_in_place_of_them(
    finished: Finished, exported: Path, recordings: Path, tmp_path: Path
) -> None:
    named, home = tmp_path / "named.img2brain.zip", str(finished.home)

    def run(*args: object) -> str:
        result = CliRunner().invoke(main, ["model", *map(str, args)], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    run("export", "sample", named, "--without-weights", "--home", home)
    with zipfile.ZipFile(named) as file, zipfile.ZipFile(exported) as whole:
        assert {*whole.namelist()} - {*file.namelist()} == {"model/network.safetensors"}
    run("import", named, "--home", tmp_path / "empty")
    images = recordings / "testIMG"
    found = load_model("sample", tmp_path / "empty").predict(images)
    np.testing.assert_allclose(found, load_model("sample", home).predict(images), atol=1e-5)
    refused = CliRunner().invoke(
        main, ["model", "export", "sample", str(tmp_path / "a.onnx"), "--without-weights", "--home", home]
    )
    assert refused.exit_code == 2
    assert "A file without weights must end in .img2brain.zip." in refused.output


def test_weights_that_a_file_names_are_had_from_a_checkpoint(exported: Path, tmp_path: Path) -> None:
    model = load_model(str(exported))
    torch.save(load_backbone(model.network["backbone"], "random:0").network.state_dict(), tmp_path / "mine.pth")
    folder = tmp_path / "saved"
    replace(model, network={**model.network, "weights": "mine.pth"}).save(folder)
    file = export_model(str(folder), tmp_path / "named.img2brain.zip", weights="reference")
    with pytest.raises(ModelError, match="name it"):
        import_model(file, tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
    assert import_model(file, tmp_path / "empty", weights=tmp_path / "mine.pth").is_new


def test_a_saved_model_without_records_is_moved_once(
    finished: Finished, exported: Path, recordings: Path, tmp_path: Path
) -> None:
    load_model("sample", finished.home).save(tmp_path / "saved")
    edited("model.json", about__unit="mV")(tmp_path / "saved")
    sealed.seal(tmp_path / "saved")
    file = export_model(str(tmp_path / "saved"), tmp_path / "saved.img2brain.zip")
    home = tmp_path / "home"
    import_model(exported, home)
    found, again = (import_model(file, home) for _ in range(2))
    assert (found.origin, found.is_new, found.is_champion) == ("no home, sample", True, False)
    assert found.reason == BY_HAND
    assert (again.registered.version, again.is_new) == (found.registered.version, False) == ("2", False)
    pictures = find_images(recordings / "testIMG")
    expected = load_model("sample", finished.home).predict(pictures)
    np.testing.assert_array_equal(load_model("sample/2", home).predict(pictures), expected)
    assert [row.registered for row in collect(Home(home))] == ["sample v1"]


def test_an_imported_model_takes_no_crown_by_what_its_records_claim(
    exported: Path, make_spec: MakeSpec, new_home: NewHome, tmp_path: Path
) -> None:
    boasting = tmp_path / "boasting.img2brain.zip"
    with opened_up(exported, boasting) as folder:
        for path in (folder / "run" / "confirmation").glob("summaries_[er]*.npy"):
            if "regions" not in path.name:
                np.save(path, np.load(path) + 1.5)
    home = new_home("other", warm=True)
    assert run_study(make_spec(trials=2), home).published is not None
    found = import_model(boasting, home)
    assert (found.registered.version, found.is_champion, found.reason) == ("2", False, BY_HAND)
    whose = {row.registered: row.origin for row in collect(Home(home)) if row.registered}
    assert (whose["sample v1"], whose["sample v2"][:5]) == ("", "home ")
    assert import_model(boasting, home).reason == f"decided before: {BY_HAND}"
    assert Registry(TrackingStore(Home(home))).find("sample").version == "1"
    assert crown_model("sample/2", home).startswith("by hand")
    assert Registry(TrackingStore(Home(home))).find("sample").version == "2"


@pytest.mark.slow
def test_a_study_of_the_home_goes_on_beside_an_imported_trial_of_its_own(
    finished: Finished, exported: Path, finished_copy: Path, make_spec: MakeSpec
) -> None:
    store = TrackingStore(Home(finished_copy))
    before = Registry(store).find("sample")
    store.client.delete_run(before.run_id)
    found = import_model(exported, finished_copy)
    assert found.registered.run_id != before.run_id
    outcome = run_study(make_spec(), finished_copy)
    assert [trial.score for trial in outcome.trials] == [trial.score for trial in finished.outcome.trials]


def test_it_goes_to_a_name_and_back_to_its_home(finished_copy: Path, exported: Path) -> None:
    assert not import_model(exported, finished_copy).is_new
    found = import_model(exported, finished_copy, "another-name")
    assert (found.registered.name, found.registered.version, found.is_new) == ("another-name", "1", True)
    assert len(collect(Home(finished_copy), "sample")) == len(collect(Home(finished_copy)))


def test_a_model_of_an_older_format_moves(old_home: OldHome, tmp_path: Path) -> None:
    file = export_model("recordings", tmp_path / "old.img2brain.zip", old_home.home)
    found = import_model(file, tmp_path / "new")
    assert found.is_champion
    (row,) = collect(Home(tmp_path / "new"))
    assert row.confirmed is not None
    features = np.random.default_rng(0).standard_normal((3, 5))
    np.testing.assert_array_equal(
        load_model("recordings", tmp_path / "new").predict(features),
        load_model("recordings", old_home.home).predict(features),
    )
    assert not import_model(file, tmp_path / "new").is_new


def test_a_model_of_given_features_that_keeps_responses_is_told_of(
    given_study: Path, new_home: NewHome, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = new_home()
    run_study(load_study(given_study).model_copy(update={"regressors": (RegressorSpec(name="k_neighbors"),)}), home)
    file = export_model("rows", tmp_path / "rows.img2brain.zip", home)
    assert f"{file} holds the responses that its k_neighbors was fitted to." in caplog.messages
    other = new_home("other")
    import_model(file, other)
    features = np.random.default_rng(0).standard_normal((3, 5))
    np.testing.assert_array_equal(
        load_model("rows", other).predict(features), load_model("rows", home).predict(features)
    )


REFUSED: dict[str, tuple[Change, str]] = {
    "future origin": (edited("origin.json", format=2), "a larger one is of a newer version of img2brain"),
    "unknown key": (edited("origin.json", command="rm"), "command"),
    "future model": (edited("model/model.json", format=99), "is not the file that the model was saved with"),
    "future record": (edited("run/record.json", format=99), "a larger one is of a newer version of img2brain"),
    "name": (edited("origin.json", name="../../evil"), "name"),
    "home": (edited("origin.json", home="'; DROP TABLE"), "home"),
    "tag of ours": (edited("origin.json", tags={"img2brain.crowned": "yes"}), "must be for people"),
    "tag that acts": (edited("origin.json", tags={"a": "\x1b[2J"}), "printable"),
    "long tag": (edited("origin.json", tags={"a": "b" * 6000}), "5000"),
    "other trial": (edited("run/record.json", number=17), "must be of trial 17"),
    "no home": (edited("run/record.json", home=""), "must be of a finished trial of a home"),
    "other spec": (edited("run/record.json", spec__n_components=9), "must be of the trial whose records it comes with"),
    "study with a quote": (edited("run/record.json", study="a' or '1'='1"), "must have a plain name"),
    "dataset": (edited("run/record.json", dataset__name="a/../b"), "must have a plain name"),
    "failed": (edited("run/record.json", metrics={}), "must be of a finished trial"),
    "no text": (lambda folder: (folder / "origin.json").write_bytes(b"\xff\xfe"), "must be a origin record in JSON"),
    "deep": (lambda folder: (folder / "run/record.json").write_text("[" * 90_000), "nested at most 100 deep"),
    "more": (lambda folder: (folder / "flavor.py").write_text("boom"), "It holds 'flavor.py'"),
    "more in the model": (lambda folder: (folder / "model/x.py").write_text("boom"), "x.py is no file of the model"),
    "more in the run": (lambda folder: (folder / "run/x.py").write_text("boom"), "It holds 'x.py'"),
    "no model": (lambda folder: (folder / "model/model.json").unlink(), "It holds no 'model/model.json'"),
    "pickle": (
        lambda folder: np.save(folder / "run/accuracy.npy", np.array([{}], dtype=object), allow_pickle=True),
        "must be a .npy file of plain numbers",
    ),
    "header of 10 GB": (
        lambda folder: (folder / "model/pca.safetensors").write_bytes((10 << 30).to_bytes(8, "little") + b"{}"),
        "Got a header of 10737418240 in 10 bytes",
    ),
    "no seal of the model": (lambda folder: (folder / "model/digests.json").unlink(), "digests.json is not there"),
}


def resealed(*changes: Change) -> Change:
    """Change a model and seal it anew, as whoever can change a file can."""

    def change(folder: Path) -> None:
        for item in changes:
            item(folder)
        sealed.seal(folder / "model")

    return change


REFUSED |= {
    f"resealed: {what}": (resealed(edited("model/model.json", **changes)), message)
    for what, changes, message in (
        ("future model", {"format": 99}, "the format of a model must be"),
        ("voxels", {"about__n_voxels": 19}, "the region 'IT' must hold voxels of 0..18"),
        ("no voxels", {"about": {}}, "(must hold a|holds no) whole model"),
        ("voxels are a list", {"about__n_voxels": []}, "(must hold a|holds no) whole model"),
        ("network", {"network": []}, "must have the keys"),
        ("options", {"network__options": {"boom": 1}}, "whole model|must"),
        ("backbone", {"network__backbone": "evil.py:Library:net"}, "is not known here"),
        ("path", {"plugins": {"regressor": {"name": "../../x.py:Evil", "digest": ".."}}, "linear": False}, "is needed"),
        ("presentation", {"presentation": {"boom": 1}}, "boom"),
        ("probe", {"probe": [0.0] * 8}, "is not what this model was saved with"),
        ("layer", {"network__layer": "nowhere"}, "nowhere"),
        ("huge", {"network__preprocessing__resize": [10**7, 10**7]}, "."),
    )
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_whole_model_is_refused_and_nothing_is_written(exported: Path, tmp_path: Path, what: str) -> None:
    change, message = REFUSED[what]
    with opened_up(exported, tmp_path / "bad.img2brain.zip") as folder:
        change(folder)
    with pytest.raises(Img2BrainError, match=message) as caught:
        import_model(tmp_path / "bad.img2brain.zip", tmp_path / "home")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert tempfile.gettempdir() not in str(caught.value).replace(str(tmp_path), "")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.img2brain.zip"]


def test_a_file_that_is_packed_is_refused_as_a_bomb_would_be(exported: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.img2brain.zip"
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(Img2BrainError, match="must unpack to at most 1 times its size"):
        load_model(str(packed))


def test_other_numbers_under_the_name_of_a_trial_that_is_here_are_refused(
    finished_copy: Path, exported: Path, tmp_path: Path
) -> None:
    before = Registry(TrackingStore(Home(finished_copy))).versions()
    with opened_up(exported, tmp_path / "record.img2brain.zip") as folder:
        edited("run/record.json", note="better")(folder)
    with opened_up(exported, tmp_path / "model.img2brain.zip") as folder:
        resealed(edited("model/model.json", about__unit="mV"))(folder)
    for name, message in (("record", "It says something else"), ("model", "must be those of this model")):
        with pytest.raises(Img2BrainError, match=message):
            import_model(tmp_path / f"{name}.img2brain.zip", finished_copy)
    assert Registry(TrackingStore(Home(finished_copy))).versions() == before


def test_the_command_line_refuses_on_one_line(exported: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.img2brain.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("../../evil", "x")
    (tmp_path / "empty.img2brain.zip").touch()
    home = tmp_path / "home"
    for words, message in (
        (("import", bad), "'../../evil' must be a plain relative name"),
        (("import", tmp_path / "empty.img2brain.zip"), "must be a zip file"),
        (("import", tmp_path / "absent.img2brain.zip"), "must exist"),
        (("import", exported, "--as", "a b/c"), "must be of letters, digits"),
        (("export", "sample", tmp_path / "x.img2brain.zip"), "There is no home"),
    ):
        ended = CliRunner().invoke(main, ["model", *map(str, words), "--home", str(home)])
        assert ended.exit_code == 2
        assert message in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
    assert not home.exists()


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_refused_or_equal(exported: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(exported.read_bytes())
    place = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) - 3000, len(content) - 1)))
    content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    file = tmp_path / "mutated.img2brain.zip"
    file.write_bytes(content)
    try:
        with model_file.unpacked(file) as folder:
            found = model_file.digest_of(folder / "model")
    except Img2BrainError:
        return
    with model_file.unpacked(exported) as folder:
        assert found == model_file.digest_of(folder / "model")


def test_a_file_of_the_first_format_is_imported_and_predicts_the_same(tmp_path: Path) -> None:
    file = Path(__file__).with_name("fixtures") / "model-file-1.img2brain.zip"  # never written again
    found = import_model(file, tmp_path / "home")
    assert (found.origin, found.registered.name) == ("home 6d88c364, rows/1", "rows")
    expected = [
        [-0.016731467, 0.056240797, 0.219611973, -0.010565955],
        [0.034844063, 0.012333289, 0.268854111, -0.084411316],
        [0.052600231, -0.001965241, 0.285805583, -0.110491842],
        [0.046270400, 0.028532637, 0.279719502, -0.121615335],
        [0.025434747, 0.024612390, 0.259863257, -0.074370980],
    ]
    np.testing.assert_allclose(load_model("rows", tmp_path / "home").predict(np.eye(5)), expected, atol=1e-5)
    (row,) = collect(Home(tmp_path / "home"))
    assert row.confirmed is not None
    assert row.registered == "rows v1"
