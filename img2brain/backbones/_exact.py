"""Products in float32 that are those of float32, whatever the process asks of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import ClassVar

import torch


class _Settings:
    """PyTorch's settings, which threads share: the first that computes changes them, the last restores them."""

    lock: ClassVar[Lock] = Lock()
    n_users: ClassVar[int] = 0
    before: ClassVar[tuple[str, bool]]

    @classmethod
    def take(cls) -> None:
        with cls.lock:
            if not cls.n_users:
                cls.before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
                torch.set_float32_matmul_precision("highest")
                torch.backends.cudnn.allow_tf32 = False
            cls.n_users += 1

    @classmethod
    def give_back(cls) -> None:
        with cls.lock:
            cls.n_users -= 1
            if not cls.n_users:
                matmul, torch.backends.cudnn.allow_tf32 = cls.before
                torch.set_float32_matmul_precision(matmul)


@contextmanager
def exact_products() -> Iterator[None]:
    """Let products be those of float32; afterwards all is as before.

    Notes
    -----
    By default a GPU convolves float32 in TF32, which keeps 10 bits of each factor: it moved scores of a small study by
    up to .0003.
    """
    _Settings.take()
    try:
        with torch.autocast("cpu", enabled=False):
            yield
    finally:
        _Settings.give_back()
