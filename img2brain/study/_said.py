"""What a search log says of studies and trials beside what Optuna does: of the types that we write, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from img2brain.errors import StoreError, quoted
from img2brain.study._search_log import SearchLog

SPEC, FAILURE, STUDY, MEMBERS, HOME, FINISHED = "spec", "failure", "study", "members", "home", "finished"
FINISHER = "finisher"
NUMBER, WORKER, POINT = "number", "worker", "point"

_OF_TRIALS = {NUMBER: int, WORKER: str, POINT: str, SPEC: dict, FAILURE: str, MEMBERS: dict}
_OF_STUDIES = {STUDY: dict, HOME: str, SPEC: dict, FINISHED: int, FINISHER: str}
_NAMES = {int: "a whole number", str: "text", dict: "a table"}


class SaidOfStudy(NamedTuple):
    """A study of a search log: Optuna's id of it, and what is said of it."""

    id: int
    said: Mapping[str, Any]


def said_of_studies(log: SearchLog) -> dict[str, SaidOfStudy]:
    """Return the studies of a search log by their full names.

    Raises
    ------
    StoreError
        If something is said that was not written so.
    """
    found = {}
    for item in log.storage.get_all_studies():
        require_said(item.study_name, item.user_attrs)
        found[item.study_name] = SaidOfStudy(item._study_id, item.user_attrs)
    return found


def require_said(study: str, said: Mapping[str, Any]) -> None:
    """Refuse what is said of a study, where it is not of the types that are written.

    Raises
    ------
    StoreError
        Naming the first of them.
    """
    _require(f"of the study {quoted(study)}", said, _OF_STUDIES)


def require_said_of_trial(number: int, said: Mapping[str, Any]) -> None:
    """Refuse what is said of a trial, where it is not of the types that are written.

    Raises
    ------
    StoreError
        Naming the first of them.
    """
    _require(f"of its trial {number}", said, _OF_TRIALS)


def unreadable(what: str) -> StoreError:
    """Return the error of a log that holds something that was not written so."""
    return StoreError(
        f"The search log must be as it was written. {what}. Move optuna.log away, or name another database: it is "
        "written again from the records of the runs when a study is run."
    )


def _require(whose: str, said: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        value: object = said.get(name, kind())
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise unreadable(
                f"What it says {whose} cannot be read: {name!r} is {quoted(repr(value))}, not {_NAMES[kind]}"
            )
