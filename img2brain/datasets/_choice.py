"""Which voxels to keep: ``nc > 0.3 and (V1 or V2)``, read by a small grammar of its own and never run as code.

::

    choice     = both ("or" both)*
    both       = one ("and" one)*
    one        = "not" one | "(" choice ")" | quantity comparison number | region
    quantity   = "nc" | "ncsnr" | "reliability"
    comparison = ">" | ">=" | "<" | "<="
    region     = a name, in quotes where it holds blanks or signs
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2brain.errors import DataError, SpecError, did_you_mean

Mask = NDArray[np.bool_]
Quantities = Mapping[str, Callable[[], NDArray[np.float64]]]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.-]))|(?P<sign>>=|<=|>|<|\(|\))"""
    r"""|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s()<>"'=]+))"""
)
_COMPARISONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_WORDS = ("and", "or", "not")
_DEEPEST = 50


class VoxelChoice:
    """A choice of voxels.

    Parameters
    ----------
    text : str
        As the grammar of this module has it.
    n_voxels : int
        Number of voxels.
    regions : mapping of str to ndarray of int
        Voxels by region.
    quantities : mapping of str to callable
        What gives each quantity, (n_voxels,); called where it is asked for. NaN fulfils no comparison.

    Raises
    ------
    SpecError
        If the text is not of this grammar.
    DataError
        If it names a region that is not there, or keeps no voxel.

    Examples
    --------
    >>> quantities = {"nc": lambda: np.array([0.1, 0.5, np.nan])}
    >>> VoxelChoice("nc > 0.3 or V1", 3, {"V1": [2]}, quantities).voxels
    array([1, 2])
    """

    def __init__(self, text: str, n_voxels: int, regions: Mapping[str, Any], quantities: Quantities) -> None:
        self._text, self._n_voxels, self._regions, self._quantities = text, n_voxels, regions, quantities
        self._tokens, self._depth = _tokens(text), 0
        mask = self._choice()
        if self._tokens:
            raise self._wrong(f"an end, 'and' or 'or' before {self._tokens[0][1]!r}")
        self.voxels = np.flatnonzero(mask)
        if not len(self.voxels):
            raise DataError(f"'voxels' must keep some of {n_voxels} voxels. Got {text!r}, which keeps none.")

    def _choice(self) -> Mask:
        mask = self._both()
        while self._takes("or"):
            mask = mask | self._both()
        return mask

    def _both(self) -> Mask:
        mask = self._one()
        while self._takes("and"):
            mask = mask & self._one()
        return mask

    def _one(self) -> Mask:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"at most {_DEEPEST} parts")
        if self._takes("not"):
            return ~self._one()
        if self._takes("("):
            mask = self._choice()
            if not self._takes(")"):
                raise self._wrong("a ')' for each '('")
            return mask
        kind, name = self._next("a region or a comparison")
        if kind == "word" and name in self._quantities and self._tokens[:1] and self._tokens[0][1] in _COMPARISONS:
            return self._comparison(name)
        if kind not in ("word", "quoted"):
            raise self._wrong(f"a region or a comparison in place of {name!r}")
        return self._region(name)

    def _comparison(self, name: str) -> Mask:
        compare = _COMPARISONS[self._next("a comparison")[1]]
        kind, number = self._next("a number at its end")
        if kind != "number":
            raise self._wrong(f"a number in place of {number!r}")
        with np.errstate(invalid="ignore"):
            return np.asarray(compare(self._quantities[name](), float(number)), dtype=bool)

    def _region(self, name: str) -> Mask:
        if name not in self._regions:
            known = [*self._regions, *self._quantities]
            raise DataError(
                f"'voxels' must name regions of the dataset. It has no {name!r}. {did_you_mean(name, known)}"
            )
        mask = np.zeros(self._n_voxels, dtype=bool)
        mask[self._regions[name]] = True
        return mask

    def _takes(self, word: str) -> bool:
        if self._tokens and self._tokens[0] in (("word", word), ("sign", word)):
            self._tokens = self._tokens[1:]
            return True
        return False

    def _next(self, wanted: str) -> tuple[str, str]:
        if not self._tokens or self._tokens[0][1] in _WORDS:
            raise self._wrong(wanted)
        first, *self._tokens = self._tokens
        return first

    def _wrong(self, wanted: str) -> SpecError:
        return SpecError(
            f"'voxels' must be regions and comparisons, such as \"nc > 0.3 and (V1 or V2)\": it needs {wanted}. "
            f"Got {self._text!r}."
        )


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place, text = 0, text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise SpecError(
                f"'voxels' must be regions and comparisons. {text!r} has a stray {text[place:].strip()[0]!r}."
            )
        kind = str(match.lastgroup)
        found.append(("quoted" if kind in ("single", "double") else kind, match[kind]))
        place = match.end()
    return found


def split_half_reliability(repeats: Iterable[NDArray[Any] | None], n_voxels: int) -> NDArray[np.float64]:
    """Correlate the means of odd and even repeats over images, corrected for their halved number.

    Parameters
    ----------
    repeats : iterable of ndarray (n_images, n_repeats, n_voxels) or None
        Blocks of single repeats, NaN where one is missing: an image of one repeat has no part in it.
    n_voxels : int
        Number of voxels.

    Returns
    -------
    ndarray of float64 (n_voxels,)
        2 r / (1 + r) of the correlation r (Spearman, 1910; Brown, 1910); NaN where there is none.

    Raises
    ------
    DataError
        If fewer than three images have two repeats or more.
    """
    n_images, sums = 0, np.zeros((5, n_voxels))
    origin: list[NDArray[np.float64]] = []
    for block in repeats:
        for one, other in _halves(block):
            origin = origin or [one, other]
            x, y = one - origin[0], other - origin[1]  # so that squares of a mean far from 0 take no digits
            sums += (x, y, x * x, y * y, x * y)
            n_images += 1
    if n_images < 3:
        raise DataError(
            f"The reliability of voxels must be that of at least 3 training images with repeats. There are {n_images}."
        )
    x, y, xx, yy, xy = sums / n_images
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))
        return np.asarray(2 * r / (1 + r))


def _halves(block: NDArray[Any] | None) -> Iterable[Sequence[NDArray[np.float64]]]:
    """Yield the means of the odd and of the even repeats of each image that has two."""
    for image in () if block is None else block:
        there = image[~np.isnan(image).all(axis=1)].astype(np.float64)
        if len(there) >= 2:
            yield there[::2].mean(axis=0), there[1::2].mean(axis=0)
