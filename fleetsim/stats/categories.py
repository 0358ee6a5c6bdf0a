"""Tests of categories: their shares, and the independence of two of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.stats import laws
from fleetsim.stats.arguments import Floats, Ints, categories_of, counts_of, fraction
from fleetsim.stats.result import EQUIVALENCE_CONFIDENCE, MIN_EXPECTATION, TestResult, pearson

# The exact multinomial test lists every outcome; above this many it pools cells instead.
MAX_OUTCOMES = 10**7
# Relative distance within which the probabilities of two outcomes count as equal.
_TIE = 1e-7
# Most outcomes that are held in memory at a time.
_BLOCK = 2**20


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
    counts, shares = categories_of(observed, weights)
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
            pooled = pool_order(n * shares)
            notes.append(f"{pooled.size} of {counts.size} categories pooled to an expectation >= 5")
            counts, shares = merge_cells(counts, pooled), merge_cells(shares, pooled)
    if n == 0 or counts.size == 1:
        notes.insert(0, "no test: " + ("no event" if n == 0 else "one category only"))
        return TestResult("category", n=n, null=null, note="; ".join(notes))
    statistic = pearson(counts, n * shares)
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


def pool_order(expected: Floats) -> Ints:
    """Return the indices of the cells to pool: the smallest, until no cell is below 5."""
    order = np.argsort(expected, kind="stable")
    sizes = expected[order]
    reached = np.cumsum(sizes) >= MIN_EXPECTATION
    enough = int(np.argmax(reached)) + 1 if reached.any() else sizes.size
    return order[: max(enough, int(np.sum(sizes < MIN_EXPECTATION)))]


def merge_cells(values: npt.NDArray[Any], pooled: Ints) -> npt.NDArray[Any]:
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

    For each share z = (margin - distance from its weight) / sqrt(share (1 - share) / n) and
    p = P(Z > z), the one of the two one-sided Wald tests (TOST) that is larger; the largest over
    the shares decides. A small p is evidence FOR agreement.

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
    counts, shares_wanted = categories_of(observed, weights)
    width = fraction("margin", margin)
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
    half = float(scipy.special.ndtri(0.5 + EQUIVALENCE_CONFIDENCE / 2) * error[worst])
    note = f"category {worst} (from 0) decides"
    if error[worst] == 0:
        note += "; every share is 0 or 1, where the Wald error is 0 and p says little"
    return TestResult(
        "category_equivalence",
        statistic=float(z[worst]),
        p_value=float(scipy.special.ndtr(-z[worst])),
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
    counts = counts_of("observed", observed)
    tail = (1 - fraction("confidence", confidence)) / 2
    n = int(counts.sum())
    if n == 0:
        raise ValueError("observed is all zeros, must have at least one event")
    z2 = float(scipy.special.ndtri(tail / counts.size if simultaneous else tail)) ** 2
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
    full = counts_of("table", table, ndim=2)
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
    statistic = pearson(cells, expected)
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
