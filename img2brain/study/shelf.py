"""The shelf of homes that share a search log and an MLflow server, and have a cache each: features are moved."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from img2brain import digest
from img2brain.amounts import counted
from img2brain.errors import StoreError, TrackingError
from img2brain.features.shelf import CacheEntry
from img2brain.home import Home
from img2brain.store import Store
from img2brain.study.log import SearchLog, open_log
from img2brain.tracking._received import receive
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.names import FEATURES, KIND

log = logging.getLogger(__name__)

_TAG = "img2brain.entry"


def shelf_of(home: Home) -> ServerShelf | None:
    """Return where a home leaves features for other machines; None where it works alone, or shares its cache."""
    works_with_others = (home.storage or "").startswith("postgresql:")
    has_server = (home.tracking_uri or "").startswith(("http:", "https:"))
    return ServerShelf(home) if works_with_others and has_server and not home.shares_cache else None


class ServerShelf:
    """Features as artifacts of an experiment of their own, a run for each pass of a network.

    A run is found by the digests of the keys of its entries, which it is given once all files are there. What is taken
    is no more than an entry of this key can be, and is compared with its digests like every entry of a cache.

    Parameters
    ----------
    home : Home
        Names the server and the search log.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    @cached_property
    def _tracking(self) -> TrackingStore:
        return TrackingStore(self._home)

    @cached_property
    def _log(self) -> SearchLog:
        return open_log(self._home)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold the right to compute what is named so, of all machines.

        Where the database was away meanwhile another may have computed the same: its numbers are the same as well.
        """
        held = ExitStack()
        held.enter_context(self._log.lock(f"features {name}"))
        try:
            yield
        finally:
            with suppress(StoreError):
                held.close()

    def take(self, entries: Sequence[CacheEntry], store: Store) -> None:
        """Bring those of some entries into a cache that are there; what cannot be had is to be computed."""
        found = [entry for entry in entries if self._take(entry, store)]
        if found:
            log.info(
                "%d of %s taken from the server",
                len(found),
                counted(len(entries), "cache entry is", "cache entries are"),
            )

    def give(self, title: str, entries: Sequence[CacheEntry], store: Store) -> None:
        """Put entries of a cache there, under a title for people.

        Raises
        ------
        TrackingError
            If the server does not answer.
        """
        client, tags = self._tracking.client, {KIND: "features", "mlflow.runName": title}
        experiment = self._tracking.experiment(FEATURES)
        with answering(self._tracking.uri):
            run = client.create_run(experiment, tags=tags)
            with self._tracking.artifacts(run) as folder:
                there = [(entry, path) for entry in entries if (path := store.find(entry.kind, entry.key)) is not None]
                for entry, path in there:
                    shutil.copytree(path, folder / _place(entry))
            for entry, _ in there:
                client.set_tag(run.info.run_id, _tag(entry), entry.kind)
            client.set_terminated(run.info.run_id)

    def _take(self, entry: CacheEntry, store: Store) -> bool:
        try:
            with answering(self._tracking.uri):
                run = self._holding(entry)
            if run is None:
                return False
            where = f"{run.info.artifact_uri}/{_place(entry)}"
            return store.adopt(entry.kind, entry.key, partial(self._receive, where, entry.n_bytes))
        except TrackingError as error:  # as where somebody freed the disk of the server
            log.warning("the cache entry %s is computed here: %s", _place(entry), error)
            return False

    def _receive(self, where: str, n_bytes: int, folder: Path) -> None:
        with answering(self._tracking.uri):
            receive(where, self._tracking.uri, folder, n_bytes)

    def _holding(self, entry: CacheEntry) -> Any:
        """Return a run that holds an entry, or None."""
        client = self._tracking.client
        experiment = client.get_experiment_by_name(FEATURES)
        if experiment is None:
            return None
        query = f"tags.`{_tag(entry)}` = '{entry.kind}' and attributes.status = 'FINISHED'"
        return next(iter(client.search_runs([experiment.experiment_id], query, max_results=1)), None)


def _place(entry: CacheEntry) -> str:
    return f"{entry.kind}/{digest.of_value(entry.key)}"


def _tag(entry: CacheEntry) -> str:
    return f"{_TAG}.{digest.of_value(entry.key)}"
