"""What criteria make of a generator that is off: published figures, simulation, and properties."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from analysis import baseline, config_of, criterion, hand_made, quick_repeats, tally_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as laws
from support import examples, judge, quick_and_full

from fleetsim import stats
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.expectation import Expectation
from fleetsim.experiment.prospects import (
    BLIND,
    GATE_LEVEL,
    POINTS,
    RATES,
    RATIOS,
    UNDECIDED,
    VARIATIONS,
    Power,
    Prospect,
)
from fleetsim.generate.model import type_law
from fleetsim.kinds.baseline.criteria import CRITERIA, Criterion
from fleetsim.stats import power
from fleetsim.stats.battery import family_size

WEIGHTS = np.array([0.40, 0.35, 0.25])
#: The kinds that have alternatives, with limits that experiment 001 could have.
CLAIMS = {
    "event_count_law": {"tolerance": 0.1},
    "event_count_range": {"low": 3150.0, "high": 3850.0},
    "batch_size_law": {"tolerance": 0.1},
    "batch_size_range": {"low": 0.8, "high": 1.0},
    "event_type_law": {"tolerance": 0.05},
    "event_count_spread": {"low": 0.8, "high": 1.25},
    "generation_time_variation": {"high": 0.2},
}


def expect(**values: Any) -> Expectation:
    """Return the expectation of experiment 001 with other numbers or keys of the configuration."""
    own = {k: values.pop(k) for k in ("batches", "replicates", "repeats", "alpha") if k in values}
    own["family"] = family_size(own.get("batches", 1))
    return replace(baseline().kind.expect(baseline()), config=config_of(**values), **own)


def prospect_of(claim: Criterion, e: Expectation) -> Prospect:
    """Return the prospect of a criterion."""
    prospect = CRITERIA[claim.kind].prospect
    assert prospect is not None
    return prospect(claim, e)


def claim_of(kind: str) -> Criterion:
    """Return a criterion of a kind, with its usual limits."""
    return criterion(kind, **CLAIMS[kind])


def row_of(prospect: Prospect, alternative: str, level: float | None) -> Power:
    """Return the row of an alternative at a level."""
    return next(r for r in prospect.power if (r.alternative, r.level) == (alternative, level))


# --- published figures ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batches", "usual", "strict"),
    [(1, 0.219, 0.000), (8, 0.915, 0.060), (16, 0.997, 0.431), (32, 1.0, 0.962), (48, 1.0, 0.999)],
)
def test_the_count_has_the_published_power(batches: int, usual: float, strict: float) -> None:
    """Against a rate 2 % too high, at the levels .05 (unadjusted) and 1e-6."""
    e = expect(batches=batches)
    e = replace(e, alpha=0.05, family=1)
    prospect = prospect_of(claim_of("event_count_law"), e)
    assert row_of(prospect, "rate 2 % too high", 0.05).power == pytest.approx(usual, abs=5e-4)
    gate = row_of(prospect, "rate 2 % too high", GATE_LEVEL)
    assert gate.power == pytest.approx(strict, abs=5e-4)


def test_the_types_have_the_published_power() -> None:
    """0.69 at .05 and 3500 events: two points moved between the two most frequent types.

    Between other pairs it would be 0.78 and 0.80; the most frequent are the hardest to see.
    """
    e = replace(expect(), alpha=0.05, family=1)
    row = row_of(
        prospect_of(claim_of("event_type_law"), e),
        "start driving +2 points, stopped driving -2",
        0.05,
    )
    assert row.power == pytest.approx(0.69, abs=0.005)
    for i, j, published in ((0, 1, 0.69), (0, 2, 0.78), (1, 2, 0.80)):
        shares = WEIGHTS.copy()
        shares[[i, j]] += [0.02, -0.02]
        found = power.category_power(3500, WEIGHTS, shares, 0.05)
        assert found == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(("margin", "seeds"), [(0.25, 123), (0.20, 192), (0.10, 769), (0.05, 3074)])
def test_the_spread_needs_as_many_seeds_as_published(margin: float, seeds: int) -> None:
    """The smallest number whose honest variance/mean lies within the margin 19 times of 20."""
    assert power.dispersion_reach(seeds - 1) <= margin < power.dispersion_reach(seeds - 2)
    e = expect(replicates=seeds)
    accepts = prospect_of(claim_of("event_count_spread"), e).accepts
    assert f"within {100 * margin:.2g} % of 1 with probability 0.95" in accepts


def test_ten_percent_is_nearly_blind_as_published() -> None:
    """5.92 deviations pass a rate 2 % too high with .999998, one 5 % too low with .9989."""
    for kind in ("event_count_law", "batch_size_law"):
        prospect = prospect_of(claim_of(kind), expect())
        assert len(prospect.warnings) == 1
        assert prospect.warnings[0].startswith(
            "nearly blind; ±10 % is 5.92 standard deviations: it alone passes a rate 2 % too high "
            "with probability 99.99982 % and one 5 % too low with 99.89 %."
        )
    prospect = prospect_of(claim_of("batch_size_law"), expect())
    assert 1 - row_of(prospect, "rate 2 % too high", None).fails == pytest.approx(
        0.999998, abs=5e-7
    )
    assert 1 - row_of(prospect, "rate 5 % too low", None).fails == pytest.approx(0.9989, abs=5e-5)


@pytest.mark.parametrize(("n", "share"), [(3, 0.36), (10, 0.10)])
def test_a_point_estimate_of_the_variation_proves_as_little_as_published(
    n: int, share: float
) -> None:
    """A true variation of 30 % shows below 20 % so often; the rule lets it pass far less often."""
    from fleetsim.stats.laws import noncentral_t_cdf

    root = math.sqrt(n)
    seen = 1 - noncentral_t_cdf(root / 0.2, n - 1, root / 0.3)
    assert seen == pytest.approx(share, abs=0.01)
    assert power.variation_outcome(n, 0.2, 0.3).passes < 0.025 < seen


# --- by the judges themselves --------------------------------------------------------------------

#: Draws of each case, in `make test` and in `make test-slow`.
often = quick_and_full("runs", 300, 1500)
RUNS = 1500
#: False alarm of each comparison; 3 verdicts of some ten cases make one in 10**4 for this file.
ALARM = 1e-5 / 3


def assert_as_often(outcome: tuple[float, float, float], seen: list[Verdict], slack: float) -> None:
    """Hold probabilities to verdicts: each count lies in its exact binomial band, and `slack`."""
    verdicts = (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
    assert sum(outcome) == pytest.approx(1, abs=1e-9)
    for verdict, chance in zip(verdicts, outcome, strict=True):
        low, high = laws.binom.interval(1 - ALARM, len(seen), np.clip(chance, 0, 1))
        count = seen.count(verdict)
        room = slack * len(seen)
        assert low - room <= count <= high + room, (verdict, chance, count / len(seen))


def outcome_of(row: Power) -> tuple[float, float, float]:
    """Return the probabilities to pass, fail and be inconclusive."""
    return 1 - row.fails - row.inconclusive, row.fails, row.inconclusive


@pytest.mark.parametrize("tolerance", [0.02, 0.1])
@pytest.mark.parametrize("ratio", [1.02, 0.95])
def test_counts_fail_as_often_as_said(tolerance: float, ratio: float) -> None:
    """Counts of a wrong rate, held to tolerance and test one by one."""
    e = expect()
    claim = criterion("event_count_law", tolerance=tolerance)
    name = f"rate {100 * abs(ratio - 1):.0f} % too {'high' if ratio > 1 else 'low'}"
    row = row_of(prospect_of(claim, e), name, e.level)
    seen = []
    for count in np.random.default_rng(1).poisson(ratio * e.mean, RUNS):
        kept = stats.poisson_count_test(int(count), e.mean).p_value
        assert kept is not None
        inside = abs(count - e.mean) <= tolerance * e.mean
        seen.append(Verdict.PASS if inside and kept >= e.level else Verdict.FAIL)
    assert_as_often(outcome_of(row), seen, slack=0)


def test_counts_of_a_drawn_number_of_companies_fail_as_often_as_said() -> None:
    """The truth is off for the companies that are active, however many these are."""
    e = expect(active_fraction=0.3, number_of_companies=40)
    row = row_of(prospect_of(claim_of("event_count_law"), e), "rate 5 % too high", e.level)
    rng = np.random.default_rng(2)
    seen = []
    for active in rng.binomial(40, 0.3, RUNS):
        mean = active * 35.0
        count = int(rng.poisson(1.05 * mean))
        p = stats.poisson_count_test(count, mean).p_value
        passed = abs(count - mean) <= 0.1 * mean and p is not None and p >= e.level
        seen.append(Verdict.PASS if passed else Verdict.FAIL)
    assert_as_often(outcome_of(row), seen, slack=0)


def judged_types(margin: float, counts: npt.NDArray[np.int64], level: float) -> Verdict:
    """Return the verdict that `criteria` gives to counts of types, its test at one level."""
    total = counts.sum()
    p = stats.category_test(counts, WEIGHTS).p_value
    assert p is not None
    if p < level:
        return Verdict.FAIL
    shares = counts / total
    half = laws.norm.isf(0.05) * np.sqrt(shares * (1 - shares) / total)
    inside = (np.abs(shares - WEIGHTS) + half).max() <= margin
    return Verdict.PASS if inside else Verdict.INCONCLUSIVE


@often
@pytest.mark.parametrize(("margin", "rate"), [(0.05, 3.5), (0.03, 3.5), (0.02, 3.5), (0.06, 1.0)])
@pytest.mark.parametrize("points", [0.0, *POINTS])
def test_types_end_as_often_as_said(margin: float, rate: float, points: float, runs: int) -> None:
    """Multinomial draws of shares that are off, of a Poisson number of events.

    Asymptotic, and at the expected number of events: hence the slack of 1.5 %.
    """
    e = expect(event_rate_per_driver=rate)
    shares = WEIGHTS + np.array([points, -points, 0])
    outcome = power.category_outcome(e.mean, WEIGHTS, shares, margin, e.level)
    if points:
        name = f"start driving +{100 * points:g} points, stopped driving -{100 * points:g}"
        row = row_of(prospect_of(criterion("event_type_law", tolerance=margin), e), name, e.level)
        assert outcome_of(row) == pytest.approx(outcome, abs=1e-12)
    rng = np.random.default_rng(3)
    draws = rng.multinomial(rng.poisson(e.mean, runs), shares)
    assert_as_often(outcome, [judged_types(margin, d, e.level) for d in draws], slack=0.015)


@often
@pytest.mark.parametrize(("replicates", "low", "high"), [(300, 0.8, 1.25), (60, 0.5, 1.6)])
@pytest.mark.parametrize("ratio", [1.0, 1.25, 0.8])
def test_the_spread_ends_as_often_as_said(
    replicates: int, low: float, high: float, ratio: float, runs: int
) -> None:
    """Counts of a wrong variance, held to the criterion's rule; a slack of 1 % for the asymptotics.

    Too wide by gamma-mixed rates, too narrow by binomial counts.
    """
    e = expect(replicates=replicates)
    rng = np.random.default_rng(4)
    shape = (runs, replicates)
    if ratio > 1:
        rows = rng.poisson(rng.gamma(e.mean / (ratio - 1), ratio - 1, shape))
    elif ratio < 1:
        rows = rng.binomial(round(e.mean / (1 - ratio)), 1 - ratio, shape)
    else:
        rows = rng.poisson(e.mean, shape)
    seen = []
    for row in rows:
        below, above = stats.dispersion_test(row).interval or (0.0, 0.0)
        inside = low < below and above < high
        kept = Verdict.PASS if inside else Verdict.INCONCLUSIVE
        seen.append(kept if below <= 1 <= above else Verdict.FAIL)
    outcome = power.dispersion_outcome(replicates - 1, ratio, low, high)
    assert_as_often(outcome, seen, slack=0.01)
    if ratio != 1:
        claim = criterion("event_count_spread", low=low, high=high)
        said = row_of(prospect_of(claim, e), f"variance/mean {ratio:.2f}", 0.05)
        assert outcome_of(said) == pytest.approx(outcome, abs=1e-9)


@often
@pytest.mark.parametrize("repeats", [10, 30])
@pytest.mark.parametrize("ratio", VARIATIONS)
def test_run_times_end_as_often_as_said(repeats: int, ratio: float, runs: int) -> None:
    """Normal run times of a known variation, held to `stats.variation_interval`."""
    e, limit = expect(repeats=repeats), 0.2
    row = next(
        r
        for r in prospect_of(claim_of("generation_time_variation"), e).power
        if f"variation {100 * ratio * limit:.3g} %" in r.alternative
    )
    seen = []
    for times in np.random.default_rng(5).normal(1, ratio * limit, (runs, repeats)):
        below, above = stats.variation_interval(times)
        undecided = Verdict.FAIL if below > limit else Verdict.INCONCLUSIVE
        seen.append(Verdict.PASS if above < limit else undecided)
    assert_as_often(outcome_of(row), seen, slack=0)


def test_what_passes_is_what_the_judges_pass() -> None:
    """The counts at the edges that the sentence names pass, the next ones fail."""
    accepts = prospect_of(claim_of("event_count_law"), expect()).accepts
    words = accepts.partition("expected, ")[2].split()
    low, high = int(words[0]), int(words[2])

    def verdict(count: int) -> Verdict:
        # At the level of one test: every other p-value of the evidence is left out.
        test = stats.poisson_count_test(count, 3500)
        assert test.p_value is not None
        passed = 3150 <= count <= 3850 and test.p_value >= expect().level
        return Verdict.PASS if passed else Verdict.FAIL

    assert verdict(low) is verdict(high) is Verdict.PASS
    assert verdict(low - 1) is verdict(high + 1) is Verdict.FAIL
    stated = criterion("event_count_range", low=3400.5, high=3600.5)
    assert prospect_of(stated, expect()).accepts == "3401 to 3600 events pass"
    for count in (3401, 3600):
        tally = tally_of(config_of(), counts=np.full(1000, 3) + (np.arange(1000) < count - 3000))
        assert judge(stated, hand_made(tally=tally)).verdict is Verdict.PASS


@pytest.mark.parametrize("repeats", [10, 30, 100])
def test_the_largest_variation_that_passes_is_the_judges(repeats: int) -> None:
    """Just below the named limits the criterion passes or hangs, just above it hangs or fails."""
    below, above = power.variation_limits(repeats, 0.2)
    steps = np.linspace(-1, 1, repeats)
    steps /= steps.std(ddof=1)
    claim = claim_of("generation_time_variation")

    def verdict(variation: float) -> Verdict:
        times = tuple(float(t) for t in 1 + variation * steps)
        return judge(claim, hand_made(repeats=quick_repeats(times), interval="fixed")).verdict

    assert verdict(below * 0.999) is Verdict.PASS
    assert verdict(below * 1.001) is verdict(above * 0.999) is Verdict.INCONCLUSIVE
    assert verdict(above * 1.001) is Verdict.FAIL


def test_a_limit_that_no_run_time_can_exceed() -> None:
    """With two repeats and a limit of 100 % nothing fails, and the sentence does not say it."""
    assert power.variation_limits(2, 1.0)[1] == math.inf
    assert power.variation_outcome(2, 1.0, 3.0).fails == 0
    claim = criterion("generation_time_variation", high=1.0)
    assert "fails" not in prospect_of(claim, expect(repeats=2)).accepts


# --- properties ----------------------------------------------------------------------------------

quick = settings(deadline=None, max_examples=examples(60))
levels = st.sampled_from([0.05, 0.01, 0.05 / 30, GATE_LEVEL])


@quick
@given(st.floats(50, 1e7), st.floats(1.0, 1.5), st.floats(1.0, 1.5), levels, st.booleans())
def test_the_power_of_the_count_grows_with_the_error(
    mean: float, one: float, other: float, level: float, low: bool
) -> None:
    """A rate farther off is caught at least as often; one that is right, at most at the level."""
    near, far = sorted((one, other))
    if low:
        near, far = 2 - near, 2 - far
    assert power.poisson_power(mean, near, level) <= power.poisson_power(mean, far, level) + 1e-6
    assert power.poisson_power(mean, 1, level) <= level


@quick
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(RATES), levels)
def test_the_power_of_the_count_grows_with_the_batches(
    one: int, other: int, ratio: float, level: float
) -> None:
    """More batches catch at least as much; counts are whole, so up to a hundredth."""
    few, many = sorted((one, other))
    chances = [
        expect(batches=batches).count_deviates(level=level, ratio=ratio) for batches in (few, many)
    ]
    assert chances[0] <= chances[1] + 0.01


@quick
@given(
    st.integers(100, 10**6),
    st.floats(0, 0.2),
    st.floats(0, 0.2),
    st.floats(0.005, 0.3),
    levels,
)
def test_types_that_are_farther_off_pass_less_often(
    n: int, one: float, other: float, margin: float, level: float
) -> None:
    """Power grows with the distance and with the events, and the chance to pass shrinks."""
    near, far = sorted((one, other))
    shares = [WEIGHTS + np.array([p, -p, 0]) for p in (near, far)]
    powers = [power.category_power(n, WEIGHTS, s, level) for s in shares]
    assert level - 1e-9 <= powers[0] <= powers[1] + 1e-9
    assert power.category_power(2 * n, WEIGHTS, shares[1], level) >= powers[1] - 1e-9
    outcomes = [power.category_outcome(n, WEIGHTS, s, margin, level) for s in shares]
    assert outcomes[1].passes <= outcomes[0].passes + 0.01
    for outcome in outcomes:
        assert sum(outcome) == pytest.approx(1)
        assert min(outcome) >= 0


@quick
@given(st.integers(1, 10**5), st.floats(1.0, 3.0), st.floats(1.0, 3.0), levels)
def test_the_power_of_the_spread_grows_with_the_ratio(
    df: int, one: float, other: float, level: float
) -> None:
    """A larger variance is caught more often, and the verdicts' probabilities add up."""
    near, far = sorted((one, other))
    powers = [power.dispersion_power(df, ratio, level) for ratio in (1, near, far)]
    assert powers[0] == pytest.approx(level, rel=1e-6)
    assert powers[0] <= powers[2] + 1e-9
    if near >= 1.1 and df >= 20:  # the equal-tailed test is a little biased just above 1
        assert powers[1] <= powers[2] + 1e-9
    outcome = power.dispersion_outcome(df, far, 0.8, 1.25)
    assert sum(outcome) == pytest.approx(1)
    assert min(outcome) >= 0


