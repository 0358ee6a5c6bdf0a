"""Tests of the battery: its sample, its statistics against slow exact twins, and its rules.

A twin finds the moments of a statistic by going through every outcome, and takes the tails from
`scipy.stats.pearson3`; nothing of the code under test is used for it.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from analysis import config_of
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from support import quick_and_full

from fleetsim import stats
from fleetsim.stats import controls, draws, effects, laws, moments, time_tests
from fleetsim.stats.battery import BATTERY, EntryKind, entries
from fleetsim.stats.effects import Law
from fleetsim.stats.judged import run_battery
from fleetsim.stats.order import TIME_CELLS
from fleetsim.stats.sample import COUNT_CLASSES, Columns, make_sample, number_groups

LAW = Law(rate=2.0, weights=(0.5, 0.3, 0.2))
MINUTES = 15 * 60 * 1_000_000  # [microseconds]


def exact(value: float, rel: float = 1e-9):
    """Return `value` to be compared to a relative tolerance alone."""
    return pytest.approx(value, rel=rel, abs=0)


def columns_of(rows) -> Columns:
    """Return columns from rows of (batch, driver, kind, offset)."""
    table = np.array(list(rows), np.int64).reshape(-1, 4)
    return Columns(*(table[:, i].copy() for i in range(4)))


def sample_from(rows, *, batches=1, drivers=6, types=3, per_company=2, length=MINUTES):
    """Return the sample of rows of (batch, driver, kind, offset)."""
    return make_sample(
        columns_of(rows),
        n_batches=batches,
        n_drivers=drivers,
        n_types=types,
        drivers_per_company=per_company,
        length_us=length,
    )


def two_sided(value, mean, variance, skewness, half_step=0.0) -> float:
    """Return the central two-sided p by SciPy's Pearson type III law."""
    law = scipy_stats.pearson3(skewness, loc=mean, scale=math.sqrt(variance))
    return min(1.0, 2 * min(law.cdf(value + half_step), law.sf(value - half_step)))


def spread(values, weights=None) -> tuple[float, float, float]:
    """Return mean, variance and skewness of equally likely (or weighted) outcomes."""
    x = np.array(values, float)
    w = np.full(len(x), 1 / len(x)) if weights is None else np.array(weights)
    mean = float(w @ x)
    variance = float(w @ (x - mean) ** 2)
    return mean, variance, float(w @ (x - mean) ** 3) / variance**1.5


# ------------------------------------------------------------------------------------ the sample


def slow_sample(rows, batches, drivers, types, per_company, length) -> dict:
    """Return the fields of a sample by loops over plain Python numbers."""
    counts = [[0] * drivers for _ in range(batches)]
    type_counts = [[0] * types for _ in range(batches)]
    by_company = [[0] * (drivers // per_company) for _ in range(types)]
    by_time = [[0] * TIME_CELLS for _ in range(types)]
    outside, inside = 0, []
    for batch, driver, kind, offset in rows:
        counts[batch][driver] += 1
        type_counts[batch][kind] += 1
        by_company[kind][driver // per_company] += 1
        if 0 <= offset < length:
            by_time[kind][offset * TIME_CELLS // length] += 1
            inside.append((batch, driver, kind, offset))
        else:
            outside += 1
    pairs = [[0] * types for _ in range(types)]
    for batch, driver in itertools.product(range(batches), range(drivers)):
        mine = sorted((o, k) for b, d, k, o in inside if (b, d) == (batch, driver))
        often = Counter(o for o, _ in mine)
        for (o1, k1), (o2, k2) in itertools.pairwise(mine):
            if often[o1] == often[o2] == 1:
                pairs[k1][k2] += 1
    by_driver = [[0] * types for _ in range(drivers)]
    by_number = [[0] * per_company for _ in range(types)]
    for _, driver, kind, _ in rows:
        by_driver[driver][kind] += 1
        by_number[kind][driver % per_company] += 1
    by_count = [[0] * types for _ in range(COUNT_CLASSES)]
    for batch, driver, kind, _ in rows:
        mean = sum(counts[batch]) / drivers
        step = math.floor(2 * (counts[batch][driver] - mean) / math.sqrt(mean))
        by_count[max(-6, min(6, step)) + 6][kind] += 1
    ties = [0] * batches
    across = 0
    for (b1, _, _, o1), (b2, _, _, o2) in itertools.combinations(inside, 2):
        if o1 == o2 and b1 == b2:
            ties[b1] += 1
        elif o1 == o2:
            across += 1
    return {
        "counts": counts,
        "type_counts": type_counts,
        "types_by_company": by_company,
        "types_by_time": by_time,
        "type_pairs": pairs,
        "types_by_driver": by_driver,
        "types_by_number": by_number,
        "types_by_count": by_count,
        "sizes": [sum(b == batch for b, *_ in inside) for batch in range(batches)],
        "outside": outside,
        "ties": ties,
        "ties_across": across,
    }


def fields_of(sample) -> dict:
    """Return the fields of a sample as plain lists."""
    return {
        "counts": sample.counts.tolist(),
        "type_counts": sample.type_counts.tolist(),
        "types_by_company": sample.types_by_company.tolist(),
        "types_by_time": sample.types_by_time.tolist(),
        "type_pairs": sample.type_pairs.tolist(),
        "types_by_driver": sample.types_by_driver.tolist(),
        "types_by_number": sample.types_by_number.tolist(),
        "types_by_count": sample.types_by_count.tolist(),
        "sizes": sample.times.sizes.tolist(),
        "outside": sample.outside,
        "ties": sample.times.ties.tolist(),
        "ties_across": sample.times.ties_across,
    }


events = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 2), st.integers(-1, 25)),
    max_size=40,
)


@given(rows=events)
def test_sample_equals_the_slow_twin(rows):
    """Every field is what loops over the events count, ties and events outside included."""
    sample = sample_from(rows, batches=2, length=25)
    assert fields_of(sample) == slow_sample(rows, 2, 6, 3, 2, 25)


@given(rows=events, random=st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows, random):
    """Shuffled rows give the same sample, and so the same tests."""
    mixed = list(rows)
    random.shuffle(mixed)
    one, two = (sample_from(r, batches=2, length=25) for r in (rows, mixed))
    assert fields_of(one) == fields_of(two)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((2, 0, 0, 0), r"batch runs from 2 to 2, must be >= 0 and < 2"),
        ((0, 6, 0, 0), r"driver runs from 6 to 6, must be >= 0 and < 6"),
        ((0, 0, -1, 0), r"kind runs from -1 to -1, must be >= 0 and < 3"),
    ],
)
def test_columns_out_of_range_are_refused(row, message):
    """An index that names nobody is an error, not an event of somebody else."""
    with pytest.raises(ValueError, match=message):
        sample_from([row], batches=2)


