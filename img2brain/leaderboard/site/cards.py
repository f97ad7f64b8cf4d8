"""The card of a data set: what is known of it, and what was scored on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from img2brain.leaderboard.rows import Row
from img2brain.leaderboard.site.board import Board
from img2brain.leaderboard.site.names import dataset_id
from img2brain.records import DatasetRecord, ProvenanceRecord


@dataclass(frozen=True)
class DatasetCard:
    """What the card of a data set shows.

    Attributes
    ----------
    record : DatasetRecord
        What is known of it.
    regions : mapping of str to int
        Voxels of each region of interest.
    boards : list of Board
        Its boards.
    """

    record: DatasetRecord
    regions: dict[str, int]
    boards: list[Board]

    @property
    def id(self) -> str:
        """Names its page."""
        return dataset_id(self.record)

    @property
    def provenance(self) -> ProvenanceRecord:
        """Where it comes from; empty where nothing was said."""
        return self.record.provenance or ProvenanceRecord()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What readers ask of data, each with its name; empty where it was not said."""
        said, record = self.provenance, self.record
        return [
            ("Species", said.species),
            ("Subject", record.subject),
            ("Area", said.area),
            ("Images with responses", format(record.n_images, ",")),
            ("Voxels", format(record.n_voxels, ",")),
            ("Unit", record.unit),
            ("Responses", record.prepared),
            ("Licence", said.licence),
            ("Source", said.url),
            ("Citation", said.citation),
            ("Layout", record.layout),
            ("Digest", record.digest),
        ]


def cards_of(boards: Iterable[Board]) -> list[DatasetCard]:
    """Gather a card for each data set of some boards."""
    groups: dict[str, list[Board]] = {}
    for board in boards:
        groups.setdefault(board.dataset_page, []).append(board)
    return [_card(group) for group in groups.values()]


def _card(group: list[Board]) -> DatasetCard:
    rows = [row for board in group for _, row in board.ranked]
    records = [row.trial.dataset for row in rows]
    said = next((record for record in records if record.provenance is not None), records[0])
    return DatasetCard(said, _regions(rows), group)


def _regions(rows: list[Row]) -> dict[str, int]:
    """Count the voxels of regions, as the studies know them, or the confirmation does."""
    study = next((row.study_record for row in rows if row.study_record is not None), None)
    if study is not None:
        return {name: len(voxels) for name, voxels in study.regions.items()}
    part = next((row.confirmed for row in rows if row.confirmed is not None), None)
    return {} if part is None else {name: region.n_voxels for name, region in part.regions.items()}
