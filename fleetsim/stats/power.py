"""What a test can see: acceptance regions, power, and the smallest effect that it would catch.

Failing to reject is no proof. The smallest effect that a run would have caught says how much its
silence is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.stats.arguments import Floats
from fleetsim.stats.laws import noncentral_t_cdf

#: Probability with which a detectable effect is caught.
POWER = 0.90

_POINTS = 2**21  # numbers of one quasi-random sample, all types together
_NOISE = 1e-13  # of the integral that gives the noncentral t law
_LEAST_POINTS, _MOST_POINTS = 8, 15  # exponents of 2
_EXACT_POINTS = 13  # the same, where the law of the counts is exact: for so many
_FEW_TYPES, _FEW_EVENTS = 8, 1e4


class Outcome(NamedTuple):
    """Probabilities of the three verdicts."""

    passes: float
    fails: float
    inconclusive: float


def poisson_between(low: Any, high: Any, mean: Any) -> Any:
    """Return P(low <= X <= high) for X ~ Poisson(mean), by the tail that keeps its digits.

    Numbers or arrays; `low` and `high` need not be whole. A difference of distribution functions
    gives 0.0 for a range in the upper tail, where a difference of survival functions does not.
    """
    low, high = np.ceil(low), np.floor(high)
    above = scipy.stats.poisson.sf(low - 1, mean) - scipy.stats.poisson.sf(high, mean)
    below = scipy.stats.poisson.cdf(high, mean) - scipy.stats.poisson.cdf(low - 1, mean)
    return np.maximum(np.where(low > mean, above, below), 0.0)


def poisson_outside(low: Any, high: Any, mean: Any) -> Any:
    """Return P(X < low or X > high) for X ~ Poisson(mean); both tails keep their digits."""
    below = scipy.stats.poisson.cdf(np.ceil(low) - 1, mean)
    return np.minimum(below + scipy.stats.poisson.sf(np.floor(high), mean), 1.0)


def poisson_acceptance(mean: Any, level: float) -> tuple[Any, Any]:
    """Return the least and the largest count that `stats.poisson_count_test` does not reject.

    A count is kept where its central p-value, min(1, 2 min(P(X <= N), P(X >= N))), is `level` or
    more. `mean` is a number or an array.
    """
    if np.size(mean) > 1:
        return _acceptance(mean, level)
    shape = np.shape(mean)  # a law without a choice of companies has one mean
    least, largest = _acceptance_of_one(float(np.reshape(mean, ())), float(level))
    return np.full(shape, least), np.full(shape, largest)


@lru_cache(maxsize=1024)  # the criteria and runs of one experiment ask for the same
def _acceptance_of_one(mean: float, level: float) -> tuple[Any, Any]:
    return _acceptance(mean, level)


def _acceptance(mean: Any, level: float) -> tuple[Any, Any]:
    tail = level / 2
    mean = np.asarray(mean, np.float64)
    middle = np.floor(mean)  # P(X <= middle + 1) and P(X >= middle) are at least one half
    far = 8 * np.sqrt(mean + 1) * np.sqrt(-np.log(tail)) - 8 * np.log(tail)
    least = _first(
        lambda k: scipy.stats.poisson.cdf(k, mean) >= tail, np.full(mean.shape, -1.0), middle + 1
    )
    beyond = _first(
        lambda k: scipy.stats.poisson.sf(k - 1, mean) < tail, middle, np.ceil(mean + far)
    )
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
    return float(poisson_outside(least, largest, mean))


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
    return float(np.expm1(scipy.optimize.brentq(lack, 0, high, xtol=1e-12)))


def binomial_acceptance(n: int, probability: float, level: float) -> tuple[float, float]:
    """Return the least and the largest count that `stats.binomial_count_test` does not reject."""
    tail, law = level / 2, scipy.stats.binom(n, probability)
    least = _first(lambda k: law.cdf(k) >= tail, np.array(-1.0), np.array(float(n)))
    beyond = _first(lambda k: law.sf(k - 1) < tail, np.array(-1.0), np.array(n + 1.0))
    return float(least), float(beyond) - 1


def binomial_power(n: int, probability: float, ratio: float, level: float) -> float:
    """Return P(`stats.binomial_count_test` rejects) where ratio * probability is the truth."""
    least, largest = binomial_acceptance(n, probability, level)
    truth = scipy.stats.binom(n, min(1.0, ratio * probability))
    return float(truth.cdf(least - 1) + truth.sf(largest))


def detectable_share_shift(n: int, probability: float, level: float) -> float | None:
    """Return the smallest relative increase of a probability that the exact binomial test catches.

    A fraction: 0.2 is a rate 20 % too high. None where no increase is caught with 90 % power.
    """
    if n <= 0 or not 0 < probability < 1:
        return None

    def lack(log_ratio: float) -> float:
        return binomial_power(n, probability, math.exp(log_ratio), level) - POWER

    most = -math.log(probability)
    if lack(most) < 0:
        return None
    high = min(most, 1e-3)
    while lack(high) < 0:
        high = min(most, 2 * high)
    return math.expm1(float(scipy.optimize.brentq(lack, 0, high, xtol=1e-12)))


def detectable_shares(n: int, df: int, level: float) -> float:
    """Return the smallest Cohen's w that the chi-square test of category shares catches.

    w = sqrt(sum (p - weight)**2 / weight), a pure number; asymptotic, by the noncentral chi-square
    law with noncentrality n w**2.
    """
    return math.sqrt(_detectable_noncentrality(df, level) / n)


@lru_cache(maxsize=256)  # several tests of a battery, and the next run's, have the same
def _detectable_noncentrality(df: int, level: float) -> float:
    critical = scipy.stats.chi2.isf(level, df)

    def lack(noncentrality: float) -> float:
        return float(scipy.stats.ncx2.sf(critical, df, noncentrality)) - POWER

    high = 1.0
    while lack(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(lack, 1e-9, high, xtol=1e-10))


def detectable_dispersion(df: int, level: float) -> float:
    """Return the smallest variance ratio above 1 that the two-sided dispersion test catches.

    The ratio of variance to mean, where D is taken as the ratio times chi-square(df).
    """
    return float(scipy.stats.chi2.isf(level / 2, df) / scipy.stats.chi2.isf(POWER, df))


def category_power(n: float, weights: npt.ArrayLike, shares: npt.ArrayLike, level: float) -> float:
    """Return P(the chi-square test of `weights` rejects) where `shares` are the truth.

    Asymptotic: noncentral chi-square with k - 1 degrees of freedom and noncentrality
    n sum (share - weight)**2 / weight, over k types of positive weight.

    References
    ----------
    Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, chapter 7.
    """
    expected, actual = np.asarray(weights, np.float64), np.asarray(shares, np.float64)
    shift = n * float(np.sum((actual - expected) ** 2 / expected))
    df = len(expected) - 1
    critical = scipy.stats.chi2.isf(level, df)
    # The noncentral law is not defined by every version of SciPy where it is the central one.
    return float(scipy.stats.ncx2.sf(critical, df, shift)) if shift else level


def category_outcome(
    n: float,
    weights: npt.ArrayLike,
    shares: npt.ArrayLike,
    margin: float,
    level: float,
    confidence: float = 0.90,
) -> Outcome:
    """Return what becomes of types with these shares, where `weights` are claimed.

    Fails where the chi-square test rejects; passes where it does not and every interval of a share
    (normal, of this confidence) lies within `margin` of the weight; else inconclusive.

    The probability to fail is that of `category_power`; how the rest divides is counted over the
    centred points of a Sobol sequence, the same every time. Up to eight types and 10,000 events
    the number of events is Poisson and their types multinomial, exactly; for more the shares are
    taken as normal. All three probabilities are good to about 0.003.

    Parameters
    ----------
    n : float
        Expected events.
    weights, shares : float array (k,)
        Claimed and true, positive, k >= 2.
    margin : float
        A fraction, 0.03 is 3 points.
    level : float
    confidence : float
    """
    expected, actual = np.asarray(weights, np.float64), np.asarray(shares, np.float64)
    k = len(expected)
    exact = k <= _FEW_TYPES and n <= _FEW_EVENTS
    drawn, events = _few_types(n, tuple(actual.tolist())) if exact else _many_types(n, actual)
    statistic = events * np.sum((drawn - expected) ** 2 / expected, axis=1)
    kept = statistic <= scipy.stats.chi2.isf(level, k - 1)
    half = scipy.stats.norm.isf((1 - confidence) / 2) * np.sqrt(
        drawn * (1 - drawn) / events[:, None]
    )
    inside = np.max(np.abs(drawn - expected) + half, axis=1) <= margin
    fails = category_power(n, expected, actual, level)
    if not np.any(kept & inside):
        return Outcome(0.0, fails, 1 - fails)
    inconclusive = min(float(np.mean(kept & ~inside)), 1 - fails)
    return Outcome(1 - fails - inconclusive, fails, inconclusive)


@lru_cache(maxsize=16)  # several levels and margins are asked for of the same shares
def _few_types(n: float, shares: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return shares of types and numbers of events, one row a point: Poisson and multinomial."""
    k = len(shares)
    points = _sobol(k, _EXACT_POINTS)
    events = _sobol_events(n)
    counts = np.zeros((len(points), k))
    left, rest = events.copy(), 1.0
    for column in range(k - 1):
        chance = min(1.0, shares[column] / rest)
        counts[:, column] = scipy.stats.binom.ppf(points[:, column + 1], left, chance)
        left -= counts[:, column]
        rest -= shares[column]
    counts[:, -1] = left
    return counts / events[:, None], events


