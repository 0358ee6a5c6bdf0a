"""Tests of numbers of events: exact Poisson tests, dispersion and goodness of fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.stats import laws
from fleetsim.stats.arguments import (
    Floats,
    count_of,
    counts_of,
    fraction,
    not_negative,
    positive,
    sum_of,
)
from fleetsim.stats.result import (
    EQUIVALENCE_CONFIDENCE,
    MIN_EXPECTATION,
    TestResult,
    central,
    pearson,
)


def poisson_interval(count: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return Garwood's exact confidence limits of a Poisson mean.

    Parameters
    ----------
    count : int
        Observed number of events, >= 0.
    confidence : float
        Coverage, between 0 and 1; each tail holds half of what is left.

    Returns
    -------
    (low, high) : tuple of float
        Half the chi-square quantiles with 2 count and 2 count + 2 degrees of freedom; low is 0 for
        count 0.

    Raises
    ------
    ValueError
        If count is negative or not whole, or confidence is not between 0 and 1.

    References
    ----------
    Garwood (1936), Biometrika 28, 437. doi:10.1093/biomet/28.3-4.437
    """
    events = count_of("count", count)
    tail = (1 - fraction("confidence", confidence)) / 2
    low = laws.gamma_quantile(float(events), tail) if events else 0.0
    return low, float(scipy.special.gammainccinv(events + 1.0, tail))


def poisson_count_test(count: float, mean: float) -> TestResult:
    """Return the two-sided exact test that a count comes from Poisson(mean).

    The p-value is central, twice the smaller tail, and so agrees with Garwood's interval. R's
    ``poisson.test`` gives the "minlike" p instead, the sum of all outcomes not more likely than
    the observed one: for 137 events where 24.19893 are expected (its own example) the two differ.

    Parameters
    ----------
    count : int
        Observed number of events, >= 0.
    mean : float
        Expected number of events, >= 0.

    Returns
    -------
    TestResult
        `statistic` and `n` are the count; `estimate` is count / mean with its 95 % interval.

    Raises
    ------
    ValueError
        If count is negative or not whole, or mean is negative or not finite.
    """
    events, rate = count_of("count", count), not_negative("mean", mean)
    null = f"count ~ Poisson({rate:.12g})"
    if rate == 0:
        return TestResult(
            "poisson_count",
            statistic=float(events),
            p_value=0.0 if events else 1.0,
            n=events,
            null=null,
            note="the mean is 0, so there is no ratio to report",
        )
    low, high = poisson_interval(events)
    return TestResult(
        "poisson_count",
        statistic=float(events),
        p_value=central(laws.poisson_cdf(events, rate), laws.poisson_sf(events, rate)),
        n=events,
        estimate=events / rate,
        interval=(low / rate, high / rate),
        null=null,
    )


def binomial_count_test(count: float, n: float, probability: float) -> TestResult:
    """Return the two-sided exact test that a count is binomial with a known probability.

    The p-value is central, min(1, 2 min(P(X <= count), P(X >= count))).

    Parameters
    ----------
    count : int
        Observed successes, from 0 to `n`.
    n : int
        Trials, > 0.
    probability : float
        Of a success in one trial, from 0 to 1.

    Returns
    -------
    TestResult
        `statistic` is the count; `estimate` is count / (n probability) with the 95 % interval of
        Clopper and Pearson, None where the probability is 0.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the count or n is not whole.

    References
    ----------
    Clopper and Pearson (1934), Biometrika 26, 404. doi:10.1093/biomet/26.4.404
    """
    successes, trials = count_of("count", count), count_of("n", n)
    if trials == 0 or successes > trials:
        raise ValueError(f"count is {successes} of n = {trials}, must be 0 to n, and n > 0")
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}, must be from 0 to 1")
    null = f"count ~ Binomial({trials}, {probability:.12g})"
    law = scipy.stats.binom(trials, probability)
    p_value = central(float(law.cdf(successes)), float(law.sf(successes - 1)))
    if probability == 0:
        note = "the probability is 0, so there is no ratio to report"
        return TestResult(
            "binomial_count", float(successes), p_value, n=trials, null=null, note=note
        )
    odds = _lower_odds(successes, trials - successes), _lower_odds(trials - successes, successes)
    low = odds[0] / (1 + odds[0])
    high = 1 / (1 + odds[1])
    return TestResult(
        "binomial_count",
        statistic=float(successes),
        p_value=p_value,
        n=trials,
        estimate=successes / trials / probability,
        interval=(low / probability, high / probability),
        null=null,
    )


