"""Which registered version is the champion: by the rule that ties are shown by, or by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from img2brain.records import PartRecord, TrialRecord
from img2brain.records.confirmation import CONFIRMATION, VALIDATION
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import LEVEL, Summaries
from img2brain.statistics.ties import corrected
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.reading import TrackedTrial, find_trial, stored_summaries
from img2brain.tracking.registry import Registered, Registry

_KEEPS = "it keeps the crown"


@dataclass(frozen=True, eq=False)
class _Contender:
    """A version, and the resamples of its score on some rows."""

    version: str
    summaries: Summaries


def crown(challenger: Registered, registry: Registry, store: TrackingStore) -> tuple[bool, str]:
    """Crown a version where it is told apart from the champion on the same rows, or where there is none.

    Parameters
    ----------
    challenger : Registered
        The version.
    registry : Registry
        Holds it.
    store : TrackingStore
        Holds its trial. The caller holds the store's lock.

    Returns
    -------
    is_champion : bool
    reason : str
        Why it is, or is not.
    """
    champion = registry.champion(challenger.name)
    if champion is not None and champion.version == challenger.version:
        return True, "the champion already"
    wins, reason = (True, "the first champion") if champion is None else _against(challenger, champion, registry, store)
    if wins:
        registry.crown(challenger, reason)
    return wins, reason


def crown_by_hand(chosen: Registered, registry: Registry, by: str = "") -> str:
    """Crown a version whatever it scored, and return what is kept of that."""
    champion = registry.champion(chosen.name)
    if champion is not None and champion.version == chosen.version:
        return "the champion already"
    former = f", in place of version {champion.version}" if champion else ""
    reason = f"by hand{f' of {by}' if by else ''}{former}"
    registry.crown(chosen, reason)
    return reason


def _against(
    challenger: Registered, champion: Registered, registry: Registry, store: TrackingStore
) -> tuple[bool, str]:
    """Compare two versions on the same rows, among all that were scored on them, or not at all."""
    named = f"version {champion.version}, the champion"
    ours, theirs = (find_trial(store, item.run_id) for item in (challenger, champion))
    if theirs is None or ours is None:
        return False, f"not compared with {named}, whose run is gone; {_KEEPS}"
    part = CONFIRMATION if ours.confirmation else VALIDATION
    if not _same_rows(ours, theirs, part):
        return False, f"not compared with {named}, which was scored on other rows or data; {_KEEPS}"
    found = {item.version: item for item in _contenders(ours, part, registry.versions(challenger.name), store)}
    if {challenger.version, champion.version} - found.keys():
        return False, f"not compared with {named}: resamples of the {part} rows are not there; {_KEEPS}"
    others = [item for version, item in found.items() if version not in (challenger.version, champion.version)]
    return _verdict([found[challenger.version], found[champion.version], *others], named, part)


def _verdict(found: list[_Contender], named: str, part: str) -> tuple[bool, str]:
    """Decide between the first and the second of all that were scored on the same rows."""
    p = float(corrected([item.summaries for item in found], WHOLE)[0, 1])
    difference = (found[0].summaries - found[1].summaries).interval()
    said = f"{part} difference {difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}], p = {p:.2g}"
    said += f" among {len(found)} models" if len(found) > 2 else ""
    if not p < 1 - LEVEL:
        return False, f"tied with {named}: {said}; {_KEEPS}"
    if difference.estimate < 0:
        return False, f"below {named}: {said}; {_KEEPS}"
    return True, f"above {named.removesuffix(', the champion')}, the champion before: {said}"


def _contenders(
    ours: TrackedTrial, part: str, versions: list[Registered], store: TrackingStore
) -> Iterator[_Contender]:
    """Yield the versions that were scored on the rows of one, those whose resamples are stored."""
    how = ours.record.metrics[ours.record.objective].summary
    for item in versions:
        trial = ours if item.run_id == ours.run_id else find_trial(store, item.run_id)
        if trial is None or not _same_rows(ours, trial, part):
            continue
        summaries = stored_summaries(store, item.run_id, how, part)
        if summaries is not None:
            yield _Contender(item.version, summaries.of([WHOLE]))


def _same_rows(one: TrackedTrial, other: TrackedTrial, part: str) -> bool:
    """Tell whether two trials were scored by one objective on the same rows of a part."""
    return _board(one.record) == _board(other.record) and _rows(one, part) == _rows(other, part)


def _board(record: TrialRecord) -> tuple[str, str]:
    return record.rows.digest, record.objective


def _rows(trial: TrackedTrial, part: str) -> str | None:
    record = trial.confirmation if part == CONFIRMATION else trial.validation
    found: PartRecord | None = record.parts.get(part) if record else None
    return found.rows if found else None
