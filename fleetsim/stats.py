"""Statistical tests of counts, categories, times and rates: plain functions on arrays and numbers.

Every test returns a frozen `TestResult`. Two-sided p-values are central,
``min(1, 2 min(P(X <= x), P(X >= x)))``, so that p and the confidence interval agree; R's
``poisson.test`` and ``binom.test`` report another two-sided p (by likelihood, "minlike").
A test that cannot be made has `p_value` None and a `note` that says why: no data is never a pass.
Invalid input raises `ValueError`. Nothing here reads, writes, draws or prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special

from fleetsim import laws

__all__ = [
    "TestResult",
    "benjamini_hochberg",
    "category_equivalence_test",
    "category_test",
    "dispersion_test",
    "edge_test",
    "holm",
    "independence_test",
    "poisson_count_test",
    "poisson_equivalence_test",
    "poisson_fit_test",
    "poisson_interval",
    "share_intervals",
    "spacing_test",
    "two_sample_rate_test",
    "uniformity_test",
    "variation_interval",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

# Cochran's rule: below this expectation the chi-square law of a cell is not trusted.
MIN_EXPECTATION = 5.0
# The exact multinomial test lists every outcome; above this many it pools cells instead.
MAX_OUTCOMES = 10**7
# Above this N * resolution / length, ties are common enough to spoil the law of the spacings.
MAX_TICK_DENSITY = 1e-3
# Counts and their totals stay below 2**53, so that each is exact as a float64.
MAX_COUNT = 2**53

_EPSILON = float(np.finfo(np.float64).eps)
_TIE = 1e-7
_BLOCK = 2**20
_EQUIVALENCE_CONFIDENCE = 0.90


@dataclass(frozen=True, slots=True)
class TestResult:
    """What one test found; fields that do not apply are None.

    Attributes
    ----------
    name : str
        The test, for example ``"poisson_count"``.
    statistic : float or None
        The test statistic.
    p_value : float or None
        Probability under the null hypothesis of a result at least as extreme; None where the test
        cannot be made (`note` says why).
    df : int or None
        Degrees of freedom of a chi-square law.
    n : int or None
        Number of observations: events, or counts in `dispersion_test` and `poisson_fit_test`.
    estimate : float or None
        Size of the effect, as a plain ratio.
    interval : tuple of float or None
        Confidence limits (low, high) of `estimate`; an end may be inf.
    null : str
        The hypothesis that a small p-value speaks against.
    note : str or None
        Pooled cells, why there is no p-value, and the like.
    """

    # Keeps pytest from collecting the class because of its name.
    __test__: ClassVar[bool] = False

    name: str
    statistic: float | None = None
    p_value: float | None = None
    df: int | None = None
    n: int | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    null: str = ""
    note: str | None = None

    def _repr_html_(self) -> str:
        from fleetsim.tables import Table, number  # where something is shown

        interval = "–"
        if self.interval is not None:
            interval = " to ".join(number(end) for end in self.interval)
        rows = (
            ("null hypothesis", self.null),
            ("p-value", number(self.p_value)),
            ("statistic", number(self.statistic)),
            ("degrees of freedom", number(self.df)),
            ("observations", number(self.n)),
            ("estimate", number(self.estimate)),
            ("its interval", interval),
            ("note", self.note or "–"),
        )
        return Table((self.name, ""), rows)._repr_html_()


# ---------------------------------------------------------------------------------------------
# Input
# ---------------------------------------------------------------------------------------------


def _number(name: str, value: float, rule: str, allowed: Callable[[float], bool]) -> float:
    """Return `value` as a finite float for which `allowed` holds; `rule` is that in words."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise ValueError(f"{name} is {value!r}, must be a finite number {rule}")
    number = float(value)
    if not math.isfinite(number) or not allowed(number):
        raise ValueError(f"{name} is {value}, must be a finite number {rule}")
    return number


def _positive(name: str, value: float) -> float:
    return _number(name, value, "> 0", lambda number: number > 0)


def _not_negative(name: str, value: float) -> float:
    return _number(name, value, ">= 0", lambda number: number >= 0)


def _fraction(name: str, value: float) -> float:
    return _number(name, value, "> 0 and < 1", lambda number: 0 < number < 1)


def _count(name: str, value: float) -> int:
    """Return `value` as an int from 0 to 2**53."""
    rule = "that is whole, >= 0 and <= 2**53"
    return int(_number(name, value, rule, lambda x: 0 <= x <= MAX_COUNT and x == math.floor(x)))


def _array(name: str, values: npt.ArrayLike, ndim: int = 1) -> npt.NDArray[Any]:
    """Return `values` as an array of finite numbers that has `ndim` dimensions and is not empty."""
    array = np.asarray(values)
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} dimensions, must have {ndim}")
    if array.size == 0:
        raise ValueError(f"{name} is empty, must have at least one value")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} has type {array.dtype}, must be numbers")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name}: value {bad[0]} is {array.flat[bad[0]]}, must be finite")
    return array


