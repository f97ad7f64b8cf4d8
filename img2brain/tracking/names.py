"""What runs are found by, and what MLflow's pages show: names of tags, files, parameters and metrics.

Tags find runs. Parameters and metrics are a mirror of the records for MLflow's pages; nothing reads them back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from img2brain import digest
from img2brain.records import ConfirmationRecord, StudyRecord, TrialRecord
from img2brain.records.confirmation import CONFIRMATION as UNNAMED
from img2brain.records.confirmation import VALIDATION as SEARCHED

PARENT = "mlflow.parentRunId"
MEMBER = "img2brain.member"  # of a trial and its study, where it has several
KIND, STUDY, TRIAL, HOME = "img2brain.kind", "img2brain.study", "img2brain.trial", "img2brain.home"
IMPORTED, IMPORTED_BY = "img2brain.imported", "img2brain.imported-by"  # of a run: where it comes from; the home
WORKER = "img2brain.worker"  # of a trial: who tracked it
ORIGIN = "img2brain.origin"  # of a study: where its data were read from, as a digest
RECORD, CONFIRMATION, VALIDATION = "record.json", "confirmation.json", "validation.json"
FEATURES = "img2brain features"  # the experiment of what machines leave for one another
FINISHED_TRIALS = f"tags.`{KIND}` = 'trial' and attributes.status = 'FINISHED'"
MEMBERS = "members"  # the folder of what is joint over members

_LONGEST = 6000  # characters of a parameter
_LONGEST_NAME = 90  # characters of a part of a metric's name, which has at most 250


def region_name(name: str) -> str:
    """Make the name of a region one that MLflow takes, so that no two become one; a long one ends in its digest.

    Examples
    --------
    >>> region_name("V1 left"), region_name("左V1")
    ('V1 left', '.5de6.V1')
    """
    escaped = re.sub(r"[^A-Za-z0-9_\- ]", lambda found: f".{ord(found[0]):x}.", name)
    if len(escaped) <= _LONGEST_NAME:
        return escaped
    named = digest.of_bytes(name.encode("utf-8", "surrogatepass"))[: digest.SHORT]
    return f"{escaped[: _LONGEST_NAME - len(named) - 3]}.h{named}."  # no escape has an h


def trial_parameters(record: TrialRecord) -> dict[str, str]:
    """Mirror what was tried: the regressor's own parameters under its name, such as ``ridge.alpha``."""
    spec = record.spec.model_dump(mode="json", exclude={"parameters"})
    own = {f"{record.spec.regressor}.{name}": value for name, value in record.spec.parameters.items()}
    facts = {
        "trained": record.network.trained,
        "precision": record.network.precision,
        "study": record.study,
        "objective": record.objective,
        "data.digest": record.dataset.digest,
        "rows.digest": record.rows.digest,
    }
    return _as_text({**spec, **own, **facts})


def study_parameters(record: StudyRecord) -> dict[str, str]:
    """Mirror what all trials of a study share."""
    rows = record.rows
    facts = {
        "study": record.name,
        "sampler": record.sampler,
        "seed": record.seed,
        "metrics": ", ".join(record.metrics),
        "precision": record.precision,
        "data.digest": record.dataset.digest,
        "rows.digest": rows.digest,
        "rows.split": rows.text,
        "rows.folds": rows.folds,
        "rows.n_train": rows.n_train,
        "rows.n_validation": rows.n_validation,
        "rows.n_confirmation": rows.n_confirmation,
    }
    if rows.ties is not None:
        facts |= {"rows.n_tied": rows.ties.n_images, "rows.n_left_out": sum(rows.ties.left_out.values())}
    return _as_text(facts)


def trial_metrics(record: TrialRecord) -> dict[str, float]:
    """Mirror what was scored: ``pearson/median``, ``pearson/V1/median``, ``time/fit_s``."""
    found = {f"time/{name}": value for name, value in record.timings.items()}
    for name, metric in record.metrics.items():
        found |= _summaries(component_name(name), metric.whole, metric.regions)
    return found | ({"n_unconverged": float(record.n_unconverged)} if record.metrics else {})


def confirmation_metrics(record: ConfirmationRecord) -> dict[str, float]:
    """Mirror what rows say of a model: ``confirmation/pearson``, ``confirmation/pearson/V1/low``.

    Of a part that was named ``confirmation/ood/pearson``; the one that ranks stands in the usual place, too.
    """
    found: dict[str, float] = {}
    folders = {part_folder(part): rows for part, rows in record.parts.items()}
    folders |= {UNNAMED: record.confirmed} if record.confirmed else {}
    for folder, rows in folders.items():
        first = f"{folder}/{component_name(record.objective)}"
        for region, item in {"": rows.whole, **rows.regions}.items():
            prefix = f"{first}/{region_name(region)}" if region else first
            found |= {prefix: item.score.estimate, f"{prefix}/low": item.score.low, f"{prefix}/high": item.score.high}
            found |= {f"{prefix}/{name}": control.score for name, control in item.controls.items()}
    return found


def part_folder(part: str) -> str:
    """Name the folder of the arrays of some rows: those of a part that was named lie inside of the usual one.

    Examples
    --------
    >>> part_folder("confirmation"), part_folder("validation"), part_folder("ood")
    ('confirmation', 'validation', 'confirmation/ood')
    """
    return part if part in (UNNAMED, SEARCHED) else f"{UNNAMED}/{region_name(part)}"


def part_array(part: str, name: str) -> str:
    """Name the file of an array of some rows.

    Examples
    --------
    >>> part_array("ood", "accuracy")
    'confirmation/ood/accuracy.npy'
    """
    return f"{part_folder(part)}/{component_name(name)}.npy"


def component_name(name: str) -> str:
    """Make the name of a component one that MLflow takes, and a file can have."""
    return name if name.isidentifier() else region_name(name)


def _summaries(prefix: str, whole: Mapping[str, float], regions: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    found = {f"{prefix}/{name}": value for name, value in whole.items()}
    for region, summary in regions.items():
        found |= {f"{prefix}/{region_name(region)}/{name}": value for name, value in summary.items()}
    return found


def _as_text(values: Mapping[str, Any]) -> dict[str, str]:
    return dict(_pairs(values))


def _pairs(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        yield re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII), str(value)[:_LONGEST]
