"""What the tests of the battery can see: the law that they hold data to, and the smallest effects.

An effect is a function (Sample, Law, TestResult, level) -> the smallest size of a fault that the
test catches at that level with 90 % power, or None where no single number says it; for a test of
equivalence, the largest under which it still shows its claim. All are computed, none simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.generate.config import Config
from fleetsim.generate.defects import defect_rates
from fleetsim.generate.model import count_law, type_law
from fleetsim.stats import driver_tests, laws, moments, power, time_tests
from fleetsim.stats.result import TestResult
from fleetsim.stats.sample import Sample


@lru_cache(maxsize=1)
def _z_power() -> float:
    return float(scipy.special.ndtri(power.POWER))


@dataclass(frozen=True)
class Law:
    """What the data are said to follow, and the margins of the equivalence tests.

    Attributes
    ----------
    rate : float
        Events per driver and batch interval.
    weights : tuple of float
        Probability of each event type, sum 1.
    count_margin : float
        Relative margin of the event count.
    type_margin : float
        Margin of a type's share, as a fraction; 0.03 is 3 points.
    defects : mapping
        The rate of each kind of defect, where a ledger says which lines have one; then `rate` is
        that of the clean events.
    """

    rate: float
    weights: tuple[float, ...]
    count_margin: float = 0.10
    type_margin: float = 0.03
    defects: Mapping[str, float] = field(default_factory=dict)


def law_of(
    config: Config,
    *,
    count_margin: float = 0.10,
    type_margin: float = 0.03,
    ledger: bool = False,
) -> Law:
    """Return the law that a configuration states.

    Parameters
    ----------
    config : Config
    count_margin, type_margin : float
    ledger : bool
        Whether the lines with defects are known and left out: the counts of the others are Poisson
        again, thinned by the rates of the kinds that take a record away.
    """
    rates = defect_rates(config) if ledger else {}
    return Law(
        rate=count_law(config).mean * clean_share(rates),
        weights=type_law(config).probabilities,
        count_margin=count_margin,
        type_margin=type_margin,
        defects=rates,
    )


#: Kinds that add a line and leave the record itself clean.
COPIES = frozenset({"duplicate", "conflicting_duplicate"})


def clean_share(rates: Mapping[str, float]) -> float:
    """Return the probability that a record stands in its own batch as it would without defects."""
    return max(0.0, 1 - math.fsum(rate for kind, rate in rates.items() if kind not in COPIES))


def delivered_share(rates: Mapping[str, float]) -> float:
    """Return the lines that a record makes on average, late ones counted where they come."""
    return 1 + math.fsum(rate for kind, rate in rates.items() if kind in COPIES)


def mean_count(sample: Sample, law: Law) -> float:
    """Return the expected number of events of all batches, by the law."""
    return sample.counts.size * law.rate


def pairs_within(sample: Sample) -> float:
    """Return the number of pairs of events inside a batch."""
    sizes = sample.times.sizes.astype(np.float64)
    return float(np.sum(sizes * (sizes - 1) / 2))


def pairs_across(sample: Sample) -> float:
    """Return the number of pairs of events of two batches."""
    sizes = sample.times.sizes.astype(np.float64)
    return float(sizes.sum() ** 2 - np.sum(sizes**2)) / 2


def no_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return None: no single number says what the test sees."""
    return None


def rate_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least relative shift of the rate that the count test catches."""
    return power.detectable_rate_shift(mean_count(sample, law), level)


def count_margin_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the largest relative shift under which equivalence is still shown 9 times in 10."""
    mean, margin = mean_count(sample, law), law.count_margin
    least = float(scipy.stats.poisson.isf(level, mean * (1 - margin))) + 1
    largest = float(scipy.stats.poisson.ppf(level, mean * (1 + margin))) - 1

    def lack(shift: float) -> float:
        chances = power.poisson_between(least, largest, mean * np.array([1 - shift, 1 + shift]))
        return float(chances.min()) - power.POWER

    return float(scipy.optimize.brentq(lack, 0, margin)) if lack(0) > 0 else None


def types_margin_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the largest shift of a share under which equivalence is still shown 9 times in 10."""
    if not result.n:
        return None
    weights = np.array(law.weights)
    error = math.sqrt(float(np.max(weights * (1 - weights))) / result.n)
    room = law.type_margin - (_z_power() - float(scipy.special.ndtri(level))) * error
    return room if room > 0 else None


def share_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return Cohen's w of a one-sided chi-square test."""
    if not result.n or not result.df:  # the exact test has no noncentral law
        return None
    return power.detectable_shares(result.n, result.df, level)