def poisson_equivalence_test(count: float, mean: float, margin: float) -> TestResult:
    """Return the test that shows a Poisson mean to lie within a relative margin of `mean`.

    Two one-sided exact tests (TOST): p is the larger of P(X >= count) at (1 - margin) mean and
    P(X <= count) at (1 + margin) mean. A small p is evidence FOR agreement: p < 0.05 just where
    the 90 % interval lies inside (1 - margin, 1 + margin).

    Parameters
    ----------
    count : int
        Observed number of events, >= 0.
    mean : float
        Expected number of events, >= 0; at 0 a relative margin is empty and there is no test.
    margin : float
        Relative margin, between 0 and 1; 0.1 is 10 %.

    Returns
    -------
    TestResult
        `statistic` and `n` are the count; `estimate` is count / mean with its 90 % interval.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657. doi:10.1007/BF01068419
    """
    events, rate = count_of("count", count), not_negative("mean", mean)
    width = fraction("margin", margin)
    null = f"the mean differs from {rate:.12g} by {width:.12g} of it or more"
    if rate == 0:
        note = "no test: the mean is 0, and a relative margin of it is empty"
        return TestResult(
            "poisson_equivalence", statistic=float(events), n=events, null=null, note=note
        )
    too_low = laws.poisson_sf(events, rate * (1 - width))
    too_high = laws.poisson_cdf(events, rate * (1 + width))
    low, high = poisson_interval(events, EQUIVALENCE_CONFIDENCE)
    return TestResult(
        "poisson_equivalence",
        statistic=float(events),
        p_value=max(too_low, too_high),
        n=events,
        estimate=events / rate,
        interval=(low / rate, high / rate),
        null=null,
    )


def two_sample_rate_test(
    count_a: float, exposure_a: float, count_b: float, exposure_b: float
) -> TestResult:
    """Return the two-sided exact test that two Poisson rates are equal.

    Given the total, count_a is binomial with probability exposure_a / (exposure_a + exposure_b).

    Parameters
    ----------
    count_a, count_b : int
        Observed numbers of events, >= 0.
    exposure_a, exposure_b : float
        What each count was collected over (driver intervals, seconds), > 0, in one unit.

    Returns
    -------
    TestResult
        `statistic` is count_a, `n` the total; `estimate` is rate a / rate b with the 95 % interval
        that follows from the Clopper-Pearson limits, where an end may be 0 or inf. Without any
        event p_value and estimate are None.

    Raises
    ------
    ValueError
        If a count is negative or not whole, or an exposure is not positive.

    References
    ----------
    Przyborowski and Wilenski (1940), Biometrika 31, 313. doi:10.1093/biomet/31.3-4.313
    Clopper and Pearson (1934), Biometrika 26, 404. doi:10.1093/biomet/26.4.404
    """
    a, b = count_of("count_a", count_a), count_of("count_b", count_b)
    size_a, size_b = positive("exposure_a", exposure_a), positive("exposure_b", exposure_b)
    null = "rate a = rate b"
    if a + b == 0:
        note = "no test: neither sample has an event"
        return TestResult(
            "two_sample_rate", statistic=0.0, n=0, interval=(0.0, math.inf), null=null, note=note
        )
    # Both probabilities from their own ratio: 1 - p would lose the digits of a small one.
    p_a, p_b = 1 / (1 + size_b / size_a), 1 / (1 + size_a / size_b)
    lower = 1.0 if b == 0 else float(scipy.special.betainc(b, a + 1, p_b))
    upper = 1.0 if a == 0 else float(scipy.special.betainc(a, b + 1, p_a))
    # An exposure is a scale: odds * exposure_b / exposure_a turns binomial odds into rates.
    return TestResult(
        "two_sample_rate",
        statistic=float(a),
        p_value=central(lower, upper),
        n=a + b,
        estimate=_rate_ratio(a / b if b else math.inf, size_a, size_b),
        interval=(
            _rate_ratio(_lower_odds(a, b), size_a, size_b),
            _rate_ratio(_inverse(_lower_odds(b, a)), size_a, size_b),
        ),
        null=null,
    )


def _rate_ratio(odds: float, size_a: float, size_b: float) -> float:
    """Return odds size_b / size_a; odds of 0 and inf are so whatever the exposures."""
    return odds if odds == 0 or math.isinf(odds) else odds * (size_b / size_a)


