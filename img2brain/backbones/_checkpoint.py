"""Checkpoint files: read without running what they hold, and downloaded whole or not at all."""

from __future__ import annotations

import re
import tempfile
import urllib.request
import warnings
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
from img2brain.errors import WeightsError

_TIMEOUT_S = 20.0
_BLOCK = 1 << 20
_HASH = re.compile(r"-([0-9a-f]{8,})\.")
_SHOWN = 3
_PARALLEL = "module."


class State(dict[str, torch.Tensor]):
    """A state dict: name -> tensor, and the versions of the modules under the name that torch reads them by."""

    _metadata: dict[str, Any]

    def __init__(self, tensors: Mapping[str, torch.Tensor], metadata: Any = None) -> None:
        super().__init__(tensors)
        self._metadata = dict(metadata) if isinstance(metadata, Mapping) else {}


def read_checkpoint(path: Path, rename: Callable[[str], str] = str) -> State:
    """Read the tensors of a ``.pth``, ``.pt`` or ``.safetensors`` file, under the names that `rename` gives them.

    A state dict wrapped as ``{"state_dict": ...}`` or ``{"model": ...}`` is unwrapped, and the ``module.`` that
    data-parallel training writes before each key is taken off.

    Raises
    ------
    WeightsError
        When the file is absent, damaged, holds code, or holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"The weights must be a file that exists. Got {str(path)!r}.")
    content = _unwrap(_read(path))
    if not isinstance(content, Mapping) or not content or not all(map(_is_entry, content.items())):
        raise WeightsError(f"{path} must hold a state dict (names and tensors). Got {type(content).__name__}.")
    prefix = _PARALLEL if all(key.startswith(_PARALLEL) for key in content) else ""
    tensors = {rename(key.removeprefix(prefix)): value for key, value in content.items()}
    return State(tensors, getattr(content, "_metadata", None))


def load_state(network: nn.Module, state: State, *, name: str, source: str) -> None:
    """Load a state dict into the backbone `name`, strictly.

    Raises
    ------
    WeightsError
        Naming the keys and shapes of `source` that do not fit.
    """
    own = network.state_dict()
    # Versions of inner modules decide on renamed keys; that of the network itself would let it rebuild itself.
    metadata = {**state._metadata, "": getattr(own, "_metadata", {}).get("", {})}
    try:
        network.load_state_dict(State(state, metadata))
    except Exception as error:
        reason = _difference(own, state) or str(error).partition("\n")[0]
        raise WeightsError(f"{source} does not fit {name}: {reason}.") from error


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
            raise WeightsError(
                f"The weights of {name} cannot be downloaded ({reason}). Download {url} on another machine and put it "
                f"at {path}, or name the file as weights; or ask for 'random:0' (untrained)."
            ) from error
    _verify(path, path.name)
    return path


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path} is no checkpoint, or holds more than tensors: it is not run. Save a state dict."
        ) from error
    except Exception as error:
        raise WeightsError(f"{path} is no checkpoint, or is damaged ({type(error).__name__}).") from error


def _unwrap(content: Any) -> Any:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    return content


def _is_entry(entry: tuple[Any, Any]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], torch.Tensor)


def _difference(own: Mapping[str, torch.Tensor], state: State) -> str:
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
