"""The first level of a check: all that a row says is computed again from its arrays, by the code that wrote it.

What stops a forgery that is consistent in itself, arrays and all, are the levels above: whoever has the data scores the
predictions again, or repeats the row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from img2brain import digest
from img2brain.errors import DataError
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.agreement import Difference, Disagrees, Mask, agree, first_difference, mask, plain
from img2brain.leaderboard.bundles.boards import boards_table
from img2brain.leaderboard.bundles.confirmed import check_confirmation
from img2brain.leaderboard.bundles.contents import BOARDS, LOOKS
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow
from img2brain.leaderboard.bundles.scored import metric_of, regions_of, scores_of
from img2brain.records import MemberRecord, MetricRecord, TrialRecord
from img2brain.result import WHOLE, summaries_of
from img2brain.spec import GIVEN
from img2brain.tracking.names import component_name

LEVELS = RECORDS, ARITHMETIC, DATA, RERUN = "records", "arithmetic", "data", "rerun"
_FIRST_DESCRIPTION = ("dataset", "split", "space", "sampler", "seed")
_N_SUFFIX = 8  # digits of a study's name that tell its description


@dataclass(frozen=True)
class Checked:
    """What was found of a row.

    Attributes
    ----------
    row : str
        The name of its folder.
    name : str
        What people call it.
    level : str
        The highest of `LEVELS` that holds; empty where the row is refused.
    missing : tuple of str
        What keeps it from the next level.
    difference : Difference, optional
        Why it is refused.
    """

    row: str
    name: str
    level: str
    missing: tuple[str, ...] = ()
    difference: Difference | None = None


def check_bundle(bundle: Bundle) -> list[Checked]:
    """Check each row of a bundle, and what it says of all together.

    Raises
    ------
    DataError
        If the files do not fit together: then nothing is said of rows.
    """
    rows = list(bundle.rows())
    _require_files(bundle, rows)
    known = {row.trial.key for row in rows}
    found = [_among_members(row, check_row(bundle, row), known) for row in rows]
    if all(item.difference is None for item in found):
        _require_boards(bundle, rows)
    return found


def _among_members(row: BundleRow, found: Checked, known: Collection[tuple[str, int, str]]) -> Checked:
    """Say which members of a study a row stands without: their mean ranks the trials of the study."""
    absent = [name for name in row.study.members if (row.trial.study, row.trial.number, name) not in known]
    if not absent or found.difference is not None:
        return found
    return replace(found, level=RECORDS, missing=(*found.missing, f"the rows of the members {', '.join(absent)}"))


def check_row(bundle: Bundle, row: BundleRow) -> Checked:
    """Compute all that a row says again from its arrays, and compare."""
    name = row.trial.name
    missing: list[str] = []
    try:
        _same_facts(row)
        missing += _study_of_its_name(row)
        missing += _trial_scores(bundle, row)
        missing += check_confirmation(bundle, row)
    except Disagrees as error:
        return Checked(row.name, name, "", (), error.difference)
    return Checked(row.name, name, RECORDS if missing else ARITHMETIC, tuple(missing))


def _same_facts(row: BundleRow) -> None:
    """Compare what is said twice."""
    trial, study = row.trial, row.study
    agree("study.name", study.name, trial.study)
    agree("study.objective", study.objective, trial.objective)
    agree("study.member", study.member, trial.member)
    if study.members or study.member:
        own = study.members.get(study.member)
        said = {"dataset": study.dataset, "rows": study.rows, "regions": study.regions}
        agree(f"study.members.{study.member}", plain(said), plain(own and dict(own)))
    for name in ("digest", "n_images", "n_voxels"):
        agree(f"study.dataset.{name}", getattr(study.dataset, name), getattr(trial.dataset, name))
    for name in ("digest", "split", "n_train", "n_validation", "n_confirmation"):
        agree(f"study.rows.{name}", getattr(study.rows, name), getattr(trial.rows, name))
    agree("rows.digest", trial.rows.digest, digest.of_digests([trial.dataset.digest, trial.rows.split]))
    agree("failure", trial.failure, "")
    agree("metrics", sorted(trial.metrics), sorted(study.metrics))


def _study_of_its_name(row: BundleRow) -> Iterator[str]:
    """Check that the study is the one that its name tells by its last digits, and that the trial is one of it."""
    trial, study, said = row.trial, row.study, row.study.description
    if not said:
        yield "the description of its study"
        return
    names = {digest.of_value(item)[:_N_SUFFIX] for item in (dict(said), _first(said))}
    suffix = study.name.rpartition("-")[2]
    if suffix not in names:
        raise Disagrees("study.description", suffix, sorted(names)[0])
    for what, of_data, records in _data_described(row):
        agree(f"{what}.dataset", of_data.get("dataset"), records.dataset.digest)
        agree(f"{what}.split", of_data.get("split"), records.rows.split)
    agree("study.seed", study.seed, said.get("seed"))
    agree("study.sampler", study.sampler, said.get("sampler"))
    if "metrics" in said:
        agree("study.metrics", list(study.metrics), said["metrics"])
        spec = trial.spec
        own = [spec.backbone, spec.weights_digest, spec.preprocessing, trial.network.precision, trial.network.digest]
        known = [item for item in said.get("networks", []) if isinstance(item, list) and len(item) == len(own)]
        if not any(_shared(own, trial) == _shared(item, trial) for item in known):
            raise Disagrees("network", own, said.get("networks"))


def _data_described(row: BundleRow) -> list[tuple[str, Mapping[str, Any], TrialRecord | MemberRecord]]:
    """Pair what a description says of data with the records of them: of the only dataset, or of each member."""
    what, said, members = "study.description", row.study.description, row.study.members
    if not members:
        return [(what, said, row.trial)]
    described = said.get("members")
    found = described if isinstance(described, Mapping) else {}
    agree(f"{what}.members", sorted(found), sorted(members))
    return [(f"{what}.members.{name}", found[name], record) for name, record in members.items()]


def _shared(network: list[Any], trial: TrialRecord) -> list[Any]:
    """Return what members share of a network: features that come with data differ, and precisions may."""
    if not trial.member:
        return network
    backbone, weights, preprocessing, _, computes = network
    return [backbone, "" if backbone == GIVEN else weights, preprocessing, "" if backbone == GIVEN else computes]


def _first(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description as the first format had it."""
    networks = said.get("networks", [])
    kept = {name: said[name] for name in _FIRST_DESCRIPTION if name in said}
    return kept | {"networks": [item[:4] if isinstance(item, list) else item for item in networks]}


