"""The full battery of tests on one batch and on many: what is asked, of what, and what it can see.

A test is one entry of `BATTERY`; `judged.run_battery` makes and judges all that a sample allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from fleetsim.stats import batch_tests, driver_tests, effects, moments, time_tests
from fleetsim.stats.arguments import Ints
from fleetsim.stats.categories import category_equivalence_test, category_test
from fleetsim.stats.counts import dispersion_test, poisson_count_test, poisson_equivalence_test
from fleetsim.stats.effects import Law
from fleetsim.stats.offsets import edge_of, uniformity_of
from fleetsim.stats.order import TIME_CELLS
from fleetsim.stats.result import MIN_EXPECTATION, TestResult
from fleetsim.stats.sample import Sample
from fleetsim.stats.times import CELLS, PERIODS_US, cells_for


class EntryKind(Enum):
    """What a small p-value speaks for."""

    EVIDENCE = "evidence"  # against the generator; a member of the Holm family
    EQUIVALENCE = "equivalence"  # for the claim that it is close enough
    STRUCTURE = "structure"  # p is 0 or 1: a single violation refutes, and none is by chance


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One test of the battery.

    Attributes
    ----------
    name : str
    question : str
        In plain words; "yes" is what a fault-free generator gives.
    null : str
        The hypothesis under test, in words.
    make : callable
        (Sample, Law) -> TestResult.
    kind : EntryKind
    batches : int
        How many batches it needs.
    roster : bool
        Whether it asks how many events drivers have, which is known only where it is known who the
        drivers are, and where all of the data could be read.
    continuous : bool
        Whether the p-values of fault-free data are uniform at the size of the baseline. Where they
        are discrete or conservative, as all are in small samples, too few rejections are no fault.
    effect : callable
        (Sample, Law, TestResult, level) -> the smallest effect caught at that level with 90 %
        power (for an equivalence test: the largest under which it still shows its claim), or None
        where no single number says it.
    scale : callable
        Law -> the factor that turns the effect into the number of `sees`, for effects in a unit
        that only statisticians read. Cohen's w of equal parts is the root mean square of what they
        hold too much or too little, and needs none.
    sees : str
        What the test catches, in plain words, with the scaled effect as its format field.
    misses : str
        What it is blind to.
    """

    name: str
    question: str
    null: str
    make: Callable[[Sample, Law], TestResult]
    kind: EntryKind = EntryKind.EVIDENCE
    batches: int = 1
    roster: bool = False
    continuous: bool = True
    effect: Callable[[Sample, Law, TestResult, float], float | None] = effects.no_effect
    scale: Callable[[Law], float] = lambda law: 1.0
    sees: str
    misses: str


# ---------------------------------------------------------------------------------------------
# Tests on a sample
# ---------------------------------------------------------------------------------------------


def _count(sample: Sample, law: Law) -> TestResult:
    return poisson_count_test(sample.n_events, effects.mean_count(sample, law))


def _count_margin(sample: Sample, law: Law) -> TestResult:
    return poisson_equivalence_test(
        sample.n_events, effects.mean_count(sample, law), law.count_margin
    )


def _types(sample: Sample, law: Law) -> TestResult:
    return category_test(sample.type_counts.sum(axis=0), law.weights)


def _types_margin(sample: Sample, law: Law) -> TestResult:
    observed = sample.type_counts.sum(axis=0)
    return category_equivalence_test(observed, law.weights, law.type_margin)


def _driver_fit(sample: Sample, law: Law) -> TestResult:
    if sample.n_drivers == 0:
        return TestResult("poisson_fit", n=0, note="no test: no driver is eligible")
    return moments.fit_test(sample.counts.ravel(), law.rate)


#: Counts from which Fisher's D is taken as continuous.
_MANY_COUNTS = 30


def _driver_dispersion(sample: Sample, law: Law) -> TestResult:
    if sample.n_drivers == 0:
        return TestResult("dispersion", n=0, note="no test: no driver is eligible")
    if sample.n_events >= sample.counts.size >= _MANY_COUNTS:
        return dispersion_test(sample.counts.ravel())
    # Below one event a driver chi-square is coarse: two events of one driver are then an outlier.
    # Of few counts it is coarse too: two that are equal, by chance, would be too even.
    return moments.crowding_test(sample.counts.reshape(1, -1))


