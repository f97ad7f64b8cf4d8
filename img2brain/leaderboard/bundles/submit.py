"""A submission to a results repository: the bundle on a branch of a clone, checked and committed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from img2brain.errors import DataError, SpecError, StoreError
from img2brain.home import Home
from img2brain.leaderboard.bundles.arithmetic import check_bundle
from img2brain.leaderboard.bundles.contents import MANIFEST
from img2brain.leaderboard.bundles.export import export_bundle
from img2brain.leaderboard.bundles.opening import in_folder

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SIGN = ("check.py", "bundles")  # what tells a results repository


def submit_bundle(clone: Path | str, name: str, home: Home | Path | str = "mlruns", **options: Any) -> str:
    """Write a home's bundle into a clone of a results repository, on a branch of its own, and commit it.

    Parameters
    ----------
    clone : Path or str
        The clone; nothing in it may be changed and not committed.
    name : str
        Of the folder in ``bundles/``: small letters, digits and hyphens.
    home : Home, Path or str
        The home, or its folder.
    **options
        As for `export_bundle`.

    Returns
    -------
    str
        The branch.

    Raises
    ------
    SpecError
        If the name is none, or the clone is of no results repository.
    DataError
        If the folder is that of another home.
    StoreError
        If git refuses.
    """
    folder = Path(clone)
    if not _NAME.fullmatch(name):
        raise SpecError(f"The folder must be named by small letters, digits and hyphens. Got {name!r}.")
    if not all((folder / item).exists() for item in (*_SIGN, ".git")):
        raise SpecError(f"{folder} must be a clone of a results repository. It has not {', '.join((*_SIGN, '.git'))}.")
    if _git(folder, "status", "--porcelain"):
        raise SpecError(f"Nothing in the clone {folder} may be changed and not committed. Something is.")
    place = home if isinstance(home, Home) else Home.existing(home)
    target = folder / "bundles" / name
    if (target / MANIFEST).exists() and in_folder(target).record.home != place.id:
        raise DataError(
            f"The folder {target} must be of the home {place.id[:8]}. It is of another: choose another name."
        )
    branch = f"submit-{name}"
    _git(folder, "switch", "--create", branch)
    for row in check_bundle(export_bundle(target, place, **options)):
        if row.difference is not None:
            raise DataError(f"The row {row.name!r}: {row.difference}.")
    _git(folder, "add", "--", f"bundles/{name}")
    _git(folder, "commit", "--quiet", "--message", f"Submit the rows of {name}")
    return branch


def _git(folder: Path, *words: str) -> str:
    try:
        ended = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise StoreError("A submission needs the program git. It is not installed.") from None
    if ended.returncode:
        said = next(iter(reversed(ended.stderr.strip().splitlines())), f"it ended with {ended.returncode}")
        raise StoreError(f"git {words[0]} must work in {folder}. It says: {said.rstrip('.')}.")
    return ended.stdout.strip()
