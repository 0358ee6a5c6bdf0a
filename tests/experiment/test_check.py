"""`fleetsim check` on any specification: sound ones are left alone, the others get their remedy."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

import pytest
from analysis import baseline, config_of, criterion, with_keys
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import examples

from fleetsim.experiment.check import (
    IMPOSSIBLE,
    Check,
    check_experiment,
    defects_table,
    remedy_text,
)
from fleetsim.experiment.expectation import (
    PASS_WANTED,
    Expectation,
    Remedy,
    bytes_per_event,
    expected_line_bytes,
)
from fleetsim.generate.config import Config
from fleetsim.kinds.baseline.criteria import CRITERIA, Criterion
from fleetsim.stats.battery import family_size

RATE, COMPANIES, DRIVERS = (
    "event_rate_per_driver",
    "number_of_companies",
    "drivers_per_company",
)
#: Probabilities that are compared on the far side of a limit agree to this.
NOISE = 1e-9


def checked(config: Config, *criteria: Criterion, batches: int = 1) -> Check:
    """Return the check of an experiment with these criteria."""
    experiment = replace(baseline(), config=config, criteria=criteria, batches=batches)
    return check_experiment(experiment)


def count_range(low: float, high: float) -> Criterion:
    """Return a criterion that states a range of counts."""
    return criterion("event_count_range", low=low, high=high, unit="events")


def chance_at(check: Check, claim: Criterion, name: str, value: float) -> float:
    """Return the chance of a criterion where one parameter has another value."""
    values = {**check.expectation.config.as_dict(), name: value}
    changed = replace(check.expectation, config=config_of(**values))
    return float(CRITERIA[claim.kind].a_priori(claim, changed) or 0.0)


def mean_at(e: Expectation, name: str, value: float) -> float:
    """Return the mean where one parameter has another value."""
    return replace(e, config=config_of(**{**e.config.as_dict(), name: value})).mean


def test_the_baseline_is_found_out() -> None:
    """Both of the document's readings of 5000 cannot pass, and their remedies are the published."""
    check = check_experiment(baseline())
    outlooks = {row.criterion.id: row.outlook for row in check.criteria}
    assert {name for name, outlook in outlooks.items() if outlook == "cannot pass"} == {
        "event_count_stated",
        "batch_size_stated",
    }
    found = {r.parameter: (r.nearest, r.smallest) for r in check.remedies["event_count_stated"]}
    assert found == {RATE: (5.0, 4.658), COMPANIES: (143, 134), DRIVERS: (14, 14)}
    assert set(check.remedies) == {"event_count_stated", "batch_size_stated"}
    assert len(check.findings) == 3
    assert "event_count_stated with event_count_expected" in check.findings[-1]
    assert "< 1 in a million" in check.findings[0]
    assert check.criteria[1].a_priori == pytest.approx(3.7e-59, rel=0.02)
    json.dumps(check.as_dict(), allow_nan=False)


def test_experiment_002_is_sound() -> None:
    """With the rate that the first remedy names, nothing contradicts."""
    check = check_experiment(baseline(event_rate_per_driver=5.0))
    assert check.findings == ()
    assert check.remedies == {}


def test_warnings_are_no_findings() -> None:
    """Blind and undecidable criteria leave a sound experiment sound; each is named once."""
    check = checked(
        config_of(),
        criterion("event_count_law", tolerance=0.3),
        criterion("generation_time_variation", high=0.2),
    )
    assert check.findings == ()
    assert [w.partition(":")[0] for w in check.warnings] == ["event_count_law"]
    few = with_keys(repeats=10)
    assert any(w.startswith("generation_time_variation: ") for w in check_experiment(few).warnings)
    assert check_experiment(few).findings == check_experiment(baseline()).findings


def test_a_range_out_of_reach_has_no_power() -> None:
    """What an honest run never reaches says nothing about one that is off."""
    check = checked(config_of(), count_range(4500, 5500), count_range(3000, 4000))
    assert [bool(row.prospect.power) for row in check.criteria] == [False, True]


fleets = st.builds(
    config_of,
    number_of_companies=st.integers(1, 2000),
    drivers_per_company=st.integers(1, 50),
    event_rate_per_driver=st.floats(0.01, 100).map(lambda rate: float(f"{rate:.4g}")),
    active_fraction=st.sampled_from([1.0, 1.0, 0.5, 0.9]),
)
quick = settings(deadline=None, max_examples=examples(60))


