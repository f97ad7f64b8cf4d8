"""Leaderboards: ranked trials as a table, a static site and figures.

Examples
--------
>>> import img2brain
>>> img2brain.leaderboard.read.__name__
'read'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from img2brain.leaderboard.reading import read as read

__all__ = ["read"]


def __getattr__(name: str) -> Any:
    """Load what is public when it is first used."""
    if name != "read":
        raise AttributeError(f"module 'img2brain.leaderboard' has no attribute {name!r}")
    from img2brain.leaderboard.reading import read

    return read
