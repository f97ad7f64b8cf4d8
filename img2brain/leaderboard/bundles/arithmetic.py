"""The first level of a check: all that a row says is computed again from its arrays, by the code that wrote it.

What stops a forgery that is consistent in itself, arrays and all, are the levels above: whoever has the data scores the
predictions again, or repeats the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import digest, looks
from img2brain.catalog import METRICS
from img2brain.errors import DataError
from img2brain.findings import Findings, Rival, estimate_of
from img2brain.leaderboard.bundles import contents
from img2brain.leaderboard.bundles.boards import boards_table
from img2brain.leaderboard.bundles.closeness import is_close
from img2brain.leaderboard.bundles.contents import BOARDS, LOOKS
from img2brain.leaderboard.bundles.opening import Bundle, BundleRow
from img2brain.metrics.base import Metric
from img2brain.records import ConfirmationRecord, LookRecord, MetricRecord, PartRecord
from img2brain.records.confirmation import CONFIRMATION
from img2brain.result import WHOLE, summaries_of
from img2brain.statistics.noise_ceiling import LEAST_SHARE
from img2brain.statistics.significance import benjamini_hochberg, p_of_r
from img2brain.tracking.names import component_name

LEVELS = RECORDS, ARITHMETIC, DATA, RERUN = "records", "arithmetic", "data", "rerun"
TOLERANCE = 1e-11  # of a number of about 1: processors add in another order
_PEARSON = "pearson"
_LARGEST = {"correlation": 1.0, "determination": 1.0}  # scores of no such metric are above
_LARGEST_SCORE = 1e150  # of those that a home takes: their squares have a sum
_FIRST_DESCRIPTION = ("dataset", "split", "space", "sampler", "seed")
_N_SUFFIX = 8  # digits of a study's name that tell its description

Mask = NDArray[np.bool_]
Voxels = NDArray[np.intp]


@dataclass(frozen=True)
class Difference:
    """The first place where a row does not agree with itself.

    Attributes
    ----------
    what : str
        Where, such as ``"confirmation.whole.score.low"``.
    stored, found : str
        What the bundle says, and what follows from the rest of it.
    """

    what: str
    stored: str
    found: str

    def __str__(self) -> str:
        return f"{self.what} must be {self.found}. Got {self.stored}"


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


class _Disagrees(Exception):  # noqa: N818 - it never leaves this file
    def __init__(self, what: str, stored: object, found: object) -> None:
        super().__init__(what)
        self.difference = Difference(what, _shown(stored), _shown(found))


def check_bundle(bundle: Bundle) -> list[Checked]:
    """Check each row of a bundle, and what it says of all together.

    Raises
    ------
    DataError
        If the files do not fit together: then nothing is said of rows.
    """
    rows = list(bundle.rows())
    _require_files(bundle, rows)
    found = [check_row(bundle, row) for row in rows]
    if all(item.difference is None for item in found):
        _require_boards(bundle, rows)
    return found


def check_row(bundle: Bundle, row: BundleRow) -> Checked:
    """Compute all that a row says again from its arrays, and compare."""
    name = f"{row.trial.study} #{row.trial.number}"
    missing: list[str] = []
    try:
        _same_facts(row)
        missing += _study_of_its_name(row)
        missing += _trial_scores(bundle, row)
        missing += _confirmation(bundle, row)
    except _Disagrees as error:
        return Checked(row.name, name, "", (), error.difference)
    return Checked(row.name, name, RECORDS if missing else ARITHMETIC, tuple(missing))


def metric_of(row: BundleRow, name: str) -> Metric | None:
    """Return a metric of ours; one of others is code that is not run for a bundle."""
    is_plugin = any((item.kind, item.name) == ("metric", name) for item in row.trial.plugins)
    return METRICS[name] if name in METRICS.own and not is_plugin else None


def first_difference(stored: Any, found: Any, what: str) -> Difference | None:
    """Compare plain data, numbers within the tolerance, and return the first difference."""
    try:
        _agree(what, stored, found)
    except _Disagrees as error:
        return error.difference
    return None


def _same_facts(row: BundleRow) -> None:
    """Compare what is said twice."""
    trial, study = row.trial, row.study
    _agree("study.name", study.name, trial.study)
    _agree("study.objective", study.objective, trial.objective)
    for name in ("digest", "n_images", "n_voxels"):
        _agree(f"study.dataset.{name}", getattr(study.dataset, name), getattr(trial.dataset, name))
    for name in ("digest", "split", "n_train", "n_validation", "n_confirmation"):
        _agree(f"study.rows.{name}", getattr(study.rows, name), getattr(trial.rows, name))
    _agree("rows.digest", trial.rows.digest, digest.of_digests([trial.dataset.digest, trial.rows.split]))
    _agree("failure", trial.failure, "")
    _agree("metrics", sorted(trial.metrics), sorted(study.metrics))


def _study_of_its_name(row: BundleRow) -> Iterator[str]:
    """Check that the study is the one that its name tells by its last digits, and that the trial is one of it."""
    trial, study, said = row.trial, row.study, row.study.description
    if not said:
        yield "the description of its study"
        return
    names = {digest.of_value(item)[:_N_SUFFIX] for item in (dict(said), _first(said))}
    suffix = study.name.rpartition("-")[2]
    if suffix not in names:
        raise _Disagrees("study.description", suffix, sorted(names)[0])
    _agree("study.description.dataset", said.get("dataset"), trial.dataset.digest)
    _agree("study.description.split", said.get("split"), trial.rows.split)
    _agree("study.seed", study.seed, said.get("seed"))
    _agree("study.sampler", study.sampler, said.get("sampler"))
    if "metrics" in said:
        _agree("study.metrics", list(study.metrics), said["metrics"])
        spec = trial.spec
        own = [spec.backbone, spec.weights_digest, spec.preprocessing, trial.network.precision, trial.network.digest]
        if own not in said.get("networks", []):
            raise _Disagrees("network", own, said.get("networks"))


def _first(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description as the first format had it."""
    networks = said.get("networks", [])
    kept = {name: said[name] for name in _FIRST_DESCRIPTION if name in said}
    return kept | {"networks": [item[:4] if isinstance(item, list) else item for item in networks]}


