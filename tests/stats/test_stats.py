"""Tests of fleetsim.stats against published tables, R, slow exact twins and simulation.

Oracle numbers marked "R" come from R 4.2.2, by the call in the comment.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import subprocess
import sys
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special
from scipy import stats as scipy_stats
from support import examples, quick_and_full

from fleetsim import stats
from fleetsim.stats import categories, counts, laws, offsets

# Published tables: how often each value was seen.
HORSE_KICKS = {0: 109, 1: 65, 2: 22, 3: 3, 4: 1}  # Bortkiewicz (1898), 200 corps-years
FLYING_BOMBS = {0: 229, 1: 211, 2: 93, 3: 35, 4: 7, 7: 1}  # Clarke (1946), 576 squares
YEAST = dict(enumerate([0, 20, 43, 53, 86, 70, 54, 37, 18, 10, 5, 2, 2]))  # Student (1907)
ALPHA = dict(  # Rutherford and Geiger (1910), 2608 intervals
    enumerate([57, 203, 383, 525, 532, 408, 273, 139, 45, 27, 10, 4, 0, 1, 1])
)
WELDON = [185, 1149, 3265, 5475, 6114, 5194, 3067, 1331, 403, 105, 14, 4, 0]  # 26306 x 12 dice
HAIR_EYE = [[68, 20, 15, 5], [119, 84, 54, 29], [26, 17, 14, 14], [7, 94, 10, 16]]  # Snee (1974)

TEN = [0.61, 0.29, 0.06, 0.59, 0.73, 0.74, 0.51, 0.56, 0.39, 0.64]
FORTY = (np.arange(1, 41) / 41) ** 1.7

close = pytest.approx


def expand(table: dict[int, int]) -> np.ndarray:
    """Return the single counts of a table of frequencies."""
    return np.repeat(list(table), list(table.values()))


def exact(value: float, rel: float = 1e-9):
    """Return `value` to be compared to a relative tolerance alone."""
    return pytest.approx(value, rel=rel, abs=0)


# -------------------------------------------------------------------------- slow exact twins


def decimal_poisson(count: int, mean: str) -> tuple[Decimal, Decimal]:
    """Return P(X <= count) and P(X >= count) by adding terms with 60 digits."""
    with localcontext() as context:
        context.prec = 60
        m = Decimal(mean)
        term, lower, upper = (-m).exp(), Decimal(0), Decimal(0)
        for x in range(int(m + 60 * m.sqrt()) + count + 400):
            if x:
                term = term * m / x
            if x <= count:
                lower += term
            if x >= count:
                upper += term
        return lower, upper


def fraction_binomial(a: int, n: int, p: Fraction) -> float:
    """Return the central two-sided binomial p."""
    terms = [math.comb(n, x) * p**x * (1 - p) ** (n - x) for x in range(n + 1)]
    return float(min(Fraction(1), 2 * min(sum(terms[: a + 1]), sum(terms[a:]))))


def fraction_multinomial(observed: list[int], weights: list[Fraction]) -> float:
    """Return the probability of all outcomes not more likely than `observed`."""

    def probability(outcome: tuple[int, ...]) -> Fraction:
        ways = math.factorial(sum(outcome))
        for x in outcome:
            ways //= math.factorial(x)
        return ways * math.prod(w**x for w, x in zip(weights, outcome, strict=True))

    n, k = sum(observed), len(observed)
    limit = probability(tuple(observed))
    outcomes = (x for x in itertools.product(range(n + 1), repeat=k) if sum(x) == n)
    return float(sum(p for p in map(probability, outcomes) if p <= limit))


def even_chi2_sf(x: float, df: int) -> float:
    """Return P(chi2_df > x) for even df, a finite sum."""
    terms = [(x / 2) ** i / math.factorial(i) for i in range(df // 2)]
    return math.exp(-x / 2) * math.fsum(terms)


# --------------------------------------------------------------------------------- the result


def test_result_is_frozen_and_has_the_agreed_fields():
    """The record is a frozen, slotted dataclass with the nine fields of the contract."""
    names = [field.name for field in dataclasses.fields(stats.TestResult)]
    assert names == [
        "name",
        "statistic",
        "p_value",
        "df",
        "n",
        "estimate",
        "interval",
        "null",
        "note",
    ]
    result = stats.poisson_count_test(3, 3.5)
    assert not hasattr(result, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.p_value = 1.0


def test_results_hold_plain_python_numbers():
    """No NumPy scalar leaks into a result, so that it can be written as JSON."""
    results = [
        stats.poisson_count_test(np.int64(3), np.float64(3.5)),
        stats.poisson_equivalence_test(3400, 3500, 0.1),
        stats.two_sample_rate_test(3, 1.0, 4, 1.0),
        stats.dispersion_test([1, 2, 3]),
        stats.poisson_fit_test(expand(YEAST), 4.68),
        stats.category_test([10, 20], [0.4, 0.6]),
        stats.category_test([1, 2], [0.4, 0.6]),
        stats.category_equivalence_test([10, 20], [0.4, 0.6], 0.1),
        stats.independence_test(HAIR_EYE),
        stats.uniformity_test(TEN, 1),
        stats.edge_test(TEN, 1),
        stats.spacing_test(TEN, 1),
    ]
    for result in results:
        assert type(result.name) is str
        assert type(result.null) is str
        assert result.null
        assert type(result.n) is int
        assert type(result.df) in (int, type(None))
        for value in (result.statistic, result.p_value, *(result.interval or ())):
            assert type(value) is float, result
        assert type(result.estimate) in (float, type(None))


def test_import_does_not_load_the_slow_part_of_scipy():
    """Importing the module leaves scipy.stats, a second's work, to the test that needs it."""
    code = "import sys, fleetsim.stats; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("count", "mean"),
    [(137, "24.19893"), (0, "3.5"), (7, "3.5"), (3350, "3500"), (5000, "3500"), (5600, "3500")],
)
def test_poisson_p_equals_exact_decimal_sums(count, mean):
    """The central p equals twice the smaller tail added up with 60 digits."""
    lower, upper = decimal_poisson(count, mean)
    expected = min(1.0, 2 * float(min(lower, upper)))
    assert stats.poisson_count_test(count, float(mean)).p_value == exact(expected)


def test_poisson_p_is_central_where_r_reports_another():
    """R's own example: the central p is 5.69e-56, the minlike p of poisson.test 2.85e-56."""
    result = stats.poisson_count_test(137, 24.19893)
    # R: 2 * ppois(136, 24.19893, lower=FALSE)
    assert result.p_value == exact(5.690454528228909e-56)
    # R: poisson.test(137, 24.19893)$conf.int
    assert result.interval == exact((4.7531248048487482, 6.6927093341760706))
    assert result.estimate == exact(137 / 24.19893)
    assert (result.name, result.statistic, result.n, result.df) == (
        "poisson_count",
        137.0,
        137,
        None,
    )
    assert result.null == "count ~ Poisson(24.19893)"


@pytest.mark.parametrize(
    ("count", "limits95", "limits90"),
    [  # R: poisson.test(k)$conf.int, poisson.test(k, conf.level=.9)$conf.int; Garwood's table
        (0, (0.0, 3.6888794541139354), (0.0, 2.99573227355399)),
        (1, (0.025317807984289897, 5.5716433909388989), (0.051293294387550523, 4.743864518390577)),
        (2, (0.24220927854396501, 7.2246876677239582), (0.35536151069866195, 6.2957936218719892)),
        (10, (4.7953886961324343, 18.390356042017778), (5.4254056970912918, 16.962219235721896)),
        (3500, (3384.9970069554147, 3617.9138239636613), (3403.2609693935619, 3598.8899430423335)),
        (10**9, (999938021.44392788, 1000061981.4504089), (999947985.72973311, 1000052016.4073218)),
    ],
)
def test_garwood_limits_equal_the_printed_ones(count, limits95, limits90):
    """Exact limits of a Poisson mean agree with R and with Garwood's table (0 and 3.69 for 0)."""
    assert stats.poisson_interval(count) == exact(limits95)
    assert stats.poisson_interval(count, 0.9) == exact(limits90)


