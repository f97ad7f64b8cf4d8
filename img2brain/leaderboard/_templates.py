"""The templates of all pages, in `site/`.

Whatever a template shows is the text of others: it enters escaped, with control characters spelled out. Only our own
style and script and the drawing of a figure are marked as safe, in the templates themselves.
"""

from __future__ import annotations

import base64
import hashlib
import math
from pathlib import Path
from typing import TypeGuard

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from img2brain import digest
from img2brain.leaderboard.rows import printable

SITE = Path(__file__).with_name("site")


def render(template: str, **values: object) -> str:
    """Fill a template of `site/`; a value that it lacks is an error."""
    return ENVIRONMENT.get_template(template).render(**values)


def asset(name: str) -> str:
    """Read a file of `site/` that is no template."""
    return (SITE / name).read_text(encoding="utf-8")


def _shown(value: object) -> object:
    """Spell out the control characters of a value; what the templates themselves have written stays."""
    return value if isinstance(value, Markup) else printable(str(value))


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _number(value: float | None, form: str) -> str:
    """Print a number for people, a dash where it is not known."""
    return format(value, form) if _is_finite(value) else "–"


def _key(value: float | None) -> float | str:
    """Return what a cell is sorted by."""
    return value if _is_finite(value) else "none"


def _cell(value: object) -> str:
    """Print a text or a number for people."""
    if value is None or isinstance(value, float):
        return _number(value, ".4f")
    return format(value, ",") if isinstance(value, int) else str(value) or "–"


def _short(name: str) -> str:
    """Return the start of a digest."""
    return name[: digest.SHORT]


def _sha256(text: str) -> str:
    """Return what a page's policy knows a style or script by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


ENVIRONMENT = Environment(
    loader=FileSystemLoader(SITE),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.tests["finite"] = _is_finite
ENVIRONMENT.filters |= {"number": _number, "key": _key, "cell": _cell, "short": _short, "sha256": _sha256}
