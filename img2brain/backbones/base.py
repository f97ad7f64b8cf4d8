"""What a library of networks is: extend `Library` in a file of your own, and name it in a study file.

A study names a network of it as ``PATH.py:LIBRARY:NETWORK``; `img2brain.testing.check_backbones` says whether it keeps
what the platform expects of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from img2brain.backbones._preprocessing import Preprocessing
from img2brain.backbones._weights import Weights
from img2brain.errors import WeightsError

__all__ = ["Library", "Preprocessing", "Weights"]


class Library(ABC):
    """Where networks come from. Two things are needed, `names` and `build`; the rest has defaults.

    Attributes
    ----------
    version : str
        Where it is not empty, weights of one name have the same values as long as it stays the same: a promise that
        libraries of this package alone can make. What a network of others holds is looked at each time.
    lists_blocks : bool
        Whether good layers are, where `layers` lists none, up to twelve outputs of repeated blocks and the head, in
        place of up to eight outputs of any blocks.
    in_full : bool
        Whether its networks are named with the library only, ``LIBRARY:NETWORK``.
    package : str
        The package that they come from, where it is an extra of this one.

    Examples
    --------
    >>> class Mine(Library):
    ...     names = ("tiny",)
    ...
    ...     def build(self, name, options):
    ...         return {"tiny": nn.Conv2d(3, 8, 3, stride=16)}[name]
    >>> Mine().preprocessing("tiny", None).size
    (224, 224)
    """

    version: str = ""
    lists_blocks: bool = False
    in_full: bool = False
    package: str = ""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The networks, by name."""

    @abstractmethod
    def build(self, name: str, options: Mapping[str, Any]) -> nn.Module:
        """Construct a network with fresh weights.

        Parameters
        ----------
        name : str
            One of `names`.
        options : mapping
            What `options` gave, perhaps read from a saved model.

        Raises
        ------
        ModelError
            For options that `options` does not give.

        Notes
        -----
        Where `torch.fx` cannot trace it, its layers are what its modules give. It may draw its weights with
        ``normal_``, ``uniform_`` and ``trunc_normal_``, which are diverted to a stream that is the same on every
        machine.
        """

    @property
    def variants(self) -> tuple[str, ...]:
        """Further names of the networks, that say more of them: ``NETWORK.TAG``."""
        return ()

    def known(self, name: str, folder: Path | None) -> str:
        """Make a network known that is named by where it lies, and return what it is called from here on.

        Parameters
        ----------
        name : str
            As a study file names it.
        folder : Path, optional
            What a relative path starts from, by default the working folder.
        """
        return name

    def content(self, name: str) -> str:
        """Digest what lies on this machine under a name; empty where the name says all, in a version of the library."""
        return ""

    def holds(self, name: str) -> bool:
        """Tell whether there is a network of this name."""
        return name in self.names or name in self.variants

    def pretrained(self, name: str, weights: str, options: Mapping[str, Any]) -> nn.Module | None:
        """Construct a network with these weights by means of the library itself; None where `url` leads to a file.

        Raises
        ------
        WeightsError
            Where they cannot be had, with what to do instead.
        """
        return None

    def weight_names(self, name: str) -> tuple[str, ...]:
        """Name the weights that the library has for a network: none."""
        return ()

    def url(self, name: str, weights: str) -> str:
        """Give the address of these weights; the file's name holds ``-DIGEST.``."""
        raise WeightsError(f"The library of {name} has no weights to fetch. Got {weights!r}.")

    def rename(self, key: str) -> str:
        """Give today's name of a tensor that a checkpoint calls `key`: the same. An empty one leaves it out."""
        return key

    def options(self, name: str, weights: Weights, keys: Collection[str]) -> dict[str, Any]:
        """Choose the constructor's arguments (plain data) that these weights, with these keys, ask for: none."""
        return {}

    def preprocessing(self, name: str, weights: str | None) -> Preprocessing:
        """Give the transform that these weights were trained with; None stands for the library's default weights.

        By default a resize to 224 x 224 pixels, with ImageNet's mean and standard deviation.
        """
        return Preprocessing(resize=(224, 224))

    def n_prefix_tokens(self, name: str, network: nn.Module) -> int | None:
        """Count the tokens that a transformer puts before those of the patches: its class token and registers.

        By default what the network says as ``num_prefix_tokens``; None where it says nothing.
        """
        found = getattr(network, "num_prefix_tokens", None)
        return found if isinstance(found, int) else None

    def layers(self, name: str) -> tuple[str, ...]:
        """List good layers, in any order.

        Where there are none, up to eight block outputs stand for them, evenly over the depth of the network.
        """
        return ()
