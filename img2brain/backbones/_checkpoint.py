"""Checkpoint files: read without running what they hold, and downloaded whole or not at all."""

from __future__ import annotations

import math
import re
import tempfile
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from img2brain import digest
from img2brain._forks import alone
from img2brain._quiet import ignored
from img2brain.backbones._wrapping import head_of, is_of_head, take
from img2brain.errors import UnavailableError, WeightsError

_TIMEOUT_S = 20.0
_BLOCK = 1 << 20
_HASH = re.compile(r"-([0-9a-f]{8,})\.")
_SHOWN = 3
NOT_THERE = math.nan  # what a tensor is filled with that the weights lack


class State(dict[str, torch.Tensor]):
    """A state dict: name -> tensor, and the versions of the modules under the name that torch reads them by.

    Attributes
    ----------
    part : str
        Where it was in its file; empty for the whole of it.
    prefix : str
        What was cut off the names.
    left : tuple of str
        What was left out.
    inside : tuple of str
        Prefixes under which the network is; see `Taken`.
    """

    _metadata: dict[str, Any]

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        metadata: Any = None,
        *,
        part: str = "",
        prefix: str = "",
        left: tuple[str, ...] = (),
        inside: tuple[str, ...] = (),
    ) -> None:
        super().__init__(tensors)
        self._metadata = dict(metadata) if isinstance(metadata, Mapping) else {}
        self.part, self.prefix, self.left, self.inside = part, prefix, left, inside


def read_checkpoint(
    path: Path,
    rename: Callable[[str], str] = str,
    own: Callable[[], Mapping[str, torch.Tensor]] = dict,
    part: str | None = None,
) -> State:
    """Read the tensors of a checkpoint file, under the names that `rename` gives them.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, or one that torch wrote.
    rename : callable
        From a name in the file to that of the network; an empty one leaves it out.
    own : callable
        Gives the state dict of the network.
    part : str, optional
        Which of the state dicts in the file; see `take`.

    Raises
    ------
    WeightsError
        When the file is absent, damaged, holds code, or holds no state dict, or several of which none was asked for.
    """
    if not path.is_file():
        raise WeightsError(f"The weights must be a file that exists. Got {str(path)!r}.")
    taken = take(_read(path), own(), part, str(path))
    tensors = {name: value for key, value in taken.tensors.items() if (name := rename(key))}
    left = (*taken.left, *(key for key in taken.tensors if not rename(key)))
    return State(tensors, taken.metadata, part=taken.part, prefix=taken.prefix, left=left, inside=taken.inside)


def load_state(network: nn.Module, state: State, *, name: str, source: str) -> tuple[str, ...]:
    """Load a state dict into the backbone `name`; only its classifier may be absent, or of other classes.

    Returns
    -------
    tuple of str
        The tensors that the state dict lacks; they are NaN.

    Raises
    ------
    WeightsError
        Naming the keys and shapes of `source` that do not fit.
    """
    own = network.state_dict()
    # Versions of inner modules decide on renamed keys; that of the network itself would let it rebuild itself.
    metadata = {**state._metadata, "": getattr(own, "_metadata", {}).get("", {})}
    head = head_of(own)
    kept = {key: value for key, value in state.items() if _fits(own, key, value) or not is_of_head(key, head)}
    try:
        found = network.load_state_dict(State(kept, metadata), strict=False)
    except Exception as error:
        reason = _difference(own, state) or str(error).partition("\n")[0]
        raise WeightsError(f"{source} does not fit {name}: {reason}.") from error
    if found.unexpected_keys or not all(_is_below(key, head) for key in found.missing_keys):
        raise WeightsError(f"{source} does not fit {name}: {_difference(own, state)}.")
    for key in found.missing_keys:
        own[key].fill_(NOT_THERE if own[key].is_floating_point() else 0)
    return tuple(found.missing_keys)


def lacking(network: nn.Module) -> tuple[str, ...]:
    """Name the tensors that are not there: all of their numbers are `NOT_THERE`."""
    own = network.state_dict().items()
    return tuple(name for name, tensor in own if tensor.is_floating_point() and len(tensor.shape) and _is_gone(tensor))


def _is_gone(tensor: torch.Tensor) -> bool:
    return bool(tensor.numel()) and bool(tensor.flatten()[0].isnan()) and bool(tensor.isnan().all())


def fetch(url: str, name: str) -> Path:
    """Give the cached file of `url`, downloaded where it is not there yet.

    The cache is torch's own (``torch.hub.get_dir()``). The digest in the file's name is checked each time, so that half
    a download is never used.

    Raises
    ------
    WeightsError
        When the file cannot be had or is damaged, with what to do instead.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        try:
            _download(url, path)
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise UnavailableError(
                f"The weights of {name} cannot be downloaded ({reason}). Download {url} on another machine and put it "
                f"at {path}, or name the file as weights; or ask for 'random:0' (untrained)."
            ) from error
    _verify(path, path.name)
    return path


def _read(path: Path) -> Any:
    try:
        return load_file(path) if path.suffix == ".safetensors" else _load(path)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path} is no checkpoint, or holds more than tensors: it is not run. Save a state dict."
        ) from error
    except Exception as error:
        raise WeightsError(f"{path} is no checkpoint, or is damaged ({type(error).__name__}).") from error


def _load(path: Path) -> Any:
    """Read what torch saved; of all classes only those of plain settings are made."""
    with alone, ignored(), torch.serialization.safe_globals([Namespace]):  # torch remarks on pickle protocols
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_below(key: str, head: str) -> bool:
    return bool(head) and key.startswith(head)


def _fits(own: Mapping[str, torch.Tensor], key: str, value: torch.Tensor) -> bool:
    return key in own and own[key].shape == value.shape


def _difference(own: Mapping[str, torch.Tensor], state: State) -> str:
    if state.inside:
        asked = f"{state.part}.{state.inside[-1]}".strip(".")
        return f"it holds the network under {', '.join(map(repr, state.inside))}; ask for it by name, as in '#{asked}'"
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
    return "; ".join(f"{len(keys)} {what}: {_first(keys)}" for what, keys in found if keys)


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _download(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, part.open("wb") as stream:
            size = int(response.headers.get("Content-Length", 0)) or None
            _copy(
                response.read, stream.write, tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=None)
            )
        _verify(part, url)
        part.replace(path)


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], int], progress: tqdm[Any]) -> None:
    with progress:
        while block := read(_BLOCK):
            progress.update(write(block))


def _verify(path: Path, source: str) -> None:
    expected = _HASH.search(path.name)
    if expected and not digest.of_file(path).startswith(expected[1]):
        raise WeightsError(f"{source} is damaged: its digest is not {expected[1]}. Delete {path} and try again.")
