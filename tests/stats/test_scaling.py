"""The fit of power laws: against known laws, other programs' figures, and what it cannot know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as laws

from fleetsim.stats.growth import PowerLaw, fit_power_law, log_slope

SMALL = np.array([1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 9e5])
LARGE = np.array([1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8])
SMALL_REPEATS, LARGE_REPEATS = np.full(10, 20), np.array([20, 20, 10, 10, 10, 5, 5])

# Norris, of the Statistical Reference Datasets of NIST (linear regression): y, then x.
NORRIS_Y = """0.1 338.8 118.1 888.0 9.2 228.1 668.5 998.5 449.1 778.9 559.2 0.3 0.1 778.1 668.8
339.3 448.9 10.8 557.7 228.3 998.0 888.8 119.6 0.3 0.6 557.6 339.3 888.0 998.5 778.9
10.2 117.6 228.9 668.4 449.2 0.2"""
NORRIS_X = """0.2 337.4 118.2 884.6 10.1 226.5 666.3 996.3 448.6 777.0 558.2 0.4 0.6 775.5 666.9
338.0 447.5 11.6 556.0 228.1 995.8 887.6 120.2 0.3 0.3 556.8 339.1 887.2 999.0 779.0
11.1 118.3 229.2 669.1 448.9 0.5"""
NORRIS_SLOPE = 1.00211681802045


def costs(sizes, repeats, startup, factor, exponent, noise, rng):
    """Return sizes and costs of a law whose repeats vary by a fraction of themselves."""
    n = np.repeat(sizes, repeats)
    spread = np.repeat(np.broadcast_to(noise, len(sizes)), repeats)
    law = startup + factor * (n / sizes[-1]) ** exponent
    return n, law * np.exp(spread * rng.standard_normal(len(n)))


@given(
    exponent=st.floats(0.3, 3),
    startup=st.floats(0, 10),
    factor=st.floats(5, 1e6),
    unit=st.floats(1e-6, 1e6),
)
def test_a_law_without_noise_is_found(exponent, startup, factor, unit) -> None:
    """Exponent, start-up and factor come back, in whatever unit the costs are."""
    n = np.repeat(SMALL, 2)
    exact = unit * (startup + factor * (n / SMALL[-1]) ** exponent)
    law = fit_power_law(n, exact)
    assert law.exponent == pytest.approx(exponent, rel=1e-4)
    np.testing.assert_allclose(law.at(n), exact, rtol=1e-5)
    assert law.deviation < 1e-5
    assert law.interval[0] <= law.exponent <= law.interval[1]


@given(order=st.permutations(range(20)), scale=st.floats(1e-3, 1e3))
def test_order_and_unit_change_nothing(order, scale) -> None:
    """The exponent and its interval are those of the same measurements in any order and unit."""
    n, cost = costs(SMALL, 2, 0.1, 1.0, 1.0, 0.02, np.random.default_rng(1))
    law, other = fit_power_law(n, cost), fit_power_law(n[order], scale * cost[order])
    assert other.exponent == pytest.approx(law.exponent, rel=1e-6)
    assert other.interval == pytest.approx(law.interval, rel=1e-5)
    assert other.startup == pytest.approx(scale * law.startup, rel=1e-5)


def test_the_fit_is_that_of_another_program() -> None:
    """SciPy's curve_fit, by Levenberg and Marquardt without bounds, in other parameters."""
    n, cost = costs(LARGE, LARGE_REPEATS, 0.55, 35.0, 1.03, 0.04, np.random.default_rng(5))

    def logarithm(size, log_a, log_b, k):
        return np.log(np.exp(log_a) + np.exp(log_b) * size**k)

    found, _ = optimize.curve_fit(logarithm, n, np.log(cost), (0.0, -14.0, 1.0), ftol=1e-14)
    law = fit_power_law(n, cost)
    assert law.exponent == pytest.approx(found[2], rel=1e-5)
    assert law.startup == pytest.approx(np.exp(found[0]), rel=1e-4)
    np.testing.assert_allclose(np.log(law.at(LARGE)), logarithm(LARGE, *found), atol=1e-6)


