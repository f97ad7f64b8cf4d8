"""Simulated voxels: receptive fields on pictures, from oriented energy to the variables of the whole scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array = NDArray[np.float32]

_GRID = 8  # places of receptive fields along each side
_COARSE = 4
_PERIODS = (4.0, 8.0, 16.0)  # of the Gabors, in pixels of a picture of 96
_N_ORIENTATIONS = 6
_SHARES = {"V1": 0.4, "V4": 0.3, "IT": 0.3}


def oriented_energy(grey: Array) -> Array:
    """Measure the energy of one picture by scale, orientation and place.

    Parameters
    ----------
    grey : ndarray of float32, shape (size, size)
        A picture without colour.

    Returns
    -------
    ndarray of float32, shape (n_scales, n_orientations, places, places)
        Amplitude of the response of a quadrature pair of Gabors, pooled by Gaussian fields.

    Notes
    -----
    The energy model of complex cells (Adelson and Bergen, 1985), from one-sided filters in the frequency domain.
    """
    spectrum = scipy.fft.fft2(grey - grey.mean())
    waves = scipy.fft.ifft2(spectrum * _filters(len(grey)), overwrite_x=True)
    pool = _pool(len(grey), _GRID)
    return np.asarray(pool @ np.abs(waves) @ pool.T, dtype=np.float32)


@cache
def _filters(size: int) -> Array:
    """Log-Gabor filters of one half-plane each, shape (n_scales, n_orientations, size, size)."""
    f = np.fft.fftfreq(size)
    radius, angle = np.hypot(f[:, None], f), np.arctan2(f[:, None], f)
    radius[0, 0] = 1e-9
    centres = 96 / (np.array(_PERIODS) * size)
    bands = np.exp(-(np.log2(radius / centres[:, None, None]) ** 2) / (2 * 0.55**2))
    turned = angle - np.pi / _N_ORIENTATIONS * np.arange(_N_ORIENTATIONS)[:, None, None]
    wedges = np.exp((np.cos(turned) - 1) / 0.12)
    return np.asarray(bands[:, None] * wedges, dtype=np.float32)


@cache
def _pool(size: int, n_places: int) -> Array:
    """Weights of Gaussian fields along one side, shape (n_places, size); each row sums to 1."""
    centres = (np.arange(n_places) + 0.5) * size / n_places
    weights = np.exp(-0.5 * ((np.arange(size) + 0.5 - centres[:, None]) * n_places / size / 0.6) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def describe(pixels: NDArray[np.uint8], latents: Array) -> tuple[Array, Array, Array]:
    """Describe one picture by what the voxels of V1, V4 and IT read.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (size, size, 3)
        The picture.
    latents : ndarray of float32, shape (n_latents,)
        The variables of the scene.

    Returns
    -------
    tuple of ndarray of float32
        Energies; colours and energies in coarse fields, normalised; and the variables of the scene.
    """
    rgb = pixels.astype(np.float32) / 255
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    energy = oriented_energy(rgb.mean(axis=2))
    pool = _pool(len(rgb), _COARSE)
    colour = pool @ np.stack([red - green, blue - (red + green) / 2, rgb.mean(axis=2)]) @ pool.T
    block = _GRID // _COARSE
    coarse = energy.reshape(*energy.shape[:2], _COARSE, block, _COARSE, block).mean(axis=(3, 5))
    normalised = coarse / (0.01 + coarse.sum(axis=(0, 1)))
    fields = np.concatenate([colour, normalised.reshape(-1, _COARSE, _COARSE)])
    return energy.reshape(-1, _GRID, _GRID), fields, latents


def assign_regions(n_voxels: int) -> dict[str, NDArray[np.intp]]:
    """Share voxels out among V1, V4 and IT; a region without a voxel is left out.

    Examples
    --------
    >>> {name: len(voxels) for name, voxels in assign_regions(10).items()}
    {'V1': 4, 'V4': 3, 'IT': 3}
    """
    ends = np.round(np.cumsum(list(_SHARES.values())) * n_voxels).astype(int)
    parts = np.split(np.arange(n_voxels, dtype=np.intp), ends[:-1])
    return {name: voxels for name, voxels in zip(_SHARES, parts, strict=True) if len(voxels)}


def simulate(
    descriptions: Sequence[Array], regions: Mapping[str, NDArray[np.intp]], random: np.random.RandomState
) -> Array:
    """Simulate the noiseless signals of voxels.

    Parameters
    ----------
    descriptions : sequence of ndarray of float32, images first
        The three things that `describe` gives for each picture, stacked.
    regions : mapping of str to ndarray of intp
        The voxels of each region.
    random : RandomState
        Draws the receptive fields.

    Returns
    -------
    ndarray of float32, shape (n_images, n_voxels)
        Each voxel with mean 0 and standard deviation 1 over the images.
    """
    sources = dict(zip(_SHARES, zip((_v1, _v4, _it), descriptions, strict=True), strict=True))
    signals = np.empty((len(descriptions[0]), sum(map(len, regions.values()))))
    for name, voxels in regions.items():
        draw, description = sources[name]
        for voxel in voxels:
            signals[:, voxel] = draw(description, random)
    signals -= signals.mean(axis=0)
    return np.asarray(signals / signals.std(axis=0), dtype=np.float32)


def _v1(energy: Array, random: np.random.RandomState) -> NDArray[np.float64]:
    """Read one scale and orientation, and a little of its neighbours, at one place, with compression."""
    y, x = random.randint(_GRID, size=2)
    scale, orientation = random.randint(len(_PERIODS)), random.randint(_N_ORIENTATIONS)
    drive = np.zeros(len(energy))
    for turn, weight in ((-1, 0.4), (0, 1.0), (1, 0.4)):
        channel = scale * _N_ORIENTATIONS + (orientation + turn) % _N_ORIENTATIONS
        drive += weight * energy[:, channel, y, x]
    return np.asarray(np.sqrt(drive))


def _v4(fields: Array, random: np.random.RandomState) -> NDArray[np.float64]:
    """Combine a few colours and normalised energies at one coarse place, softly rectified."""
    y, x = random.randint(_COARSE, size=2)
    values = fields[:, :, y, x].astype(np.float64)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    weights = random.standard_normal(values.shape[1]) * (random.uniform(size=values.shape[1]) < 0.3)
    weights[random.randint(3)] += 1.5
    drive = values @ weights
    return np.asarray(np.logaddexp(0, 1.5 * drive / drive.std()))


def _it(latents: Array, random: np.random.RandomState) -> NDArray[np.float64]:
    """Bend a mixture of the variables of the scene."""
    drive = latents.astype(np.float64) @ random.standard_normal(latents.shape[1])
    return np.asarray(np.tanh(1.2 * drive + 0.3 * random.standard_normal()))