def _floats(name: str, values: npt.ArrayLike) -> Floats:
    """Return `values` as a one-dimensional float64 array of finite numbers."""
    return _array(name, values).astype(np.float64)


def _counts(name: str, values: npt.ArrayLike, ndim: int = 1) -> Ints:
    """Return `values` as an int64 array of counts whose total is at most 2**53."""
    array = _array(name, values, ndim)
    for fault, rule in (
        (array < 0, "must be >= 0"),
        (array != np.floor(array), "must be a whole number"),
        (array > MAX_COUNT, "must be <= 2**53"),
    ):
        bad = np.flatnonzero(fault)
        if bad.size:
            raise ValueError(f"{name}: value {bad[0]} is {array.flat[bad[0]]}, {rule}")
    if float(array.sum(dtype=np.float64)) > MAX_COUNT:
        raise ValueError(f"{name}: the total is above 2**53, must be <= 2**53")
    return array.astype(np.int64)


def _categories(observed: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Return observed counts and the weights that belong to them, both checked."""
    counts = _counts("observed", observed)
    shares = _floats("weights", weights)
    if shares.size != counts.size:
        raise ValueError(
            f"weights has {shares.size} values, must have {counts.size}, as many as observed"
        )
    bad = np.flatnonzero(shares < 0)
    if bad.size:
        raise ValueError(f"weights: value {bad[0]} is {shares[bad[0]]}, must be >= 0")
    total = math.fsum(shares)
    if abs(total - 1) > 1e-9:
        raise ValueError(f"weights: the sum is {total!r}, must be 1 within 1e-9")
    return counts, shares


# ---------------------------------------------------------------------------------------------
# Laws and sums
# ---------------------------------------------------------------------------------------------


def _sum(values: Floats) -> float:
    """Return the sum, exact to a few units in the last place at any length."""
    # NumPy adds pairwise along a row; fsum then adds the rows without rounding. Plain fsum would
    # be as good and ten times slower.
    rows = values.size // 1024
    head = values[: rows * 1024].reshape(rows, 1024).sum(axis=1)
    return math.fsum(head.tolist() + values[rows * 1024 :].tolist())


def _central(lower: float, upper: float) -> float:
    """Return the central two-sided p from P(X <= x) and P(X >= x)."""
    return min(1.0, 2 * min(lower, upper))


def _pearson(counts: Ints | Floats, expected: Floats) -> float:
    """Return sum (observed - expected)**2 / expected over all cells."""
    return _sum(np.ravel((counts - expected) ** 2 / expected))


# ---------------------------------------------------------------------------------------------
# Counts
# ---------------------------------------------------------------------------------------------


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
    events = _count("count", count)
    tail = (1 - _fraction("confidence", confidence)) / 2
    low = laws.gamma_quantile(float(events), tail) if events else 0.0
    return low, float(special.gammainccinv(events + 1.0, tail))


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
    events, rate = _count("count", count), _not_negative("mean", mean)
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
        p_value=_central(laws.poisson_cdf(events, rate), laws.poisson_sf(events, rate)),
        n=events,
        estimate=events / rate,
        interval=(low / rate, high / rate),
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
    events, rate = _count("count", count), _not_negative("mean", mean)
    width = _fraction("margin", margin)
    null = f"the mean differs from {rate:.12g} by {width:.12g} of it or more"
    if rate == 0:
        note = "no test: the mean is 0, and a relative margin of it is empty"
        return TestResult(
            "poisson_equivalence", statistic=float(events), n=events, null=null, note=note
        )
    too_low = laws.poisson_sf(events, rate * (1 - width))
    too_high = laws.poisson_cdf(events, rate * (1 + width))
    low, high = poisson_interval(events, _EQUIVALENCE_CONFIDENCE)
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
    a, b = _count("count_a", count_a), _count("count_b", count_b)
    size_a, size_b = _positive("exposure_a", exposure_a), _positive("exposure_b", exposure_b)
    null = "rate a = rate b"
    if a + b == 0:
        note = "no test: neither sample has an event"
        return TestResult(
            "two_sample_rate", statistic=0.0, n=0, interval=(0.0, math.inf), null=null, note=note
        )
    # Both probabilities from their own ratio: 1 - p would lose the digits of a small one.
    p_a, p_b = 1 / (1 + size_b / size_a), 1 / (1 + size_a / size_b)
    lower = 1.0 if b == 0 else float(special.betainc(b, a + 1, p_b))
    upper = 1.0 if a == 0 else float(special.betainc(a, b + 1, p_a))
    # An exposure is a scale: odds * exposure_b / exposure_a turns binomial odds into rates.
    return TestResult(
        "two_sample_rate",
        statistic=float(a),
        p_value=_central(lower, upper),
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
    low = float(special.betaincinv(successes, failures + 1, 0.025))
    rest = float(special.betainccinv(failures + 1, successes, 0.025))
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
    x = _counts("counts", counts)
    null = "variance = mean"
    total = int(x.sum())
    if x.size == 1 or total == 0:
        reason = "a single count has no spread" if x.size == 1 else "all counts are 0"
        return TestResult("dispersion", n=x.size, null=null, note=f"no test: {reason}")
    # About a whole number near the mean the sums are short and the first is exact.
    y = x - round(total / x.size)
    squares = _sum(y.astype(np.float64) ** 2)
    shift = int(y.sum())
    statistic = (squares - shift * shift / x.size) / (total / x.size)
    df = x.size - 1
    note = None
    if statistic == 0:
        note = "all counts are equal: the chi-square law gives p = 0 however few they are"
    return TestResult(
        "dispersion",
        statistic=statistic,
        p_value=_central(laws.gamma_cdf(df / 2, statistic / 2), laws.chi2_sf(statistic, df)),
        df=df,
        n=x.size,
        estimate=statistic / df,
        interval=(
            statistic / (2 * float(special.gammainccinv(df / 2, 0.025))),
            statistic / (2 * float(special.gammaincinv(df / 2, 0.025))),
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
    x, rate = _counts("counts", counts), _not_negative("mean", mean)
    null = f"each count ~ Poisson({rate:.12g})"
    if rate == 0 and x.any():
        note = "counts above 0 where the mean is 0"
        return TestResult("poisson_fit", math.inf, 0.0, n=x.size, null=null, note=note)
    first, last = _poisson_tail_cells(x.size, rate)
    if first >= last:
        note = f"no test: {x.size} counts with mean {rate:.12g} make fewer than two cells"
        return TestResult("poisson_fit", n=x.size, null=null, note=note)
    expected = x.size * _poisson_cells(first, last, rate)
    observed = np.bincount(np.clip(x, first, last) - first, minlength=expected.size)
    statistic = _pearson(observed, expected)
    df = expected.size - 1
    note = f"{expected.size} cells: x <= {first}, single values, x >= {last}"
    if expected.min() < MIN_EXPECTATION:
        note += f"; the smallest expectation is {expected.min():.3g}, so p is rough"
    return TestResult(
        "poisson_fit", statistic, laws.chi2_sf(statistic, df), df, x.size, null=null, note=note
    )


def _poisson_tail_cells(n: int, mean: float) -> tuple[int, int]:
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


def _poisson_cells(first: int, last: int, mean: float) -> Floats:
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


# ---------------------------------------------------------------------------------------------
# Categories
# ---------------------------------------------------------------------------------------------


def category_test(observed: npt.ArrayLike, weights: npt.ArrayLike) -> TestResult:
    """Return the test that category counts follow given weights.

    Pearson's chi-square with k - 1 degrees of freedom where every expectation is 5 or more.
    Otherwise the exact multinomial test: p is the probability of all outcomes that are not more
    likely than the observed one, those within 1e-7 relative of it included. With more than 10**7
    outcomes the cells below 5 are pooled into one, and the next smallest added to it until it
    holds 5 as well (of equal ones the first that is given); the pooling looks at expectations only,
    never at what was observed.

    Parameters
    ----------
    observed : int array (k,)
        Events per category, >= 0.
    weights : float array (k,)
        Probabilities of the categories, >= 0, with sum 1 within 1e-9. An empty cell of weight 0 is
        dropped; one that holds an event gives p = 0.

    Returns
    -------
    TestResult
        `statistic` is X2 of the cells tested (in the exact test too, where `df` is None);
        `estimate` is Cohen's w = sqrt(X2 / n); see `share_intervals` for intervals of the shares.
        No event, or one cell: p_value is None.

    Raises
    ------
    ValueError
        If an array is empty, they differ in length, or a value is not allowed.

    References
    ----------
    Pearson (1900), Phil. Mag. 50, 157. doi:10.1080/14786440009463897
    Cochran (1954), Biometrics 10, 417. doi:10.2307/3001616 (expectations of 5)
    """
    counts, shares = _categories(observed, weights)
    null = "the shares equal the weights"
    n = int(counts.sum())
    impossible = int(counts[shares == 0].sum())
    if impossible:
        note = f"{impossible} events in categories of weight 0"
        return TestResult("category", math.inf, 0.0, n=n, estimate=math.inf, null=null, note=note)
    counts, shares = counts[shares > 0], shares[shares > 0]
    notes = []
    if counts.size < np.size(observed):
        notes.append(f"{np.size(observed) - counts.size} empty categories of weight 0 left out")
    exact = False
    if n and counts.size > 1 and n * shares.min() < MIN_EXPECTATION:
        exact = _n_outcomes(n, counts.size) <= MAX_OUTCOMES
        if exact:
            notes.append("exact multinomial test: the smallest expectation is below 5")
        else:
            pooled = _pool_order(n * shares)
            notes.append(f"{pooled.size} of {counts.size} categories pooled to an expectation >= 5")
            counts, shares = _merge(counts, pooled), _merge(shares, pooled)
    if n == 0 or counts.size == 1:
        notes.insert(0, "no test: " + ("no event" if n == 0 else "one category only"))
        return TestResult("category", n=n, null=null, note="; ".join(notes))
    statistic = _pearson(counts, n * shares)
    df = None if exact else counts.size - 1
    p_value = _multinomial_p(counts, shares) if df is None else laws.chi2_sf(statistic, df)
    return TestResult(
        "category",
        statistic=statistic,
        p_value=p_value,
        df=df,
        n=n,
        estimate=math.sqrt(statistic / n),
        null=null,
        note="; ".join(notes) or None,
    )


def _n_outcomes(n: int, k: int) -> int:
    """Return how many outcomes n events in k cells have, or a bound above MAX_OUTCOMES."""
    # A larger answer needs no exact (and possibly enormous) binomial coefficient.
    if min(n, k - 1) > 12:
        return MAX_OUTCOMES + 1
    return math.comb(n + k - 1, k - 1)


def _pool_order(expected: Floats) -> Ints:
    """Return the indices of the cells to pool: the smallest, until no cell is below 5."""
    order = np.argsort(expected, kind="stable")
    sizes = expected[order]
    reached = np.cumsum(sizes) >= MIN_EXPECTATION
    enough = int(np.argmax(reached)) + 1 if reached.any() else sizes.size
    return order[: max(enough, int(np.sum(sizes < MIN_EXPECTATION)))]


def _merge(values: npt.NDArray[Any], pooled: Ints) -> npt.NDArray[Any]:
    """Return `values` with the cells at `pooled` added up into a last one."""
    return np.append(np.delete(values, pooled), values[pooled].sum())


def _multinomial_p(counts: Ints, shares: Floats) -> float:
    """Return the probability of all outcomes not more likely than `counts`."""
    n = int(counts.sum())
    cells = [_log_poisson_ratios(n, n * float(share)) for share in shares]
    # Probabilities are taken relative to an outcome close to the likeliest one, and divided by
    # their sum at the end, so that neither factorials nor underflow come in.
    likely = np.floor(n * shares).astype(np.int64)
    left = n - int(likely.sum())
    likely[np.argsort(likely - n * shares)[:left]] += 1
    reference = math.fsum(cell[x] for cell, x in zip(cells, likely, strict=True))
    bound = math.fsum(cell[x] for cell, x in zip(cells, counts, strict=True)) + math.log1p(_TIE)
    extreme, everything = [], []
    for logs in _outcomes(cells, n):
        probabilities = np.exp(logs - reference)
        everything.append(float(probabilities.sum()))
        extreme.append(float(probabilities[logs <= bound].sum()))
    return min(1.0, math.fsum(extreme) / math.fsum(everything))


def _log_poisson_ratios(n: int, mean: float) -> Floats:
    """Return log(P(X = x) / P(X = mode)) of Poisson(mean) for x = 0 .. n.

    A multinomial is independent Poisson counts given their total, so these logs, added up over the
    cells, are the log-probability of an outcome up to a constant.
    """
    steps = np.log(mean / np.arange(1, n + 1, dtype=np.float64))
    mode = min(int(mean), n)
    # From the mode outwards: the digits are best where the probabilities are largest.
    below = -np.cumsum(steps[:mode][::-1])[::-1]
    return np.concatenate([below, [0.0], np.cumsum(steps[mode:])])


def _outcomes(cells: Sequence[Floats], n: int) -> Iterator[Floats]:
    """Yield the log-probabilities (up to a constant) of all outcomes, in blocks."""
    # What the cells from each one on add if they all stay empty.
    empty = np.cumsum([cell[0] for cell in cells][::-1])[::-1]
    # Partial outcomes: the next cell to fill, the events left to place, the log so far.
    stack = [(0, np.array([n]), np.zeros(1))]
    while stack:
        cell, left, logs = stack.pop()
        done = left == 0
        if done.any():
            yield logs[done] + empty[cell]
            left, logs = left[~done], logs[~done]
        if left.size == 0:
            continue
        if cell == len(cells) - 1:
            yield logs + cells[cell][left]
            continue
        if cell == len(cells) - 2 and left.size == 1:
            rest = int(left[0])
            yield logs[0] + cells[cell][: rest + 1] + cells[cell + 1][rest::-1]
            continue
        ways = left + 1
        total = int(ways.sum())
        if total > _BLOCK and left.size > 1:
            half = left.size // 2
            stack += [(cell, left[:half], logs[:half]), (cell, left[half:], logs[half:])]
            continue
        parent = np.repeat(np.arange(left.size), ways)
        taken = np.arange(total) - np.repeat(np.cumsum(ways) - ways, ways)
        stack.append((cell + 1, left[parent] - taken, logs[parent] + cells[cell][taken]))


def category_equivalence_test(
    observed: npt.ArrayLike, weights: npt.ArrayLike, margin: float
) -> TestResult:
    """Return the test that shows every category share to lie within a margin of its weight.

    For each share z = (margin - |share - weight|) / sqrt(share (1 - share) / n) and p = P(Z > z),
    the one of the two one-sided Wald tests (TOST) that is larger; the largest over the shares
    decides. A small p is evidence FOR agreement.

    Parameters
    ----------
    observed : int array (k,)
        Events per category, >= 0.
    weights : float array (k,)
        Probabilities of the categories, >= 0, with sum 1 within 1e-9.
    margin : float
        Allowed difference of share and weight, between 0 and 1; 0.03 is 3 points.

    Returns
    -------
    TestResult
        Of the share with the largest p (`note` says which): `statistic` its z, `estimate` the
        share, `interval` its 90 % Wald interval. No event, or one category: p_value is None.

    Raises
    ------
    ValueError
        If an array is empty, they differ in length, or a value is not allowed.

    References
    ----------
    Schuirmann (1987), J. Pharmacokinet. Biopharm. 15, 657. doi:10.1007/BF01068419
    """
    counts, shares_wanted = _categories(observed, weights)
    width = _fraction("margin", margin)
    null = f"some share differs from its weight by {width:.12g} or more"
    n = int(counts.sum())
    if n == 0 or counts.size == 1:
        note = "no test: " + ("no event" if n == 0 else "one category only")
        return TestResult("category_equivalence", n=n, null=null, note=note)
    share = counts / n
    # (n - count) / n and not 1 - share, which loses the digits of a share close to 1.
    error = np.sqrt(share * ((n - counts) / n) / n)
    room = width - np.abs(share - shares_wanted)
    # A share of 0 or 1 has no Wald error: its z is the limit, inf inside the margin, -inf outside.
    z = np.where(room > 0, math.inf, -math.inf)
    np.divide(room, error, out=z, where=error > 0)
    worst = int(np.argmin(z))
    half = float(special.ndtri(0.5 + _EQUIVALENCE_CONFIDENCE / 2) * error[worst])
    note = f"category {worst} (from 0) decides"
    if error[worst] == 0:
        note += "; every share is 0 or 1, where the Wald error is 0 and p says little"
    return TestResult(
        "category_equivalence",
        statistic=float(z[worst]),
        p_value=float(special.ndtr(-z[worst])),
        n=n,
        estimate=float(share[worst]),
        interval=(float(share[worst]) - half, float(share[worst]) + half),
        null=null,
        note=note,
    )


def share_intervals(
    observed: npt.ArrayLike, confidence: float = 0.95, simultaneous: bool = False
) -> Floats:
    """Return Wilson's score intervals of the category shares.

    Parameters
    ----------
    observed : int array (k,)
        Events per category, >= 0, at least one in all.
    confidence : float
        Coverage of each interval, or of all k together, between 0 and 1.
    simultaneous : bool
        Whether all intervals are to hold together (Bonferroni: each at 1 - (1 - confidence) / k).

    Returns
    -------
    float64 array (k, 2)
        Low and high limit of each share.

    Raises
    ------
    ValueError
        If observed is empty, all zeros, or holds a value that is not allowed.

    References
    ----------
    Wilson (1927), J. Am. Stat. Assoc. 22, 209. doi:10.1080/01621459.1927.10502953
    """
    counts = _counts("observed", observed)
    tail = (1 - _fraction("confidence", confidence)) / 2
    n = int(counts.sum())
    if n == 0:
        raise ValueError("observed is all zeros, must have at least one event")
    z2 = float(special.ndtri(tail / counts.size if simultaneous else tail)) ** 2
    half = np.sqrt(z2 * (counts / n * (n - counts) + z2 / 4))
    # Either limit as the small root of its quadratic: the difference of near equals is avoided,
    # and a count of 0 gives exactly 0, a count of n exactly 1.
    low = counts / n * counts / (counts + z2 / 2 + half)
    others = n - counts
    high = 1 - others / n * others / (others + z2 / 2 + half)
    return np.column_stack([low, high])


def independence_test(table: npt.ArrayLike) -> TestResult:
    """Return Pearson's chi-square test that rows and columns of a table are independent.

    There is no continuity correction. Rows and columns without any event say nothing and are
    left out.

    Parameters
    ----------
    table : int array (rows, columns)
        Events per pair of categories, >= 0.

    Returns
    -------
    TestResult
        `statistic` is X2, `df` (rows - 1)(columns - 1), `estimate` Cramer's
        V = sqrt(X2 / (n min(rows - 1, columns - 1))). Fewer than two rows or columns with events:
        p_value is None.

    Raises
    ------
    ValueError
        If table is not two-dimensional, is empty, or holds a negative number, a fraction or NaN.

    References
    ----------
    Pearson (1900), Phil. Mag. 50, 157. doi:10.1080/14786440009463897
    """
    full = _counts("table", table, ndim=2)
    null = "rows and columns are independent"
    n = int(full.sum())
    cells = full[full.sum(axis=1) > 0][:, full.sum(axis=0) > 0]
    dropped = sum(full.shape) - sum(cells.shape)
    notes = [f"{dropped} empty rows or columns left out"] if dropped else []
    smaller = min(cells.shape) - 1
    if smaller < 1:
        notes.insert(0, "no test: fewer than two rows or columns have events")
        return TestResult("independence", n=n, null=null, note="; ".join(notes))
    expected = cells.sum(axis=1)[:, None] * (cells.sum(axis=0)[None, :] / n)
    if expected.min() < MIN_EXPECTATION:
        notes.append(f"the smallest expectation is {expected.min():.3g}, so p is rough")
    statistic = _pearson(cells, expected)
    df = (cells.shape[0] - 1) * (cells.shape[1] - 1)
    return TestResult(
        "independence",
        statistic=statistic,
        p_value=laws.chi2_sf(statistic, df),
        df=df,
        n=n,
        estimate=math.sqrt(statistic / (n * smaller)),
        null=null,
        note="; ".join(notes) or None,
    )


# ---------------------------------------------------------------------------------------------
# Times
# ---------------------------------------------------------------------------------------------


def _sorted_offsets(
    offsets: npt.ArrayLike, length: float, resolution: float
) -> tuple[Floats, float, float]:
    """Return the sorted offsets (spread inside their ticks), the length and the resolution."""
    x = _floats("offsets", offsets)
    end = _positive("length", length)
    tick = _not_negative("resolution", resolution)
    if tick and not 8 * _EPSILON * end < tick < end:
        raise ValueError(
            f"resolution is {tick}, must be 0, or less than length ({end}) and more than its "
            f"rounding ({8 * _EPSILON * end:.3g})"
        )
    bad = np.flatnonzero((x < 0) | (x >= end))
    if bad.size:
        raise ValueError(f"offsets: value {bad[0]} is {x[bad[0]]}, must be >= 0 and < {end}")
    x = np.sort(x)
    return (_spread(x, end, tick) if tick else x), end, tick


def _spread(x: Floats, length: float, resolution: float) -> Floats:
    """Return sorted offsets with those that share a tick spread evenly inside it.

    The offset of rank r (from 0) among k in a tick goes to (r + 1/2) / k of the tick.
    """
    # The factors undo rounding: 0.3 / 0.1 is 2.9999999999999996, and belongs to tick 3.
    slack = 4 * _EPSILON
    n_ticks = math.ceil(length / resolution * (1 - slack))
    ticks = np.minimum(np.floor(x / resolution * (1 + slack)), n_ticks - 1)
    starts = np.flatnonzero(np.concatenate([[True], ticks[1:] != ticks[:-1]]))
    sizes = np.diff(np.append(starts, x.size))
    rank = np.arange(x.size) - np.repeat(starts, sizes)
    begin = ticks * resolution
    # The last tick may be cut short by the end of the interval.
    width = np.minimum(resolution, length - begin)
    spread: Floats = begin + (rank + 0.5) / np.repeat(sizes, sizes) * width
    return spread


def uniformity_test(offsets: npt.ArrayLike, length: float, resolution: float = 0.0) -> TestResult:
    """Return the exact Kolmogorov-Smirnov test that offsets are uniform on [0, length).

    Parameters
    ----------
    offsets : float array (n,)
        Times since the start of the interval, in any order, each >= 0 and < length [s].
    length : float
        Length of the interval, > 0 [s].
    resolution : float
        Tick to which the offsets were floored, 0 if they were not [s]. Offsets that share a tick
        are spread evenly inside it.

    Returns
    -------
    TestResult
        `statistic` and `estimate` are D, the largest distance of the two distribution functions.

    Raises
    ------
    ValueError
        If offsets is empty or holds a value outside [0, length), or an argument is out of range.

    References
    ----------
    Simard and L'Ecuyer (2011), J. Stat. Softw. 39(11). doi:10.18637/jss.v039.i11
    """
    x, end, _ = _sorted_offsets(offsets, length, resolution)
    n = x.size
    u = x / end
    steps = np.arange(n + 1) / n
    distance = max(float(np.max(steps[1:] - u)), float(np.max(u - steps[:-1])))
    return uniformity_of(distance, n, end)


def uniformity_of(distance: float, n: int, length: float) -> TestResult:
    """Return the result of `uniformity_test` for a distance D of n offsets, found elsewhere."""
    from scipy.stats import kstwo  # slow to import, and needed here only

    return TestResult(
        "uniformity",
        statistic=distance,
        p_value=min(1.0, float(kstwo.sf(distance, n))),
        n=n,
        estimate=distance,
        null=f"offsets ~ uniform on [0, {length:.12g})",
    )


def edge_test(offsets: npt.ArrayLike, length: float, resolution: float = 0.0) -> TestResult:
    """Return the Anderson-Darling test that offsets are uniform on [0, length).

    A2 = -n - 1/n sum (2 i - 1) (ln u_i + ln(1 - u_(n+1-i))) over the sorted u = offset / length.
    It weighs both ends of the interval, where Kolmogorov-Smirnov sees little.

    Parameters
    ----------
    offsets : float array (n,)
        Times since the start of the interval, in any order, each >= 0 and < length [s].
    length : float
        Length of the interval, > 0 [s].
    resolution : float
        Tick to which the offsets were floored, 0 if they were not [s]. Offsets that share a tick
        are spread evenly inside it; with resolution 0 an offset of 0 would make A2 infinite.

    Returns
    -------
    TestResult
        `statistic` is A2; the p-value is good to 1e-4 absolute. Far in the tail it is too small for
        few offsets: at A2 = 10 about half of the true p for 2 of them, nine tenths for 20.

    Raises
    ------
    ValueError
        If offsets is empty or holds a value outside [0, length), an argument is out of range, or
        an offset is 0 while resolution is 0.

    References
    ----------
    Anderson and Darling (1954), J. Am. Stat. Assoc. 49, 765. doi:10.1080/01621459.1954.10501232
    Marsaglia and Marsaglia (2004), J. Stat. Softw. 9(2). doi:10.18637/jss.v009.i02
    """
    x, end, _ = _sorted_offsets(offsets, length, resolution)
    _refuse_zero(x)
    n = x.size
    # ln(1 - u) as the log of what is left of the interval: exact close to its end.
    logs = np.log(x / end) + np.log((end - x) / end)[::-1]
    return edge_of(-n - _sum(np.arange(1, 2 * n, 2) / n * logs), n, end)


def edge_of(statistic: float, n: int, length: float) -> TestResult:
    """Return the result of `edge_test` for an A2 of n offsets, found elsewhere."""
    return TestResult(
        "edge",
        statistic=statistic,
        p_value=laws.anderson_darling_sf(statistic, n),
        n=n,
        null=f"offsets ~ uniform on [0, {length:.12g})",
    )


def _refuse_zero(x: Floats) -> None:
    """Raise if the smallest offset is 0, where a logarithm is infinite."""
    if x[0] == 0:
        raise ValueError("offsets: a value is 0, must be > 0 while resolution is 0; give the tick")


def spacing_test(offsets: npt.ArrayLike, length: float, resolution: float = 0.0) -> TestResult:
    """Return Moran's two-sided test that the spacings of offsets are those of uniform ones.

    T = -2 sum ln(m s_i / length) over the m = n + 1 spacings, both ends included. T follows a
    gamma law with the exact moments E = 2 m (psi(m) - ln m + gamma) and
    V = 4 m**2 (psi1(1) / m - psi1(m)). Clusters make T large; a too even stream makes it small.

    Parameters
    ----------
    offsets : float array (n,)
        Times since the start of the interval, in any order, each >= 0 and < length [s].
    length : float
        Length of the interval, > 0 [s].
    resolution : float
        Tick to which the offsets were floored, 0 if they were not [s]. Offsets that share a tick
        are spread evenly inside it; with resolution 0 an offset of 0 and a tie would make T
        infinite.

    Returns
    -------
    TestResult
        `statistic` is T. Where n * resolution / length > 1e-3 ties are too common and p_value is
        None.

    Raises
    ------
    ValueError
        If offsets is empty or holds a value outside [0, length), an argument is out of range, or
        an offset is 0 or a tie while resolution is 0.

    References
    ----------
    Moran (1951), J. R. Stat. Soc. B 13, 147. doi:10.1111/j.2517-6161.1951.tb00080.x
    """
    x, end, tick = _sorted_offsets(offsets, length, resolution)
    n = x.size
    null = f"offsets ~ uniform on [0, {end:.12g})"
    if n * tick / end > MAX_TICK_DENSITY:
        note = f"no test: n * resolution / length is {n * tick / end:.3g}, above {MAX_TICK_DENSITY}"
        return TestResult("spacing", n=n, null=null, note=note)
    _refuse_zero(x)
    m = n + 1
    spacings = np.diff(x, prepend=0.0, append=end)
    if tick == 0 and not spacings.all():
        raise ValueError("offsets: two values are equal, must differ while resolution is 0")
    # A spacing can still round to 0 inside a crowded tick: T is then infinite, and p 0.
    with np.errstate(divide="ignore"):
        statistic = -2 * _sum(np.log(m * (spacings / end)))
    mean, variance = _spacing_moments(m)
    shape, x_scaled = mean**2 / variance, statistic * mean / variance
    return TestResult(
        "spacing",
        statistic=statistic,
        p_value=_central(laws.gamma_cdf(shape, x_scaled), laws.gamma_sf(shape, x_scaled)),
        n=n,
        null=null,
    )


def _spacing_moments(m: int) -> tuple[float, float]:
    """Return mean and variance of Moran's T over m spacings."""
    if m < 50:
        excess, trigamma = float(special.digamma(m)) - math.log(m), float(special.polygamma(1, m))
    else:
        # psi(m) - ln m and psi1(m) by their series (Abramowitz and Stegun 6.3.18, 6.4.12): the
        # difference of the two near equals would lose digits as m grows.
        r = 1 / m**2
        excess = -1 / (2 * m) - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r / 240)))
        trigamma = 1 / m + r / 2 + r / m * (1 / 6 - r * (1 / 30 - r * (1 / 42 - r / 30)))
    mean = 2 * m * (excess + float(np.euler_gamma))
    return mean, 4 * m * (math.pi**2 / 6 - m * trigamma)