def test_columns_of_other_shape_or_type_are_refused():
    """Columns must be whole numbers of one length, and companies whole."""
    sizes = {"n_batches": 1, "n_drivers": 4, "n_types": 1, "drivers_per_company": 2}
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="driver has shape"):
        make_sample(Columns(one, two, one, one), length_us=9, **sizes)
    with pytest.raises(ValueError, match="offset_us has type float64"):
        make_sample(Columns(one, one, one, one / 2), length_us=9, **sizes)
    with pytest.raises(ValueError, match="multiple of 3 per company"):
        make_sample(
            Columns(one, one, one, one), length_us=9, **(sizes | {"drivers_per_company": 3})
        )
    with pytest.raises(ValueError, match="length_us is 0, must be >= 1"):
        make_sample(Columns(one, one, one, one), length_us=0, **sizes)


def test_totals_are_sums_of_the_counts():
    """Company and slot totals split the drivers in fleet order."""
    sample = sample_from([(0, d, 0, 5 * d) for d in (0, 1, 1, 4, 5)])
    assert sample.company_totals.tolist() == [[3, 0, 2]]
    assert sample.driver_number_totals.tolist() == [[2, 3]]
    assert sample.n_events == 5


# ------------------------------------------------------------------------- statistics and twins


@pytest.mark.parametrize("skewness", [-1.3, -0.1, 1e-7, 0.4, 2.5])
@pytest.mark.parametrize("z", [-1.9, -0.3, 0.0, 1.1, 4.0])
def test_gamma_tails_are_pearsons_type_three(skewness, z):
    """Both tails equal SciPy's, on either side of the support's end."""
    law = scipy_stats.pearson3(skewness, loc=7.0, scale=2.0)
    below, above = laws.gamma_tails(7 + 2 * z, 7.0, 4.0, skewness)
    assert below == pytest.approx(law.cdf(7 + 2 * z), rel=1e-6, abs=1e-14)
    assert above == pytest.approx(law.sf(7 + 2 * z), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("df", [1, 4, 99])
def test_gamma_tails_of_chi_square_moments_are_chi_square(df):
    """Mean df, variance 2 df and skewness sqrt(8 / df) give the chi-square law itself."""
    below, above = laws.gamma_tails(1.3 * df, df, 2 * df, math.sqrt(8 / df))
    assert below == exact(scipy_stats.chi2.cdf(1.3 * df, df))
    assert above == exact(scipy_stats.chi2.sf(1.3 * df, df))


def test_crowding_has_the_moments_of_all_outcomes():
    """The three moments of D, over two batches, equal those of every way to place the events."""
    counts = np.array([[4, 1, 0], [1, 2, 2]])
    cells, sizes = 3, (5, 5)

    def dispersion(x):
        mean = sum(x) / cells
        return sum((v - mean) ** 2 for v in x) / mean

    single = [
        dispersion([outcome.count(c) for c in range(cells)])
        for outcome in itertools.product(range(cells), repeat=sizes[0])
    ]
    values = [a + b for a in single for b in single]
    mean, variance, skewness = spread(values)
    observed = sum(dispersion(row) for row in counts.tolist())
    result = moments.crowding_test(counts)
    assert result.statistic == exact(observed)
    assert result.df == 4
    assert result.estimate == exact(observed / 4)
    assert result.p_value == exact(two_sided(observed, mean, variance, skewness, cells / 5))


def test_crowding_of_sparse_events_counts_pairs():
    """Ten events on a thousand drivers: a pair has probability 4.5 %, and is no outlier."""
    counts = np.zeros((1, 1000), np.int64)
    counts[0, :8] = 1
    counts[0, 8] = 2
    result = moments.crowding_test(counts)
    assert result.p_value == exact(2 * scipy_stats.poisson.sf(0, 45 / 1000))
    assert stats.dispersion_test(counts[0]).p_value < 1e-4


def test_crowding_of_dense_events_is_fishers_dispersion():
    """At 3500 events on 1000 drivers the exact moments and chi-square agree to two digits."""
    counts = np.random.default_rng(5).poisson(3.5, 1000)
    result, fisher = moments.crowding_test(counts[None, :]), stats.dispersion_test(counts)
    assert result.statistic == exact(fisher.statistic)
    assert result.interval == pytest.approx(fisher.interval)
    assert result.p_value == pytest.approx(fisher.p_value, abs=0.01)


def test_goodness_has_the_moments_of_all_outcomes():
    """Mean and variance of X2 equal those of every sequence of events, with their chances."""
    p = np.array([0.5, 0.3, 0.2])
    n = 6
    # Expectations below 5 are pooled; the rule is lifted here to reach the formula with few events.
    outcomes = list(itertools.product(range(3), repeat=n))
    chances = [float(np.prod(p[list(outcome)])) for outcome in outcomes]

    def pearson(x):
        return sum((a - n * b) ** 2 / (n * b) for a, b in zip(x, p, strict=True))

    values = [pearson([outcome.count(c) for c in range(3)]) for outcome in outcomes]
    mean, variance, _ = spread(values, chances)
    observed = np.array([[0, 0, 6], [0, 1, 5]])
    statistic = sum(pearson(row) for row in observed.tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "MIN_EXPECTATION", 0.0)
        result = moments.goodness_test(observed, p)
    assert mean == exact(2.0)
    assert result.statistic == exact(statistic)
    assert result.df == 4
    skewness = 2 * math.sqrt(2 * variance) / (2 * mean)
    assert result.p_value == exact(two_sided(statistic, 2 * mean, 2 * variance, skewness, 3 / n))


def test_goodness_pools_rare_cells_by_expectation():
    """Cells below 5 become one; what was seen in them has no say in it."""
    p = np.array([0.9, 0.06, 0.03, 0.01])
    result = moments.goodness_test(np.array([[93, 7, 0, 0]]), p)
    same = moments.goodness_test(np.array([[93, 7]]), np.array([0.9, 0.1]))
    # 100 events: 3 and 1 are below 5, 4 together as well, so 6 joins them.
    assert result.df == 1
    assert result.p_value == same.p_value


def test_an_event_in_an_impossible_cell_refutes():
    """Weight zero and an event: p is 0; no event: the cell is not there."""
    p = np.array([0.5, 0.5, 0.0])
    assert moments.goodness_test(np.array([[50, 49, 1]]), p).p_value == 0.0
    assert moments.goodness_test(np.array([[50, 50, 0]]), p).df == 1


def test_association_has_the_moments_of_all_permutations():
    """Mean and variance of X2 given the margins equal those of every order of the columns."""
    rows, columns = [0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 0, 1, 0, 0]
    table = np.zeros((3, 2), np.int64)
    np.add.at(table, (rows, columns), 1)

    def pearson(labels):
        seen = np.zeros((3, 2))
        np.add.at(seen, (rows, labels), 1)
        wanted = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / 7
        return float(((seen - wanted) ** 2 / wanted).sum())

    mean, variance, _ = spread([pearson(list(p)) for p in itertools.permutations(columns)])
    result = moments.association_test(table)
    assert result.statistic == exact(pearson(columns))
    assert mean == exact(7 / 6 * 2)
    skewness = 2 * math.sqrt(variance) / mean
    law = scipy_stats.pearson3(skewness, loc=mean, scale=math.sqrt(variance))
    # Only evenness is corrected for continuity.
    smaller = min(law.cdf(result.statistic + 6 / 7), law.sf(result.statistic))
    assert result.p_value == exact(min(1.0, 2 * smaller))
    assert result.estimate == exact(math.sqrt(result.statistic / 7))


def test_association_agrees_with_independence_where_the_table_is_full():
    """With large expectations X2 is the same and p is twice the upper tail of chi-square."""
    table = np.random.default_rng(3).poisson(200, (3, 12))
    result, usual = moments.association_test(table), stats.independence_test(table)
    assert result.statistic == exact(usual.statistic)
    assert result.estimate == exact(usual.estimate)
    one_sided = usual.p_value
    assert result.p_value == pytest.approx(2 * min(one_sided, 1 - one_sided), abs=0.01)


def test_neighbours_have_the_moments_of_all_permutations():
    """Mean and variance of Moran's I equal those of every order of the drivers."""
    counts = [0, 3, 1, 1, 5, 2, 0]
    n = len(counts)

    def moran(x):
        y = np.array(x) - np.mean(x)
        return float((y[1:] * y[:-1]).sum() / (n - 1) / (y**2).mean())

    mean, variance, _ = spread([moran(p) for p in itertools.permutations(counts)])
    assert mean == exact(-1 / (n - 1))
    z = (moran(counts) - mean) / math.sqrt(variance)
    result = moments.neighbour_test(np.array([counts, counts]))
    assert result.statistic == exact(math.sqrt(2) * z)
    assert result.estimate == exact(moran(counts))
    skewness = 2 * float(scipy_stats.skew(counts)) ** 2 / math.sqrt(n - 1) / 2**1.5
    assert result.p_value == exact(two_sided(math.sqrt(2) * z, 0, 1, skewness))


def test_pair_correlation_has_the_moments_of_all_permutations():
    """Variance and skewness of r equal those of every order of one batch's drivers."""
    a, b = [0, 3, 1, 1, 5, 2, 0], [1, 0, 0, 4, 7, 1, 2]
    values = [float(np.corrcoef(a, p)[0, 1]) for p in itertools.permutations(b)]
    mean, variance, skewness = spread(values)
    assert mean == pytest.approx(0, abs=1e-12)
    result = moments.pair_correlation_test(np.array([a, b]))
    assert result.estimate == exact(float(np.corrcoef(a, b)[0, 1]))
    assert result.p_value == exact(two_sided(result.estimate, 0, variance, skewness))


def test_the_pair_that_decides_is_named_and_paid_for():
    """Among many batches the repeated one is found, at the price of all pairs."""
    counts = np.random.default_rng(1).poisson(3.5, (300, 50))
    counts[290] = counts[17]
    result = moments.pair_correlation_test(counts)
    assert result.estimate == pytest.approx(1)
    assert result.note == "batches 17 and 290 (from 0) of 44850 pairs"
    three = np.array([[0, 3, 1, 1, 5, 2, 0], [1, 0, 0, 4, 7, 1, 2], [2, 2, 0, 1, 3, 0, 4]])
    single = [moments.pair_correlation_test(three[[i, j]]) for i, j in ((0, 1), (0, 2), (1, 2))]
    best = min(result.p_value for result in single)
    assert moments.pair_correlation_test(three).p_value == exact(1 - (1 - best) ** 3)


@pytest.mark.parametrize(("n", "mean"), [(48, 3500.0), (1000, 35.0), (100, 350.0)])
def test_the_fit_of_large_means_is_rejected_as_often_as_the_level_says(n, mean):
    """Merged cells hold the level; with single ones 1 % of honest data have p < 0.001."""
    random = np.random.default_rng(n)
    ends, chances = moments.fit_cells(n, mean)
    assert len(ends) + 1 == len(chances)
    assert chances.sum() == pytest.approx(1)
    assert n * chances.min() >= 5
    upto = scipy_stats.poisson.cdf(ends, mean)
    np.testing.assert_allclose(np.cumsum(chances)[:-1], upto, rtol=1e-9)
    p = np.array([moments.fit_test(random.poisson(mean, n), mean).p_value for _ in range(2000)])
    for level in (0.05, 0.01, 0.001):
        low, high = scipy_stats.binom.interval(1 - 1e-6, 2000, level)
        assert low <= (p < level).sum() <= high


def test_the_fit_is_the_public_one_where_no_cell_is_rare():
    """At the baseline's rate nothing is merged; too few counts make no test in either."""
    counts = np.random.default_rng(3).poisson(3.5, 1000)
    assert moments.fit_test(counts, 3.5) == stats.poisson_fit_test(counts, 3.5)
    assert moments.fit_cells(4, 3.5) is None
    assert moments.fit_test(counts[:4], 3.5).p_value is None
    assert moments.fit_test(counts[:4] + 1, 0.0).p_value == 0
    # Single cells give p = 1 for these: none of them expects a count.
    assert moments.fit_test(np.full(20, 3), 1e9).p_value < 1e-12


def test_totals_have_the_moments_of_the_poisson_law():
    """Mean and variance of (N - mean)**2 / mean equal sums over the law, the mean being known."""
    mean = 6.5
    n = np.arange(80)
    chances = scipy_stats.poisson.pmf(n, mean)
    centre, variance, _ = spread((n - mean) ** 2 / mean, chances / chances.sum())
    totals = np.array([9, 4, 12])
    statistic = float(((totals - mean) ** 2 / mean).sum())
    skewness = 2 * math.sqrt(3 * variance) / (3 * centre)
    result = moments.totals_test(totals, mean)
    assert result.statistic == exact(statistic)
    assert result.p_value == exact(two_sided(statistic, 3 * centre, 3 * variance, skewness))
    assert result.estimate == exact(statistic / 3)


def test_totals_that_are_all_alike_fail_but_not_beyond_reason():
    """Eight totals of exactly the mean fail; p is at least the chance of the most even outcome."""
    assert moments.totals_test(np.full(8, 3500), 3500.0).p_value < 1e-15
    two = moments.totals_test(np.full(2, 3500), 3500.0).p_value
    assert two == exact(2 * scipy_stats.poisson.pmf(3500, 3500) ** 2, 1e-8)


def test_totals_about_the_known_mean_see_a_common_shift():
    """Totals with a proper spread about a wrong mean fail: the mean is not estimated."""
    totals = np.array([3500, 3560, 3440, 3520, 3480, 3580, 3420, 3500])
    assert moments.totals_test(totals, 3500.0).p_value > 0.05
    assert moments.totals_test(totals + 200, 3500.0).p_value < 1e-6


def test_coincidences_are_poisson():
    """The number of equal pairs is compared with both tails of the exact law."""
    result = time_tests.coincidence_test(9, 3e9, 10**9, 1e-4)
    assert result.p_value == exact(2 * scipy_stats.poisson.sf(8, 3.0))
    low = time_tests.coincidence_test(0, 9e9, 10**9, 1e-4)
    assert low.p_value == exact(2 * scipy_stats.poisson.pmf(0, 9.0))
    crowded = time_tests.coincidence_test(9, 3e9, 10**9, 1.1e-3)
    assert crowded.p_value is None
    assert "above 0.001" in (crowded.note or "")


@pytest.mark.parametrize("gap", range(6))
def test_the_gap_at_the_ends_has_its_exact_law(gap):
    """P(larger gap >= g) equals the share of all ways to place three ticks of six."""
    outcomes = list(itertools.product(range(6), repeat=3))
    share = sum(max(min(o), 5 - max(o)) >= gap for o in outcomes) / len(outcomes)
    assert time_tests.longest_gap_sf(gap / 6, 3) == pytest.approx(min(share, 2), rel=1e-12)


def test_spacings_add_up_over_batches():
    """One batch gives Moran's own test; two add up T, its mean and its variance."""
    random = np.random.default_rng(8)
    parts = [np.sort(random.integers(MINUTES, size=n)) for n in (300, 120)]
    alone = [stats.spacing_test(part, MINUTES, 1) for part in parts]
    moran, sizes = np.array([result.statistic for result in alone]), np.array([300, 120])
    one = time_tests.spacings_test(moran[:1], sizes[:1], MINUTES)
    assert one.p_value == exact(alone[0].p_value)
    both = time_tests.spacings_test(moran, sizes, MINUTES)
    assert both.statistic == exact(moran.sum())
    from scipy.special import digamma, polygamma

    m = np.array([301, 121])
    mean = float((2 * m * (digamma(m) - np.log(m) + np.euler_gamma)).sum())
    variance = float((4 * m**2 * (polygamma(1, 1) / m - polygamma(1, m))).sum())
    skewness = 2 * math.sqrt(variance) / mean
    assert both.p_value == exact(two_sided(both.statistic, mean, variance, skewness), 1e-7)
    empty = time_tests.spacings_test(np.append(moran, math.nan), np.append(sizes, 0), MINUTES)
    assert empty == both
    crowded = time_tests.spacings_test(moran, sizes, 299_999)
    assert crowded.p_value is None
    assert "events per tick" in (crowded.note or "")
    assert time_tests.spacings_test(np.array([math.inf]), sizes[:1], MINUTES).p_value == 0


@pytest.mark.parametrize(("length", "period", "cells"), [(40, 7, 3), (23, 23, 5), (12, 5, 5)])
def test_cells_hold_the_ticks_that_counting_finds(length, period, cells):
    """The probability of a cell is its share of all ticks, in a period that is cut short too."""
    seen = Counter(t % period * cells // period for t in range(length))
    expected = [seen[c] / length for c in range(cells)]
    assert time_tests.cell_probabilities(length, period, cells) == pytest.approx(
        expected, abs=1e-15
    )


# ------------------------------------------------------------------------------------ the battery


def test_names_are_unique_and_every_test_of_evidence_has_its_control():
    """A new entry needs a name of its own and a fault that it is shown to catch."""
    names = [entry.name for entry in BATTERY]
    assert len(set(names)) == len(names)
    covered = {test for control in controls.CONTROLS for test in control.caught_by}
    needed = {entry.name for entry in BATTERY if entry.kind is not EntryKind.EQUIVALENCE}
    assert covered == needed


def test_honest_baseline_passes_and_every_row_says_what_it_sees():
    """Seed 42 passes all tests; each row has a sentence without unfilled places."""
    config = config_of()
    sample = draws.sample_of(draws.draw_columns(config, 2), config, 2)
    rows = run_battery(sample, effects.law_of(config))
    assert {row.verdict for row in rows} == {"pass"}
    assert [row.entry for row in rows] == list(BATTERY)
    for row in rows:
        assert "{" not in row.sentence
        assert "It does not see" in row.sentence


def test_holm_runs_over_the_evidence_alone():
    """Equivalence and structure stand outside of the family; adjusted values are those of stats."""
    config = config_of()
    sample = draws.sample_of(draws.draw_columns(config), config)
    rows = run_battery(sample, effects.law_of(config))
    family = [row for row in rows if row.entry.kind is EntryKind.EVIDENCE]
    p = [row.result.p_value for row in family]
    assert [row.p_holm for row in family] == stats.holm(p).tolist()
    assert [row.p_bh for row in family] == stats.benjamini_hochberg(p).tolist()
    assert {row.p_holm for row in rows if row.entry.kind is not EntryKind.EVIDENCE} == {None}


def test_one_batch_leaves_the_tests_between_batches_out():
    """What needs two batches is not made on one, and is not listed as passed."""
    assert [e.name for e in entries(1)] == [e.name for e in BATTERY if e.batches == 1]
    sample = sample_from([(0, d % 6, d % 3, 1000 * d) for d in range(12)])
    assert len(run_battery(sample, LAW)) == len(entries(1))


def test_no_event_is_never_a_pass_of_what_was_not_seen():
    """Of an empty batch only the counts are judged; all else is inconclusive."""
    config = config_of()
    sample = draws.sample_of(columns_of([]), config)
    verdicts = {row.entry.name: row.verdict for row in run_battery(sample, effects.law_of(config))}
    assert verdicts.pop("event_count") == "fail"
    assert verdicts.pop("events_per_driver") == "fail"
    assert set(verdicts.values()) == {"inconclusive"}


def test_rate_zero_and_no_event_leave_nothing_to_doubt():
    """An empty batch of rate 0 has the count it must have; no other test is made."""
    sample = sample_from([], batches=2)
    rows = run_battery(sample, Law(0.0, LAW.weights))
    verdicts = {row.entry.name: row.verdict for row in rows}
    assert verdicts.pop("event_count") == "pass"
    assert set(verdicts.values()) == {"inconclusive"}
    some = run_battery(sample_from([(0, 0, 0, 5)], batches=2), Law(0.0, LAW.weights))
    failed = {row.entry.name for row in some if row.verdict == "fail"}
    assert {"event_count", "events_per_driver", "batch_totals"} <= failed


def test_a_single_event_outside_fails_whatever_else_is_tested():
    """Structure needs no adjustment: one timestamp at the interval's end is enough."""
    config = config_of()
    columns = draws.draw_columns(config)
    columns.offset_us[-1] = config.interval_us
    rows = run_battery(draws.sample_of(columns, config), effects.law_of(config))
    assert [row.entry.name for row in rows if row.verdict == "fail"] == ["event_times_inside"]


EDGES = {
    "no event": ([], {}),
    "no driver": ([], {"drivers": 0}),
    "one event": ([(0, 3, 1, 77)], {}),
    "two events at once": ([(0, 3, 1, 77), (0, 3, 2, 77)], {}),
    "one driver": ([(b, 0, 0, 9 * b + 1) for b in (0, 1, 1)], {"drivers": 1, "per_company": 1}),
    "one company": ([(0, d % 6, d % 3, 500 * d) for d in range(30)], {"per_company": 6}),
    "one type": ([(d % 2, d % 6, 0, 500 * d) for d in range(30)], {"types": 1}),
    "weight zero": ([(d % 2, d % 6, d % 2, 500 * d) for d in range(30)], {"types": 4}),
    "one microsecond": ([(d % 2, d % 6, d % 3, 0) for d in range(30)], {"length": 1}),
    "two microseconds": ([(d % 2, d % 6, d % 3, d % 2) for d in range(30)], {"length": 2}),
    "a second": ([(d % 2, d % 6, d % 3, 999 * d) for d in range(30)], {"length": 10**6}),
    "all in one tick": ([(d % 2, d % 6, d % 3, 5) for d in range(300)], {}),
    "all outside": ([(d % 2, d % 6, d % 3, -5) for d in range(300)], {}),
    "one driver has all": ([(d % 2, 2, d % 3, 999 * d) for d in range(300)], {}),
}


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("rate", [0.0, 0.01, 2.5])
def test_the_battery_stands_every_edge(case, rate):
    """No case stops a test; each p-value is a probability or is missing with a reason."""
    rows, values = EDGES[case]
    types = values.get("types", 3)
    weights = {1: (1.0,), 3: LAW.weights, 4: (0.5, 0.5, 0.0, 0.0)}[types]
    for row in run_battery(sample_from(rows, batches=2, **values), Law(rate, weights)):
        p = row.result.p_value
        assert p is None or 0 <= p <= 1
        assert (p is None) == (row.result.note or "").startswith("no test: ")
        assert p is not None or row.verdict == "inconclusive"
        assert row.sentence.endswith(".")


@given(rows=events)
def test_p_values_are_probabilities_on_any_data(rows):
    """Whatever the events, no test gives a number outside [0, 1]."""
    sample = sample_from(rows, batches=2, length=25)
    for entry in BATTERY:
        p = entry.make(sample, LAW).p_value
        assert p is None or 0 <= p <= 1


def test_bad_arguments_are_refused():
    """A level that is none, or a law of another vocabulary, is an error."""
    sample = sample_from([])
    with pytest.raises(ValueError, match="alpha is 1, must be > 0 and < 1"):
        run_battery(sample, LAW, alpha=1)
    with pytest.raises(ValueError, match="the law has 2 types, the sample 3"):
        run_battery(sample, Law(1.0, (0.5, 0.5)))


def test_tied_events_of_a_driver_have_no_order():
    """Where all events share one tick no pair of types is counted: their order is no evidence."""
    sample = sample_from([(0, d % 6, d % 3, 0) for d in range(60)], length=1)
    assert sample.type_pairs.sum() == 0


def test_rare_types_are_pooled_in_the_sequence():
    """Types too rare for an expected pair are joined by weight; the rest keeps its cells."""
    random = np.random.default_rng(2)
    weights = (0.9, 0.09, 0.009, 0.0009, 0.0001)
    kinds = random.choice(5, 4000, p=weights)
    rows = [(0, i % 6, k, 1000 * i) for i, k in enumerate(kinds.tolist())]
    sample = sample_from(rows, types=5)
    entry = next(e for e in BATTERY if e.name == "types_in_sequence")
    assert entry.make(sample, Law(3.5, weights)).df == 1
    even = [(0, i % 6, int(k), 1000 * i) for i, k in enumerate(random.choice(5, 1000))]
    assert entry.make(sample_from(even, types=5), Law(3.5, (0.2,) * 5)).df == 16


# --------------------------------------------------------------------------------------- effects


def effect_of(name: str, sample, law, level=0.01) -> float:
    """Return the effect that an entry gives for its own result."""
    entry = next(e for e in BATTERY if e.name == name)
    found = entry.effect(sample, law, entry.make(sample, law), level)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def honest():
    """Return the sample of two baseline batches, and its law."""
    config = config_of()
    sample = draws.sample_of(draws.draw_columns(config, 2), config, 2)
    return sample, effects.law_of(config)


def test_the_margin_effect_is_where_closeness_is_shown_nine_times_in_ten(honest):
    """Summed over the law, p < level has probability .9 at the effect, on the worse side."""
    sample, law = honest
    effect = effect_of("event_count_within_margin", sample, law)
    counts = np.arange(6000, 8000)
    shown = np.array(
        [stats.poisson_equivalence_test(n, 7000, 0.1).p_value < 0.01 for n in counts.tolist()]
    )
    chances = [
        scipy_stats.poisson.pmf(counts, 7000 * (1 + side * effect))[shown].sum() for side in (-1, 1)
    ]
    # Counts are whole: the chance at the effect differs from .9 by less than one count's.
    assert min(chances) == pytest.approx(0.9, abs=1e-6)


def test_the_gap_effect_is_the_critical_gap(honest):
    """The share left empty at one end is the gap whose p-value is the level."""
    sample, law = honest
    gap = effect_of("event_times_ends", sample, law)
    assert time_tests.longest_gap_sf(gap, sample.n_events) == exact(0.01)


@quick_and_full("runs", 50, 200)
def test_the_distance_effect_is_caught_at_least_nine_times_in_ten(honest, runs):
    """Times that pile up half of their share at the middle are caught as often as stated."""
    sample, law = honest
    distance = effect_of("event_times_uniform", sample, law)
    random, n = np.random.default_rng(4), sample.n_events
    caught = 0
    for _ in range(runs):
        u = random.random(n)
        # A share 2 d of events drawn from the first half only: F departs by d at one half.
        moved = random.random(n) < 2 * distance
        u[moved] /= 2
        caught += stats.uniformity_test(u, 1.0).p_value < 0.01
    assert caught >= scipy_stats.binom.ppf(1e-7, runs, 0.9)  # 155 of 200


def test_the_tie_effect_counts_pairs_beside_chance(honest):
    """The stated number of extra pairs is rejected; one pair alone need not be."""
    sample, law = honest
    extra = effect_of("event_times_ties", sample, law)
    mean = sum(n * (n - 1) / 2 for n in sample.totals.tolist()) / sample.length_us
    assert 2 * scipy_stats.poisson.sf(extra - 1, mean) < 0.01
    assert 2 * scipy_stats.poisson.sf(extra - 2, mean) >= 0.01


def test_chi_square_effects_have_the_power_of_the_noncentral_law(honest):
    """At the stated w or V the noncentral law is beyond the critical value 9 times in 10."""
    sample, law = honest
    n, pairs = sample.n_events, int(sample.type_pairs.sum())
    for name, size, df, level, smaller in (
        ("event_types", n, 2, 0.01, 1),
        ("event_times_cells", n, 49, 0.005, 1),
        ("types_by_company", n, 198, 0.005, 2),
        ("types_in_sequence", pairs, 4, 0.005, 2),
    ):
        shift = size * smaller * effect_of(name, sample, law) ** 2
        critical = scipy_stats.chi2.isf(level, df)
        assert scipy_stats.ncx2.sf(critical, df, shift) == pytest.approx(0.9, abs=1e-6), name


def test_correlation_effects_have_the_power_of_the_normal_law(honest):
    """At the stated correlation z is beyond the critical value 9 times in 10, pairs paid for."""
    _, law = honest
    config = config_of()
    four = draws.sample_of(draws.draw_columns(config, 4), config, 4)
    for name, products, looks in (
        ("driver_neighbours", 4 * 999, 1),
        ("batch_pairs", 999, 6),
    ):
        z = effect_of(name, four, law) * math.sqrt(products)
        critical = scipy_stats.norm.isf(0.005 / looks)
        assert scipy_stats.norm.sf(critical - z) == pytest.approx(0.9, abs=1e-9), name


def test_fit_power_is_the_level_where_nothing_is_wrong():
    """A ratio of almost 1 is caught as often as the level says; a larger one more often."""
    assert effects.fit_power(1000, 3.5, 1 + 1e-7, 0.03) == pytest.approx(0.03, rel=1e-4)
    powers = [effects.fit_power(1000, 3.5, ratio, 0.03) for ratio in (1.1, 1.2, 1.3)]
    assert powers == sorted(powers)


def test_trend_power_is_what_simulation_finds():
    """Of 600 streams with a slope of .22 as many are caught as computed, within 4 errors."""
    random, n, slope = np.random.default_rng(9), 300, 0.22
    caught = 0
    for _ in range(600):
        u = random.random(n)
        # The later of two uniforms has the density 2 u; the mixture is 1 + slope (2 u - 1).
        late = random.random(n) < slope
        u[late] = np.maximum(u[late], random.random(int(late.sum())))
        caught += stats.edge_test(u, 1.0).p_value < 0.05
    computed = effects.trend_power(n, slope, 0.05)
    assert 0.4 < computed < 0.7
    assert caught / 600 == pytest.approx(computed, abs=0.08)
    assert effects.trend_power(n, 0.0, 0.05) == pytest.approx(0.05, abs=0.004)


def test_more_data_sees_smaller_effects(honest):
    """Every effect shrinks from one batch to two, or stays where it counts pairs of events."""
    sample, law = honest
    config = config_of()
    single = draws.sample_of(draws.draw_columns(config), config)
    grows = {"event_times_ties", "event_count_within_margin", "event_types_within_margin"}
    for entry in entries(1):
        small, large = (entry.effect(s, law, entry.make(s, law), 0.01) for s in (single, sample))
        if small is not None and large is not None and entry.name not in grows:
            assert large < small, entry.name


def test_plain_words_say_the_effect_in_shares_of_events(honest):
    """Moving the share that the sentence names between the common types makes Cohen's w."""
    sample, law = honest
    row = next(r for r in run_battery(sample, law) if r.entry.name == "event_types")
    moved = row.effect * row.entry.scale(law)
    off = np.array([0.4 + moved, 0.35 - moved, 0.25]) - [0.4, 0.35, 0.25]
    assert math.sqrt(float(np.sum(off**2 / [0.4, 0.35, 0.25]))) == exact(row.effect)
    assert row.caught.startswith(f"{100 * moved:.2f} % of all events")


def test_plain_words_of_tables_say_the_scatter_of_shares():
    """Shares that differ by a tenth of themselves, root mean square, have w = 0.1 and V less."""
    table = np.full((3, 10), 1000) + 100 * np.array([[1], [-1], [0]]) * ([1, -1] * 5)
    w = math.sqrt(float(np.sum((table / 30_000 - 1 / 30) ** 2 * 30)))
    assert w == exact(math.sqrt(2 / 3) / 10)
    law = Law(3.5, (0.4, 0.3, 0.3, 0.0))
    assert stats.independence_test(table).estimate * effects.share_scatter(law) == exact(w)


def test_two_equal_counts_are_no_proof_of_evenness():
    """Of two drivers with some thousand events each, equal counts come by chance."""
    rows = [(0, driver, 0, 1000 * i) for driver in (0, 1) for i in range(2000)]
    sample = sample_from(rows, drivers=2, length=10_000_000)
    entry = next(e for e in BATTERY if e.name == "events_per_driver_dispersion")
    assert entry.make(sample, Law(2000.0, (0.5, 0.3, 0.2))).p_value > 0.005


@pytest.mark.parametrize(("drivers", "groups"), [(1, 1), (100, 100), (101, 100), (1000, 100)])
def test_many_numbers_are_fifty_ranges_of_even_and_odd_ones(drivers: int, groups: int) -> None:
    """A group holds neighbours of one parity; up to a hundred numbers are a group each."""
    found = number_groups(drivers)
    assert set(found.tolist()) == set(range(groups))
    for group in range(groups):
        numbers = np.flatnonzero(found == group)
        assert len(set((numbers % 2).tolist())) == 1
        assert (np.diff(numbers) == 2).all()
        assert len(numbers) <= -(-drivers // 100) if drivers > 100 else len(numbers) == 1