def test_zero_count_has_closed_forms():
    """No event: p is 2 exp(-mean), the upper limit -ln(alpha / 2)."""
    assert stats.poisson_count_test(0, 700.0).p_value == exact(2 * math.exp(-700))
    assert stats.poisson_count_test(0, 0.5).p_value == 1.0
    assert stats.poisson_interval(0)[1] == exact(-math.log(0.025))


def test_mean_zero_allows_no_event_only():
    """Mean 0 gives p 1 for no event and p 0 for any, and no ratio."""
    none, some = stats.poisson_count_test(0, 0), stats.poisson_count_test(2, 0.0)
    assert (none.p_value, some.p_value) == (1.0, 0.0)
    assert none.estimate is None
    assert none.interval is None
    assert "mean is 0" in none.note


@pytest.mark.parametrize(
    ("shape", "z"), [(1.0e6, 5), (1.0e9, 4.2), (1.0e9, 5), (1.0e9, 30), (1.0e12, 8)]
)
def test_far_upper_tail_of_large_counts_is_right(shape, z):
    """P(X >= count) at counts where scipy.special.gammainc fails equals term by term sums."""
    count = round(shape + z * math.sqrt(shape))
    # P(X = count + i) / P(X = count), summed until nothing is added, times P(X = count), whose
    # logarithm is taken with 40 digits (Stirling's series is exact to 1e-30 here).
    steps = np.arange(1, int(60 * math.sqrt(shape) / z), dtype=float)
    ratio = 1 + np.exp(np.cumsum(np.log(shape) - np.log(count + steps))).sum()
    with localcontext() as context:
        context.prec = 50
        k, m = Decimal(count), Decimal(shape)
        pi = Decimal("3.14159265358979323846264338327950288")
        log = k - m + k * (m / k).ln() - (2 * pi * k).ln() / 2 - 1 / (12 * k) + 1 / (360 * k**3)
    expected = 2 * math.exp(float(log)) * ratio
    # The sum itself is good to about 1e-8 where a hundred thousand steps are added up.
    assert stats.poisson_count_test(count, shape).p_value == exact(expected, rel=1e-7)


@pytest.mark.parametrize("shape", [2e5, 1e6])
@pytest.mark.parametrize("z", [4.01, 4.2, 4.4])
def test_own_gamma_tail_joins_that_of_scipy(shape, z):
    """Where both forms hold, at 4 to 4.4 standard deviations, they agree."""
    x = shape - z * math.sqrt(shape)
    assert laws.gamma_cdf(shape, x) == exact(float(special.gammainc(shape, x)), rel=1e-11)


def test_interval_inverts_the_test_in_the_far_tail():
    """A Garwood limit at extreme confidence puts the tail where it was asked for."""
    low, high = stats.poisson_interval(10**9, 1 - 2e-9)
    tail = (1 - (1 - 2e-9)) / 2
    assert laws.poisson_sf(10**9, low) == exact(tail, rel=1e-7)
    assert laws.poisson_cdf(10**9, high) == exact(tail, rel=1e-7)


def test_poisson_equivalence_is_the_larger_one_sided_p():
    """TOST p-values equal R's, and estimate and interval are relative to the mean."""
    result = stats.poisson_equivalence_test(3420, 3500, 0.1)
    # R: max(ppois(3419, 3150, lower=FALSE), ppois(3420, 3850))
    assert result.p_value == exact(1.0760856551625695e-06)
    assert stats.poisson_equivalence_test(3200, 3500, 0.1).p_value == exact(0.18871833776106223)
    assert stats.poisson_equivalence_test(3500, 3500, 0.1).interval == exact(
        (3403.2609693935619 / 3500, 3598.8899430423335 / 3500)
    )


@given(st.integers(0, 5000), st.floats(1, 4000), st.floats(0.01, 0.9))
def test_equivalence_p_below_five_percent_means_interval_inside(count, mean, margin):
    """TOST and the 90 % interval say the same."""
    result = stats.poisson_equivalence_test(count, mean, margin)
    low, high = result.interval
    if abs(result.p_value - 0.05) > 1e-9:
        assert (result.p_value < 0.05) == (1 - margin < low and high < 1 + margin)


def test_equivalence_without_a_mean_cannot_be_made():
    """A relative margin of mean 0 is empty, so there is no p."""
    result = stats.poisson_equivalence_test(0, 0, 0.1)
    assert result.p_value is None
    assert "no test" in result.note


def test_two_rates_agree_with_r_and_exact_binomial_sums():
    """R's example of poisson.test with two samples; p central, by fractions."""
    result = stats.two_sample_rate_test(11, 800, 21, 3011)
    assert result.p_value == exact(fraction_binomial(11, 32, Fraction(800, 3811)))
    # R: poisson.test(c(11, 6+8+7), c(800, 1083+1050+878))$estimate, $conf.int
    assert result.estimate == exact(1.9714880952380953)
    assert result.interval == exact((0.85842640339163923, 4.2772659436540712))
    assert result.n == 32
    big = stats.two_sample_rate_test(3500000, 1000, 3510000, 1000)
    assert big.interval == exact((0.99567548520276272, 0.99862869492016026))
    assert big.p_value == exact(0.00015900239376094203, rel=1e-8)  # R: 2*pbinom(3.5e6, 7.01e6, .5)


def test_two_rates_with_an_empty_side_have_open_intervals():
    """A count of 0 gives an end at 0 or inf; no event at all gives no p."""
    # R: poisson.test(c(0, 5), c(1, 2))$conf.int, poisson.test(c(5, 0), c(1, 2))$conf.int
    assert stats.two_sample_rate_test(0, 1, 5, 2).interval == exact((0.0, 2.1825582103650918))
    right = stats.two_sample_rate_test(5, 1, 0, 2)
    assert right.interval == exact((1.8327117146309202, math.inf))
    assert right.estimate == math.inf
    nothing = stats.two_sample_rate_test(0, 1, 0, 2)
    assert nothing.p_value is None
    assert nothing.interval == (0.0, math.inf)


@given(st.integers(0, 400), st.integers(1, 400), st.floats(0.1, 10), st.floats(0.1, 10))
def test_two_rates_are_symmetric(a, b, size_a, size_b):
    """Exchanging the samples inverts the ratio and leaves p as it is."""
    one = stats.two_sample_rate_test(a, size_a, b, size_b)
    other = stats.two_sample_rate_test(b, size_b, a, size_a)
    assert one.p_value == close(other.p_value, rel=1e-9)
    assert one.interval[0] == close(1 / other.interval[1], rel=1e-9)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [  # R: D, its central p, var/mean, D/qchisq(c(.975,.025), n-1)
        (expand(HORSE_KICKS), (199.31147540983608, 0.96089906298427696, 1.0015652030645028,
                               0.83060401602380651, 1.2316392345276068)),
        (expand(FLYING_BOMBS), (598.91061452513964, 0.47452502823675574, 1.0415836774350256,
                                0.93094068897753357, 1.1733027486721099)),
        (expand(YEAST), (380.991452991453, 0.53285434249761954, 0.95486579697106011,
                         0.83507518043074647, 1.1025617255512636)),
        (expand(ALPHA), (2488.9181935228285, 0.098657843282180108, 0.95470586633019883,
                         0.90492630403417784, 1.008729755351027)),
    ],
)  # fmt: skip
def test_dispersion_of_published_tables(counts, expected):
    """Fisher's D, p, ratio and limits equal R's on four classic Poisson tables."""
    result = stats.dispersion_test(counts)
    found = (result.statistic, result.p_value, result.estimate, *result.interval)
    assert found == exact(expected)
    assert (result.df, result.n) == (counts.size - 1, counts.size)


