"""What two runs are compared in: the data and the costs, a row each, and what chance explains.

A is the baseline, B the run held against it; every ratio is B / A. A row is tested only where the
runs are not meant to differ in it: `_identity`, `_rate_rows` and `other_work` say when they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fleetsim.base.chances import p_text
from fleetsim.base.tables import number
from fleetsim.report.compare.differences import not_comparable
from fleetsim.report.compare.readback import RunData, WholeRun
from fleetsim.stats.adjust import holm
from fleetsim.stats.counts import two_sample_rate_test
from fleetsim.stats.order import TIME_CELLS
from fleetsim.stats.result import TestResult
from fleetsim.stats.two_samples import dispersion_ratio, homogeneity_test, largest_shift, rank_test

DIFFERS = "differs"
NOT_SHOWN = "not shown"  # no difference that chance does not explain
EXPECTED = "expected"  # the runs are meant to differ in it
SAME = "same"  # equal for certain, not by a test
NOT_COMPARED = "not compared"

#: Configuration keys that change the work which a run does.
_WORKLOAD = (
    *("number_of_companies", "drivers_per_company", "event_rate_per_driver"),
    *("active_fraction", "event_types"),
)
#: Fraction by which times and memory may grow by default. Between two runs on one machine,
#: memory moves by tenths of a per cent, and time with whatever else runs: repeats do not show it.
TOLERANCE = 0.1
#: From so many events on, two seeds do not draw the same by chance.
_NEVER_BY_CHANCE = 100


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was compared.

    Attributes
    ----------
    name : str
    kind : str
        "data" or "cost".
    a, b : str
        Its figures in either run.
    outcome : str
        "differs", "not shown", "expected", "same" or "not compared".
    result : TestResult or None
        The test; its estimate is B / A, a difference of shares, or Cramer's V.
    p_holm : float or None
        Adjusted for all tests of the comparison.
    effect : str
        How much it differs, with its 95 % interval.
    sentence : str
    worse : bool
        Whether the gate (``--strict``) closes for it.
    """

    name: str
    kind: str
    a: str
    b: str
    outcome: str
    result: TestResult | None = None
    p_holm: float | None = None
    effect: str = ""
    sentence: str = ""
    worse: bool = False


# ---------------------------------------------------------------------------------------------
# Data
# ---------------------------------------------------------------------------------------------


def data_rows(a: WholeRun, b: WholeRun) -> Iterator[Row]:
    """Yield what comes of comparing the data of two runs; p-values are not adjusted yet."""
    if a.data is None or b.data is None:
        gaps = [f"{letter}: {run.missing}" for letter, run in (("A", a), ("B", b)) if run.missing]
        yield Row(
            name="data",
            kind="data",
            a="read" if a.data else "none",
            b="read" if b.data else "none",
            outcome=NOT_COMPARED,
            sentence=f"The data cannot be compared. {'; '.join(gaps)}.",
            worse=a.data is not None,
        )
        return
    yield _structure(a.data, b.data)
    identity = _identity(a.data, b.data)
    if identity:
        yield identity
    if identity and identity.outcome == SAME:
        return
    yield from _rate_rows(a.data, b.data)
    yield _types(a.data, b.data)
    yield _driver_counts(a.data, b.data)
    yield _times_of_events(a.data, b.data)


def _structure(a: RunData, b: RunData) -> Row:
    more = b.faults > a.faults
    first = f"; the first: {b.tally.faults[0]}" if b.tally.faults else ""
    said = f"A has {a.faults}, B {b.faults} faults in the structure of its files{first}."
    return Row(
        name="structure",
        kind="data",
        a=f"{a.faults} faults",
        b=f"{b.faults} faults",
        outcome=DIFFERS if a.faults != b.faults else SAME,
        sentence=said if a.faults or b.faults else "No fault was found in the files of either run.",
        worse=more,
    )


