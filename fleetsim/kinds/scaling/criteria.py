"""How the measurements at many sizes decide their criteria; `CRITERIA` enters them.

A claim about an exponent is one about its interval: see `claims.by_intervals`.
"""

from __future__ import annotations

from fleetsim.base.verdict import Verdict
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
from fleetsim.kinds.scaling.sizes import GrowthRow, Scaling
from fleetsim.measure.series import PATHS

MB = 1e6  # bytes


def judge_time_exponent(criterion: Criterion, scaling: Scaling) -> Judgement:
    """Decide whether the time grows in proportion, on each path, start-up aside."""
    tolerance = criterion.tolerance or 0.0
    low, high = 1 - tolerance, 1 + tolerance
    rows = [scaling.row(path, "generation_seconds") for path in PATHS]
    fitted = [row for row in rows if row.interval is not None]
    if not fitted:
        return undecided(_unfitted(rows), low, high)
    ends = [row.interval for row in fitted if row.interval is not None]
    note = "; ".join(_time_words(row) for row in fitted) + "."
    far = max(fitted, key=lambda row: abs((row.exponent or 0.0) - 1))
    missing = _why_open(rows, scaling) if len(fitted) < len(rows) or scaling.missing else ""
    verdict, why = by_intervals(ends, low=low, high=high, missing=missing)
    return Judgement(far.exponent, verdict, note + why, low, high)


def judge_memory_exponent(criterion: Criterion, scaling: Scaling) -> Judgement:
    """Decide whether the peak memory of the path for large batches stays as it is.

    Only growth speaks against the claim, so only the upper limit decides.
    """
    high = criterion.high or 0.0
    row = scaling.row("compiled", "peak_rss_bytes")
    if row.interval is None or row.exponent is None:
        return undecided(_unfitted([row]), None, high)
    below, above = row.interval
    note = (
        f"{_range(scaling, 'compiled')}: exponent {row.exponent:.4f}, 95 % interval {below:.4f} to "
        f"{above:.4f}; ten times the events take {100 * (10**row.exponent - 1):+.1f} % memory."
    )
    missing = _why_open([row], scaling) if scaling.missing else ""
    verdict, why = by_intervals([row.interval], high=high, missing=missing)
    return Judgement(row.exponent, verdict, note + why, None, high)


def judge_memory_of_largest(criterion: Criterion, scaling: Scaling) -> Judgement:
    """Decide whether every process of the largest size kept below the limit."""
    high = criterion.high or 0.0
    largest = max(size.events for size in scaling.sizes)
    peaks = [run.peak_rss_bytes / MB for run in scaling.runs if run.events == largest]
    if not peaks:
        return undecided(f"the largest size, {largest} events, was not measured", None, high)
    most = max(peaks)
    note = (
        f"The largest resident set of {len(peaks)} processes that made {largest} events was "
        f"{most:.1f} MB; the limit is {high:g} MB."
    )
    verdict = Verdict.PASS if most < high else Verdict.FAIL
    return Judgement(most, verdict, note, None, high)


def judge_same_content(criterion: Criterion, scaling: Scaling) -> Judgement:
    """Decide whether every file is what its record says, all of its size alike, none too short."""
    sizes = len({run.events for run in scaling.runs})
    return by_contents(
        [(run.events, f"a file of size {run.events}", run) for run in scaling.runs],
        f"{len(scaling.runs)} files of {sizes} sizes, {sum(run.lines for run in scaling.runs)} "
        "lines, were read back: each has the lines, bytes and hash that its record says and the "
        "events that its streams give, and the repeats of a size are equal byte for byte.",
    )


def _time_words(row: GrowthRow) -> str:
    below, above = row.interval or (0.0, 0.0)
    return (
        f"{PATHS[row.path]}: exponent {row.exponent:.3f}, 95 % interval {below:.3f} to "
        f"{above:.3f}, beside a start-up of {row.startup:.3f} s (with it the logarithms rise by "
        f"{row.slope:.3f})"
    )


def _range(scaling: Scaling, path: str) -> str:
    sizes = sorted({run.events for run in scaling.of(path)})
    return f"{PATHS[path]}, {sizes[0]} to {sizes[-1]} events"


def _unfitted(rows: list[GrowthRow]) -> str:
    return "; ".join(f"{PATHS[row.path]}: {row.note}" for row in rows if row.note)


def _why_open(rows: list[GrowthRow], scaling: Scaling) -> str:
    """Return what is missing for a verdict, as sentences."""
    missing, unfitted = scaling.missing, _unfitted(rows)
    said = []
    if missing:
        more = f" to {missing[-1]} events, {len(missing)} sizes" if len(missing) > 1 else " events"
        said.append(f"Not measured: {missing[0]}{more}.")
    if unfitted:
        said.append(f"No law: {unfitted}.")
    return " ".join(said)


CRITERIA: dict[str, CriterionKind] = {
    "time_exponent": CriterionKind(
        "the time grows in proportion to the events, start-up aside, on each path",
        ("tolerance",),
        judge_time_exponent,
        measured,
        method=(
            "start-up + factor × events^exponent, fitted to generation_seconds; the whole 95 % "
            "interval"
        ),
        rule=Rule.INTERVAL_WITHIN,
    ),
    "memory_exponent": CriterionKind(
        "the memory does not grow with the batch",
        ("high",),
        judge_memory_exponent,
        measured,
        method=(
            "factor × events^exponent, fitted to the largest resident sets; the whole 95 % interval"
        ),
        rule=Rule.INTERVAL_BELOW,
    ),
    "memory_of_largest": CriterionKind(
        "the largest size takes less memory than a limit",
        ("high",),
        judge_memory_of_largest,
        measured,
        unit="MB",
        method="largest resident set of the cold processes that make the largest size",
        rule=Rule.BELOW,
    ),
    "same_content": CriterionKind(
        "every file is what its record says, and repeats of a size are equal",
        (),
        judge_same_content,
        certain,
        unit="files at fault",
        method=(
            "every file read back: lines, bytes and SHA-256 against its record and the other "
            "repeats"
        ),
        rule=Rule.NONE_WRONG,
    ),
}
