"""What the runs of a sweep say together: costs over the grid, claims, tests, laws, spread.

Every point of the grid is run with the same seeds, as the experiment says. The runs of one point
are independent of each other; those of two points are not, since their events come from the same
words of the generator. So intervals and tests of counts are made within a point, and what is
adjusted over the whole sweep is adjusted by Holm's procedure, which holds under any dependence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from fleetsim.base.verdict import VERDICTS, Verdict
from fleetsim.experiment.criterion import MB
from fleetsim.experiment.record import Measurements
from fleetsim.experiment.spec import with_parameters
from fleetsim.stats.adjust import holm
from fleetsim.stats.battery import EntryKind
from fleetsim.stats.counts import dispersion_test
from fleetsim.stats.growth import PowerLaw, fit_power_law, log_slope
from fleetsim.sweep.plan import expected_run_events
from fleetsim.sweep.results import PointRun, SweepResults
from fleetsim.sweep.rows import RunRow, run_rows

CONFIDENCE = 0.95
SWEEP_SCHEMA = 1


@dataclass(frozen=True)
class Quantity:
    """Something measured in each run: its words, its unit, and its repeats in the record."""

    title: str
    unit: str
    values: Callable[[Measurements], Sequence[float]]
    startup: bool = False  # whether every run pays a fixed part, whatever its size


#: What a sweep compares over its grid.
QUANTITIES: Mapping[str, Quantity] = {
    "generation_seconds": Quantity("generation time", "s", lambda m: m.generation_seconds, True),
    "process_seconds": Quantity(
        "time of the whole process", "s", lambda m: m.process_seconds, True
    ),
    "peak_rss": Quantity("peak memory", "MB", lambda m: [v / MB for v in m.peak_rss_bytes]),
    "batch_size": Quantity("batch size", "MB", lambda m: [m.batch_bytes / MB]),
}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity at one point of the grid.

    `value` is the geometric mean over the runs of each run's median; `interval` is its 95 %
    interval by the t law on the logarithms, whose variance over the seeds is pooled over all points
    (two or three seeds tell little about it alone). None where no point has two runs.
    """

    setting: dict[str, Any]
    events: float
    runs: int
    value: float
    interval: tuple[float, float] | None


class CriterionRow(msgspec.Struct, frozen=True, kw_only=True):
    """One criterion over the sweep: how often each verdict, and at which points it ever fails."""

    id: str
    title: str
    stated: str
    counts: dict[Verdict, int]
    fails_at: list[dict[str, Any]]
    expected_failures: float | None


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A test of one run that speaks against the generator after Holm's procedure over all runs."""

    run_id: str
    setting: dict[str, Any]
    seed: int
    test: str
    p_value: float
    p_holm: float


class CostLaw(msgspec.Struct, frozen=True, kw_only=True):
    """How a quantity grows with the expected events; `note` says why where no law was fitted."""

    quantity: str
    unit: str
    startup: float | None = None
    exponent: float | None = None
    interval: tuple[float, float] | None = None
    deviation: float | None = None
    sizes: int = 0
    note: str


class SpreadRow(msgspec.Struct, frozen=True, kw_only=True):
    """Event counts over the seeds of one point: variance over mean, its interval and test."""

    setting: dict[str, Any]
    expected: float
    counts: list[int]
    ratio: float | None
    interval: tuple[float | None, float | None] | None
    p_value: float | None
    p_holm: float | None


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a sweep, `sweep.json`.

    `expected_false_alarms` is how many runs a fault-free generator would see fail some test by
    chance, at most: alpha for each run, since each adjusts its own tests.
    """

    schema: int = SWEEP_SCHEMA
    experiment: str
    title: str
    question: str
    hypothesis: str
    date: str
    names: list[str]
    planned: int
    completed: int
    failed: int
    criteria: list[CriterionRow]
    costs: dict[str, list[Cell]]
    tests: int
    rejections: list[Rejection]
    smallest_p_holm: float | None
    alarms: int
    expected_false_alarms: float
    laws: list[CostLaw]
    spread: list[SpreadRow]
    runs: list[str]
    rows: list[RunRow] = []


def analyse(results: SweepResults) -> SweepRecord:
    """Return what a sweep's runs say together."""
    experiment = results.sweep.experiment
    tests = _evidence(results)
    adjusted = _holm([test[2] for test in tests])
    rejections = [
        Rejection(
            run_id=run.record.run_id,
            setting=run.point.setting,
            seed=run.point.seed,
            test=name,
            p_value=p_value,
            p_holm=p_holm,
        )
        for (run, name, p_value), p_holm in zip(tests, adjusted, strict=True)
        if p_holm < experiment.alpha
    ]
    alarms = sum(
        any(
            t.kind == EntryKind.EVIDENCE.value and t.verdict == Verdict.FAIL
            for t in run.record.tests
        )
        for run in results.completed
    )
    return SweepRecord(
        experiment=experiment.id,
        title=experiment.title,
        question=experiment.question,
        hypothesis=experiment.hypothesis,
        date=experiment.date,
        names=list(results.sweep.points[0].setting),
        planned=len(results.sweep.points),
        completed=len(results.completed),
        failed=len(results.runs) - len(results.completed),
        criteria=_criteria(results),
        costs={name: _cells(results, name) for name in QUANTITIES},
        tests=len(tests),
        rejections=rejections,
        smallest_p_holm=min(adjusted, default=None),
        alarms=alarms,
        expected_false_alarms=experiment.alpha * len(results.completed),
        laws=[_law(results, name) for name in QUANTITIES],
        spread=_spread(results),
        runs=[run.record.run_id for run in results.runs],
        rows=run_rows(results),
    )