def test_the_slope_is_nists() -> None:
    """The certified slope of Norris, whose values are taken as logarithms, each in two repeats."""
    x, y = (np.array(text.split(), float) / 100 for text in (NORRIS_X, NORRIS_Y))
    law = log_slope(np.exp(np.tile(x, 2)), np.exp(np.concatenate([y + 0.01, y - 0.01])))
    assert law.exponent == pytest.approx(NORRIS_SLOPE, rel=1e-13)


def test_the_interval_of_two_sizes_is_welchs() -> None:
    """With two sizes the slope is a difference of means, and SciPy has Welch's interval of it."""
    rng = np.random.default_rng(3)
    one, other = np.exp(0.1 * rng.standard_normal(7)), np.exp(2 + 0.5 * rng.standard_normal(4))
    law = log_slope([10.0] * 7 + [1000.0] * 4, [*one, *other])
    welch = laws.ttest_ind(np.log(other), np.log(one), equal_var=False)
    interval = np.array(welch.confidence_interval(0.95)) / np.log(100)
    assert law.interval == pytest.approx(interval, rel=1e-12)
    assert law.scale == 1


CASES = {
    "NumPy path": (SMALL, SMALL_REPEATS, 0.06, 0.9, 1.0, 0.05),
    "compiled": (LARGE, LARGE_REPEATS, 0.55, 35.0, 1.0, 0.05),
    "larger sizes vary more": (LARGE, LARGE_REPEATS, 0.55, 35.0, 1.0, np.linspace(0.02, 0.08, 7)),
    "no start-up": (LARGE, LARGE_REPEATS, 0.0, 35.0, 1.0, 0.05),
    "not proportional": (SMALL, SMALL_REPEATS, 0.06, 0.9, 0.85, 0.05),
    "little growth": (SMALL[:4], SMALL_REPEATS[:4], 0.06, 0.01, 1.0, 0.05),
}


@pytest.mark.parametrize("case", CASES)
def test_the_interval_holds_the_true_exponent(case: str) -> None:
    """In 95 % of 300 simulations or more, but for chance of one in a million."""
    sizes, repeats, startup, factor, exponent, noise = CASES[case]
    rng = np.random.default_rng(20251108)
    held = made = 0
    for _ in range(300):
        n, cost = costs(sizes, repeats, startup, factor, exponent, noise, rng)
        try:
            low, high = fit_power_law(n, cost).interval
        except ValueError:  # says that nothing can be told
            continue
        made += 1
        held += low <= exponent <= high
    assert made > 250
    assert held >= laws.binom.ppf(1e-6, made, 0.95)


def test_the_band_holds_the_true_law() -> None:
    """At sizes that were measured and between them."""
    at = np.array([3e3, 9e5])
    rng = np.random.default_rng(20251108)
    held = np.zeros(2)
    for _ in range(300):
        low, high = fit_power_law(*costs(SMALL, SMALL_REPEATS, 0.06, 0.9, 1.0, 0.05, rng)).band(at)
        truth = 0.06 + 0.9 * at / SMALL[-1]
        held += (low <= truth) & (truth <= high)
    assert held.min() >= laws.binom.ppf(1e-6, 300, 0.95)


