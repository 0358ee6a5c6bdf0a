"""Tests of two samples: reference values, agreement with slow twins, and their level."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support import quick_and_full

from fleetsim.stats.two_samples import (
    dispersion_ratio,
    homogeneity_test,
    largest_shift,
    paired_test,
    rank_test,
)


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


@quick_and_full("pairs", 60, 300)
@pytest.mark.parametrize("n", [10, 30])
def test_the_interval_of_the_ratio_covers(n, pairs):
    """Of many pairs of right-skewed samples about 95 % have the true ratio inside, or more."""
    random = np.random.default_rng(9)
    hits = 0
    for _ in range(pairs):
        low, high = rank_test(
            1.1 * random.lognormal(0, 0.15, n), random.lognormal(0, 0.15, n)
        ).interval
        hits += low <= 1.1 <= high
    # Exact binomial limits at 1e-6 with probability 0.95; more than that is no fault.
    assert hits >= scipy_stats.binom.ppf(1e-6, pairs, 0.95)


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


def _signed_p(x, y):
    """Return the two-sided p-value of the signed ranks by listing every choice of signs."""
    logs = np.log(x / y)
    ranks = scipy_stats.rankdata(np.abs(logs))
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((False, True), repeat=len(ranks))
    ]
    own = ranks[logs > 0].sum()
    return min(1.0, 2 * min(np.mean(sums <= own), np.mean(sums >= own)))


def test_the_paired_test_is_exact_without_ties():
    """It agrees with every choice of signs, listed; a law that both share in a pair cancels."""
    random = np.random.default_rng(11)
    for n in (6, 8, 10):
        load = random.lognormal(0, 2, n)
        x, y = load * random.lognormal(0.1, 0.1, n), load * random.lognormal(0, 0.1, n)
        result = paired_test(x, y)
        assert (result.note, result.n) == (None, n)
        assert result.p_value == pytest.approx(_signed_p(x, y), rel=1e-12)
        assert result.estimate == np.median(x / y)


@quick_and_full("trials", 100, 300)
def test_pairs_keep_the_level_and_their_interval_covers(trials):
    """Whatever slows both of a pair: by the exact law of trials with 10 pairs, ties or not."""
    random = np.random.default_rng(12)
    least, most = (scipy_stats.binom.ppf(p, trials, 0.05) for p in (1e-6, 1 - 1e-6))
    for digits in (None, 2):
        rejected = missed = 0
        for _ in range(trials):
            load = random.lognormal(0, 1, 10)
            x, y = (load * random.lognormal(0, 0.05, 10) for _ in range(2))
            if digits:
                x, y = np.round(x / load, digits), np.round(y / load, digits)
            result = paired_test(x, y)
            low, high = result.interval
            rejected += result.p_value < 0.05
            missed += not low <= 1 <= high
        assert least <= rejected <= most
        assert missed <= most


def test_the_interval_of_pairs_is_of_order_statistics():
    """Of 10 pairs it is the second to the ninth: 97.9 %, the least that is 95 % or more."""
    ratios = np.arange(1, 11) / 4
    result = paired_test(ratios, np.ones(10))
    assert result.interval == (0.5, 2.25)
    assert 1 - 2 * scipy_stats.binom.cdf(1, 10, 0.5) == pytest.approx(0.979, abs=5e-4)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.ones(5), np.full(5, 2.0), "fewer than 6 pairs"),
        (np.arange(1.0, 9.0), np.arange(1.0, 9.0), "the values of each pair are equal"),
    ],
)
def test_pairs_that_say_nothing_give_no_p(x, y, words):
    """A missing p is no p of 1."""
    result = paired_test(x, y)
    assert result.p_value is None
    assert words in result.note


def test_pairs_that_are_tied_or_many_take_the_normal_law():
    """Which is said."""
    random = np.random.default_rng(13)
    ratios = random.lognormal(0, 0.1, 60)
    assert "there are many pairs" in paired_test(ratios, np.ones(60)).note
    ratios[:2] = 1
    assert "values are tied" in paired_test(ratios[:20], np.ones(20)).note


@pytest.mark.parametrize(
    ("x", "y"), [(np.ones(6), np.ones(7)), (np.zeros(6), np.ones(6)), (np.ones(6), np.zeros(6))]
)
def test_what_is_no_pair_is_refused(x, y):
    """As other arguments that are not allowed."""
    with pytest.raises(ValueError, match="a and b"):
        paired_test(x, y)
