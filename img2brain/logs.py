"""What a process tells of its work, as plain lines for a person or as JSON for a program.

A library tells its logger; where that goes is for the command line to say. What is at work, such as a study and the
number of a trial, is said once by whoever works, and stands with each line that is told meanwhile.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

Form = Literal["text", "json"]

_ABOUT: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - it is never written into


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Let what is told in a context, by this thread, be about a study, a trial or the like.

    Parameters
    ----------
    **facts : plain data
        What each line of JSON carries beside its message; what is None is left out.

    Examples
    --------
    >>> with about(study="v4-1a2b", trial=3):
    ...     json.loads(JsonLines().format(logging.makeLogRecord({"msg": "done"})))["trial"]
    3
    """
    token = _ABOUT.set({**_ABOUT.get(), **{name: value for name, value in facts.items() if value is not None}})
    try:
        yield
    finally:
        _ABOUT.reset(token)


class JsonLines(logging.Formatter):
    """Writes what is told as an object on one line: time (UTC), level, logger, process, what it is about, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one line; what an exception says follows its message."""
        told = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            **_ABOUT.get(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def to_stderr(form: Form) -> None:
    """Let this process tell its work on stderr, unless somebody listens already: a warning of others, all of ours."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("img2brain").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:  # not of a test that listens
            handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("%(message)s"))
    if form == "json":
        logging.captureWarnings(True)


def is_watched() -> bool:
    """Tell whether a person watches a terminal, on which a bar may be drawn; among lines of JSON it may not."""
    lines = any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)
    return sys.stderr.isatty() and not lines
