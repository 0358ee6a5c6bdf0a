"""How what was measured of workers decides its criteria; `CRITERIA` enters them.

A claim about an estimate is one about its interval: see `claims.by_intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from fleetsim.experiment.criterion import (
    Criterion,
    CriterionKind,
    Judgement,
    Rule,
    by_contents,
    by_intervals,
    certain,
    measured,
    undecided,
)
from fleetsim.kinds.scale_out.ways import WAYS, ScaleOut
from fleetsim.stats.growth import PowerLaw
from fleetsim.stats.linear import CONFIDENCE


def judge_same_bytes(criterion: Criterion, found: ScaleOut) -> Judgement:
    """Decide whether every way makes the same content, as recorded, with no event too few."""
    ways = len({run.way for run in found.runs})
    return by_contents(
        [
            (
                (run.events, run.stated_tasks),
                f"a batch of {run.events} events by {WAYS[run.way].words}",
                run,
            )
            for run in found.runs
        ],
        f"{len(found.runs)} batches, {sum(run.lines for run in found.runs)} lines made in {ways} "
        "ways, were read back: each has the lines, bytes and hashes that its record says and the "
        "events that its streams give, and the content of all ways is equal byte for byte.",
    )


def judge_throughput_ratio(criterion: Criterion, found: ScaleOut) -> Judgement:
    """Decide whether two workers are about as fast as one process with two threads."""
    low = criterion.low or 0.0
    if found.missing:
        why = f"not measured: {', '.join(map(str, found.missing))} events"
        return undecided(why, low, None)
    ratios = np.log(found.ratios)
    if len(ratios) < 2:
        return undecided("it takes 2 rounds or more", low, None)
    # The mean of logarithms: a ratio and its inverse are as far from 1.
    middle = float(ratios.mean())
    error = float(ratios.std(ddof=1)) / math.sqrt(len(ratios))
    half = float(stdtrit(len(ratios) - 1, (1 + CONFIDENCE) / 2)) * error
    value, below, above = (math.exp(end) for end in (middle, middle - half, middle + half))
    note = (
        f"In {len(ratios)} rounds of {found.sizes[-1].events} events, 2 workers made {value:.3f} "
        f"times the events a second of one process with 2 threads (geometric mean, 95 % interval "
        f"{below:.3f} to {above:.3f}; start-up of both included)."
    )
    verdict, why = by_intervals([(below, above)], low=low)
    return Judgement(value, verdict, note + why, low, None)


def judge_client_memory(criterion: Criterion, found: ScaleOut) -> Judgement:
    """Decide whether the client's peak memory stays as it is, however many events."""
    return _memory(criterion, found, found.client_memory, "client")


def judge_scheduler_memory(criterion: Criterion, found: ScaleOut) -> Judgement:
    """Decide whether the scheduler's peak memory stays as it is, however many events."""
    return _memory(criterion, found, found.scheduler_memory, "scheduler")


def judge_task_overhead(criterion: Criterion, found: ScaleOut) -> Judgement:
    """Decide whether a task costs little besides its events."""
    high, law = criterion.high or 0.0, found.overhead
    if isinstance(law, str):
        return undecided(law, None, high)
    each = law.each("task")
    note = (
        f"By 2 workers a task of few events adds {each.value:.4f} s, 95 % interval {each.low:.4f} "
        f"to {each.high:.4f} s, over {law.runs} runs of {law.groups} numbers of tasks; the line is "
        f"off by {100 * law.deviation:.0f} % at most."
    )
    missing = _not_measured(found.missing_tasks, "tasks")
    verdict, why = by_intervals([(each.low, each.high)], high=high, missing=missing)
    return Judgement(each.value, verdict, note + why, None, high)


def _memory(criterion: Criterion, found: ScaleOut, law: PowerLaw | str, whose: str) -> Judgement:
    high = criterion.high or 0.0
    if isinstance(law, str):
        return undecided(f"{whose}: {law}", None, high)
    below, above = law.interval
    note = (
        f"Up to {law.largest:.0f} events the {whose}'s peak memory grows by an exponent of "
        f"{law.exponent:.4f}, 95 % interval {below:.4f} to {above:.4f}; at the largest size it is "
        f"{law.factor / 1e6:.1f} MB, and ten times the events take "
        f"{100 * (10**law.exponent - 1):+.1f} %."
    )
    missing = _not_measured(found.missing, "events")
    verdict, why = by_intervals([law.interval], high=high, missing=missing)
    return Judgement(law.exponent, verdict, note + why, None, high)


def _not_measured(numbers: Sequence[int], of: str) -> str:
    return f"Not measured: {', '.join(map(str, numbers))} {of}." if numbers else ""


CRITERIA: dict[str, CriterionKind] = {
    "same_bytes": CriterionKind(
        "one process and any workers make the same bytes, as their records say",
        (),
        judge_same_bytes,
        certain,
        unit="batches at fault",
        method=(
            "every file read back: lines, bytes and SHA-256 of each part and of all in their order"
        ),
        rule=Rule.NONE_WRONG,
    ),
    "throughput_ratio": CriterionKind(
        "two workers make at least so many times the events a second of one process",
        ("low",),
        judge_throughput_ratio,
        measured,
        method=(
            "events over generation_seconds, by workers over by one process; the whole 95 % "
            "interval"
        ),
        rule=Rule.INTERVAL_ABOVE,
    ),
    "client_memory": CriterionKind(
        "the memory of the process that asks does not grow with the events",
        ("high",),
        judge_client_memory,
        measured,
        method=(
            "factor × events^exponent, fitted to the command's resident sets; the whole 95 % "
            "interval"
        ),
        rule=Rule.INTERVAL_BELOW,
    ),
    "scheduler_memory": CriterionKind(
        "the memory of the scheduler does not grow with the events",
        ("high",),
        judge_scheduler_memory,
        measured,
        method=(
            "factor × events^exponent, fitted to the scheduler's resident sets; the whole 95 % "
            "interval"
        ),
        rule=Rule.INTERVAL_BELOW,
    ),
    "task_overhead": CriterionKind(
        "a task costs less than a limit besides its events",
        ("high",),
        judge_task_overhead,
        measured,
        unit="s",
        method="slope of generation_seconds over the number of parts; the whole 95 % interval",
        rule=Rule.INTERVAL_BELOW,
    ),
}
