"""Tests inside a driver: moments against all outcomes, published formulas and simulation."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from analysis import config_of
from scipy import stats as scipy_stats

from fleetsim.stats import draws, driver_tests, moments
from fleetsim.stats.order import GAP_CELLS, DriverTimes, gap_edges

LENGTH = 900_000_000
WEIGHTS = np.array([0.5, 0.3, 0.2])


def exact(value: float, rel: float = 1e-9):
    """Return `value` to be compared to a relative tolerance alone."""
    return pytest.approx(value, rel=rel, abs=0)


def two_sided(value, mean, variance, skewness) -> float:
    """Return the central two-sided p by SciPy's Pearson type III law."""
    law = scipy_stats.pearson3(skewness, loc=mean, scale=math.sqrt(variance))
    return min(1.0, 2 * min(law.cdf(value), law.sf(value)))


def times_of(runs: dict[int, int], gaps=None, squares=None, disordered=0) -> DriverTimes:
    """Return the times of so many runs of each number of events."""
    sizes = np.array(sorted(runs), np.int64)
    return DriverTimes(
        sizes,
        np.array([runs[n] for n in sizes.tolist()], np.int64),
        np.zeros(len(sizes)) if squares is None else np.array(squares),
        np.zeros(GAP_CELLS, np.int64) if gaps is None else gaps,
        disordered,
    )


def honest(seed: int, batches: int = 1, **changes):
    """Return the sample of fault-free data."""
    config = config_of(seed=seed, **changes)
    return draws.sample_of(draws.draw_columns(config, batches), config, batches)


# ------------------------------------------------------------------------------------------ gaps


def test_gap_cells_expect_what_simulated_gaps_give():
    """Means and covariances of the cells are those of 20,000 simulated fleets of four drivers."""
    runs = {2: 40, 3: 60, 5: 30}
    edges, _, expected = driver_tests.gap_cells(times_of(runs), LENGTH)
    random = np.random.default_rng(1)
    rounds = 20_000
    counts = np.zeros((rounds, len(expected)))
    for n, many in runs.items():
        for _ in range(many):
            gaps = np.diff(np.sort(random.random((rounds, n)), axis=1), axis=1) * LENGTH
            cell = np.searchsorted(edges, gaps, side="right") - 1
            for column in range(n - 1):
                np.add.at(counts, (np.arange(rounds), cell[:, column]), 1)
    error = counts.std(axis=0) / math.sqrt(rounds)
    assert (np.abs(counts.mean(axis=0) - expected) < 5 * error).all()
    # The quadratic form has the mean k - 1, and the variance of a chi-square, nearly.
    forms = []
    for row in counts[:4000].astype(np.int64):
        gaps = np.zeros(GAP_CELLS, np.int64)
        gaps[np.searchsorted(gap_edges(), edges[:-1], side="right") - 1] = row
        forms.append(driver_tests.gaps_test(times_of(runs, gaps), LENGTH).statistic)
    df = len(expected) - 1
    assert np.mean(forms) == pytest.approx(df, abs=5 * math.sqrt(2 * df / 4000))
    assert np.var(forms) == pytest.approx(2 * df, rel=0.15)


def test_the_quadratic_form_is_that_of_the_pseudo_inverse():
    """Leaving out one cell, whose number follows, gives what all cells give together."""
    sample = honest(3)
    times = sample.driver_times
    edges, observed, expected = driver_tests.gap_cells(times, LENGTH)
    k = len(observed)
    covariance = np.zeros((k, k))

    def beyond(x: float, n: int) -> float:
        return max(0.0, 1 - x / LENGTH) ** n

    for n, many in zip(times.sizes.tolist(), times.runs.tolist(), strict=True):
        if n < 2:
            continue
        for a, b in itertools.product(range(k), range(k)):
            (a0, a1), (b0, b1) = edges[a : a + 2], edges[b : b + 2]
            pa = beyond(a0, n) - beyond(a1, n)
            pb = beyond(b0, n) - beyond(b1, n)
            both = beyond(a0 + b0, n) - beyond(a1 + b0, n) - beyond(a0 + b1, n) + beyond(a1 + b1, n)
            covariance[a, b] += many * (n - 1) * ((a == b) * pa - pa * pb)
            covariance[a, b] += many * (n - 1) * (n - 2) * (both - pa * pb)
    difference = observed - expected
    wanted = difference @ np.linalg.pinv(covariance, rcond=1e-10) @ difference
    found = driver_tests.gaps_test(times, LENGTH)
    assert found.statistic == exact(wanted, 1e-6)
    assert found.df == k - 1
    assert found.n == times.gaps.sum() == observed.sum()


def test_gap_cells_are_as_fine_as_ten_expected_gaps_allow():
    """Each cell but the last ends with the first fine one that gives it ten expected gaps."""
    runs = {2: 40, 3: 60, 5: 30}
    edges, _, expected = driver_tests.gap_cells(times_of(runs), LENGTH)
    fine = gap_edges()
    for low, high in itertools.pairwise(edges[:-1]):
        for end in fine[(fine > low) & (fine <= high)]:
            within = sum(
                many * (n - 1) * ((1 - low / LENGTH) ** n - (1 - end / LENGTH) ** n)
                for n, many in runs.items()
            )
            assert (within >= 10) == (end == high)
    assert expected.sum() == exact(40 + 60 * 2 + 30 * 4)
    assert expected[-1] >= 10


