"""Tests of what happens inside a driver: its gaps, the scatter of its times, its mix of types.

Given how many events a driver has in a batch, its times are so many independent uniform ones and
its types independent draws. The statistics are sums over drivers and batches whose exact moments
under that law are sums as well, so everything adds up over any number of batches.
"""

from __future__ import annotations

import math

import numpy as np

from fleetsim.stats import laws
from fleetsim.stats.arguments import Floats, Ints
from fleetsim.stats.offsets import MAX_TICK_DENSITY
from fleetsim.stats.order import DriverTimes, gap_edges
from fleetsim.stats.result import TestResult, central

#: Gaps that a cell expects at least: with fewer, chi-square is too coarse at the level 0.001.
MIN_GAPS = 10.0
#: Events of a driver beyond which its spacings are too short for the units of the squares.
MOST_SQUARED = 1 << 14
#: Pairs of a driver's events that it takes at least to tell whether they have one type.
MIN_PAIRS = 100.0
#: Spacings of drivers with two events or more that it takes at least to speak of their scatter.
MIN_SPACINGS = 200.0
_MIN_TYPE_PAIRS = 5.0  # of one type, that are expected at least; rarer types are taken together


def gaps_test(times: DriverTimes, length: int) -> TestResult:
    """Return the test that gaps between consecutive events of a driver are as long as by chance.

    Of n independent uniform times in [0, L) the gaps between two consecutive ones have
    P(s > x) = (1 - x / L)**n each, and any two of them P(s > x, t > y) = (1 - (x + y) / L)**n. So
    the numbers of gaps in cells of their size have exact means and covariances, summed over
    drivers; the quadratic form of their differences is near chi-square. It has the mean k - 1 of k
    cells exactly; its variance is taken as that of Pearson's X2 with the same expectations,
    and never less than that of the chi-square law.

    Parameters
    ----------
    times : DriverTimes
    length : int
        Length of the interval, in ticks.

    Returns
    -------
    TestResult
        `n` is the number of gaps, `estimate` the root of the statistic over it (Cohen's w).

    References
    ----------
    Pyke (1965), J. R. Stat. Soc. B 27, 395. doi:10.1111/j.2517-6161.1965.tb00602.x (spacings)
    """
    null = "a driver's times are independent and uniform"
    found = gap_cells(times, length)
    total = int(times.gaps.sum())
    if isinstance(found, str):
        return TestResult("gaps", n=total, null=null, note=f"no test: {found}")
    edges, observed, expected = found
    sizes, runs = _with_gaps(times)
    n = sizes.astype(np.float64)
    one = _beyond(edges / length, n)
    p = one[:, :-1] - one[:, 1:]
    two = _beyond((edges[:, None] + edges[None, :]) / length, n)
    both = two[:, :-1, :-1] - two[:, 1:, :-1] - two[:, :-1, 1:] + two[:, 1:, 1:]
    product = p[:, :, None] * p[:, None, :]
    single = (runs * (n - 1)) @ p
    covariance = np.diag(single) - np.tensordot(runs * (n - 1), product, 1)
    covariance += np.tensordot(runs * (n - 1) * (n - 2), both - product, 1)
    difference = (observed - expected)[:-1]
    statistic = float(difference @ np.linalg.solve(covariance[:-1, :-1], difference))
    cells = len(observed)
    df = cells - 1
    excess = float(np.sum(total / expected)) - cells * cells - 2 * cells + 2
    variance = 2 * df + max(0.0, excess) / total
    tails = laws.gamma_tails(statistic, df, variance, 2 * math.sqrt(variance) / df)
    return TestResult(
        "gaps",
        statistic=statistic,
        p_value=central(*tails),
        df=df,
        n=total,
        estimate=math.sqrt(statistic / total),
        null=null,
        note=_left_out(times),
    )


def gap_cells(times: DriverTimes, length: int) -> tuple[Floats, Ints, Floats] | str:
    """Return the cells of gaps that expect `MIN_GAPS` or more, or why there are fewer than two.

    Returns
    -------
    edges : float64 array (k + 1,)
        From 0 to the length [ticks].
    observed : int64 array (k,)
    expected : float64 array (k,)
    """
    sizes, runs = _with_gaps(times)
    if not len(sizes):
        return _no_runs(times)
    if dense := _too_dense(times, length):
        return dense
    fine = np.minimum(gap_edges(), float(length))
    beyond = (runs * (sizes - 1.0)) @ _beyond(fine / length, sizes.astype(np.float64))
    # From the shortest gaps on; what is left at the end joins the cell before it.
    cuts = [0]
    for cell in range(1, len(fine)):
        if beyond[cuts[-1]] - beyond[cell] >= MIN_GAPS:
            cuts.append(cell)
    cuts[-1] = len(fine) - 1
    if len(cuts) < 3:
        return f"{float(beyond[0]):.3g} gaps are too few"
    at = np.array(cuts)
    return fine[at], np.add.reduceat(times.gaps, at[:-1]), -np.diff(beyond[at])