@lru_cache(maxsize=16)
def _sobol_events(n: float) -> Floats:
    """Return the numbers of events of `_few_types`: the first dimension is that of any sequence."""
    return np.maximum(scipy.stats.poisson.ppf(_sobol(1, _EXACT_POINTS)[:, 0], n), 1.0)


def _many_types(n: float, shares: Floats) -> tuple[Floats, Floats]:
    """Return the same with shares that are normal with the covariance of a multinomial law of n."""
    k = len(shares)
    z = scipy.special.ndtri(
        _sobol(k, int(np.clip(math.log2(_POINTS / k), _LEAST_POINTS, _MOST_POINTS)))
    )
    root = np.sqrt(shares)
    steps = root * z - shares * (z @ root)[:, None]  # covariance diag(p) - p p'
    return np.clip(shares + steps / math.sqrt(n), 0.0, 1.0), np.full(len(z), n)


def _sobol(dimensions: int, exponent: int) -> Floats:
    points: Floats = scipy.stats.qmc.Sobol(dimensions, scramble=False).random_base2(exponent)
    points += 0.5 / 2**exponent
    return points


@lru_cache(maxsize=256)  # runs of one experiment ask for the same
def dispersion_power(df: int, ratio: float, level: float) -> float:
    """Return P(the two-sided dispersion test rejects) where variance = ratio * mean.

    Fisher's D is taken as ratio * chi-square(df): asymptotic, for counts of large mean.
    """
    lower, upper = scipy.stats.chi2.ppf(level / 2, df), scipy.stats.chi2.isf(level / 2, df)
    return float(scipy.stats.chi2.cdf(lower / ratio, df) + scipy.stats.chi2.sf(upper / ratio, df))