def _types_of_two(table: Ints, law: Law) -> TestResult:
    """Test the types of two events; types too rare for an expected pair of their own are pooled."""
    weights = np.array(law.weights)
    pooled = driver_tests.rarest(weights, float(table.sum()), 1.0)
    if len(pooled) > 1:
        rest = np.delete(np.arange(len(weights)), pooled)
        rows = np.vstack([table[rest], table[pooled].sum(axis=0)])
        table = np.column_stack([rows[:, rest], rows[:, pooled].sum(axis=1)])
    return moments.association_test(table)


#: Pairs of events of a type in one column that a table of types expects at least.
_TYPE_PAIRS = 20.0


def _types_table(table: Ints) -> TestResult:
    """Test types, in rows, against something else.

    Of a rare type chance alone puts two events into one column now and then, where chi-square
    expects none. So the rarest types are taken together, as many as it takes to expect some pairs.
    """
    sizes = table.sum(axis=1).astype(np.float64)
    shares = table.sum(axis=0) / max(1.0, float(sizes.sum()))
    order = np.argsort(sizes, kind="stable")
    together = np.cumsum(sizes[order])
    pairs = together * (together - 1) / 2 * float(np.sum(shares**2))
    rare = order[: int(np.searchsorted(pairs, _TYPE_PAIRS)) + 1]
    if len(rare) > 1:
        table = np.vstack([np.delete(table, rare, axis=0), table[rare].sum(axis=0)])
    return moments.association_test(table)


def _inside(sample: Sample, law: Law) -> TestResult:
    seen, null = sample.times.n + sample.outside, "no event is outside"
    if sample.n_events == 0:
        return TestResult("inside", n=0, null=null, note="no test: no event")
    if seen < sample.n_events and not sample.outside:
        blind = sample.n_events - seen
        why = f"no test: no interval is known of {blind} of {sample.n_events} events"
        return TestResult("inside", n=seen, null=null, note=why)
    return TestResult(
        "inside",
        statistic=float(sample.outside),
        p_value=0.0 if sample.outside else 1.0,
        n=seen,
        null=null,
    )


def _no_times(sample: Sample) -> str | None:
    """Return why no test of the offsets' law can be made, or None."""
    if sample.times.n == 0:
        return "no test: no event" if sample.n_events == 0 else "no test: no time inside"
    return "no test: the interval is one tick" if sample.length_us < 2 else None


def _uniform(sample: Sample, law: Law) -> TestResult:
    times, why_not = sample.times, _no_times(sample)
    if why_not:
        return TestResult("uniformity", n=times.n, note=why_not)
    return uniformity_of(times.distance, times.n, times.length_us)


def _edges(sample: Sample, law: Law) -> TestResult:
    times, why_not = sample.times, _no_times(sample)
    if why_not:
        return TestResult("edge", n=times.n, note=why_not)
    return edge_of(times.anderson, times.n, times.length_us)


def _ends(sample: Sample, law: Law) -> TestResult:
    times = sample.times
    if times.n == 0:
        return TestResult("ends", n=0, note="no test: no event")
    return time_tests.ends_test(times.first_us, times.last_us, times.n, times.length_us)


