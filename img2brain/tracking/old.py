"""Runs of the first format, which have no records: what MLflow's strings say of them, as records.

Nothing writes this format any more. It is read where a run has no ``record.json``, and nowhere else.

That format logged numbers under MLflow's names, in which every character of a region's name that MLflow does not take
had become ``_``. The true names are in the ``regions.json`` of the study. Regions that became one are left out: nothing
tells whose the number is.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from img2brain.errors import RecordError
from img2brain.records import (
    Against,
    CeilingRecord,
    CodeRecord,
    ConfirmationRecord,
    DatasetRecord,
    Estimate,
    MetricRecord,
    NetworkRecord,
    PartRecord,
    RegionRecord,
    RowsRecord,
    StudyRecord,
    TrialRecord,
)
from img2brain.records.confirmation import CONFIRMATION, VALIDATION
from img2brain.spec import TrialSpec
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import PARENT, STUDY, TRIAL

_ROWS, _DATASET, _NOTE = "img2brain.rows", "img2brain.dataset", "img2brain.note"
_FAILURE = "img2brain.failure"
_CONFIRMATION, _CEILING = "img2brain.confirmation", "img2brain.ceiling"
_REGIONS, _WHOLE, _CONFIRMED = "regions.json", "", "confirmation_"
_OBJECTIVE, _LABEL = "pearson", "Pearson r"
_SUMMARIES = ("median", "q05", "q25", "q75", "q95", "mean", "max")  # logged as NAME_r
_COUNTS = {"n_voxels": "n_voxels", "n_undefined": "n_undefined", "n_constant": "n_silent"}  # by their names now
_SPEC = ("backbone", "weights", "weights_digest", "preprocessing", "layer", "regressor")
_SHARED = (  # parameters of a run that are none of its regressor
    *_SPEC,
    *("n_components", "trained", "study", "sampler", "seed", "split", "folds", "dataset_digest", "split_digest"),
    *("n_train", "n_validation", "n_confirmation", "precision"),
)

Numbers = Mapping[str, float]
ByRegion = Mapping[str, Numbers]
Regions = Mapping[str, list[int]]


def records_of(
    store: TrackingStore, run: Any
) -> tuple[TrialRecord, ConfirmationRecord | None, ConfirmationRecord | None]:
    """Return what is known of a trial: its record, its confirmation and the intervals of its own score.

    Raises
    ------
    RecordError
        If the run is none of this format.
    """
    with _of_this_format(run):
        regions = _regions(store, run.data.tags.get(PARENT, ""))
        numbers = _by_region(run.data.metrics, regions)
        trial = _trial(run, numbers, regions, _parameters(store, run))
        parts = (_confirmed(run, numbers, regions), _validated(trial, numbers, regions))
        confirmation, validation = (_record(trial, part) if part else None for part in parts)
        return trial, confirmation, validation


def study_of(store: TrackingStore, run: Any) -> StudyRecord:
    """Return what is known of a study.

    Raises
    ------
    RecordError
        If the run is none of this format.
    """
    with _of_this_format(run):
        values, tags = run.data.params, run.data.tags
        return StudyRecord(
            name=tags[STUDY],
            dataset=_dataset(values, _logged_dataset(run)),
            rows=_rows(values, tags),
            code=_code(tags),
            sampler=values["sampler"],
            seed=int(values["seed"]),
            precision=values.get("precision", ""),
            regions={name: tuple(voxels) for name, voxels in _regions(store, run.info.run_id).items()},
        )


@contextmanager
def _of_this_format(run: Any) -> Iterator[None]:
    """Say in one line which run was made by something else."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        found = "other values" if isinstance(error, ValidationError) else repr(error)
        raise RecordError(
            f"The run {run.info.run_id} must hold a record, or be of the first format. Got: {found}."
        ) from error


