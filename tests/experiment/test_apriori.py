"""The probabilities before a run: the published figures, brute force, and simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from analysis import config_of, criterion, hand_made, tally_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as laws
from support import examples, judge

from fleetsim import stats
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.expectation import (
    Expectation,
    expected_line_bytes,
    tolerance_limits,
)
from fleetsim.generate.encode import _mean_digits, encode_events
from fleetsim.generate.events import draw_events
from fleetsim.generate.fleet import Fleet
from fleetsim.kinds.baseline.criteria import CRITERIA
from fleetsim.stats.battery import family_size

FAMILY = family_size(1)


def expect(batches: int = 1, replicates: int = 2000, **values: Any) -> Expectation:
    """Return the expectation of the baseline with other values."""
    return Expectation(config_of(**values), batches, 0.05, FAMILY, replicates)


def test_the_figures_of_the_document_are_the_published_ones() -> None:
    """STATISTICS, section 1: neither the stated count nor the stated size can come out."""
    e = expect()
    assert e.mean == 3500
    assert e.standard_deviation == pytest.approx(59.16, abs=0.005)
    assert e.count_between(4500, 5500) == pytest.approx(3.7e-59, rel=0.01)
    assert 1 - e.count_between(3150, 3850) == pytest.approx(3.6e-9, rel=0.01)
    assert e.count_within(0.1) == e.count_between(3150, 3850)
    size = CRITERIA["batch_size_range"].a_priori(criterion("batch_size_range", low=1, high=2), e)
    assert 1e-13 < size < 1e-11


def test_a_wrong_rate_passes_ten_percent_as_published() -> None:
    """A rate 2 % too high passes with .999998, one 5 % too low with .9989."""
    assert expect(event_rate_per_driver=3.57).count_between(3150, 3850) == pytest.approx(
        0.999998, abs=1e-6
    )
    assert expect(event_rate_per_driver=3.325).count_between(3150, 3850) == pytest.approx(
        0.9989, abs=1e-4
    )


def brute_mixture(e: Expectation, low: float, high: float) -> float:
    """Return P(low <= N <= high) by a plain double sum."""
    config = e.config
    each = e.batches * config.drivers_per_company * config.event_rate_per_driver
    n, p = config.number_of_companies, config.active_fraction
    total = 0.0
    for k in range(n + 1):
        weight = math.comb(n, k) * p**k * (1 - p) ** (n - k)
        term, inside = math.exp(-k * each), 0.0
        for x in range(math.floor(high) + 1):
            inside += term if x >= low else 0.0
            term *= k * each / (x + 1)
        total += weight * inside
    return total


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("window", [(0, 0), (1, 30), (10, 60), (40, 41), (0.5, 17.5)])
def test_inactive_companies_mix_the_law(fraction: float, window: tuple[float, float]) -> None:
    """The number of active companies is binomial: by a plain double sum."""
    e = expect(
        number_of_companies=12,
        drivers_per_company=2,
        event_rate_per_driver=1.5,
        active_fraction=fraction,
    )
    assert e.count_between(*window) == pytest.approx(brute_mixture(e, *window), rel=1e-9, abs=1e-15)


def test_a_mixture_has_its_mean_and_deviation() -> None:
    """Mean and standard deviation agree with a simulation of the mixture."""
    e = expect(active_fraction=0.6, batches=2)
    rng = np.random.default_rng(1)
    draws = rng.poisson(rng.binomial(100, 0.6, 200_000) * 70.0)
    assert e.mean == 4200
    assert draws.mean() == pytest.approx(e.mean, rel=2e-3)
    assert draws.std() == pytest.approx(e.standard_deviation, rel=1e-2)


@pytest.mark.parametrize(("drivers", "rate"), [(1, 0.1), (1, 1.0), (20, 5.0), (10**6, 1e4)])
@pytest.mark.parametrize("deviations", [(-1.0, 1.0), (-8.0, 0.3), (2.0, 9.0)])
def test_large_mixtures_are_taken_together_without_harm(
    drivers: int, rate: float, deviations: tuple[float, float]
) -> None:
    """Grouped numbers of companies give what going through all of them gives."""
    e = expect(
        number_of_companies=10**6,
        drivers_per_company=drivers,
        event_rate_per_driver=rate,
        active_fraction=0.4,
    )
    low, high = (e.mean + d * e.standard_deviation for d in deviations)
    active = np.arange(394_000, 406_000)
    means = active * (drivers * rate)
    inside = laws.poisson.cdf(np.floor(high), means) - laws.poisson.cdf(np.ceil(low) - 1, means)
    slow = float(np.sum(laws.binom.pmf(active, 10**6, 0.4) * inside))
    assert e.count_between(low, high) == pytest.approx(slow, abs=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.2, 3.5])
@pytest.mark.parametrize("tolerance", [0.05, 0.5])
def test_the_law_of_the_count_is_kept_as_often_as_the_test_keeps_it(
    rate: float, tolerance: float
) -> None:
    """By going through every count with the test itself."""
    e = expect(number_of_companies=10, event_rate_per_driver=rate)
    level = 0.05 / FAMILY
    low, high = tolerance_limits(e.mean, tolerance)
    slow = sum(
        float(laws.poisson.pmf(n, e.mean))
        for n in range(600)
        if low <= n <= high and stats.poisson_count_test(n, e.mean).p_value >= level
    )
    assert e.count_follows_law(tolerance) == pytest.approx(slow, rel=1e-9)


def test_a_law_with_inactive_companies_is_about_the_active_ones() -> None:
    """The claim is held to the companies that are active, however many these are."""
    e = expect(active_fraction=0.5)
    k = np.arange(101)
    weights = laws.binom.pmf(k, 100, 0.5)
    within = [float(laws.poisson.cdf(38.5 * n, 35 * n)) for n in k]
    within = [
        p - float(laws.poisson.cdf(math.ceil(round(31.5 * n, 9)) - 1, 35 * n))
        for n, p in zip(k, within, strict=True)
    ]
    assert e.count_within(0.1) == pytest.approx(float(np.sum(weights * within)), rel=1e-9)
    assert e.count_between(1575, 1925) < e.count_within(0.1)


@pytest.mark.parametrize(
    ("rate", "margin", "weights"),
    [
        (0.4, 0.08, (0.40, 0.35, 0.25)),
        (0.4, 0.12, (0.40, 0.35, 0.25)),
        (3.5, 0.03, (0.40, 0.35, 0.25)),
        (3.5, 0.025, (0.5, 0.5)),
        (0.1, 0.2, (0.9, 0.1, 0.0)),
    ],
)
def test_types_pass_at_least_as_often_as_said(
    rate: float, margin: float, weights: tuple[float, ...]
) -> None:
    """The bound holds in 4000 simulated runs, and is not idle."""
    types = {f"t{i}": w for i, w in enumerate(weights)}
    e = expect(event_rate_per_driver=rate, event_types=types)
    bound = e.types_follow_law(margin)
    rng = np.random.default_rng(1)
    runs, passed = 4000, 0
    half = laws.norm.isf(0.05)
    for total in rng.poisson(e.mean, runs):
        counts = rng.multinomial(total, weights)
        shares = counts / max(total, 1)
        reach = np.abs(shares - weights) + half * np.sqrt(shares * (1 - shares) / max(total, 1))
        test = stats.category_test(counts, weights)
        level = 0.05 / FAMILY
        passed += reach.max() <= margin and test.p_value is not None and test.p_value >= level
    error = math.sqrt(max(passed / runs * (1 - passed / runs), 1e-3) / runs)
    assert bound <= passed / runs + 4 * error
    assert bound >= passed / runs - 0.25


def test_types_that_leave_nothing_to_test_cannot_pass() -> None:
    """One type alone, or no event: the verdict is inconclusive, and so the chance is 0."""
    assert expect(event_types={"a": 1.0}).types_follow_law(0.05) == 0
    assert expect(event_types={"a": 1.0, "b": 0.0}).types_follow_law(0.05) == 0
    assert expect(event_rate_per_driver=0).types_follow_law(0.05) == 0
    assert expect(active_fraction=0.0).types_follow_law(0.05) == 0


@pytest.mark.parametrize(
    ("replicates", "low", "high"), [(2000, 0.8, 1.25), (100, 0.6, 1.5), (300, 0.8, 1.25)]
)
def test_the_spread_passes_as_often_as_said(replicates: int, low: float, high: float) -> None:
    """Held to the judge itself in simulated runs."""
    e = expect(replicates=replicates)
    rng = np.random.default_rng(4)
    runs = 2000
    rows = rng.poisson(e.mean, (runs, replicates))
    passed = 0
    for row in rows:
        below, above = stats.dispersion_test(row).interval or (0, 0)
        passed += below <= 1 <= above and low < below and above < high
    chance = e.spread_follows_law(low, high)
    assert passed / runs == pytest.approx(chance, abs=5 * math.sqrt(0.25 / runs))


def test_the_spread_of_nothing_cannot_pass() -> None:
    """Where all counts are 0 there is no spread, and its chance is 0."""
    assert expect(event_rate_per_driver=0).spread_follows_law(0.8, 1.25) == 0
    rare = expect(event_rate_per_driver=1e-9, replicates=10)
    assert rare.spread_follows_law(0.0, 100.0) < 1e-4


def test_lines_are_as_long_as_expected() -> None:
    """The mean length agrees with the generator's own lines, odd names included."""
    config = config_of(
        event_rate_per_driver=40.0, event_types={'"größe"': 0.5, "x": 0.3, "tab\t": 0.2}
    )
    fleet = Fleet(
        company_id=np.full((100, 36), ord("a"), np.uint8),
        active=np.ones(100, np.bool_),
        created_us=np.zeros(100, np.int64),
        sha256="",
    )
    parts = list(draw_events(config, fleet.active))
    size = sum(len(encode_events(config, fleet, 0, part)) for part in parts)
    assert size / sum(len(part) for part in parts) == pytest.approx(
        expected_line_bytes(config), rel=1e-3
    )


