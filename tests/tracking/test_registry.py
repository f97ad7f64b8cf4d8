from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from img2brain.errors import ModelError
from img2brain.home import Home
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import find_trial
from img2brain.tracking.registry import Registry

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
    assert names == {"model.json", "network.safetensors", "pca.safetensors", "regressor.safetensors"}


def test_the_model_lies_in_the_home(registry: Registry, finished: Finished) -> None:
    client = TrackingStore(Home(finished.home)).client
    (logged,) = client.search_logged_models([client.get_experiment_by_name("sample").experiment_id])
    assert logged.artifact_location.startswith((finished.home / "artifacts").as_uri())
    assert logged.source_run_id == registry.find("sample").run_id
    assert str(logged.status) == "READY"