@settings(deadline=None, max_examples=examples(30))
@given(st.integers(2, 300), st.floats(0.02, 0.8), st.floats(0.1, 3.0))
def test_the_variations_verdicts_add_up(n: int, limit: float, ratio: float) -> None:
    """Probabilities add up; at the limit itself, each wrong verdict has at most its 2.5 %."""
    outcome = power.variation_outcome(n, limit, ratio * limit)
    assert sum(outcome) == pytest.approx(1)
    assert min(outcome) >= 0
    at_limit = power.variation_outcome(n, limit, limit)
    assert at_limit.passes == pytest.approx(0.025, abs=1e-6)
    assert at_limit.fails <= 0.025 + 1e-6
    below, above = power.variation_limits(n, limit)
    assert 0 < below < limit < above


@settings(deadline=None, max_examples=20)
@given(
    companies=st.integers(1, 10**9),
    drivers=st.integers(1, 10**6),
    rate=st.floats(0, 1e4),
    fraction=st.floats(0, 1),
    batches=st.integers(1, 1000),
    replicates=st.integers(2, 10**6),
)
@pytest.mark.slow
def test_every_fleet_has_its_prospects(
    companies: int, drivers: int, rate: float, fraction: float, batches: int, replicates: int
) -> None:
    """From the smallest to the largest, rates of 0 included: probabilities, and strict JSON."""
    e = expect(
        number_of_companies=companies,
        drivers_per_company=drivers,
        event_rate_per_driver=rate,
        active_fraction=fraction,
        batches=batches,
        replicates=replicates,
    )
    for kind in CLAIMS:
        prospect = prospect_of(claim_of(kind), e)
        json.dumps(msgspec.to_builtins(prospect.power), allow_nan=False)
        for row in prospect.power:
            for chance in (row.power or 0.0, row.fails, row.inconclusive):
                assert -1e-9 <= chance <= 1 + 1e-9, (kind, row)
            assert row.fails + row.inconclusive <= 1 + 1e-9
            assert row.power is None or row.fails >= row.power - 1e-9


