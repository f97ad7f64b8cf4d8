"""Dead-leaves pictures: overlapping shapes of power-law sizes, with edges, textures and occlusions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

N_LATENTS = 8
_N_LEAVES = 70


@dataclass(frozen=True)
class Scene:
    """One picture and the variables that it was drawn from.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (size, size, 3)
        The picture, RGB.
    latents : ndarray of float32, shape (N_LATENTS,)
        What the whole scene has in common (hue, light, contrast, coarseness, roundness, texture), each within -1..1.
    """

    pixels: NDArray[np.uint8]
    latents: Array


def draw_scene(seed: int, index: int, size: int) -> Scene:
    """Draw one dead-leaves picture.

    Parameters
    ----------
    seed, index : int
        The picture depends on these and on `size` alone. Streams of `RandomState` are the same in all NumPy versions.
    size : int
        Height and width in pixels.

    Returns
    -------
    Scene

    Notes
    -----
    A leaf of radius r occurs with density r^-3, which makes pictures look alike at all scales, as photographs do (Lee,
    Mumford and Huang, 2001). Some 6 ms at 96 pixels.
    """
    random = np.random.RandomState([seed, 0, index])
    hue = random.uniform(-np.pi, np.pi)
    light, contrast, coarseness, roundness, texture, angle = random.uniform(-1, 1, size=6)
    style = _Style(hue, light, contrast, coarseness, roundness, texture, np.pi / 2 * angle)
    canvas = _background(random, style, size)
    for leaf in _leaves(random, style, size):
        _paint(canvas, leaf)
    latents = [np.sin(hue), np.cos(hue), light, contrast, coarseness, roundness, texture, np.sin(np.pi * angle)]
    return Scene(np.round(255 * np.clip(canvas, 0, 1)).astype(np.uint8), np.array(latents, dtype=np.float32))


@dataclass(frozen=True)
class _Style:
    hue: float
    light: float
    contrast: float
    coarseness: float
    roundness: float
    texture: float
    angle: float


@dataclass(frozen=True)
class _Leaf:
    """A rectangle or an ellipse: place (row, column), radius along its angle, width over length, and its shading."""

    place: NDArray[np.float64]
    radius: float
    aspect: float
    angle: float
    is_round: bool
    colour: NDArray[np.float64]
    slope: float
    amplitude: float
    frequency: float


def _colours(random: np.random.RandomState, style: _Style, n: int) -> NDArray[np.float64]:
    """Draw colours around the hue of the scene; they differ in light more than in hue, as in nature."""
    grey = 0.45 + 0.12 * style.light + (0.17 + 0.08 * style.contrast) * random.standard_normal(n)
    hue = style.hue + 0.6 * random.standard_normal(n)
    colourful = 0.14 * random.gamma(2.0, 0.5, n)
    shift = hue[:, None] + 2 * np.pi / 3 * np.arange(3)
    return np.asarray(np.clip(grey[:, None] + colourful[:, None] * np.cos(shift), 0.02, 0.98))


def _background(random: np.random.RandomState, style: _Style, size: int) -> Array:
    top, bottom = _colours(random, style, 2)
    ramp = np.linspace(0, 1, size)[:, None]
    rows = (1 - ramp) * top + ramp * bottom
    return np.repeat(rows[:, None, :], size, axis=1).astype(np.float32)


def _leaves(random: np.random.RandomState, style: _Style, size: int) -> list[_Leaf]:
    n, smallest, largest = _N_LEAVES, (0.05 + 0.02 * style.coarseness) * size, 0.45 * size
    u = random.uniform(size=n)
    radius = (largest**-2 + u * (smallest**-2 - largest**-2)) ** -0.5
    place = random.uniform(0, size, (n, 2))
    aspect = random.uniform(0.45, 1, n)
    angle = style.angle + 0.5 * random.standard_normal(n)
    is_round = random.uniform(size=n) < 0.5 + 0.45 * style.roundness
    colour = _colours(random, style, n)
    slope = 0.25 * random.standard_normal(n)
    has_grating = random.uniform(size=n) < 0.45 + 0.4 * style.texture
    amplitude = has_grating * random.uniform(0.08, 0.3, n)
    frequency = np.exp(random.uniform(np.log(0.25), np.log(1.6), n)) * 96 / size
    order = np.argsort(-radius + 0.35 * size * random.uniform(size=n))  # large ones tend to lie behind
    parts = (place, radius, aspect, angle, is_round, colour, slope, amplitude, frequency)
    return [_Leaf(*(part[i] for part in parts)) for i in order]


def _paint(canvas: Array, leaf: _Leaf) -> None:
    reach = leaf.radius * (1 if leaf.is_round else 1.42) + 1  # a corner reaches further
    low = np.maximum(leaf.place - reach, 0).astype(int)
    high = np.minimum(leaf.place + reach + 1, len(canvas)).astype(int)
    y = np.arange(low[0], high[0])[:, None] - leaf.place[0]
    x = np.arange(low[1], high[1]) - leaf.place[1]
    cos, sin = np.cos(leaf.angle), np.sin(leaf.angle)
    u = ((cos * x + sin * y) / leaf.radius).astype(np.float32)
    v = ((cos * y - sin * x) / (leaf.radius * leaf.aspect)).astype(np.float32)
    distance = np.hypot(u, v) if leaf.is_round else np.maximum(np.abs(u), np.abs(v))
    cover = np.clip((1 - distance) * np.float32(leaf.radius * leaf.aspect) + np.float32(0.5), 0, 1)
    shade = 1 + np.float32(leaf.slope) * v
    if leaf.amplitude:
        shade += np.float32(leaf.amplitude) * np.sin(np.float32(leaf.frequency * leaf.radius) * u)
    box = canvas[low[0] : high[0], low[1] : high[1]]
    box += cover[..., None] * (shade[..., None] * leaf.colour.astype(np.float32) - box)