@lru_cache(maxsize=256)  # runs of one experiment ask for the same
def dispersion_reach(df: int, probability: float = 0.95) -> float:
    """Return the margin that a fault-free variance/mean keeps about 1 with this probability.

    The smallest m with P(abs(D/df - 1) <= m) = probability, D ~ chi-square(df); a fraction.
    """

    def lack(margin: float) -> float:
        inside = scipy.stats.chi2.cdf(df * (1 + margin), df) - scipy.stats.chi2.cdf(
            df * (1 - margin), df
        )
        return float(inside) - probability

    high = 1.0
    while lack(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(lack, 0.0, high, xtol=1e-12))


@lru_cache(maxsize=256)  # runs of one experiment ask for the same
def dispersion_outcome(
    df: int, ratio: float, low: float, high: float, confidence: float = 0.95
) -> Outcome:
    """Return what becomes of counts with variance = ratio * mean.

    Fails where the interval of variance/mean, (D / upper, D / lower) with the quantiles of
    chi-square(df), does not contain 1; passes where it does and lies in (low, high); else
    inconclusive. D is taken as ratio * chi-square(df): asymptotic, for counts of large mean.
    """
    tail = (1 - confidence) / 2
    upper, lower = scipy.stats.chi2.isf(tail, df), scipy.stats.chi2.ppf(tail, df)
    least, most = max(lower, low * upper), min(upper, high * lower)

    def between(start: float, end: float) -> float:
        """Return the probability of a piece; one of no length has exactly 0."""
        return float(scipy.stats.chi2.sf(start / ratio, df) - scipy.stats.chi2.sf(end / ratio, df))

    fails = dispersion_power(df, ratio, 1 - confidence)
    if least >= most:
        return Outcome(0.0, fails, between(lower, upper))
    return Outcome(between(least, most), fails, between(lower, least) + between(most, upper))


def variation_limits(n: int, limit: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the variation below which n run times pass, and that above which they fail.

    The observed coefficients of variation at which `stats.variation_interval` has its upper and
    its lower end at `limit`: sqrt(n) / cv at the quantiles of the noncentral t law with n - 1
    degrees of freedom and noncentrality sqrt(n) / limit. The second is inf where the limit is so
    large that none fails.
    """
    tail, root = (1 - confidence) / 2, math.sqrt(n)
    shift = root / limit
    passes = root / _noncentral_t_quantile(1 - tail, n - 1, shift)
    if scipy.special.ndtr(-shift) >= tail:  # the law's lower quantile is not positive
        return passes, math.inf
    return passes, root / _noncentral_t_quantile(tail, n - 1, shift)


def _noncentral_t_quantile(p: float, df: int, shift: float) -> float:
    """Return the t > 0 with P(T <= t) = p; there is one."""
    low = high = shift
    while noncentral_t_cdf(low, df, shift) > p:
        low /= 2
    while noncentral_t_cdf(high, df, shift) < p:
        high *= 2
    if low == high:
        return low
    return float(
        scipy.optimize.brentq(lambda t: noncentral_t_cdf(t, df, shift) - p, low, high, rtol=1e-12)
    )


def variation_outcome(n: int, limit: float, variation: float, confidence: float = 0.95) -> Outcome:
    """Return what becomes of n normal run times of a true coefficient of variation.

    Passes where the upper end of `stats.variation_interval` lies below `limit`, fails where the
    lower end lies above it, else inconclusive. Exact for normal run times, up to the chance that
    their mean is negative.
    """
    below, above = variation_limits(n, limit, confidence)
    root = math.sqrt(n)
    shift = root / variation
    short = noncentral_t_cdf(root / below, n - 1, shift)
    fails = 0.0 if math.isinf(above) else noncentral_t_cdf(root / above, n - 1, shift)
    parts = (1 - short, fails, short - fails)
    return Outcome(*(part if part > _NOISE else 0.0 for part in parts))
