"""The published scores as rows of a leaderboard, and as runs of a home."""

from __future__ import annotations

from pathlib import Path

from img2brain.home import Home
from img2brain.leaderboard.rows import Row
from img2brain.predecessor.entries import DATASET, ENTRIES, N_VOXELS, Entry, record_of
from img2brain.predecessor.published import PublishedScores, read_published
from img2brain.result import summary_of
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.tracker import log_references

_NOTES = {("alexnet", "features.2", 30): "its summary table prints 0.2; the scores of its voxels give .1855"}


def reference_rows() -> list[Row]:
    """Return the published table as rows of a leaderboard, with the caveats written on each."""
    return [_row(number, entry) for number, entry in enumerate(ENTRIES)]


def import_predecessor(folder: Path, home: Home) -> list[PublishedScores]:
    """Track the published scores as runs of their own, with the scores of their voxels; once, however often called.

    Parameters
    ----------
    folder : Path
        As for `read_published`.
    home : Home
        Where they are tracked.
    """
    published = read_published(folder)
    records = {
        number: (record_of(number, item.entry, summary_of(item.accuracy), item.note), {"accuracy": item.accuracy})
        for number, item in enumerate(published)
    }
    log_references(TrackingStore(home), home.id, records)
    return published


def _row(number: int, entry: Entry) -> Row:
    note = _NOTES.get((entry.backbone, entry.layer, entry.n_components), "")
    summary = {"median": entry.median_r, "n_voxels": float(N_VOXELS)}
    return Row(run_id=f"{DATASET}-{number}", trial=record_of(number, entry, summary, note))
