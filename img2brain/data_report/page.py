"""What a report shows, section by section, ready for its template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from img2brain.amounts import counted
from img2brain.data_report.drawings import Cloud, Hills, Spans, cloud, hills, path_of, short, spans
from img2brain.data_report.pictures import raster, thumbnail
from img2brain.data_report.quality import PartCeiling, Quality, quality_of
from img2brain.data_report.seen import MOST, Drift, Seen, drift_of, evenly, five, look
from img2brain.data_report.suspicions import Suspicion, of_check, of_numbers, z_scored
from img2brain.datasets._looks import Report, Section
from img2brain.datasets._split import Split, split_rows
from img2brain.datasets.base import Dataset
from img2brain.errors import Img2BrainError, SpecError
from img2brain.leaderboard.site.axis import Axis
from img2brain.spec import SplitSpec

F64 = NDArray[np.float64]
T = TypeVar("T")
Pairs = list[tuple[str, str]]

_AT_ENDS = 4
_AT_RANDOM = 8
_N_CLOUDS = 3
_MOST_LINES = 40  # of sessions, regions
_MOST_SETS = 8
_MOST_PAIRS = 100
_NOTHING = ("", "")
_SECTIONS = [
    ("rows", "Rows and their images"),
    ("responses", "Responses"),
    ("quality", "Reliability"),
    ("splits", "Splits and groups"),
    ("duplicates", "Duplicates"),
    ("drift", "Baseline drift"),
]


class Shot(NamedTuple):
    """A picture with what is said of it."""

    row: int
    part: str
    name: str
    picture: str
    about: str


class Album(NamedTuple):
    """Pictures of a part."""

    name: str
    shots: list[Shot]


class RegionQuality(NamedTuple):
    """A line of the table of regions."""

    name: str
    n_voxels: int
    reliability: str
    ceilings: list[tuple[str, str]]


class SameSet(NamedTuple):
    """Rows that show the same picture."""

    shots: list[Shot]
    n_rows: int
    is_across: bool


class Movement(NamedTuple):
    """A baseline over stretches: its median voxel, and bands of the middle half and of nine tenths of them."""

    x: Axis
    y: Axis
    line: str
    half: str
    most: str
    ticks: list[tuple[float, str]]


@dataclass(eq=False)
class DataPage:
    """All that a report says of a dataset.

    Attributes
    ----------
    report : Report
        What a check found.
    dataset : Dataset or None
        None where it could not be opened.
    """

    report: Report
    dataset: Dataset | None
    failed: list[Suspicion] = field(default_factory=list)

    # What is looked at, once each; what fails becomes suspicious, and the rest of the page is there.

    def _tried(self, what: str, anchor: str, work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except MemoryError:
            raise
        except Exception as error:  # the code of a layout raises anything
            reason = " ".join(str(error).split()) or type(error).__name__
            told = reason if isinstance(error, Img2BrainError) else f"{type(error).__name__}: {reason}"
            self.failed.append(Suspicion("error", f"The {what} cannot be shown. {told}", anchor))
            return otherwise

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The parts of the dataset."""
        return () if self.dataset is None else self._tried("rows", "rows", lambda: self._opened.sections, ())

    @cached_property
    def seen(self) -> Mapping[str, Seen]:
        """What the responses of each part are like."""
        return self._tried("responses", "responses", self._seen, {})

    def _seen(self) -> Mapping[str, Seen]:
        return {part.name: look(part.responses) for part in self.sections if part.responses is not None}

    @cached_property
    def drift(self) -> Drift | None:
        """How responses move."""
        return self._tried("drift", "drift", self._drift, None) if self.seen else None

    def _drift(self) -> Drift | None:
        return drift_of(self._opened.recorded, self._opened.n_voxels)

    @cached_property
    def quality(self) -> Quality | None:
        """How reliable responses are."""
        return self._tried("reliability", "quality", self._quality, None) if self.seen else None

    def _quality(self) -> Quality | None:
        return quality_of(self._opened, self.sections)

    @cached_property
    def split(self) -> Split | None:
        """The default split of a study."""
        if self.dataset is None:
            return None
        try:
            return split_rows(SplitSpec(), self._opened.n_training, self._opened.n_test, self.report.ties)
        except SpecError:  # the check says so
            return None

    @property
    def _opened(self) -> Dataset:
        assert self.dataset is not None
        return self.dataset

    # What stands at the head, and what it is.

    @cached_property
    def suspicions(self) -> list[Suspicion]:
        """Everything suspicious, errors first: what failed is among it once everything was looked at."""
        seen, drift, quality, _ = self.seen, self.drift, self.quality, self.likeness
        found = [*self.failed, *of_check(self.report), *of_numbers(seen, drift, quality)]
        return sorted(found, key=lambda each: ("error", "warning", "note").index(each.severity))

    @property
    def n_errors(self) -> int:
        """How many errors there are."""
        return sum(each.severity == "error" for each in self.suspicions)

    @property
    def title(self) -> str:
        """The title of the page."""
        return f"Data report: {self.report.name or self.report.source or 'a folder that cannot be opened'}"

    @property
    def summary(self) -> str:
        """What it is, on a line."""
        report = self.report
        if self.dataset is None:
            return f"Recognised as {report.layout!r}, but it cannot be opened."
        n_test = counted(report.test_images, "test image", form=",")
        images = counted(report.images, "training image", form=",") + (f" and {n_test}" if report.test_images else "")
        return f"{images}, {counted(report.voxels, 'voxel', form=',')}, in the layout {report.layout!r}."

    @property
    def counted(self) -> str:
        """How much is suspicious."""
        kinds = [each.severity for each in self.suspicions]
        counts = [(kinds.count(kind), kind) for kind in ("error", "warning", "note") if kind in kinds]
        return ", ".join(counted(n, kind) for n, kind in counts)

    @property
    def contents(self) -> Pairs:
        """Its sections."""
        return [("what", "What it is"), *(_SECTIONS if self.dataset else []), ("suspicious", "What is suspicious")]

    @property
    def tiles(self) -> list[tuple[str, str, str]]:
        """The numbers at its head."""
        report, dataset = self.report, self.dataset
        n_regions = len(dataset.rois) if dataset else 0
        return [
            ("Layout", report.layout or "–", report.source),
            ("Training images", f"{report.images:,}", counted(report.test_images, "test image", form=",")),
            ("Voxels", f"{report.voxels:,}", counted(n_regions, "region")),
            ("Subject", report.subject or "–", f"unit: {report.unit or 'not said'}"),
        ]

    @property
    def about(self) -> Pairs:
        """What it is, in words."""
        report = self.report
        found = [("name", report.name), *report.preparation.items()]
        if self.dataset is not None:
            told = self.dataset.provenance
            found += [(key, str(getattr(told, key))) for key in ("species", "area", "licence", "url", "citation")]
            found += [("features of its own", self._given), ("images were shown", told_presentation(self.dataset))]
        return [pair for pair in [*found, ("digest", (report.digest or "")[:16])] if pair[1]]

    @property
    def _given(self) -> str:
        matrices = self._opened.features.items()
        return ", ".join(f"{name} ({matrix.shape[1]})" for name, matrix in matrices)

    # Rows and their pictures.

    @cached_property
    def albums(self) -> list[Album]:
        """The first rows of each part, some at random, and the last ones."""
        return [self._album(part) for part in self.sections if part.images]

    def _album(self, part: Section) -> Album:
        n = len(part.images)
        middle = np.arange(_AT_ENDS, max(n - _AT_ENDS, _AT_ENDS))
        chosen = np.random.default_rng(0).choice(middle, min(_AT_RANDOM, len(middle)), replace=False)
        rows = sorted({*range(min(_AT_ENDS, n)), *chosen.tolist(), *range(max(n - _AT_ENDS, 0), n)})
        which = "all" if len(rows) == n else "the first ones, some at random, the last ones"
        return Album(f"{part.name.capitalize()} images: {which}", [self._shot(part, row) for row in rows])

    def _shot(self, part: Section, row: int) -> Shot:
        seen = self.seen.get(part.name)
        about = f"mean {short(float(seen.row_mean[row]))}" if seen is not None and row < seen.n_rows else ""
        path = part.images[row]
        return Shot(row, part.name, path.name, thumbnail(path, self._opened.presentation), about)

    # Responses.

    @cached_property
    def distributions(self) -> list[tuple[str, Hills]]:
        """How responses are distributed: single values, means and spreads of voxels, means of images."""
        unit = self.report.unit or "unit not said"
        kinds: list[tuple[str, str, Callable[[Seen], F64]]] = [
            ("All responses", unit, lambda seen: seen.values.ravel()),
            ("By voxel: the mean over images", unit, lambda seen: seen.voxel_mean),
            ("By voxel: the standard deviation over images", unit, lambda seen: seen.voxel_sd),
            ("By image: the mean over voxels", unit, lambda seen: seen.row_mean),
        ]
        found = [
            (name, hills(label, {part: of(seen) for part, seen in self.seen.items()})) for name, label, of in kinds
        ]
        return [(name, drawn) for name, drawn in found if drawn is not None]

    @cached_property
    def by_session(self) -> Spans | None:
        """Responses of each session; None where no sessions are known."""
        if self.drift is None or not self.drift.by_session:
            return None
        shown = [self.drift.stretches[k] for k in evenly(len(self.drift.stretches), _MOST_LINES)]
        lines = [(f"session {each.name}", f"{each.n:,} {self.drift.what}", each.levels) for each in shown]
        return spans(f"responses, {self.report.unit or 'unit not said'}, as they lie in the files", lines)

    @cached_property
    def map(self) -> str:
        """The training responses as colours, images down and voxels across."""
        seen = self.seen.get("training")
        return "" if seen is None else raster(z_scored(seen))

    @cached_property
    def clouds(self) -> list[tuple[str, list[Cloud]]]:
        """Some voxels over images, and some images over voxels."""
        seen = self.seen.get("training")
        if seen is None:
            return []
        chance = np.random.default_rng(1)
        varying = np.flatnonzero(seen.voxel_sd[seen.voxels] > 0)
        columns = np.sort(chance.choice(varying, min(_N_CLOUDS, len(varying)), replace=False))
        rows = np.sort(chance.choice(len(seen.rows), min(_N_CLOUDS, len(seen.rows)), replace=False))
        over_images = [self._of_voxel(seen, int(column)) for column in columns]
        over_voxels = [self._of_row(seen, int(row)) for row in rows]
        return [("Activity of voxels over the training images", over_images),
                ("Activity of training images over the voxels", over_voxels)]  # fmt: skip

    def _of_voxel(self, seen: Seen, column: int) -> Cloud:
        voxel = int(seen.voxels[column])
        about = f"mean {short(float(seen.voxel_mean[voxel]))}, sd {short(float(seen.voxel_sd[voxel]))}"
        return cloud(f"Voxel {voxel}", about, seen.rows, seen.values[:, column], "row")

    def _of_row(self, seen: Seen, place: int) -> Cloud:
        row = int(seen.rows[place])
        about = f"mean {short(float(seen.row_mean[row]))}, sd {short(float(seen.row_sd[row]))}"
        return cloud(f"Image of row {row}", about, seen.voxels, seen.values[place], "voxel")

    # Reliability.

    @cached_property
    def regions(self) -> list[RegionQuality]:
        """Reliability and ceiling by region."""
        quality = self.quality
        if quality is None:
            return []
        names = list(quality.regions)[: _MOST_LINES + 1]
        return [self._region(quality, name, quality.regions[name]) for name in names]

    @property
    def n_regions_left_out(self) -> int:
        """How many regions the table leaves out."""
        return max(0, len(self.quality.regions) - _MOST_LINES - 1) if self.quality else 0

    def _region(self, quality: Quality, name: str, voxels: NDArray[np.intp]) -> RegionQuality:
        reliability = "" if quality.reliability is None else _spread(quality.reliability[voxels])
        ceilings = [_ceiling_text(found, voxels) for found in quality.ceilings.values()]
        return RegionQuality(name or "All voxels", len(voxels), reliability, ceilings)

    @cached_property
    def region_spans(self) -> list[tuple[str, Spans]]:
        """The spread over voxels of each region, of reliability and of ceilings."""
        quality = self.quality
        if quality is None:
            return []
        kinds = {f"noise ceiling of the {part} responses, r": each.r for part, each in quality.ceilings.items()}
        if quality.reliability is not None:
            kinds["reliability of the training responses, r"] = quality.reliability
        shown = list(quality.regions.items())[: _MOST_LINES + 1]
        found = [
            (label, spans(label, [(name or "All voxels", counted(len(voxels), "voxel", form=","), five(values[voxels]))
                                  for name, voxels in shown], anchored=True))
            for label, values in kinds.items()
        ]  # fmt: skip
        return [(label, drawn) for label, drawn in found if drawn is not None]

    # Splits, groups and duplicates.

    @property
    def split_lines(self) -> list[tuple[str, int, str]]:
        """The parts of the default split."""
        split = self.split
        if split is None:
            return []
        found = [("train", len(split.train), "fitted to"), ("validation", len(split.validation), "rank the trials"),
                 ("confirmation", len(split.confirmation), "scored once, by the model that is published")]  # fmt: skip
        left_out = [
            (f"left out of {part}", len(rows), "tied to rows of another part") for part, rows in split.left_out.items()
        ]
        return found + left_out

    @cached_property
    def group_facts(self) -> Pairs:
        """How many groups there are, and how large; what else a split may go by."""
        groups = None if self.dataset is None else self.dataset.groups
        told = {"splits by name": self.report.splits, "columns that a split may go by": self.report.columns}
        others = [(what, ", ".join(names)) for what, names in told.items() if names]
        if groups is None:
            return others
        names, counts = np.unique(groups, return_counts=True)
        largest = np.argsort(-counts, kind="stable")[:5]
        sizes = f"{counts.min():,} to {counts.max():,}, median {np.median(counts):,.0f}"
        shown = ", ".join(f"{names[k]} ({counts[k]:,})" for k in largest)
        return [("groups", f"{len(names):,}"), ("rows of a group", sizes), ("largest", shown), *others]

    @cached_property
    def same_sets(self) -> list[SameSet]:
        """Rows with equal pictures (or features): the first sets of them."""
        return [self._same_set(rows) for rows in self._equal[:_MOST_SETS]]

    @cached_property
    def _equal(self) -> list[NDArray[np.intp]]:
        ties = self.report.ties
        if ties is None or self.dataset is None:
            return []
        order = np.argsort(ties.equal, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(ties.equal[order])) + 1)
        return [rows for rows in parts if len(rows) > 1]

    @property
    def n_equal(self) -> tuple[int, int]:
        """How many rows have an equal one, and in how many sets."""
        return sum(map(len, self._equal)), len(self._equal)

    def _same_set(self, rows: NDArray[np.intp]) -> SameSet:
        placed = [self._placed(int(row)) for row in rows]
        shots = [self._shot(part, row) for part, row in placed[:_AT_ENDS] if row < len(part.images)]
        return SameSet(shots, len(rows), len({part.name for part, _ in placed}) > 1)

    def _placed(self, row: int) -> tuple[Section, int]:
        n_training = self._opened.n_training
        return (self.sections[0], row) if row < n_training else (self.sections[1], row - n_training)

    @cached_property
    def likeness(self) -> tuple[float, float, int] | None:
        """How responses to equal pictures correlate over voxels, beside those to others, and of how many pairs."""
        pairs = [(rows[0], rows[1]) for rows in self._equal[:_MOST_PAIRS]]
        if not pairs or "training" not in self.seen or len(self.seen["training"].voxels) < 10:
            return None
        return self._tried("likeness of duplicates", "duplicates", lambda: self._likeness(pairs), None)

    def _likeness(self, pairs: Sequence[tuple[np.intp, np.intp]]) -> tuple[float, float, int] | None:
        one, other = (np.stack([self._z(int(row)) for row in side]) for side in zip(*pairs, strict=True))
        far = z_scored(self.seen["training"])
        half = len(far) // 2
        return float(np.median(_r(one, other))), float(np.median(_r(far[:half], far[half : 2 * half]))), len(pairs)

    def _z(self, row: int) -> F64:
        part, place = self._placed(row)
        assert part.responses is not None
        seen = self.seen["training"]
        sd = seen.voxel_sd[seen.voxels]
        values = part.responses.read(place, place + 1)[0][seen.voxels].astype(np.float64)
        return np.asarray(np.nan_to_num((values - seen.voxel_mean[seen.voxels]) / np.where(sd > 0, sd, np.inf)))

    @cached_property
    def n_same_responses(self) -> int:
        """How many rows have exactly the responses of another one."""
        return sum(int((seen.equal != np.arange(seen.n_rows)).sum()) for seen in self.seen.values())

    # Drift.

    @cached_property
    def movement(self) -> Movement | None:
        """The baseline over stretches."""
        return None if self.drift is None else _movement(self.drift)

    @property
    def drift_facts(self) -> Pairs:
        """What is known of the drift."""
        drift = self.drift
        if drift is None:
            return []
        between = "sessions" if drift.by_session else "stretches"
        n, name = len(drift.stretches), drift.what
        return [
            ("followed", f"{sum(each.n for each in drift.stretches):,} {name} in {n} {between}"),
            (f"variance between {between}", f"{drift.median:.1%} of the median voxel"),
            ("voxels with more than a tenth of it there", f"{drift.moved:.0%}"),
        ]

    @property
    def sampled(self) -> str:
        """Say what is drawn, where that is not all."""
        cut = [
            seen
            for seen in self.seen.values()
            if len(seen.rows) < seen.n_rows or len(seen.voxels) < len(seen.voxel_mean)
        ]
        return f"At most {MOST:,} images and {MOST:,} voxels are drawn, evenly spread." if cut else ""


