"""Small disks for tests, which fill up."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def mounted(folder: Path, n_mb: int) -> Iterator[Path]:
    """Mount a disk of so many MB; who needs it skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={n_mb}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, but_for: int = 0) -> None:
    """Fill a disk, but for so many bytes."""
    free = shutil.disk_usage(disk).free
    with (disk / "filler").open("ab", buffering=0) as stream:
        stream.write(bytes(max(0, free - but_for)))


def make_room(disk: Path) -> None:
    """Take away what filled a disk."""
    (disk / "filler").unlink()