# --- entries -------------------------------------------------------------------------------------


def test_each_kind_that_claims_a_law_has_alternatives() -> None:
    """Those that rest on a test or name a window of counts; each row in words, with its level."""
    with_claim = {name for name, kind in CRITERIA.items() if kind.tests or kind.window}
    assert {name for name, kind in CRITERIA.items() if kind.prospect} >= with_claim
    for kind in CLAIMS:
        prospect = prospect_of(claim_of(kind), expect())
        assert prospect.accepts
        assert prospect.power
        tested = {row.level for row in prospect.power}
        own = {"event_count_spread": 0.05}.get(kind, expect().level)
        has_test = bool(CRITERIA[kind].tests)
        assert tested == ({own, GATE_LEVEL} if has_test else {None})
        assert all((row.power is None) == (row.level is None) for row in prospect.power)
    n_types = len(prospect_of(claim_of("event_type_law"), expect()).power)
    assert n_types == 2 * len(POINTS)
    assert len(prospect_of(claim_of("event_count_spread"), expect()).power) == 2 * len(RATIOS)


def test_the_levels_follow_the_family_and_alpha() -> None:
    """No number that depends on the battery is written down."""
    e = replace(expect(), alpha=0.01, family=7)
    for kind in ("event_count_law", "event_type_law"):
        levels_found = {row.level for row in prospect_of(claim_of(kind), e).power}
        assert levels_found == {0.01 / 7, GATE_LEVEL}


