"""What the confirmation rows say of the published models of a board: intervals, ties, controls, ceilings, regions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from img2brain.statistics.bootstrap import Interval, Summaries
from img2brain.statistics.ties import Place, place

if TYPE_CHECKING:
    from img2brain.leaderboard.rows import Row

ALL = "all"
CONTROLS = ("untrained", "pixels", "shuffled")
BOOTSTRAP_RULE = "paired bootstrap over images, Holm correction over all pairs"
_PREFIX = "confirmation_"


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What is known of one published model from rows that its search never saw.

    Attributes
    ----------
    rows : str
        Names the rows: models with the same name were scored on the same responses.
    count : int
        How many models had been scored on these rows, with this one.
    score : Interval
        Median r over voxels.
    optimism : float
        Search score minus this score.
    n_significant : int
        Voxels predicted above chance at a false discovery rate of 5 %.
    ceiling : str
        Where the noise ceiling comes from; ``"none"`` where there is none.
    ceiling_r, normalised_r, explained_share : float
        Medians over the reliable voxels: the ceiling, r as a share of it, and the signed share of the explainable
        variance. NaN without a ceiling.
    n_unreliable, n_above_ceiling : int
        Voxels left out of those, and voxels whose r exceeds its ceiling; nothing is clipped.
    controls : mapping of str to (float, Interval)
        Median r of each control, and the paired difference of the model to it.
    best_layer : (float, Interval), optional
        Median r where each voxel has the layer that validated best for it, and the model's difference to that.
    regions : mapping of str to mapping of str to float
        The same numbers by region of interest.
    medians : Summaries, optional
        Resamples, for comparisons with others.
    place : Place, optional
        Where it stands among the models that were scored on the same rows.
    rule : str
        How ties were told.
    """

    rows: str
    count: int
    score: Interval
    optimism: float
    n_significant: int = 0
    ceiling: str = "none"
    ceiling_r: float = math.nan
    normalised_r: float = math.nan
    explained_share: float = math.nan
    n_unreliable: int = 0
    n_above_ceiling: int = 0
    controls: Mapping[str, tuple[float, Interval]] = field(default_factory=dict)
    best_layer: tuple[float, Interval] | None = None
    regions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    medians: Summaries | None = None
    place: Place | None = None
    rule: str = ""

    @property
    def beats_its_twin(self) -> bool | None:
        """Whether it beats the same network with random weights, beyond chance; None where it has no such twin."""
        twin = self.controls.get("untrained")
        return None if twin is None else twin[1].low > 0


def from_metrics(metrics: Mapping[str, float], rows: str, ceiling: str, medians: Summaries | None) -> Confirmed:
    """Read what was logged of a confirmation (see `img2brain.confirm`)."""
    own = {name.removeprefix(_PREFIX): value for name, value in metrics.items() if name.startswith(_PREFIX)}

    def against(name: str) -> tuple[float, Interval] | None:
        if f"{name}_difference" not in own:
            return None
        difference = (own[f"{name}_difference{end}"] for end in ("", "_low", "_high"))
        return own[f"{name}_median_r"], Interval(*difference)

    controls = {name: found for name in CONTROLS if (found := against(f"control_{name}")) is not None}
    return Confirmed(
        rows=rows,
        count=int(own.get("count", 1)),
        score=Interval(own["median_r"], own.get("low", math.nan), own.get("high", math.nan)),
        optimism=own.get("optimism", math.nan),
        n_significant=int(own.get("n_significant", 0)),
        ceiling=ceiling or "none",
        ceiling_r=own.get("ceiling_median_r", math.nan),
        normalised_r=own.get("normalised_median_r", math.nan),
        explained_share=own.get("explained_share", math.nan),
        n_unreliable=int(own.get("n_unreliable", 0)),
        n_above_ceiling=int(own.get("n_above_ceiling", 0)),
        controls=controls,
        best_layer=against("best_layer"),
        regions=_by_region(metrics),
        medians=medians,
    )


def with_places(rows: Iterable[Row]) -> list[Row]:
    """Place the published models of a board that were scored on the same rows, ties as ties."""
    found, groups = [], dict[str, list["Row"]]()
    for row in rows:
        if row.confirmed is None or row.confirmed.medians is None or not math.isfinite(row.confirmed.score.estimate):
            found.append(row)
        else:
            groups.setdefault(row.confirmed.rows, []).append(row)
    return found + [row for group in groups.values() for row in _placed(group)]


