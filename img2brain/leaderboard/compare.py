"""Compare two trials, two published models or two boards: what differs, by voxel, region and dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from img2brain.amounts import counted
from img2brain.errors import DataError
from img2brain.leaderboard.measure import Measure
from img2brain.metrics.pearson import pearson
from img2brain.records import Estimate
from img2brain.result import WHOLE, summary_of
from img2brain.spec import NO_POOLING, PCA
from img2brain.statistics.bootstrap import Summaries
from img2brain.statistics.significance import benjamini_hochberg, p_of_difference
from img2brain.statistics.ties import wins

F64 = NDArray[np.float64]
Voxels = NDArray[np.intp]

FALSE_DISCOVERIES = 0.05
BY_IMAGES = "paired bootstrap over images"
BY_TOO_FEW = "resamples of so few images tell nothing: no interval"
BY_VOXELS = "only scores of voxels are known, and voxels are no sample of images: no interval"
ALL = "all"  # what tables call all voxels
_KEYS = (
    "backbone",
    "weights",
    "layer",
    "pooling",
    "components",
    "reduction",
    "regressor",
    "preprocessing",
    "objective",
)
_ADDED = {"pooling": NO_POOLING, "reduction": PCA}  # to boards of today, and what it was before
_OLD_SCORE, _OLD_OBJECTIVE = "validation_r", "pearson"  # of boards of the first format


@dataclass(frozen=True, eq=False)
class Subject:
    """One side of a comparison: what is stored of a trial or model.

    Attributes
    ----------
    label : str
        What it is called.
    dataset, rows : str
        Its dataset, and the name of the rows that it was scored on.
    part : str
        Which part they are: ``"validation"``, ``"confirmation"`` or the name of a confirmation part.
    measure : Measure
        What its scores are.
    accuracy : ndarray (n_voxels,)
        Score of each voxel.
    regions : mapping of str to ndarray of int
        Voxels by region of interest.
    predictions : ndarray (n_images, n_voxels), optional
        Of the confirmation images.
    summaries : Summaries, optional
        Their resamples.
    """

    label: str
    dataset: str
    rows: str
    part: str
    measure: Measure
    accuracy: F64
    regions: Mapping[str, Voxels] = field(default_factory=dict)
    predictions: NDArray[np.floating] | None = None
    summaries: Summaries | None = None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What differs between two subjects, the first minus the second.

    Attributes
    ----------
    first, second : Subject
        The two.
    table : pandas.DataFrame
        A line for all voxels and one per region: region, voxels, the two scores, difference, low, high, and the share
        of voxels in which the first is higher.
    n_first, n_second : int, optional
        Voxels in which the first, and the second, is better at a false discovery rate of 5 %; None where the
        predictions are not stored, or the score is not Pearson's r.
    rule : str
        Where the intervals come from, or why there are none.
    """

    first: Subject
    second: Subject
    table: pd.DataFrame
    n_first: int | None
    n_second: int | None
    rule: str


def compare(first: Subject, second: Subject) -> Comparison:
    """Compare two subjects that were scored on the same rows.

    Raises
    ------
    DataError
        If they were not: their scores say nothing of each other.
    """
    if first.rows != second.rows or first.part != second.part:
        raise DataError(
            f"Two scores compare on the same rows only. Got {first.label} on {first.part} rows of {first.dataset} "
            f"({first.rows[:8]}) and {second.label} on {second.part} rows of {second.dataset} ({second.rows[:8]})."
        )
    if first.measure != second.measure:
        raise DataError(
            f"Two scores compare by the same metric only. Got {first.label} by {first.measure.over_voxels} and "
            f"{second.label} by {second.measure.over_voxels}."
        )
    difference = _difference(first, second)
    regions = {WHOLE: np.arange(len(first.accuracy)), **first.regions}
    lines = [_line(name, voxels, first, second, difference) for name, voxels in regions.items()]
    better = _better_voxels(first, second)
    return Comparison(first, second, pd.DataFrame(lines), *better, _rule(difference))