def _identity(a: RunData, b: RunData) -> Row | None:
    """Return what is to be said where two runs should hold the same events, or do."""
    asked_same = a.config == b.config and len(a.starts) == len(b.starts)
    equal = a.draws_as(b)
    row = Row(
        name="content",
        kind="data",
        a=f"seed {a.config.seed}",
        b=f"seed {b.config.seed}",
        outcome=SAME,
    )
    if asked_same and equal and (a.starts != b.starts or a.contents == b.contents):
        files = (
            f"the files are equal byte for byte (SHA-256 {a.contents[0][:12]}…)"
            if a.contents == b.contents
            else "the files differ as their intervals start at different moments"
        )
        return replace(
            row,
            sentence=f"Both runs draw from seed {a.config.seed} under one configuration, and hold "
            f"the same {a.events} events: the counts of every driver, the types and the places "
            f"in time agree; {files}. A test of data against themselves tells nothing, so none is "
            "made.",
        )
    if asked_same and a.stream_versions == b.stream_versions:
        return replace(
            row,
            outcome=DIFFERS,
            worse=True,
            sentence=f"Both runs draw from seed {a.config.seed} under one configuration and stream "
            "version, yet their events are not the same: one of them is not what its record says.",
        )
    if asked_same:
        return replace(
            row,
            outcome=EXPECTED,
            sentence="Seed and configuration are the same, the stream versions are not: other "
            "events are expected.",
        )
    if equal and a.config.seed != b.config.seed and a.events >= _NEVER_BY_CHANCE:
        return replace(
            row,
            worse=True,
            sentence=f"Both runs hold the same {a.events} events although their seeds differ: one "
            "is a copy, and tests of it tell nothing.",
        )
    return None


def _rate_rows(a: RunData, b: RunData) -> Iterator[Row]:
    """Return the row of the rate; where another rate was asked for, also that held against it."""
    size_a, size_b = len(a.counts), len(b.counts)
    row = Row(
        name="event_rate",
        kind="data",
        a=_rate_figure(a),
        b=_rate_figure(b),
        outcome="",
    )
    if not size_a or not size_b:
        yield replace(row, outcome=NOT_COMPARED, sentence="A run without drivers has no rate.")
        return
    what = "events per driver and hour"
    result = two_sample_rate_test(b.events, size_b * b.hours, a.events, size_a * a.hours)
    rate_a, rate_b = a.rate / a.hours, b.rate / b.hours
    if rate_a == rate_b:
        yield replace(row, result=result, effect=_ratio(result), sentence=_times_as(result, what))
        return
    asked = f"{number(rate_b / rate_a)} times" if rate_a else f"{number(rate_b)} instead of none"
    yield replace(
        row,
        result=replace(result, p_value=None),
        outcome=EXPECTED,
        effect=_ratio(result),
        sentence=f"{_times_as(result, what)}, as the configurations ask for {asked}",
    )
    row = replace(
        row,
        name="event_rate_by_configuration",
        a=f"{a.events} of {number(size_a * a.rate)}",
        b=f"{b.events} of {number(size_b * b.rate)}",
    )
    if not a.rate or not b.rate:
        why = "A rate of 0 cannot be held against the configuration by a ratio."
        yield replace(row, outcome=NOT_COMPARED, sentence=why)
        return
    result = two_sample_rate_test(b.events, size_b * b.rate, a.events, size_a * a.rate)
    what = "events for each that its configuration expects"
    yield replace(row, result=result, effect=_ratio(result), sentence=_times_as(result, what))


def _rate_figure(data: RunData) -> str:
    size = len(data.counts)
    rate = f"{number(data.events / (size * data.hours))} an hour" if size else "–"
    return f"{data.events} events of {size} driver-batches, {rate}"


def _types(a: RunData, b: RunData) -> Row:
    shares = [
        ", ".join(
            f"{name} {share:.1%}" for name, share in zip(run.type_names, _shares(run), strict=True)
        )
        for run in (a, b)
    ]
    row = Row(name="event_types", kind="data", a=shares[0], b=shares[1], outcome="")
    if a.type_names != b.type_names:
        why = "The configurations name other event types, so shares have no common cells."
        return replace(row, outcome=EXPECTED, sentence=why)
    row = _shifted(row, a.type_counts, b.type_counts, a.type_names, "")
    if a.config.event_types != b.config.event_types:
        return _meant(row, ", as the configurations give the types other weights")
    return row


def _meant(row: Row, why: str) -> Row:
    """Return a row whose difference the configurations make: its size stands, and no p."""
    return replace(
        row,
        result=row.result and replace(row.result, p_value=None),
        outcome=EXPECTED,
        sentence=f"{row.sentence}{why}",
    )


def _shares(run: RunData) -> Any:
    return run.type_counts / max(int(run.type_counts.sum()), 1)


def _times_of_events(a: RunData, b: RunData) -> Row:
    row = Row(
        name="event_times",
        kind="data",
        a=f"{int(a.time_cells.sum())} events in {TIME_CELLS} parts",
        b=f"{int(b.time_cells.sum())} events in {TIME_CELLS} parts",
        outcome="",
    )
    names = tuple(f"part {place} of {TIME_CELLS} of the interval" for place in range(1, 21))
    return _shifted(row, a.time_cells, b.time_cells, names, "events in ")


