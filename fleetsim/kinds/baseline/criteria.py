"""Criteria: what each kind needs, how the evidence decides it, and its chance before a run.

`CRITERIA` enters each kind of criterion. A judgement is pass, fail or inconclusive, with the
observed value, the limits in the same unit, and one plain sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from fleetsim.base.chances import p_text, percent
from fleetsim.base.verdict import Verdict
from fleetsim.batch.dataset import RUN_EVENTS
from fleetsim.experiment.criterion import (
    CLAIMED,
    MB,
    Criterion,
    CriterionKind,
    Judgement,
    Rule,
    certain,
    limits_of,
    measured,
)
from fleetsim.experiment.expectation import Expectation, bytes_per_event, tolerance_limits
from fleetsim.experiment.prospects import (
    battery_prospect,
    count_law_prospect,
    count_range_prospect,
    size_law_prospect,
    spread_prospect,
    type_prospect,
    variation_prospect,
)
from fleetsim.generate.model import type_law
from fleetsim.kinds.baseline.evidence import Evidence
from fleetsim.stats.battery import BATTERY, EntryKind
from fleetsim.stats.judged import Test
from fleetsim.stats.power import poisson_between
from fleetsim.stats.variation import variation_interval
from fleetsim.tally.batches import Tally
from fleetsim.tally.faults import FaultKind

RESAMPLES = 2000  # of the run times, for the bootstrap interval beside the verdict


# --- structure of the files ----------------------------------------------------------------------


def _structure(
    *kinds: FaultKind,
    claim: Callable[[Evidence], str],
    looked_at: Callable[[Tally], int] = lambda tally: len(tally.batch_ids),
    of_lines: bool = False,
) -> Callable[[Criterion, Evidence], Judgement]:
    """Return a judge that passes where something was looked at and no such fault was found.

    A claim about lines needs all of them: where files could not be read, there is no verdict.
    """

    def judge_structure(criterion: Criterion, evidence: Evidence) -> Judgement:
        count, examples = evidence.tally.faults_of(*kinds)
        if count:
            more = f" and {count - 1} more" if count > 1 else ""
            return Judgement(False, Verdict.FAIL, f"{examples[0]}{more}.")
        if looked_at(evidence.tally) == 0:
            note = "No verdict: there is nothing to look at."
            return Judgement(None, Verdict.INCONCLUSIVE, note)
        if of_lines and evidence.tally.unread:
            note = f"No verdict: {evidence.tally.unread_files or 'not all files could be read'}."
            return Judgement(None, Verdict.INCONCLUSIVE, note)
        return Judgement(True, Verdict.PASS, claim(evidence))

    return judge_structure


def _folder_claim(evidence: Evidence) -> str:
    names = evidence.tally.batch_ids
    shown = names[0] if len(names) == 1 else f"{names[0]} .. {names[-1]} ({len(names)} batches)"
    return f"{RUN_EVENTS}/{shown} holds the events, its record and nothing else."


def _lines_claim(evidence: Evidence) -> str:
    lines, explained = evidence.tally.lines, evidence.tally.explained
    if explained is not None:
        return (
            f"The ledger explains {explained.lines} of {lines} lines, each with its bytes and its "
            f"defect. All {lines - explained.lines} others are JSON with exactly the keys, order "
            "and forms of the data model; every company, driver and truck is in the roster and no "
            "event_id is duplicated."
        )
    return (
        f"All {lines} lines are JSON with exactly the keys, order and forms of the data model; "
        "every company, driver and truck is in the roster and no event_id is duplicated."
    )


def _meta_claim(evidence: Evidence) -> str:
    return (
        f"It records event_count {evidence.tally.lines} in all, the seed {evidence.config.seed}, "
        "the interval's boundaries, sizes and hashes as the files and the configuration have them."
    )


def _times_claim(evidence: Evidence) -> str:
    looked_at = evidence.tally.timed
    note = f"None of {looked_at} timestamps lies outside [start, end)."
    explained = evidence.tally.explained
    left = evidence.tally.lines - looked_at - (explained.lines if explained else 0)
    return f"{note} {left} of the lines have other faults and are no events." if left else note


def _some_event(criterion: Criterion, expectation: Expectation) -> float:
    """Return the probability that there is a line to look at."""
    return expectation.count_between(1, math.inf)


# --- counts and types ----------------------------------------------------------------------------


def _judge_count_range(criterion: Criterion, evidence: Evidence) -> Judgement:
    low, high = limits_of(criterion)
    if evidence.tally.unread:
        return _unread(evidence, low, high)
    if nothing := _no_event_read(evidence, low, high):
        return nothing
    count = evidence.tally.events
    if low <= count <= high:
        note = f"{count} events lie within {low:.12g} to {high:.12g}."
        return Judgement(count, Verdict.PASS, note, low, high)
    chance = poisson_between(low, high, evidence.mean)
    makes = f"the configuration makes {evidence.mean:.12g} on average"
    note = (
        f"{count} events lie outside {low:.12g} to {high:.12g}. {makes.capitalize()}, so the "
        f"stated range is reached with probability {percent(chance)}."
    )
    return Judgement(count, Verdict.FAIL, note, low, high, f"{count}; {makes}")


def _judge_count_law(criterion: Criterion, evidence: Evidence) -> Judgement:
    tolerance = criterion.tolerance or 0.0
    mean, count = evidence.mean, evidence.tally.events
    low, high = (float(limit) for limit in tolerance_limits(mean, tolerance))
    if evidence.tally.unread:
        return _unread(evidence, low, high)
    if nothing := _no_event_read(evidence, low, high):
        return nothing
    test = evidence.test("event_count")
    passed = low <= count <= high and _not_rejected(test, evidence.alpha)
    interval = ""
    if test.interval is not None and test.estimate is not None:
        interval = (
            f"; observed/expected is {test.estimate:.4f}, 95 % interval "
            f"{test.interval[0]:.4f} to {test.interval[1]:.4f}"
        )
    note = f"{count} events where the configuration expects {mean:.12g}{interval}; {_p_text(test)}."
    return Judgement(count, _pass_if(passed), note, low, high)


def _judge_types(criterion: Criterion, evidence: Evidence) -> Judgement:
    margin = criterion.tolerance or 0.0
    observed = evidence.tally.sample.type_counts.sum(axis=0)
    total = int(observed.sum())
    test = evidence.test("event_types")
    if evidence.tally.unread and _not_rejected(test, evidence.alpha):
        note = _no_verdict(evidence.tally.unread_files or "not all files could be read")
        return Judgement(None, Verdict.INCONCLUSIVE, note, 0.0, 100 * margin)
    if total == 0 or test.p_holm is None:
        note = _no_verdict(test.note or "there is no event to look at")
        return Judgement(None, Verdict.INCONCLUSIVE, note, 0.0, 100 * margin)
    law = type_law(evidence.config)
    weights, shares = np.array(law.probabilities), observed / total
    half = float(scipy.special.ndtri(0.95)) * np.sqrt(shares * (1 - shares) / total)
    reach = np.abs(shares - weights) + half
    deviation = 100 * float(np.abs(shares - weights).max())
    if not _not_rejected(test, evidence.alpha):
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.PASS if reach.max() <= margin else Verdict.INCONCLUSIVE
    listed = ", ".join(
        f"{name} {100 * share:.1f} (weight {100 * weight:g})"
        for name, share, weight in zip(law.names, shares, weights, strict=True)
    )
    note = (
        f"Shares in %: {listed}; the 90 % intervals reach at most {100 * reach.max():.1f} points "
        f"from the weights, {100 * margin:g} are allowed; {_p_text(test)}."
    )
    brief = f"at most {deviation:.1f} points off"
    return Judgement(deviation, verdict, note, 0.0, 100 * margin, brief)


def _judge_spread(criterion: Criterion, evidence: Evidence) -> Judgement:
    low, high = limits_of(criterion)
    test = evidence.test("event_count_spread")
    n = len(evidence.replicates)
    if test.interval is None or test.estimate is None:
        return Judgement(None, Verdict.INCONCLUSIVE, _no_verdict(test.note), low, high)
    below, above = (math.inf if end is None else end for end in test.interval)
    if not below <= 1 <= above:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.PASS if low < below and above < high else Verdict.INCONCLUSIVE
    deviation = float(np.std(evidence.replicates, ddof=1))
    sigma = math.sqrt(evidence.drawn)
    relative = f" ({100 / sigma:.1f} % of the mean)" if sigma else ""
    note = (
        f"Over {n} seeds the count has the standard deviation {deviation:.2f} events; "
        f"the law says {sigma:.2f}{relative}. "
        f"Variance/mean is {test.estimate:.3f}, 95 % interval {below:.3f} to {above:.3f}; "
        "it should contain 1, and does so in 95 % of fault-free runs."
    )
    return Judgement(test.estimate, verdict, note, low, high)


def _judge_battery(criterion: Criterion, evidence: Evidence) -> Judgement:
    tests = [test for test in evidence.tests if test.kind != EntryKind.EQUIVALENCE.value]
    rejecting = [test for test in tests if test.verdict == Verdict.FAIL]
    missing = [test for test in tests if test.p_value is None]
    if rejecting:
        said = "; ".join(f"{test.name} ({_p_text(test)})" for test in rejecting)
        note = f"{len(rejecting)} of {len(tests)} tests reject: {said}."
        return Judgement(len(rejecting), Verdict.FAIL, note)
    if missing:
        names = ", ".join(test.name for test in missing)
        note = f"{len(missing)} of {len(tests)} tests could not be made: {names}."
        return Judgement(None, Verdict.INCONCLUSIVE, _no_verdict(note.rstrip(".")))
    suspects = [test.name for test in tests if test.suspect]
    doubt = f" Suspect, but not rejected: {', '.join(suspects)}." if suspects else ""
    note = (
        f"None of {len(tests)} tests rejects at the level {evidence.alpha:g} of them all; the "
        f"smallest adjusted p (Holm) is {min(t.p_holm for t in tests if t.p_holm):.3g}."
    )
    return Judgement(0, Verdict.PASS, note + doubt)


# --- time, memory, size --------------------------------------------------------------------------


def _judge_time(criterion: Criterion, evidence: Evidence) -> Judgement:
    high = criterion.high or 0.0
    seconds = evidence.generation_seconds
    if len(seconds) == 0:
        return Judgement(None, Verdict.INCONCLUSIVE, _no_verdict("nothing ran"), None, high)
    if evidence.interval == "now":
        how = "from the interval's start, the trigger, to generation_time"
    else:
        how = "by the monotonic clock, since the interval does not start at the trigger"
    note = (
        f"The slowest of {len(seconds)} cold runs took {seconds.max():.3f} s, the median "
        f"{np.median(seconds):.3f} s, {how}; the limit is {high:g} s."
    )
    return Judgement(float(seconds.max()), _below(seconds.max(), high), note, None, high)


def _judge_memory(criterion: Criterion, evidence: Evidence) -> Judgement:
    high = criterion.high or 0.0
    peaks = np.array([repeat.peak_rss_bytes for repeat in evidence.repeats]) / MB
    if len(peaks) == 0:
        return Judgement(None, Verdict.INCONCLUSIVE, _no_verdict("nothing ran"), None, high)
    note = (
        f"The largest resident set of {len(peaks)} generating processes was {peaks.max():.1f} MB, "
        f"the median {np.median(peaks):.1f} MB; the limit is {high:g} MB."
    )
    return Judgement(float(peaks.max()), _below(peaks.max(), high), note, None, high)


def _judge_variation(criterion: Criterion, evidence: Evidence) -> Judgement:
    high = criterion.high or 0.0
    seconds = evidence.generation_seconds
    try:
        below, above = variation_interval(seconds)
    except ValueError as error:
        return Judgement(None, Verdict.INCONCLUSIVE, _no_verdict(str(error)), None, high)
    observed = float(np.std(seconds, ddof=1) / np.mean(seconds))
    low, most = _resampled_variation(seconds)
    if above < high:
        verdict = Verdict.PASS
    else:
        verdict = Verdict.FAIL if below > high else Verdict.INCONCLUSIVE
    note = (
        f"The run time of {len(seconds)} cold runs varies by {100 * observed:.1f} % (standard "
        f"deviation/mean), 95 % interval {100 * below:.1f} to {100 * above:.1f} %; the whole "
        f"interval has to lie below {100 * high:g} %. Run times are skewed and the interval takes "
        f"them as normal: resampling gives {100 * low:.1f} to {100 * most:.1f} %."
    )
    brief = f"{100 * observed:.1f} %, 95 % interval to {100 * above:.1f} %"
    brief += f"{CLAIMED}below {100 * high:g} %"
    return Judgement(observed, verdict, note, None, high, brief)


def _resampled_variation(seconds: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of the coefficient of variation, the same every time."""
    rows = np.random.default_rng(0).choice(seconds, (RESAMPLES, len(seconds)))
    low, high = np.quantile(rows.std(axis=1, ddof=1) / rows.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def _judge_size_range(criterion: Criterion, evidence: Evidence) -> Judgement:
    low, high = limits_of(criterion)
    if evidence.tally.unread:
        return _unread(evidence, low, high)
    size = evidence.tally.batch_disk_bytes / MB
    line = bytes_per_event(evidence.config, len(evidence.tally.batch_ids))
    passed = low <= size <= high
    note = (
        f"{size:.3f} MB on the disk (allocated blocks, as du shows them) "
        f"{'lie' if passed else 'do not lie'} within {low:g} to {high:g} MB."
    )
    if not passed:
        chance = poisson_between(low * MB / line, high * MB / line, evidence.mean)
        note += (
            f" The configuration makes {evidence.mean:.12g} events of {line:.0f} bytes on average, "
            f"{evidence.mean * line / MB:.2f} MB; the stated range is reached with probability "
            f"{percent(chance)}."
        )
    return Judgement(size, _pass_if(passed), note, low, high)


def _judge_size_law(criterion: Criterion, evidence: Evidence) -> Judgement:
    tolerance = criterion.tolerance or 0.0
    line = bytes_per_event(evidence.config, len(evidence.tally.batch_ids))
    expected = evidence.mean * line / MB
    size = evidence.tally.batch_bytes / MB
    low, high = (float(limit) for limit in tolerance_limits(expected, tolerance))
    if evidence.tally.unread:
        return _unread(evidence, low, high)
    if expected == 0:
        note = f"No event is expected; the {size:.3f} MB are the record alone."
        return Judgement(size, Verdict.INCONCLUSIVE, note, low, high)
    note = (
        f"The files hold {size:.3f} MB; {evidence.mean:.12g} events of {line:.1f} bytes make "
        f"{expected:.3f} MB, and {low:.3f} to {high:.3f} MB are allowed."
    )
    return Judgement(size, _pass_if(low <= size <= high), note, low, high)


# --- chances and windows -------------------------------------------------------------------------


def _range_chance(criterion: Criterion, expectation: Expectation) -> float:
    return expectation.count_between(*limits_of(criterion))


def _size_window(criterion: Criterion, expectation: Expectation) -> tuple[float, float]:
    low, high = limits_of(criterion)
    line = bytes_per_event(expectation.config, expectation.batches)
    return low * MB / line, high * MB / line


def _megabytes(low: float, high: float, expectation: Expectation) -> str:
    line = bytes_per_event(expectation.config, expectation.batches)
    return f"{low * line / MB:.2f} to {high * line / MB:.2f} MB"


def _size_here(criterion: Criterion, expectation: Expectation) -> str:
    megabytes = expectation.mean * bytes_per_event(expectation.config, expectation.batches) / MB
    margin = 100 * (criterion.tolerance or 0)
    return f"{expectation.mean:.12g} events make {megabytes:.3g} MB, ± {margin:g} %"


def _law_window(criterion: Criterion, expectation: Expectation) -> tuple[float, float]:
    low, high = tolerance_limits(expectation.mean, criterion.tolerance or 0.0)
    return float(low), float(high)


# --- helpers -------------------------------------------------------------------------------------


def _unread(evidence: Evidence, low: float, high: float) -> Judgement:
    """Fail a claim about data that are not there, however small the data that it allows."""
    note = f"There are no events to count: {evidence.tally.unread[0]} has no file that can be read."
    return Judgement(None, Verdict.FAIL, note, low, high)


def _no_event_read(evidence: Evidence, low: float, high: float) -> Judgement | None:
    """Return that there is no verdict where there are lines and none is an event; else None."""
    lines = evidence.tally.lines
    if evidence.tally.events or not lines:
        return None
    note = _no_verdict(f"none of {lines} lines could be read as an event of a known driver")
    return Judgement(None, Verdict.INCONCLUSIVE, note, low, high)


def _no_verdict(why: str | None) -> str:
    return f"No verdict: {(why or 'the test was not made').removeprefix('no test: ')}."


def _pass_if(condition: bool) -> Verdict:
    return Verdict.PASS if condition else Verdict.FAIL


def _below(value: float, limit: float) -> Verdict:
    if value == limit:
        return Verdict.INCONCLUSIVE
    return _pass_if(value < limit)


def _not_rejected(test: Test, alpha: float) -> bool:
    return test.p_holm is not None and test.p_holm >= alpha


def _p_text(test: Test) -> str:
    if test.p_value is None:
        return f"no p-value: {test.note}"
    return p_text(test.p_value, test.p_holm)


CRITERIA: dict[str, CriterionKind] = {
    "batch_directory": CriterionKind(
        "every batch folder holds the events, their record and nothing else",
        (),
        _structure(FaultKind.FOLDER, claim=_folder_claim),
        certain,
        method="the folder's name and files",
        rule=Rule.NONE_WRONG,
    ),
    "jsonl_valid": CriterionKind(
        "every line has exactly the form of the data model and names of the roster, no id twice",
        (),
        _structure(
            FaultKind.LINE,
            FaultKind.MEMBER,
            FaultKind.DUPLICATE,
            FaultKind.LEDGER,
            claim=_lines_claim,
            looked_at=lambda tally: tally.lines,
            of_lines=True,
        ),
        _some_event,
        method="every line held to the bytes of the data model, every name to the roster",
        rule=Rule.NONE_WRONG,
    ),
    "batch_meta": CriterionKind(
        "every record says of its batch what the files and the configuration have",
        (),
        _structure(FaultKind.META, claim=_meta_claim),
        certain,
        method="each entry held to the files and to the configuration",
        rule=Rule.NONE_WRONG,
    ),
    "timestamps_in_interval": CriterionKind(
        "every timestamp lies in its interval [start, end)",
        (),
        _structure(
            FaultKind.TIME,
            claim=_times_claim,
            looked_at=lambda tally: tally.timed,
            of_lines=True,
        ),
        _some_event,
        method="every timestamp of the file",
        rule=Rule.NONE_WRONG,
    ),
    "event_count_range": CriterionKind(
        "the number of events lies between two numbers",
        ("low", "high"),
        _judge_count_range,
        _range_chance,
        window=lambda c, e: limits_of(c),
        stated_range=True,
        prospect=lambda c, e: count_range_prospect(e, *limits_of(c)),
        unit="events",
        method="lines of events.jsonl, counted in the file",
        rule=Rule.WITHIN,
    ),
    "event_count_law": CriterionKind(
        "the number of events is near the configured mean, and follows its Poisson law",
        ("tolerance",),
        _judge_count_law,
        lambda c, e: e.count_follows_law(c.tolerance or 0.0),
        tests=("event_count",),
        window=_law_window,
        here=lambda c, e: f"{e.mean:.12g} ± {100 * (c.tolerance or 0):g} %",
        prospect=lambda c, e: count_law_prospect(e, c.tolerance or 0.0),
        unit="events",
        method="lines of events.jsonl against the configured mean; exact Poisson test",
        rule=Rule.COUNT_TEST,
    ),
    "event_type_law": CriterionKind(
        "the shares of the event types are near their weights, and follow them",
        ("tolerance",),
        _judge_types,
        lambda c, e: e.types_follow_law(c.tolerance or 0.0),
        tests=("event_types", "event_types_within_margin"),
        prospect=lambda c, e: type_prospect(e, c.tolerance or 0.0),
        unit="percentage points",
        method=(
            "chi-square against the weights, and 90 % intervals of the shares; observed is the "
            "largest distance of a share from its weight"
        ),
        rule=Rule.SHARES_TEST,
    ),
    "battery": CriterionKind(
        "no test of the whole battery rejects at alpha, adjusted together",
        (),
        _judge_battery,
        lambda c, e: (1 - e.alpha) * e.count_between(1, math.inf),
        tests=(
            *(e.name for e in BATTERY if e.kind is not EntryKind.EQUIVALENCE),
            "event_count_spread",
        ),
        prospect=lambda c, e: battery_prospect(e),
        unit="rejecting tests",
        method="every test of a law or of structure, adjusted together by Holm's procedure",
        rule=Rule.TESTS,
    ),
    "event_count_spread": CriterionKind(
        "the counts of many seeds vary as much as the Poisson law says",
        ("low", "high"),
        _judge_spread,
        lambda c, e: e.spread_follows_law(*limits_of(c)),
        tests=("event_count_spread",),
        prospect=lambda c, e: spread_prospect(e, *limits_of(c)),
        unit="variance/mean",
        method="counts of many seeds, drawn in memory; variance/mean with its 95 % interval",
        rule=Rule.INTERVAL_HOLDS_ONE,
    ),
    "generation_time": CriterionKind(
        "the slowest cold run is faster than a limit",
        ("high",),
        _judge_time,
        measured,
        unit="s",
        method="generation time of the slowest cold run, by batch_meta.json",
        rule=Rule.BELOW,
    ),
    "generation_time_variation": CriterionKind(
        "the coefficient of variation of the generation time is below a limit",
        ("high",),
        _judge_variation,
        measured,
        prospect=lambda c, e: variation_prospect(e, c.high or 0.0),
        unit="standard deviation/mean",
        method="coefficient of variation of the cold runs; its upper 95 % limit decides",
        rule=Rule.INTERVAL_BELOW,
    ),
    "memory_peak": CriterionKind(
        "the largest resident set of all cold runs is below a limit",
        ("high",),
        _judge_memory,
        measured,
        unit="MB",
        method=(
            "largest resident set of each generating process, as the operating system accounts "
            "for it"
        ),
        rule=Rule.BELOW,
    ),
    "batch_size_range": CriterionKind(
        "the size of the batch lies between two numbers of MB",
        ("low", "high"),
        _judge_size_range,
        lambda c, e: e.count_between(*_size_window(c, e)),
        window=_size_window,
        window_text=_megabytes,
        stated_range=True,
        prospect=lambda c, e: count_range_prospect(
            e, *_size_window(c, e), f"{c.low or 0:g} to {c.high or math.inf:g} MB"
        ),
        unit="MB",
        method="allocated blocks of the batch folder, as du counts them",
        rule=Rule.WITHIN,
    ),
    "batch_size_law": CriterionKind(
        "the size of the batch is near the configured mean times the bytes of a line",
        ("tolerance",),
        _judge_size_law,
        lambda c, e: e.count_within(c.tolerance or 0.0),
        window=_law_window,
        window_text=_megabytes,
        here=_size_here,
        prospect=lambda c, e: size_law_prospect(e, c.tolerance or 0.0),
        unit="MB",
        method="bytes of the batch's files against configured mean × mean length of a line",
        rule=Rule.TOLERANCE,
    ),
}


def margins(criteria: Sequence[Criterion]) -> dict[str, float]:
    """Return the margins of the equivalence tests: as the criteria say, or 10 % and 3 points."""

    def least(kind: str, default: float) -> float:
        stated = (c.tolerance for c in criteria if c.kind == kind and c.tolerance)
        return min(stated, default=default)

    return {
        "count_margin": least("event_count_law", 0.10),
        "type_margin": least("event_type_law", 0.03),
    }
