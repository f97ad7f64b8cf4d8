"""What MLflow's page of an experiment opens on: its runs, the best first, with their scores as columns.

A fresh browser would open on the pages of language models, and show no score. The page takes a view that is stored as
a tag of the experiment, and named in the address.
"""

from __future__ import annotations

import json
from typing import Any

from img2brain.errors import RecordError
from img2brain.home import Home
from img2brain.records import TrialRecord
from img2brain.tracking._local import open_to_read
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.names import component_name
from img2brain.tracking.reading import finished_runs, read_trial

_VIEW = "img2brain"
_TAG = f"mlflow.sharedViewState.{_VIEW}"
_PARAMETERS = ("backbone", "weights", "layer", "n_components", "regressor")


def show_scores(home: Home) -> dict[str, str]:
    """Store the view of each experiment that has finished trials, and return where each is shown, by name.

    Parameters
    ----------
    home : Home
        Its own database takes the views, made where it is not there.

    Returns
    -------
    dict of str to str
        What stands behind the server's address.
    """
    store, runs = TrackingStore(home), open_to_read(home)
    with answering(store.uri):
        experiments = {item.name: item.experiment_id for item in store.client.search_experiments()}
    found = {name: _trial(runs, name) for name in sorted(experiments)}
    pages = {}
    for name, trial in found.items():
        if trial is not None:
            store.client.set_experiment_tag(experiments[name], _TAG, json.dumps(view_of(trial)))
            pages[name] = f"#/experiments/{experiments[name]}/runs?viewStateShareKey={_VIEW}"
    return pages


def view_of(trial: TrialRecord) -> dict[str, Any]:
    """Return the view of an experiment whose trials are scored as this one."""
    objective = component_name(trial.objective)
    validation = f"metrics.`{objective}/{trial.metrics[trial.objective].summary}`"
    confirmation = [f"metrics.`confirmation/{objective}{end}`" for end in ("", "/low", "/high")]
    return {
        "orderByKey": validation,
        "orderByAsc": False,
        "selectedColumns": [validation, *confirmation, *(f"params.`{name}`" for name in _PARAMETERS)],
    }


def _trial(store: TrackingStore, experiment: str) -> TrialRecord | None:
    """Return the record of the latest finished trial that has one."""
    for run in reversed(finished_runs(store, experiment)):
        try:
            record = read_trial(store, run).record
        except RecordError:
            continue
        if record.metrics:
            return record
    return None
