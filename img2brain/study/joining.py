"""Workers of a cluster that join the trials of a study, where they share the store of its home."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from img2brain.home import Home, id_at
from img2brain.machine import machine_id
from img2brain.study.workers import Command, Warned, Worker


@dataclass(frozen=True)
class Joining:
    """All that a worker of a cluster has to know to join a study.

    Attributes
    ----------
    study : str
        Its full name.
    folder : Path
        The home; all see it under one path.
    home_id : str
        Its id.
    machine : str
        The machine of the process that runs the study.
    n_threads : int, optional
        On how many threads a worker computes; by default as its environment says.
    tracking_uri, storage, cache
        As of `Home`. What may hold a password is not shown.
    """

    study: str
    folder: Path
    home_id: str
    machine: str
    n_threads: int | None
    tracking_uri: str | None = field(repr=False)
    storage: str | None = field(repr=False)
    cache: Path | None

    @classmethod
    def of(cls, study: str, home: Home, n_threads: int | None) -> Joining:
        """Return what lets others join a study that runs here."""
        cache = home.cache if home.shares_cache else None
        return cls(study, home.folder, home.id, machine_id(), n_threads, home.tracking_uri, home.storage, cache)

    def start(self) -> Worker | str:
        """Start a process that works on the trials; where they cannot be worked on here, say why."""
        if obstacle := self._obstacle():
            return obstacle
        home = Home(self.folder, self.tracking_uri, self.storage, self.cache)
        return Worker(1, Command(self.study, home, self.n_threads), Warned())

    def _obstacle(self) -> str:
        """Say why trials cannot be logged and tracked from here.

        The journal, SQLite and the locks of a home are for the processes of one machine.
        """
        if id_at(self.folder) != self.home_id:
            return f"the home {self.folder} is not there"
        has_servers = (self.storage or "").startswith("postgresql:") and self.tracking_uri is not None
        if machine_id() == self.machine or has_servers:
            return ""
        return "trials of several machines need '--storage postgresql://...' and '--tracking-uri'"
