"""Every error that img2brain raises on purpose.

::

    Img2BrainError
      SpecError(ValueError)          a bad study file or option: file, key, what was found, what is allowed
        UnknownComponentError        a name that no catalog holds, with the close matches
      DataError(ValueError)          a bad dataset: file and row
        ShapeError                   two arrays that do not fit, with both names and shapes
        RecordError                  a record that is absent, damaged, or of a newer version
      FeatureError(RuntimeError)     a network that gives no features
        UnknownLayerError            a graph node that the network lacks, with near names
        WeightsError                 a checkpoint that is absent or does not fit
          UnavailableError           one that cannot be downloaded
        DeviceError                  a device that is not there; never a silent fallback
      FitError(RuntimeError)         a regressor that cannot be fitted to these rows
      ModelError(RuntimeError)       a model that is not registered, or whose files do not fit together
      StoreError(RuntimeError)       a home that cannot be written or is full
        NoHomeError                  no home where one is to be read
        TrackingError                a tracking store that does not answer
      ResourceError(RuntimeError)    memory, a disk or a file of others that gave out: what was at work goes on later

The command line prints the message on one line and exits with 2. Grammar of a message:
*The 'alpha' of ridge must be > 0. Got -1.0.*
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Img2BrainError(Exception):
    """Base of every error that img2brain raises on purpose."""


class SpecError(Img2BrainError, ValueError):
    """A study file or an option holds something that is not allowed."""


class UnknownComponentError(SpecError):
    """No component of this kind has this name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown {kind} {quoted(name)}. {did_you_mean(name, known)}")


class DataError(Img2BrainError, ValueError):
    """A dataset is not as its layout says."""


class ShapeError(DataError):
    """Two arrays do not fit each other."""


class RecordError(DataError):
    """A record is absent, damaged, or of a newer version."""


class FeatureError(Img2BrainError, RuntimeError):
    """A network gives no features."""


class UnknownLayerError(FeatureError):
    """The network has no graph node of this name."""


class WeightsError(FeatureError):
    """Weights are absent, cannot be had, or do not fit the network."""


class UnavailableError(WeightsError):
    """Weights are elsewhere, and cannot be fetched."""

    @classmethod
    def told(cls, name: str, error: Exception, place: str | None, put: str = "") -> UnavailableError:
        """Say that weights cannot be downloaded, and what to fetch where instead.

        Parameters
        ----------
        name : str
            The network.
        error : Exception
            What happened.
        place : str, optional
            Where they are in the internet.
        put : str
            Where a file of them is to be put.
        """
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        fetch = f"Fetch {place} on a machine with internet{put}, or name" if place else "Name"
        return cls(
            f"The weights of {name} cannot be had ({type(error).__name__}: {reason}). {fetch} a file or folder as "
            "weights; or ask for 'random:0' (untrained)."
        )


class DeviceError(FeatureError):
    """The device asked for is not there."""


class FitError(Img2BrainError, RuntimeError):
    """A regressor cannot be fitted to these rows."""


class ModelError(Img2BrainError, RuntimeError):
    """A model is not registered, or its files do not fit together."""


class StoreError(Img2BrainError, RuntimeError):
    """The home folder cannot be written."""


class NoHomeError(StoreError):
    """There is no home where one is to be read."""


class TrackingError(StoreError):
    """The tracking store does not answer."""


class ResourceError(Img2BrainError, RuntimeError):
    """Memory, a disk or a file gave out under the work: this says nothing of what was tried."""


def quoted(text: str, most: int = 100) -> str:
    """Show a text in quotes, its beginning where it is long.

    Examples
    --------
    >>> quoted("alexnet"), quoted("x" * 5000, 3)
    ("'alexnet'", "'xxx...'")
    """
    return repr(text if len(text) <= most else f"{text[:most]}...")


def did_you_mean(name: str, known: Iterable[str], most: int = 3) -> str:
    """Name the close matches of `name`, or the first known names where none is close.

    Examples
    --------
    >>> did_you_mean("alexnt", ["alexnet", "vgg16"])
    "Did you mean 'alexnet'?"
    """
    choices = list(known)
    by_fold = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=most)
    if close:
        return f"Did you mean {' or '.join(repr(by_fold[match]) for match in close)}?"
    shown = ", ".join(choices[:12]) + (", ..." if len(choices) > 12 else "")
    return f"Known: {shown or 'none'}."


_NO_MEMORY = re.compile(  # what libraries say that have no error of their own for it
    r"out of memory|(can't|cannot|unable to|failed to) allocate|can't start new thread|STATUS_ALLOC_FAILED|"
    r"failed to map segment",
    re.IGNORECASE,
)
_BY_NUMBER = re.compile(r"\(os error (\d+)\)")  # an error of the system, as libraries in Rust tell it


def lack_of(error: BaseException) -> str:
    """Say what gave out where an error is not of the work itself: memory, or a file; nothing for any other error.

    Examples
    --------
    >>> lack_of(OSError(28, "No space left on device", "cache/layers"))
    'cache/layers: No space left on device'
    >>> lack_of(RuntimeError("CUDA error: out of memory"))
    'memory ran out (CUDA error: out of memory)'
    >>> lack_of(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    'memory ran out (libtorch_cpu.so: failed to map segment from shared object)'
    >>> lack_of(ValueError("The 'alpha' must be > 0."))
    ''
    """
    cause: BaseException | None = error
    while cause is not None:
        if told := _no_memory(cause) or _no_file(cause):
            return told
        cause = cause.__cause__
    return ""


def _no_memory(error: BaseException) -> str:
    said = (str(error).splitlines() or [""])[0].rstrip(".")
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError) and _NO_MEMORY.search(said) and not _is_ours(error)
    ):
        return f"memory ran out ({said})" if said else "memory ran out"
    return ""


def _no_file(error: BaseException) -> str:
    """Say what the system says of a file, with its name where it is known."""
    if isinstance(error, OSError):
        told = error.strerror or " ".join(str(error).split()).rstrip(".") or type(error).__name__
        told = f"the disk is full or fails ({told})" if told.endswith(" written") else told  # NumPy, of an array
        return f"{error.filename}: {told}" if error.filename else str(told)
    number = None if _is_ours(error) else _BY_NUMBER.search(str(error))
    return os.strerror(int(number[1])) if number else ""


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, Img2BrainError)


@contextmanager
def stopping(what: str) -> Iterator[None]:
    """Tell on one line where memory or a file gives out under some work; nothing of it is a result.

    Parameters
    ----------
    what : str
        The work, such as ``"The study 'small'"``.

    Raises
    ------
    ResourceError
        Naming the work and what gave out. All other errors are passed on as they are.
    """
    try:
        yield
    except Img2BrainError:
        raise
    except Exception as error:
        if lack := lack_of(error):
            raise ResourceError(f"{what} stops here, and goes on when it is run again: {lack}.") from error
        raise


@contextmanager
def failing_in(what: str) -> Iterator[None]:
    """Turn whatever the code of a component raises into a failure on one line, an exit of the process too.

    Parameters
    ----------
    what : str
        The component, such as ``"The regressor 'mine.py:MyRidge'"``.

    Raises
    ------
    FitError
        Naming the component and what it raised. What img2brain raises on purpose is passed on as it is.
    ResourceError
        Where memory or a file gave out: that is no result of these rows, whosever the file is.
    """
    try:
        yield
    except Img2BrainError:
        raise
    except (Exception, SystemExit) as error:
        if lack := lack_of(error):
            raise ResourceError(f"{what} could not go on: {lack}.") from error
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise FitError(f"{what} must work on these rows. Got {told}.") from error
