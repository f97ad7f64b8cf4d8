"""Ridge regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from img2brain.moments import Moments
from img2brain.regressors._limits import POSITIVE, Limits
from img2brain.regressors._spectrum import Spectrum
from img2brain.regressors.base import Array, Hyperparameter, PenalisedRegressor, Space


@dataclass(eq=False, repr=False)
class Ridge(PenalisedRegressor[Spectrum]):
    """Minimise ||Y - XB||^2 + alpha ||B||^2.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, > 0, in squared units of X.

    Notes
    -----
    One eigendecomposition serves any number of alphas; each takes n_features^2 x n_voxels multiplications (Hoerl and
    Kennard, 1970).

    Examples
    --------
    >>> Ridge(alpha=2.0).fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).coef_.round(6)
    array([1.])
    """

    search: ClassVar[Space] = {"alpha": Hyperparameter(1e-4, 1e4, log=True, relative=True)}
    limits: ClassVar[Limits] = {"alpha": POSITIVE}
    alpha: float = 1.0

    @classmethod
    def factorise(cls, moments: Moments) -> Spectrum:
        """Decompose the Gram matrix."""
        return Spectrum.of(moments)

    def solve(self, state: Spectrum) -> Array:
        """Return the coefficients at this alpha."""
        return state.solve(self.alpha)

    def alpha_scale(self, moments: Moments) -> float:
        """Return the mean eigenvalue of the Gram matrix: at this alpha the average direction is halved."""
        return float(moments.xx.trace()) / moments.n_features or 1.0


COMPONENT = Ridge