def test_dispersion_fails_even_counts_and_wild_counts():
    """Both tails count: constant totals and doubled ones are both rejected."""
    rng = np.random.default_rng(5)
    assert stats.dispersion_test(3500 + np.arange(48) % 3).p_value < 1e-12
    assert stats.dispersion_test(5 * rng.poisson(700, 48)).p_value < 1e-6
    # A steep lower tail at a large number of counts, where SciPy's series ends early.
    even = stats.dispersion_test(3500 + np.arange(10**6) % 3)
    assert even.p_value == 0.0


def test_dispersion_is_exact_for_huge_counts():
    """At counts of 10**9 and more D equals exact rational arithmetic."""
    for base in (10**9, 10**14):
        x = [base, base + 40000, base - 31000, base + 7, base + 1]
        mean = Fraction(sum(x), len(x))
        expected = sum((v - mean) ** 2 for v in x) / mean
        assert stats.dispersion_test(x).statistic == exact(float(expected), rel=1e-14)


def test_dispersion_that_cannot_be_made_has_no_p():
    """All zeros and a single count are no evidence; equal counts carry a warning."""
    assert stats.dispersion_test([0, 0, 0]).p_value is None
    assert "all counts are 0" in stats.dispersion_test([0, 0, 0]).note
    assert "single count" in stats.dispersion_test([7]).note
    equal = stats.dispersion_test([3, 3])
    assert equal.p_value == 0.0
    assert "equal" in equal.note


@pytest.mark.parametrize(
    ("counts", "mean", "cells", "expected"),
    [  # R: chisq.test(o, p=pr) with the tails pooled as specified
        (expand(HORSE_KICKS), 0.61, "x <= 0, single values, x >= 2",
         (0.062783831046967484, 2, 0.96909569499422021)),
        (expand(FLYING_BOMBS), 537 / 576, "x <= 0, single values, x >= 4",
         (1.0175894136798715, 4, 0.90711723435638247)),
        (expand(YEAST), 4.68, "x <= 1, single values, x >= 10",
         (4.3887467185604665, 9, 0.88401648799210641)),
        (expand(ALPHA), 10094 / 2608, "x <= 0, single values, x >= 11",
         (12.970803145879161, 11, 0.29523798838491849)),
    ],
)  # fmt: skip
def test_poisson_fit_of_published_tables(counts, mean, cells, expected):
    """Pooled cells, X2, df and p equal R's; the pooling follows expectations."""
    result = stats.poisson_fit_test(counts, mean)
    assert (result.statistic, result.df, result.p_value) == exact(expected)
    assert cells in result.note
    assert result.n == counts.size


@given(st.integers(5, 3000), st.floats(0.01, 60))
def test_poisson_tail_cells_hold_five_and_no_smaller_tail_does(n, mean):
    """The two tail cells are the shortest that expect five counts, found by scanning."""
    x = np.arange(400)
    first = int(np.argmax(n * scipy_stats.poisson.cdf(x, mean) >= 5))
    last = int(np.flatnonzero(n * scipy_stats.poisson.sf(x - 1, mean) >= 5)[-1])
    assert counts.poisson_tail_cells(n, mean) == (first, last)


def test_poisson_fit_needs_the_drivers_without_events():
    """Dropping the zeros of a near-perfect table makes it fail."""
    cells = counts.poisson_cells(0, 12, 3.5)
    drawn = np.repeat(np.arange(13), np.round(1000 * cells).astype(int))
    assert stats.poisson_fit_test(drawn, 3.5).p_value > 0.99
    assert stats.poisson_fit_test(drawn[drawn > 0], 3.5).p_value < 1e-3


def test_poisson_cells_add_up_at_any_mean():
    """Cell probabilities equal SciPy's where that is exact, and sum to 1 at huge means."""
    cells = counts.poisson_cells(1, 12, 5.0)
    assert cells[1:-1] == exact(scipy_stats.poisson.pmf(np.arange(2, 12), 5.0), rel=1e-12)
    assert cells.sum() == exact(1.0, rel=1e-12)
    middle = counts.poisson_cells(10**9 - 2, 10**9 + 2, 1e9)[1:-1]
    assert middle == exact(np.full(3, 1 / math.sqrt(2e9 * math.pi)), rel=1e-8)


def test_poisson_fit_that_cannot_be_made_has_no_p():
    """Too few counts make one cell; at mean 0 any event is impossible."""
    assert stats.poisson_fit_test([1, 2, 3], 3.5).p_value is None
    assert "fewer than two cells" in stats.poisson_fit_test([0] * 50, 0).note
    assert stats.poisson_fit_test([0, 1], 0).p_value == 0.0
    assert "p is rough" in stats.poisson_fit_test([990, 1000, 1010] * 20, 1000).note


# --------------------------------------------------------------------------------- categories


def test_category_chi_square_of_mendel_and_weldon():
    """Mendel's peas and Weldon's dice give R's X2 and p."""
    peas = stats.category_test([315, 108, 101, 32], np.array([9, 3, 3, 1]) / 16)
    # R: chisq.test(c(315, 108, 101, 32), p = c(9, 3, 3, 1) / 16)
    assert (peas.statistic, peas.df) == (exact(0.47002398081534774), 3)
    assert peas.p_value == exact(0.92542589510361584)
    assert peas.estimate == exact(math.sqrt(0.47002398081534774 / 556))
    fives = int(np.dot(WELDON, np.arange(13)))
    dice = stats.category_test([fives, 12 * 26306 - fives], [1 / 3, 2 / 3])
    assert (dice.statistic, dice.p_value) == exact((27.069166730023568, 1.9630415130403337e-07))


def test_category_pools_the_smallest_cells_beyond_the_exact_limit():
    """Weldon's thirteen cells are too many outcomes: 10, 11 and 12 are pooled, as R is told to."""
    weights = [math.comb(12, k) * 2.0 ** (12 - k) / 3**12 for k in range(13)]
    result = stats.category_test(WELDON, weights)
    # R: q = dbinom(0:12, 12, 1/3); chisq.test(c(wd[1:10], sum(wd[11:13])), p = the same of q)
    assert (result.statistic, result.p_value) == exact((35.494298591456761, 0.00010278779886296))
    assert result.df == 10
    assert "3 of 13 categories pooled" in result.note


def test_pooling_adds_the_next_smallest_until_five():
    """A pool that stays below 5 takes in the next smallest cell, and only that."""
    assert sorted(categories.pool_order(np.array([50.0, 1.0, 6.0, 2.0]))) == [1, 2, 3]
    assert sorted(categories.pool_order(np.array([50.0, 4.0, 6.0, 4.0, 4.0]))) == [1, 3, 4]


@pytest.mark.parametrize("x", [0.5, 10.0, 800.0, 1300.0])
@pytest.mark.parametrize("df", [2, 4, 10])
def test_chi_square_tail_equals_its_finite_sum(x, df):
    """For even df the upper tail is a finite sum, down to 1e-280."""
    assert laws.chi2_sf(x, df) == exact(even_chi2_sf(x, df))


