"""What a server of a model answers: predictions, or on one line why there are none.

MLflow's own server answers a request that it cannot read with the request, its paths and its stack. This puts one
function in the place of the one by which it answers, in a process that serves a model and does nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from img2brain import plain

_INPUTS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_TYPES = ("application/json", "text/csv")
_EXAMPLE = '{"dataframe_split": {"columns": ["image"], "data": [["BASE64"]]}}'
_LONGEST = 300
_PATH = re.compile(r"(?:/[\w.+-]+){2,}|[A-Za-z]:\\|Traceback|File \"")
_UNREAD = f"The request cannot be answered. It must be such as {_EXAMPLE}."
_invocations = scoring_server.invocations


class _UnreadError(ValueError):
    """A request that cannot be read."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def refuse_on_one_line() -> None:
    """Let the server of this process answer as this module does."""
    scoring_server.invocations = answered


def answered(data: bytes, content_type: str | None, model: Any, input_schema: Any) -> Any:
    """Answer a request to ``/invocations``, with a status of 400 or more and one line where it is refused."""
    try:
        schema = model.metadata.get_params_schema()
        _require_readable(data, content_type, [item.name for item in schema or ()])
        found = _invocations(data, content_type, model, input_schema)
    except _UnreadError as error:
        return _refusal(str(error), error.status)
    except MlflowException as error:
        reason = getattr(error, "_reason", None)  # what the model itself says
        return _refusal(reason or _on_one_line(error.message), error.get_http_status_code())
    return found if found.status < 400 else _refusal(_on_one_line(found.response), found.status)


def _require_readable(data: bytes, content_type: str | None, params: Collection[str]) -> None:
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in _TYPES:
        raise _UnreadError(f"The content type must be {' or '.join(_TYPES)}. Got {kind[:40]!r}.", 415)
    if kind == _TYPES[0]:
        _require_request(data, params)


def _require_request(data: bytes, params: Collection[str]) -> None:
    try:
        found = plain.of_json(data, any_text=True)
    except ValueError as error:
        raise _UnreadError(f"The request must be JSON. Got: {_on_one_line(str(error))}.") from None
    if not isinstance(found, dict) or len(set(_INPUTS) & found.keys()) != 1:
        raise _UnreadError(f"The request must have one of {', '.join(_INPUTS)}, such as {_EXAMPLE}.")
    asked = found.get("params") or {}
    unknown = sorted(asked.keys() - set(params)) if isinstance(asked, dict) else ["no object"]
    if unknown:
        known = ", ".join(params) or "none"
        raise _UnreadError(f"The 'params' of this model may be {known}. Got {', '.join(unknown)[:100]!r}.")


def _on_one_line(text: str) -> str:
    """Return what is wrong, out of a message that may hold the request, paths and a stack."""
    reason = " ".join(text.rpartition("Error: ")[2].split())[:_LONGEST]
    return reason if reason and not _PATH.search(reason) else _UNREAD


def _refusal(message: str, status: int) -> Any:
    text = json.dumps({"error_code": "BAD_REQUEST", "message": message})
    return scoring_server.InvocationsResponse(text, status, "application/json")