def _n_cells(events: float, ticks: int) -> int:
    """Return how many cells hold an expectation of 5 or more: at most `CELLS`, one a tick."""
    return cells_for(min(ticks, events // MIN_EXPECTATION), CELLS)


def _phase(row: int | None) -> Callable[[Sample, Law], TestResult]:
    """Return a test of the place of events within a row of `PERIODS_US`, or in the interval."""

    def make(sample: Sample, law: Law) -> TestResult:
        times = sample.times
        period = times.length_us if row is None else PERIODS_US[row]
        cells = _n_cells(times.n, period)
        if cells < 2 or (row is not None and times.length_us < 2 * period):
            why = "too few events" if cells < 2 else "the interval holds fewer than two periods"
            return TestResult("goodness", n=times.n, note=f"no test: {why}")
        fine = times.cells.sum(axis=0) if row is None else times.phases[row]
        chances = time_tests.cell_probabilities(times.length_us, period, cells)
        return moments.goodness_test(fine.reshape(1, cells, -1).sum(axis=2), chances)

    return make


def _batch_cells(sample: Sample, law: Law) -> TestResult:
    """Test equal time cells of each batch; the sum also sees what differs from batch to batch."""
    times = sample.times
    cells = _n_cells(times.n / sample.n_batches, times.length_us)
    if cells < 2:
        return TestResult("goodness", n=times.n, note="no test: too few events")
    observed = times.cells.reshape(sample.n_batches, cells, -1).sum(axis=2)
    chances = time_tests.cell_probabilities(times.length_us, times.length_us, cells)
    return moments.goodness_test(observed, chances)


#: Ticks of an interval from which parts that differ by one tick may be called equal.
_FINE_TICKS = 100_000


def _company_times(sample: Sample, law: Law) -> TestResult:
    found, length = sample.company_times, sample.length_us
    why_not = _no_times(sample)
    if not why_not and length % TIME_CELLS and length < _FINE_TICKS:
        why_not = f"no test: {length} ticks are no {TIME_CELLS} equal parts"
    if why_not:
        return TestResult("crowding", n=sample.times.n, note=why_not)
    return moments.crowding_of(TIME_CELLS, found.sizes, found.runs, found.pairs)


def _driver_gaps(sample: Sample, law: Law) -> TestResult:
    return driver_tests.gaps_test(sample.driver_times, sample.length_us)


def _types_by_driver(sample: Sample, law: Law) -> TestResult:
    return driver_tests.concentration_test(sample.types_by_driver, np.array(law.weights))


def _ties(sample: Sample, law: Law) -> TestResult:
    times = sample.times
    return time_tests.coincidence_test(
        int(times.ties.sum()), effects.pairs_within(sample), times.length_us, times.density
    )


def _ties_across(sample: Sample, law: Law) -> TestResult:
    times = sample.times
    return time_tests.coincidence_test(
        times.ties_across, effects.pairs_across(sample), times.length_us, times.density
    )


# ---------------------------------------------------------------------------------------------
# The battery
# ---------------------------------------------------------------------------------------------

#: All tests. A new one is one entry here, and a control that it must catch in `controls`.
BATTERY: tuple[Entry, ...] = (
    Entry(
        name="event_count",
        question="Are there as many events as the configuration expects?",
        null="the number of events is Poisson with drivers x rate x batches as its mean",
        roster=True,
        make=_count,
        continuous=False,
        effect=effects.rate_effect,
        sees="a rate {:.2%} too high",
        misses="a smaller shift, or any fault that leaves the total as it is",
    ),
    Entry(
        name="event_count_within_margin",
        question="Is the rate shown to lie within the margin?",
        null="the rate is off by the margin or more",
        roster=True,
        make=_count_margin,
        kind=EntryKind.EQUIVALENCE,
        continuous=False,
        effect=effects.count_margin_effect,
        sees="equivalence, where the true rate is within {:.2%} of the stated one",
        misses="how the events spread over drivers, types and time",
    ),
    Entry(
        name="event_types",
        question="Do the event types follow their weights?",
        null="types are drawn with the given weights",
        make=_types,
        effect=effects.share_effect,
        scale=effects.common_shift,
        sees="{:.2%} of all events that have one common type in place of another",
        misses="types in a pattern that keeps the shares",
    ),
    Entry(
        name="event_types_within_margin",
        question="Is every share shown to lie within the margin of its weight?",
        null="some share is off by the margin or more",
        make=_types_margin,
        kind=EntryKind.EQUIVALENCE,
        effect=effects.types_margin_effect,
        sees="equivalence, where every share is within {:.2%} of its weight, in points",
        misses="types in a pattern that keeps the shares",
    ),
    Entry(
        name="events_per_driver",
        question="Do the counts of the drivers follow the Poisson law, zeros included?",
        null="each driver's count is Poisson with the configured rate",
        roster=True,
        make=_driver_fit,
        effect=effects.fit_effect,
        sees="counts that scatter {:.3f} times as much in variance (negative binomial)",
        misses="who the drivers are, and counts that fit the law too well",
    ),
    Entry(
        name="events_per_driver_dispersion",
        question="Is the variance of the drivers' counts their mean?",
        null="the variance of the counts equals their mean",
        roster=True,
        make=_driver_dispersion,
        effect=effects.dispersion_effect,
        sees="counts that scatter {:.3f} times as much in variance as they should",
        misses="a law with another shape but the same variance",
    ),
    Entry(
        name="event_times_inside",
        question="Do all events lie inside their interval?",
        null="no event is before the start, at the end or after it",
        make=_inside,
        kind=EntryKind.STRUCTURE,
        continuous=False,
        sees="a single event outside",
        misses="where inside the interval the events are",
    ),
    Entry(
        name="event_times_uniform",
        question="Are the events spread evenly over the interval?",
        null="offsets are uniform on the interval",
        make=_uniform,
        effect=effects.distance_effect,
        sees="times whose distribution function departs by {:.4f} of the events anywhere",
        misses="fine patterns of a few seconds, and what happens close to both ends",
    ),
    Entry(
        name="event_times_edges",
        question="Are the events spread evenly up to both ends of the interval?",
        null="offsets are uniform on the interval",
        make=_edges,
        effect=effects.trend_effect,
        sees="a density that rises or falls linearly by {:.1%} of its mean at the ends",
        misses="fine patterns of a few seconds",
    ),
    Entry(
        name="event_times_ends",
        question="Do events come as close to both ends of the interval as they should?",
        null="offsets are uniform on the interval",
        make=_ends,
        effect=effects.gap_effect,
        scale=lambda law: 100.0,
        sees="{:.2g}% of the interval left empty at one end",
        misses="what happens between the first event and the last",
    ),
    Entry(
        name="event_times_cells",
        question="Do equal parts of the interval hold equally many events, but for chance?",
        null="offsets are uniform on the interval",
        make=_phase(None),
        effect=effects.cell_effect,
        sees="parts of the interval that hold {:.1%} more or less than they should, on average",
        misses="patterns finer than a cell",
    ),
    Entry(
        name="event_times_minute",
        question="Is no part of a minute preferred?",
        null="the place of an event within its minute is uniform",
        make=_phase(0),
        effect=effects.cell_effect,
        sees="parts of a minute that hold {:.1%} more or less than they should, on average",
        misses="patterns of another period",
    ),
    Entry(
        name="event_times_second",
        question="Is no part of a second preferred?",
        null="the place of an event within its second is uniform",
        make=_phase(1),
        effect=effects.cell_effect,
        sees="parts of a second that hold {:.1%} more or less than they should, on average",
        misses="patterns of another period",
    ),
    Entry(
        name="event_times_digits",
        question="Is no digit of the times below a second preferred?",
        null="each decimal digit of the times is uniform",
        make=lambda s, w: time_tests.digits_test(s.times.digits, s.length_us),
        effect=effects.digit_effect,
        sees="digits that occur {:.1%} more or less often than they should, on average",
        misses="patterns of a period that is no power of ten",
    ),
    Entry(
        name="event_times_spacings",
        question="Do the gaps between events vary as those of independent times?",
        null="offsets are independent and uniform on the interval",
        make=lambda s, w: time_tests.spacings_test(s.times.moran, s.times.sizes, s.length_us),
        sees="clusters of events, and times that are too even",
        misses="slow changes over the interval",
    ),
    Entry(
        name="event_times_ties",
        question="Do no more events share a microsecond than chance allows?",
        null="pairs of equal times are Poisson with N (N - 1) / 2 / ticks as their mean",
        make=_ties,
        continuous=False,
        effect=effects.extra_pairs(effects.pairs_within),
        sees="{:.0f} or more pairs of events with one time, such as duplicates, beside chance",
        misses="copies whose times were changed",
    ),
    Entry(
        name="company_totals",
        question="Do the companies' totals vary as independent drivers make them?",
        null="events fall on the companies at random",
        roster=True,
        make=lambda s, w: moments.crowding_test(s.company_totals),
        effect=effects.dispersion_effect,
        sees="companies' totals that scatter {:.2f} times as much in variance as they should",
        misses="dependence that leaves the companies' totals as they are",
    ),
    Entry(
        name="driver_number_totals",
        question="Do drivers of one number, added up over companies, vary as independent ones?",
        null="events fall on the drivers' numbers at random",
        roster=True,
        make=lambda s, w: moments.crowding_test(s.driver_number_totals),
        effect=effects.dispersion_effect,
        sees="totals that scatter {:.2f} times as much in variance, as where companies are copies",
        misses="dependence within a company",
    ),
    Entry(
        name="driver_neighbours",
        question="Does a driver's count say nothing about the next one's?",
        null="counts of neighbours in the fleet are uncorrelated",
        roster=True,
        make=lambda s, w: moments.neighbour_test(s.counts),
        effect=effects.neighbour_effect,
        sees="a correlation of neighbours of {:.3f} or more",
        misses="dependence of drivers that stand apart",
    ),
    Entry(
        name="driver_gaps",
        question="Are the gaps between a driver's events as short and as long as by chance?",
        null="a driver's times in a batch are independent and uniform",
        make=_driver_gaps,
        effect=effects.cell_effect,
        sees="sizes of gaps that occur {:.1%} more or less often than they should, on average",
        misses="which drivers they are, and patterns that keep the sizes of gaps",
    ),
    Entry(
        name="driver_times",
        question="Are a driver's events neither crowded nor too even in the interval?",
        null="a driver's times in a batch are independent and uniform",
        make=lambda s, w: driver_tests.scatter_test(s.driver_times, s.length_us),
        effect=effects.scatter_effect,
        sees="events of a driver so crowded that its squared gaps sum to {:.3f} times as much",
        misses="a few gaps that are too short",
    ),
    Entry(
        name="company_times",
        question="Do a company's events fill the interval as those of independent drivers do?",
        null="the events of a company fall on equal parts of the interval at random",
        roster=True,
        make=_company_times,
        effect=effects.dispersion_effect,
        sees="parts of the companies' intervals that scatter {:.3f} times as much in variance",
        misses="crowds that last less than a twentieth of the interval",
    ),
    Entry(
        name="types_by_company",
        question="Is the mix of types the same in all companies, but for chance?",
        null="type and company are independent",
        roster=True,
        make=lambda s, w: _types_table(s.types_by_company),
        effect=effects.table_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} from company to company, on average",
        misses="a pattern over time",
    ),
    Entry(
        name="types_by_time",
        question="Is the mix of types the same all over the interval, but for chance?",
        null="type and time are independent",
        make=lambda s, w: _types_table(s.types_by_time),
        effect=effects.table_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} over the interval, on average",
        misses="patterns finer than a twentieth of the interval",
    ),
    Entry(
        name="types_in_sequence",
        question="Does an event's type say nothing about the driver's next one?",
        null="types of consecutive events of a driver are independent",
        make=lambda s, w: _types_of_two(s.type_pairs, w),
        effect=effects.table_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} with the type before, on average",
        misses="patterns over more than two events",
    ),
    Entry(
        name="types_two_apart",
        question="Does an event's type say nothing about the driver's next but one?",
        null="types of a driver's events with one between are independent",
        make=lambda s, w: _types_of_two(s.types_apart, w),
        effect=effects.table_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} with the type before the last, on average",
        misses="patterns over more than three events",
    ),
    Entry(
        name="types_by_place",
        question="Do a driver's first and last events have the same mix of types as the others?",
        null="type and place among the driver's events are independent",
        make=lambda s, w: _types_table(s.type_places.T),
        effect=effects.table_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} with the place of the event, on average",
        misses="patterns between the first event and the last",
    ),
    Entry(
        name="types_by_driver_number",
        question="Is the mix of types the same for drivers of all numbers, but for chance?",
        null="type and the driver's number in its company are independent",
        roster=True,
        make=lambda s, w: _types_table(s.types_by_number),
        effect=effects.table_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} with the driver's number, on average",
        misses="drivers that differ whatever their number",
    ),
    Entry(
        name="types_by_driver",
        question="Has every driver the same mix of types, but for chance?",
        null="each driver's types are drawn with the given weights",
        roster=True,
        make=_types_by_driver,
        effect=effects.concentration_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} from driver to driver, on average",
        misses="who the drivers are",
    ),
    Entry(
        name="types_by_count",
        question="Have busy drivers the same mix of types as others?",
        null="type and the number of the driver's events in the batch are independent",
        roster=True,
        make=lambda s, w: _types_table(s.types_by_count.T),
        effect=effects.table_effect,
        scale=effects.share_scatter,
        sees="shares of the types that differ by {:.1%} with the driver's count, on average",
        misses="drivers that differ whatever their count",
    ),
    Entry(
        name="batch_totals",
        question="Do the batches' totals scatter about the expected one as they should?",
        null="each batch's total is Poisson with drivers x rate as its mean",
        roster=True,
        make=lambda s, w: moments.totals_test(s.totals, s.n_drivers * w.rate),
        batches=2,
        effect=effects.dispersion_effect,
        sees="totals that scatter {:.2f} times as much in variance (and totals too much alike)",
        misses="what happens within a batch",
    ),
    Entry(
        name="batch_types",
        question="Do the shares of the types scatter from batch to batch as they should?",
        null="types are drawn with the given weights, in each batch anew",
        make=lambda s, w: moments.goodness_test(s.type_counts, np.array(w.weights)),
        batches=2,
        effect=effects.dispersion_effect,
        sees="shares that scatter {:.2f} times as much in variance (and shares too much alike)",
        misses="a pattern within a batch that keeps its shares",
    ),
    Entry(
        name="batch_times",
        question="Do the parts of each interval hold what chance gives them?",
        null="offsets are uniform on the interval, in each batch anew",
        make=_batch_cells,
        batches=2,
        effect=effects.dispersion_effect,
        sees="cells that scatter {:.2f} times as much in variance (and cells too much alike)",
        misses="patterns finer than a cell",
    ),
    Entry(
        name="batch_drivers",
        question="Has every driver the same rate over all batches?",
        null="events of all batches together fall on the drivers at random",
        roster=True,
        make=lambda s, w: moments.crowding_test(s.counts.sum(axis=0, keepdims=True)),
        batches=2,
        effect=effects.dispersion_effect,
        sees="drivers' totals that scatter {:.2f} times as much in variance as they should",
        misses="differences that do not last from batch to batch",
    ),
    Entry(
        name="batch_trend",
        question="Does the rate neither drift over the batches nor differ between halves of them?",
        null="each batch's total is Poisson with the same mean",
        roster=True,
        make=lambda s, w: batch_tests.trend_test(s.totals, s.n_drivers * w.rate),
        batches=2,
        effect=effects.halves_effect,
        sees="halves of the batches whose rates differ by {:.2%}",
        misses="changes back and forth of another length than one batch or half of them",
    ),
    Entry(
        name="batch_memory",
        question="Does a driver's count say nothing about its count in the next batch?",
        null="a driver's counts in consecutive batches are independent",
        roster=True,
        make=lambda s, w: batch_tests.memory_test(s.counts),
        batches=2,
        effect=effects.memory_effect,
        sees="a correlation of a driver's counts in consecutive batches of {:.3f} or more",
        misses="batches that stand further apart",
    ),
    Entry(
        name="batch_companies",
        question="Has every company the same rate over all batches?",
        null="events of all batches together fall on the companies at random",
        roster=True,
        make=lambda s, w: moments.crowding_test(s.company_totals.sum(axis=0, keepdims=True)),
        batches=2,
        effect=effects.dispersion_effect,
        sees="companies' totals that scatter {:.2f} times as much in variance as they should",
        misses="differences that do not last from batch to batch",
    ),
    Entry(
        name="batch_company_halves",
        question="Has every company the same share of both halves of the batches?",
        null="company and half of the batches are independent",
        roster=True,
        make=lambda s, w: moments.association_test(s.company_halves),
        batches=2,
        effect=effects.halves_of_companies_effect,
        sees="companies whose rates differ by {:.2%} between halves of the batches, on average",
        misses="a change that all companies have in common",
    ),
    Entry(
        name="batch_pairs",
        question="Has no batch the same drivers busy as another one?",
        null="drivers' counts in two batches are uncorrelated",
        roster=True,
        make=lambda s, w: moments.pair_correlation_test(s.counts),
        batches=2,
        effect=effects.pair_effect,
        sees="two batches whose drivers' counts have a correlation of {:.3f} or more",
        misses="batches that share only times or types",
    ),
    Entry(
        name="batch_ties",
        question="Do no more events of two batches share an offset than chance allows?",
        null="pairs of equal offsets in two batches are Poisson with N M / ticks as their mean",
        make=_ties_across,
        batches=2,
        continuous=False,
        effect=effects.extra_pairs(effects.pairs_across),
        sees="{:.0f} or more pairs with one offset, as where a stream is used twice, beside chance",
        misses="copies whose times were changed",
    ),
)


def entries(n_batches: int) -> tuple[Entry, ...]:
    """Return the entries of `BATTERY` that this many batches are enough for."""
    return tuple(entry for entry in BATTERY if entry.batches <= n_batches)


def without_roster(n_batches: int) -> tuple[str, ...]:
    """Return the names of the tests that are left out where there is no roster."""
    return tuple(entry.name for entry in entries(n_batches) if entry.roster)


def family_size(batches: int, kinds: int = 0) -> int:
    """Return how many tests Holm's procedure adjusts together in a run of so many batches.

    Each of `kinds` of injected defects has a test of its number.
    """
    return 1 + kinds + sum(entry.kind is EntryKind.EVIDENCE for entry in entries(batches))