def _beyond(x: Floats, n: Floats) -> Floats:
    """Return (1 - x)**n, 0 where x is 1 or more, with a row for each n."""
    powers: Floats = np.maximum(1 - x, 0.0) ** n.reshape(-1, *(1,) * x.ndim)
    return powers


def _with_gaps(times: DriverTimes) -> tuple[Ints, Ints]:
    used = times.sizes > 1
    return times.sizes[used], times.runs[used]


def _no_runs(times: DriverTimes) -> str:
    if times.disordered and not times.runs.sum():
        return "the events of no driver stand in the order of their times"
    return "no driver has two events in a batch"


def _too_dense(times: DriverTimes, length: int) -> str:
    """Return that events of a driver are so many that ticks matter; "" where they are not."""
    most = int(times.sizes[-1]) if len(times.sizes) else 0
    if most <= MAX_TICK_DENSITY * length:
        return ""
    return f"{most / length:.3g} events per tick, above {MAX_TICK_DENSITY}"


def _left_out(times: DriverTimes) -> str | None:
    if not times.disordered:
        return None
    return f"{times.disordered} drivers in a batch left out: their events are not in order"


def scatter_moments(times: DriverTimes) -> tuple[float, float, float, float]:
    """Return the weighted sum of squared spacings, its mean, variance and third central moment.

    A driver's n events have m = n + 1 spacings, a Dirichlet vector of ones, so that the raw moments
    of G, the sum of their squares, follow from E prod s**a = (m - 1)! prod a! / (m - 1 + sum a)!.
    The weight m (m + 1) / 2 gives every driver the mean m.

    References
    ----------
    Greenwood (1946), J. R. Stat. Soc. 109, 85. doi:10.2307/2981176
    Moran (1947), J. R. Stat. Soc. B 9, 92. doi:10.1111/j.2517-6161.1947.tb00110.x (moments)
    """
    used = (times.sizes > 1) & (times.sizes <= MOST_SQUARED)
    m = times.sizes[used] + 1.0
    runs, squares = times.runs[used], times.squares[used]
    weight = m * (m + 1) / 2
    first = 2 / (m + 1)
    second = (24 + 4 * (m - 1)) / ((m + 1) * (m + 2) * (m + 3))
    third = (720 + 144 * (m - 1) + 8 * (m - 1) * (m - 2)) / (
        (m + 1) * (m + 2) * (m + 3) * (m + 4) * (m + 5)
    )
    variance = second - first**2
    skew = third - 3 * second * first + 2 * first**3
    return (
        float(np.sum(weight * squares)),
        float(np.sum(runs * m)),
        float(np.sum(runs * weight**2 * variance)),
        float(np.sum(runs * weight**3 * skew)),
    )


def scatter_test(times: DriverTimes, length: int) -> TestResult:
    """Return the test that a driver's events are neither crowded nor too even in its interval.

    The weighted sum of Greenwood's statistic over drivers and batches (see `scatter_moments`); p by
    the shifted gamma with its three exact moments.

    Parameters
    ----------
    times : DriverTimes
    length : int
        Length of the interval, in ticks.

    Returns
    -------
    TestResult
        `estimate` is the sum over its mean, above 1 where times are crowded, with its 95 %
        interval.
    """
    null = "a driver's times are independent and uniform"
    statistic, mean, variance, third = scatter_moments(times)
    events = int((times.sizes * times.runs).sum())
    dense = _too_dense(times, length)
    if mean < MIN_SPACINGS or dense:
        many = len(times.sizes) and times.sizes[-1] > MOST_SQUARED
        why = f"more than {MOST_SQUARED} events a driver" if many else _no_runs(times)
        if mean:
            why = f"{mean:.0f} spacings of drivers are too few"
        why = dense or why
        return TestResult("scatter", n=events, null=null, note=f"no test: {why}")
    tails = laws.gamma_tails(statistic, mean, variance, third / variance**1.5)
    half = 1.96 * math.sqrt(variance) / mean
    estimate = statistic / mean
    return TestResult(
        "scatter",
        statistic=statistic,
        p_value=central(*tails),
        n=events,
        estimate=estimate,
        interval=(max(0.0, estimate - half), estimate + half),
        null=null,
        note=_left_out(times),
    )