def _trial_scores(bundle: Bundle, row: BundleRow) -> Iterator[str]:
    trial, regions = row.trial, _regions(row)
    read = partial(_array, bundle, row)
    constant = _mask(read("constant.npy"), trial.dataset.n_voxels, "constant.npy")
    for name, record in trial.metrics.items():
        _check_metric(row, name, record)
        accuracy = read(record.file)
        if accuracy is None:
            yield f"{record.file}"
            continue
        scores = _scores(accuracy, row, name, record.file)
        _agree(f"metrics.{name}.digest", record.digest or digest.of_array(accuracy), digest.of_array(accuracy))
        if _is_not_known(constant, read("constant.npy"), record.whole):
            yield "which voxels are constant"
            continue
        found = summaries_of(scores, regions, constant)
        _agree(f"metrics.{name}", _plain(record.whole), found.pop(WHOLE))
        _agree(f"metrics.{name}.regions", _plain(record.regions), found)


def _confirmation(bundle: Bundle, row: BundleRow) -> Iterator[str]:
    """Compute the record of the confirmation rows again, and find its look in the chain."""
    record = row.confirmation
    if record is None:
        return
    part = _part(row, record)
    read = partial(_confirmed_array, bundle, row)
    summaries = [f"summaries_{name}" for name in ("regions", "estimate", "resampled")]
    absent = [name for name in (*_accuracies(row), "p", "q", *summaries) if read(name) is None]
    absent += [name for name in ("ceiling_share", "ceiling_reliable") if part.ceiling != "none" and read(name) is None]
    if absent:
        yield f"confirmation/{absent[0]}.npy"
        return
    found = _findings(row, part, read)
    _check_arrays(row, part, found, read)
    yield from _same_part(row, part, found)
    yield from _look(bundle, row, part)


def _part(row: BundleRow, record: ConfirmationRecord) -> PartRecord:
    trial = row.trial
    scored = trial.metrics[trial.objective]
    expected = {"study": trial.study, "number": trial.number, "objective": trial.objective}
    expected |= {"label": scored.label, "summary": scored.summary, "validation": trial.score}
    for name, value in expected.items():
        _agree(f"confirmation.{name}", getattr(record, name), value)
    _agree("confirmation.parts", list(record.parts), [CONFIRMATION])
    part = record.parts[CONFIRMATION]
    if part.n_images is not None:
        _agree("confirmation.n_images", part.n_images, trial.rows.n_confirmation)
    return part