def test_a_slope_that_forgets_the_start_is_wrong() -> None:
    """The control: without the start-up, proportional growth never has an exponent near 1."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        law = log_slope(*costs(SMALL, SMALL_REPEATS, 0.06, 0.9, 1.0, 0.05, rng))
        assert law.interval[1] < 0.6


def test_growth_that_is_not_proportional_is_seen() -> None:
    """Exponents of 0.9 and 1.1 lie outside of the interval of 1 in every simulation."""
    rng = np.random.default_rng(1)
    for exponent in (0.9, 1.1):
        for _ in range(50):
            n, cost = costs(LARGE, LARGE_REPEATS, 0.55, 35.0, exponent, 0.05, rng)
            low, high = fit_power_law(n, cost).interval
            assert not low <= 1 <= high


def test_sizes_off_the_law_widen_the_interval() -> None:
    """What the repeats cannot explain counts: each size with a factor of its own."""
    rng = np.random.default_rng(1)
    n, cost = costs(LARGE, LARGE_REPEATS, 0.55, 35.0, 1.0, 0.01, rng)
    law = fit_power_law(n, cost)
    factor = np.repeat([1.05, 0.95, 1.05, 0.95, 1.05, 0.95, 1.05], LARGE_REPEATS)
    bent = fit_power_law(n, cost * factor)
    assert law.scale < 2 < 5 < bent.scale
    assert np.diff(bent.interval) > 3 * np.diff(law.interval)
    assert bent.deviation > 0.03 > law.deviation


def test_repeats_without_variation_leave_the_sizes_to_tell() -> None:
    """Equal repeats: an exact law has an interval of no width, another one that of its sizes."""
    n = np.repeat(LARGE, 3)
    exact = log_slope(n, np.full(len(n), 180e6))
    assert exact.interval == pytest.approx((0.0, 0.0), abs=1e-12)
    bent = log_slope(n, 180e6 * np.repeat([1.0, 1.01, 1.0, 1.01, 1.0, 1.01, 1.0], 3))
    assert bent.interval[0] < 0 < bent.interval[1]
    two = log_slope(n[:6], np.repeat([1.0, 2.0], 3))
    assert two.interval == pytest.approx((1.0, 1.0))


def test_flat_costs_have_no_narrow_exponent() -> None:
    """Where nothing grows, an exponent is refused or could be anything."""
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(50):
        n, cost = costs(SMALL, SMALL_REPEATS, 0.06, 0.0, 1.0, 0.05, rng)
        try:
            law = fit_power_law(n, cost)
        except ValueError:
            refused += 1
        else:
            assert law.interval[0] <= 1 <= law.interval[1]
    assert 0 < refused < 50


@pytest.mark.parametrize("fit", [fit_power_law, log_slope])
@pytest.mark.parametrize(
    ("sizes", "values", "words"),
    [
        ([], [], "it takes [23] sizes or more, found 0"),
        ([5, 5, 5], [1, 2, 3], "it takes [23] sizes or more, found 1"),
        ([1, 1, 2, 2, 3], [1, 1, 2, 2, 3], "2 repeats or more, found one of size 3"),
        ([1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3], r"sizes of shape \(6,\) and costs of shape \(5,\)"),
        ([[1, 1], [2, 2]], [[1, 1], [2, 2]], "found sizes of shape"),
        ([0, 0, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], "sizes have to be finite numbers above 0"),
        ([1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 0], "costs have to be finite numbers above 0"),
        ([1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, np.nan], "costs have to be finite numbers above 0"),
        ([1, 1, 2, 2, 3, np.inf], [1, 1, 2, 2, 3, 3], "sizes have to be finite numbers above 0"),
    ],
)
def test_input_that_is_no_series_is_refused(fit, sizes, values, words) -> None:
    """What was found and what is wanted."""
    with pytest.raises(ValueError, match=words):
        fit(sizes, values)


def test_costs_that_fall_have_no_law_with_a_start() -> None:
    """A plain slope can be negative; a start-up beside shrinking costs cannot be told."""
    n = np.repeat(LARGE, 2)
    assert log_slope(n, 1 / n).exponent == pytest.approx(-1)
    with pytest.raises(ValueError, match="do not grow enough"):
        fit_power_law(n, 1 / n)


def test_a_law_says_what_it_was_made_of() -> None:
    """Numbers of sizes and repeats, and the largest size."""
    law: PowerLaw = log_slope([1, 1, 8, 8, 8], [1, 1, 2, 2, 2])
    assert (law.sizes, law.repeats, law.largest, law.startup) == (2, 5, 8, 0)
    assert law.factor == pytest.approx(2)