def _shifted(row: Row, a: Any, b: Any, names: tuple[str, ...], prefix: str) -> Row:
    """Return a row with the test of homogeneity, and the share that differs most."""
    result = homogeneity_test(a, b)
    shift = largest_shift(a, b)
    if shift is None:
        return replace(row, result=result, outcome=NOT_COMPARED, sentence=_why_not(result))
    points = [100 * value for value in (shift.difference, shift.low, shift.high)]
    effect = f"{points[0]:+.2f} points ({points[1]:+.2f} to {points[2]:+.2f})"
    return replace(
        row,
        result=replace(result, interval=(shift.low, shift.high), estimate=shift.difference),
        effect=effect,
        sentence=f"The share that differs most is that of {prefix}{names[shift.cell]}: "
        f"{points[0]:+.2f} points in B (95 % interval {points[1]:+.2f} to {points[2]:+.2f}, for "
        "all shares together)",
    )


def _driver_counts(a: RunData, b: RunData) -> Row:
    figures = [
        f"mean {number(float(np.mean(x)))}, variance {number(float(np.var(x, ddof=1)))}"
        if len(x) > 1
        else "–"
        for x in (a.counts, b.counts)
    ]
    row = Row(name="driver_counts", kind="data", a=figures[0], b=figures[1], outcome="")
    most = max((int(x.max()) for x in (a.counts, b.counts) if len(x)), default=0)
    cells = [np.bincount(x, minlength=most + 1) for x in (a.counts, b.counts)]
    result = homogeneity_test(*cells, ordered=True)
    spread = dispersion_ratio(a.counts, b.counts)
    if spread is None:
        why = _why_not(result) if result.note else "There are too few counts of drivers."
        return replace(row, result=result, outcome=NOT_COMPARED, sentence=why)
    ratio, interval = spread
    row = replace(
        row,
        result=replace(result, estimate=ratio, interval=interval),
        effect=_ratio(replace(result, estimate=ratio, interval=interval)),
        sentence="Variance over mean of the drivers' counts is "
        f"{_interval_words(ratio, interval)} in B what it is in A",
    )
    if a.config.event_rate_per_driver != b.config.event_rate_per_driver:
        return _meant(row, "; the counts themselves differ, as another rate is configured")
    return row


# ---------------------------------------------------------------------------------------------
# Times and memory
# ---------------------------------------------------------------------------------------------

#: Name, key of the measurements, the sentence about the ratio, factor to the unit shown, unit.
COSTS = (
    ("generation_time", "generation_seconds", "B generates in {} the time of A", 1.0, "s"),
    ("process_time", "process_seconds", "The cold process of B takes {} as long as A's", 1.0, "s"),
    ("memory_peak", "peak_rss_bytes", "The peak memory of B is {} that of A", 1e-6, "MB"),
)


def cost_rows(a: WholeRun, b: WholeRun, *, one_run: bool = False) -> Iterator[Row]:
    """Yield what comes of comparing times and memory; `one_run` where both are the same run."""
    one, other = a.record.measurements, b.record.measurements
    if one is None or other is None:
        without = " and ".join(
            name for name, values in (("A", one), ("B", other)) if values is None
        )
        yield Row(
            name="cost",
            kind="cost",
            a="measured" if one else "none",
            b="measured" if other else "none",
            outcome=NOT_COMPARED,
            sentence=f"Times and memory cannot be compared: {without} measured none.",
            worse=one is not None,
        )
        return
    reason = other_work(a, b)
    for name, key, text, factor, unit in COSTS:
        values = [np.array(getattr(side, key), np.float64) * factor for side in (one, other)]
        row = cost_figures(name, values, unit)
        if one_run:
            sentence = "Both are one run, and its measurements themselves."
            yield replace(row, outcome=SAME, sentence=sentence)
            continue
        row = cost_row(row, text, rank_test(values[1], values[0]), reason)
        apart = not_comparable(a.record, b.record, times=unit == "s")
        if row.effect and row.result and apart:
            row = replace(
                row,
                result=replace(row.result, p_value=None),
                outcome=NOT_COMPARED,
                sentence=f"Not comparable: {apart}",
            )
        yield row