def confirmed_rows(board: Iterable[Row]) -> list[Row]:
    """Return the published rows of a board, best confirmation score first."""

    def order(row: Row) -> tuple[float, str, int]:
        assert row.confirmed is not None, "only confirmed rows are ordered"
        score = row.confirmed.score.estimate
        return (-score if math.isfinite(score) else math.inf, row.study, row.trial)

    return sorted((row for row in board if row.confirmed is not None), key=order)


def summary_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Tell what the confirmation rows say, one line per published model, as texts for people.

    Parameters
    ----------
    rows : sequence of Row
        From `confirmed_rows`.
    """
    return pd.DataFrame([_line(row, row.confirmed) for row in rows if row.confirmed is not None]).fillna("")


def region_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Tell the same by region of interest, one line per model and region, as numbers."""
    lines = [
        {"model": row.registered or f"{row.study} #{row.trial}", "region": region, **values}
        for row in rows
        if row.confirmed is not None
        for region, values in row.confirmed.regions.items()
    ]
    return pd.DataFrame(lines)


def heading(rows: Sequence[Row]) -> str:
    """Say in one line what the scores of these rows are."""
    first = rows[0]
    images = f"{first.n_confirmation:,} images" if first.n_confirmation else "images"
    count = max(row.confirmed.count for row in rows if row.confirmed is not None)
    rules = sorted({row.confirmed.rule for row in rows if row.confirmed is not None and row.confirmed.rule})
    said = f"{images} that the search never saw; confirmed {count} time{'s' * (count != 1)} on these rows"
    return said + (f". Ties: {', '.join(rules)}" if rules else "")


def interval_text(interval: Interval, digits: int = 3, *, sign: bool = False) -> str:
    """Write a number with its interval.

    Examples
    --------
    >>> interval_text(Interval(0.1234, 0.1, 0.15))
    '0.123 [0.100, 0.150]'
    """
    form = f"{'+' if sign else ''}.{digits}f"
    if not math.isfinite(interval.estimate):
        return ""
    if not math.isfinite(interval.low):
        return format(interval.estimate, form)
    return f"{interval.estimate:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _placed(group: list[Row]) -> Iterator[Row]:
    ordered = confirmed_rows(group)
    confirmed = [row.confirmed for row in ordered if row.confirmed is not None]
    medians = [item.medians for item in confirmed if item.medians is not None]
    for row, item, found in zip(ordered, confirmed, place(medians, ALL), strict=True):
        yield replace(row, confirmed=replace(item, place=found, rule=BOOTSTRAP_RULE if len(group) > 1 else ""))


def _by_region(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        region, slash, own = name.rpartition("/")
        if slash and own.startswith(_PREFIX):
            found.setdefault(region, {})[own.removeprefix(_PREFIX)] = value
    return dict(sorted(found.items()))


def _line(row: Row, item: Confirmed) -> dict[str, str]:
    line = {
        "rank": _rank(item.place),
        "model": row.registered or f"{row.study} #{row.trial}",
        "backbone": row.backbone,
        "weights": f"{row.weights} ({row.trained})" if row.trained else row.weights,
        "layer": row.layer,
        "regressor": row.regressor,
        "confirmation r [95 %]": interval_text(item.score, 4),
        "below the row above by": _difference(item.place),
        "search score minus it": _plain(item.optimism, "+.4f"),
    }
    if item.ceiling != "none":
        line["ceiling r"] = f"{item.ceiling_r:.3f} ({item.ceiling})"
        line["share of ceiling"] = f"{item.normalised_r:.3f} ({item.n_unreliable} voxels left out)"
    for name, (score, difference) in item.controls.items():
        line[f"{name}"] = f"{score:.4f}, the model {interval_text(difference, sign=True)}"
    if item.beats_its_twin is False:
        line["flag"] = "does not beat its untrained twin"
    if item.best_layer is not None:
        gain = Interval(-item.best_layer[1].estimate, -item.best_layer[1].high, -item.best_layer[1].low)
        line["gain of a layer per voxel"] = interval_text(gain, sign=True)
    line["voxels above chance"] = f"{item.n_significant} of {row.n_voxels}"
    return line


def _rank(found: Place | None) -> str:
    return "" if found is None else str(found.rank)


def _difference(found: Place | None) -> str:
    if found is None or found.difference is None:
        return ""
    p = f"p = {found.p_value:.2g}" if math.isfinite(found.p_value) else "no p"
    return f"{interval_text(found.difference)}, {p}"


def _plain(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else ""
