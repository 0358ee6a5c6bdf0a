"""How a calibration decides its criteria; `CRITERIA` enters them.

A limit that is broken fails a criterion however few the seeds were, since the limits are exact. To
pass it takes seeds enough to have seen a fault; otherwise the verdict is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats as laws

from fleetsim.base.tables import counted
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.criterion import (
    Criterion,
    CriterionKind,
    Judgement,
    Rule,
    measured,
)
from fleetsim.experiment.expectation import Expectation
from fleetsim.kinds.calibration.trials import BUDGET, Calibration, PowerRow, binomial_band
from fleetsim.stats.battery import BATTERY, EntryKind
from fleetsim.stats.controls import CONTROLS

#: Rejections that a level should lead to expect, as for any cell of a chi-square test; with fewer
#: the band reaches to more than three times the level.
MIN_EXPECTED = 5
#: The distance between the distribution of p-values and the uniform one that has to be caught.
DISTANCE = 0.05
#: How far a measured power may lie from the computed one by chance, at most, at a power of 1/2.
POWER_NOISE = 0.10
LISTED = 5  # in a note


def judge_rejections(criterion: Criterion, calibration: Calibration) -> Judgement:
    """Decide whether every test rejects fault-free data as often as its level says."""
    rows = calibration.sizes
    outside = [row for row in rows if not row.inside]
    looks = f"{len(rows)} counts of rejections ({len({row.test for row in rows})} tests)"
    why = _not_made({row.test for row in rows}, continuous_only=False)
    if rows and why is None:
        seeds, level = min(row.seeds for row in rows), min(row.level for row in rows)
        if seeds * level < MIN_EXPECTED:
            why = (
                f"{seeds} seeds lead to expect {seeds * level:.3g} rejections at the level "
                f"{level:g}; it takes {MIN_EXPECTED / level:g} seeds"
            )
    listed = [
        f"{row.test} in {counted(row.batches)} rejects {row.rejected} of {row.seeds} at "
        f"{row.level:g}, {row.joint[0]} to {row.joint[1]} are allowed"
        for row in outside
    ]
    claim = f"All {looks} lie inside their joint exact binomial bands."
    return _judgement(listed, why, claim, f"{len(outside)} of {looks} lie outside")


def judge_uniformity(criterion: Criterion, calibration: Calibration) -> Judgement:
    """Decide whether the p-values of fault-free data are uniform."""
    rows = calibration.laws
    outside = [row for row in rows if not row.inside]
    why = _not_made({row.test for row in rows}, continuous_only=True)
    if rows and why is None:
        seen = max(float(laws.kstwo.isf(row.limit, row.seeds)) for row in rows)
        if seen > DISTANCE:
            why = f"only a distance from the uniform law above {seen:.3f} would be caught"
    listed = [
        f"{row.test} in {counted(row.batches)} has D = {row.distance:.4f}, p = {row.p_value:.2g}"
        for row in outside
    ]
    looks = f"{len(rows)} distributions of p-values ({len({row.test for row in rows})} tests)"
    least = min((row.p_value for row in rows), default=math.nan)
    claim = f"None of {looks} differs from the uniform one; the smallest p of these is {least:.2g}."
    return _judgement(listed, why, claim, f"{len(outside)} of {looks} are not uniform")


def judge_caught(criterion: Criterion, calibration: Calibration) -> Judgement:
    """Decide whether each control is caught often enough, by the best of its tests after Holm.

    The whole 95 % interval of the share has to lie above the limit to pass, and below it to fail.
    """
    low = criterion.low or 0.0
    best = {}
    for control in CONTROLS:
        rows = [row for row in calibration.controls if row.control == control.name]
        most = max((row.batches for row in rows), default=0)
        named = [row for row in rows if row.batches == most and row.test in control.caught_by]
        if named:
            best[control.name] = max(named, key=lambda row: row.share_holm)
    missing = [control.name for control in CONTROLS if control.name not in best]
    if not best:
        return Judgement(None, Verdict.INCONCLUSIVE, "No verdict: no control was tried.", low, 1.0)
    row = min(best.values(), key=lambda row: row.share_holm)
    missed = [name for name, row in best.items() if row.interval_holm[1] < low]
    doubtful = [name for name, row in best.items() if row.interval_holm[0] < low]
    note = (
        f"Of {len(best)} controls {row.control} is caught least often: {row.test} rejects it in "
        f"{100 * row.share_holm:.1f} % of {row.seeds} seeds after Holm's adjustment (95 % interval "
        f"{100 * row.interval_holm[0]:.1f} to {100 * row.interval_holm[1]:.1f} %)."
    )
    if missed:
        verdict = Verdict.FAIL
        note += f" Below {100 * low:g} %: {_some(missed)}."
    elif doubtful or missing:
        verdict = Verdict.INCONCLUSIVE
        if missing:
            note += f" Not tried: {_some(missing)}."
        if doubtful:
            note += f" The interval reaches below {100 * low:g} %: {_some(doubtful)}."
    else:
        verdict = Verdict.PASS
    return Judgement(row.share_holm, verdict, note, low, 1.0)


def power_limits(row: PowerRow, comparisons: int, tolerance: float) -> tuple[int, int]:
    """Return the least and the largest number of hits that the computed power allows.

    The exact binomial band of level 1 - BUDGET / comparisons, for every power within `tolerance`
    of the computed one; a fault that is caught for certain needs none.
    """
    computed = row.computed or 0.0
    room = tolerance if 0 < computed < 1 else 0.0
    level = 1 - BUDGET / comparisons
    low, _ = binomial_band(row.seeds, max(0.0, computed - room), level)
    _, high = binomial_band(row.seeds, min(1.0, computed + room), level)
    return low, high


def judge_power(criterion: Criterion, calibration: Calibration) -> Judgement:
    """Decide whether the power that was measured is the one that was computed."""
    rows = [row for row in calibration.controls if row.computed is not None]
    tolerance = criterion.tolerance or 0.0
    outside, why, claim = [], None, ""
    for row in rows:
        low, high = power_limits(row, len(rows), tolerance)
        if not low <= round(row.share * row.seeds) <= high:
            outside.append(
                f"{row.control} by {row.test}: {row.share:.3f} measured, {row.computed:.3f} "
                f"computed, {low / row.seeds:.3f} to {high / row.seeds:.3f} are allowed"
            )
    if rows:
        far = max(rows, key=lambda row: abs(row.share - (row.computed or 0.0)))
        claim = (
            f"All {len(rows)} measured powers agree with the computed ones. The farthest apart: "
            f"{far.control} by {far.test}, {far.share:.3f} measured, {far.computed:.3f} computed."
        )
        seeds = min(row.seeds for row in rows)
        low, high = binomial_band(seeds, 0.5, 1 - BUDGET / len(rows))
        if (high - low) / 2 / seeds > POWER_NOISE:
            why = (
                f"in {seeds} seeds chance alone moves a power of 1/2 by "
                f"{100 * (high - low) / 2 / seeds:.0f} points, {100 * POWER_NOISE:g} are wanted"
            )
    else:
        why = "no control with a computed power was tried"
    return _judgement(outside, why, claim, f"{len(outside)} of {len(rows)} powers do not agree")


def _not_made(made: set[str], *, continuous_only: bool) -> str | None:
    """Return which tests of the battery gave no p-value at all, as a reason, or None."""
    wanted = [
        entry.name
        for entry in BATTERY
        if entry.kind is EntryKind.EVIDENCE and (entry.continuous or not continuous_only)
    ]
    missing = [name for name in wanted if name not in made]
    return f"these tests could not be made: {_some(missing)}" if missing else None


def _some(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"


def _judgement(outside: Sequence[str], why_not: str | None, claim: str, count: str) -> Judgement:
    """Fail for what lies outside; else pass, where nothing speaks against a verdict."""
    if outside:
        more = f"; and {len(outside) - LISTED} more" if len(outside) > LISTED else ""
        note = f"{count}: {'; '.join(outside[:LISTED])}{more}."
        return Judgement(len(outside), Verdict.FAIL, note, 0.0, 0.0)
    if why_not is not None:
        return Judgement(None, Verdict.INCONCLUSIVE, f"No verdict: {why_not}.", 0.0, 0.0)
    return Judgement(0, Verdict.PASS, claim, 0.0, 0.0)


def _joint(criterion: Criterion, expectation: Expectation) -> float:
    """Return what the joint limits of a calibration leave to a fault-free one, at least."""
    return 1 - BUDGET


CRITERIA: dict[str, CriterionKind] = {
    "rejections_in_band": CriterionKind(
        "each test rejects fault-free data as often as its level says",
        (),
        judge_rejections,
        _joint,
        unit="counts outside",
        method=(
            "p-values below 0.05, 0.01 and 0.001 counted over the fault-free seeds; exact "
            "binomial bands"
        ),
        rule=Rule.NONE_WRONG,
    ),
    "p_values_uniform": CriterionKind(
        "p-values of fault-free data are uniform, where they are continuous",
        (),
        judge_uniformity,
        _joint,
        unit="distributions outside",
        method="Kolmogorov-Smirnov test of each test's p-values over the fault-free seeds",
        rule=Rule.NONE_WRONG,
    ),
    "controls_caught": CriterionKind(
        "each known fault is caught in at least this share of the seeds",
        ("low",),
        judge_caught,
        measured,
        unit="of the seeds, the lowest share",
        method=(
            "share of seeds in which the best test for the fault rejects; its 95 % interval decides"
        ),
        rule=Rule.INTERVAL_ABOVE,
    ),
    "power_as_computed": CriterionKind(
        "each test catches its fault as often as was computed",
        ("tolerance",),
        judge_power,
        _joint,
        unit="powers outside",
        method=(
            "share of seeds in which the test alone rejects, against the power that a formula gives"
        ),
        rule=Rule.NONE_WRONG,
    ),
}
