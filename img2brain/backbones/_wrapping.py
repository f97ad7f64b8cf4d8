"""Checkpoints as programs of training leave them: state dicts in other dicts, under names with prefixes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from img2brain.errors import WeightsError

PLAIN = ("", "state_dict", "model_state_dict", "model")  # what a state dict is commonly wrapped in
HEADS = ("fc", "head", "heads", "classifier")  # what classifiers are commonly called
_PREFIXES = (
    *("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder.", "student.", "teacher."),
    *("ema_model.", "model_ema.", "base_model.", "feature_extractor."),
)
_COMPILED = "_orig_mod."  # torch.compile writes it before the names inside any module
_AVERAGED = "n_averaged"  # torch's averaged models count beside the weights
_DEEPEST = 4
_SHOWN = 8


@dataclass(frozen=True)
class Taken:
    """What was taken of a checkpoint.

    Attributes
    ----------
    tensors : mapping of str to torch.Tensor
        A state dict.
    part : str
        Where it was in the file; empty for the whole of it.
    prefix : str
        What was cut off the names.
    metadata : any
        What the state dict says of the versions of modules.
    """

    tensors: Mapping[str, torch.Tensor]
    part: str
    prefix: str
    metadata: Any = None


def take(content: Any, own: frozenset[str], part: str | None, source: str) -> Taken:
    """Choose the state dict of a checkpoint that is meant, and cut the prefixes off its names.

    Parameters
    ----------
    content : any
        What the file holds.
    own : frozenset of str
        The names that the network has.
    part : str, optional
        What was asked for: where the state dict is (``"state_dict_ema"``, ``"ema.module"``), or a prefix of names in
        it (``"state_dict.model"``).
    source : str
        The file, for messages.

    Raises
    ------
    WeightsError
        Where it holds none, or several of which none was asked for.
    """
    found = dict(_state_dicts(content))
    if not found:
        raise WeightsError(f"{source} must hold a state dict (names and tensors). Got {type(content).__name__}.")
    chosen = _asked(found, part, source) if part is not None else _only(found, own, source)
    tensors, metadata = found.get(chosen), getattr(found.get(chosen), "_metadata", None)
    if tensors is None:
        tensors = _below(found, chosen)
    names, prefix = _names(tensors, own)
    return Taken({names[key]: value for key, value in tensors.items() if key in names}, chosen, prefix, metadata)


def _state_dicts(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    """Yield all mappings of names to tensors, by where they are."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    if content and all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()):
        yield path, content
        return
    for key, value in content.items():
        if isinstance(key, str):
            yield from _state_dicts(value, f"{path}.{key}" if path else key, depth + 1)


def _only(found: Mapping[str, Mapping[str, torch.Tensor]], own: frozenset[str], source: str) -> str:
    """Return where the one state dict is that has names of the network."""
    fitting = [path for path, tensors in found.items() if not own.isdisjoint(_names(tensors, own)[0].values())]
    among = fitting or list(found)
    if len(among) > 1:
        raise WeightsError(
            f"{source} holds several state dicts, {_listed(among)}. Name one of them, as in '{source}#{among[-1]}'."
        )
    return among[0]


def _asked(found: Mapping[str, Mapping[str, torch.Tensor]], part: str, source: str) -> str:
    """Return where the state dict is that was asked for, or the prefix of names that was."""
    inside = [path for path in found if path.startswith(f"{part}.")]
    if part in found or (not inside and _below(found, part)):
        return part
    if len(inside) == 1:
        return inside[0]
    raise WeightsError(f"{source} must hold one state dict {part!r}. It holds {_listed(inside or list(found))}.")


def _below(found: Mapping[str, Mapping[str, torch.Tensor]], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose full names, that of their state dict included, start with a prefix, without it."""
    full = {f"{path}.{key}" if path else key: value for path, items in found.items() for key, value in items.items()}
    return {key.removeprefix(f"{prefix}."): value for key, value in full.items() if key.startswith(f"{prefix}.")}


def _names(tensors: Mapping[str, Any], own: Collection[str]) -> tuple[dict[str, str], str]:
    """Return the names without prefixes, and the prefix; a network's own first words are none."""
    names = {key: key for key in tensors if key != _AVERAGED or key in own}
    cut = ""
    while prefix := _common(names.values(), own):
        names = {key: name.removeprefix(prefix) for key, name in names.items()}
        cut += prefix
    return {key: name if name in own else name.replace(_COMPILED, "") for key, name in names.items()}, cut


def _common(names: Collection[str], own: Collection[str]) -> str | None:
    """Return a prefix of all names but those of a head beside the network."""
    body = [name for name in names if name.partition(".")[0] not in HEADS]
    for prefix in _PREFIXES:
        if body and all(name.startswith(prefix) for name in body) and not any(key.startswith(prefix) for key in own):
            return prefix
    return None


def _listed(paths: list[str]) -> str:
    return ", ".join(map(repr, paths[:_SHOWN])) + (", ..." if len(paths) > _SHOWN else "")
