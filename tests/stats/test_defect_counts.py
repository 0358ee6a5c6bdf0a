"""Defects are held to their law: honest ones alarm as rarely as clean data, others are caught."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from functools import cache
from math import comb

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats as scipy_stats
from support import quick_and_full

from fleetsim.generate.config import Config, make_config
from fleetsim.stats.adjust import holm
from fleetsim.stats.battery import EntryKind, family_size
from fleetsim.stats.counts import binomial_count_test
from fleetsim.stats.defects import added, defect_entries, defect_test
from fleetsim.stats.draws import draw_columns, sample_of
from fleetsim.stats.effects import COPIES, clean_share, delivered_share, law_of
from fleetsim.stats.judged import make_tests, run_battery
from fleetsim.stats.power import (
    POWER,
    binomial_acceptance,
    binomial_power,
    detectable_share_shift,
)
from fleetsim.stats.sample import LATE, DefectCounts, Sample

RATES = {
    "missing_field": 0.01,
    "null_value": 0.03,
    "out_of_interval": 0.02,
    "duplicate": 0.02,
    "conflicting_duplicate": 0.01,
    "late": 0.04,
}
CONFIG = make_config(
    {
        "seed": 1,
        "number_of_companies": 10,
        "drivers_per_company": 10,
        "event_rate_per_driver": 3.5,
        "company_onboarding_interval": "P1D",
        "defects": RATES,
    }
)
BATCHES, ALARM = 4, 1e-6


def dirty(config: Config, batches: int, rates: dict[str, float]) -> Sample:
    """Return what an audit with a ledger sees: clean records, and the defects by kind.

    Events are the generator's own; kinds are drawn with these rates, one draw an event.
    """
    columns = draw_columns(config, batches)
    random = np.random.default_rng([config.seed, 17])
    names = [*rates, ""]
    chances = [*rates.values(), 1 - sum(rates.values())]
    kind = np.array(names)[random.choice(len(names), size=len(columns), p=chances)]
    clean = np.isin(kind, ["", *COPIES])
    late = kind == LATE
    early = columns.batch < batches - 1  # the last batch's late records come later still
    found = {name: int((kind == name).sum()) for name in rates if name != LATE}
    found[LATE] = int((late & early).sum())
    counts = DefectCounts(found, int((~late).sum()), int(early.sum()))
    return dataclasses.replace(sample_of(columns.take(clean), config, batches), defects=counts)


def p_values(config: Config, rates: dict[str, float]) -> dict[str, float]:
    """Return the p-values of the family of one seed."""
    tests = make_tests(dirty(config, BATCHES, rates), law_of(config, ledger=True))
    return {
        test.entry.name: test.result.p_value
        for test in tests
        if test.entry.kind is EntryKind.EVIDENCE and test.result.p_value is not None
    }


@cache
def honest(seeds: int) -> dict[str, np.ndarray]:
    """Return the p-values of each test over honest seeds."""
    rows = [p_values(msgspec.structs.replace(CONFIG, seed=seed), RATES) for seed in range(seeds)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


# --- the test itself


@given(n=some.integers(1, 40), data=some.data(), tenths=some.integers(1, 9))
def test_the_binomial_test_adds_up_outcomes(n: int, data: some.DataObject, tenths: int) -> None:
    """P is twice the smaller of two sums of exact fractions, at most 1."""
    count, p = data.draw(some.integers(0, n)), Fraction(tenths, 10)

    def chance(k: int) -> Fraction:
        return comb(n, k) * p**k * (1 - p) ** (n - k)

    lower = sum(map(chance, range(count + 1)), Fraction(0))
    upper = sum(map(chance, range(count, n + 1)), Fraction(0))
    result = binomial_count_test(count, n, tenths / 10)
    assert result.p_value == pytest.approx(float(min(1, 2 * min(lower, upper))), rel=1e-9)
    assert result.estimate == pytest.approx(count / n / (tenths / 10))
    assert result.interval is not None
    limits = scipy_stats.binomtest(count, n).proportion_ci(0.95, "exact")
    expected = (limits.low / (tenths / 10), limits.high / (tenths / 10))
    assert result.interval == pytest.approx(expected, rel=1e-7)


def test_probabilities_at_their_ends_are_certain() -> None:
    """What cannot be and is there has p = 0, what cannot be and is not there has p = 1."""
    assert binomial_count_test(0, 10, 0.0).p_value == 1
    assert binomial_count_test(1, 10, 0.0).p_value == 0
    assert binomial_count_test(10, 10, 1.0).p_value == 1
    assert binomial_count_test(9, 10, 1.0).p_value == 0
    assert binomial_count_test(1, 10, 0.0).estimate is None


@pytest.mark.parametrize(
    ("count", "n", "p"), [(-1, 5, 0.1), (6, 5, 0.1), (0, 0, 0.1), (1, 5, 1.1), (0.5, 5, 0.1)]
)
def test_what_is_no_binomial_count_is_refused(count: float, n: int, p: float) -> None:
    """A count out of range, no trials, or no probability."""
    with pytest.raises(ValueError, match=r"must be|whole"):
        binomial_count_test(count, n, p)


@pytest.mark.parametrize(("n", "p", "level"), [(50, 0.1, 0.05), (7000, 0.004, 0.001)])
def test_acceptance_power_and_detectable_shift_agree(n: int, p: float, level: float) -> None:
    """The region is what the test keeps; the shift has the power that was asked for."""
    least, largest = binomial_acceptance(n, p, level)
    for count, kept in ((least - 1, False), (least, True), (largest, True), (largest + 1, False)):
        if count >= 0:
            result = binomial_count_test(count, n, p)
            assert result.p_value is not None
            assert (result.p_value >= level) == kept
    shift = detectable_share_shift(n, p, level)
    assert shift is not None
    assert binomial_power(n, p, 1 + shift, level) == pytest.approx(POWER, abs=1e-6)
    assert binomial_power(n, p, 1.0, level) <= level


def test_too_few_records_see_no_shift() -> None:
    """Where even a defect in every record is not caught, no size is named."""
    assert detectable_share_shift(3, 0.5, 0.001) is None
    assert detectable_share_shift(0, 0.5, 0.05) is None


# --- what is counted among how many


def test_other_kinds_are_counted_among_the_records_that_are_not_late() -> None:
    """The chance is rate / (1 - rate of late); late ones are counted among all that were seen."""
    counts = DefectCounts({"null_value": 3, "late": 5}, records=100, seen=80)
    rates = {"null_value": 0.03, "late": 0.04}
    assert counts.of("null_value", rates) == (3, 100, pytest.approx(0.03 / 0.96))
    assert counts.of("late", rates) == (5, 80, 0.04)
    assert counts.of("invalid_enum", rates) == (0, 100, 0.0)
    assert added([counts, counts]) == DefectCounts({"null_value": 6, "late": 10}, 200, 160)


def test_late_records_need_the_batch_that_brings_them() -> None:
    """Without it there is no test, and that is said; nor where a ledger was of no use."""
    alone = DefectCounts({}, records=100, seen=0)
    result = defect_test(alone, "late", {"late": 0.04})
    assert (result.p_value, result.n) == (None, 0)
    assert "not at hand" in (result.note or "")
    useless = dataclasses.replace(alone, unusable="the ledger of one batch is missing")
    assert defect_test(useless, "null_value", {"null_value": 0.1}).note == (
        "no test: the ledger of one batch is missing"
    )


def test_rates_thin_the_clean_records_but_for_copies() -> None:
    """Copies leave their original clean and add a line."""
    assert clean_share(RATES) == pytest.approx(0.90)
    assert delivered_share(RATES) == pytest.approx(1.03)
    assert law_of(CONFIG).rate == 3.5
    assert law_of(CONFIG, ledger=True).rate == pytest.approx(3.15)
    assert law_of(CONFIG).defects == {}


def test_each_configured_or_found_kind_has_a_test_in_the_family() -> None:
    """Without a ledger there is none; a kind that the configuration lacks fails where it occurs."""
    law = law_of(CONFIG, ledger=True)
    sample = dirty(CONFIG, BATCHES, RATES)
    assert [e.name for e in defect_entries(sample, law)] == [f"defects_{kind}" for kind in RATES]
    assert defect_entries(dataclasses.replace(sample, defects=None), law) == ()
    assert family_size(BATCHES, len(RATES)) == family_size(BATCHES) + len(RATES)
    assert sample.defects is not None
    odd = dataclasses.replace(sample.defects, found={**sample.defects.found, "extra_field": 1})
    rows = {
        row.entry.name: row for row in run_battery(dataclasses.replace(sample, defects=odd), law)
    }
    assert rows["defects_extra_field"].result.p_value == 0
    assert rows["defects_extra_field"].verdict == "fail"
    row = rows["defects_null_value"]
    assert row.verdict == "pass"
    assert row.p_holm is not None
    assert row.effect is not None
    assert row.caught == f"a rate of null_value {100 * row.effect:.2f} % too high"
    assert row.sentence.startswith("In 9 of 10 runs this test catches a rate of null_value")


# --- calibration


@quick_and_full("seeds", 60, 300)
def test_honest_dirty_data_alarm_as_rarely_as_clean_data(seeds: int) -> None:
    """Each test's rejections lie in exact binomial bands that hold jointly at `ALARM`."""
    found = honest(seeds)
    levels = (0.05, 0.01)
    tail = ALARM / (2 * len(found) * len(levels))
    assert sum(name.startswith("defects_") for name in found) == len(RATES)
    for name, values in found.items():
        for level in levels:
            # Approximate laws are allowed a quarter more, as the tests of `stats` allow them.
            most = scipy_stats.binom.isf(tail, seeds, 1.25 * level)
            assert (values < level).sum() <= most, (name, level)
            if name.startswith("defects_"):
                assert (values < level).sum() <= scipy_stats.binom.isf(tail, seeds, level)