def _trial(run: Any, numbers: ByRegion, regions: Regions, parameters: Mapping[str, Any]) -> TrialRecord:
    values, tags, whole = run.data.params, run.data.tags, numbers[_WHOLE]
    failure = tags.get(_FAILURE, "")
    return TrialRecord(
        study=tags[STUDY],
        number=int(tags[TRIAL]),
        spec=TrialSpec(
            **{name: values[name] for name in _SPEC}, n_components=int(values["n_components"]), parameters=parameters
        ),
        dataset=_dataset(values, {"n_voxels": whole.get("n_voxels", 0)} | json.loads(tags[_DATASET])),
        rows=_rows(values, tags),
        network=NetworkRecord(digest="", trained=values["trained"], precision=values.get("precision", "")),
        code=_code(tags),
        objective=_OBJECTIVE,
        metrics={} if failure else {_OBJECTIVE: _scored(numbers, regions)},
        n_unconverged=int(whole.get("n_unconverged", 0)),
        timings={name: value for name, value in whole.items() if name.endswith("_s")},
        failure=failure,
        note=tags.get(_NOTE, ""),
    )


def _scored(numbers: ByRegion, regions: Regions) -> MetricRecord:
    of_regions = {
        name: {"median": found["median_r"], "n_voxels": float(len(regions[name]))}
        for name, found in numbers.items()
        if name != _WHOLE and "median_r" in found
    }
    whole = _summary(numbers[_WHOLE]) | {"median": numbers[_WHOLE]["median_r"]}
    return MetricRecord(label=_LABEL, whole=whole, regions=of_regions)


def _record(trial: TrialRecord, part: tuple[str, PartRecord]) -> ConfirmationRecord:
    name, found = part
    return ConfirmationRecord(
        study=trial.study,
        number=trial.number,
        objective=_OBJECTIVE,
        label=_LABEL,
        validation=trial.score,
        parts={name: found},
    )


def _confirmed(run: Any, numbers: ByRegion, regions: Regions) -> tuple[str, PartRecord] | None:
    """Return what the confirmation rows say, where it was logged to its end: the tag that names them came last."""
    own = {
        region: {name.removeprefix(_CONFIRMED): value for name, value in found.items() if name.startswith(_CONFIRMED)}
        for region, found in numbers.items()
    }
    tags, whole = run.data.tags, own[_WHOLE]
    if "median_r" not in whole or _CONFIRMATION not in tags:
        return None
    return CONFIRMATION, PartRecord(
        rows=tags[_CONFIRMATION],
        n_images=int(run.data.params["n_confirmation"]),
        ceiling=tags.get(_CEILING, "none"),
        looks=int(whole.get("count", 1)),
        whole=_region(whole, int(whole["n_voxels"])),
        regions={name: _region(found, len(regions[name])) for name, found in own.items() if name != _WHOLE and found},
    )


def _validated(trial: TrialRecord, numbers: ByRegion, regions: Regions) -> tuple[str, PartRecord] | None:
    """Return the intervals of a trial's own score, which the best one has where there are no confirmation rows."""
    if "low" not in numbers[_WHOLE]:
        return None
    return VALIDATION, PartRecord(
        rows=trial.rows.digest,
        n_images=trial.rows.n_validation,
        whole=_region(numbers[_WHOLE], int(numbers[_WHOLE]["n_voxels"])),
        regions={
            name: _region(found, len(regions[name]))
            for name, found in numbers.items()
            if name != _WHOLE and "low" in found
        },
    )


def _region(own: Numbers, n_voxels: int) -> RegionRecord:
    score = Estimate(estimate=own["median_r"], low=own.get("low", math.nan), high=own.get("high", math.nan))
    found = (re.fullmatch(r"control_(.+)_difference", name) for name in own)
    controls = {match[1]: _against(own, match[0].removesuffix("_difference")) for match in found if match}
    n_significant = own.get("n_significant")
    return RegionRecord(
        n_voxels=n_voxels,
        score=score,
        summaries={_OBJECTIVE: _summary(own) | {"n_voxels": float(n_voxels)}},
        n_significant=None if n_significant is None else int(n_significant),
        ceiling=_ceiling(own),
        controls=controls,
        best_layer=_against(own, "best_layer") if "best_layer_difference" in own else None,
    )


def _against(own: Numbers, name: str) -> Against:
    ends = zip(("estimate", "low", "high"), ("", "_low", "_high"), strict=True)
    difference = Estimate(**{end: own[f"{name}_difference{suffix}"] for end, suffix in ends})
    return Against(score=own[f"{name}_median_r"], difference=difference)


