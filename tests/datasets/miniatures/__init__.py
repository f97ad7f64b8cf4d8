"""Small folders of each layout, with the traps of the real ones planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.datasets.miniatures import (
    algonauts2023,
    bold5000,
    brainio,
    laion_fmri,
    mosaic,
    nsd,
    sensorium2022,
    table,
    things_fmri,
    tvsd,
)
from tests.datasets.miniatures.base import Miniature

__all__ = ["MINIATURES", "Miniature"]

MINIATURES: dict[str, Callable[[Path], Miniature]] = {
    "algonauts2023": algonauts2023.write_algonauts,
    "bold5000": bold5000.write_bold5000,
    "brainio": brainio.write_brainio,
    "laion_fmri": laion_fmri.write_laion,
    "mosaic": mosaic.write_mosaic,
    "nsd": nsd.write_nsd,
    "sensorium2022": sensorium2022.write_sensorium,
    "table": table.write_table,
    "things_fmri": things_fmri.write_things,
    "tvsd": tvsd.write_tvsd,
}
