"""The chain of looks of a home: every scoring of a model on confirmation rows, each naming the one before.

A look that is dropped, changed or put elsewhere breaks the chain, or leaves it shorter than the records say. The chain
is in one file of the home, ``looks.jsonl``, a look a line. It is written whole beside itself and renamed, under a lock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from numpy.typing import NDArray

from img2brain import digest
from img2brain.errors import RecordError, StoreError
from img2brain.home import Home
from img2brain.records import ConfirmationRecord, LookRecord, TrialRecord
from img2brain.records.confirmation import CONFIRMATION


def look_at(
    trial: TrialRecord, rows: str, found: Mapping[str, NDArray[Any]], predictions: NDArray[Any], part: str = ""
) -> LookRecord:
    """Return the look of a trial at some rows, not yet linked.

    Parameters
    ----------
    trial : TrialRecord
        What was scored.
    rows : str
        Names the rows.
    found : mapping of str to ndarray
        All that a record of the rows follows from.
    predictions : ndarray (n_images, n_voxels)
        What was scored.
    part : str
        The name of the rows, where they have one.
    """
    return LookRecord(
        home=trial.home,
        rows=rows,
        trial=trial.digest,
        found=digest.of_arrays(found),
        predictions=digest.of_array(predictions),
        when=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        part=part,
    )


def unchained(confirmed: Iterable[tuple[TrialRecord, ConfirmationRecord]]) -> list[LookRecord]:
    """Return the looks of models of which no more is known than that they were scored, in the order of their count."""
    found = [
        (part.looks, trial, name_of(name), part.rows)
        for trial, record in confirmed
        for name, part in record.parts.items()
    ]
    found.sort(key=lambda item: (item[0], item[1].study, item[1].number))
    return [
        LookRecord(home=trial.home, rows=rows, trial=trial.digest, unchained=True, part=name)
        for _, trial, name, rows in found
    ]


def add(home: Home, look: LookRecord, known: Sequence[LookRecord] = ()) -> int:
    """Add a look to the chain of a home, and return its count; see `add_all`."""
    return add_all(home, [look], known)[0]


def add_all(home: Home, looks: Sequence[LookRecord], known: Sequence[LookRecord] = ()) -> list[int]:
    """Add looks to the chain of a home, after those that are known and not in it: all of them or none.

    A look that is in the chain already, as of a publication that was cut off, is not added again.

    Returns
    -------
    list of int
        For each look, how many models were scored on its rows, with its own.

    Raises
    ------
    RecordError
        If the chain is broken.
    StoreError
        If it cannot be written.
    """
    with home.lock("looks"):
        before = chain_of(home)
        after = extended(before, [*(item for item in known if not any(map(item.is_of, looks))), *looks])
        if len(after) > len(before):
            _write(home, after)
        return [count(after, look) for look in looks]


def chain_of(home: Home) -> list[LookRecord]:
    """Read the chain of a home, the first look first; a home that published nothing has none.

    Raises
    ------
    RecordError
        If the file is damaged, or was edited.
    """
    try:
        text = home.looks.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RecordError(f"The chain of looks {home.looks} must be readable. Got {error}.") from None
    return of_lines(text.splitlines(), str(home.looks))


def of_lines(lines: Iterable[str], where: str) -> list[LookRecord]:
    """Read a chain, a look in JSON each line, and check that each names the one before.

    Raises
    ------
    RecordError
        Naming the first look that is damaged or does not follow.
    """
    chain: list[LookRecord] = []
    for number, line in enumerate(lines, start=1):
        look = LookRecord.from_json(line, f"The look {number} of {where}")
        previous = chain[-1].digest if chain else ""
        if look.previous != previous:
            raise RecordError(
                f"The look {number} of {where} must name the one before, {previous[: digest.SHORT] or 'none'}. "
                f"Got {look.previous[: digest.SHORT] or 'none'}: a look was dropped, changed or moved."
            )
        chain.append(look)
    return chain


def to_lines(chain: Iterable[LookRecord]) -> str:
    """Write a chain, a look in JSON each line."""
    return "".join(json.dumps(look.model_dump(mode="json"), sort_keys=True) + "\n" for look in chain)


def extended(chain: Sequence[LookRecord], looks: Iterable[LookRecord]) -> list[LookRecord]:
    """Return a chain with the looks that it lacks, linked."""
    found = list(chain)
    known = {look.what for look in chain}
    for look in looks:
        if look.what not in known:
            previous = found[-1].digest if found else ""
            found.append(look.model_copy(update={"previous": previous}))
            known.add(look.what)
    return found


def count(chain: Sequence[LookRecord], look: LookRecord) -> int:
    """Return how many models were scored on the rows of a look of the chain, with its own."""
    of_rows = list(dict.fromkeys(item.trial for item in chain if item.rows == look.rows))
    return of_rows.index(look.trial) + 1


def name_of(part: str) -> str:
    """Return what a look calls the rows of a part: nothing where the part is the one that nobody named."""
    return "" if part == CONFIRMATION else part


def _write(home: Home, chain: Sequence[LookRecord]) -> None:
    unfinished = home.looks.with_suffix(".unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.write(to_lines(chain))
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(home.looks)
    except OSError as error:
        raise StoreError(f"The chain of looks {home.looks} cannot be written: {error.strerror}.") from None
