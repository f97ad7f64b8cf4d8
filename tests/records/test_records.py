"""Records: what is written is read back as the same object, and nothing else is taken for one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from img2brain.errors import DataError
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
    PluginRecord,
    ProvenanceRecord,
    Record,
    RegionRecord,
    RowsRecord,
    StudyRecord,
    TiesRecord,
    TrialRecord,
)
from img2brain.spec import TrialSpec

FIXTURES = Path(__file__).parents[1] / "fixtures" / "records"
KINDS: dict[str, type[Record]] = {"trial": TrialRecord, "confirmation": ConfirmationRecord, "study": StudyRecord}

texts = st.text(max_size=12)
numbers = st.floats(allow_nan=True, allow_infinity=False)
counts = st.integers(0, 10**6)
values = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(st.floats(0, 1), min_size=1, max_size=3).map(tuple),
)
summaries = st.dictionaries(texts, numbers, max_size=3)
provenances = st.builds(ProvenanceRecord, species=texts, area=texts, licence=texts, url=texts, citation=texts)
datasets = st.builds(
    DatasetRecord,
    name=texts,
    digest=texts,
    n_images=counts,
    n_voxels=counts,
    subject=texts,
    provenance=st.none() | provenances,
)
ties = st.builds(TiesRecord, n_images=counts, n_sets=counts, left_out=st.dictionaries(texts, counts, max_size=2))
rows = st.builds(
    RowsRecord,
    digest=texts,
    split=texts,
    text=texts,
    n_train=counts,
    n_validation=counts,
    n_confirmation=counts,
    ties=st.none() | ties,
)
codes = st.builds(CodeRecord, version=texts, digest=texts, commit=texts)
plugins = st.lists(st.builds(PluginRecord, kind=texts, name=texts, digest=texts), max_size=2).map(tuple)
specs = st.builds(
    TrialSpec,
    backbone=texts,
    weights=texts,
    weights_digest=texts,
    preprocessing=texts,
    layer=texts,
    n_components=counts,
    regressor=texts,
    parameters=st.dictionaries(texts, values, max_size=3),
)
metrics = st.builds(
    MetricRecord,
    label=texts,
    summary=st.sampled_from(["median", "mean"]),
    whole=summaries,
    regions=st.dictionaries(texts, summaries, max_size=2),
)
trials = st.builds(
    TrialRecord,
    study=texts,
    home=texts,
    number=counts,
    spec=specs,
    asked=st.dictionaries(texts, st.one_of(texts, counts, st.floats(-1, 1)), max_size=3),
    dataset=datasets,
    rows=rows,
    network=st.builds(NetworkRecord, digest=texts, library=texts, trained=texts, precision=texts),
    code=codes,
    plugins=plugins,
    metrics=st.dictionaries(texts, metrics, max_size=2),
    timings=summaries,
    failure=texts,
    note=texts,
)
estimates = st.builds(Estimate, estimate=numbers, low=numbers, high=numbers)
against = st.builds(Against, score=numbers, difference=estimates)
ceilings = st.builds(
    CeilingRecord, score=numbers, normalised=numbers, explained=numbers, n_unreliable=counts, n_above=counts
)
regions = st.builds(
    RegionRecord,
    n_voxels=counts,
    score=estimates,
    summaries=st.dictionaries(texts, summaries, max_size=2),
    n_significant=st.none() | counts,
    ceiling=st.none() | ceilings,
    controls=st.dictionaries(texts, against, max_size=2),
    best_layer=st.none() | against,
)
parts = st.builds(
    PartRecord,
    rows=texts,
    n_images=st.none() | counts,
    whole=regions,
    regions=st.dictionaries(texts, regions, max_size=2),
)
confirmations = st.builds(
    ConfirmationRecord, study=texts, number=counts, validation=numbers, parts=st.dictionaries(texts, parts, max_size=2)
)
studies = st.builds(
    StudyRecord,
    name=texts,
    home=texts,
    dataset=datasets,
    rows=rows,
    code=codes,
    plugins=plugins,
    sampler=texts,
    seed=counts,
    regions=st.dictionaries(texts, st.lists(counts, max_size=3).map(tuple), max_size=2),
)


@given(st.one_of(trials, confirmations, studies))
def test_what_is_written_is_read_back(record: Record) -> None:
    again = type(record).from_json(record.to_json())
    assert again.to_json() == record.to_json()
    assert repr(again) == repr(record)  # NaN differs from itself, but not in its text
    json.loads(record.to_json(), parse_constant=_refused)


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@given(trials)
def test_a_record_is_frozen(record: TrialRecord) -> None:
    with pytest.raises(ValidationError):
        record.number = 3


@given(trials)
def test_it_knows_its_score(record: TrialRecord) -> None:
    scored = record.model_copy(
        update={"metrics": {"r2": MetricRecord(label="R2", summary="mean", whole={"mean": 0.25})}, "objective": "r2"}
    )
    assert scored.score == 0.25
    assert math.isnan(record.model_copy(update={"metrics": {}}).score)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the file must be a trial record in JSON. Got: "),
        ("[1]", "The 'format' of the file, a trial record, must be a whole number from 1 to 1. Got None; "),
        ('{"format": 2}', "from 1 to 1. Got 2; a larger one is of a newer version of img2brain."),
        ('{"format": true}', "must be a whole number from 1 to 1. Got True; "),
        (
            '{"format": 1}',
            "the file: the keys 'study', 'number', 'spec', 'dataset', 'rows', 'network' and 'code' are missing.",
        ),
        ("[" * 100_000, "the file must be a trial record in JSON. Got: "),
    ],
)
def test_what_is_none_is_refused_on_one_line(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        TrialRecord.from_json(text, "the file")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(trials, texts)
def test_an_unknown_key_is_refused(record: TrialRecord, key: str) -> None:
    table = json.loads(record.to_json())
    with pytest.raises(DataError, match="unknown key"):
        TrialRecord.from_json(json.dumps({**table, f"x{key}": 1}))


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.json")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_files_of_every_format_are_read(path: Path) -> None:
    record = KINDS[path.stem.partition("-")[0]].read(path)
    kept: Any = json.loads(path.read_text(encoding="utf-8"))
    assert f"format-{record.format}" == path.parent.name
    again = json.loads(record.to_json())
    assert {key: again[key] for key in kept} == kept


def test_every_kind_is_kept_in_every_format() -> None:
    kinds = {(path.parent.name, path.stem.partition("-")[0]) for path in FIXTURES.glob("*/*.json")}
    assert kinds >= {("format-1", kind) for kind in KINDS}
