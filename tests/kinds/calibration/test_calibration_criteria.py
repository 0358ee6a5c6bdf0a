"""Each verdict on the tests themselves, on hand-made tables: passing, failing and left open."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from analysis import criterion
from support import judge

from fleetsim.base.verdict import Verdict
from fleetsim.experiment.criterion import Judgement
from fleetsim.experiment.figures import draw_plot, render
from fleetsim.kinds.calibration.criteria import CRITERIA, power_limits
from fleetsim.kinds.calibration.plots import PLOTS
from fleetsim.kinds.calibration.trials import (
    BUDGET,
    Calibration,
    PowerRow,
    PValues,
    binomial_band,
    exact_interval,
    make_calibration,
)
from fleetsim.stats.battery import BATTERY, EntryKind, entries
from fleetsim.stats.controls import CONTROLS

PASS, FAIL, OPEN = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def even_p(seeds: int, batches: int) -> PValues:
    """Return perfectly uniform p-values of every test, in another order for each."""
    tests = tuple(entry.name for entry in entries(batches))
    grid = (np.arange(seeds) + 0.5) / seeds
    values = np.column_stack([np.roll(grid, number) for number in range(len(tests))])
    return PValues(tests, values, tuple(range(seeds)), batches)


def power_row(control: str, test: str, share: float, **values) -> PowerRow:
    """Return the measurement of a control by a test that needs no adjustment."""
    content = {
        "batches": 1,
        "seeds": 500,
        "share_holm": share,
        "computed": None,
    } | values
    hits = round(share * content["seeds"])
    interval = exact_interval(hits, content["seeds"])
    return PowerRow(control=control, test=test, share=share, interval=interval, **content)


@cache
def all_caught(seeds: int = 500) -> tuple[PowerRow, ...]:
    """Return rows of every control, each caught every time by its strongest test."""
    return tuple(
        power_row(
            control.name,
            control.caught_by[0],
            1.0,
            batches=control.batches,
            seeds=seeds,
            computed=1.0 if control.computed else None,
        )
        for control in CONTROLS
    )


@cache
def found(
    seeds: int = 10_000, controls: tuple[PowerRow, ...] | None = None, batches: int = 8
) -> Calibration:
    """Return a calibration as it should be."""
    passes = [even_p(seeds, 1), even_p(seeds, batches)]
    return make_calibration(passes, all_caught() if controls is None else controls)


def changed(calibration: Calibration, test: str, power: float) -> Calibration:
    """Return a calibration in which the p-values of one test have another law, in many batches."""
    one, many = calibration.passes
    values = many.values.copy()
    values[:, many.tests.index(test)] **= power
    return make_calibration([one, replace(many, values=values)], calibration.controls)


def verdict_of(kind: str, calibration: Calibration, **limits: float) -> Judgement:
    """Return the judgement of a criterion of a kind."""
    return judge(criterion(kind, **limits), calibration)


# --------------------------------------------------------------------------------- honest data


def test_uniform_p_values_pass_both_criteria() -> None:
    """10,000 seeds of the right law: nothing is outside, and the notes say how much was seen."""
    calibration = found()
    for kind in ("rejections_in_band", "p_values_uniform"):
        judgement = verdict_of(kind, calibration)
        assert (judgement.verdict, judgement.observed) == (PASS, 0)
    tests = sum(entry.kind is EntryKind.EVIDENCE for entry in BATTERY)
    assert f"({tests} tests)" in verdict_of("rejections_in_band", calibration).note


def test_the_limits_of_all_passes_share_one_budget() -> None:
    """Bands of one and of many batches hold together; a single pass has the whole budget."""
    calibration = found()
    looks = {row.batches: 0 for row in calibration.sizes}
    for row in calibration.sizes:
        looks[row.batches] += 1
    for row in calibration.sizes:
        low, high = binomial_band(row.seeds, row.level, 1 - BUDGET / 2 / looks[row.batches])
        assert row.joint in {(low, high), (0, high)}
    assert sum(row.limit for row in calibration.laws) == pytest.approx(BUDGET)


@pytest.mark.parametrize("power", [0.9, 1.1])
def test_a_test_of_the_wrong_size_fails_both_criteria(power: float) -> None:
    """Too many and too few rejections are faults, named with count and band."""
    calibration = changed(found(), "batch_pairs", power)
    for kind in ("rejections_in_band", "p_values_uniform"):
        judgement = verdict_of(kind, calibration)
        assert judgement.verdict is FAIL
        assert judgement.observed >= 1
        assert "batch_pairs in 8 batches" in judgement.note


def test_few_seeds_decide_nothing_but_against() -> None:
    """5000 seeds are enough for the level .001, fewer are not; a broken limit counts anyway."""
    for seeds, verdict in ((5000, PASS), (4999, OPEN), (20, OPEN)):
        assert verdict_of("rejections_in_band", found(seeds)).verdict is verdict
    assert "it takes 5000 seeds" in verdict_of("rejections_in_band", found(20)).note
    assert verdict_of("rejections_in_band", changed(found(500), "batch_pairs", 8)).verdict is FAIL
    for seeds, verdict in ((3000, PASS), (1000, OPEN)):
        assert verdict_of("p_values_uniform", found(seeds)).verdict is verdict


def test_a_test_that_was_never_made_leaves_the_verdict_open() -> None:
    """No p-value at all reads as not passed: here those that need two batches."""
    for kind in ("rejections_in_band", "p_values_uniform"):
        judgement = verdict_of(kind, found(batches=1))
        assert judgement.verdict is OPEN
        assert judgement.observed is None
        assert "could not be made: batch_totals" in judgement.note


# -------------------------------------------------------------------------------- the controls


def test_controls_that_are_always_caught_pass() -> None:
    """Every control in every seed: both criteria pass."""
    calibration = found(10)
    caught = calibration.controls
    assert verdict_of("controls_caught", calibration, low=0.75).verdict is PASS
    judgement = verdict_of("power_as_computed", calibration, tolerance=0.02)
    assert (judgement.verdict, judgement.observed) == (PASS, 0)
    assert {row.control for row in caught} == {control.name for control in CONTROLS}


@pytest.mark.parametrize(
    ("share", "seeds", "verdict"),
    [(0.80, 500, PASS), (0.78, 500, OPEN), (0.72, 500, OPEN), (0.70, 500, FAIL), (1.0, 10, OPEN)],
)
def test_the_whole_interval_of_the_lowest_share_decides(share, seeds, verdict) -> None:
    """The interval above the limit passes, below it fails; in between the seeds are too few."""
    rows = [replace(row, share_holm=share, seeds=seeds) for row in all_caught()[:1]]
    judgement = verdict_of("controls_caught", found(10, (*rows, *all_caught()[1:])), low=0.75)
    assert judgement.verdict is verdict
    assert judgement.observed == share
    assert rows[0].control in judgement.note


def test_the_best_test_in_the_most_batches_counts() -> None:
    """What one batch cannot show, or another test misses, is no fault."""
    control = CONTROLS[0]
    missed = power_row(control.name, control.caught_by[0], 0.0)
    again = power_row(control.name, control.caught_by[0], 1.0, batches=control.caught_in)
    rows = (missed, again, *all_caught()[1:])
    assert control.caught_in > control.batches
    assert verdict_of("controls_caught", found(10, rows), low=0.75).verdict is PASS
    other = next(c for c in CONTROLS if len(c.caught_by) > 1)
    rows = (*all_caught(), power_row(other.name, other.caught_by[1], 0.0, batches=other.batches))
    assert verdict_of("controls_caught", found(10, rows), low=0.75).verdict is PASS


def test_a_control_that_was_not_tried_leaves_the_verdict_open() -> None:
    """One missing is named, and none at all is no pass."""
    judgement = verdict_of("controls_caught", found(10, all_caught()[1:]), low=0.75)
    assert judgement.verdict is OPEN
    assert f"Not tried: {CONTROLS[0].name}" in judgement.note
    for kind, limits in (("controls_caught", {"low": 0.75}), ("power_as_computed", {})):
        judgement = verdict_of(kind, found(10, ()), **limits)
        assert (judgement.verdict, judgement.observed) == (OPEN, None)


@pytest.mark.parametrize(
    ("share", "computed", "verdict"),
    [
        (0.22, 0.2188, PASS),
        (0.60, 0.50, FAIL),
        (0.40, 0.50, FAIL),
        (0.55, 0.50, PASS),
        (0.998, 1.0, FAIL),  # what is certain has no room
        (0.002, 0.0, FAIL),
        (1.0, 0.9999, PASS),
        (0.95, 0.9999, FAIL),
    ],
)
def test_measured_power_is_held_to_its_exact_limits(share, computed, verdict) -> None:
    """The binomial band around the computed power decides, widened by the stated tolerance."""
    row = power_row("rate_2_percent_high", "event_count", share, computed=computed)
    judgement = verdict_of("power_as_computed", found(10, (row,)), tolerance=0.02)
    assert judgement.verdict is verdict
    assert judgement.observed == (0 if verdict is PASS else 1)


def test_limits_of_the_power_are_those_of_the_binomial_law() -> None:
    """Level 1 - BUDGET / comparisons on each side of the computed power, moved by the tolerance."""
    row = power_row("rate_2_percent_high", "event_count", 0.5, computed=0.5)
    level = 1 - BUDGET / 20
    assert power_limits(row, 20, 1e-9) == binomial_band(500, 0.5, level)
    low, high = power_limits(row, 20, 0.02)
    assert low == binomial_band(500, 0.48, level)[0]
    assert high == binomial_band(500, 0.52, level)[1]


def test_few_seeds_do_not_tell_the_power() -> None:
    """Where chance moves a power of one half by more than ten points there is no verdict."""
    for seeds, verdict in ((500, PASS), (100, OPEN)):
        rows = all_caught(seeds)
        judgement = verdict_of("power_as_computed", found(10, rows), tolerance=0.02)
        assert judgement.verdict is verdict


# -------------------------------------------------------------------------------------- plots


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.slow
def test_plots_are_the_same_twice(name: str) -> None:
    """SVG and PNG have equal bytes in two renderings; no data make a warning (all are errors)."""
    calibration = found(3000)
    images, again = (render(draw_plot(PLOTS[name], calibration)[0]) for _ in range(2))
    assert images == again
    assert b"<dc:date>" not in images["svg"]


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("seeds", [2, 30, 3000])
def test_plots_have_words(name: str, seeds: int) -> None:
    """However few the seeds: an alt text of a few sentences."""
    _, alt = draw_plot(PLOTS[name], found(seeds))
    assert alt.endswith(".")
    assert alt.isprintable()
    assert "nan" not in alt
    assert 100 < len(alt) < 700


def test_plots_name_what_leaves_the_band() -> None:
    """A test of the wrong law is counted among the histograms, and drawn apart from the others."""
    wrong = changed(found(3000), "batch_pairs", 1.5)
    assert "1 histograms with continuous" in draw_plot(PLOTS["p_value_histograms"], wrong)[1]
    figure, alt = draw_plot(PLOTS["p_value_quantiles"], wrong)
    assert "batch_pairs in 8 batches leave it" in alt
    labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert "batch_pairs" in labels
    assert "none leaves it" in draw_plot(PLOTS["p_value_quantiles"], found(3000))[1]


def test_every_control_stands_in_the_plot_of_the_power() -> None:
    """One row for each control at least, and the measurement that is farthest off in words."""
    rows = (
        *all_caught(),
        power_row("rate_2_percent_high", "event_count", 0.25, batches=32, computed=0.2188),
    )
    figure, alt = draw_plot(PLOTS["control_power"], found(10, rows))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[0] == "rate_2_percent_high, 1 batch"
    assert labels[-1] == "rate_2_percent_high, 32 batches"
    assert len(labels) == len(CONTROLS) + 1
    assert "rate_2_percent_high by event_count: 0.250 measured, 0.219 computed" in alt


def test_each_kind_says_what_it_judges() -> None:
    """The kinds of a calibration are those that are tested here."""
    kinds = set(CRITERIA)
    assert kinds == {
        "rejections_in_band",
        "p_values_uniform",
        "controls_caught",
        "power_as_computed",
    }
