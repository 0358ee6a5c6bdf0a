"""Calibration of the battery on fixed seeds, and the controls that must fail.

False-alarm budget: every limit below is a tail of 1e-6 or less over all of a test's looks. The
seeds are fixed, so a red test is a change of the code, not bad luck; none was chosen by its result.
"""

from __future__ import annotations

import numpy as np
import pytest
from analysis import config_of
from scipy import stats as scipy_stats

from fleetsim.kinds.calibration import trials as calibration
from fleetsim.kinds.calibration.trials import (
    PValues,
    binomial_band,
    calibrate,
    measure_power,
    size_table,
    uniformity_table,
)
from fleetsim.stats import battery, draws, effects
from fleetsim.stats.battery import EntryKind, entries
from fleetsim.stats.controls import CONTROLS

pytestmark = pytest.mark.slow

ALARM = 1e-6
POWER_SEEDS = 40
#: Too small to be caught for certain at the baseline: their power is compared, and they are caught
#: in more batches.
WEAK = {control.name for control in CONTROLS if control.caught_in}


def assert_calibrated(found: PValues) -> None:
    """Hold every rejection count to a band, and the law of p to uniformity, at `ALARM` in all."""
    rows = size_table(found)
    for row in rows:
        low, high = binomial_band(row.seeds, row.level, 1 - ALARM / len(rows))
        low = 0 if row.band[0] == 0 else low
        assert low <= row.rejected <= high, row
    laws = uniformity_table(found)
    for law in laws:
        assert law.p_value >= ALARM / len(laws), law


# ------------------------------------------------------------------------------------ honest data


def test_honest_batches_are_rejected_as_often_as_the_level_says():
    """600 seeds of the baseline batch: no test rejects too often or too rarely."""
    found = calibrate(config_of(), 600)
    assert found.values.shape == (600, len(entries(1)))
    assert not np.isnan(found.values).any()
    assert_calibrated(found)


def test_honest_sets_of_batches_are_rejected_as_often_as_the_level_says():
    """150 seeds of eight baseline batches: the tests between batches hold as well."""
    found = calibrate(config_of(), 150, 8)
    assert found.tests[-1] == "batch_ties"
    assert_calibrated(found)


@pytest.mark.parametrize(
    "values",
    [
        {"number_of_companies": 10, "drivers_per_company": 4, "event_rate_per_driver": 1.0},
        {"number_of_companies": 60, "drivers_per_company": 1, "event_rate_per_driver": 0.3},
        {"number_of_companies": 8, "drivers_per_company": 2, "event_rate_per_driver": 30.0},
        {"event_types": {"a": 0.9, "b": 0.09, "c": 0.009, "d": 0.0009, "e": 0.0001}},
        {"batch_interval": "PT0.00001S"},
        {"number_of_companies": 1, "drivers_per_company": 2, "event_rate_per_driver": 2000.0},
    ],
)
def test_small_or_odd_fleets_are_not_rejected_too_often(values):
    """Where samples are small the tests may be conservative, but never the other way."""
    found = calibrate(config_of(**values), 150, 2)
    rows = size_table(found)
    for row in rows:
        _, high = binomial_band(row.seeds, row.level, 1 - ALARM / len(rows))
        assert row.rejected <= high, row


def test_the_seeds_are_those_after_the_configurations_own():
    """Row r is what seed + r gives, over the end of the range; workers change nothing."""
    config = config_of(seed=2**64 - 2, number_of_companies=10)
    found = calibrate(config, 60, workers=2)
    assert found.seeds[:4] == (2**64 - 2, 2**64 - 1, 0, 1)
    assert np.array_equal(found.values, calibrate(config, 60).values)
    later = calibrate(config_of(seed=1, number_of_companies=10), 1)
    assert np.array_equal(found.values[3], later.values[0])
    law = effects.law_of(config)
    sample = draws.sample_of(draws.draw_columns(config), config)
    own = [entry.make(sample, law).p_value for entry in entries(1)]
    assert found.values[0].tolist() == own


def test_no_seed_is_an_error():
    """A calibration of nothing is refused."""
    with pytest.raises(ValueError, match="seeds is 0"):
        calibrate(config_of(), 0)


# ---------------------------------------------------------------------------- bands and the tables


def test_bands_are_those_of_the_contract():
    """10,000 looks at .05, .01 and .001 have the stated 99 % bands."""
    bands = [binomial_band(10_000, level, 0.99) for level in (0.05, 0.01, 0.001)]
    assert bands == [(445, 557), (75, 127), (3, 19)]


@pytest.mark.parametrize(("n", "p", "level"), [(50, 0.1, 0.99), (10_000, 0.001, 0.9999)])
def test_bands_leave_half_of_the_rest_on_each_side(n, p, level):
    """Both ends are the last counts whose tail is at least half of what the level leaves."""
    low, high = binomial_band(n, p, level)
    law, tail = scipy_stats.binom(n, p), (1 - level) / 2
    assert law.cdf(low) >= tail > law.cdf(low - 1)
    assert law.sf(high) <= tail < law.sf(high - 1)