@pytest.mark.parametrize(("companies", "shift"), [(2, 1.0), (100, 0.1), (100, 2.0)])
def test_gaps_take_their_p_from_the_moments_of_a_chi_square_table(companies, shift):
    """Mean and variance of X2 as Haldane (1937) gives them; both tails count alike.

    `shift` moves the counts nearer to the law, or farther away.
    """
    times = honest(3, number_of_companies=companies).driver_times
    edges, observed, expected = driver_tests.gap_cells(times, LENGTH)
    moved = np.zeros(GAP_CELLS, np.int64)
    first = np.searchsorted(gap_edges(), edges[:-1])
    moved[first] = np.round(expected + shift * (observed - expected)).astype(np.int64)
    found = driver_tests.gaps_test(replace(times, gaps=moved), LENGTH)
    k, n = len(expected), int(moved.sum())
    excess = float(np.sum(n / expected)) - k * k - 2 * k + 2
    assert (excess > 0) == (companies == 100)  # else that of the chi-square law is taken
    variance = 2 * (k - 1) + max(0.0, excess) / n
    law = scipy_stats.gamma((k - 1) ** 2 / variance, scale=variance / (k - 1))
    below, above = law.cdf(found.statistic), law.sf(found.statistic)
    assert found.p_value == exact(min(1.0, 2 * min(below, above)), 1e-6)
    assert (below < above) == (shift < 1)
    assert found.estimate == exact(math.sqrt(found.statistic / n))


def test_too_few_gaps_or_no_order_make_no_test():
    """Each reason is said, and none is a pass."""
    for times, why in (
        (times_of({1: 50}), "no driver has two events in a batch"),
        (times_of({2: 10}), "10 gaps are too few"),
        (times_of({}, disordered=4), "the events of no driver stand in the order of their times"),
    ):
        for made in (
            driver_tests.gaps_test(times, LENGTH),
            driver_tests.scatter_test(times, LENGTH),
        ):
            assert made.p_value is None
            if made.name == "gaps" or "order" in why:
                assert made.note == f"no test: {why}"
    dense = driver_tests.gaps_test(times_of({2000: 5}), 1_000_000)
    assert dense.note == "no test: 0.002 events per tick, above 0.001"


# --------------------------------------------------------------------------------------- scatter


def dirichlet_moment(m: int, powers: tuple[int, ...]) -> Fraction:
    """Return E prod s_i**a_i of m uniform spacings, exactly."""
    value = Fraction(math.factorial(m - 1), math.factorial(m - 1 + sum(powers)))
    return value * math.prod(map(math.factorial, powers))


@pytest.mark.parametrize("n", [2, 3, 6])
def test_scatter_has_the_moments_of_dirichlet_spacings(n):
    """Mean, variance and third moment of the squares equal sums over all monomials."""
    m = n + 1
    raw = []
    for power in (1, 2, 3):
        total = Fraction(0)
        for chosen in itertools.product(range(m), repeat=power):
            powers = tuple(2 * chosen.count(i) for i in range(m))
            total += dirichlet_moment(m, powers)
        raw.append(total)
    weight = Fraction(m * (m + 1), 2)
    variance = raw[1] - raw[0] ** 2
    third = raw[2] - 3 * raw[1] * raw[0] + 2 * raw[0] ** 3
    _, mean, found, skew = driver_tests.scatter_moments(times_of({n: 7}))
    assert mean == exact(float(7 * weight * raw[0]))
    assert found == exact(float(7 * weight**2 * variance))
    assert skew == exact(float(7 * weight**3 * third))
    # Moran's (1947) published variance of n points.
    assert variance == Fraction(4 * n, (n + 2) ** 2 * (n + 3) * (n + 4))


def test_scatter_takes_its_p_from_three_moments():
    """The statistic is the weighted sum, the estimate its ratio to the mean."""
    runs, squares = {3: 100, 4: 80}, [42.0, 25.0]
    times = times_of(runs, squares=squares)
    _, mean, variance, third = driver_tests.scatter_moments(times)
    statistic = 42.0 * 4 * 5 / 2 + 25.0 * 5 * 6 / 2
    found = driver_tests.scatter_test(times, LENGTH)
    assert found.statistic == exact(statistic)
    assert found.estimate == exact(statistic / mean)
    half = scipy_stats.norm.ppf(0.975) * math.sqrt(variance) / mean
    wanted = (statistic / mean - half, statistic / mean + half)
    assert found.interval == pytest.approx(wanted, rel=1e-4)
    assert found.p_value == exact(two_sided(statistic, mean, variance, third / variance**1.5), 1e-7)


