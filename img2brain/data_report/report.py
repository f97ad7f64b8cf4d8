"""Write all that a dataset is as one page that opens from disk."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from img2brain.data_report.page import DataPage
from img2brain.datasets._layouts import check, open_dataset
from img2brain.datasets._looks import Report
from img2brain.datasets.base import Dataset
from img2brain.errors import DataError, Img2BrainError, SpecError
from img2brain.leaderboard._write import write_text
from img2brain.leaderboard.site.templating import asset, environment

_TEMPLATES = Path(__file__).with_name("templates")


def report_data(path: Path | str, out: Path | str = "report.html", layout: str | None = None, **asked: Any) -> DataPage:
    """Look at a dataset, and write what is there as one page that asks nothing of the network.

    Parameters
    ----------
    path : Path or str
        The folder of a dataset.
    out : Path or str
        The page. It holds small copies of some images, and measured responses.
    layout, **asked
        As for `open_dataset`.

    Returns
    -------
    DataPage
        What the page shows: `suspicions` are all that is suspicious.

    Raises
    ------
    SpecError
        If there is no such layout, something is asked for that there is not, or `out` is a folder.
    DataError
        If no layout recognises the folder.
    StoreError
        If the page cannot be written.

    Notes
    -----
    Makes the check of `check_dataset`, and reads responses and repeats once more, block by block. At most 2,000 images
    and 2,000 voxels are drawn, evenly spread. A folder that cannot be opened has a page too, which says why.
    """
    out = Path(out)
    if out.is_dir():
        raise SpecError(f"'out' must name a file for the page. Got the folder {str(out)!r}.")
    found = check(path, layout, **asked)
    if not found.layout:
        raise DataError(found.problems[0].message)
    page = DataPage(found, _opened(path, found, asked))
    write_text(out, html_of(page))
    return page


def _opened(path: Path | str, found: Report, asked: dict[str, Any]) -> Dataset | None:
    try:
        return open_dataset(path, found.layout, **asked)
    except (Img2BrainError, OSError):  # The check has said why.
        return None


def html_of(page: DataPage) -> str:
    """Fill the template: the policy allows the one style by its digest, pictures in the page, and nothing else."""
    style = asset("site.css") + (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment(_TEMPLATES).get_template("report.html")
    return template.render(page=page, style=style, style_digest=digest)
