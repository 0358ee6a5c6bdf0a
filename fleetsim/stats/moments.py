"""Tests of counts and tables whose law is a gamma with the exact moments of their statistic.

They go beyond `counts` and `categories` in three ways: they add up over batches, they look at both
tails (data that are too even fail as well), and they hold where expectations are small, because the
moments are exact at every size while the usual chi-square law is only their limit. Every test is
central two-sided, returns a `TestResult`, and has p_value None where it cannot be made.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are loaded where they are used

from fleetsim.stats import laws
from fleetsim.stats.arguments import Floats, Ints
from fleetsim.stats.categories import merge_cells, pool_order
from fleetsim.stats.counts import (
    poisson_cells,
    poisson_fit_test,
    poisson_tail_cells,
)
from fleetsim.stats.result import MIN_EXPECTATION, TestResult, central

# Below this many events per cell, and this many pairs, pairs in one cell are Poisson.
SPARSE, FEW_PAIRS = 0.05, 20.0
_BLOCK_ROWS = 256


def _ratio(statistic: float, df: int) -> tuple[float, tuple[float, float]]:
    """Return D / df and its 95 % interval by the chi-square law (var/mean of counts)."""
    high, low = scipy.special.gammainccinv(df / 2, 0.025), scipy.special.gammaincinv(df / 2, 0.025)
    return statistic / df, (
        statistic / (2 * float(high)),
        statistic / (2 * float(low)) if low else math.inf,
    )


# ---------------------------------------------------------------------------------------------
# Counts
# ---------------------------------------------------------------------------------------------


def crowding_test(counts: Ints) -> TestResult:
    """Return the test that events fall on equal cells at random, added up over batches.

    Fisher's D = sum (x - xbar)**2 / xbar of each batch is 2 n / N S + const, where S counts the
    pairs of events that share a cell. Given N the pairs are pairwise independent, each together
    with p = 1 / n, so that S has the mean M p, M = N (N - 1) / 2, the variance M p (1 - p) and the
    third central moment M p (1 - p) (1 - 2 p + 2 (N - 2) p), exactly. D then has the mean n - 1 and
    the variance 2 (n - 1) (1 - 1 / N). The sum over batches is compared with the shifted gamma of
    its three moments; where events are sparse, S is Poisson. Dense data give chi-square(n - 1).

    Parameters
    ----------
    counts : int64 array (B, n)
        Events of n cells of equal exposure in each batch. Batches of fewer than two events are left
        out.

    Returns
    -------
    TestResult
        `statistic` is the sum of D, `df` that of n - 1, `estimate` their ratio, variance/mean.

    References
    ----------
    Fisher, Thornton and Mackenzie (1922), doi:10.1111/j.1744-7348.1922.tb05962.x. The moments
    follow from the pairs by counting those that overlap; tests enumerate them.
    """
    totals = counts.sum(axis=1)
    shared = (counts * (counts - 1) // 2).sum(axis=1)
    return crowding_of(int(counts.shape[1]), totals, np.ones(len(counts), np.int64), shared)


def crowding_of(n_cells: int, sizes: Ints, rows: Ints, shared: Ints) -> TestResult:
    """Return `crowding_test` of rows of cells of which only this much is known.

    Parameters
    ----------
    n_cells : int
        Cells of each row.
    sizes : int64 array (k,)
        Events of a row.
    rows : int64 array (k,)
        How many rows have so many events.
    shared : int64 array (k,)
        Pairs of events of these rows that share a cell.
    """
    null = "events fall on the cells at random"
    used, n = sizes > 1, n_cells
    many, events = rows[used].astype(np.float64), sizes[used].astype(np.float64)
    total = int((sizes * rows).sum())
    if n < 2 or not many.sum():
        reason = "a single cell has no spread" if n < 2 else "no batch has two events"
        return TestResult("crowding", n=total, null=null, note=f"no test: {reason}")
    p = 1 / n
    pairs = events * (events - 1) / 2
    together = shared[used]
    # D = n / N (2 S + N) - N: a difference of near equals only where n and N are beyond 1e12.
    statistic = float(np.sum(n / events * (2 * together + events * many) - events * many))
    df = (n - 1) * int(many.sum())
    note = None
    all_pairs = float((many * pairs).sum())
    if float(events.max()) * p < SPARSE and all_pairs * p < FEW_PAIRS:
        expected = all_pairs * p
        found = int(together.sum())
        tails = laws.poisson_cdf(found, expected), laws.poisson_sf(found, expected)
        note = f"sparse: {found} pairs in one cell, Poisson({expected:.4g}) expected"
    else:
        scale, spread = 2 * n / events, many * pairs * p * (1 - p)
        variance = float(np.sum(scale**2 * spread))
        third = float(np.sum(scale**3 * spread * (1 - 2 * p + 2 * (events - 2) * p)))
        half_step = float(n / events.max())
        tails = laws.gamma_tails(statistic, df, variance, third / variance**1.5, half_step)
    estimate, interval = _ratio(statistic, df)
    return TestResult(
        "crowding",
        statistic=statistic,
        p_value=central(*tails),
        df=df,
        n=int((events * many).sum()),
        estimate=estimate,
        interval=interval,
        null=null,
        note=note,
    )


def fit_cells(n: int, mean: float) -> tuple[Ints, Floats] | None:
    """Return the cells in which the law of n counts is tested: none expects fewer than five.

    Those of `poisson_fit_test`, with neighbours merged from below where a single value is
    too rare, as at large means; the merging looks at expectations only.

    Parameters
    ----------
    n : int
    mean : float
        Expected count, > 0.

    Returns
    -------
    ends : int64 array (k - 1,)
        Largest value of each cell but the last, which has no end.
    probabilities : float64 array (k,)
        Or None where there are fewer than two cells.
    """
    first, last = poisson_tail_cells(n, mean)
    if first >= last:
        return None
    chances = poisson_cells(first, last, mean)
    starts, expected = [0], 0.0
    for cell, chance in enumerate(n * chances):
        expected += chance
        if expected >= MIN_EXPECTATION:
            starts.append(cell + 1)
            expected = 0.0
    # What is left at the end belongs to the last cell that is full.
    starts = starts[:-1]
    if len(starts) < 2:
        return None
    ends = first + np.array(starts[1:], np.int64) - 1
    return ends, np.add.reduceat(chances, starts)


def fit_test(counts: Ints, mean: float) -> TestResult:
    """Return the chi-square test that counts follow Poisson(mean), in `fit_cells`.

    It is `poisson_fit_test` where no inner cell expects fewer than five counts; elsewhere the
    chi-square law of its many small cells would reject fault-free data too often.

    Parameters
    ----------
    counts : int64 array (n,)
        One count per driver, n >= 1.
    mean : float
        Expected count, >= 0.
    """
    n = len(counts)
    cells = fit_cells(n, mean) if mean > 0 else None
    first, last = poisson_tail_cells(n, mean)
    if cells is None or len(cells[1]) == last - first + 1:
        return poisson_fit_test(counts, mean)
    ends, chances = cells
    expected = n * chances
    observed = np.bincount(np.searchsorted(ends, counts), minlength=len(chances))
    statistic = float(np.sum((observed - expected) ** 2 / expected))
    df = len(chances) - 1
    return TestResult(
        "fit",
        statistic=statistic,
        p_value=laws.chi2_sf(statistic, df),
        df=df,
        n=n,
        null=f"each count ~ Poisson({mean:.12g})",
        note=f"{len(chances)} cells: neighbours merged to an expectation >= 5",
    )


def totals_test(totals: Ints, mean: float) -> TestResult:
    """Return the test that totals scatter about a KNOWN Poisson mean as they should.

    D = sum (N - mean)**2 / mean has the mean B and the variance B (2 + 1 / mean), exactly; p by the
    gamma law with these. Totals that are all alike fail: D is then near 0. No p-value is below
    twice the probability that every total is the likeliest one, the most even outcome there is.

    Parameters
    ----------
    totals : int64 array (B,)
        Events of each batch.
    mean : float
        Expected events of a batch, >= 0.

    Returns
    -------
    TestResult
        `estimate` is D / B.
    """
    size = len(totals)
    null = f"each total ~ Poisson({mean:.12g})"
    if mean == 0:
        if totals.any():
            note = "events where the mean is 0"
            return TestResult("totals", math.inf, 0.0, size, size, null=null, note=note)
        return TestResult("totals", n=size, null=null, note="no test: the mean is 0")
    statistic = float(np.sum((totals - mean) ** 2 / mean))
    variance = size * (2 + 1 / mean)
    below, above = laws.gamma_tails(statistic, size, variance, 2 * math.sqrt(variance) / size)
    mode = math.floor(mean)
    likeliest = math.exp(size * (mode * math.log(mean) - mean - math.lgamma(mode + 1)))
    estimate, interval = _ratio(statistic, size)
    return TestResult(
        "totals",
        statistic=statistic,
        p_value=central(max(below, likeliest), above),
        df=size,
        n=size,
        estimate=estimate,
        interval=interval,
        null=null,
    )


def neighbour_test(counts: Ints) -> TestResult:
    """Return the test that neighbours in the fleet have uncorrelated counts.

    Moran's I over the pairs (i, i + 1) of each batch, standardised by its exact mean -1 / (n - 1)
    and variance under permutation; the batches' z values are added up. The third moment, skewness
    of the counts squared over sqrt(n - 1), is that of independent products.

    Parameters
    ----------
    counts : int64 array (B, n)
        Events of each driver in fleet order. Batches without spread are left out.

    Returns
    -------
    TestResult
        `statistic` is z, `estimate` the mean of I (a correlation) with its 95 % interval.

    References
    ----------
    Cliff and Ord (1981), Spatial Processes, section 2.3 (randomisation).
    """
    null = "counts of neighbours are uncorrelated"
    n = int(counts.shape[1])
    x = counts[(counts != counts[:, :1]).any(axis=1)].astype(np.float64)
    if n < 4 or len(x) == 0:
        reason = "fewer than four drivers" if n < 4 else "all counts are equal"
        return TestResult("neighbour", n=counts.size, null=null, note=f"no test: {reason}")
    y = x - x.mean(axis=1, keepdims=True)
    m2, m3, m4 = ((y**power).mean(axis=1) for power in (2, 3, 4))
    moran = (y[:, 1:] * y[:, :-1]).sum(axis=1) / ((n - 1) * m2)
    # S0, S1, S2 of a chain of n points whose neighbours have weight 1 in both directions.
    s0, s1, s2 = 2 * (n - 1), 4 * (n - 1), 4 * (4 * n - 6)
    b2 = m4 / m2**2
    square = (
        n * ((n * n - 3 * n + 3) * s1 - n * s2 + 3 * s0 * s0)
        - b2 * ((n * n - n) * s1 - 2 * n * s2 + 6 * s0 * s0)
    ) / ((n - 1) * (n - 2) * (n - 3) * s0 * s0)
    variance = square - 1 / (n - 1) ** 2
    usable = variance > 1e-12
    if not usable.any():
        note = "no test: no order of these counts differs from another"
        return TestResult("neighbour", n=counts.size, null=null, note=note)
    z = ((moran + 1 / (n - 1)) / np.sqrt(np.where(usable, variance, 1.0)))[usable]
    skewness = (m3**2 / m2**3)[usable] / math.sqrt(n - 1)
    size = len(z)
    statistic = float(z.sum()) / math.sqrt(size)
    tails = laws.gamma_tails(statistic, 0.0, 1.0, float(skewness.sum()) / size**1.5)
    estimate = float(moran[usable].mean())
    half = float(scipy.special.ndtri(0.975)) / math.sqrt(size * (n - 1))
    return TestResult(
        "neighbour",
        statistic=statistic,
        p_value=central(*tails),
        n=size * n,
        estimate=estimate,
        interval=(max(-1.0, estimate - half), min(1.0, estimate + half)),
        null=null,
    )


def pair_correlation_test(counts: Ints) -> TestResult:
    """Return the test that no two batches have correlated drivers' counts.

    The correlation r of each pair of batches, over the drivers, has under permutation the mean 0,
    the variance 1 / (n - 1) and the third moment of T = sum x y
    n / ((n - 1) (n - 2)) sum x**3 sum y**3, exactly (x, y about their means); its p is that of the
    shifted gamma. The smallest of the K pairs' p decides, as 1 - (1 - p)**K (Sidak). A batch that
    repeats another one has r = 1.

    Parameters
    ----------
    counts : int64 array (B, n)
        Events of each driver. Batches without spread are left out.

    Returns
    -------
    TestResult
        `statistic` and `estimate` are the r of the pair that decides; `note` names it.

    References
    ----------
    Pitman (1937), Suppl. J. R. Stat. Soc. 4, 225. doi:10.2307/2983647 (permutation moments)
    """
    null = "no two batches are correlated"
    rows = np.flatnonzero((counts != counts[:, :1]).any(axis=1))
    n = int(counts.shape[1])
    if n < 4 or len(rows) < 2:
        reason = "fewer than four drivers" if n < 4 else "fewer than two batches with spread"
        return TestResult("pair_correlation", n=n, null=null, note=f"no test: {reason}")
    x = counts[rows] - counts[rows].mean(axis=1, keepdims=True)
    u = x / np.sqrt((x**2).sum(axis=1, keepdims=True))
    cubes = (u**3).sum(axis=1)
    # r sqrt(n - 1) is standardised; the skewness of a pair is the product of its two batches'.
    weights = cubes * math.sqrt(n / ((n - 1) * (n - 2)) * (n - 1) ** 1.5)
    best, where = 2.0, (0, 1)
    for start in range(0, len(rows), _BLOCK_ROWS):
        r = u[start : start + _BLOCK_ROWS] @ u.T
        later = np.arange(len(rows)) > start + np.arange(len(r))[:, None]
        # z decides but for the skewness: only pairs near the largest are looked at closely.
        z = np.where(later, np.abs(r), 0.0) * math.sqrt(n - 1)
        for i, j in np.argwhere(later & (z >= 0.8 * z.max())):
            skewness = float(weights[start + i] * weights[j])
            p = central(*laws.gamma_tails(float(r[i, j]) * math.sqrt(n - 1), 0.0, 1.0, skewness))
            if p < best:
                best, where, found = p, (start + int(i), int(j)), float(r[i, j])
    n_pairs = len(rows) * (len(rows) - 1) // 2
    half = float(scipy.special.ndtri(0.975)) / math.sqrt(n - 1)
    return TestResult(
        "pair_correlation",
        statistic=found,
        p_value=-math.expm1(n_pairs * math.log1p(-best)) if best < 1 else 1.0,
        n=n,
        estimate=found,
        interval=(max(-1.0, found - half), min(1.0, found + half)),
        null=null,
        note=f"batches {rows[where[0]]} and {rows[where[1]]} (from 0) of {n_pairs} pairs",
    )


# ---------------------------------------------------------------------------------------------
# Shares and tables
# ---------------------------------------------------------------------------------------------


def goodness_test(observed: Ints, probabilities: Floats) -> TestResult:
    """Return the two-sided chi-square test against known probabilities, added up over batches.

    Pearson's X2 of N events in k cells has the mean k - 1 and the variance
    2 (k - 1) + (sum 1 / p - k**2 - 2 k + 2) / N, exactly; p by the gamma law with the sums over the
    batches. A fit that is too good fails as well: for that the law is corrected for continuity by
    k / N, half a step of X2 where the cells are equal, or few events would fit too well by chance.

    Parameters
    ----------
    observed : int64 array (B, k)
        Events per cell. Batches without events are left out.
    probabilities : float64 array (k,)
        Sum 1; cells whose mean expectation is below 5 are pooled. An event in a cell of probability
        0 gives p = 0.

    Returns
    -------
    TestResult
        `statistic` is the sum of X2; `estimate` is Cohen's w = sqrt(X2 / n) for one batch, and
        X2 / df for several.

    References
    ----------
    Haldane (1937), Biometrika 29, 133. doi:10.1093/biomet/29.1-2.133
    """
    null = "the shares equal the probabilities"
    x = observed[observed.sum(axis=1) > 0]
    events = int(x.sum())
    impossible = int(x[:, probabilities == 0].sum())
    if impossible:
        note = f"{impossible} events where none can be"
        return TestResult("goodness", math.inf, 0.0, n=events, null=null, note=note)
    x, p = x[:, probabilities > 0], probabilities[probabilities > 0]
    notes = []
    if len(x) and events / len(x) * p.min() < MIN_EXPECTATION:
        pooled = pool_order(events / len(x) * p)
        notes.append(f"{pooled.size} of {p.size} cells pooled to an expectation >= 5")
        x = np.array([merge_cells(row, pooled) for row in x])
        p = merge_cells(p, pooled)
    k = len(p)
    if k < 2 or len(x) == 0:
        notes.insert(0, "no test: " + ("one cell" if len(x) else "no event"))
        return TestResult("goodness", n=events, null=null, note="; ".join(notes))
    sizes = x.sum(axis=1, keepdims=True)
    expected = sizes * p
    statistic = float(np.sum((x - expected) ** 2 / expected))
    df = (k - 1) * len(x)
    excess = float(np.sum(1 / p)) - k * k - 2 * k + 2
    variance = 2 * df + excess * float(np.sum(1 / sizes))
    if variance <= 1e-9 * df:
        notes.insert(0, "no test: too few events")
        return TestResult("goodness", n=events, null=null, note="; ".join(notes))
    half_step = k / float(sizes.max())
    tails = laws.gamma_tails(statistic, df, variance, 2 * math.sqrt(variance) / df, half_step)
    return TestResult(
        "goodness",
        statistic=statistic,
        p_value=central(*tails),
        df=df,
        n=events,
        estimate=math.sqrt(statistic / events) if len(x) == 1 else statistic / df,
        null=null,
        note="; ".join(notes) or None,
    )


def association_test(table: Ints) -> TestResult:
    """Return the two-sided chi-square test that rows and columns are independent.

    Given both margins X2 has the mean N / (N - 1) (r - 1)(c - 1) and the variance
    2 N / (N - 3) (v1 - w1)(v2 - w2) + N**2 / (N - 1) w1 w2 with v = (k - 1)(N - k) / (N - 1),
    w = (N sum 1 / margin - k**2) / (N - 2), exactly. The gamma law with these holds where single
    expectations are far below 5, as in a table of types by a hundred companies. The lower tail is
    corrected for continuity by r c / N, so that a small table may be even by chance.

    Parameters
    ----------
    table : int64 array (r, c)
        Events. Empty rows and columns are left out; rows with fewer events than there are columns
        are pooled into one, which looks at the margins only.

    Returns
    -------
    TestResult
        `estimate` is Cramer's V.

    References
    ----------
    Dawson (1954), "A simplified expression for the variance of the chi-square function on a
    contingency table", Biometrika 41, 280. doi:10.1093/biomet/41.1-2.280
    """
    null = "rows and columns are independent"
    cells = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n = int(cells.sum())
    notes = []
    rare = cells.sum(axis=1) < cells.shape[1]
    if rare.sum() > 1 and not rare.all():
        notes.append(f"{int(rare.sum())} rare rows pooled")
        cells = np.vstack([cells[~rare], cells[rare].sum(axis=0)])
    rows, columns = cells.shape
    if min(rows, columns) < 2 or n < 5:
        why = "fewer than five events" if n < 5 else "fewer than two rows or columns have events"
        notes.insert(0, f"no test: {why}")
        return TestResult("association", n=n, null=null, note="; ".join(notes))
    row_sums, column_sums = cells.sum(axis=1), cells.sum(axis=0)
    expected = row_sums[:, None] * (column_sums[None, :] / n)
    statistic = float(np.sum((cells - expected) ** 2 / expected))
    df = (rows - 1) * (columns - 1)
    mean = n / (n - 1) * df
    v1, v2 = ((k - 1) * (n - k) / (n - 1) for k in (rows, columns))
    w1 = (n * float(np.sum(1 / row_sums)) - rows**2) / (n - 2)
    w2 = (n * float(np.sum(1 / column_sums)) - columns**2) / (n - 2)
    variance = 2 * n / (n - 3) * (v1 - w1) * (v2 - w2) + n * n / (n - 1) * w1 * w2
    if variance <= 1e-9 * df:
        notes.insert(0, "no test: the margins leave X2 no freedom")
        return TestResult("association", n=n, null=null, note="; ".join(notes))
    skewness = 2 * math.sqrt(variance) / mean
    below, _ = laws.gamma_tails(statistic, mean, variance, skewness, rows * columns / n)
    _, above = laws.gamma_tails(statistic, mean, variance, skewness)
    return TestResult(
        "association",
        statistic=statistic,
        p_value=central(below, above),
        df=df,
        n=n,
        estimate=math.sqrt(statistic / (n * (min(rows, columns) - 1))),
        null=null,
        note="; ".join(notes) or None,
    )
