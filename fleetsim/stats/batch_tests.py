"""Tests along the batches: drivers that remember the last batch, and rates that change on the way.

All look at counts alone, and are exact in their first moments at every size.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts are loaded where they are used

from fleetsim.stats import laws
from fleetsim.stats.arguments import Floats, Ints
from fleetsim.stats.moments import FEW_PAIRS, SPARSE
from fleetsim.stats.result import TestResult, central

#: Events of all batches that it takes at least to speak of a trend.
MIN_EVENTS = 20.0
#: Excess kurtosis from which the law of `memory_test` has heavier tails than the shifted gamma.
HEAVY = 0.04


def memory_test(counts: Ints) -> TestResult:
    """Return the test that a driver's count says nothing about its count in the next batch.

    T = sum over drivers and pairs of consecutive batches of (x - N / n) (y - M / n), x and y the
    driver's counts, N and M the batches' totals, n the number of drivers. Given the totals the
    counts are multinomial, and the batches are independent: T has the mean 0, the variance
    sum N M (n - 1) / n**2 and the third moment
    sum N M (n a**2 + 3 n (n - 1) b**2 + n (n - 1) (n - 2) c**2) with p = 1 / n,
    a = p (1 - p) (1 - 2 p), b = -p**2 (1 - 2 p), c = 2 p**3, exactly. p by the shifted gamma with
    these. Where events are sparse, the pairs of events of one driver are Poisson; where drivers and
    batches are few, T has heavy tails, and p is that of Student's t with the kurtosis of
    `memory_kurtosis`, whose skewness is 0 as T's nearly is.

    Parameters
    ----------
    counts : int64 array (B, n)
        Events of each driver in consecutive batches.

    Returns
    -------
    TestResult
        `estimate` is the correlation of a driver's counts in consecutive batches, with its 95 %
        interval.
    """
    null = "a driver's counts in consecutive batches are independent"
    n = int(counts.shape[1])
    totals = counts.sum(axis=1).astype(np.float64)
    pairs = totals[1:] * totals[:-1]
    if n < 2 or not pairs.sum():
        why = "fewer than two drivers" if n < 2 else "no two consecutive batches have events"
        return TestResult("memory", n=counts.size, null=null, note=f"no test: {why}")
    p = 1 / n
    together = float(sum(int(a @ b) for a, b in zip(counts[1:], counts[:-1], strict=True)))
    expected = float(pairs.sum()) * p
    statistic = together - expected
    if float(totals.max()) * p < SPARSE and expected < FEW_PAIRS:
        found = int(together)
        tails = laws.poisson_cdf(found, expected), laws.poisson_sf(found, expected)
    else:
        variance = float(pairs.sum()) * (n - 1) * p * p
        kurtosis = memory_kurtosis(pairs, n)
        a, b, c = p * (1 - p) * (1 - 2 * p), -p * p * (1 - 2 * p), 2 * p**3
        each = n * a * a + 3 * n * (n - 1) * b * b + n * (n - 1) * (n - 2) * c * c
        skewness = float(pairs.sum()) * each / variance**1.5
        if kurtosis > HEAVY:
            tails = laws.student_tails(statistic, variance, kurtosis, 0.5)
        else:
            tails = laws.gamma_tails(statistic, 0.0, variance, skewness, 0.5)
    estimate = statistic / float(np.sqrt(pairs).sum())
    half = float(scipy.special.ndtri(0.975)) / math.sqrt(np.count_nonzero(pairs) * (n - 1))
    return TestResult(
        "memory",
        statistic=statistic,
        p_value=central(*tails),
        n=counts.size,
        estimate=estimate,
        interval=(max(-1.0, estimate - half), min(1.0, estimate + half)),
        null=null,
    )


def memory_kurtosis(pairs: Floats, drivers: int) -> float:
    """Return the excess kurtosis of `memory_test`'s statistic, for normal counts.

    (6 sum w**2 + 12 sum w w') / ((n - 1) (sum w)**2), with w = N M of each pair of batches and w'
    that of the next pair: T is a sum of inner products of independent normal vectors of n - 1
    dimensions, and neighbouring products share a vector.

    Parameters
    ----------
    pairs : float64 array (B - 1,)
        Products of the totals of consecutive batches, some of them > 0.
    drivers : int
        n, >= 2.
    """
    squares = 6 * float(pairs @ pairs) + 12 * float(pairs[1:] @ pairs[:-1])
    return squares / ((drivers - 1) * float(pairs.sum()) ** 2)


def contrasts(batches: int) -> Floats:
    """Return orthonormal contrasts of a slope, of both halves, and of every second batch.

    Returns
    -------
    float64 array (batches, k)
        At most three columns, fewer where few batches make some of them the same.
    """
    at = np.arange(batches, dtype=np.float64)
    rows = np.array([at, np.where(at < batches // 2, -1.0, 1.0), at % 2])
    rows -= rows.mean(axis=1, keepdims=True)
    left, size, _ = np.linalg.svd(rows.T / np.sqrt((rows**2).sum(axis=1)), full_matrices=False)
    basis: Floats = left[:, size > 1e-9]
    return basis


def trend_test(totals: Ints, mean: float) -> TestResult:
    """Return the test that the rate neither drifts, nor differs between halves, nor alternates.

    Q is the squared length of the standardised totals' part in the space of these `contrasts`. For
    Poisson totals it has the mean k and the variance 2 k + sum h**2 / mean, h the diagonal of the
    projection, exactly; p by the gamma law with these. A total that is off as a whole does not
    show, and none of a slope at all speaks for the law: p is that of the upper tail alone.

    Parameters
    ----------
    totals : int64 array (B,)
        Events of consecutive batches.
    mean : float
        Expected events of a batch, >= 0.

    Returns
    -------
    TestResult
        `estimate` is the events of the second half over those of the first, for each batch.
    """
    null = f"each total ~ Poisson({mean:.12g})"
    size = len(totals)
    if size * mean < MIN_EVENTS:
        why = f"{size * mean:.3g} events are expected, fewer than {MIN_EVENTS:g}"
        return TestResult("trend", n=size, null=null, note=f"no test: {why}")
    basis = contrasts(size)
    standard = (totals - mean) / math.sqrt(mean)
    statistic = float(np.sum((basis.T @ standard) ** 2))
    df = basis.shape[1]
    variance = 2 * df + float(np.sum((basis**2).sum(axis=1) ** 2)) / mean
    _, above = laws.gamma_tails(statistic, df, variance, 2 * math.sqrt(variance) / df)
    half = size // 2
    first, second = float(totals[:half].mean()), float(totals[half:].mean())
    return TestResult(
        "trend",
        statistic=statistic,
        p_value=min(1.0, above),
        df=df,
        n=size,
        estimate=second / first if first else math.inf,
        null=null,
    )