@quick
@given(fleets, st.integers(1, 20))
def test_a_range_of_eight_deviations_is_sound(config: Config, batches: int) -> None:
    """What holds for all but one run in 10**9 is no finding."""
    e = replace(baseline().kind.expect(baseline()), config=config, batches=batches)
    room = 8 * e.standard_deviation + 40  # 40: the tail of a Poisson law of small mean
    check = checked(config, count_range(max(0, e.mean - room), e.mean + room), batches=batches)
    assert check.findings == ()
    assert check.remedies == {}
    assert check.criteria[0].a_priori == pytest.approx(1, abs=1e-8)


@settings(quick, max_examples=100)
@given(fleets, st.floats(0.01, 30), st.floats(0.001, 0.4))
@pytest.mark.slow
def test_a_range_far_away_gets_its_remedies(config: Config, ratio: float, width: float) -> None:
    """Each remedy really passes and is the smallest; where none is named, none is to be found."""
    e = replace(baseline().kind.expect(baseline()), config=config)
    middle = e.mean * ratio
    claim = count_range(middle * (1 - width), middle * (1 + width))
    assert claim.low is not None
    assert claim.high is not None
    assume(abs(middle - e.mean) > middle * width + 6 * e.standard_deviation + 20)
    check = checked(config, claim)
    assert check.criteria[0].a_priori < IMPOSSIBLE
    assert check.criteria[0].outlook == "cannot pass"
    assert "cannot pass" in check.findings[0]
    for remedy in check.remedies[claim.id]:
        look_at(check, claim, remedy)


def look_at(check: Check, claim: Criterion, remedy: Remedy) -> None:
    """Hold a remedy to what it says."""
    e, name, current = check.expectation, remedy.parameter, remedy.current
    low, high = claim.low or 0.0, claim.high or 0.0
    middle = (low + high) / 2
    whole = name != RATE
    per_unit = e.mean / current
    assert remedy_text(remedy)
    if remedy.nearest is None:
        assert remedy.smallest is None
        # Only the limits of a parameter keep its mean out of the range.
        least, most = (1, 10**9 if name == COMPANIES else 10**6) if whole else (0, 10**4)
        assert high < least * per_unit or low > most * per_unit
        return
    digits = 0 if whole else decimals(middle / per_unit, (high - low) / per_unit)
    step = 10.0**-digits
    distance = abs(mean_at(e, name, remedy.nearest) - middle)
    for other in (remedy.nearest - step, remedy.nearest + step):
        if not whole or other >= 1:
            assert distance <= abs(other * per_unit - middle) * (1 + NOISE) + NOISE
    if remedy.smallest is None:
        around = range(max(1, int(low / per_unit)), int(high / per_unit) + 2) if whole else []
        values = list(around)[:50] if whole else [middle / per_unit * (1 + i / 40) for i in (-1, 0)]
        for value in values:
            if whole or 0 <= value <= 1e4:
                assert chance_at(check, claim, name, value) < PASS_WANTED + NOISE
        return
    assert chance_at(check, claim, name, remedy.smallest) >= PASS_WANTED
    back = math.copysign(10.0**-digits, current - remedy.smallest)
    closer = remedy.smallest + back
    if (closer - current) * (remedy.smallest - current) > 0:
        value = round(closer) if whole else round(closer, digits)
        assert chance_at(check, claim, name, value) < PASS_WANTED


def decimals(ideal: float, width: float) -> int:
    """Return the decimals of the steps in which a rate is tried."""
    digits = 3 - math.floor(math.log10(ideal))
    while 10.0**-digits > width / 100:
        digits += 1
    return digits


