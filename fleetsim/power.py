"""What a test can see: acceptance regions, power, and the smallest effect that it would catch.

Failing to reject is no proof. The smallest effect that a run would have caught says how much its
silence is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize
from scipy import stats as laws

__all__ = [
    "POWER",
    "detectable_dispersion",
    "detectable_rate_shift",
    "detectable_shares",
    "poisson_acceptance",
    "poisson_between",
    "poisson_power",
]

POWER = 0.90  # probability with which a detectable effect is caught


def poisson_between(low: Any, high: Any, mean: Any) -> Any:
    """Return P(low <= X <= high) for X ~ Poisson(mean), by the tail that keeps its digits.

    Numbers or arrays; `low` and `high` need not be whole. A difference of distribution functions
    gives 0.0 for a range in the upper tail, where a difference of survival functions does not.
    """
    low, high = np.ceil(low), np.floor(high)
    above = laws.poisson.sf(low - 1, mean) - laws.poisson.sf(high, mean)
    below = laws.poisson.cdf(high, mean) - laws.poisson.cdf(low - 1, mean)
    return np.maximum(np.where(low > mean, above, below), 0.0)


def poisson_acceptance(mean: Any, level: float) -> tuple[Any, Any]:
    """Return the least and the largest count that `stats.poisson_count_test` does not reject.

    A count is kept where its central p-value, min(1, 2 min(P(X <= N), P(X >= N))), is `level` or
    more. `mean` is a number or an array.
    """
    tail = level / 2
    mean = np.asarray(mean, np.float64)
    middle = np.floor(mean)  # P(X <= middle + 1) and P(X >= middle) are at least one half
    far = 8 * np.sqrt(mean + 1) * np.sqrt(-np.log(tail)) - 8 * np.log(tail)
    least = _first(
        lambda k: laws.poisson.cdf(k, mean) >= tail, np.full(mean.shape, -1.0), middle + 1
    )
    beyond = _first(lambda k: laws.poisson.sf(k - 1, mean) < tail, middle, np.ceil(mean + far))
    return least, beyond - 1


def _first(
    holds: Callable[[npt.NDArray[np.float64]], Any],
    below: npt.NDArray[np.float64],
    above: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the first whole number above `below` where `holds` turns true; it is at `above`."""
    while True:
        between = np.floor((below + above) / 2)
        if not np.any((between > below) & (between < above)):
            return above
        true = holds(between)
        below, above = np.where(true, below, between), np.where(true, between, above)


def poisson_power(mean: float, ratio: float, level: float) -> float:
    """Return P(`stats.poisson_count_test` of `mean` rejects) where ratio * mean is the truth."""
    return _rejected(poisson_acceptance(mean, level), ratio * mean)


def _rejected(kept: tuple[Any, Any], mean: float) -> float:
    least, largest = kept
    return float(laws.poisson.cdf(least - 1, mean) + laws.poisson.sf(largest, mean))


def detectable_rate_shift(mean: float, level: float) -> float | None:
    """Return the smallest relative increase of the rate that the exact count test catches.

    A fraction of the rate: 0.05 is a rate 5 % too high. A decrease of that size is caught about
    as often where the mean is large. None for a mean of 0.
    """
    if mean <= 0:
        return None
    kept = poisson_acceptance(mean, level)

    def lack(log_ratio: float) -> float:
        return _rejected(kept, mean * np.exp(log_ratio)) - POWER

    high = 1e-3
    while lack(high) < 0:
        high *= 2
    return float(np.expm1(optimize.brentq(lack, 0, high, xtol=1e-12)))


def detectable_shares(n: int, df: int, level: float) -> float:
    """Return the smallest Cohen's w that the chi-square test of category shares catches.

    w = sqrt(sum (p - weight)**2 / weight), a pure number; asymptotic, by the noncentral chi-square
    law with noncentrality n w**2.
    """
    critical = laws.chi2.isf(level, df)

    def lack(noncentrality: float) -> float:
        return float(laws.ncx2.sf(critical, df, noncentrality)) - POWER

    high = 1.0
    while lack(high) < 0:
        high *= 2
    return float(np.sqrt(optimize.brentq(lack, 1e-9, high, xtol=1e-10) / n))


def detectable_dispersion(df: int, level: float) -> float:
    """Return the smallest variance ratio above 1 that the two-sided dispersion test catches.

    The ratio of variance to mean, where D is taken as the ratio times chi-square(df).
    """
    return float(laws.chi2.isf(level / 2, df) / laws.chi2.isf(POWER, df))
