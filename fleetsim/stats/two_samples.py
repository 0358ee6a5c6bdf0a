"""Tests that two samples follow one law, whatever it is: categories, cells, measurements, pairs.

Plain functions on arrays, as those of `stats`, which has the test of two Poisson rates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from fleetsim.stats.arguments import Floats, Ints
from fleetsim.stats.categories import independence_test, share_intervals
from fleetsim.stats.counts import dispersion_test
from fleetsim.stats.result import MIN_EXPECTATION, TestResult

# Resamples of the bootstrap, and its own fixed seed: one comparison gives one interval.
RESAMPLES = 9999
_BOOTSTRAP_SEED = 20251108
_RESAMPLED_VALUES = 10**7  # at once; 80 MB
# Beyond so many pairs of values the exact law of the rank sum takes long, and is normal anyway.
_EXACT_PAIRS = 10**5
#: Fewest pairs of which an interval of 95 % for a median can be made.
MIN_PAIRS = 6
# Beyond so many pairs the law of the signed ranks is normal to all digits that anyone needs.
_EXACT_SIGNED = 50


def homogeneity_test(a: npt.ArrayLike, b: npt.ArrayLike, *, ordered: bool = False) -> TestResult:
    """Return Pearson's chi-square test that two samples of counted cells follow one law.

    Cells are pooled until each is expected at least 5 times in either sample; neighbours where they
    are ordered, otherwise the rarest. The totals of both samples decide, so that pooling does not
    depend on what is tested.

    Parameters
    ----------
    a, b : int array (k,)
        Events, or drivers, in each cell.
    ordered : bool
        Whether the cells have an order, as numbers of events have.

    Returns
    -------
    TestResult
        See `fleetsim.stats.independence_test`; `estimate` is Cramer's V. Where fewer than two
        cells are left, p_value is None.
    """
    table = np.vstack([np.asarray(a, np.int64), np.asarray(b, np.int64)])
    table = table[:, table.sum(axis=0) > 0]
    null = "both samples follow one law"
    sizes = table.sum(axis=1)
    if sizes.min() == 0:
        empty = "neither sample has" if sizes.max() == 0 else "one sample has not"
        return TestResult(
            "homogeneity", n=int(sizes.sum()), null=null, note=f"no test: {empty} any event"
        )
    totals = table.sum(axis=0)
    if not ordered:
        order = np.argsort(totals, kind="stable")
        table, totals = table[:, order], totals[order]
    starts = _cells(totals, MIN_EXPECTATION * float(sizes.sum()) / float(sizes.min()))
    pooled = np.add.reduceat(table, starts, axis=1)
    notes = [f"{table.shape[1]} cells pooled to {len(starts)}"] * (len(starts) < table.shape[1])
    if len(starts) < 2:
        notes.insert(0, "no test: too few events for two cells")
        return TestResult("homogeneity", n=int(sizes.sum()), null=null, note="; ".join(notes))
    result = independence_test(pooled)
    return TestResult(
        "homogeneity",
        statistic=result.statistic,
        p_value=result.p_value,
        df=result.df,
        n=result.n,
        estimate=result.estimate,
        null=null,
        note="; ".join(notes) or None,
    )


def _cells(totals: Ints, least: float) -> list[int]:
    """Return where pooled neighbours start: each holds `least` or more, the last one the rest."""
    starts, held = [0], 0
    for place, total in enumerate(totals):
        if held >= least and int(totals[place:].sum()) >= least:
            starts.append(place)
            held = 0
        held += int(total)
    return starts


class Shift(NamedTuple):
    """How far a share differs between two samples: its cell, b - a, and the limits of that."""

    cell: int
    difference: float
    low: float
    high: float


def largest_shift(a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95) -> Shift | None:
    """Return the share that differs most between two samples, None where one is empty.

    The interval is Newcombe's, of Wilson's for each share, and holds for all cells together
    (Bonferroni), so that picking the largest does no harm.

    References
    ----------
    Newcombe (1998), Stat. Med. 17, 873, method 10.
    doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I
    """
    first, second = np.asarray(a, np.int64), np.asarray(b, np.int64)
    if first.sum() == 0 or second.sum() == 0:
        return None
    limits_a = share_intervals(first, confidence, simultaneous=True)
    limits_b = share_intervals(second, confidence, simultaneous=True)
    share_a, share_b = first / first.sum(), second / second.sum()
    difference = share_b - share_a
    low = difference - np.hypot(share_b - limits_b[:, 0], limits_a[:, 1] - share_a)
    high = difference + np.hypot(limits_b[:, 1] - share_b, share_a - limits_a[:, 0])
    cell = int(np.argmax(np.abs(difference)))
    return Shift(cell, float(difference[cell]), float(low[cell]), float(high[cell]))


def dispersion_ratio(
    a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95
) -> tuple[float, tuple[float, float]] | None:
    """Return how variance / mean of b's counts relates to that of a's, with its limits.

    Given its total, (n - 1) variance / mean of Poisson counts is chi-square (Fisher's D), so the
    ratio of two is F. None where a sample has no events or fewer than two counts.
    """
    results = [dispersion_test(x) if np.size(x) > 1 else None for x in (a, b)]
    first, second = results
    if first is None or second is None or not first.estimate or second.estimate is None:
        return None
    ratio = second.estimate / first.estimate
    law = scipy_stats.f(np.size(b) - 1, np.size(a) - 1)
    tail = (1 - confidence) / 2
    return ratio, (ratio / float(law.isf(tail)), ratio / float(law.ppf(tail)))


def rank_test(a: npt.ArrayLike, b: npt.ArrayLike) -> TestResult:
    """Return the two-sided rank test of Wilcoxon, Mann and Whitney that two samples have one law.

    The law of the rank sum is exact; with ties, or beyond 10**5 pairs of values, it is the normal
    one, with Mann and Whitney's correction for continuity and the variance that the ties leave.

    Parameters
    ----------
    a, b : float array
        Measurements, >= 0.

    Returns
    -------
    TestResult
        `statistic` is U, the pairs in which a is the larger (ties count one half); `estimate`
        median(a) / median(b) with a 95 % percentile bootstrap interval of 9999 resamples with a
        fixed seed. p_value is None where a sample has fewer than two values, or all are equal.

    References
    ----------
    Mann and Whitney (1947), Ann. Math. Stat. 18, 50. doi:10.1214/aoms/1177730491
    Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    n = x.size + y.size
    null = "both samples follow one law"
    if min(x.size, y.size) < 2:
        return TestResult("rank", n=n, null=null, note="no test: fewer than two values")
    median = float(np.median(y))
    ratio, interval = (
        (float(np.median(x)) / median, _ratio_interval(x, y)) if median > 0 else (None, None)
    )
    values = np.concatenate([x, y])
    if values.min() == values.max():
        note = "no test: all values are equal"
        return TestResult("rank", n=n, estimate=ratio, interval=interval, null=null, note=note)
    ties = len(np.unique(values)) < n
    exact = not ties and x.size * y.size <= _EXACT_PAIRS
    found = scipy_stats.mannwhitneyu(x, y, method="exact" if exact else "asymptotic")
    why = "values are tied" if ties else "the samples are large"
    return TestResult(
        "rank",
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        n=n,
        estimate=ratio,
        interval=interval,
        null=null,
        note=None if exact else f"normal law of the rank sum: {why}",
    )


def _ratio_interval(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the bootstrap interval of the ratio of medians."""
    # The percentiles cover somewhat more than 95 % for medians of 10 values, the basic bootstrap
    # 90 %; the acceleration of BCa rests on a jackknife that does not work for medians.
    found = scipy_stats.bootstrap(
        (x, y),
        _ratio_of_medians,
        n_resamples=RESAMPLES,
        batch=max(1, _RESAMPLED_VALUES // max(x.size, y.size)),
        method="percentile",
        random_state=np.random.default_rng(_BOOTSTRAP_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def _ratio_of_medians(x: Floats, y: Floats, axis: int) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.median(x, axis=axis) / np.median(y, axis=axis)


def paired_test(a: npt.ArrayLike, b: npt.ArrayLike) -> TestResult:
    """Return Wilcoxon's two-sided signed-rank test that neither of a pair is the larger.

    It ranks the logarithms of a / b, so that twice as much and half as much weigh alike. The law is
    exact for up to 50 pairs; with ties, or for more, it is the normal one with a correction for
    continuity. Pairs of equal values count for neither side.

    Parameters
    ----------
    a, b : float array (n,)
        Measurements, > 0; those at one place are a pair.

    Returns
    -------
    TestResult
        `statistic` is the smaller sum of ranks; `estimate` the median of a / b with an exact 95 %
        interval, which is of order statistics and rests on no law (at least 95 %); `n` counts the
        pairs. p_value is None where there are fewer than 6 pairs, or all are equal.

    References
    ----------
    Wilcoxon (1945), Biometrics Bull. 1, 80. doi:10.2307/3001968
    Conover (1999), Practical Nonparametric Statistics, chapter 3 (quantile test)
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"a and b have the shapes {x.shape} and {y.shape}, must be of one length")
    null = "neither of a pair is the larger"
    if x.size < MIN_PAIRS:
        note = f"no test: fewer than {MIN_PAIRS} pairs"
        return TestResult("signed_rank", n=x.size, null=null, note=note)
    if not (np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)).all():
        raise ValueError("a and b must be finite and > 0")
    ratios = x / y
    limits: Any = scipy_stats.quantile_test(ratios, q=1, p=0.5).confidence_interval(0.95)
    result = TestResult(
        "signed_rank",
        n=x.size,
        estimate=float(np.median(ratios)),
        interval=(float(limits.low), float(limits.high)),
        null=null,
    )
    logs = np.log(ratios[ratios != 1])
    if not logs.size:
        return replace(result, note="no test: the values of each pair are equal")
    tied = logs.size < x.size or len(np.unique(np.abs(logs))) < logs.size
    exact = not tied and logs.size <= _EXACT_SIGNED
    found = scipy_stats.wilcoxon(logs, correction=True, method="exact" if exact else "approx")
    why = "values are tied" if tied else "there are many pairs"
    return replace(
        result,
        statistic=float(found.statistic),
        p_value=float(found.pvalue),
        note=None if exact else f"normal law of the signed ranks: {why}",
    )