@given(st.integers(1, 3000))
def test_mean_digits_are_counted(last: int) -> None:
    """The mean number of digits of 1 .. n, by counting."""
    assert _mean_digits(last) == pytest.approx(
        sum(len(str(i)) for i in range(1, last + 1)) / last, rel=1e-12
    )


@settings(deadline=None, max_examples=examples(40))
@given(
    companies=st.integers(1, 10**9),
    drivers=st.integers(1, 10**6),
    rate=st.floats(0, 1e4),
    fraction=st.floats(0, 1),
    batches=st.integers(1, 1000),
)
def test_every_probability_is_one(
    companies: int, drivers: int, rate: float, fraction: float, batches: int
) -> None:
    """From the smallest to the largest fleet, each chance lies in [0, 1] and comes at once."""
    e = expect(
        number_of_companies=companies,
        drivers_per_company=drivers,
        event_rate_per_driver=rate,
        active_fraction=fraction,
        batches=batches,
    )
    values = {
        "low": e.mean - e.standard_deviation,
        "high": e.mean + e.standard_deviation,
        "tolerance": 0.1,
    }
    for name, kind in CRITERIA.items():
        chance = kind.a_priori(criterion(name, **{k: values[k] for k in kind.limits}), e)
        assert chance is None or -1e-12 <= chance <= 1 + 1e-9, name


def test_structure_is_certain_where_there_is_data() -> None:
    """Form and times need a line to look at; folder and record do not."""
    for name, chance in (("jsonl_valid", 0.0), ("batch_directory", 1.0)):
        e = expect(event_rate_per_driver=0)
        assert CRITERIA[name].a_priori(criterion(name), e) == chance
        config = config_of(event_rate_per_driver=0)
        verdict = judge(criterion(name), hand_made(config, tally_of(config))).verdict
        assert (verdict is Verdict.PASS) == (chance == 1.0)


def test_the_family_is_the_battery_without_equivalence_tests() -> None:
    """An equivalence test speaks for the claim, so it is no member."""
    from analysis import baseline

    assert baseline().kind.expect(baseline()).family == FAMILY
