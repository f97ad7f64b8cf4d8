"""Small folders of each layout, with the traps of the real ones planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.datasets.miniatures import algonauts2023, nsd, table, things_fmri, tvsd
from tests.datasets.miniatures.base import Miniature

__all__ = ["MINIATURES", "Miniature"]

MINIATURES: dict[str, Callable[[Path], Miniature]] = {
    "algonauts2023": algonauts2023.write_algonauts,
    "nsd": nsd.write_nsd,
    "table": table.write_table,
    "things_fmri": things_fmri.write_things,
    "tvsd": tvsd.write_tvsd,
}
