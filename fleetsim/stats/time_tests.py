"""Tests of the times of events: their spacings, both ends of the interval, and coincidences.

The two of spacings and coincidences add up over batches, by exact moments as those of `moments`.
"""

from __future__ import annotations

import math

import numpy as np

from fleetsim.stats import laws, moments
from fleetsim.stats.arguments import Floats, Ints
from fleetsim.stats.counts import poisson_interval
from fleetsim.stats.offsets import MAX_TICK_DENSITY, spacing_moments
from fleetsim.stats.result import TestResult, central


def cell_probabilities(length: int, period: int, cells: int) -> Floats:
    """Return the probability of each cell of a uniform tick's place within a period.

    Cell j holds the ticks t of [0, length) with floor((t mod period) cells / period) = j. The last
    period may be cut short, and cells need not hold equally many ticks: both are counted.

    Parameters
    ----------
    length, period : int
        Both in ticks; period = length gives the cells of the interval itself.
    cells : int
        At most `period`.
    """
    edges = np.array([-(-j * period // cells) for j in range(cells + 1)], np.int64)
    widths = np.diff(edges)
    ticks = length // period * widths + np.clip(length % period - edges[:-1], 0, widths)
    return ticks / length


def spacings_test(moran: Floats, sizes: Ints, length: int) -> TestResult:
    """Return Moran's test of the spacings, added up over batches.

    The sum of the batches' T (see `spacing_test`) has the sums of their exact means and
    variances; p is by the gamma law with these. For one batch it is `spacing_test`.

    Parameters
    ----------
    moran : float64 array (B,)
        T of each batch; it counts where the batch has events.
    sizes : int64 array (B,)
        Events of each batch.
    length : int
        Length of the interval, in ticks.

    Returns
    -------
    TestResult
        `estimate` is the sum of T over its mean. Where a batch has more than length / 1000 events,
        ties are too common and p_value is None.
    """
    null = "offsets are uniform and independent"
    events = int(sizes.sum())
    used = sizes > 0
    if not used.any() or length < 2:
        why = "no event" if not used.any() else "the interval is one tick"
        return TestResult("spacings", n=events, null=null, note=f"no test: {why}")
    density = int(sizes.max()) / length
    if density > MAX_TICK_DENSITY:
        note = f"no test: {density:.3g} events per tick, above {MAX_TICK_DENSITY}"
        return TestResult("spacings", n=events, null=null, note=note)
    pairs = [spacing_moments(size + 1) for size in sizes[used].tolist()]
    mean, variance = (math.fsum(column) for column in zip(*pairs, strict=True))
    statistic = math.fsum(moran[used].tolist())
    p_value = 0.0
    if math.isfinite(statistic):
        skewness = 2 * math.sqrt(variance) / mean
        p_value = central(*laws.gamma_tails(statistic, mean, variance, skewness))
    return TestResult(
        "spacings",
        statistic=statistic,
        p_value=p_value,
        n=events,
        estimate=statistic / mean,
        null=null,
    )


def digits_test(digits: Ints, length: int) -> TestResult:
    """Return the test that no decimal digit of the times below a second is preferred.

    Each of the six digits has a two-sided chi-square test against the uniform law (see
    `moments.goodness_test`). Digits of a uniform time are independent, so the smallest of the K
    p-values decides as 1 - (1 - p)**K (Sidak). Even microseconds, a clock of 10 us, 1 ms or 20 ms,
    and a wrong last digit of the milliseconds all change the shares of some digit.

    Parameters
    ----------
    digits : int64 array (6, 10)
        Events by the digit of 10**d microseconds, d the row.
    length : int
        Length of the interval, in ticks; a digit counts where the interval holds two of its
        periods.

    Returns
    -------
    TestResult
        Statistic, df and `estimate` (Cohen's w) of the digit that decides; `note` names it.
    """
    null = "the digits of the times are uniform"
    best: TestResult | None = None
    made, which = 0, 0
    for row, observed in enumerate(digits):
        period = 10 ** (row + 1)
        if length < 2 * period:
            continue
        chances = cell_probabilities(length, period, 10)
        found = moments.goodness_test(observed.reshape(1, -1), chances)
        if found.p_value is None or found.df != 9:
            continue
        made += 1
        if best is None or best.p_value is None or found.p_value < best.p_value:
            best, which = found, row
    if best is None or best.p_value is None:
        why = "too few events" if length >= 20 else "the interval is too short"
        return TestResult("digits", n=int(digits[0].sum()), null=null, note=f"no test: {why}")
    p = best.p_value
    return TestResult(
        "digits",
        statistic=best.statistic,
        p_value=-math.expm1(made * math.log1p(-p)) if p < 1 else 1.0,
        df=best.df,
        n=best.n,
        estimate=best.estimate,
        null=null,
        note=f"the digit of {digit_name(which)} decides, of {made}",
    )


def digit_name(row: int) -> str:
    """Return which digit a row of `Times.digits` counts: that of 1 us, 10 us and so on."""
    unit, size = ("ms", 10 ** (row - 3)) if row >= 3 else ("us", 10**row)
    return f"{size} {unit}"


def ends_test(first: int, last: int, n: int, length: int) -> TestResult:
    """Return the exact test that events come as close to both ends as they should.

    With g the larger of the two gaps, before the first event and after the last, in ticks,
    P(max gap >= g) = 2 (1 - g / length)**n - (1 - 2 g / length)**n for n independent uniform ticks
    (the last term 0 beyond one half). Only gaps that are too long fail.

    Parameters
    ----------
    first, last : int
        Smallest and largest offset, in ticks.
    n : int
        Number of offsets, >= 1.
    length : int
        Length of the interval, in ticks.

    Returns
    -------
    TestResult
        `statistic` is g in ticks, `estimate` g / length.
    """
    gap = max(first, length - 1 - last)
    return TestResult(
        "ends",
        statistic=float(gap),
        p_value=min(1.0, longest_gap_sf(gap / length, n)),
        n=n,
        estimate=gap / length,
        null="offsets are uniform on the interval",
    )


def longest_gap_sf(share: float, n: int) -> float:
    """Return the probability that the larger gap at the ends is this share of the interval."""
    one = 2 * math.exp(n * math.log1p(-share))
    return one - math.exp(n * math.log1p(-2 * share)) if share < 0.5 else one


def coincidence_test(pairs: int, possible: float, length: int, density: float) -> TestResult:
    """Return the test that pairs of events share a tick no more often than by chance.

    Ticks of independent uniform events make pairwise independent coincidences, each with
    probability 1 / length, so that their number is Poisson(possible / length) as long as events are
    few in a tick.

    Parameters
    ----------
    pairs : int
        Pairs of events that share a tick.
    possible : float
        Pairs of events that could: N (N - 1) / 2 within a batch, N M between two.
    length : int
        Ticks of the interval.
    density : float
        Events per tick of the largest batch; above 1e-3 there is no test.

    Returns
    -------
    TestResult
        `statistic` is the number of pairs, `estimate` its ratio to the mean.
    """
    if density > MAX_TICK_DENSITY:
        note = f"no test: {density:.3g} events per tick, above {MAX_TICK_DENSITY}"
        return TestResult("coincidence", statistic=float(pairs), null="", note=note)
    mean = possible / length
    null = f"pairs ~ Poisson({mean:.6g})"
    if possible == 0:
        return TestResult("coincidence", n=0, null=null, note="no test: no two events")
    tails = laws.poisson_cdf(pairs, mean), laws.poisson_sf(pairs, mean)
    low, high = poisson_interval(pairs)
    return TestResult(
        "coincidence",
        statistic=float(pairs),
        p_value=central(*tails),
        n=pairs,
        estimate=pairs / mean,
        interval=(low / mean, high / mean),
        null=null,
    )