def _trial_scores(bundle: Bundle, row: BundleRow) -> Iterator[str]:
    trial, regions = row.trial, regions_of(row)
    read = partial(_array, bundle, row)
    constant = mask(read("constant.npy"), trial.dataset.n_voxels, "constant.npy")
    for name, record in trial.metrics.items():
        _check_metric(row, name, record)
        accuracy = read(record.file)
        if accuracy is None:
            yield f"{record.file}"
            continue
        scores = scores_of(accuracy, row, name, record.file)
        agree(f"metrics.{name}.digest", record.digest or digest.of_array(accuracy), digest.of_array(accuracy))
        if _is_not_known(constant, read("constant.npy"), record.whole):
            yield "which voxels are constant"
            continue
        found = summaries_of(scores, regions, constant)
        agree(f"metrics.{name}", plain(record.whole), found.pop(WHOLE))
        agree(f"metrics.{name}.regions", plain(record.regions), found)


def _require_files(bundle: Bundle, rows: Sequence[BundleRow]) -> None:
    """Refuse a file that is not of the kinds that a bundle may hold, and one that is changed."""
    allowed = {BOARDS, LOOKS, *(contents.study_file(row.study.name, row.study.member) for row in rows)}
    for row in rows:
        names = [contents.TRIAL, *contents.arrays_of_trial(row.trial)]
        if row.confirmation is not None:
            names += [contents.CONFIRMATION, *contents.predictions_of(row.confirmation)]
            names += contents.arrays_of_confirmation(row.study, row.confirmation)
            names += contents.arrays_of_members(row.trial, row.confirmation)
        allowed |= {f"rows/{row.name}/{name}" for name in names}
    for name in bundle.record.files:
        if name not in allowed:
            raise DataError(f"{bundle.path} must hold nothing but what a bundle may hold. It holds {name!r}.")
        bundle.content(name)
    if not bundle.record.rows:
        raise DataError(f"{bundle.path} must hold at least one row. It holds none.")
    _ = bundle.chain


def _require_boards(bundle: Bundle, rows: Sequence[BundleRow]) -> None:
    """Compare ranks and ties with those that follow from the rows."""
    again = boards_table([bundle.to_row(row) for row in rows])
    found = first_difference(bundle.value(BOARDS), again, "boards")
    if found is not None:
        raise DataError(f"{bundle.path}: {BOARDS}: {found}.")


def _check_metric(row: BundleRow, name: str, record: MetricRecord) -> None:
    metric = metric_of(row, name)
    if metric is not None:
        agree(f"metrics.{name}.label", record.label, metric.label)
        agree(f"metrics.{name}.summary", record.summary, metric.summary)
    is_first = name == row.trial.objective
    agree(f"metrics.{name}.file", record.file, "accuracy.npy" if is_first else f"accuracy_{component_name(name)}.npy")


def _is_not_known(constant: Mask, stored: object, whole: Mapping[str, float]) -> bool:
    return stored is None and whole.get("n_constant", 0.0) > 0 and not constant.any()


def _array(bundle: Bundle, row: BundleRow, name: str) -> NDArray[Any] | None:
    return bundle.array(f"rows/{row.name}/{name}")