def cell_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return Cohen's w of a two-sided chi-square test."""
    return share_effect(sample, law, result, level / 2)


def table_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return Cramer's V of a two-sided chi-square test on a table with the types in its rows."""
    w = cell_effect(sample, law, result, level)
    if w is None or not result.df or not result.estimate or not result.statistic or not result.n:
        return w
    # V**2 = X2 / (n min(rows - 1, columns - 1)) gives the smaller side back.
    return w / math.sqrt(result.statistic / (result.n * result.estimate**2))


def digit_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return Cohen's w of one digit, where the smallest of several p-values decides."""
    digits = sum(sample.length_us >= 2 * 10**row for row in range(1, 1 + len(sample.times.digits)))
    return cell_effect(sample, law, result, level / max(1, digits))


def scatter_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least ratio of the squared spacings' sum to its mean that is caught."""
    _, mean, variance, _ = driver_tests.scatter_moments(sample.driver_times)
    return 1 + (_z_power() - float(scipy.special.ndtri(level / 2))) * math.sqrt(variance) / mean


def concentration_effect(
    sample: Sample, law: Law, result: TestResult, level: float
) -> float | None:
    """Return the root mean square, over drivers, of what shares are off in parts of their weight.

    It is `share_scatter` times a Cramer's V, as the effects of tables are.
    """
    kinds = sum(weight > 0 for weight in law.weights)
    deviation = driver_tests.concentration_deviation(sample.types_by_driver, kinds)
    z = _z_power() - float(scipy.special.ndtri(level / 2))
    return math.sqrt(z * deviation / max(1, kinds - 1))


def memory_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least correlation of a driver's counts in consecutive batches that is caught."""
    pairs = (sample.n_batches - 1) * (sample.n_drivers - 1)
    return min(1.0, (_z_power() - float(scipy.special.ndtri(level / 2))) / math.sqrt(pairs))


def halves_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least relative difference of the rate between both halves that is caught."""
    mean, size = sample.n_drivers * law.rate, sample.n_batches
    if not result.df:
        return None
    # Halves at 1 - d / 2 and 1 + d / 2 have the noncentrality mean x B (d / 2)**2.
    return 2 * power.detectable_shares(round(mean * size), result.df, level)


def halves_of_companies_effect(
    sample: Sample, law: Law, result: TestResult, level: float
) -> float | None:
    """Return the root mean square difference of companies' rates between halves that is caught."""
    w = cell_effect(sample, law, result, level)
    return None if w is None else 2 * w


def common_shift(law: Law) -> float:
    """Return the share that moves between the two commonest types for a Cohen's w of 1."""
    common = sorted(law.weights)[-2:]
    return 1 / math.sqrt(sum(1 / weight for weight in common if weight))


def share_scatter(law: Law) -> float:
    """Return w for a Cramer's V of 1: the mean square of what cells hold too much or too little."""
    return math.sqrt(max(1, sum(weight > 0 for weight in law.weights) - 1))


def dispersion_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least ratio of variance to mean that is caught."""
    return power.detectable_dispersion(result.df, level) if result.df else None


def fit_power(drivers: int, rate: float, ratio: float, level: float) -> float:
    """Return the power of `moments.fit_test` against negative-binomial counts.

    By the noncentral chi-square law with noncentrality n sum (q - p)**2 / p over the test's cells.

    Parameters
    ----------
    drivers : int
        Number of counts.
    rate : float
        Their mean, in truth and under the hypothesis.
    ratio : float
        True variance over mean, > 1.
    level : float
    """
    cells = moments.fit_cells(drivers, rate)
    if cells is None:
        return level
    ends, p = cells
    actual = scipy.stats.nbinom(rate / (ratio - 1), 1 / ratio)
    q = np.diff(np.concatenate([[0.0], actual.cdf(ends), [1.0]]))
    shift = drivers * float(np.sum((q - p) ** 2 / p))
    critical = scipy.stats.chi2.isf(level, len(p) - 1)
    return float(scipy.stats.ncx2.sf(critical, len(p) - 1, shift))


def fit_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least ratio of variance to mean that the goodness of fit catches."""
    return _fit_effect(sample.counts.size, law.rate, level) if result.df else None