def _ceiling(own: Numbers) -> CeilingRecord | None:
    if "ceiling_median_r" not in own:
        return None
    return CeilingRecord(
        score=own["ceiling_median_r"],
        normalised=own["normalised_median_r"],
        explained=own["explained_share"],
        n_unreliable=int(own["n_unreliable"]),
        n_above=int(own["n_above_ceiling"]),
    )


def _summary(own: Numbers) -> dict[str, float]:
    found = {name: own[f"{name}_r"] for name in _SUMMARIES if f"{name}_r" in own}
    return found | {name: own[old] for name, old in _COUNTS.items() if old in own}


def _dataset(values: Mapping[str, str], facts: Mapping[str, Any]) -> DatasetRecord:
    n_rows = sum(int(values[name]) for name in ("n_train", "n_validation", "n_confirmation"))
    return DatasetRecord(
        name=facts["name"],
        digest=values["dataset_digest"],
        source=facts.get("source", ""),
        unit=facts.get("unit", ""),
        n_images=int(facts.get("n_images", n_rows)),
        n_voxels=int(facts["n_voxels"]),
    )


def _logged_dataset(run: Any) -> dict[str, Any]:
    """Read what a study logged as MLflow's dataset; its tags do not tell."""
    dataset = run.inputs.dataset_inputs[0].dataset
    return {"name": dataset.name, "source": dataset.source, **json.loads(dataset.profile)}


def _rows(values: Mapping[str, str], tags: Mapping[str, str]) -> RowsRecord:
    return RowsRecord(
        digest=tags[_ROWS],
        split=values["split_digest"],
        text=values.get("split", ""),
        folds=int(values.get("folds", 1)),
        n_train=int(values["n_train"]),
        n_validation=int(values["n_validation"]),
        n_confirmation=int(values["n_confirmation"]),
    )


def _code(tags: Mapping[str, str]) -> CodeRecord:
    names = ("img2brain.version", "img2brain.code_digest", "mlflow.source.git.commit")
    version, digest, commit = (tags.get(name, "") for name in names)
    return CodeRecord(version=version, digest=digest, commit=commit)


def _parameters(store: TrackingStore, run: Any) -> dict[str, Any]:
    """Read the regressor's own parameters; of one that MLflow cut off the file of the model tells them all."""
    own = {name: text for name, text in run.data.params.items() if name not in _SHARED}
    try:
        return {name: ast.literal_eval(text) for name, text in own.items()}
    except (SyntaxError, ValueError):
        text = store.text(run, "model/regressor.json")
        if text is None:
            raise
        found: dict[str, Any] = json.loads(text)["parameters"]
        return found


def _by_region(metrics: Numbers, regions: Regions) -> dict[str, dict[str, float]]:
    """Sort metrics by the region that they are of, under its true name; over all voxels under the name ``""``."""
    found: dict[str, dict[str, float]] = {_WHOLE: {}}
    true_names = {_WHOLE: _WHOLE} | _true_names(regions)
    for name, value in metrics.items():
        region, _, own = name.rpartition("/")
        if region in true_names:
            found.setdefault(true_names[region], {})[own] = value
    return {name: found[name] for name in (_WHOLE, *regions) if name in found}


def _true_names(regions: Regions) -> dict[str, str]:
    """Map the names that metrics have to those of the regions, where one region alone has such a name."""
    replaced = {name: _metric_name(name) for name in regions}
    n_alike = Counter(replaced.values())
    return {old: name for name, old in replaced.items() if n_alike[old] == 1}


def _metric_name(text: str) -> str:
    return re.sub(r"[^\w\-. ]", "_", text, flags=re.ASCII)


@lru_cache(maxsize=64)
def _regions(store: TrackingStore, parent: str) -> Regions:
    """Read the regions of a study of this format, which never change; once, for all of its trials."""
    text = store.text(store.client.get_run(parent), _REGIONS) if parent else None
    regions: dict[str, list[int]] = json.loads(text) if text else {}
    return regions