@pytest.mark.parametrize(
    ("low", "high", "values", "expected"),
    [
        # Lowering as well as raising.
        (450, 550, {}, {RATE: 0.5, COMPANIES: 14, DRIVERS: 1}),
        # The parameter's limit keeps the middle out of reach, and the range itself is not.
        (9_000_000, 13_000_000, {}, {RATE: 10_000, COMPANIES: 314_286, DRIVERS: 31_429}),
        # Out of reach altogether.
        (3e7, 4e7, {}, {RATE: None, COMPANIES: 1_000_000, DRIVERS: 100_000}),
        (1, 5, {}, {RATE: 0.003, COMPANIES: None, DRIVERS: None}),
        # Nothing to multiply.
        (4500, 5500, {RATE: 0.0}, {RATE: 5.0, COMPANIES: None, DRIVERS: None}),
        (4500, 5500, {"active_fraction": 0.0}, {RATE: None, COMPANIES: None, DRIVERS: None}),
    ],
)
def test_the_nearest_value_is_allowed_and_reaches_the_range(
    low: float, high: float, values: dict[str, Any], expected: dict[str, float | None]
) -> None:
    """Its mean is nearest the middle among the allowed values; None where limits forbid it."""
    check = checked(config_of(**values), count_range(low, high))
    remedies = {r.parameter: r for r in check.remedies["event_count_range"]}
    assert {name: remedy.nearest for name, remedy in remedies.items()} == expected
    for name, remedy in remedies.items():
        if remedy.smallest is not None:
            claim = check.criteria[0].criterion
            assert chance_at(check, claim, name, remedy.smallest) >= PASS_WANTED


def test_a_smaller_change_is_found_where_the_ideal_is_forbidden() -> None:
    """The middle needs a rate of 11000; 9200 is allowed and passes."""
    check = checked(config_of(), count_range(9_000_000, 13_000_000))
    remedy = check.remedies["event_count_range"][0]
    assert remedy.nearest == 10_000
    assert remedy.smallest is not None
    assert 9000 < remedy.smallest < 9100


def test_a_range_whose_middle_fails_is_passed_beside_it() -> None:
    """At most 5 events: a mean of 2.5 passes too rarely, a lower one often enough."""
    check = checked(config_of(), count_range(0, 5))
    remedy = check.remedies["event_count_range"][0]
    assert remedy.nearest == 0.0025
    assert remedy.smallest == pytest.approx(0.001785, abs=1e-5)


def test_a_narrow_range_gets_finer_steps() -> None:
    """Four digits of a rate would step over it."""
    config = config_of(number_of_companies=10**6)
    check = checked(config, count_range(50_000_000 - 30_000, 50_000_000 + 30_000))
    rate = check.remedies["event_count_range"][0]
    assert rate.nearest == 5.0
    assert rate.smallest is not None
    assert rate.smallest == pytest.approx(4.9987, abs=2e-4)


def test_a_range_of_sizes_knows_that_lines_grow() -> None:
    """A longer truck number makes a longer line; the remedy passes as the criterion judges."""
    claim = criterion("batch_size_range", low=500, high=600, unit="MB")
    check = checked(config_of(), claim)
    for remedy in check.remedies[claim.id]:
        assert remedy.smallest is not None
        assert chance_at(check, claim, remedy.parameter, remedy.smallest) >= PASS_WANTED
        config = config_of(**{remedy.parameter: remedy.nearest})
        mean = mean_at(check.expectation, remedy.parameter, remedy.nearest or 0)
        assert mean * expected_line_bytes(config) / 1e6 == pytest.approx(550, rel=1e-3)


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_the_largest_fleets_are_checked(fraction: float) -> None:
    """10**9 companies of 10**6 drivers come to an end, with remedies."""
    config = config_of(
        number_of_companies=10**9, drivers_per_company=10**6, active_fraction=fraction
    )
    check = checked(config, count_range(4500, 5500), criterion("event_type_law", tolerance=0.05))
    assert check.criteria[0].a_priori == 0
    assert check.criteria[1].a_priori == pytest.approx(1 - 0.05 / check.expectation.family)
    rate, companies, drivers = check.remedies["event_count_range"]
    assert rate.smallest == pytest.approx(5.33e-12 / fraction, rel=1e-2, abs=0)
    assert companies.nearest is drivers.nearest is None


def test_criteria_with_an_upper_limit_only() -> None:
    """What the machine decides has no chance before the run, and nothing to reconcile."""
    check = checked(
        config_of(),
        criterion("generation_time", high=5),
        criterion("memory_peak", high=512),
        criterion("generation_time_variation", high=0.2),
    )
    assert [row.outlook for row in check.criteria] == ["measured"] * 3
    assert check.findings == ()


