"""How the process holds on to memory that it has freed."""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_KEPT_BYTES, _LARGEST_BYTES = 1 << 29, 1 << 28


@cache
def keep_freed_memory() -> bool:
    """Let arrays that come and go take the place of one another, instead of memory that the system has to clear.

    Returns
    -------
    bool
        Whether the C library can be told so.

    Notes
    -----
    By itself glibc gives arrays of some megabytes back to the system when they are freed, and the next ones, of the
    next batch or fit, are made of pages that are cleared and mapped one by one: measured, an eighth to a fifth of a
    forward pass of ResNet50, and of a fit of multi-task lasso. Now it keeps up to 512 MiB; arrays above 256 MiB go
    back as before.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    # Either one alone ends glibc's own adjusting of both, and leaves the other at 128 KiB.
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
