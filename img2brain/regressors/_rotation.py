"""Voxels rotated into at most as many targets as there are features, for what a rotation of voxels does not change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from img2brain._arrays import is_tensor, namespace
from img2brain.moments import Moments

Array = NDArray[np.float64]

_FEW = 512  # features, of whose targets a processor makes a sweep before a GPU has begun all of its operations


def rotated(xy: Array, yy: Array) -> tuple[Array, Array]:
    """Rotate voxels so that their cross-products with the features become a triangle.

    Parameters
    ----------
    xy : ndarray, shape (n_features, n_voxels)
        Cross-products.
    yy : ndarray, shape (n_voxels,)
        Sum of squares of each voxel; a constant one has no part in any target.

    Returns
    -------
    basis : ndarray, shape (n_voxels, n_targets)
        Orthonormal columns, from targets to voxels.
    cross : ndarray, shape (n_features, n_targets)
        Cross-products of the targets.
    """
    basis, triangle = namespace(xy).linalg.qr(xy.T)
    basis[yy == 0] = 0.0
    return basis, triangle.T


def near(moments: Moments) -> Moments:
    """Bring the moments of targets from a GPU to the processor, where they are few: the descent is by small steps."""
    return moments.to("cpu") if is_tensor(moments.xx) and moments.n_features <= _FEW else moments
