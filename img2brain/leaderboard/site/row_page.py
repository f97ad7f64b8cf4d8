"""The page of a published row: what its confirmation says, where it comes from, how to load and cite it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from img2brain.leaderboard.networks import network_of
from img2brain.leaderboard.published import BOOTSTRAP_RULE, by_part, paired
from img2brain.leaderboard.record_numbers import images_text
from img2brain.leaderboard.rows import Row, home_name
from img2brain.leaderboard.site.axis import Axis
from img2brain.leaderboard.site.board import Board
from img2brain.leaderboard.site.digits import bounds_text, estimate_text, p_text
from img2brain.leaderboard.site.forest import DrawnInterval, Mark, ceiling_of, interval_at, marks_of
from img2brain.leaderboard.site.names import row_id
from img2brain.leaderboard.site.plots import (
    MODEL,
    Profile,
    Ridges,
    Scatter,
    accuracies,
    profile,
    ridges,
    scatters,
)
from img2brain.records import Against, PartRecord, RegionRecord

_REDUCED = {"pca": "Principal components", "all": "Principal components, all", "srp": "Random projections"}

Pairs = list[tuple[str, str]]


class Tile(NamedTuple):
    """A number at the head of the page."""

    name: str
    number: str
    about: str


class RegionLine(NamedTuple):
    """A region on the page: a drawing and its numbers."""

    name: str
    n_voxels: int
    interval: DrawnInterval
    marks: list[Mark]
    share: float | None


class ControlLine(NamedTuple):
    """Something that was scored on the same rows, and by how much the model is better."""

    name: str
    score: float
    difference: str
    bounds: str
    is_beaten: bool


@dataclass(frozen=True)
class RowPage:
    """What the page of a published row shows.

    Attributes
    ----------
    row : Row
        The row.
    part : PartRecord
        What the confirmation rows say of it.
    beside : sequence of Row
        All published rows of its board.
    same_network : sequence of Row
        All trials of its network in its study.
    with_responses : bool
        Whether measured responses may be shown.
    """

    row: Row
    part: PartRecord
    beside: Sequence[Row]
    same_network: Sequence[Row]
    with_responses: bool = True

    @property
    def id(self) -> str:
        """Names the page."""
        return row_id(self.row)

    @property
    def tiles(self) -> list[Tile]:
        """The numbers at its head."""
        row, whole = self.row, self.part.whole
        found = [
            Tile("Confirmation", estimate_text(whole.score), bounds_text(whole.score)),
            Tile("Rank", str(row.place.rank) if row.place else "–", self._ties),
            Tile("Validation", f"{row.trial.score:.3f}", f"optimism {_signed(row.trial.score - row.confirmed_score)}"),
        ]
        if whole.ceiling is not None and math.isfinite(whole.ceiling.normalised):
            found.append(
                Tile("Share of the ceiling", f"{whole.ceiling.normalised:.0%}", f"of {whole.ceiling.score:.2f}")
            )
        if whole.n_significant is not None:
            found.append(
                Tile("Voxels above chance", format(whole.n_significant, ","), f"of {whole.n_voxels:,}, FDR 5 %")
            )
        if row.drop is not None:
            found.append(Tile("Less than on the first", estimate_text(row.drop), bounds_text(row.drop)))
        return [*found, Tile("Looks", str(self.part.looks), "at these images, with this one")]

    @property
    def name(self) -> str:
        """What the part of the confirmation rows is called; empty where nobody named any."""
        record = self.row.confirmation
        return record.given_name if record else ""

    @cached_property
    def parts(self) -> list[RowPage]:
        """The page part by part of the confirmation rows, this one first."""
        record = self.row.confirmation
        return [self, *(self._by(name) for name in (record.others if record else ()))]

    def _by(self, name: str) -> RowPage:
        beside = by_part(self.beside, name)
        row = next(item for item in beside if (item.run_id, item.origin) == (self.row.run_id, self.row.origin))
        assert row.confirmed is not None, "a row has the parts that its record has"
        return replace(self, row=row, part=row.confirmed, beside=[item for item in beside if item.confirmed])

    @property
    def _ties(self) -> str:
        place = self.row.place
        group = next((group for group in paired(self.beside) if self.row in group), [])
        beside = [row.place for row in group if row.place is not None]
        if place is None or len(beside) < 2:
            return "the only model on these images"
        others = sum(other.group == place.group for other in beside) - 1
        return f"of {len(beside)}, shared with {others}" if others else f"of {len(beside)}, told apart"

    @property
    def images(self) -> str:
        """What the confirmation rows are."""
        return images_text(self.part)

    @property
    def below(self) -> str:
        """How far it is from the row above, in words."""
        place = self.row.place
        if place is None or place.difference is None:
            return ""
        found = f"{estimate_text(place.difference)} {bounds_text(place.difference)}"
        return f"The model above scores more by {found}, {p_text(place.p_value)} ({BOOTSTRAP_RULE})."

    @property
    def controls(self) -> list[ControlLine]:
        """What was scored on the same rows."""
        found = dict(self.part.whole.controls)
        if self.part.whole.best_layer is not None:
            found["a layer per voxel"] = self.part.whole.best_layer
        return [_control(name, item) for name, item in found.items()]

    @cached_property
    def axis(self) -> Axis:
        """The axis of all regions."""
        parts = self._regions.values()
        scores = [value for part in parts for value in (part.score.estimate, part.score.low, part.score.high)]
        others = [item.score for part in parts for item in part.controls.values()]
        return Axis.around([*scores, *others, *filter(None, [self.ceiling])])

    @property
    def ceiling(self) -> float | None:
        """The noise ceiling over all voxels."""
        return ceiling_of([self.part.whole])

    @property
    def regions(self) -> list[RegionLine]:
        """All voxels, and those of each region."""
        return [
            RegionLine(
                name, part.n_voxels, interval_at(self.axis, part.score), marks_of(self.axis, part),
                part.ceiling.normalised if part.ceiling else None,
            )
            for name, part in self._regions.items()
        ]  # fmt: skip

    @property
    def kinds(self) -> list[str]:
        """The controls that are drawn."""
        return list(self.part.whole.controls)

    @cached_property
    def ridges(self) -> Ridges | None:
        """How the scores are distributed over voxels, beside the controls'."""
        whole = self.part.whole
        middles = {MODEL: whole.score.estimate} | {name: item.score for name, item in whole.controls.items()}
        return ridges(accuracies(self.row), middles)

    @cached_property
    def scatters(self) -> list[Scatter]:
        """Three voxels, predicted against measured."""
        return scatters(self.row) if self.with_responses else []

    @cached_property
    def profile(self) -> Profile | None:
        """The layers of its network."""
        return profile(self.row, self.same_network)

    @property
    def pipeline(self) -> Pairs:
        """What was fitted."""
        spec, row = self.row.trial.spec, self.row
        alpha = "" if row.alpha is None else f"alpha {row.alpha:.4g}"
        return [
            (
                "Network",
                f"{spec.backbone} ({row.trial.network.library})" if row.trial.network.library else spec.backbone,
            ),
            ("Weights", f"{spec.weights}, {row.trial.network.trained}"),
            ("Preprocessing", spec.preprocessing),
            ("Layer", str(spec.space)),
            (_REDUCED[spec.reduction], f"{spec.n_components:,}"),
            ("Regressor", ", ".join(filter(None, [spec.regressor, alpha, row.other_parameters]))),
        ]

    @property
    def provenance(self) -> Pairs:
        """Where it comes from, by digests."""
        row, trial = self.row, self.row.trial
        plugins = ", ".join(f"{item.kind} {item.name} ({item.digest[:12]})" for item in trial.plugins)
        found = [
            ("Study and trial", row.name),
            ("Registered as", row.registered),
            ("From", row.origin or (f"home {home_name(row.home)}" if row.home else "")),
            ("Verified", row.verified or ("" if row.origin else "a row of the home that built this site")),
            ("Run", row.run_id),
            ("Data", trial.dataset.digest),
            ("Responses", trial.dataset.prepared),
            ("Split", f"{trial.rows.split}{f' ({trial.rows.text})' if trial.rows.text else ''}"),
            *((" ".join(filter(None, ("Confirmation rows", page.name))), page.part.rows) for page in self.parts),
            ("Network", f"{trial.network.digest}{f', {trial.network.precision}' if trial.network.precision else ''}"),
            ("Weights", trial.spec.weights_digest),
            ("Code", f"img2brain {trial.code.version}, {trial.code.digest}"),
            ("Commit", trial.code.commit),
            ("Plug-ins", plugins),
        ]  # fmt: skip
        return [(name, text) for name, text in found if text]

    @property
    def reference(self) -> str:
        """What the registered model is loaded by, in quotes; empty of a row of others, whose model is elsewhere."""
        name, _, version = self.row.registered.rpartition(" v")
        return json.dumps(f"{name}/{version}") if name and not self.row.origin else ""

    @property
    def citation(self) -> str:
        """How the data ask to be cited."""
        said = self.row.trial.dataset.provenance
        return said.citation if said else ""

    @property
    def _regions(self) -> dict[str, RegionRecord]:
        return {"": self.part.whole, **self.part.regions}


def row_pages(board: Board, *, with_responses: bool = True) -> Iterator[RowPage]:
    """Gather what the pages of the published rows of a board show."""
    networks: dict[tuple[str, ...], list[Row]] = {}
    for _, row in board.ranked:
        networks.setdefault((row.home, row.study, *network_of(row)), []).append(row)
    for row in board.published:
        if row.confirmed is not None:
            yield RowPage(
                row, row.confirmed, board.published, networks[(row.home, row.study, *network_of(row))], with_responses
            )


def _control(name: str, item: Against) -> ControlLine:
    found = item.difference
    return ControlLine(name, item.score, estimate_text(found, sign=True), bounds_text(found, sign=True), found.low > 0)


def _signed(value: float) -> str:
    return format(value, "+.3f").replace("-", "−") if math.isfinite(value) else "–"