def compare_boards(first: Path, second: Path) -> pd.DataFrame:
    """Compare two boards that were written by ``img2brain leaderboard build``, line by line of what both tried.

    Parameters
    ----------
    first, second : Path
        Folders of boards, or their ``leaderboard.csv``.

    Returns
    -------
    pandas.DataFrame
        A line for each pipeline (network, weights, layer, components, regressor, objective) that both boards hold: its
        best validation score on each, and the difference; datasets are named in the columns.

    Raises
    ------
    DataError
        If a board cannot be read, or they share nothing.
    """
    one, other = (_read_board(path) for path in (first, second))
    found = one.merge(other, on=list(_KEYS), suffixes=(" (first)", " (second)"))
    if found.empty:
        raise DataError(f"The boards {first} and {second} share no pipeline: nothing compares.")
    found["difference"] = found["validation (first)"] - found["validation (second)"]
    return found.sort_values("difference", ascending=False, ignore_index=True)


def as_text(found: Comparison) -> str:
    """Print a comparison for a terminal."""
    first, second = found.first, found.second
    lines = [f"A  {first.label}", f"B  {second.label}", f"on the {first.part} rows of {first.dataset}"]
    lines += [f"{first.measure.over_voxels}; {found.rule}"]
    shown = found.table.dropna(axis=1, how="all")
    lines += ["", shown.to_string(index=False, float_format=lambda value: f"{value:.4f}")]
    if found.n_first is not None:
        better = f"A is better in {found.n_first} and B in {found.n_second}"
        lines += ["", f"of {counted(len(first.accuracy), 'voxel')}, {better} (Williams' test, FDR 5 %)"]
    return "\n".join(lines)


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the lines of a table as plain data."""
    return [dict(zip(table.columns, line, strict=True)) for line in table.astype(object).to_numpy().tolist()]


def _line(
    name: str, voxels: Voxels, first: Subject, second: Subject, difference: Summaries | None
) -> dict[str, str | float | int]:
    one, other = first.accuracy[voxels], second.accuracy[voxels]
    scores = [summary_of(values)[first.measure.summary] for values in (one, other)]
    interval = Estimate(estimate=scores[0] - scores[1])
    if difference is not None and name in difference.regions:
        interval = difference.interval(name)
    return {
        "region": name or ALL,
        "voxels": len(voxels),
        "A": scores[0],
        "B": scores[1],
        "A - B": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "A higher in": wins(one, other),
    }


def _difference(first: Subject, second: Subject) -> Summaries | None:
    """Pair the resamples of two subjects, over all voxels and the regions that hold the same voxels in both."""
    one, other = first.summaries, second.summaries
    if one is None or other is None or len(one.resampled) != len(other.resampled):
        return None
    alike = {
        name for name, voxels in first.regions.items() if np.array_equal(voxels, second.regions.get(name, np.empty(0)))
    }
    names = [name for name in one.regions if name in {WHOLE, *alike} and name in other.regions]
    return one.of(names) - other.of(names)


def _rule(difference: Summaries | None) -> str:
    if difference is None:
        return BY_VOXELS
    return BY_TOO_FEW if difference.too_few else BY_IMAGES


def _better_voxels(first: Subject, second: Subject) -> tuple[int | None, int | None]:
    """Count the voxels that are told apart by Williams' test, which is one of correlations alone."""
    few = first.predictions is None or second.predictions is None or len(first.predictions) < 4
    if first.predictions is None or second.predictions is None or few or first.measure.metric != "pearson":
        return None, None
    between = pearson(first.predictions, second.predictions)
    p = p_of_difference(first.accuracy, second.accuracy, between, len(first.predictions))
    told = benjamini_hochberg(p) < FALSE_DISCOVERIES
    higher = first.accuracy > second.accuracy
    return int((told & higher).sum()), int((told & ~higher).sum())


def _read_board(path: Path) -> pd.DataFrame:
    file = path / "leaderboard.csv" if path.is_dir() else path
    try:
        table = _renamed(pd.read_csv(file))
        best = table.sort_values("validation", ascending=False).drop_duplicates(list(_KEYS))
        kept: pd.DataFrame = best[[*_KEYS, "dataset", "validation"]]
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"The board {str(file)!r} must be a leaderboard.csv. Got: {reason}.") from error
    return kept


def _renamed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a board with the columns of today, and their names."""
    table = table.assign(**{name: value for name, value in _ADDED.items() if name not in table})
    if "objective" in table:
        return table
    return table.rename(columns={_OLD_SCORE: "validation"}).assign(objective=_OLD_OBJECTIVE)