@quick_and_full("seeds", 60, 300)
def test_the_family_alarms_in_at_most_five_of_a_hundred_honest_seeds(seeds: int) -> None:
    """Holm's procedure over the battery and the kinds together."""
    rows = zip(*honest(seeds).values(), strict=True)
    alarms = sum(min(holm(list(row))) < 0.05 for row in rows)
    assert alarms <= scipy_stats.binom.isf(ALARM, seeds, 0.05)


def test_clean_counts_reject_the_law_that_is_not_thinned() -> None:
    """The control of the thinned law: held to all records, clean ones are far too few."""
    config = msgspec.structs.replace(CONFIG, number_of_companies=100)
    sample = dirty(config, BATCHES, RATES)
    whole = dataclasses.replace(law_of(config, ledger=True), rate=law_of(config).rate)
    verdicts = {row.entry.name: row.verdict for row in run_battery(sample, whole)}
    assert verdicts["event_count"] == "fail"
    thinned = {r.entry.name: r.verdict for r in run_battery(sample, law_of(config, ledger=True))}
    assert "fail" not in thinned.values()


@quick_and_full("seeds", 100, 400)
@pytest.mark.parametrize("kind", ["null_value", "late", "duplicate"])
def test_a_fifth_too_few_of_a_kind_is_caught_with_its_computed_power(kind: str, seeds: int) -> None:
    """Rejections over seeds lie in the exact binomial band of the power that is computed."""
    level = 0.05
    config = msgspec.structs.replace(CONFIG, number_of_companies=40)
    rates = {**RATES, kind: 0.8 * RATES[kind]}
    random = np.random.default_rng(5)
    drawn = random.poisson(40 * 10 * 3.5 * BATCHES, seeds)
    caught, powers = 0, []
    for events in drawn.tolist():
        names = [*rates, ""]
        numbers = random.multinomial(events, [*rates.values(), 1 - sum(rates.values())])
        found = dict(zip(names, numbers.tolist(), strict=True))
        del found[""]
        counts = DefectCounts(found, events - found[LATE], events)
        result = defect_test(counts, kind, law_of(config, ledger=True).defects)
        assert result.p_value is not None
        caught += result.p_value < level
        _, n, chance = counts.of(kind, RATES)
        true = rates[kind] / (1 - rates[LATE]) if kind != LATE else rates[LATE]
        powers.append(binomial_power(n, chance, true / chance, level))
    power = float(np.mean(powers))
    low, high = scipy_stats.binom.ppf([ALARM / 2, 1 - ALARM / 2], seeds, power)
    assert low <= caught <= high
    assert power > 4 * level


def test_a_fifth_too_few_fails_a_run_of_many_batches() -> None:
    """At the level of the whole family it is certain where records are many."""
    config = msgspec.structs.replace(CONFIG, number_of_companies=200)
    sample = dirty(config, 8, {**RATES, "null_value": 0.8 * RATES["null_value"]})
    rows = {row.entry.name: row for row in run_battery(sample, law_of(config, ledger=True))}
    assert rows["defects_null_value"].verdict == "fail"
    estimate = rows["defects_null_value"].result.estimate
    assert estimate == pytest.approx(0.8, abs=0.05)
    assert {n for n, r in rows.items() if r.verdict == "fail"} <= {
        "defects_null_value",
        "event_count",  # the clean ones are too many
        "batch_totals",
    }