def test_scatter_leaves_out_single_events_and_too_few_spacings():
    """A driver with one event says nothing of crowding; 200 spacings are the least that count."""
    with_single = driver_tests.scatter_moments(times_of({1: 500, 3: 7}, squares=[300.0, 2.5]))
    assert with_single == driver_tests.scatter_moments(times_of({3: 7}, squares=[2.5]))
    few, enough = (
        driver_tests.scatter_test(times_of({3: runs}, squares=[20.0]), LENGTH) for runs in (49, 50)
    )
    assert few.note == "no test: 196 spacings of drivers are too few"
    assert enough.p_value is not None


# --------------------------------------------------------------------------------- concentration


def test_concentration_has_the_moments_of_all_outcomes(monkeypatch):
    """Mean, variance and skewness equal those of every sequence of types of two drivers."""
    sizes = (4, 3)

    def kernel(kinds) -> float:
        same = sum(
            1 / WEIGHTS[a]
            for (i, a), (j, b) in itertools.permutations(enumerate(kinds), 2)
            if a == b
        )
        return same - len(kinds) * (len(kinds) - 1)

    values, chances = [], []
    for one in itertools.product(range(3), repeat=sizes[0]):
        for two in itertools.product(range(3), repeat=sizes[1]):
            values.append(kernel(one) + kernel(two))
            chances.append(float(np.prod(WEIGHTS[list(one)]) * np.prod(WEIGHTS[list(two)])))
    x, w = np.array(values), np.array(chances)
    assert w @ x == pytest.approx(0, abs=1e-9)
    variance = float(w @ x**2)
    skewness = float(w @ x**3) / variance**1.5
    monkeypatch.setattr(driver_tests, "MIN_PAIRS", 0.0)
    monkeypatch.setattr(driver_tests, "_MIN_TYPE_PAIRS", 0.0)
    table = np.array([[3, 1, 0], [1, 0, 2]])
    found = driver_tests.concentration_test(table, WEIGHTS)
    value = kernel([0, 0, 0, 1]) + kernel([0, 2, 2])
    assert found.statistic == exact(value / math.sqrt(variance))
    assert found.p_value == exact(two_sided(value, 0.0, variance, skewness), 1e-7)
    assert found.estimate == exact(value / (4 * 3 + 3 * 2))


def test_concentration_pools_rare_types_and_refuses_impossible_ones():
    """Rare types are one kind; an event of weight zero refutes; few pairs make no test."""
    random = np.random.default_rng(5)
    table = random.multinomial(20, [0.9, 0.099, 0.0005, 0.0005], size=200)
    found = driver_tests.concentration_test(table, np.array([0.9, 0.099, 0.0005, 0.0005]))
    assert found.note == "rare types together: 3 kinds" or found.note == (
        "rare types together: 2 kinds"
    )
    broken = np.array([[3, 1], [2, 0]])
    assert driver_tests.concentration_test(broken, np.array([1.0, 0.0])).p_value == 0
    few = driver_tests.concentration_test(np.array([[2, 1], [1, 1]]), np.array([0.5, 0.5]))
    assert few.p_value is None
    assert few.note == "no test: 4 pairs of a driver's events are too few"


def test_concentration_asks_for_a_hundred_pairs_and_five_of_the_rarest_type():
    """One pair fewer makes no test; a type with four expected pairs is taken with the next one."""
    pair = np.array([1, 1])
    for drivers, note in ((99, "no test: 99 pairs of a driver's events are too few"), (100, None)):
        found = driver_tests.concentration_test(np.tile(pair, (drivers, 1)), np.array([0.5, 0.5]))
        assert found.note == note
        assert (found.p_value is None) == (note is not None)
    weights = np.array([0.9, 0.09, 0.01])
    for pairs, kinds in ((40_000, 2), (60_000, 3)):
        table = np.tile(np.array([2, 0, 0]), (pairs, 1))
        pooled = driver_tests.concentration_test(table, weights).note
        assert pooled == (f"rare types together: {kinds} kinds" if kinds < 3 else None)


def test_the_estimate_of_concentration_scatters_as_told():
    """The standard deviation of 2,000 simulated fleets."""
    random = np.random.default_rng(2)
    sizes = random.integers(2, 9, 60)
    found = []
    for _ in range(2000):
        table = np.array([random.multinomial(n, WEIGHTS) for n in sizes])
        found.append(driver_tests.concentration_test(table, WEIGHTS).estimate)
    told = driver_tests.concentration_deviation(table, len(WEIGHTS))
    assert np.std(found) == pytest.approx(told, rel=0.08)


# ---------------------------------------------------------------------------------------- others


def test_crowding_of_sums_is_crowding_of_rows():
    """Rows that are known only by their sums give the same as the rows themselves."""
    random = np.random.default_rng(9)
    counts = random.multinomial(random.integers(2, 9, 300), np.full(20, 1 / 20))
    totals = counts.sum(axis=1)
    shared = (counts * (counts - 1) // 2).sum(axis=1)
    sizes = np.unique(totals)
    grouped = moments.crowding_of(
        20,
        sizes,
        np.array([(totals == n).sum() for n in sizes]),
        np.array([shared[totals == n].sum() for n in sizes]),
    )
    whole = moments.crowding_test(counts)
    assert grouped.p_value == exact(whole.p_value)
    assert grouped.statistic == exact(whole.statistic)
    assert grouped.df == whole.df