@pytest.mark.parametrize(
    ("observed", "weights"),
    [
        ([3, 0, 2], ["1/5", "1/2", "3/10"]),
        ([5, 2, 1], ["1/3", "1/3", "1/3"]),
        ([7, 0, 0, 1], ["1/10", "1/5", "3/10", "2/5"]),
        ([0, 12], ["3/10", "7/10"]),
        ([1, 0, 0, 0, 2], ["1/2", "1/8", "1/8", "1/8", "1/8"]),
        ([0, 0, 1], ["1/2", "1/4", "1/4"]),
    ],
)
def test_exact_multinomial_equals_fractions(observed, weights):
    """Small expectations: p is the exact sum over all outcomes not more likely."""
    shares = [Fraction(w) for w in weights]
    result = stats.category_test(observed, [float(w) for w in shares])
    assert result.p_value == exact(fraction_multinomial(observed, shares))
    assert result.df is None
    assert "exact" in result.note


def test_exact_multinomial_equals_binomial_law_at_many_outcomes():
    """With two cells the exact p is SciPy's exact binomial one, at three million outcomes too."""
    expected = scipy_stats.binomtest(2, 3_000_000, 1e-6).pvalue
    result = stats.category_test([3_000_000 - 2, 2], [1 - 1e-6, 1e-6])
    assert result.p_value == exact(expected, rel=1e-8)


def test_exact_multinomial_blocks_agree_with_one_piece(monkeypatch):
    """Cutting the list of outcomes into small blocks changes nothing."""
    observed, weights = [4, 1, 0, 3, 2], [0.3, 0.25, 0.2, 0.15, 0.1]
    whole = stats.category_test(observed, weights).p_value
    monkeypatch.setattr(categories, "_BLOCK", 7)
    assert stats.category_test(observed, weights).p_value == exact(whole, rel=1e-13)
    total = sum(x.size for x in categories._outcomes([np.zeros(9)] * 5, 8))
    assert total == math.comb(12, 4)


def test_exact_multinomial_counts_near_ties():
    """Outcomes of equal probability count as equal whatever their rounding."""
    result = stats.category_test([3, 1, 0, 0], [0.25] * 4)
    expected = fraction_multinomial([3, 1, 0, 0], [Fraction(1, 4)] * 4)
    assert result.p_value == exact(expected)
    assert stats.category_test([0, 0, 3, 1], [0.25] * 4).p_value == exact(expected)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=examples(60), deadline=None)
def test_category_test_ignores_the_order_of_cells(observed, random):
    """Permuting categories leaves p as it is; p lies in [0, 1]."""
    weights = np.arange(1, len(observed) + 1) / sum(range(1, len(observed) + 1))
    order = random.sample(range(len(observed)), len(observed))
    one = stats.category_test(observed, weights)
    other = stats.category_test(np.array(observed)[order], weights[order])
    if one.p_value is None:
        assert other.p_value is None
        assert sum(observed) == 0
    else:
        assert 0 <= one.p_value <= 1
        assert one.p_value == close(other.p_value, rel=1e-9)


def test_weight_zero_is_dropped_if_empty_and_fatal_if_not():
    """A cell that cannot happen decides alone."""
    kept = stats.category_test([30, 70, 0], [0.4, 0.6, 0.0])
    assert kept.p_value == stats.category_test([30, 70], [0.4, 0.6]).p_value
    assert kept.df == 1
    assert "weight 0 left out" in kept.note
    broken = stats.category_test([30, 70, 1], [0.4, 0.6, 0.0])
    assert broken.p_value == 0.0
    assert broken.statistic == math.inf


def test_category_test_that_cannot_be_made_has_no_p():
    """No event, one category, or one pooled cell: no p, and the note says so."""
    for observed, weights in (([0, 0], [0.5, 0.5]), ([9], [1.0]), ([9, 0], [1.0, 0.0])):
        result = stats.category_test(observed, weights)
        assert result.p_value is None
        assert "no test" in result.note
    pooled = stats.category_test([1] * 4 + [0] * 196, [1 / 200] * 200)
    assert pooled.p_value is None
    assert "one category" in pooled.note


def test_category_equivalence_equals_its_formula():
    """The worst share decides; its Wald interval and value are reported."""
    result = stats.category_equivalence_test([1400, 1120, 980], [0.41, 0.31, 0.28], 0.03)
    shares = np.array([0.4, 0.32, 0.28])
    z = (0.03 - np.abs(shares - [0.41, 0.31, 0.28])) / np.sqrt(shares * (1 - shares) / 3500)
    assert result.statistic == exact(z.min())
    assert result.p_value == exact(math.erfc(z.min() / math.sqrt(2)) / 2)
    half = 1.6448536269514722 * math.sqrt(0.24 / 3500)
    assert result.interval == exact((0.4 - half, 0.4 + half))
    assert result.estimate == 0.4
    assert "category 0" in result.note


@given(st.lists(st.integers(1, 4000), min_size=2, max_size=5), st.floats(0.005, 0.5))
def test_category_equivalence_agrees_with_its_interval(observed, margin):
    """P < 0.05 just where the worst share's 90 % interval lies inside the margin."""
    k = len(observed)
    result = stats.category_equivalence_test(observed, [1 / k] * k, margin)
    low, high = result.interval
    if abs(result.p_value - 0.05) > 1e-9:
        assert (result.p_value < 0.05) == (1 / k - margin < low and high < 1 / k + margin)


def test_category_equivalence_at_shares_of_zero_and_one():
    """Degenerate shares take the limit of z; no event gives no p."""
    outside = stats.category_equivalence_test([5, 0], [0.5, 0.5], 0.1)
    assert outside.p_value == 1.0
    assert outside.statistic == -math.inf
    inside = stats.category_equivalence_test([5, 0], [0.98, 0.02], 0.1)
    assert inside.p_value == 0.0
    assert "p says little" in inside.note
    assert stats.category_equivalence_test([0, 0], [0.5, 0.5], 0.1).p_value is None
    assert stats.category_equivalence_test([5], [1.0], 0.1).p_value is None


def test_share_intervals_are_wilsons():
    """Limits equal R's score intervals, and widen when they are to hold together."""
    # R: prop.test(15, 50, correct=FALSE)$conf.int
    first = stats.share_intervals([15, 35])[0]
    assert first == exact([0.19103553500880949, 0.43750350464453397])
    # R: prop.test(0, 20, correct=FALSE)$conf.int
    assert stats.share_intervals([0, 20])[0] == exact([0.0, 0.1611251580528193])
    assert stats.share_intervals([0, 20])[1, 1] == 1.0
    together = stats.share_intervals([15, 35], 0.9, simultaneous=True)
    assert together == exact(stats.share_intervals([15, 35], 0.95), rel=1e-12)


def test_independence_of_hair_and_eye_colour():
    """X2, df, p and Cramer's V of a printed table equal R's."""
    result = stats.independence_test(HAIR_EYE)
    # R: chisq.test(margin.table(HairEyeColor, c(1, 2)))
    assert (result.statistic, result.p_value) == exact((138.28984162600827, 2.325286787098808e-25))
    assert (result.df, result.n) == (9, 592)
    assert result.estimate == exact(0.27904462334265839)