def _findings(row: BundleRow, part: PartRecord, read: Callable[[str], NDArray[Any] | None]) -> Findings:
    metric = metric_of(row, row.trial.objective)
    perfect = metric.ceiling if metric else lambda _share: None
    try:
        return Findings.from_arrays(
            read, row.study.metrics, part, row.trial.metrics[row.trial.objective].summary, perfect
        )
    except (DataError, ValueError, TypeError) as error:
        raise _Disagrees("confirmation", "arrays that do not fit together", f"arrays that do: {error}") from None


def _check_arrays(
    row: BundleRow, part: PartRecord, found: Findings, read: Callable[[str], NDArray[Any] | None]
) -> None:
    """Check shapes, ranges, and what follows from one array for another."""
    trial, summaries, regions = row.trial, found.summaries, _regions(row)
    n_voxels, objective = trial.dataset.n_voxels, trial.objective
    _mask(found.constant, n_voxels, "confirmation.constant")
    for name, scores in found.accuracies.items():
        _scores(scores, row, name, f"confirmation.accuracy of {name}")
    for name in ("p", "q"):
        _numbers(read(name), (n_voxels,), f"confirmation.{name}", 0.0, 1.0)
    if sorted(summaries.regions) != sorted((WHOLE, *regions)) or summaries.regions[0] != WHOLE:
        raise _Disagrees("confirmation.summaries_regions", summaries.regions, (WHOLE, *regions))
    metric = metric_of(row, objective)
    if metric is not None:
        _agree("confirmation.summaries_kind", summaries.kind, metric.kind)
    n_units = part.n_units or part.n_images
    if summaries.n_units:
        _agree("confirmation.summaries_n_units", summaries.n_units, n_units)
    ordered = {name: regions[name] for name in summaries.regions[1:]}
    _check_rival("summaries", Rival(found.accuracies[objective], summaries), found, ordered, n_voxels)
    for name, rival in found.controls.items():
        _check_rival(f"control_{name}", rival, found, ordered, n_voxels)
    if found.best_layer is not None:
        _check_rival("best_layer", found.best_layer, found, ordered, n_voxels)
    if _PEARSON in found.accuracies and n_units is not None:
        _agree("confirmation.p", _listed(found.p), _listed(p_of_r(found.accuracies[_PEARSON], n_units)))
    q = read("q")
    _agree("confirmation.q", _listed(q), _listed(benjamini_hochberg(found.p)))
    _check_ceiling(found, n_voxels)
    _check_choice(row, found, n_voxels)


def _check_rival(name: str, rival: Rival, found: Findings, regions: Mapping[str, Voxels], n_voxels: int) -> None:
    accuracy = _numbers(rival.accuracy, (n_voxels,), f"confirmation.{name}_accuracy", math.nan, math.nan)
    estimate = estimate_of(accuracy, found.constant, regions, found.summaries.how)
    _agree(f"confirmation.{name}_estimate", _listed(rival.summaries.estimate), _listed(estimate))
    resampled = rival.summaries.resampled
    if len(resampled) != len(found.summaries.resampled) or _out_of(resampled, math.nan, math.nan):
        raise _Disagrees(f"confirmation.{name}_resampled", resampled.shape, found.summaries.resampled.shape)


def _check_ceiling(found: Findings, n_voxels: int) -> None:
    ceiling = found.ceiling
    share = _numbers(ceiling.share, (n_voxels,), "confirmation.ceiling_share", 0.0, math.inf)
    reliable = _mask(ceiling.reliable, n_voxels, "confirmation.ceiling_reliable")
    with np.errstate(invalid="ignore"):
        enough = share >= LEAST_SHARE
    if (reliable & ~enough).any() or (ceiling.origin in ("given", "ncsnr") and (reliable != enough).any()):
        raise _Disagrees("confirmation.ceiling_reliable", int(reliable.sum()), int(enough.sum()))


