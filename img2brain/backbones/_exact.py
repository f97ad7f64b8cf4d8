"""How exact products of float32 are: settings of torch for a whole process, which threads have to agree on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Level = Literal["highest", "medium"]


class Products:
    """The settings, which are as the caller has them while nobody needs others.

    Threads that need the same share them; one that needs others waits until they are done.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._n_users, self._level = 0, ""
        self._before = "highest", False
        os.register_at_fork(after_in_child=self._forget)

    @contextmanager
    def of(self, level: Level) -> Iterator[None]:
        """Let products be those of float32 (``"highest"``), or of bfloat16 where that is faster (``"medium"``)."""
        with self._free:
            self._free.wait_for(lambda: not self._n_users or self._level == level)
            if not self._n_users:
                self._set(level)
            self._n_users += 1
        try:
            yield
        finally:
            with self._free:
                self._n_users -= 1
                if not self._n_users:
                    self._restore()
                    self._free.notify_all()

    def _set(self, level: Level) -> None:
        self._level = level
        self._before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision(level)
        if level == "highest":
            torch.backends.cudnn.allow_tf32 = False

    def _restore(self) -> None:
        matmul, torch.backends.cudnn.allow_tf32 = self._before
        torch.set_float32_matmul_precision(matmul)

    def _forget(self) -> None:
        """Take the settings back in the child of a fork, where the threads are gone that used them."""
        if self._n_users:
            self._restore()
        self._free, self._n_users = threading.Condition(), 0


products = Products()


@contextmanager
def exact_products() -> Iterator[None]:
    """Let products be those of float32; afterwards all is as before.

    Notes
    -----
    By default a GPU convolves float32 in TF32, which keeps 10 bits of each factor: it moved scores of a small study by
    up to .0003.
    """
    with products.of("highest"), torch.autocast("cpu", enabled=False):
        yield