def _lower_odds(successes: int, failures: int) -> float:
    """Return the lower 97.5 % Clopper-Pearson limit of success, as odds."""
    if successes == 0:
        return 0.0
    low = float(scipy.special.betaincinv(successes, failures + 1, 0.025))
    rest = float(scipy.special.betainccinv(failures + 1, successes, 0.025))
    return low / rest


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def dispersion_test(counts: npt.ArrayLike) -> TestResult:
    """Return the two-sided test that the variance of counts equals their mean.

    Fisher's D = sum (x - xbar)**2 / xbar follows chi-square with n - 1 degrees of freedom, given
    the total. Counts that are too even fail as well as counts that are too uneven.

    Parameters
    ----------
    counts : int array (n,)
        Counts of equal exposure, >= 0, zeros included.

    Returns
    -------
    TestResult
        `statistic` is D; `estimate` is the variance over the mean, D / (n - 1), with the 95 %
        interval D / chi2(.975), D / chi2(.025). All zeros, or a single count: p_value is None.

    Raises
    ------
    ValueError
        If counts is empty or holds a negative number, a fraction or NaN.

    References
    ----------
    Fisher, Thornton and Mackenzie (1922), Ann. Appl. Biol. 9, 325.
    doi:10.1111/j.1744-7348.1922.tb05962.x
    """
    x = counts_of("counts", counts)
    null = "variance = mean"
    total = int(x.sum())
    if x.size == 1 or total == 0:
        reason = "a single count has no spread" if x.size == 1 else "all counts are 0"
        return TestResult("dispersion", n=x.size, null=null, note=f"no test: {reason}")
    # About a whole number near the mean the sums are short and the first is exact.
    y = x - round(total / x.size)
    squares = sum_of(y.astype(np.float64) ** 2)
    shift = int(y.sum())
    statistic = (squares - shift * shift / x.size) / (total / x.size)
    df = x.size - 1
    note = None
    if statistic == 0:
        note = "all counts are equal: the chi-square law rejects them however few they are"
    return TestResult(
        "dispersion",
        statistic=statistic,
        p_value=central(laws.gamma_cdf(df / 2, statistic / 2), laws.chi2_sf(statistic, df)),
        df=df,
        n=x.size,
        estimate=statistic / df,
        interval=(
            statistic / (2 * float(scipy.special.gammainccinv(df / 2, 0.025))),
            statistic / (2 * float(scipy.special.gammaincinv(df / 2, 0.025))),
        ),
        null=null,
        note=note,
    )


def poisson_fit_test(counts: npt.ArrayLike, mean: float) -> TestResult:
    """Return the chi-square test that counts follow Poisson(mean), the mean being known.

    The cells are single values but for the two tails, which are pooled by expectation: the last
    is x >= j, j the largest with n P(X >= j) >= 5; the first is x <= i, i the smallest with
    n P(X <= i) >= 5. Nothing is estimated, so df is the number of cells less one.

    Parameters
    ----------
    counts : int array (n,)
        One count per driver, >= 0. The drivers without events belong in it.
    mean : float
        Expected count per driver, >= 0.

    Returns
    -------
    TestResult
        `statistic` is Pearson's X2; `note` lists the cells. Fewer than two cells: p_value is None.

    Raises
    ------
    ValueError
        If counts is empty or holds a negative number, a fraction or NaN, or mean is negative.

    References
    ----------
    Pearson (1900), Phil. Mag. 50, 157. doi:10.1080/14786440009463897
    """
    x, rate = counts_of("counts", counts), not_negative("mean", mean)
    null = f"each count ~ Poisson({rate:.12g})"
    if rate == 0 and x.any():
        note = "counts above 0 where the mean is 0"
        return TestResult("poisson_fit", math.inf, 0.0, n=x.size, null=null, note=note)
    first, last = poisson_tail_cells(x.size, rate)
    if first >= last:
        note = f"no test: {x.size} counts with mean {rate:.12g} make fewer than two cells"
        return TestResult("poisson_fit", n=x.size, null=null, note=note)
    expected = x.size * poisson_cells(first, last, rate)
    observed = np.bincount(np.clip(x, first, last) - first, minlength=expected.size)
    statistic = pearson(observed, expected)
    df = expected.size - 1
    note = f"{expected.size} cells: x <= {first}, single values, x >= {last}"
    if expected.min() < MIN_EXPECTATION:
        note += f"; the smallest expectation is {expected.min():.3g}, so p is rough"
    return TestResult(
        "poisson_fit", statistic, laws.chi2_sf(statistic, df), df, x.size, null=null, note=note
    )


def poisson_tail_cells(n: int, mean: float) -> tuple[int, int]:
    """Return i and j, the first and last cell (x <= i and x >= j) of `n` counts."""
    if n < MIN_EXPECTATION:
        return 0, 0
    first = _smallest(lambda x: n * laws.poisson_cdf(x, mean) >= MIN_EXPECTATION)
    beyond = _smallest(lambda x: n * laws.poisson_sf(x, mean) < MIN_EXPECTATION)
    return first, beyond - 1


def _smallest(holds: Callable[[int], bool]) -> int:
    """Return the smallest whole number >= 0 from which on `holds` is true."""
    high = 1
    while not holds(high):
        high *= 2
    low = -1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def poisson_cells(first: int, last: int, mean: float) -> Floats:
    """Return the probabilities of x <= first, of each value between, and of x >= last."""
    lower, upper = laws.poisson_cdf(first, mean), laws.poisson_sf(last, mean)
    inner = np.arange(first + 1, last, dtype=np.float64)
    if inner.size == 0:
        return np.array([lower, upper])
    # The known total of the inner cells is shared out by the ratios mean / x of neighbours:
    # exp(x log(mean) - mean - gammaln(x + 1)) loses digits at large means.
    logs = np.concatenate([[0.0], np.cumsum(np.log(mean / inner[1:]))])
    parts = np.exp(logs - logs.max())
    total = laws.poisson_cdf(last - 1, mean) - lower
    return np.concatenate([[lower], total * parts / parts.sum(), [upper]])