def cost_figures(name: str, values: Sequence[Any], unit: str, how: str = "") -> Row:
    """Return a row with the figures of A and of B, which no test has judged yet."""
    a, b = (_cost_figure(side, unit) + how for side in values)
    return Row(name=name, kind="cost", a=a, b=b, outcome="")


def cost_row(row: Row, text: str, result: TestResult, reason: str) -> Row:
    """Return a row with what a test says of times or memory.

    Parameters
    ----------
    row : Row
    text : str
        The sentence about the ratio, with a place for it.
    result : TestResult
    reason : str
        Why the work of the runs differs, so that no test is made; "" where it does not.
    """
    if result.estimate is None or result.interval is None:
        return replace(row, result=result, outcome=NOT_COMPARED, sentence=_why_not(result))
    sentence = text.format(_interval_words(result.estimate, result.interval))
    row = replace(row, result=result, effect=_ratio(result), sentence=sentence)
    if not reason:
        return row
    return replace(
        row,
        result=replace(result, p_value=None),
        outcome=EXPECTED,
        sentence=f"{sentence}; no test is made, since {reason}",
    )


def other_work(a: WholeRun, b: WholeRun) -> str:
    """Return why the work of two runs differs, so that times and memory will; or nothing."""
    one, other = a.record, b.record
    keys = [key for key in _WORKLOAD if one.config.get(key) != other.config.get(key)]
    if one.description.batches != other.description.batches:
        keys.append("batches")
    if keys:
        return f"the work differs ({', '.join(keys)})"
    if a.data and b.data and len(a.data.counts) != len(b.data.counts):
        return "the work differs (other companies are active)"
    return ""


def _cost_figure(values: Any, unit: str) -> str:
    if not values.size:
        return "–"
    return f"median {np.median(values):.4g} {unit} of {values.size}"


# ---------------------------------------------------------------------------------------------
# Words and judgement
# ---------------------------------------------------------------------------------------------


def _why_not(result: TestResult) -> str:
    note = (result.note or "nothing to compare").removeprefix("no test: ")
    return f"No test can be made: {note}."


def _interval_words(ratio: float, interval: tuple[float, float]) -> str:
    low, high = interval
    upper = "∞" if np.isinf(high) else f"{high:.3f}"
    return f"{ratio:.3f} times (95 % interval {low:.3f} to {upper})"


def _ratio(result: TestResult) -> str:
    if result.estimate is None or result.interval is None:
        return ""
    return _interval_words(result.estimate, result.interval).replace("95 % interval ", "")


def _times_as(result: TestResult, what: str) -> str:
    if result.estimate is None or result.interval is None:
        return f"Neither run has any {what}"
    return f"B has {_interval_words(result.estimate, result.interval)} the {what} of A"


def judge_rows(rows: Sequence[Row], alpha: float, tolerance: float) -> list[Row]:
    """Adjust all p-values together; say of each row what they mean."""
    p_values = {
        place: row.result.p_value
        for place, row in enumerate(rows)
        if row.result is not None and row.result.p_value is not None
    }
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    judged = []
    for place, row in enumerate(rows):
        if place not in adjusted:
            outcome = row.outcome or NOT_COMPARED
            sentence = row.sentence
            if not row.outcome and row.result is not None:
                sentence = f"{sentence}. {_why_not(row.result)}"
            judged.append(replace(row, outcome=outcome, sentence=_stop(sentence)))
            continue
        p_holm = float(adjusted[place])
        differs = p_holm < alpha
        shown = f"{p_text(p_values[place], p_holm)} for {len(adjusted)} tests"
        meaning = (
            f"more than chance explains ({shown})"
            if differs
            else f"chance explains a difference of this size ({shown})"
        )
        grown = row.kind == "data" or _low(row) > 1 + tolerance
        sentence = f"{row.sentence}: {meaning}"
        if differs and not grown and _estimate(row) > 1:
            sentence += f"; it is not shown to exceed the tolerance of {100 * tolerance:g} %"
        judged.append(
            replace(
                row,
                p_holm=p_holm,
                outcome=DIFFERS if differs else NOT_SHOWN,
                sentence=_stop(sentence),
                worse=differs and grown,
            )
        )
    return judged


def _low(row: Row) -> float:
    return row.result.interval[0] if row.result and row.result.interval else 0.0


def _estimate(row: Row) -> float:
    return row.result.estimate or 0.0 if row.result else 0.0


def _stop(sentence: str) -> str:
    return sentence if sentence.endswith(".") else f"{sentence}."
