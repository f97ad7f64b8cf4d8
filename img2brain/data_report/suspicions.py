"""What is suspicious: the problems of a check, and what the numbers show besides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from img2brain.amounts import counted
from img2brain.data_report.quality import Quality
from img2brain.data_report.seen import Drift, Seen
from img2brain.datasets._looks import Report

_SHOWN = 5
_FAR = 8.0  # robust standard deviations: of 10,000 normal ones none is beyond 6
_MANY_ZEROS = 0.2
_SCALES = 1000.0
_MANY_MOVED = 0.25  # of the voxels
_FEW_RELIABLE = 0.5
_SHIFTED = 0.5
_ALIKE = 0.2


class Suspicion(NamedTuple):
    """Something to look at, and the part of the page that shows it."""

    severity: Literal["error", "warning", "note"]
    text: str
    anchor: str


def of_check(report: Report) -> Iterator[Suspicion]:
    """Repeat the problems that a check found."""
    for problem in report.problems:
        yield Suspicion(problem.severity, " ".join(problem.message.split()), "what")


def of_numbers(seen: Mapping[str, Seen], drift: Drift | None, quality: Quality | None) -> Iterator[Suspicion]:
    """Say what the numbers show that a check passes."""
    for part, found in seen.items():
        yield from _of_rows(part, found)
        yield from _of_voxels(part, found)
        yield from _of_order(part, found)
    yield from _of_parts(seen)
    yield from _of_drift(drift)
    yield from _of_quality(quality)


def _of_rows(part: str, seen: Seen) -> Iterator[Suspicion]:
    far = np.flatnonzero(np.abs(_robust(seen.row_mean)) > _FAR)
    if len(far):
        yield _note(
            f"{_n(far, part)} a mean response far from that of the others (more than {_FAR:g} robust standard "
            f"deviations): {_rows(far)}. Artefacts do so, and blank or interrupted trials.",
            "responses",
        )
    loud = np.flatnonzero(_robust(np.log(np.where(seen.row_sd > 0, seen.row_sd, np.nan))) > _FAR)
    if len(loud):
        yield _note(
            f"{_n(loud, part)} responses that vary over voxels far more than others: {_rows(loud)}.", "responses"
        )
    copies = np.flatnonzero(seen.equal != np.arange(seen.n_rows))
    if len(copies) and seen.voxel_sd.any():
        pairs = ", ".join(f"{seen.equal[row]} and {row}" for row in copies[:_SHOWN])
        yield _note(
            f"{_n(copies, part)} exactly the responses of another row: rows {pairs}"
            f"{', ...' if len(copies) > _SHOWN else ''}. Recordings are never equal: was something copied, or filled?",
            "duplicates",
        )


def _of_voxels(part: str, seen: Seen) -> Iterator[Suspicion]:
    share = seen.n_zero / seen.n_values
    if share > _MANY_ZEROS:
        yield _note(
            f"{share:.0%} of the {part} responses are exactly 0: rates of neurons may be, of voxels it means that "
            "something is masked or missing.",
            "responses",
        )
    sds = seen.voxel_sd[seen.voxel_sd > 0]
    if len(sds) and sds.max() / sds.min() > _SCALES:
        yield _note(
            f"The standard deviations of voxels over the {part} rows reach from {sds.min():.3g} to {sds.max():.3g}: "
            "are they in one unit?",
            "responses",
        )
    same = _same_columns(seen)
    if same:
        pairs = ", ".join(f"{one} and {other}" for one, other in same[:_SHOWN])
        yield _note(
            f"{len(same)} of {counted(len(seen.voxels), 'voxel')} looked at repeat another one in the {part} rows, the "
            f"first: {pairs}.",
            "responses",
        )


def _same_columns(seen: Seen) -> list[tuple[int, int]]:
    """Return voxels that hold what one before them holds."""
    first: dict[bytes, int] = {}
    varying = [k for k, voxel in enumerate(seen.voxels) if seen.voxel_sd[voxel] > 0]
    pairs = [(first.setdefault(seen.values[:, k].tobytes(), k), k) for k in varying] if len(seen.rows) > 2 else []
    return [(int(seen.voxels[one]), int(seen.voxels[other])) for one, other in pairs if one != other]


def _of_order(part: str, seen: Seen) -> Iterator[Suspicion]:
    """Compare rows beside each other with rows that are apart: frames of a video, or trials of a block, are alike."""
    r = neighbours(seen)
    if r is not None and r > _ALIKE:
        yield _note(
            f"{part.capitalize()} rows beside each other have responses that correlate at {r:.2f} (median), more than "
            "those apart: were they recorded or filmed one after another? Then they belong into one group, or a split "
            "trains on neighbours of what it scores.",
            "splits",
        )


def neighbours(seen: Seen) -> float | None:
    """Return the median r of responses in rows beside each other, each voxel z-scored; None of too few rows."""
    if len(seen.rows) != seen.n_rows or seen.n_rows < 20 or len(seen.voxels) < 20:
        return None
    z = z_scored(seen)
    z = z - z.mean(axis=1, keepdims=True)
    z /= np.maximum(np.sqrt((z**2).sum(axis=1, keepdims=True)), 1e-12)
    beside = (z[1:] * z[:-1]).sum(axis=1)
    half = len(z) // 2
    apart = (z[half:] * z[: len(z) - half]).sum(axis=1)
    return float(np.median(beside) - max(np.median(apart), 0.0))


def z_scored(seen: Seen) -> NDArray[np.float64]:
    """Return the responses that are drawn, each voxel z-scored over the rows, 0 where it is missing or constant."""
    sd = seen.voxel_sd[seen.voxels]
    return np.nan_to_num((seen.values - seen.voxel_mean[seen.voxels]) / np.where(sd > 0, sd, np.inf))


def _of_parts(seen: Mapping[str, Seen]) -> Iterator[Suspicion]:
    if len(seen) < 2:
        return
    one, other = seen["training"], seen["test"]
    noise = np.sqrt(1 / one.n_rows + 1 / other.n_rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.abs(other.voxel_mean - one.voxel_mean) / one.voxel_sd
        ratio = other.voxel_sd / one.voxel_sd
    median = _median(shift)
    if median > _SHIFTED + 2 * noise:
        yield _note(
            f"The means of voxels over the test rows lie {median:.2f} standard deviations from those over the training "
            "rows (median): were both normalised in one way?",
            "responses",
        )
    if not 0.4 < _median(ratio) < 2.5 and np.isfinite(_median(ratio)):
        yield _note(
            f"Voxels vary {_median(ratio):.2f} times as much over the test rows as over the training rows (median): "
            "means over more repeats vary less, another unit or normalisation shows so too.",
            "responses",
        )


def _of_drift(drift: Drift | None) -> Iterator[Suspicion]:
    if drift is None:
        return
    if drift.moved > _MANY_MOVED:
        between = "sessions" if drift.by_session else f"twentieths of the {drift.what}, in their order"
        advice = (
            'z-score within them (normalise = "session"), or declare them as groups.'
            if drift.by_session
            else "unless images are in an order of their kind, the baseline drifts."
        )
        yield _note(
            f"{drift.moved:.0%} of the voxels have more than a tenth of their variance between {between}: {advice}",
            "drift",
        )
    if drift.what == "trials":
        blank, far = np.flatnonzero(drift.trial_sd == 0), np.flatnonzero(np.abs(_robust(drift.trial_mean)) > _FAR)
        for places, told in ((blank, "hold one value at all voxels"), (far, "have a mean far from that of the others")):
            if len(places) and len(drift.share) > 1:
                n_read = f"{len(places)} of {counted(len(drift.trials), 'trial', form=',')} looked at"
                yield _note(f"{n_read} {told}, by their place in the files: {_rows(drift.trials[places])}.", "drift")


def _of_quality(quality: Quality | None) -> Iterator[Suspicion]:
    for part, ceiling in quality.ceilings.items() if quality else ():
        share = float(ceiling.reliable[ceiling.known].mean())
        if share < _FEW_RELIABLE:
            yield _note(
                f"{share:.0%} of the voxels have a reliable signal in the {part} rows (noise ceiling: "
                f'{ceiling.origin}): leave the others out with voxels = "nc > 0.1", or say so with the result.',
                "quality",
            )
    if quality is not None and quality.reliability is not None and _median(quality.reliability) < 0:
        yield _note(
            "The repeats of most voxels do not agree: do they belong to these images, in this order?", "quality"
        )


def _robust(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far values lie from their median, in robust standard deviations (1.4826 of the median distance)."""
    finite = values[np.isfinite(values)]
    if len(finite) < 3:
        return np.zeros(len(values))
    middle = np.median(finite)
    scale = 1.4826 * np.median(np.abs(finite - middle))
    return np.nan_to_num((values - middle) / scale) if scale > 0 else np.zeros(len(values))


def _median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else np.nan


def _rows(rows: NDArray[np.intp]) -> str:
    return ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")


def _n(rows: NDArray[np.intp], part: str) -> str:
    return counted(len(rows), f"{part} row has", f"{part} rows have")


def _note(text: str, anchor: str) -> Suspicion:
    return Suspicion("note", text, anchor)
