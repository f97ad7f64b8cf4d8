"""The templates of all pages, in `templates/`.

Whatever a template shows is the text of others: it enters escaped, with control characters spelled out. Only our own
style and script and the drawing of a figure are marked as safe, in the templates themselves.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeGuard
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from img2brain import digest
from img2brain.amounts import counted
from img2brain.leaderboard.rows import printable

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: object) -> str:
    """Fill a template; a value that it lacks is an error."""
    return ENVIRONMENT.get_template(template).render(**values)


def environment(*folders: Path) -> Environment:
    """Return templates of some folders, and of this one, in which whatever is shown is the text of others.

    Parameters
    ----------
    *folders : Path
        Where pages that are no part of the site have templates of their own.
    """
    found = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.tests["finite"] = _is_finite
    found.filters |= {"number": _number, "at": _at, "address": _address, "short": _short, "counted": counted}
    return found


def asset(name: str) -> str:
    """Read a file that is no template."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _shown(value: object) -> object:
    """Spell out the control characters of a value; what the templates themselves have written stays."""
    return value if isinstance(value, Markup) else printable(str(value))


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _number(value: float | None, form: str) -> str:
    """Print a number for people, a dash where it is not known."""
    return format(value, form) if _is_finite(value) else "–"


def _at(value: float) -> str:
    """Write a coordinate, in per cent."""
    return f"{value:.2f}%"


def _address(text: str) -> str:
    """Write a text of others into an address."""
    return quote(printable(text), safe="")


def _short(name: str) -> str:
    """Return the start of a digest."""
    return name[: digest.SHORT]


ENVIRONMENT = environment()