def test_independence_has_no_continuity_correction():
    """Admissions at Berkeley, 2 x 2, without Yates; the tea table says that p is rough."""
    # R: chisq.test(margin.table(UCBAdmissions, c(2, 1)), correct=FALSE)
    result = stats.independence_test([[1198, 1493], [557, 1278]])
    assert (result.statistic, result.p_value) == exact((92.205280411527639, 7.8136003889946405e-22))
    tea = stats.independence_test([[3, 1], [1, 3]])
    assert tea.p_value == exact(0.15729920705028447)
    assert "p is rough" in tea.note


def test_independence_ends_at_v_zero_and_one():
    """Proportional rows give V 0; a diagonal table gives V 1 and X2 = n (k - 1)."""
    assert stats.independence_test([[10, 20], [30, 60]]).statistic == close(0, abs=1e-12)
    diagonal = stats.independence_test(np.diag([20, 30, 50]))
    assert diagonal.estimate == exact(1.0)
    assert diagonal.statistic == exact(200.0)


def test_independence_leaves_out_empty_lines():
    """Empty rows and columns do not count towards df; without two of each there is no p."""
    result = stats.independence_test([[10, 0, 20], [0, 0, 0], [30, 0, 50]])
    assert result.df == 1
    assert "2 empty" in result.note
    assert result.statistic == exact(stats.independence_test([[10, 20], [30, 50]]).statistic)
    assert stats.independence_test([[1, 2], [0, 0]]).p_value is None
    assert stats.independence_test([[0, 0], [0, 0]]).p_value is None


# -------------------------------------------------------------------------------------- times


def test_kolmogorov_smirnov_equals_r():
    """D and its exact p equal ks.test(x, "punif", exact=TRUE)."""
    result = stats.uniformity_test(TEN, 1)
    assert (result.statistic, result.p_value) == exact((0.26, 0.43512842285808273))
    result = stats.uniformity_test(FORTY * 900, 900)
    assert (result.statistic, result.p_value) == exact((0.20486654890942665, 0.059879318354105537))
    assert stats.uniformity_test([0.5], 1).p_value == 1.0


def test_kolmogorov_smirnov_sees_both_sides():
    """D is the same for a sample and its mirror image."""
    x = np.array([0.05, 0.1, 0.2, 0.9])
    one, other = stats.uniformity_test(x, 1), stats.uniformity_test(1 - x, 1)
    assert one.statistic == exact(0.55)
    assert other.statistic == exact(0.55)


def test_anderson_darling_statistic_equals_r():
    """A2 equals goftest::ad.test; its p there rests on rounder constants."""
    result = stats.edge_test(TEN, 1)
    assert result.statistic == exact(0.88777731885505951)
    assert result.p_value == close(0.41892076995724203, abs=1e-4)
    result = stats.edge_test(FORTY, 1)
    assert result.statistic == exact(5.0752924353207335)
    assert result.p_value == close(0.0026832671788479256, abs=1e-4)


@pytest.mark.parametrize(
    ("z", "p"),
    [  # R: goftest::pAD(z, lower.tail=FALSE, fast=FALSE); 1.933, 2.492, 3.857: 10, 5, 1 %
        (0.1, 0.999971921895), (0.3, 0.938157636057), (1.0, 0.357266673214),
        (1.933, 0.099994623208), (2.492, 0.050022186360), (3.857, 0.010241153230),
        (5.99, 0.000977969402),
    ],
)  # fmt: skip
def test_anderson_darling_limit_equals_printed_quantiles(z, p):
    """The limiting law agrees with R to 1e-11 and with the printed percentage points."""
    assert 1 - laws._anderson_darling_limit_cdf(z) == close(p, abs=1e-11)
    assert laws.anderson_darling_sf(z, 10**6) == close(p, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 6, 15, 16, 50])
