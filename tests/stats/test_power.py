"""What a test can see, held to brute force and to simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from fleetsim import stats
from fleetsim.stats.power import (
    POWER,
    category_outcome,
    detectable_dispersion,
    detectable_rate_shift,
    detectable_shares,
    poisson_acceptance,
    poisson_between,
    poisson_power,
)


@pytest.mark.parametrize("level", [0.05, 0.01, 1 / 120, 1e-6, 1e-12, 1e-30, 0.3, 0.5, 0.8, 0.999])
@pytest.mark.parametrize("mean", [0, 1e-9, 0.01, 0.3, 1, 2.5, 10, 35, 400, 3500])
def test_the_acceptance_region_is_what_the_test_does_not_reject(mean: float, level: float) -> None:
    """Its edges are kept, the counts beyond them are not."""
    least, largest = (int(edge) for edge in poisson_acceptance(mean, level))

    def kept(count: int) -> bool:
        return count >= 0 and stats.poisson_count_test(count, mean).p_value >= level

    assert kept(least)
    assert kept(largest)
    assert not kept(least - 1)
    assert not kept(largest + 1)


def test_the_acceptance_region_of_an_array_is_that_of_each_mean() -> None:
    """Arrays and numbers agree, and enormous means come to an end."""
    means = np.array([0.5, 35.0, 1e6, 1e19])
    least, largest = poisson_acceptance(means, 0.01)
    for i, mean in enumerate(means):
        assert [least[i], largest[i]] == list(poisson_acceptance(mean, 0.01))


def exact_between(low: int, high: int, mean: int) -> float:
    """Return P(low <= X <= high) by exact fractions, all but the factor exp(-mean)."""
    term, total = Fraction(1), Fraction(0)
    for k in range(high + 1):
        total += term if k >= low else 0
        term = term * mean / (k + 1)
    return math.exp(math.log(total.numerator) - math.log(total.denominator) - mean)


@pytest.mark.parametrize(
    ("low", "high", "mean"), [(0, 0, 3), (60, 90, 35), (0, 5, 35), (30, 40, 35), (35, 35, 35)]
)
def test_ranges_have_their_exact_probability(low: int, high: int, mean: int) -> None:
    """Above the mean, below it and around it, by a sum of exact fractions."""
    assert poisson_between(low, high, mean) == pytest.approx(
        exact_between(low, high, mean), rel=1e-9
    )


def test_ranges_of_no_whole_number_and_without_end() -> None:
    """A range without a whole number is empty; one without end is the tail."""
    assert poisson_between(3.2, 3.8, 3.5) == 0
    assert poisson_between(5, 4, 3.5) == 0
    assert poisson_between(0, math.inf, 3.5) == 1
    assert poisson_between(1, math.inf, 3.5) == pytest.approx(-math.expm1(-3.5))
    assert poisson_between(0, 0, 0) == 1
    assert poisson_between(1, 5, 0) == 0


@pytest.mark.parametrize(
    ("batches", "usual", "strict"),
    [(1, 0.219, 0.000), (8, 0.915, 0.060), (16, 0.997, 0.431), (32, 1.0, 0.962), (48, 1.0, 0.999)],
)
def test_the_power_of_the_count_test_is_the_published_one(
    batches: int, usual: float, strict: float
) -> None:
    """Against a rate 2 % too high, at the levels .05 and 1e-6: STATISTICS, section 3."""
    assert poisson_power(3500 * batches, 1.02, 0.05) == pytest.approx(usual, abs=5e-4)
    assert poisson_power(3500 * batches, 1.02, 1e-6) == pytest.approx(strict, abs=5e-4)


SEEDS = 4000
#: Five standard errors of a simulated power of .9.
BAND = 5 * math.sqrt(POWER * (1 - POWER) / SEEDS)


@pytest.mark.parametrize("mean", [0.5, 12, 400, 3500])
def test_the_detectable_rate_shift_is_caught_as_often_as_it_says(mean: float) -> None:
    """Counts of the shifted rate are rejected nine times out of ten, by the test itself."""
    shift = detectable_rate_shift(mean, 0.05)
    counts = np.random.default_rng(1).poisson((1 + shift) * mean, SEEDS)
    caught = sum(stats.poisson_count_test(int(count), mean).p_value < 0.05 for count in counts)
    assert abs(caught / SEEDS - POWER) < BAND


def test_the_detectable_rate_shift_needs_a_rate() -> None:
    """Against a mean of 0 there is no ratio."""
    assert detectable_rate_shift(0, 0.05) is None


def test_the_detectable_shares_are_caught_as_often_as_they_say() -> None:
    """Shares shifted by Cohen's w, moved between two types, are rejected nine times out of ten."""
    n, weights = 3500, np.array([0.40, 0.35, 0.25])
    size = detectable_shares(n, 2, 0.05)
    points = size / math.sqrt(1 / weights[0] + 1 / weights[2])
    shifted = weights + np.array([points, 0, -points])
    assert math.sqrt(((shifted - weights) ** 2 / weights).sum()) == pytest.approx(size)
    draws = np.random.default_rng(2).multinomial(n, shifted, SEEDS)
    caught = sum(stats.category_test(draw, weights).p_value < 0.05 for draw in draws)
    assert abs(caught / SEEDS - POWER) < BAND + 0.005  # asymptotic


def test_the_detectable_dispersion_is_caught_as_often_as_it_says() -> None:
    """Gamma-mixed counts of that variance ratio are rejected nine times out of ten."""
    ratio, mean, n = detectable_dispersion(999, 0.05), 3500.0, 1000
    rng = np.random.default_rng(3)
    rates = rng.gamma(mean / (ratio - 1), ratio - 1, (SEEDS // 4, n))
    caught = sum(stats.dispersion_test(row).p_value < 0.05 for row in rng.poisson(rates))
    assert abs(caught / (SEEDS // 4) - POWER) < 2 * BAND


@pytest.mark.parametrize(
    ("n", "margin", "points"),
    [(3500, 0.05, 0.02), (3500, 0.05, 0.05), (3500, 0.03, 0.02), (400, 0.15, 0.05)],
)
def test_types_between_pass_and_fail_are_as_often_open_as_simulated(n, margin, points):
    """At the level of gates: what neither rejects nor is shown to be close, in 300,000 samples."""
    weights, moved = np.array([0.4, 0.35, 0.25]), np.array([points, -points, 0.0])
    random = np.random.default_rng(3)
    sizes = random.poisson(n, 300_000)
    shares = random.multinomial(sizes, weights + moved) / sizes[:, None]
    kept = sizes * ((shares - weights) ** 2 / weights).sum(axis=1) <= -2 * math.log(1e-6)
    half = 1.6448536 * np.sqrt(shares * (1 - shares) / sizes[:, None])
    inside = (np.abs(shares - weights) + half).max(axis=1) <= margin
    found = category_outcome(n, weights, weights + moved, margin, 1e-6)
    assert found.fails == pytest.approx(1 - kept.mean(), abs=0.003)
    assert found.inconclusive == pytest.approx((kept & ~inside).mean(), abs=0.003)
    assert found.passes == pytest.approx((kept & inside).mean(), abs=0.003)