# ---------------------------------------------------------------------------------------------
# Variation of run times
# ---------------------------------------------------------------------------------------------


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
    x = _floats("values", values)
    tail = (1 - _fraction("confidence", confidence)) / 2
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
    mean = _sum(x / scale) / x.size if scale else 0.0
    if mean <= 0:
        raise ValueError(f"values: the mean is {mean * scale}, must be > 0")
    # Deviations from the first value first: equal values then have a spread of exactly 0.
    steps = x / scale - x[0] / scale
    deviations = steps - _sum(steps) / x.size
    return math.sqrt(_sum(deviations**2) / (x.size - 1)) / mean


def _noncentrality(t: float, df: int, p: float) -> float:
    """Return the noncentrality > 0 at which P(T <= t) = p, or 0 where there is none."""
    from scipy.optimize import brentq

    if float(special.stdtr(df, t)) <= p:
        return 0.0
    # P falls from stdtr at noncentrality 0; it is below p beyond both far tails together.
    high = t * math.sqrt(2 * float(special.gammainccinv(df / 2, p / 4)) / df)
    high += abs(float(special.ndtri(p / 4))) + 1
    return float(
        brentq(lambda s: laws.noncentral_t_cdf(t, df, s) - p, 0.0, high, xtol=1e-300, rtol=1e-14)
    )


