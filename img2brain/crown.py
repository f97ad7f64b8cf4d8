"""Which registered version is the champion: by the rule that ties are shown by, or by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan

from img2brain.errors import ModelError, quoted
from img2brain.records import Estimate, PartRecord
from img2brain.records.confirmation import VALIDATION
from img2brain.result import WHOLE
from img2brain.statistics.bootstrap import LEVEL, Summaries
from img2brain.statistics.ties import corrected
from img2brain.tracking._store import TrackingStore
from img2brain.tracking.names import IMPORTED
from img2brain.tracking.reading import TrackedTrial, find_trial, stored_summaries
from img2brain.tracking.registry import Registered, Registry

_KEEPS = "it keeps the crown"
_LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class _Contender:
    """A version, and the resamples of its score on some rows."""

    version: str
    summaries: Summaries


def crown(challenger: Registered, registry: Registry, store: TrackingStore) -> tuple[bool, str]:
    """Crown a version where it is told apart from the champion on the same rows, or where there is none.

    A version is judged once: what was decided of it stays, whoever is champion by now. One that was imported takes the
    crown from no champion, whatever its records say: they are the word of others.

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
    if champion is None:
        registry.crown(challenger, reason := "the first champion")
        return True, reason
    if champion.version == challenger.version:
        return True, "the champion already"
    if decided := registry.decided(challenger):
        return False, f"decided before: {decided}"
    wins, reason = _by_right(challenger, champion, registry, store)
    if wins:
        _hand_over([champion], challenger, registry, reason)
    else:
        registry.decide(challenger, reason)
    return wins, reason


def crown_by_hand(chosen: Registered, registry: Registry, by: str = "") -> str:
    """Crown a version whatever it scored, and return what is kept of that.

    Raises
    ------
    ModelError
        If who decides cannot be told on one line.
    """
    if not by.isprintable() or len(by) > _LONGEST_NAME:
        raise ModelError(
            f"Who crowns a version must be named on one line of at most {_LONGEST_NAME} printable characters. "
            f"Got {quoted(by)}."
        )
    champion = registry.champion(chosen.name)
    if champion is not None and champion.version == chosen.version:
        return "the champion already"
    former = f", in place of version {champion.version}" if champion else ""
    reason = f"by hand{f' of {by}' if by else ''}{former}"
    waiting = [item for item in registry.versions(chosen.name) if item == champion or not registry.decided(item)]
    _hand_over([item for item in waiting if item.version != chosen.version], chosen, registry, reason)
    return reason


def _hand_over(others: list[Registered], chosen: Registered, registry: Registry, reason: str) -> None:
    """Crown a version, and settle first that others are no champion, so that none of them is judged against it."""
    for item in others:
        registry.decide(item, f"version {chosen.version} was crowned: {reason}")
    registry.crown(chosen, reason)


def _by_right(
    challenger: Registered, champion: Registered, registry: Registry, store: TrackingStore
) -> tuple[bool, str]:
    """Judge a version by what this home scored; one of others waits for a hand."""
    if IMPORTED not in challenger.tags:
        return _against(challenger, champion, registry, store)
    by_hand = f"'img2brain model crown {challenger.name}/{challenger.version}' crowns it by hand"
    return False, f"imported, and not compared with version {champion.version}, the champion: {by_hand}; {_KEEPS}"


def _against(
    challenger: Registered, champion: Registered, registry: Registry, store: TrackingStore
) -> tuple[bool, str]:
    """Compare two versions on the same rows, among all that were scored on them, or not at all."""
    named = f"version {champion.version}, the champion"
    ours, theirs = (find_trial(store, item.run_id) for item in (challenger, champion))
    if ours is None:
        return False, f"not compared with {named}: nothing is known of its own trial; {_KEEPS}"
    if theirs is None:
        return False, f"not compared with {named}, whose run is gone; {_KEEPS}"
    part = ours.confirmation.ranking if ours.confirmation else VALIDATION
    if not _same_rows(ours, theirs, part):
        return False, f"not compared with {named}, which was scored {_otherwise(ours, theirs, part)}; {_KEEPS}"
    found = {item.version: item for item in _contenders(ours, part, registry.versions(challenger.name), store)}
    if {challenger.version, champion.version} - found.keys():
        return False, f"not compared with {named}: resamples of the {part} rows are not there; {_KEEPS}"
    others = [item for version, item in found.items() if version not in (challenger.version, champion.version)]
    return _verdict([found[challenger.version], found[champion.version], *others], named, part)


def _verdict(found: list[_Contender], named: str, part: str) -> tuple[bool, str]:
    """Decide between the first and the second of all that were scored on the same rows."""
    p = float(corrected([item.summaries for item in found], WHOLE)[0, 1])
    difference = (found[0].summaries - found[1].summaries).interval()
    said = f"{part} difference {_interval(difference, p)}"
    said += f" among {len(found)} models" if len(found) > 2 else ""
    if not p < 1 - LEVEL:
        return False, f"tied with {named}: {said}; {_KEEPS}"
    if difference.estimate < 0:
        return False, f"below {named}: {said}; {_KEEPS}"
    return True, f"above {named.removesuffix(', the champion')}, the champion before: {said}"


def _interval(difference: Estimate, p: float) -> str:
    if isnan(p):
        return f"{difference.estimate:+.4f}, no interval"
    return f"{difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}], p = {p:.2g}"


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
    return _rows(one, part) == _rows(other, part) and one.record.objective == other.record.objective


def _otherwise(one: TrackedTrial, other: TrackedTrial, part: str) -> str:
    """Say in which way the second was scored otherwise."""
    if _rows(one, part) != _rows(other, part):
        return "on other rows or data"
    return f"by another objective ({other.record.objective})"


def _rows(trial: TrackedTrial, part: str) -> tuple[str, str | None]:
    """Return the digests of all rows of a trial, and of those of a part."""
    record = trial.validation if part == VALIDATION else trial.confirmation
    found: PartRecord | None = record.parts.get(part) if record else None
    return trial.record.rows.digest, found.rows if found else None
