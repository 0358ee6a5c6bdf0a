"""The runs of a sweep, a row each: parameters, seed, answer, verdicts, costs, its folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import msgspec

from fleetsim.base.verdict import Verdict
from fleetsim.experiment.kind import Kind
from fleetsim.report.listing import RUN_FAILED
from fleetsim.sweep.results import PointRun, SweepResults

#: What stands in place of an answer where a point has no run.
NOT_RUN = "not run"
#: Rows on a page, which would else grow with the sweep; its record holds all of them.
SHOWN = 200


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a sweep, in the record of the sweep.

    Attributes
    ----------
    number : int
        Of the run in its sweep, from 1.
    setting : dict
        What the grid sets.
    seed : int
    run : str or None
        Its folder beside the record of the sweep; None where the point has no run.
    answer : str
        What became of the hypothesis, that the run failed, or that there is none.
    counts : dict
        Criteria by verdict; empty where there are none.
    fails : list of str
        Titles of the criteria that fail.
    seconds, cpu_seconds, peak_bytes : float or None
        Medians over the cold runs; None where it was not measured.
    """

    number: int
    setting: dict[str, Any]
    seed: int
    run: str | None = None
    answer: str = NOT_RUN
    counts: dict[Verdict, int] = {}
    fails: list[str] = []
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: float | None = None


def run_rows(results: SweepResults) -> list[RunRow]:
    """Return a row for each run that the sweep has planned, in the order of the plan."""
    return list(_rows(results))


def shown_rows(rows: Sequence[RunRow]) -> list[RunRow]:
    """Return the rows that a page shows: all, or those of many that want to be looked at first."""
    return list(rows) if len(rows) <= SHOWN else sorted(rows, key=_rank)[:SHOWN]


def _rank(row: RunRow) -> int:
    """Return where a row stands on a page that cannot show all."""
    if row.answer == NOT_RUN:
        return 4
    if row.answer == RUN_FAILED:
        return 0
    if row.fails:
        return 1
    return 3 if row.counts.get(Verdict.INCONCLUSIVE, 0) == 0 else 2


def _rows(results: SweepResults) -> Iterator[RunRow]:
    kind = results.sweep.experiment.kind
    stands = {run.point.number: run for run in results.runs}
    for point in results.sweep.points:
        row = RunRow(number=point.number + 1, setting=point.setting, seed=point.seed)
        run = stands.get(point.number)
        yield row if run is None else _judged(row, run, kind)


def _judged(row: RunRow, run: PointRun, kind: Kind) -> RunRow:
    """Return the row of a run with what became of it."""
    record = run.record
    if record.answer is None or not record.completed:
        return msgspec.structs.replace(row, run=run.path.name, answer=RUN_FAILED)
    costs = kind.costs(record)
    return msgspec.structs.replace(
        row,
        run=run.path.name,
        answer=str(record.answer.verdict),
        counts=run.verdicts(),
        fails=[c.title for c in record.criteria if c.verdict == Verdict.FAIL],
        seconds=_middle(costs.seconds),
        cpu_seconds=_middle(costs.cpu_seconds),
        peak_bytes=_middle(costs.peak_bytes),
    )


def _middle(values: Sequence[float]) -> float | None:
    return float(median(values)) if values else None
