"""Which code this is."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

from img2brain import digest
from img2brain.records.base import CodeRecord


@cache
def this_code() -> CodeRecord:
    """Name the code that runs: its version, the digest of its files, and its commit where it runs from a checkout."""
    package = Path(__file__).parents[1]
    code = digest.of_digests(digest.of_file(path) for path in sorted(package.rglob("*.py")))
    return CodeRecord(version=version("img2brain"), digest=code, commit=_commit(package.parent))


def _commit(folder: Path) -> str:
    if not (folder / ".git").exists():
        return ""
    asked = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return ""
