"""What stands of a sweep: its points with their records, as tables and as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from fleetsim.base.errors import InputError
from fleetsim.base.storage import is_remote
from fleetsim.base.tables import Table
from fleetsim.base.verdict import VERDICTS, Verdict
from fleetsim.experiment.record import Record, read_record
from fleetsim.runner.mirror import Mirror
from fleetsim.sweep.plan import Point, Sweep


@dataclass(frozen=True)
class PointRun:
    """A point with its newest completed run, or else with its newest failed one."""

    point: Point
    path: Path
    record: Record

    @property
    def completed(self) -> bool:
        """Whether the run came to verdicts."""
        return self.record.completed

    def verdicts(self) -> dict[Verdict, int]:
        """Return how many criteria have each verdict."""
        found = [criterion.verdict for criterion in self.record.criteria]
        return {verdict: found.count(verdict) for verdict in VERDICTS}


@dataclass(frozen=True)
class SweepResults:
    """A sweep and the runs that stand for its points, in the order of the points."""

    sweep: Sweep
    runs: tuple[PointRun, ...]

    @property
    def completed(self) -> tuple[PointRun, ...]:
        """The runs that came to verdicts."""
        return tuple(run for run in self.runs if run.completed)

    def settings(self) -> Iterator[tuple[dict[str, Any], list[PointRun], int]]:
        """Yield each point of the grid: its parameters, its runs, and how many belong to it."""
        by_number = {run.point.number: run for run in self.runs}
        for _, group in groupby(self.sweep.points, key=lambda point: sorted(point.setting.items())):
            points = list(group)
            runs = [by_number[p.number] for p in points if p.number in by_number]
            yield points[0].setting, runs, len(points)


def sweep_results(sweep: Sweep) -> SweepResults:
    """Read the records of a sweep's points; one that cannot be read counts as not run."""
    runs = []
    for point in sweep.points:
        path = sweep.finished.get(point.key) or sweep.failed.get(point.key)
        if path is None:
            continue
        try:
            runs.append(PointRun(point, path, read_record(path)))
        except InputError as error:
            sweep.damaged.append(str(error))
    return SweepResults(sweep, tuple(runs))


def listing(sweep: Sweep, home: Mirror | None = None) -> list[dict[str, Any]]:
    """Return the points of a sweep as strict JSON has them; `home` says where runs really are."""
    home = home or Mirror(sweep.project, sweep.results)
    rows = []
    for point in sweep.points:
        path = sweep.finished.get(point.key) or sweep.failed.get(point.key)
        rows.append(
            {
                "number": point.number,
                "parameters": point.parameters,
                "key": point.key,
                "state": state_of(sweep, point),
                "path": None if path is None else _named(sweep, home.named(path)),
            }
        )
    return rows


def _named(sweep: Sweep, path: Path) -> str:
    return str(path) if is_remote(path) else sweep.project.relative(path)


def state_of(sweep: Sweep, point: Point) -> str:
    """Return whether a point is finished, has failed, or is to do."""
    if point.key in sweep.finished:
        return "finished"
    return "failed" if point.key in sweep.failed else "to do"


def plan_table(sweep: Sweep) -> Table:
    """Return the points of a sweep, one a line, and how each stands."""
    names = list(sweep.points[0].setting)
    rows = tuple(
        (
            str(point.number + 1),
            *(str(point.setting[name]) for name in names),
            str(point.seed),
            state_of(sweep, point),
        )
        for point in sweep.points
    )
    return Table(("run", *names, "seed", "state"), rows)


def end_table(results: SweepResults) -> Table:
    """Return what became of each point of the grid, its seeds together."""
    names = list(results.sweep.points[0].setting)
    rows = []
    for setting, runs, planned in results.settings():
        completed = [run for run in runs if run.completed]
        counts = [sum(run.verdicts()[v] for run in completed) for v in VERDICTS]
        rows.append(
            (
                *(str(setting[name]) for name in names),
                f"{len(completed)} of {planned}",
                str(len(runs) - len(completed)),
                *map(str, counts),
            )
        )
    return Table((*names, "completed", "failed", *VERDICTS), tuple(rows))
