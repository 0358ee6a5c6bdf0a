"""The interval of a coefficient of variation."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.stats import laws
from fleetsim.stats.arguments import Floats, floats, fraction, sum_of


def variation_interval(values: npt.ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of the coefficient of variation of normal values.

    With cv = sd / mean of n values, sqrt(n) / cv follows the noncentral t law with n - 1 degrees
    of freedom and noncentrality sqrt(n) / kappa, kappa the true coefficient. The limits are the
    kappa at which P(T <= sqrt(n) / cv) is (1 - confidence) / 2 and 1 minus that.

    Run times are skewed to the right and not normal: show a bootstrap interval beside this one.

    Parameters
    ----------
    values : float array (n,)
        At least two measurements with a positive mean, in one unit.
    confidence : float
        Coverage, between 0 and 1.

    Returns
    -------
    (low, high) : tuple of float
        Limits of sd / mean; high is inf where no kappa reaches the probability (values so
        scattered that their mean could be 0). Equal values give (0, 0).

    Raises
    ------
    ValueError
        If there are fewer than two values, one is not finite, or their mean is not positive.

    References
    ----------
    Johnson and Welch (1940), Biometrika 31, 362. doi:10.1093/biomet/31.3-4.362
    """
    x = floats("values", values)
    tail = (1 - fraction("confidence", confidence)) / 2
    if x.size < 2:
        raise ValueError("values has 1 value, must have at least 2")
    cv = _variation(x)
    if cv == 0:
        return 0.0, 0.0
    n = x.size
    t = math.sqrt(n) / cv
    root = math.sqrt(n)
    low_shift = _noncentrality(t, n - 1, 1 - tail)
    return root / _noncentrality(t, n - 1, tail), root / low_shift if low_shift else math.inf


def _variation(x: Floats) -> float:
    """Return sd / mean, the sd with divisor n - 1."""
    scale = float(np.max(np.abs(x)))
    mean = sum_of(x / scale) / x.size if scale else 0.0
    if mean <= 0:
        raise ValueError(f"values: the mean is {mean * scale}, must be > 0")
    # Deviations from the first value first: equal values then have a spread of exactly 0.
    steps = x / scale - x[0] / scale
    deviations = steps - sum_of(steps) / x.size
    return math.sqrt(sum_of(deviations**2) / (x.size - 1)) / mean


def _noncentrality(t: float, df: int, p: float) -> float:
    """Return the noncentrality > 0 at which P(T <= t) = p, or 0 where there is none."""
    from scipy.optimize import brentq

    if float(scipy.special.stdtr(df, t)) <= p:
        return 0.0
    # P falls from stdtr at noncentrality 0; it is below p beyond both far tails together.
    high = t * math.sqrt(2 * float(scipy.special.gammainccinv(df / 2, p / 4)) / df)
    high += abs(float(scipy.special.ndtri(p / 4))) + 1
    return float(
        brentq(lambda s: laws.noncentral_t_cdf(t, df, s) - p, 0.0, high, xtol=1e-300, rtol=1e-14)
    )