@pytest.mark.parametrize(
    ("types", "alternatives"),
    [
        ({"a": 1.0}, []),
        ({"a": 1.0, "b": 0.0}, []),
        ({"a": 0.2, "b": 0.5, "c": 0.3}, ["b +2 points, c -2", "b +5 points, c -5"]),
        ({"b": 0.5, "a": 0.5}, ["a +2 points, b -2", "a +5 points, b -5"]),
        ({"a": 0.96, "b": 0.04}, ["a +2 points, b -2"]),
        ({"a": 0.99, "b": 0.01}, []),
    ],
)
def test_types_move_where_they_have_room(types: dict[str, float], alternatives: list[str]) -> None:
    """The most frequent grows at the expense of the second, as far as that has a share."""
    prospect = prospect_of(claim_of("event_type_law"), expect(event_types=types))
    assert list(dict.fromkeys(row.alternative for row in prospect.power)) == alternatives


def test_nothing_to_hold_has_no_prospect() -> None:
    """Without events, replicates or repeats there is nothing to say."""
    for kind in CLAIMS:
        if kind != "generation_time_variation":
            e = expect(event_rate_per_driver=0)
            assert prospect_of(claim_of(kind), e) == Prospect()
    claim = claim_of("generation_time_variation")
    assert prospect_of(claim, replace(expect(), repeats=0)) == Prospect()
    assert prospect_of(criterion("generation_time_variation", high=0.0), expect()) == Prospect()


