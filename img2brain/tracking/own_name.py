"""One name, one data set: two must not meet under one registered name and on one page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from img2brain import digest
from img2brain.amounts import counted
from img2brain.errors import DataError, RecordError
from img2brain.records import DatasetRecord
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.names import KIND, ORIGIN
from img2brain.tracking.reading import read_study, search

log = logging.getLogger(__name__)


def origin_of(path: Path | None) -> str:
    """Name the place that data were read from without telling it; the empty text where there is none."""
    return "" if path is None else digest.of_bytes(str(path.resolve()).encode("utf-8", "surrogateescape"))[:12]


def require_own_name(store: TrackingStore, name: str, data: str, source: str, origin: str) -> None:
    """Refuse a data set whose name is another one's.

    Data that were corrected or have grown are still the same data set: where they are read from the same place as
    before, a line says that they differ, and their trials have a board of their own. So does data of which nobody
    knows where they came from.

    Parameters
    ----------
    store : TrackingStore
        Where studies are tracked.
    name, data, source, origin : str
        What a data set is called, its digest, the name of its folder, and where that is, see `origin_of`.

    Raises
    ------
    DataError
        If the name is that of other data, which were read from another place.
    """
    known = list(_known(store, name))
    if not known or any(record.digest == data for record, _ in known):
        return
    last = known[-1][0]
    theirs = f"{last.source!r}, {counted(last.n_images, 'image')} and {counted(last.n_voxels, 'voxel')}"
    if any(_may_be_one(record, where, source, origin) for record, where in known):
        log.warning(
            "%s holds other data than before (%s): they have a board of their own. If it is another data set, give it "
            'another name in its dataset.toml, name = "..."', name, theirs,
        )  # fmt: skip
        return
    raise DataError(
        f"The name {name!r} must be that of one data set. Here it is another one's already ({theirs}), read from "
        f'another place. Give this one a name of its own: write name = "{name[:90]}-2", or the like, in its '
        "dataset.toml."
    )


def _may_be_one(record: DatasetRecord, where: str, source: str, origin: str) -> bool:
    """Tell whether data may be what became of other data: by their places, or by their folders' names."""
    return where == origin if where and origin else record.source == source


def _known(store: TrackingStore, name: str) -> Iterator[tuple[DatasetRecord, str]]:
    """Yield the data of each study under a name, and where they were read from."""
    with answering(store.uri):
        ids = [item.experiment_id for item in store.client.search_experiments() if item.name == name]
        for run in search(store, ids, f"tags.`{KIND}` = 'study'") if ids else ():
            try:
                yield read_study(store, run).dataset, run.data.tags.get(ORIGIN, "")
            except RecordError as error:
                log.warning("the run %s is left out: %s", run.info.run_id, error)