def told_presentation(dataset: Dataset) -> str:
    """Say how images were shown."""
    turned = "turned as their EXIF data say" if dataset.orientation == "exif" else "as they are stored"
    return f"{turned}, what is transparent over {dataset.background}"


def _movement(drift: Drift) -> Movement | None:
    found = [fives for each in drift.stretches if (fives := five(each.means)) is not None]
    if len(found) < 2 or len(found) < len(drift.stretches):
        return None
    low, q1, middle, q3, high = np.array(found).T
    x, y = Axis.around([0, len(found) - 1]), Axis.around([low.min(), high.max()], 4)
    at = [100 * (k + 0.5) / len(found) for k in range(len(found))]
    down = [[y.down(value) for value in each] for each in (low, q1, middle, q3, high)]
    shown = evenly(len(found), 6)
    ticks = [(at[k], drift.stretches[k].name) for k in shown]
    return Movement(x, y, path_of(at, down[2]), _band(at, down[1], down[3]), _band(at, down[0], down[4]), ticks)


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> str:
    return path_of([*x, *reversed(x)], [*low, *reversed(high)]) + "Z"


def _spread(values: F64) -> str:
    """Write a median with its quartiles."""
    fives = five(values)
    return f"{fives[2]:.2f} ({fives[1]:.2f} to {fives[3]:.2f})" if fives else "–"


def _ceiling_text(ceiling: PartCeiling, voxels: NDArray[np.intp]) -> tuple[str, str]:
    own = np.intersect1d(voxels, ceiling.known)
    return (_spread(ceiling.r[own]), f"{ceiling.reliable[own].mean():.0%}") if len(own) else _NOTHING


def _r(one: F64, other: F64) -> F64:
    a, b = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(norm > 0, norm, np.inf))