def _check_choice(row: BundleRow, found: Findings, n_voxels: int) -> None:
    if found.choice is None or row.confirmation is None:
        return
    n_layers, choice = len(row.confirmation.best_layers), found.choice
    if choice.shape != (n_voxels,) or choice.dtype.kind != "i" or not ((choice >= 0) & (choice < n_layers)).all():
        raise _Disagrees("confirmation.best_layer", "places of other layers", f"places of {n_layers} layers")


def _same_part(row: BundleRow, part: PartRecord, found: Findings) -> Iterator[str]:
    """Compare the record with the one that follows from the arrays, but for what cannot be computed again."""
    left_out = {name for name in part.whole.controls if name not in found.controls}
    if left_out or (part.whole.best_layer is not None and found.best_layer is None):
        yield f"resamples of {', '.join(sorted(left_out) or ['the best layers'])}"
    if part.ceiling != "none" and metric_of(row, row.trial.objective) is None:
        yield f"the ceiling of the metric {row.trial.objective!r}"
    facts = {"rows": part.rows, "n_images": part.n_images, "n_units": part.n_units, "looks": part.looks}
    again = _plain(found.part(_regions(row), **facts))
    stored = _plain(part)
    _forget(stored, left_out, found)
    _forget(again, left_out, found)
    if metric_of(row, row.trial.objective) is None:
        for item in (stored, again):
            for region in (item["whole"], *item["regions"].values()):
                region.pop("ceiling")
    _agree("confirmation", stored, again)


def _forget(part: dict[str, Any], left_out: set[str], found: Findings) -> None:
    """Drop from a record what was stored without resamples."""
    for region in (part["whole"], *part["regions"].values()):
        region["controls"] = {name: item for name, item in region["controls"].items() if name not in left_out}
        if found.best_layer is None:
            region["best_layer"] = None


def _look(bundle: Bundle, row: BundleRow, part: PartRecord) -> Iterator[str]:
    """Find the look of a row in the chain, and compare what was seen with what the row says."""
    looks_of = [look for look in bundle.chain if (look.rows, look.trial) == (part.rows, row.trial.digest)]
    if not looks_of:
        raise _Disagrees("looks", "no look at these rows by this trial", f"one in {LOOKS}")
    look = looks_of[0]
    _predictions(bundle, row, part, look)
    if look.unchained:
        yield "its look is unchained: it was made before there was a chain"
        return
    _agree("looks.home", look.home, row.trial.home)
    _agree("confirmation.looks", part.looks, looks.count(bundle.chain, look))
    _agree("looks.found", look.found, digest.of_arrays(_found_arrays(bundle, row)))


def _found_arrays(bundle: Bundle, row: BundleRow) -> dict[str, NDArray[Any]]:
    assert row.confirmation is not None, "a row with a look was confirmed"
    names = contents.arrays_of_confirmation(row.study, row.confirmation)
    arrays = {name.removeprefix("confirmation/").removesuffix(".npy"): _array(bundle, row, name) for name in names}
    return {name: array for name, array in arrays.items() if array is not None}


def _predictions(bundle: Bundle, row: BundleRow, part: PartRecord, look: LookRecord) -> None:
    array = _array(bundle, row, contents.PREDICTIONS)
    if array is None:
        return
    shape = part.n_images or len(array), row.trial.dataset.n_voxels
    if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise _Disagrees("confirmation.predictions", f"{array.dtype} {array.shape}", f"finite numbers {shape}")
    if not look.unchained:
        _agree("looks.predictions", look.predictions, digest.of_array(array))


def _require_files(bundle: Bundle, rows: Sequence[BundleRow]) -> None:
    """Refuse a file that is not of the kinds that a bundle may hold, and one that is changed."""
    allowed = {BOARDS, LOOKS, *(contents.study_file(row.study.name) for row in rows)}
    for row in rows:
        names = [contents.TRIAL, *contents.arrays_of_trial(row.trial)]
        if row.confirmation is not None:
            names += [contents.CONFIRMATION, contents.PREDICTIONS]
            names += contents.arrays_of_confirmation(row.study, row.confirmation)
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
        _agree(f"metrics.{name}.label", record.label, metric.label)
        _agree(f"metrics.{name}.summary", record.summary, metric.summary)
    is_first = name == row.trial.objective
    _agree(f"metrics.{name}.file", record.file, "accuracy.npy" if is_first else f"accuracy_{component_name(name)}.npy")