def test_a_range_without_upper_end_is_said_in_words() -> None:
    """A criterion made without `high` asks for so many events or more."""
    check = checked(config_of(), criterion("event_count_range", low=5000))
    assert "5000 events or more" in check.findings[0]
    assert check.remedies == {}


def test_a_tight_tolerance_is_doubtful_and_has_no_stated_range() -> None:
    """The window moves with the mean, so no value of a parameter is the one that was meant."""
    check = checked(config_of(), criterion("event_count_law", tolerance=0.01))
    assert check.criteria[0].outlook == "doubtful"
    assert check.remedies == {}
    assert check.findings[0].startswith(
        "event_count_law: doubtful; it asks for 3465 to 3535 events"
    )


def test_ranges_that_touch_do_not_exclude_each_other() -> None:
    """One common count is enough."""
    touching = [
        count_range(3000, 3500),
        criterion("event_count_range", id="b", low=3500, high=4000),
    ]
    assert not any("satisfies" in finding for finding in checked(config_of(), *touching).findings)
    apart = [count_range(3000, 3499), touching[1]]
    assert "event_count_range with b" in checked(config_of(), *apart).findings[-1]


def test_remedies_are_phrases() -> None:
    """What is told without e-notation, and what is told where nothing helps."""
    assert remedy_text(Remedy(COMPANIES, 100, 1_428_571, 1_341_234)) == (
        "number_of_companies 100 -> 1428571 has its mean nearest the middle; smallest change that "
        "passes with probability >= 0.99: 1341234"
    )
    assert remedy_text(Remedy(DRIVERS, 10, 14, None)).endswith(
        "no value passes with probability >= 0.99"
    )
    assert remedy_text(Remedy(DRIVERS, 10, None, None)) == (
        "drivers_per_company 10: no allowed value reaches the range"
    )


def test_expected_defects_are_told_and_rare_kinds_named() -> None:
    """Lines of each kind; fewer than five are a warning and no finding; late ones come later."""
    rates: dict[str, Any] = {
        "null_value": 0.01,
        "wrong_type": 0.0005,
        "duplicate": 0.02,
        "late": {"rate": 0.1, "batches": 2},
    }
    config = config_of(**baseline().config.as_dict(), defects=rates)
    clean = criterion("jsonl_valid")
    check = checked(config, clean, batches=2)
    assert check.defects == {
        "null_value": pytest.approx(70),
        "wrong_type": pytest.approx(3.5),
        "duplicate": pytest.approx(140),
        "late": 0,
    }
    assert check.findings == ()
    assert check.warnings == (
        "defects: hardly sees wrong_type: 3.5 lines expected.",
        "defects: hardly sees late: 0 lines expected; they come 2 batches later, and there are 2.",
    )
    assert check.as_dict()["defects"] == check.defects
    assert re.search(r"^null_value +0\.01 +70$", str(defects_table(check)), re.MULTILINE)
    assert check.expectation.mean == pytest.approx(7000 * (1 - 0.01 - 0.0005 - 0.1))
    more = checked(config, clean, batches=5)
    assert more.defects["late"] == pytest.approx(3 * 3500 * 0.1)
    assert more.expectation.family == check.expectation.family + 1 + (
        family_size(5) - family_size(2)
    )


def test_without_defects_nothing_is_said_of_them() -> None:
    """The check of other experiments is what it was."""
    check = check_experiment(baseline())
    assert check.defects == {}
    assert "defects" not in check.as_dict()


def test_bytes_of_a_clean_event_hold_its_share_of_the_dirty_lines() -> None:
    """Copies add lines, touched lines have no clean event, late ones of the last batch are away."""
    config = baseline().config
    line = expected_line_bytes(config)
    assert bytes_per_event(config, 4) == line
    rates = {"null_value": 0.1, "duplicate": 0.05, "late": 0.1}
    dirty = config_of(**config.as_dict(), defects=rates)
    lines = 1.05 - 0.1 / 4  # of a record, in four batches of which the last one's never come
    assert bytes_per_event(dirty, 4) == pytest.approx(line * lines / 0.8)
    nothing = config_of(**config.as_dict(), defects={"null_value": 1})
    assert bytes_per_event(nothing, 4) == line
