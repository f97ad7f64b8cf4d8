"""Weights that are not in the files of a model: named by their library's name and the digest of what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from img2brain import digest
from img2brain.backbones import Preprocessing, Request, find
from img2brain.backbones._source import Source
from img2brain.errors import ModelError, WeightsError

Kind = Literal["embedded", "reference"]
_RANDOM = "random:"


def refer(network: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], source: Source | None) -> dict[str, str]:
    """Say which weights a model needs, and where they are published.

    Raises
    ------
    ModelError
        For a model of a format that names its layer otherwise.
    """
    if "naming" not in network:
        raise ModelError("A model of format 2 must keep its weights in its files: its layer has no name of today.")
    source = source or find(network["backbone"])
    is_published = network["weights"] in source.library.weight_names(source.name)
    url = source.library.url(source.name, network["weights"]) if is_published else ""
    return {"digest": _digest(tensors), "url": url}


def fetch(
    network: Mapping[str, Any], reference: Mapping[str, str], source: Source | None, file: Path | str | None
) -> dict[str, torch.Tensor]:
    """Read the weights that a model refers to, from a file, or by its library's own means.

    Raises
    ------
    ModelError
        If they cannot be had, or are others than those that the model was saved with.
    """
    source = source or find(network["backbone"])
    try:
        request = Request.of(source, _wanted(network["weights"], source, file))
        backbone = replace(request.load(), preprocessing=Preprocessing.from_dict(network["preprocessing"]))
        tensors = backbone.export(*network.get("layers", [network["layer"]]))[1]
    except WeightsError as error:
        raise ModelError(f"The weights of this model are not in its files. {error}") from None
    if _digest(tensors) != reference["digest"]:
        raise ModelError(
            f"The weights {str(file or network['weights'])!r} must be those that this model was saved with. They are "
            f"others: their digest is {_digest(tensors)[: digest.SHORT]}, not {reference['digest'][: digest.SHORT]}."
        )
    return tensors


def _wanted(label: str, source: Source, file: Path | str | None) -> str:
    """Return what to ask the library for; a file that a model of others names is not opened."""
    if file is not None:
        return str(file)
    if label in source.library.weight_names(source.name) or label.startswith(_RANDOM):
        return label
    raise WeightsError(f"They were the file {label!r}: name it, as in load_model(..., weights='FILE').")


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Digest names, types, shapes and values."""
    found = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        found[name] = [str(tensor.dtype), list(tensor.shape), digest.of_array(flat)]
    return digest.of_value(found)