@lru_cache(maxsize=16)  # runs of one experiment ask for the same
def _fit_effect(drivers: int, rate: float, level: float) -> float | None:
    def lack(log_excess: float) -> float:
        ratio = 1 + math.exp(log_excess)
        return fit_power(drivers, rate, ratio, level) - power.POWER

    if lack(math.log(50)) < 0:
        return None
    return 1 + math.exp(float(scipy.optimize.brentq(lack, math.log(1e-4), math.log(50), xtol=1e-6)))


def distance_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the distance of distribution functions that KS catches, wherever it is.

    At the place of the largest distance the empirical function is normal with a standard deviation
    of at most 1 / (2 sqrt(n)); the supremum is at least as large as that one value.
    """
    if not result.n:
        return None
    critical = float(scipy.stats.kstwo.isf(level, result.n))
    return min(1.0, critical + _z_power() / (2 * math.sqrt(result.n)))


@lru_cache(maxsize=16)  # the search for an effect asks a dozen times
def _edge_critical(events: int, level: float) -> float:
    """Return the A2 that fault-free offsets exceed with the probability `level`."""
    return float(
        scipy.optimize.brentq(lambda a: laws.anderson_darling_sf(a, events) - level, 0.1, 400)
    )


@lru_cache(maxsize=1)
def _hermite() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return nodes and weights of an integral over a normal law."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return nodes, weights


def trend_power(events: int, slope: float, level: float) -> float:
    """Return the power of `stats.edge_test` against a density 1 + slope (2 u - 1).

    A2 = sum Y_j**2 / (j (j + 1)) with Y_j the standardised Legendre components of the offsets; the
    slope moves only Y_1, to slope sqrt(n / 3). The rest is taken as the gamma with its mean 1/2 and
    variance 2 (pi**2 / 3 - 3 - 1/4).

    Parameters
    ----------
    events : int
    slope : float
        Half the difference of the density at both ends, from 0 to 1.
    level : float

    References
    ----------
    Anderson and Darling (1952), Ann. Math. Stat. 23, 193. doi:10.1214/aoms/1177729437
    """
    critical = _edge_critical(max(events, 16), level)
    variance = 2 * (math.pi**2 / 3 - 3.25)
    shape, scale = 0.25 / variance, 2 * variance
    nodes, weights = _hermite()
    first = (nodes + slope * math.sqrt(events / 3)) ** 2 / 2
    rest = scipy.special.gammaincc(shape, np.maximum(critical - first, 0) / scale)
    return float(np.sum(weights * rest) / np.sum(weights))


def trend_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least relative slope over the interval that is caught."""
    n = result.n
    if not n or trend_power(n, 1.0, level) < power.POWER:
        return None
    return float(
        scipy.optimize.brentq(lambda s: trend_power(n, s, level) - power.POWER, 0, 1, xtol=1e-6)
    )


def gap_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the share of the interval that, left empty at one end, is caught every time."""
    n = result.n
    if not n or time_tests.longest_gap_sf(1 - 1e-9, n) >= level:
        return None
    return float(
        scipy.optimize.brentq(
            lambda g: time_tests.longest_gap_sf(g, n) - level, 0, 1 - 1e-9, xtol=1e-12
        )
    )


def extra_pairs(possible: Callable[[Sample], float]) -> Callable[..., float | None]:
    """Return an effect: how many pairs, added to those of chance, are caught."""

    def effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
        mean = possible(sample) / sample.length_us
        # The least count with 2 P(X >= count) < level, from a chance count that may be low.
        least = float(scipy.stats.poisson.isf(level / 2, mean)) + 1
        if 2 * float(scipy.stats.poisson.sf(least - 1, mean)) >= level:
            least += 1
        return max(1.0, least - float(scipy.stats.poisson.ppf(1 - power.POWER, mean)))

    return effect


def neighbour_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least correlation of neighbouring drivers that is caught."""
    pairs = sample.n_batches * (sample.n_drivers - 1)
    return (_z_power() - float(scipy.special.ndtri(level / 2))) / math.sqrt(pairs)


def pair_effect(sample: Sample, law: Law, result: TestResult, level: float) -> float | None:
    """Return the least correlation of the counts of two batches that is caught."""
    pairs = sample.n_batches * (sample.n_batches - 1) / 2
    z = _z_power() - float(scipy.special.ndtri(level / (2 * pairs)))
    return min(1.0, z / math.sqrt(sample.n_drivers - 1))
