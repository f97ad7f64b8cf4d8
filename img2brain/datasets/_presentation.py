"""How the pictures of a dataset were shown: what a file does not say of what people saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Orientation = Literal["stored", "exif"]

BACKGROUND = "#808080"
BACKGROUND_PATTERN = r"^#[0-9a-f]{6}$"


@dataclass(frozen=True)
class Presentation:
    """What was seen of a file.

    Attributes
    ----------
    background : str
        The colour behind transparent pixels, ``#rrggbb`` in sRGB; by default the middle grey of most experiments.
    orientation : {"stored", "exif"}
        Whether a photograph was shown as its pixels are stored, as most programs of experiments and torchvision do, or
        turned as its EXIF data say, as browsers do.
    """

    background: str = BACKGROUND
    orientation: Orientation = "stored"

    def to_dict(self) -> dict[str, Any]:
        """Give all settings as JSON can hold them."""
        return asdict(self)
