"""What a bundle may hold: nothing enters but what is named here, and neither responses nor pictures are.

::

    manifest.json            what follows, with the digest of every file
    boards.json              ranks and ties of the rows
    looks.jsonl              the chain of looks at confirmation rows
    studies/STUDY.json       what all trials of a study share; of each member of several STUDY.MEMBER.json
    rows/STUDY.NUMBER/       a trial, or STUDY.NUMBER.MEMBER: trial.json, accuracy.npy ...; where it was published
                             confirmation.json and confirmation/*.npy, of a part that was named
                             confirmation/PART/*.npy; of a member of several members/*.npy
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain import plain
from img2brain.errors import DataError, quoted
from img2brain.findings import BEST_LAYER
from img2brain.records import ConfirmationRecord, PartRecord, Record, StudyRecord, TrialRecord
from img2brain.records.confirmation import CONFIRMATION as UNNAMED
from img2brain.tracking.names import part_array, region_name
from img2brain.tracking.reading import joint_files

MANIFEST, BOARDS, LOOKS = "manifest.json", "boards.json", "looks.jsonl"
SIGNATURE = f"{MANIFEST}.sig"
TRIAL, CONFIRMATION, PREDICTED = "trial.json", "confirmation.json", "predictions"
PREDICTIONS = part_array(UNNAMED, PREDICTED)
_OF_SUMMARIES = ("regions", "estimate", "resampled", "kind", "n_units", "draws")
_OF_RIVALS = ("accuracy", "estimate", "resampled")


def row_name(trial: TrialRecord) -> str:
    """Name the folder of a trial in ``rows/``, as a file system takes it."""
    return _with_member(f"{region_name(trial.study)}.{trial.number}", trial.member)


def study_file(study: str, member: str = "") -> str:
    """Name the file of a study, of several members that of one."""
    return f"studies/{_with_member(region_name(study), member)}.json"


def _with_member(name: str, member: str) -> str:
    return f"{name}.{region_name(member)}" if member else name


def arrays_of_trial(trial: TrialRecord) -> list[str]:
    """Name the arrays that a row may have, whether or not it was published."""
    return [*(metric.file for metric in trial.metrics.values()), "constant.npy"]


def arrays_of_confirmation(study: StudyRecord, confirmation: ConfirmationRecord) -> list[str]:
    """Name the files of the arrays that a confirmation may have, but for its predictions."""
    parts = confirmation.parts.items()
    return [part_array(name, array) for name, part in parts for array in arrays_of_part(study, part)]


def arrays_of_members(trial: TrialRecord, confirmation: ConfirmationRecord) -> list[str]:
    """Name the files of the resamples that are joint over the members of a study, where it has several."""
    part = confirmation.confirmed
    if not trial.member or part is None:
        return []
    controls = ["", *part.whole.controls]
    return list(dict.fromkeys(file for name in controls for file in joint_files(name).values()))


def predictions_of(confirmation: ConfirmationRecord) -> list[str]:
    """Name the files of the predictions that a confirmation may have."""
    return [part_array(name, PREDICTED) for name in confirmation.parts]


def arrays_of_part(study: StudyRecord, part: PartRecord) -> list[str]:
    """Name the arrays that a part of the confirmation rows may have, but for its predictions."""
    _, *others = study.metrics
    stems = ["accuracy", *(f"accuracy_{name}" for name in others), "p", "q", "constant"]
    stems += [f"summaries_{name}" for name in _OF_SUMMARIES]
    rivals = [f"control_{name}" for name in part.whole.controls] + ([BEST_LAYER] if part.whole.best_layer else [])
    stems += [f"{name}_{kind}" for name in rivals for kind in _OF_RIVALS]
    stems += [BEST_LAYER] if part.whole.best_layer else []
    return stems + (["ceiling_share", "ceiling_reliable"] if part.ceiling != "none" else [])


def text_of(value: Any) -> str:
    """Write plain data as a bundle has it: each key once, in the order at hand, and numbers as they are read back.

    The order of keys says nothing that a check depends on: it is that of regions and parts on pages.
    """
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def text_of_record(record: Record) -> str:
    """Write a record as a bundle has it."""
    return text_of(json.loads(record.to_json()))


def bytes_of(array: NDArray[Any]) -> bytes:
    """Write an array in the one way that a bundle has it: little-endian, rows one after another."""
    stream = io.BytesIO()
    ordered = np.asarray(array, order="C")
    native = ordered.astype(ordered.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array(stream, native, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def value_of(text: bytes, where: str) -> Any:
    """Read plain data that was written as `text_of` writes it, and in no other way.

    Raises
    ------
    DataError
        If it was not: a key that stands twice, a number that is none, or the like.
    """
    try:
        found = plain.of_json(text, any_text=True)
        same = text_of(found).encode() == text
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} must be JSON. Got: {error}.") from None
    if not same:
        raise DataError(f"{where} must be JSON as img2brain writes it: indented by 1, each key once. It is not.")
    return found


def rows_in(names: Iterator[str] | list[str]) -> set[str]:
    """Name the folders of rows that some files lie in.

    Raises
    ------
    DataError
        If a file lies in ``rows/`` itself.
    """
    found = set()
    for name in names:
        first, _, rest = name.partition("/")
        if first == "rows":
            folder, slash, _ = rest.partition("/")
            if not slash:
                raise DataError(f"{quoted(name)} must lie in the folder of a row.")
            found.add(folder)
    return found
