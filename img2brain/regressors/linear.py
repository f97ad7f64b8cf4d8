"""Linear regression by least squares."""

from __future__ import annotations

from img2brain.moments import Moments
from img2brain.regressors._spectrum import Spectrum
from img2brain.regressors.base import Array, MomentsRegressor


class Linear(MomentsRegressor[Spectrum]):
    """Minimise ||Y - XB||^2; of all minima the one of least norm, also with fewer images than features.

    Notes
    -----
    n_features^2 x (n_features + n_voxels) multiplications after the moments. Directions whose variance is within
    rounding of the largest (4 n eps of it) are left out, as a pseudo-inverse does. A Gram matrix has the square of
    the condition number of X, so standard deviations that span more than 1e5 are beyond it; useful principal
    components span far less.

    Examples
    --------
    >>> Linear().fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).coef_.round(6)
    array([2.])
    """

    @classmethod
    def factorise(cls, moments: Moments) -> Spectrum:
        """Decompose the Gram matrix."""
        return Spectrum.of(moments)

    def solve(self, state: Spectrum) -> Array:
        """Return the coefficients of least squares and least norm."""
        return state.solve(0.0)


COMPONENT = Linear