def uniform_p(n: int = 10_000) -> PValues:
    """Return what perfectly calibrated tests give on average: an even grid of p-values.

    Random ones would fall out of some joint band for one seed in a hundred.
    """
    tests = tuple(entry.name for entry in entries(1))
    values = np.tile((np.arange(n)[:, None] + 0.5) / n, (1, len(tests)))
    return PValues(tests, values, tuple(range(n)), 1)


def test_uniform_p_values_lie_in_the_bands():
    """Tests of the right law pass both tables; equivalence and structure are not in them."""
    found = uniform_p()
    rows, laws = size_table(found), uniformity_table(found)
    assert all(row.inside for row in rows)
    assert all(law.inside for law in laws)
    names = {row.test for row in rows}
    assert names == {entry.name for entry in entries(1) if entry.kind is EntryKind.EVIDENCE}
    assert {law.test for law in laws} == {
        entry.name for entry in entries(1) if entry.kind is EntryKind.EVIDENCE and entry.continuous
    }


@pytest.mark.parametrize("power", [0.9, 1.1])
def test_p_values_of_a_wrong_law_fall_out_of_the_bands(power):
    """A p-value a tenth too large or small on the log scale is found, by count and by law."""
    found = uniform_p()
    column = found.tests.index("event_times_spacings")
    found.values[:, column] **= power
    outside = {row.test for row in size_table(found) if not row.inside}
    uneven = {law.test for law in uniformity_table(found) if not law.inside}
    assert outside == uneven == {"event_times_spacings"}


def test_only_the_upper_limit_binds_where_p_is_discrete():
    """A conservative test of counts is no fault; a conservative continuous one is."""
    found = uniform_p()
    for name in ("event_times_ties", "event_times_spacings"):
        found.values[:, found.tests.index(name)] = 1.0
    outside = {row.test for row in size_table(found) if not row.inside}
    assert outside == {"event_times_spacings"}


def test_missing_p_values_are_not_counted():
    """A test that could not be made has fewer seeds, and none at all leaves the tables."""
    found = uniform_p(100)
    found.values[:30, found.tests.index("driver_number_totals")] = np.nan
    found.values[:, found.tests.index("company_totals")] = np.nan
    seeds = {row.test: row.seeds for row in size_table(found)}
    assert seeds["driver_number_totals"] == 70
    assert "company_totals" not in seeds


# ------------------------------------------------------------------------------------ the controls


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_control_is_caught_with_the_power_that_was_computed(control):
    """The test that is there for the fault decides after Holm; measured power is the computed."""
    rows = {row.test: row for row in measure_power(control, config_of(), POWER_SEEDS)}
    for test, formula in control.computed.items():
        row = rows[test]
        assert row.computed == formula(config_of(), control.batches, 0.05)
        low, high = binomial_band(POWER_SEEDS, row.computed, 1 - ALARM)
        assert low <= row.share * POWER_SEEDS <= high, row
    strongest = rows[control.caught_by[0]]
    assert set(control.caught_by) <= set(rows)
    if control.name in WEAK:
        assert strongest.share_holm > 0 or strongest.computed is not None
    else:
        assert strongest.share_holm >= 0.75, strongest
        assert all(rows[test].share > 0.5 for test in control.caught_by)


@pytest.mark.parametrize("name", sorted(WEAK))
def test_a_small_fault_is_caught_in_many_batches(name):
    """What one batch cannot show, 32 do: in every seed and after Holm's adjustment."""
    control = next(control for control in CONTROLS if control.name == name)
    rows = {row.test: row for row in measure_power(control, config_of(), 8, control.caught_in)}
    assert rows[control.caught_by[0]].share_holm == 1


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_controls_are_drawn_by_their_seed_alone(control):
    """A control repeats itself, and another seed gives another one."""
    config = config_of(number_of_companies=20)
    one, again, other = (
        control.draw(c, control.batches) for c in (config, config, config_of(seed=43))
    )
    assert all(
        np.array_equal(getattr(one, name), getattr(again, name))
        for name in ("batch", "driver", "kind", "offset_us")
    )
    assert not np.array_equal(one.offset_us, other.offset_us)


def test_names_of_controls_are_unique():
    """Each control has its own name, and each names tests of the battery."""
    names = [control.name for control in CONTROLS]
    assert len(set(names)) == len(names)
    known = {entry.name for entry in battery.BATTERY}
    assert {test for control in CONTROLS for test in control.caught_by} <= known
    assert {test for control in CONTROLS for test in control.computed} <= known


def test_power_stands_with_its_exact_interval():
    """The share is hits over seeds, its interval Clopper and Pearson's; no row for equivalence."""
    control = next(c for c in CONTROLS if c.name == "time_at_interval_end")
    rows = measure_power(control, config_of(number_of_companies=5), 6)
    inside = next(row for row in rows if row.test == "event_times_inside")
    assert (inside.share, inside.share_holm, inside.seeds) == (1.0, 1.0, 6)
    assert inside.interval == pytest.approx((0.025 ** (1 / 6), 1.0))
    assert "event_count_within_margin" not in {row.test for row in rows}
    assert calibration.LEVELS == (0.05, 0.01, 0.001)
