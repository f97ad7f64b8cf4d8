from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from img2brain import sealed
from img2brain.errors import ModelError
from img2brain.home import Home
from img2brain.registered import load_model
from img2brain.tracking._store import TrackingStore
from img2brain.tracking._uri import local_folder
from img2brain.tracking.reading import find_trial
from img2brain.tracking.registry import Registry
from tests.test_model import FILES, damages

if TYPE_CHECKING:
    from tests.conftest import Finished


@pytest.fixture(scope="module")
def registry(finished: Finished) -> Registry:
    return Registry(TrackingStore(Home(finished.home)))


def test_the_first_model_is_the_champion(registry: Registry, finished: Finished) -> None:
    (found,) = registry.versions()
    assert (found.name, found.version, found.aliases) == ("sample", "1", ("champion",))
    trial = find_trial(TrackingStore(Home(finished.home)), found.run_id)
    assert trial is not None
    assert trial.record.number == finished.outcome.best.number
    assert trial.confirmation == finished.outcome.published.confirmation
    assert registry.champion("sample") == found
    assert registry.champion("another") is None


@pytest.mark.parametrize("reference", ["sample", "sample@champion", "sample/1", "models:/sample/1"])
def test_a_model_has_several_names(registry: Registry, reference: str) -> None:
    assert registry.find(reference).version == "1"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("smaple", r"No model is registered as 'smaple'\. Did you mean 'sample'\?"),
        ("sample/2", r"The model 'sample' has no version 2\. It has version 1\."),
        ("sample@best", r"The model 'sample' has no alias 'best'\. It has version 1\."),
        ("sample/../../etc", r"The model 'sample' has no version \.\./\.\./etc\."),
        ("' OR 1=1 --", r"No model is registered as \"' OR 1=1 --\"\."),
        ("", r"No model is registered as ''\."),
    ],
)
def test_what_is_not_there_is_told_with_what_is(registry: Registry, reference: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        registry.find(reference)


def test_the_files_of_a_version_are_handed_out(registry: Registry) -> None:
    with registry.files(registry.find("sample")) as folder:
        names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "accuracy.svg", "digests.json", "golden", "model.json", *FILES}


def test_the_model_lies_in_the_home(registry: Registry, finished: Finished) -> None:
    client = TrackingStore(Home(finished.home)).client
    (logged,) = client.search_logged_models([client.get_experiment_by_name("sample").experiment_id])
    assert logged.artifact_location.startswith((finished.home / "artifacts").as_uri())
    assert logged.source_run_id == registry.find("sample").run_id
    assert str(logged.status) == "READY"


def test_a_byte_a_file_more_or_a_file_less_beside_a_registered_model_is_refused_by_name(finished_copy: Path) -> None:
    store = TrackingStore(Home(finished_copy))
    item = Registry(store).find("sample")
    folder = local_folder(store.client.get_model_version_download_uri(item.name, item.version))
    assert folder is not None
    (folder / "registered_model_meta").unlink(missing_ok=True)  # MLflow's, which nothing reads
    seen = set()
    for name, message in damages(folder):
        seen.add(name)
        with pytest.raises(ModelError, match=message) as caught:
            load_model("sample", finished_copy)
        assert "\n" not in str(caught.value)
        if name != sealed.SEAL:
            assert name in str(caught.value)
    assert seen > {"MLmodel", "flavor.py", "requirements.txt", "artifacts/model/model.json", sealed.SEAL}
    load_model("sample", finished_copy)
    (folder / "flavor.py").write_text("raise SystemExit")
    sealed.seal(folder)
    with pytest.raises(ModelError, match=r"digests\.json is not the file that the model was saved with"):
        load_model("sample", finished_copy)


def test_a_version_of_before_folders_were_sealed_is_loaded(finished_copy: Path) -> None:
    store = TrackingStore(Home(finished_copy))
    item = Registry(store).find("sample")
    store.client.delete_model_version_tag(item.name, item.version, "img2brain.digest")
    folder = local_folder(store.client.get_model_version_download_uri(item.name, item.version))
    assert folder is not None
    (folder / "requirements.txt").write_text("")
    assert load_model("sample", finished_copy).about["dataset"] == "sample"


@pytest.mark.slow
def test_what_mlflow_leaves_beside_a_model_that_it_loaded_is_no_damage(finished_copy: Path) -> None:
    script = (
        "import mlflow, sys\nmlflow.set_tracking_uri(sys.argv[1])\n"
        "mlflow.pyfunc.load_model('models:/sample@champion')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    uri = f"sqlite:///{finished_copy / 'mlflow.db'}"
    TrackingStore(Home(finished_copy))
    subprocess.run([sys.executable, "-c", script, uri], env=environment, check=True, capture_output=True)
    assert list((finished_copy / "artifacts" / "models").rglob("registered_model_meta"))
    assert load_model("sample", finished_copy).about["dataset"] == "sample"