def concentration_test(table: Ints, weights: Floats) -> TestResult:
    """Return the test that a driver's events have one type no more often than by chance.

    T = sum over drivers of sum c (c - 1) / w - N (N - 1), over the types of weight w of which it
    has c of its N events: each pair of its events adds 2 (1 / w - 1) where they have one type, and
    -2 where not. Pairs are uncorrelated, so that T has the mean 0, the variance
    2 (k - 1) sum N (N - 1), and the third moment
    4 sum N (N - 1) (sum w**2 (1 / w - 1)**3 - 1 + sum w**2) + 8 (k - 1) sum N (N - 1) (N - 2),
    exactly; p by the shifted gamma with these. Shares that are off alike in all drivers
    count as well.

    Parameters
    ----------
    table : int64 array (drivers, types)
        Events.
    weights : float64 array (types,)
        Sum 1. Types of which fewer than five pairs are expected are taken together.

    Returns
    -------
    TestResult
        `estimate` is T / sum N (N - 1): the mean over drivers of sum (share - w)**2 / w, beyond
        what chance adds.
    """
    null = "each driver's types are drawn with the given weights"
    totals = table.sum(axis=1).astype(np.float64)
    events = int(totals.sum())
    impossible = int(table[:, weights == 0].sum())
    if impossible:
        note = f"{impossible} events where none can be"
        return TestResult("concentration", math.inf, 0.0, n=events, null=null, note=note)
    ordered = float(np.sum(totals * (totals - 1)))
    cells, p = _pooled(table[:, weights > 0], weights[weights > 0], ordered / 2)
    k = len(p)
    few = ordered < 2 * MIN_PAIRS
    if few or k < 2:
        why = f"{ordered / 2:.0f} pairs of a driver's events are too few" if few else "one type"
        return TestResult("concentration", n=events, null=null, note=f"no test: {why}")
    # By squares, since a table of all drivers is large: counts are whole, so nothing is rounded.
    same = np.einsum("ij,ij->j", cells, cells) - cells.sum(axis=0)
    statistic = float(np.sum(same / p)) - ordered
    triples = float(np.sum(totals * (totals - 1) * (totals - 2)))
    variance = 2 * (k - 1) * ordered
    cube = float(np.sum(p**2 * (1 / p - 1) ** 3)) - 1 + float(np.sum(p**2))
    third = 4 * ordered * cube + 8 * (k - 1) * triples
    tails = laws.gamma_tails(statistic, 0.0, variance, third / variance**1.5)
    return TestResult(
        "concentration",
        statistic=statistic / math.sqrt(variance),
        p_value=central(*tails),
        n=events,
        estimate=statistic / ordered,
        null=null,
        note=None if k == int((weights > 0).sum()) else f"rare types together: {k} kinds",
    )


def concentration_deviation(table: Ints, kinds: int) -> float:
    """Return the standard deviation of `concentration_test`'s estimate, by chance alone."""
    totals = table.sum(axis=1).astype(np.float64)
    ordered = float(np.sum(totals * (totals - 1)))
    return math.sqrt(2 * max(1, kinds - 1) / ordered) if ordered else math.inf


def rarest(weights: Floats, pairs: float, least: float) -> Ints:
    """Return the rarest types, as many as it takes for `least` pairs of their own to be expected.

    Parameters
    ----------
    weights : float64 array (types,)
    pairs : float
        Pairs of events of all types.
    least : float
    """
    order = np.argsort(weights, kind="stable")
    expected = pairs * np.cumsum(weights[order]) ** 2
    return order[: int(np.searchsorted(expected, least)) + 1]


def _pooled(table: Ints, weights: Floats, pairs: float) -> tuple[Ints, Floats]:
    """Return types and weights with the rarest taken together, as many as need it."""
    rare = rarest(weights, pairs, _MIN_TYPE_PAIRS)
    if len(rare) < 2:
        return table, weights
    rest = np.delete(np.arange(len(weights)), rare)
    return (
        np.column_stack([table[:, rest], table[:, rare].sum(axis=1)]),
        np.append(weights[rest], weights[rare].sum()),
    )
