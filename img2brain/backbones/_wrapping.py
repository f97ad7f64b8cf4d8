"""Checkpoints as programs of training leave them: state dicts in other dicts, under names with prefixes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from img2brain.errors import WeightsError

PLAIN = ("", "state_dict", "model_state_dict", "model")  # what a state dict is commonly wrapped in
HEADS = ("fc", "head", "heads", "classifier")  # what classifiers are commonly called
_PREFIXES = (
    *("module.", "_orig_mod.", "model.", "backbone.", "net.", "network.", "encoder.", "student.", "teacher."),
    *("ema_model.", "model_ema.", "base_model.", "feature_extractor.", "_fsdp_wrapped_module."),
)
_KNOWN = re.compile(f"(?:{'|'.join(map(re.escape, _PREFIXES))})+")
# What torch writes before the names inside a module that is compiled, sharded or run on several devices.
_WRAPPED = re.compile(r"(?:(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module)|(?<=\.)module)\.")
_COUNTED = ".num_batches_tracked"  # torch puts in what older files lack
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
    left : tuple of str
        What was left out: the names beside the prefix.
    inside : tuple of str
        Prefixes under which the network is, where none was cut because it is not plain which is meant.
    """

    tensors: Mapping[str, torch.Tensor]
    part: str
    prefix: str
    metadata: Any = None
    left: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()


def take(content: Any, own: Mapping[str, torch.Tensor], part: str | None, source: str) -> Taken:
    """Choose the state dict of a checkpoint that is meant, and cut the prefixes off its names.

    Parameters
    ----------
    content : any
        What the file holds.
    own : mapping of str to torch.Tensor
        The state dict of the network.
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
    return _freed(tensors, own, chosen, metadata)


def head_of(own: Collection[str]) -> str:
    """Return the name of the last part of a network that is not all of it: its classifier."""
    parts = list(own)[-1].split(".") if own else [""]
    heads = (f"{'.'.join(parts[:depth])}." for depth in range(1, len(parts)))
    return next((head for head in heads if not all(key.startswith(head) for key in own)), "")


def is_of_head(key: str, head: str) -> bool:
    """Tell whether a tensor is of the classifier, or of one of others."""
    return bool(head) and (key.startswith(head) or key.partition(".")[0] in HEADS)


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


def _only(found: Mapping[str, Mapping[str, torch.Tensor]], own: Mapping[str, torch.Tensor], source: str) -> str:
    """Return where the one state dict is that has names of the network."""
    fitting = [path for path, tensors in found.items() if not own.keys().isdisjoint(_freed(tensors, own).tensors)]
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


def _freed(
    tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], part: str = "", metadata: Any = None
) -> Taken:
    """Return the tensors under the names of the network, as far as it is plain which these are."""
    names, prefix = _names(tensors, own)
    freed = {name: tensors[key] for key, name in names.items()}
    inside = _inside(freed, own)
    if "" in inside or not inside:
        return Taken(freed, part, prefix, metadata)
    if len(inside) > 1 or not _KNOWN.fullmatch(inside[0]) or not _is_all(freed, inside[0], own):
        return Taken(freed, part, prefix, metadata, inside=tuple(prefix + inner for inner in inside))
    kept = {name.removeprefix(inside[0]): freed[name] for name in freed if name.startswith(inside[0])}
    left = tuple(name for name in freed if not name.startswith(inside[0]))
    return Taken(kept, part, prefix + inside[0], metadata, left)


def _inside(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the prefixes under which there is all of the network, shapes included, but its classifier."""
    head = head_of(own)
    needed = {key: own[key].shape for key in own if not (is_of_head(key, head) or key.endswith(_COUNTED))}
    first = next(iter(needed), "")
    prefixes = [name.removesuffix(first) for name in tensors if first and f".{name}".endswith(f".{first}")]
    return [
        prefix
        for prefix in prefixes
        if all(prefix + key in tensors and tensors[prefix + key].shape == shape for key, shape in needed.items())
    ]


def _is_all(tensors: Mapping[str, torch.Tensor], prefix: str, own: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether nothing but the network, and some classifier, is under a prefix."""
    names, head = (name.removeprefix(prefix) for name in tensors if name.startswith(prefix)), head_of(own)
    return all(name in own or is_of_head(name, head) for name in names)


def _names(tensors: Mapping[str, Any], own: Collection[str]) -> tuple[dict[str, str], str]:
    """Return the names without prefixes, and the prefix; a network's own first words are none."""
    names = {key: key for key in tensors if key != _AVERAGED or key in own}
    cut = ""
    while prefix := _common(names.values(), own):
        names = {key: name.removeprefix(prefix) for key, name in names.items()}
        cut += prefix
    freed = {key: name if name in own else _WRAPPED.sub("", name) for key, name in names.items()}
    return (freed if len(set(freed.values())) == len(freed) else names), cut


def _common(names: Collection[str], own: Collection[str]) -> str | None:
    """Return a prefix of all names but those of a head beside the network."""
    body = [name for name in names if name.partition(".")[0] not in HEADS]
    for prefix in _PREFIXES:
        if body and all(name.startswith(prefix) for name in body) and not any(key.startswith(prefix) for key in own):
            return prefix
    return None


def _listed(paths: list[str]) -> str:
    return ", ".join(map(repr, paths[:_SHOWN])) + (", ..." if len(paths) > _SHOWN else "")
