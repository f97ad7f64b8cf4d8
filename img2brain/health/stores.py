"""The stores: whether the search log and the runs can be reached and read, and which runs nobody will finish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from img2brain.amounts import counted
from img2brain.finding import Finding
from img2brain.home import Home
from img2brain.secret import masked
from img2brain.study.log import existing_log, holds_searches, read_journal
from img2brain.tracking import upkeep
from img2brain.tracking._database import require_no_artifacts, require_same_version
from img2brain.tracking._store import TrackingStore, answering
from img2brain.tracking.names import HOME, KIND, WORKER


def facts(home: Home) -> dict[str, str]:
    """Return where the home is, and its runs, searches and cache."""
    return {
        "home": str(home.folder),
        "runs": masked(home.tracking_uri or str(home.database)),
        "searches": masked(home.storage or str(home.search_log)),
        "cache": str(home.cache),
    }


def search_log(home: Home) -> Iterator[Finding]:
    """Tell whether the search log can be read; one in a database is asked whether it is there."""
    if home.storage is not None:
        if holds_searches(home.storage):
            existing_log(home)
    elif home.search_log.exists():
        found = read_journal(home.search_log)
        # A line that is not whole may be being written.
        if line := found.damaged or (None if home.is_in_use else found.cut):
            said = f"Line {line} of the search log {home.search_log} is damaged or cut."
            advice = "Run the study again: the log is kept beside, and written again from the records of the runs."
            yield Finding(said, advice)


def tracking(home: Home) -> Iterator[Finding]:
    """Tell whether runs can be reached, and whether those in the home's own database are whole."""
    if home.tracking_uri is not None:
        TrackingStore(home)
    elif home.database.exists():
        yield from upkeep.problems(home)
        with answering(str(home.database)):
            require_same_version(home.database)
    else:
        require_no_artifacts(home.database, home.artifacts)


def half_tracked(home: Home) -> Iterator[Finding]:
    """Tell which runs were begun by workers that are dead."""
    runs = _half_tracked(home)
    log = existing_log(home) if runs else None
    living = log.living({worker for worker in runs.values() if worker}) if log else set()
    if dead := sorted(run for run, worker in runs.items() if worker not in living):
        said = f"{counted(len(dead), 'run is', 'runs are')} half tracked by workers that are dead, such as {dead[0]}."
        yield Finding(said, "Run their study again: what was told is tracked whole, and what was not is tried again.")


def _half_tracked(home: Home) -> Mapping[str, str]:
    if home.tracking_uri is None:
        return upkeep.half_tracked(home) if home.database.exists() else {}
    store = TrackingStore(home)
    with answering(store.uri):
        experiments = [item.experiment_id for item in store.client.search_experiments()]
        found = list(store.runs(experiments, f"tags.`{KIND}` = 'trial' and attributes.status = 'RUNNING'"))
    own = [run for run in found if run.data.tags.get(HOME) in home.own_ids]
    return {run.info.run_id: run.data.tags.get(WORKER, "") for run in own}
