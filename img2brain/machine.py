"""What this machine gives a process: memory, and how fast it multiplies and digests."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GROUPS = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # what a group of no limit says in its first version is near 2^63
_PROBE_S = 0.2
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def memory_limit(groups: Path = _GROUPS, root: Path = _ROOT) -> int:
    """Return how many bytes a process may take: of the machine, of its control groups, or of its own limit.

    Parameters
    ----------
    groups, root : Path
        What tells the control groups of the process, and where their limits are.
    """
    own = resource.getrlimit(resource.RLIMIT_AS)[0]
    limits = [limit for limit in (own, *_group_limits(groups, root)) if 0 < limit < _NO_LIMIT]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def machine_id() -> str:
    """Return what tells this machine, as long as it runs, from others: its containers have it in common."""
    with suppress(OSError):
        return _BOOT.read_text(encoding="ascii").strip()
    return platform.node()


def n_cores() -> int:
    """Return how many cores the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resident_bytes() -> int:
    """Return how much memory this process takes now."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class Speeds:
    """How fast one core works, by the time that it is given: what others take of the machine does not count.

    Attributes
    ----------
    flops64, flops32 : float
        Multiplications and additions a second, of products of large matrices.
    digest : float
        Bytes a second that are digested.
    """

    flops64: float
    flops32: float
    digest: float


@cache
def speeds() -> Speeds:
    """Measure how fast one core works, in less than two seconds."""
    return Speeds(_products(np.float64), _products(np.float32), _digested())


def core_seconds(work: Callable[[], object], at_least_s: float = 0.0) -> float:
    """Return the seconds that a core works on something, all threads together; repeated until it can be told."""
    start, n_times = time.process_time(), 0
    while not n_times or time.process_time() - start < at_least_s:
        work()
        n_times += 1
    return (time.process_time() - start) / n_times


def _products(kind: type) -> float:
    size = 768
    left: NDArray[Any] = np.random.default_rng(0).standard_normal((size, size)).astype(kind)
    left @ left  # the first product starts threads
    return 2 * size**3 / core_seconds(lambda: left @ left, _PROBE_S)


def _digested() -> float:
    block = bytes(1 << 24)
    return len(block) / core_seconds(lambda: hashlib.sha256(block).digest(), _PROBE_S)


def _group_limits(groups: Path, root: Path) -> Iterator[int]:
    """Yield the limits of the control groups of a process and of all above them, of both versions."""
    with suppress(OSError, ValueError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds or "memory" in kinds.split(","):
                folder = root / ("memory" if kinds else "") / path.lstrip("/")
                for place in (folder, *folder.parents):
                    yield from _limit_of(place) if place.is_relative_to(root) else ()


def _limit_of(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            yield int((folder / name).read_text(encoding="ascii"))