def test_what_cannot_pass_is_said_in_words() -> None:
    """A range without a whole number, one without end, a margin below the intervals."""
    e = expect(event_rate_per_driver=3.5005)
    for kind in ("event_count_law", "batch_size_law"):
        assert "none pass" in prospect_of(criterion(kind, tolerance=1e-5), e).accepts
    endless = prospect_of(criterion("event_count_range", low=3000), e)
    assert endless.accepts == "3000 events or more pass"
    assert "inf" not in endless.warnings[0]
    tight = prospect_of(criterion("event_type_law", tolerance=0.01), e)
    assert "hardly a share passes: 1 points are allowed" in tight.accepts
    few = prospect_of(claim_of("event_count_spread"), expect(replicates=30))
    assert few.accepts.startswith("over 30 seeds no observed variance/mean passes")


def test_the_order_of_the_types_changes_nothing() -> None:
    """A mapping has no order."""
    names = dict(zip(type_law(config_of()).names, type_law(config_of()).probabilities, strict=True))
    turned = expect(event_types=dict(reversed(names.items())))
    claim = claim_of("event_type_law")
    assert prospect_of(claim, turned).accepts == prospect_of(claim, expect()).accepts
    for one, other in zip(
        prospect_of(claim, turned).power, prospect_of(claim, expect()).power, strict=True
    ):
        assert one.alternative == other.alternative
        assert outcome_of(one) == pytest.approx(outcome_of(other), abs=2e-3)


