"""Tests along the batches: moments against all outcomes, and what the contrasts are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from fleetsim.stats import batch_tests


def exact(value: float, rel: float = 1e-9):
    """Return `value` to be compared to a relative tolerance alone."""
    return pytest.approx(value, rel=rel, abs=0)


def test_memory_has_the_moments_of_all_outcomes(monkeypatch):
    """Mean, variance and skewness equal those of every way to place the events of three batches."""
    drivers, totals = 3, (3, 2, 3)
    places = [
        [
            [chosen.count(d) for d in range(drivers)]
            for chosen in itertools.product(range(drivers), repeat=n)
        ]
        for n in totals
    ]

    def products(counts) -> float:
        centred = [[x - sum(row) / drivers for x in row] for row in counts]
        return sum(
            a * b for one, two in itertools.pairwise(centred) for a, b in zip(one, two, strict=True)
        )

    values = np.array([products(outcome) for outcome in itertools.product(*places)])
    assert values.mean() == pytest.approx(0, abs=1e-12)
    variance = values.var()
    skewness = float((values**3).mean()) / variance**1.5
    counts = np.array([[2, 1, 0], [1, 0, 1], [0, 2, 1]])
    monkeypatch.setattr(batch_tests, "HEAVY", math.inf)  # the law of many drivers
    found = batch_tests.memory_test(counts)
    assert found.statistic == exact(products(counts.tolist()))
    law = scipy_stats.pearson3(skewness, scale=math.sqrt(variance))
    tails = law.cdf(found.statistic + 0.5), law.sf(found.statistic - 0.5)
    assert found.p_value == exact(min(1.0, 2 * min(tails)), 1e-7)


def test_memory_of_sparse_events_counts_pairs():
    """Ten events on a thousand drivers: two in a row of one driver are Poisson."""
    counts = np.zeros((2, 1000), np.int64)
    counts[:, :10] = 1
    found = batch_tests.memory_test(counts)
    assert found.p_value == exact(2 * scipy_stats.poisson.sf(9, 100 / 1000))


def test_memory_of_few_drivers_has_the_tails_of_student():
    """Two drivers: the kurtosis is that of simulated normal counts, and p that of such a t law."""
    totals = np.array([20_000.0, 10_000.0, 30_000.0, 20_000.0])
    pairs = totals[1:] * totals[:-1]
    kurtosis = batch_tests.memory_kurtosis(pairs, 3)
    normal = np.random.default_rng(6).normal(size=(400_000, 4, 3)) * np.sqrt(totals[:, None] / 3)
    normal -= normal.mean(axis=2, keepdims=True)
    values = (normal[:, 1:] * normal[:, :-1]).sum(axis=(1, 2))
    assert float(scipy_stats.kurtosis(values)) == pytest.approx(kurtosis, rel=0.06)
    counts = np.array([[9_900, 10_100], [5_060, 4_940], [14_800, 15_200], [10_080, 9_920]])
    found = batch_tests.memory_test(counts)
    kurtosis = batch_tests.memory_kurtosis(pairs, 2)
    df = 4 + 6 / kurtosis
    deviation = math.sqrt(float(pairs.sum()) / 4)
    law = scipy_stats.t(df, scale=deviation / math.sqrt(df / (df - 2)))
    tails = law.cdf(found.statistic + 0.5), law.sf(found.statistic - 0.5)
    assert law.std() == exact(deviation)
    assert float(law.stats("k")) == exact(kurtosis)
    assert found.p_value == exact(min(1.0, 2 * min(tails)), 1e-7)


def test_the_interval_of_memory_is_that_of_so_many_independent_pairs():
    """Each pair of batches with events adds the number of drivers, less one."""
    counts = np.random.default_rng(8).poisson(3.5, (4, 50))
    counts[3] = 0  # a batch without events is in no pair
    found = batch_tests.memory_test(counts)
    half = scipy_stats.norm.ppf(0.975) / math.sqrt(2 * 49)
    assert found.interval == exact((found.estimate - half, found.estimate + half))


def test_memory_is_found_and_its_size_told():
    """A driver with a twentieth of its last events again has a correlation of .05."""
    random = np.random.default_rng(4)
    counts = [random.poisson(3.5, 1000)]
    for _ in range(200):
        counts.append(random.binomial(counts[-1], 0.05) + random.poisson(3.5 * 0.95, 1000))
    found = batch_tests.memory_test(np.array(counts))
    assert found.estimate == pytest.approx(0.05, abs=0.01)
    assert found.interval[0] < found.estimate < found.interval[1]
    assert found.p_value < 1e-12


@pytest.mark.parametrize(("batches", "size"), [(2, 1), (3, 2), (4, 2), (5, 3), (48, 3)])
def test_contrasts_are_orthonormal_and_blind_to_the_total(batches, size):
    """They span a slope, both halves and every second batch."""
    basis = batch_tests.contrasts(batches)
    assert basis.shape == (batches, size)
    np.testing.assert_allclose(basis.T @ basis, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-12)
    at = np.arange(batches)
    for shape in (at, at < batches // 2, at % 2):
        inside = basis @ (basis.T @ shape)
        np.testing.assert_allclose(inside, shape - np.mean(shape), atol=1e-9)


def test_trend_has_the_moments_of_poisson_totals():
    """Mean and variance of Q equal sums over the law of four totals of a small mean."""
    mean, size = 6.0, 3
    n = np.arange(30)
    chances = scipy_stats.poisson.pmf(n, mean)
    basis = batch_tests.contrasts(size)
    grid = np.array(list(itertools.product(n, repeat=size)))
    weight = np.prod(chances[grid], axis=1)
    q = ((((grid - mean) / math.sqrt(mean)) @ basis) ** 2).sum(axis=1)
    df = basis.shape[1]
    assert weight @ q == exact(df, 1e-6)
    variance = float(weight @ (q - df) ** 2)
    totals = np.array([12, 4, 9])
    found = batch_tests.trend_test(totals, mean)
    if found.p_value is None:  # 18 events are too few for the battery, not for the formula
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batch_tests, "MIN_EVENTS", 0.0)
            found = batch_tests.trend_test(totals, mean)
    law = scipy_stats.pearson3(2 * math.sqrt(variance) / df, loc=df, scale=math.sqrt(variance))
    assert found.p_value == exact(law.sf(found.statistic), 1e-5)


def test_a_trend_of_fewer_than_twenty_events_is_not_asked_for():
    """The number over all batches decides, however few one of them has."""
    assert batch_tests.trend_test(np.array([3, 2, 4]), 6.6).p_value is None
    made = batch_tests.trend_test(np.array([3, 2, 4]), 6.7)
    assert made.p_value is not None
    assert made.df == 2


def test_a_total_that_is_off_as_a_whole_is_no_trend():
    """The same surplus in every batch leaves the statistic at nearly nothing."""
    found = batch_tests.trend_test(np.full(8, 4000), 3500.0)
    assert found.statistic == pytest.approx(0, abs=1e-18)
    assert found.estimate == 1.0
    halves = batch_tests.trend_test(np.repeat([3300, 3700], 4), 3500.0)
    assert halves.p_value < 1e-6
    assert halves.estimate == exact(3700 / 3300)