# ---------------------------------------------------------------------------------------------
# Many tests
# ---------------------------------------------------------------------------------------------


def _p_values(values: npt.ArrayLike) -> Floats:
    """Return `values` as a float64 array of probabilities; it may be empty."""
    array = np.asarray(values)
    if array.ndim == 1 and array.size == 0:
        return np.zeros(0)
    p = _floats("p_values", array)
    bad = np.flatnonzero((p < 0) | (p > 1))
    if bad.size:
        raise ValueError(f"p_values: value {bad[0]} is {p[bad[0]]}, must be from 0 to 1")
    return p


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return Holm's adjusted p-values: those below alpha reject with familywise error alpha.

    Parameters
    ----------
    p_values : float array (n,)
        Raw p-values of one family, from 0 to 1; it may be empty.

    Returns
    -------
    float64 array (n,)
        Adjusted p-values in the order given.

    Raises
    ------
    ValueError
        If a value is NaN or outside [0, 1].

    References
    ----------
    Holm (1979), Scand. J. Stat. 6, 65. https://www.jstor.org/stable/4615733
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    return np.minimum(adjusted, 1.0)


def benjamini_hochberg(p_values: npt.ArrayLike) -> Floats:
    """Return Benjamini and Hochberg's adjusted p-values, which bound the false discovery rate.

    Parameters
    ----------
    p_values : float array (n,)
        Raw p-values of one family, from 0 to 1; it may be empty.

    Returns
    -------
    float64 array (n,)
        Adjusted p-values in the order given.

    Raises
    ------
    ValueError
        If a value is NaN or outside [0, 1].

    References
    ----------
    Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57, 289.
    doi:10.1111/j.2517-6161.1995.tb02031.x
    """
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")[::-1]
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum.accumulate(p[order] * p.size / np.arange(p.size, 0, -1))
    return np.minimum(adjusted, 1.0)