# --- warnings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "limits", "blind"),
    [
        ("event_count_law", {"tolerance": 0.1}, True),
        ("event_count_law", {"tolerance": 0.05}, False),
        ("event_count_range", {"low": 3000, "high": 4000}, True),
        ("event_count_range", {"low": 3400, "high": 4000}, False),
        ("batch_size_range", {"low": 0.5, "high": 2.0}, True),
        ("batch_size_law", {"tolerance": 0.04}, False),
    ],
)
def test_limits_that_pass_a_small_error_either_way_are_blind(
    kind: str, limits: dict[str, float], blind: bool
) -> None:
    """The rule is about 2 % of the rate and 99 of 100 runs, whatever the number of deviations."""
    prospect = prospect_of(criterion(kind, **limits), expect())
    limits_alone = [
        expect().count_deviates(limits["tolerance"], ratio=ratio)
        if "tolerance" in limits
        else row_of(prospect, f"rate 2 % too {'high' if ratio > 1 else 'low'}", None).fails
        for ratio in RATES[:2]
    ]
    assert (1 - max(limits_alone) >= BLIND) is blind
    assert any("nearly blind" in warning for warning in prospect.warnings) is blind


def test_the_batches_that_would_do_are_enough() -> None:
    """So many batches catch 2 % nine times of ten, with the tests of so many."""
    warning = prospect_of(claim_of("event_count_law"), expect()).warnings[0]
    enough = int(warning.partition("; ")[2].partition("; ")[2].split()[0])
    caught = [
        expect(batches=b).count_deviates(level=0.05 / family_size(b), ratio=1.02)
        for b in (enough - 1, enough)
    ]
    assert caught[0] < power.POWER <= caught[1]
    many = prospect_of(claim_of("event_count_law"), expect(batches=enough)).warnings[0]
    assert "batches" not in many
    never = prospect_of(
        criterion("event_count_law", tolerance=5000.0),
        expect(number_of_companies=1, drivers_per_company=1, event_rate_per_driver=1e-4),
    ).warnings[0]
    assert "no number of batches up to 1000000 would make that 90 %" in never