def _is_not_known(constant: Mask, stored: object, whole: Mapping[str, float]) -> bool:
    return stored is None and whole.get("n_constant", 0.0) > 0 and not constant.any()


def _regions(row: BundleRow) -> dict[str, Voxels]:
    n_voxels, found = row.trial.dataset.n_voxels, {}
    for name, voxels in row.study.regions.items():
        places = np.asarray(voxels, dtype=np.intp)
        if name == WHOLE or (len(places) and not (places.min() >= 0 and places.max() < n_voxels)):
            raise _Disagrees(f"study.regions.{name}", "voxels that are not there", f"some of {n_voxels} voxels")
        found[name] = places
    return found


def _accuracies(row: BundleRow) -> list[str]:
    _, *others = row.study.metrics
    return ["accuracy", *(f"accuracy_{name}" for name in others)]


def _array(bundle: Bundle, row: BundleRow, name: str) -> NDArray[Any] | None:
    return bundle.array(f"rows/{row.name}/{name}")


def _confirmed_array(bundle: Bundle, row: BundleRow, name: str) -> NDArray[Any] | None:
    return _array(bundle, row, contents.array_file(name))


def _scores(array: NDArray[Any], row: BundleRow, metric: str, what: str) -> NDArray[np.float64]:
    ours = metric_of(row, metric)
    most = math.nan if ours is None else _LARGEST.get(ours.kind, math.nan)
    least = -most if ours is not None and ours.kind == "correlation" else math.nan
    return _numbers(array, (row.trial.dataset.n_voxels,), what, least, most)


def _numbers(
    array: NDArray[Any] | None, shape: tuple[int, ...], what: str, least: float, most: float
) -> NDArray[np.float64]:
    """Check numbers, NaN where they are undefined, and their range; an end that is NaN is that of all scores."""
    if array is None or array.shape != shape or array.dtype.kind != "f" or np.isinf(array).any():
        told = "nothing" if array is None else f"{array.dtype} {array.shape}"
        raise _Disagrees(what, told, f"numbers {shape}")
    if _out_of(array, least, most):
        raise _Disagrees(what, "a number out of range", f"numbers from {least} to {most}")
    return np.asarray(array, np.float64)


def _out_of(array: NDArray[Any], least: float, most: float) -> bool:
    """Tell whether a number is out of a range; an end that is NaN is that of all scores."""
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = array.astype(np.float64)
        below = numbers < np.fmax(least, -_LARGEST_SCORE)
        return bool((below | (numbers > np.fmin(most, _LARGEST_SCORE))).any())


def _mask(array: NDArray[Any] | None, n_voxels: int, what: str) -> Mask:
    if array is None:
        return np.zeros(n_voxels, dtype=bool)
    if array.shape != (n_voxels,) or array.dtype != np.bool_:
        raise _Disagrees(what, f"{array.dtype} {array.shape}", f"true or false ({n_voxels},)")
    return array


def _plain(value: Any) -> Any:
    """Return records as plain data."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _listed(array: NDArray[Any] | None) -> list[Any]:
    return [] if array is None else array.tolist()


def _agree(what: str, stored: Any, found: Any) -> None:
    """Compare plain data, numbers within the tolerance, and stop at the first difference."""
    if isinstance(stored, Mapping) and isinstance(found, Mapping):
        for name in sorted({*stored, *found}, key=str):
            if name not in stored or name not in found:
                raise _Disagrees(
                    f"{what}.{name}", "it" if name in stored else "nothing", "nothing" if name in stored else "it"
                )
            _agree(f"{what}.{name}", stored[name], found[name])
    elif isinstance(stored, list | tuple) and isinstance(found, list | tuple):
        if len(stored) != len(found):
            raise _Disagrees(f"the length of {what}", len(stored), len(found))
        for place, (one, other) in enumerate(zip(stored, found, strict=True)):
            _agree(f"{what}[{place}]", one, other)
    elif not _is_same(stored, found):
        raise _Disagrees(what, stored, found)


def _is_same(stored: object, found: object) -> bool:
    numbers = (int, float)
    if not isinstance(stored, numbers) or not isinstance(found, numbers) or isinstance(stored, bool):
        return stored == found
    return is_close(stored, found, TOLERANCE)


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, str) else repr(value)
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= 120 else f"{shown[:120]}..."
