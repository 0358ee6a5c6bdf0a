"""Tests of two samples: reference values, agreement with slow twins, and their level."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from fleetsim.stats.two_samples import dispersion_ratio, homogeneity_test, largest_shift, rank_test


def test_homogeneity_is_pearsons_test_where_every_cell_is_large():
    """SciPy's contingency test of the same table, without a continuity correction."""
    a, b = [120, 100, 80], [90, 130, 75]
    result = homogeneity_test(a, b)
    expected = scipy_stats.chi2_contingency([a, b], correction=False)
    assert result.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-10)
    assert (result.df, result.n, result.note) == (2, 595, None)


@pytest.mark.parametrize(
    ("a", "b", "ordered", "pooled"),
    [
        # The rarest two hold 12 together, 6 expected on either side.
        ([50, 3, 4, 40], [47, 3, 2, 45], False, [[7, 40, 50], [5, 45, 47]]),
        # Neighbours: what is left over at the end joins the last cell.
        ([3, 50, 40, 4, 1], [4, 47, 45, 1, 1], True, [[53, 45], [51, 47]]),
        ([0, 9, 50, 40, 6], [0, 8, 47, 45, 7], True, [[9, 50, 40, 6], [8, 47, 45, 7]]),
        # The smaller sample decides: of 10 in the last cell it has 1 to expect.
        ([900, 90, 9], [90, 9, 1], False, [[99, 900], [10, 90]]),
    ],
)
def test_rare_cells_are_pooled_by_both_samples_together(a, b, ordered, pooled):
    """Until each is expected five times in either sample."""
    result = homogeneity_test(a, b, ordered=ordered)
    expected = scipy_stats.chi2_contingency(pooled, correction=False)
    assert result.statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert expected.expected_freq.min() >= 5
    assert (homogeneity_test(b, a, ordered=ordered).p_value) == pytest.approx(result.p_value)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([0, 0], [0, 0], "neither sample has any event"),
        ([0, 0], [3, 4], "one sample has not any event"),
        ([2, 1], [1, 2], "too few events for two cells"),
        ([9, 0], [8, 0], "too few events for two cells"),
    ],
)
def test_without_two_cells_there_is_no_test(a, b, words):
    """And never a pass."""
    result = homogeneity_test(a, b)
    assert result.p_value is None
    assert words in result.note
    assert largest_shift(a, b) is None or sum(a)


def test_the_largest_shift_is_newcombes_example():
    """56/70 against 48/80: 0.2000 (0.0524 to 0.3339), his method 10 (Table II, a)."""
    # Two cells at 95 % each, as published, hold together at 90 % or more.
    shift = largest_shift([48, 32], [56, 14], confidence=0.90)
    assert shift.cell == 0
    assert shift.difference == pytest.approx(0.2)
    assert (shift.low, shift.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def _exact_p(x, y):
    """Return the central p-value of the rank sum by listing every assignment."""
    values, wins = [*x, *y], []
    for chosen in itertools.combinations(range(len(values)), len(x)):
        rest = [value for place, value in enumerate(values) if place not in chosen]
        wins.append(sum(values[place] > other for place in chosen for other in rest))
    own = sum(a > b for a in x for b in y)
    low, high = (np.mean([w <= own for w in wins]), np.mean([w >= own for w in wins]))
    return min(1.0, 2 * min(low, high))


def test_the_rank_test_is_exact_without_ties():
    """It agrees with every assignment, listed."""
    random = np.random.default_rng(5)
    for _ in range(5):
        x, y = random.lognormal(size=4), random.lognormal(0.7, size=5)
        result = rank_test(x, y)
        assert result.note is None
        assert result.p_value == pytest.approx(_exact_p(x, y), rel=1e-12)


def test_ties_are_said_and_their_p_is_that_of_permutations():
    """The normal law with the ties' variance stays near the law of all permutations."""
    random = np.random.default_rng(6)
    x, y = (np.round(random.lognormal(shift, 0.05, 30), 2) for shift in (0.0, 0.03))
    result = rank_test(x, y)
    assert "values are tied" in result.note
    ranks = scipy_stats.rankdata(np.concatenate([x, y]))
    sums = np.array([random.permutation(ranks)[:30].sum() for _ in range(20_000)])
    center = ranks.sum() / 2
    p = np.mean(np.abs(sums - center) >= abs(ranks[:30].sum() - center))
    assert result.p_value == pytest.approx(p, abs=0.006)


def test_large_samples_take_the_normal_law():
    """More than 10**5 pairs; the interval is made in bounded pieces."""
    random = np.random.default_rng(7)
    result = rank_test(random.lognormal(size=400), random.lognormal(size=400))
    assert "the samples are large" in result.note
    low, high = result.interval
    assert low < result.estimate < high


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([], [1.0, 2.0], "fewer than two values"),
        ([1.0], [1.0, 2.0], "fewer than two values"),
        ([2.0, 2.0], [2.0, 2.0], "all values are equal"),
    ],
)
def test_ranks_that_say_nothing_give_no_p(x, y, words):
    """A missing p is no p of 1."""
    result = rank_test(x, y)
    assert result.p_value is None
    assert words in result.note


def test_the_interval_is_the_same_every_time_and_scales():
    """The bootstrap has a fixed seed; the unit of the values cancels."""
    random = np.random.default_rng(8)
    x, y = random.lognormal(size=12), random.lognormal(size=12)
    assert rank_test(x, y) == rank_test(x, y)
    assert rank_test(1e6 * x, 1e6 * y).interval == pytest.approx(rank_test(x, y).interval)


@pytest.mark.parametrize("n", [10, 30])
def test_the_interval_of_the_ratio_covers(n):
    """Of 300 pairs of right-skewed samples about 95 % have the true ratio inside, or more."""
    random = np.random.default_rng(9)
    hits = 0
    for _ in range(300):
        low, high = rank_test(
            1.1 * random.lognormal(0, 0.15, n), random.lognormal(0, 0.15, n)
        ).interval
        hits += low <= 1.1 <= high
    # Exact binomial limits at 1e-6 of 300 with probability 0.95; more than that is no fault.
    assert hits >= scipy_stats.binom.ppf(1e-6, 300, 0.95)


def test_the_ratio_of_dispersions_covers_and_sees():
    """It covers 1 for Poisson counts, and lies above it for negative binomial ones."""
    random = np.random.default_rng(10)
    hits = 0
    for _ in range(300):
        ratio, (low, high) = dispersion_ratio(random.poisson(3.5, 200), random.poisson(3.5, 300))
        assert low < ratio < high
        hits += low <= 1 <= high
    assert scipy_stats.binom.ppf(1e-6, 300, 0.95) <= hits <= scipy_stats.binom.isf(1e-6, 300, 0.95)
    wide = random.negative_binomial(3.5, 0.5, 1000)
    _, (low, _) = dispersion_ratio(random.poisson(3.5, 1000), wide)
    assert low > 1.2
    assert dispersion_ratio([0, 0, 0], [1, 2, 3]) is None
    assert dispersion_ratio([1], [1, 2, 3]) is None
    assert not math.isnan(ratio)
