"""One code for NumPy arrays and PyTorch tensors, and work in blocks of voxels.

What runs on both is written with the functions that both have by the same name, reached through `namespace`; the few
that differ are here. PyTorch is imported only where a device of its is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController, threadpool_limits

from img2brain.errors import DeviceError
from img2brain.machine import n_cores

AnyNumber = TypeVar("AnyNumber", bound=np.generic)

_ONE_AT_A_TIME = Lock()
_GPU_NUMBERS = 1 << 26  # that a GPU works on at a time: half a gigabyte in float64


def is_tensor(array: Any) -> bool:
    """Tell whether an array is a PyTorch tensor, without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def namespace(array: Any) -> Any:
    """Return the module whose functions serve an array: numpy or torch.

    Examples
    --------
    >>> namespace(np.zeros(1)).__name__
    'numpy'
    """
    return sys.modules["torch"] if is_tensor(array) else np


def to_numpy(array: Any) -> NDArray[Any]:
    """Return an array of either kind as a NumPy array, a view where it can be one."""
    if not is_tensor(array):
        return np.asarray(array)
    # A GPU puts what is transposed in order much faster than a processor would.
    return np.asarray((array.contiguous() if array.is_cuda else array).detach().cpu().numpy())


def to_device(array: Any, device: str) -> Any:
    """Move an array to a device.

    Parameters
    ----------
    array : ndarray or tensor
        Of any real type.
    device : str
        ``"cpu"`` gives a NumPy array; ``"cuda"`` or ``"cuda:1"`` a tensor there; ``"torch"`` a tensor in main memory.

    Raises
    ------
    DeviceError
        Where PyTorch does not find the device.
    """
    if device == "cpu":
        return to_numpy(array)
    import torch

    try:
        return torch.as_tensor(array, device="cpu" if device == "torch" else device)
    except (RuntimeError, AssertionError) as error:  # PyTorch asserts that it was built with CUDA
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DeviceError(f"The device {device!r} must be there for PyTorch. It says: {reason}.") from error


def beside(array: Any, other: Any) -> Any:
    """Return a NumPy array as one of the kind, and on the device, of another; what is there already is left alone."""
    if not is_tensor(other) or is_tensor(array):
        return array
    native = array.dtype if array.dtype in (np.float32, np.float64) else np.float64
    return sys.modules["torch"].from_numpy(np.array(array, dtype=native)).to(other.device)


def empty(shape: tuple[int, ...], other: Any) -> Any:
    """Return an array in float64 of the kind, and on the device, of another, with values that are yet to be written."""
    if is_tensor(other):
        return other.new_empty(shape, dtype=sys.modules["torch"].float64)
    return np.empty(shape)


def slices(size: int, step: int) -> Iterator[slice]:
    """Yield slices that cover a size.

    Examples
    --------
    >>> list(slices(5, 3))
    [slice(0, 3, None), slice(3, 5, None)]
    """
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def column_products(one: Any, other: Any) -> Any:
    """Return the sum of the products of each column of two arrays of one kind and shape.

    Examples
    --------
    >>> column_products(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.0], [2.0, 2.0]]))
    array([ 7., 10.])
    """
    if is_tensor(one):  # whose einsum would copy both into another order
        return sys.modules["torch"].linalg.vecdot(one, other, dim=0)
    return np.einsum("ij,ij->j", one, other)


def gpu_step(step: int, *arrays: Any) -> int:
    """Return how many voxels are worked on at a time: on a GPU many more, as a small product leaves most of it idle.

    Parameters
    ----------
    step : int
        What suits a processor.
    *arrays : ndarray or tensor
        What is worked on; of each voxel there are as many numbers as the longest of them has rows.
    """
    on_gpu = is_tensor(arrays[0]) and arrays[0].is_cuda
    return max(step, _GPU_NUMBERS // max(1, *map(len, arrays))) if on_gpu else step


def in_blocks(work: Callable[[slice], object], size: int, step: int, array: Any) -> None:
    """Do work on one block of voxels after another, or on several at once.

    Parameters
    ----------
    work : callable
        Takes the slice of a block, and writes to no place that another block writes to.
    size, step : int
        Number of voxels in all and in a block.
    array : ndarray or tensor
        What is worked on. A tensor's library spreads each operation over the processors by itself. NumPy so spreads
        matrix products alone: there the blocks are spread instead, over as many threads as its BLAS has, each with a
        BLAS of one thread. The numbers do not depend on the threads.
    """
    parts = list(slices(size, step))
    if is_tensor(array) or len(parts) == 1 or not _ONE_AT_A_TIME.acquire(blocking=False):
        for part in parts:
            work(part)
        return
    try:
        blas = _blas()
        n_threads = max((library.num_threads for library in blas.lib_controllers), default=1)
        with blas.limit(limits=1), ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(work, parts))
    finally:
        _ONE_AT_A_TIME.release()


class _Share:
    """How many threads this process was told to work on; 0 where nobody said so."""

    n_threads = 0


def use_threads(n_threads: int) -> None:
    """Let this process work on so many threads, also by libraries that were imported before it was said."""
    import torch

    _Share.n_threads = n_threads
    torch.set_num_threads(n_threads)
    threadpool_limits(n_threads)


def n_threads() -> int:
    """Return how many threads of this process may work at once: as many as it was told, or one for each core."""
    return _Share.n_threads or n_cores()


@lru_cache(maxsize=1)
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


def frozen(array: NDArray[AnyNumber]) -> NDArray[AnyNumber]:
    """Return a view of an array that nobody can write to: what is shared stays as it is, whoever reads it."""
    view = array.view()
    view.setflags(write=False)
    return view


def devices() -> dict[str, str]:
    """Return what there is to compute on: threads of the processor, and GPUs by the names that studies give them."""
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = {f"cuda:{place}": torch.cuda.get_device_name(place) for place in range(n_gpus)}
    return {"threads": str(torch.get_num_threads())} | (found or {"cuda": "none"})