def _cells(results: SweepResults, name: str) -> list[Cell]:
    """Return one quantity at every point of the grid that has a completed run."""
    quantity = QUANTITIES[name]
    rows: list[tuple[dict[str, Any], npt.NDArray[np.float64]]] = []
    for setting, runs, _ in results.settings():
        values = [
            float(np.median(quantity.values(run.record.measurements)))
            for run in runs
            if run.completed and run.record.measurements is not None
        ]
        if values and min(values) > 0:
            rows.append((setting, np.log(values)))
    df = sum(len(logs) - 1 for _, logs in rows)
    squares = sum(float(np.sum((logs - logs.mean()) ** 2)) for _, logs in rows)
    half = float(stdtrit(df, (1 + CONFIDENCE) / 2)) * np.sqrt(squares / df) if df else 0.0
    return [
        Cell(
            setting=setting,
            events=_size(results, setting),
            runs=len(logs),
            value=float(np.exp(logs.mean())),
            interval=_around(float(logs.mean()), half / np.sqrt(len(logs))) if df else None,
        )
        for setting, logs in rows
    ]


def _around(log: float, half: float) -> tuple[float, float]:
    return float(np.exp(log - half)), float(np.exp(log + half))


def _size(results: SweepResults, setting: Mapping[str, Any]) -> float:
    """Return the events that a run of this setting is expected to make."""
    return expected_run_events(with_parameters(results.sweep.experiment, setting))


def _criteria(results: SweepResults) -> list[CriterionRow]:
    rows = []
    for number, criterion in enumerate(results.sweep.experiment.criteria):
        found = [(run, run.record.criteria[number]) for run in results.completed]
        counts = {v: sum(c.verdict == v for _, c in found) for v in VERDICTS}
        chances = [c.a_priori for _, c in found if c.a_priori is not None]
        fails_at: list[dict[str, Any]] = []
        for run, c in found:
            if c.verdict == Verdict.FAIL and run.point.setting not in fails_at:
                fails_at.append(run.point.setting)
        rows.append(
            CriterionRow(
                id=criterion.id,
                title=criterion.title,
                stated=criterion.stated,
                counts=counts,
                fails_at=fails_at,
                expected_failures=sum(1 - p for p in chances) if chances else None,
            )
        )
    return rows


def _evidence(results: SweepResults) -> list[tuple[PointRun, str, float]]:
    """Return every p-value that speaks against the generator, of all runs."""
    return [
        (run, test.name, test.p_value)
        for run in results.completed
        for test in run.record.tests
        if test.kind == EntryKind.EVIDENCE.value and test.p_value is not None
    ]


def _holm(p_values: Sequence[float]) -> list[float]:
    adjusted: list[float] = holm(np.array(p_values)).tolist() if p_values else []
    return adjusted


def fit_quantity(results: SweepResults, name: str) -> PowerLaw:
    """Fit how a quantity grows with the expected events, over all repeats of all runs.

    Raises
    ------
    ValueError
        Where the points are too few, or do not tell; the message says why.
    """
    quantity = QUANTITIES[name]
    rows = [
        (_size(results, setting), value)
        for setting, runs, _ in results.settings()
        for run in runs
        if run.completed and run.record.measurements is not None
        for value in quantity.values(run.record.measurements)
    ]
    fit = fit_power_law if quantity.startup else log_slope
    law = fit([size for size, _ in rows], [value for _, value in rows])
    if quantity.startup and law.interval[0] <= 0:
        raise ValueError("costs do not grow enough beyond the start-up to tell an exponent")
    return law


def _law(results: SweepResults, name: str) -> CostLaw:
    try:
        law = fit_quantity(results, name)
    except ValueError as error:
        return CostLaw(quantity=name, unit=QUANTITIES[name].unit, note=f"no law: {error}")
    return CostLaw(
        quantity=name,
        unit=QUANTITIES[name].unit,
        startup=law.startup,
        exponent=law.exponent,
        interval=law.interval,
        deviation=law.deviation,
        sizes=law.sizes,
        note="" if law.scale <= 1 else _widened(law),
    )


def _widened(law: PowerLaw) -> str:
    return (
        f"points lie farther from the curve than their repeats explain; the interval is "
        f"{law.scale:.2g} times as wide for that"
    )


def _spread(results: SweepResults) -> list[SpreadRow]:
    """Test, at each point with several seeds, that the counts scatter as the Poisson law says."""
    rows = []
    for setting, runs, _ in results.settings():
        counts = [
            run.record.measurements.event_count
            for run in runs
            if run.completed and run.record.measurements is not None
        ]
        if len(counts) > 1:
            rows.append((setting, counts, dispersion_test(np.array(counts))))
    made = [result.p_value for _, _, result in rows if result.p_value is not None]
    adjusted = iter(_holm(made))
    return [
        SpreadRow(
            setting=setting,
            expected=_size(results, setting),
            counts=counts,
            ratio=result.estimate,
            interval=result.interval,
            p_value=result.p_value,
            p_holm=None if result.p_value is None else next(adjusted),
        )
        for setting, counts, result in rows
    ]