def test_few_repeats_cannot_decide_the_variation() -> None:
    """Ten leave three in ten without a verdict at half the limit; the number named is enough."""
    claim = claim_of("generation_time_variation")
    (warning,) = prospect_of(claim, expect(repeats=10)).warnings
    assert warning.startswith("undecidable with 10 repeats; only a variation observed below 10.8 %")
    enough = int(warning.rpartition("; ")[2].split()[0])
    lost = [power.variation_outcome(n, 0.2, 0.1).inconclusive for n in (enough - 1, enough)]
    assert lost[1] <= UNDECIDED < lost[0]
    assert prospect_of(claim, expect(repeats=enough)).warnings == ()
    assert prospect_of(claim, expect(repeats=enough - 1)).warnings != ()


def test_few_seeds_cannot_decide_the_spread() -> None:
    """The number named is enough, one fewer is not; limits around another value never are."""
    claim = claim_of("event_count_spread")
    (warning,) = prospect_of(claim, expect(replicates=30)).warnings
    assert warning.startswith("undecidable with 30 replicates; the 95 % interval reaches from")
    enough = int(warning.rpartition("; ")[2].split()[0])
    assert prospect_of(claim, expect(replicates=enough)).warnings == ()
    assert prospect_of(claim, expect(replicates=enough - 1)).warnings != ()
    aside = criterion("event_count_spread", low=1.1, high=1.25)
    (never,) = prospect_of(aside, expect(replicates=30)).warnings
    assert "no number of replicates up to 1000000 would make that 10 % or less" in never


def test_few_events_cannot_decide_the_types() -> None:
    """Where the 90 % intervals do not fit into the margin; the number of batches named does."""
    claim = criterion("event_type_law", tolerance=0.015)
    (warning,) = prospect_of(claim, expect()).warnings
    assert warning.startswith("undecidable with so few events; the 90 % intervals reach up to 1.4")
    enough = int(warning.rpartition("; ")[2].split()[0])
    assert prospect_of(claim, expect(batches=enough)).warnings == ()
    assert prospect_of(claim, expect(batches=enough - 1)).warnings != ()