def test_anderson_darling_law_agrees_with_simulation(n):
    """At finite n the p-value lies within simulation error of 200,000 honest samples."""
    rng = np.random.default_rng(20041)
    reps = 200_000
    u = np.concatenate([np.sort(rng.random((reps // 8, n)), axis=1) for _ in range(8)])
    a2 = -n - np.log(u * (1 - u[:, ::-1])) @ (np.arange(1, 2 * n, 2) / n)
    for z in (0.3, 0.6, 1.0, 1.5, 2.5, 4.0):
        p = laws.anderson_darling_sf(z, n)
        # 4.9 standard errors (1e-6 two-sided) and the stated 1e-4.
        assert abs(np.mean(a2 > z) - p) < 4.9 * math.sqrt(p * (1 - p) / reps) + 1e-4


def test_anderson_darling_small_law_joins_the_corrected_limit():
    """At n = 16, where the exact inversion hands over, both laws agree to the stated 1e-4."""
    for z in (0.3, 0.45, 0.8, 1.25, 2, 4, 5.9, 6.1):
        p = laws.anderson_darling_sf(z, 16)
        assert 1 - laws._anderson_darling_small_cdf(z, 16) == close(p, abs=1e-4)


def test_anderson_darling_of_two_offsets_equals_an_area():
    """For n = 2, P(A2 < z) is twice an area under the diagonal, here by adaptive integration."""

    def rest(z, v):
        # The part of (0, v) where u, below v, keeps A2 < z: h is convex with its minimum at 1/4.
        limit = 2 + z + (3 * math.log(v) + math.log1p(-v)) / 2

        def excess(u):
            return -(math.log(u) + 3 * math.log1p(-u)) / 2 - limit

        if excess(0.25) >= 0:
            return 0.0
        low = optimize.brentq(excess, 1e-300, 0.25)
        high = optimize.brentq(excess, 0.25, 1 - 1e-16)
        return max(0.0, min(v, high) - low)

    for z in (0.3, 0.6, 1.5, 4.0):
        grid = np.linspace(0, 1, 41)[1:-1]
        area = integrate.quad(lambda v, z=z: rest(z, v), 0, 1, points=grid, limit=400)[0]
        assert laws.anderson_darling_sf(z, 2) == close(1 - 2 * area, abs=3e-5)


def test_anderson_darling_tail_is_the_chi_square_one():
    """Above 6 p is sqrt(3) P(chi2_1 > 2 A2) and joins the law below."""
    assert laws.anderson_darling_sf(20, 100) == exact(math.sqrt(3) * math.erfc(math.sqrt(20)))
    below, above = laws.anderson_darling_sf(6, 1000), laws.anderson_darling_sf(6.0001, 1000)
    assert below == close(above, abs=1e-4)


def test_anderson_darling_of_one_offset_is_exact():
    """For n = 1, P(A2 > z) = 1 - sqrt(1 - 4 exp(-1 - z))."""
    for u in (0.5, 0.3, 0.02, 0.001):
        result = stats.edge_test([u], 1)
        assert result.p_value == close(2 * min(u, 1 - u), abs=1e-9)


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [  # R: T by the formula; pgamma(T, E^2/V, scale=V/E) with digamma and trigamma, central
        (TEN, None),
        (FORTY, (13.511663349574363, 4.7335200841778474e-06)),
        ([0.3], (0.34870677428955565, 0.78458054506461627)),
        (sorted({*TEN, 0.01}), None),
    ],
)
def test_moran_statistic_and_p_equal_r(offsets, expected):
    """T and its central gamma p equal R's, or the formula evaluated by hand."""
    result = stats.spacing_test(offsets, 1)
    m = len(offsets) + 1
    gaps = np.diff([0.0, *sorted(offsets), 1.0])
    assert result.statistic == exact(-2 * math.fsum(math.log(m * g) for g in gaps))
    if expected:
        assert (result.statistic, result.p_value) == exact(expected)


@pytest.mark.parametrize(
    ("m", "mean", "variance"),
    [  # R: 2*m*(digamma(m)-log(m)-digamma(1)), 4*m^2*(trigamma(1)/m-trigamma(m))
        (2, 1.227411277760218, 2.8405274652141888),
        (3, 2.40832626799134, 5.521582395642568),
        (49, 55.563733941442216, 124.39347279305322),
        (50, 56.718233290127841, 126.97348110267397),
        (3501, 4040.6640380350891, 9029.6564817207673),
    ],
)
def test_moran_moments_equal_r(m, mean, variance):
    """Mean and variance of T are exact on both sides of the switch to the series."""
    assert offsets.spacing_moments(m) == exact((mean, variance), rel=1e-12)


def test_moran_moments_stay_exact_for_a_billion_spacings():
    """At m = 10**9 the moments approach 2 m gamma - 1 and 4 m (pi^2/6 - 1) - 2."""
    m = 10**9
    mean, variance = offsets.spacing_moments(m)
    assert mean == exact(2 * m * np.euler_gamma - 1, rel=1e-15)
    assert variance == exact(4 * m * (math.pi**2 / 6 - 1) - 2, rel=1e-14)


def test_moran_rejects_a_too_even_stream_and_a_clustered_one():
    """Small T and large T both fail."""
    even = (np.arange(3500) + 0.5) / 3500
    assert stats.spacing_test(even, 1).p_value < 1e-100
    rng = np.random.default_rng(3)
    clustered = np.repeat(rng.random(1750), 2) + np.tile([0, 1e-7], 1750)
    assert stats.spacing_test(clustered * 0.99, 1).p_value < 1e-6


@pytest.mark.parametrize("test", [stats.uniformity_test, stats.edge_test, stats.spacing_test])
def test_time_tests_ignore_order_and_unit(test):
    """Shuffled offsets, and offsets in another unit, give the same result."""
    rng = np.random.default_rng(8)
    x = rng.random(200)
    one, other = test(x, 1), test(x[::-1] * 900, 900)
    assert (one.statistic, one.p_value) == exact((other.statistic, other.p_value), rel=1e-8)


def test_offsets_that_share_a_tick_are_spread_evenly():
    """Rank + 1/2 of k of the tick; decimals that do not divide exactly keep their tick."""
    x = offsets._spread(np.array([0.0, 1.0, 1.0, 3.5]), 4.0, 1.0)
    assert x == exact(np.array([0.5, 1.25, 1.75, 3.5]))
    assert offsets._spread(np.array([0.3]), 1.0, 0.1) == exact(np.array([0.35]))
    # A last tick that is cut short by the end, and an offset next to the end.
    cut = offsets._spread(np.array([1.0, np.nextafter(1.5, 0)]), 1.5, 1.0)
    assert cut == exact(np.array([1.125, 1.375]))


def test_every_microsecond_keeps_its_tick():
    """Whole microseconds divided by 1e-6 land on their own tick, a day long."""
    ticks = np.random.default_rng(1).integers(0, 86_400 * 10**6, 100_000)
    ticks.sort()
    ticks = np.unique(ticks)
    spread = offsets._spread(ticks * 1e-6, 86_400.0, 1e-6)
    assert np.all(np.floor(spread * 1e6).astype(int) == ticks)


def test_resolution_makes_floored_offsets_testable():
    """Floored offsets with zeros and ties give nearly the p of the true ones."""
    rng = np.random.default_rng(44)
    x = rng.random(2000) * 900
    x[0] = 4e-6
    floored = np.floor(x * 1e5) / 1e5
    assert floored[0] == 0
    for test in (stats.uniformity_test, stats.edge_test, stats.spacing_test):
        assert test(floored, 900, 1e-5).p_value == close(test(x, 900).p_value, abs=0.02)


def test_spacing_test_declines_crowded_ticks():
    """Beyond one offset per thousand ticks there is no p, and the note says why."""
    x = np.arange(1000) * 0.9
    assert stats.spacing_test(x, 900, 1e-3).p_value is None
    assert "above 0.001" in stats.spacing_test(x, 900, 1e-3).note
    assert stats.spacing_test(x, 900, 1e-4).p_value is not None
    assert stats.edge_test(x, 900, 1e-3).p_value is not None


# ---------------------------------------------------------------------------------- variation


def integrated_t_cdf(t: float, df: int, shift: float) -> float:
    """Return P(T <= t) of the noncentral t law by adaptive integration over W."""
    constant = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)

    def integrand(w: float) -> float:
        density = math.exp(constant + (df - 1) * math.log(w) - df * w * w / 2)
        return density * math.erfc((shift - t * w) / math.sqrt(2)) / 2

    width = 10 / math.sqrt(2 * df)
    points = sorted({max(1e-12, 1 - width), min(max(shift / t, 1e-9), 1 + width), 1.0, 1 + width})
    edges = [1e-12, *points, 1 + 2 * width, 1 + 5 * width]
    parts = [
        integrate.quad(integrand, a, b, epsabs=1e-14, epsrel=1e-12, limit=400)[0]
        for a, b in itertools.pairwise(sorted(set(edges)))
    ]
    return math.fsum(parts)


def sample_with(cv: float, n: int) -> np.ndarray:
    """Return n values with mean 1 and the given sd / mean."""
    x = np.linspace(-1, 1, n)
    return 1 + cv * x / x.std(ddof=1)


@pytest.mark.parametrize("n", [2, 3, 10, 30, 1000])
@pytest.mark.parametrize("cv", [0.01, 0.2, 0.7, 1.3, 4.0, 60.0])
def test_variation_interval_inverts_the_noncentral_t_law(n, cv):
    """At each limit the law, integrated independently, has the probability asked for."""
    low, high = stats.variation_interval(sample_with(cv, n))
    root = math.sqrt(n)
    assert integrated_t_cdf(root / cv, n - 1, root / low) == close(0.025, abs=1e-10)
    if math.isinf(high):
        assert scipy_stats.t.cdf(root / cv, n - 1) <= 0.975
    else:
        assert integrated_t_cdf(root / cv, n - 1, root / high) == close(0.975, abs=1e-10)


def test_variation_interval_equals_r_and_scipy():
    """Two samples agree with R's pt (to its own accuracy) and with scipy.stats.nct."""
    times = [4.1, 3.9, 5.2, 4.7, 4.4, 6.0, 3.6, 4.9, 5.1, 4.2]
    # R: root of pt(sqrt(n)/cv, n-1, ncp=d) = .025, .975
    low, high = stats.variation_interval(times)
    assert (low, high) == exact((0.10611260568019913, 0.289460424268218), rel=1e-8)
    t = math.sqrt(10) * np.mean(times) / np.std(times, ddof=1)
    assert scipy_stats.nct.cdf(t, 9, math.sqrt(10) / low) == exact(0.025, rel=1e-11)
    assert scipy_stats.nct.cdf(t, 9, math.sqrt(10) / high) == exact(0.975, rel=1e-11)


@pytest.mark.parametrize("n", [2, 10, 3000])
def test_variation_interval_of_tiny_variation_is_the_chi_square_one(n):
    """As cv goes to 0 the limits become cv sqrt((n - 1) / chi2), where nct gives NaN."""
    cv = 2.0**-30
    low, high = stats.variation_interval(sample_with(cv, n))
    chi = scipy_stats.chi2.ppf([0.975, 0.025], n - 1)
    assert (low, high) == exact(tuple(cv * np.sqrt((n - 1) / chi)), rel=1e-6)


def test_variation_interval_ends_at_inf_and_zero():
    """Wild values have no upper limit; equal values have no variation at all."""
    assert stats.variation_interval([0.1, 9.0])[1] == math.inf
    assert stats.variation_interval([0.1, 0.1, 0.1]) == (0.0, 0.0)
    one = stats.variation_interval([3, 4, 5, 7])
    assert stats.variation_interval([3e200, 4e200, 5e200, 7e200]) == exact(one)


@quick_and_full("samples", 400, 2000)
def test_variation_interval_covers_the_truth(samples):
    """Of many normal samples about 5 % miss the true coefficient (band at 1e-6)."""
    rng = np.random.default_rng(77)
    missed = 0
    for values in rng.normal(10, 2, (samples, 10)):
        low, high = stats.variation_interval(values)
        missed += not low <= 0.2 <= high
    band = scipy_stats.binom.ppf([5e-7, 1 - 5e-7], samples, 0.05)
    assert band[0] <= missed <= band[1]


# ------------------------------------------------------------------------------- multiplicity


def test_adjusted_p_values_equal_r():
    """Holm and Benjamini-Hochberg on the fifteen p-values of the 1995 paper."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240,
         0.4262, 0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    # R: p.adjust(p, "BH"), p.adjust(p, "holm")
    false_discovery = [0.0015, 0.003, 0.0095, 0.035625, 0.0603, 0.063857142857142862,
                       0.063857142857142862, 0.0645, 0.0765, 0.486, 0.58118181818181813,
                       0.71487499999999993, 0.75323076923076926, 0.81321428571428567,
                       1]  # fmt: skip
    familywise = [0.0015, 0.0056, 0.0247, 0.114, 0.2211, 0.278, 0.278, 0.278, 0.3213, *[1] * 6]
    order = np.random.default_rng(2).permutation(15)
    assert stats.benjamini_hochberg(np.array(p)[order]) == exact(np.array(false_discovery)[order])
    assert stats.holm(np.array(p)[order]) == exact(np.array(familywise)[order])


def slow_holm(p: list[float]) -> list[float]:
    """Return Holm's adjustment from its definition."""
    m = len(p)
    rank = sorted(range(m), key=lambda i: p[i])
    return [min(1.0, max((m - j) * p[rank[j]] for j in range(rank.index(i) + 1))) for i in range(m)]


def slow_bh(p: list[float]) -> list[float]:
    """Return the Benjamini-Hochberg adjustment from its definition."""
    m = len(p)
    rank = sorted(range(m), key=lambda i: p[i])
    return [
        min(1.0, min(m * p[rank[j]] / (j + 1) for j in range(rank.index(i), m))) for i in range(m)
    ]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_adjusted_p_values_equal_slow_twins(p):
    """Both agree with their definition, keep the order, and never fall below the raw p."""
    holm, bh = stats.holm(p), stats.benjamini_hochberg(p)
    assert holm == close(np.array(slow_holm(p)), rel=1e-12)
    assert bh == close(np.array(slow_bh(p)), rel=1e-12)
    assert np.all(holm >= bh * (1 - 1e-12))
    assert np.all(bh >= np.array(p) * (1 - 1e-12))


# --------------------------------------------------------------------------------- properties


@given(st.integers(0, 10**9), st.floats(0, 1e9))
def test_poisson_p_is_a_probability(count, mean):
    """P lies in [0, 1] and the interval holds the estimate at any count and mean."""
    result = stats.poisson_count_test(count, mean)
    assert 0 <= result.p_value <= 1
    if result.interval and mean > 1e-200:
        assert result.interval[0] <= result.estimate * (1 + 1e-12)
        assert result.estimate <= result.interval[1]


@pytest.mark.parametrize("mean", [3.5, 3500.0, 1e9])
def test_poisson_p_falls_with_the_deviation(mean):
    """The farther the count from the mean, the smaller p, without a jump between methods."""
    for sign in (-1, 1):
        counts = [round(mean + sign * z * math.sqrt(mean)) for z in np.arange(0.5, 30, 0.25)]
        p = [stats.poisson_count_test(c, mean).p_value for c in counts if c >= 0]
        assert all(a >= b for a, b in itertools.pairwise(p))


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=30), st.integers(1, 5))
def test_dispersion_ignores_order(counts, shift):
    """D does not depend on the order, and its interval holds the estimate."""
    one = stats.dispersion_test(counts)
    other = stats.dispersion_test(counts[shift:] + counts[:shift])
    if one.p_value is None:
        assert sum(counts) == 0
    else:
        assert one.statistic == close(other.statistic, rel=1e-12)
        assert 0 <= one.p_value <= 1
        assert one.interval[0] <= one.estimate <= one.interval[1]


# --------------------------------------------------------------------- calibration and controls

WEIGHTS = np.array([0.4, 0.35, 0.25])


def honest_p_values(seed: int) -> dict[str, float]:
    """Return the p-value of every test on one honest small batch."""
    rng = np.random.default_rng(seed)
    drivers = rng.poisson(3.5, 200)
    n = int(drivers.sum())
    kinds, offsets = rng.choice(3, n, p=WEIGHTS), rng.random(n) * 900
    table = np.bincount(kinds * 4 + rng.integers(0, 4, n), minlength=12).reshape(3, 4)
    ticks = np.floor(offsets * 1e6) / 1e6
    results = [
        stats.poisson_count_test(n, 700),
        stats.category_test(np.bincount(kinds, minlength=3), WEIGHTS),
        stats.poisson_fit_test(drivers, 3.5),
        stats.dispersion_test(drivers),
        stats.uniformity_test(ticks, 900, 1e-6),
        stats.edge_test(ticks, 900, 1e-6),
        stats.spacing_test(ticks, 900, 1e-6),
        stats.independence_test(table),
        stats.two_sample_rate_test(int(drivers[:80].sum()), 80, int(drivers[80:].sum()), 120),
    ]
    return {result.name: result.p_value for result in results}


@quick_and_full("seeds", 400, 2000)
def test_honest_data_are_rejected_as_often_as_stated(seeds):
    """Of many honest seeds each test rejects within exact binomial bands, 1e-6 in all."""
    batches = [honest_p_values(seed) for seed in range(seeds)]
    levels = (0.05, 0.01, 0.001)
    tail = 1e-6 / (len(batches[0]) * len(levels) * 2)
    for name, alpha in itertools.product(batches[0], levels):
        rejected = sum(batch[name] <= alpha for batch in batches)
        # The chi-square tests are asymptotic and the exact ones discrete: a quarter of slack.
        assert rejected <= scipy_stats.binom.isf(tail, seeds, 1.25 * alpha), (name, alpha)
        assert rejected >= scipy_stats.binom.ppf(tail, seeds, 0.75 * alpha), (name, alpha)


@pytest.mark.parametrize("seed", range(5))
def test_faulty_data_are_rejected(seed):
    """Each control, a fault at 48 batches' size, is rejected by its test at 1e-6."""
    rng = np.random.default_rng(seed)
    n = 168_000
    offsets = rng.random(n) * 900
    late = np.where(rng.random(n) < 0.02, 899.999 + rng.random(n) * 0.001, offsets)
    doubled = np.concatenate([offsets[:3500], offsets[:350] + 1e-6])
    negative_binomial = rng.negative_binomial(5, 5 / 8.5, 5000)
    faults = [
        stats.poisson_count_test(int(rng.poisson(1.02 * n)) + 1000, n),
        stats.category_test(rng.multinomial(n, [0.42, 0.33, 0.25]), WEIGHTS),
        stats.poisson_fit_test(negative_binomial, 3.5),
        stats.dispersion_test(negative_binomial),
        stats.dispersion_test(np.full(48, 3500) + rng.integers(-3, 4, 48)),
        stats.uniformity_test(np.sqrt(rng.random(3500)) * 900, 900),
        stats.edge_test(late, 900),
        stats.spacing_test(doubled[doubled < 900], 900),
        stats.independence_test(np.array([[4200, 3300, 2500], [3800, 3700, 2500]])),
        stats.two_sample_rate_test(int(rng.poisson(1.05 * n)), 1, int(rng.poisson(n)), 1),
    ]
    for result in faults:
        assert result.p_value < 1e-6, result
    assert stats.poisson_equivalence_test(int(1.2 * 3500), 3500, 0.1).p_value > 0.99
    assert stats.category_equivalence_test([500, 300, 200], WEIGHTS, 0.03).p_value > 0.99


# --------------------------------------------------------------------------------- bad input

NAN = math.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.poisson_count_test(-1, 3), "count is -1, must be .* whole, >= 0"),
        (lambda: stats.poisson_count_test(1.5, 3), "count is 1.5, must be"),
        (lambda: stats.poisson_count_test(True, 3), "count is True, must be"),
        (lambda: stats.poisson_count_test("7", 3), "count is '7', must be"),
        (lambda: stats.poisson_count_test(2**53 + 2, 3), "count is .* 2\\*\\*53"),
        (lambda: stats.poisson_count_test(3, -0.1), "mean is -0.1, must be .* >= 0"),
        (lambda: stats.poisson_count_test(3, NAN), "mean is nan, must be a finite"),
        (lambda: stats.poisson_count_test(3, math.inf), "mean is inf, must be a finite"),
        (lambda: stats.poisson_interval(3, 1.0), "confidence is 1.0, must be .* > 0 and < 1"),
        (lambda: stats.poisson_interval(-3), "count is -3"),
        (lambda: stats.poisson_equivalence_test(3, 3, 0), "margin is 0, must be"),
        (lambda: stats.poisson_equivalence_test(3, 3, 1.0), "margin is 1.0, must be"),
        (lambda: stats.two_sample_rate_test(1, 0, 1, 1), "exposure_a is 0, must be .* > 0"),
        (lambda: stats.two_sample_rate_test(1, 1, 1, NAN), "exposure_b is nan"),
        (lambda: stats.two_sample_rate_test(1, 1, 0.5, 1), "count_b is 0.5"),
        (lambda: stats.dispersion_test([]), "counts is empty, must have at least one"),
        (lambda: stats.dispersion_test([1, -2]), "counts: value 1 is -2, must be >= 0"),
        (lambda: stats.dispersion_test([1, 2.5]), "counts: value 1 is 2.5, must be a whole"),
        (lambda: stats.dispersion_test([1, NAN]), "counts: value 1 is nan, must be finite"),
        (lambda: stats.dispersion_test([[1, 2]]), "counts has 2 dimensions, must have 1"),
        (lambda: stats.dispersion_test(["a"]), "counts has type .*, must be numbers"),
        (lambda: stats.dispersion_test([2.0**54]), "counts: value 0 is .*, must be <= 2"),
        (lambda: stats.dispersion_test([2**52] * 3), "counts: the total is above 2"),
        (lambda: stats.poisson_fit_test([1, 2], NAN), "mean is nan"),
        (lambda: stats.poisson_fit_test([], 1), "counts is empty"),
        (lambda: stats.category_test([1, 2], [0.5, 0.4]), "weights: the sum is 0.9, must be 1"),
        (lambda: stats.category_test([1, 2], [0.5, 0.5 + 3e-9]), "weights: the sum is"),
        (lambda: stats.category_test([1, 2], [1.5, -0.5]), "weights: value 1 is -0.5, must be"),
        (lambda: stats.category_test([1, 2], [1.0]), "weights has 1 values, must have 2"),
        (lambda: stats.category_test([1, -2], [0.5, 0.5]), "observed: value 1 is -2"),
        (lambda: stats.category_test([], []), "observed is empty"),
        (lambda: stats.category_equivalence_test([1, 2], [0.5, 0.5], 0), "margin is 0"),
        (lambda: stats.share_intervals([0, 0]), "observed is all zeros"),
        (lambda: stats.share_intervals([1, 2], 95), "confidence is 95"),
        (lambda: stats.independence_test([1, 2]), "table has 1 dimensions, must have 2"),
        (lambda: stats.independence_test([[1, 2], [3, -4]]), "table: value 3 is -4"),
        (lambda: stats.uniformity_test([], 1), "offsets is empty"),
        (lambda: stats.uniformity_test([0.5, 1.0], 1), "offsets: value 1 is 1.0, must be >= 0 and"),
        (lambda: stats.uniformity_test([-0.1], 1), "offsets: value 0 is -0.1"),
        (lambda: stats.uniformity_test([0.5], 0), "length is 0, must be"),
        (lambda: stats.uniformity_test([0.5], 1, -1), "resolution is -1, must be"),
        (lambda: stats.uniformity_test([0.5], 1, 2), "resolution is 2.0, must be 0, or less"),
        (lambda: stats.uniformity_test([0.5], 1, 1e-17), "resolution is 1e-17, must be 0, or"),
        (lambda: stats.edge_test([0.0, 0.5], 1), "offsets: a value is 0, must be > 0"),
        (lambda: stats.edge_test([0.5, 1.0], 1), "offsets: value 1 is 1.0"),
        (lambda: stats.spacing_test([0.0, 0.5], 1), "offsets: a value is 0, must be > 0"),
        (lambda: stats.spacing_test([0.5, 0.5], 1), "offsets: two values are equal, must differ"),
        (lambda: stats.spacing_test([NAN], 1), "offsets: value 0 is nan"),
        (lambda: stats.variation_interval([1.0]), "values has 1 value, must have at least 2"),
        (lambda: stats.variation_interval([1.0, -3.0]), "values: the mean is -1.0, must be > 0"),
        (lambda: stats.variation_interval([0.0, 0.0]), "values: the mean is 0.0"),
        (lambda: stats.variation_interval([1.0, 2.0], 0), "confidence is 0"),
        (lambda: stats.holm([0.5, NAN]), "p_values: value 1 is nan"),
        (lambda: stats.benjamini_hochberg([1.5]), "p_values: value 0 is 1.5, must be from 0 to 1"),
        (lambda: stats.holm([-0.1]), "p_values: value 0 is -0.1"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    """Every refusal names the argument, what was found and what is allowed."""
    with pytest.raises(ValueError, match=message):
        call()


def test_empty_family_stays_empty():
    """No p-values in, none out."""
    assert stats.holm([]).shape == (0,)
    assert stats.benjamini_hochberg([]).shape == (0,)


def test_two_sample_rates_without_events_keep_their_ends_at_any_exposure():
    """A rate of 0 is 0 and an upper end of inf is inf, where the ratio of exposures overflows."""
    none = stats.two_sample_rate_test(0, 1e-300, 3, 1e300)
    assert (none.estimate, none.interval) == (0.0, (0.0, math.inf))
    other = stats.two_sample_rate_test(3, 1e300, 0, 1e-300)
    assert (other.estimate, other.interval) == (math.inf, (0.0, math.inf))


@pytest.mark.parametrize(("lean", "p"), [(1e-9, 1.0), (1e-7, 0.5 - 1e-7)])
def test_outcomes_that_are_almost_as_likely_count_as_equal(lean, p):
    """Within 1e-7 relative two outcomes tie (here 4e-9), beyond it they do not (4e-7)."""
    result = stats.category_test([0, 1], [0.5 + lean, 0.5 - lean])
    assert result.p_value == pytest.approx(p, rel=1e-9)
