"""How likely chance alone makes scores so high, over many voxels or many rows of a board."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def p_of_r(r: F64, n_images: int) -> F64:
    """Return one-sided p values of correlations above 0.

    Parameters
    ----------
    r : ndarray (n_voxels,)
        Pearson r; NaN stays NaN.
    n_images : int
        Images that were correlated; of fewer than 3 nothing is known, and all are NaN.

    Notes
    -----
    Student's t with n - 2 degrees of freedom, exact for normal responses that do not depend on the predictions.

    Examples
    --------
    >>> p_of_r(np.array([0.0, 0.5, np.nan]), 30).round(4)
    array([0.5   , 0.0024,    nan])
    """
    from scipy.stats import t as student

    if n_images < 3:
        return np.full(r.shape, np.nan)
    clipped = np.clip(r, -1 + 1e-15, 1 - 1e-15)
    freedom = n_images - 2
    found: F64 = student.sf(clipped * np.sqrt(freedom / (1 - clipped**2)), freedom)
    return found


def benjamini_hochberg(p: F64) -> F64:
    """Return the smallest false discovery rate at which each p value counts (Benjamini and Hochberg, 1995).

    NaN stays NaN and does not count as a test.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan]))
    array([0.03, 0.04, 0.04,  nan])
    """
    from scipy.stats import false_discovery_control

    found, known = np.full(p.shape, np.nan), ~np.isnan(p)
    found[known] = false_discovery_control(p[known])
    return found


def holm(p: F64) -> F64:
    """Return p values corrected for their number: the chance that any of them errs (Holm, 1979).

    NaN stays NaN and does not count as a test.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    found, known = np.full(p.shape, np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return found


def p_of_difference(r_first: F64, r_second: F64, r_between: F64, n_images: int) -> F64:
    """Return two-sided p values of the difference between two predictions of the same responses.

    Parameters
    ----------
    r_first, r_second : ndarray (n_voxels,)
        Pearson r of each prediction with the responses.
    r_between : ndarray (n_voxels,)
        Pearson r of the two predictions with each other.
    n_images : int
        Images that were correlated, at least 4.

    Notes
    -----
    Williams' t with n - 3 degrees of freedom (Steiger, 1980, equation 7), which knows that the two correlations share
    images and responses. 1 where the predictions are the same; NaN where one is undefined.
    """
    from scipy.stats import t as student

    determinant = 1 - r_first**2 - r_second**2 - r_between**2 + 2 * r_first * r_second * r_between
    mean = (r_first + r_second) / 2
    spread = 2 * (n_images - 1) / (n_images - 3) * np.maximum(determinant, 0.0) + mean**2 * (1 - r_between) ** 3
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (r_first - r_second) * np.sqrt((n_images - 1) * (1 + r_between) / spread)
        p: F64 = 2 * student.sf(np.abs(t), n_images - 3)
    p[r_first == r_second] = 1.0
    return p
