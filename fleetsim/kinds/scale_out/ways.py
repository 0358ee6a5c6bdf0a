"""The ways to make a batch: by one process, by workers here, by a cluster's processes.

What is measured of each way is a `WayRun`; what they say together, a `ScaleOut`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec

from fleetsim.base.tables import Table, number, with_unit
from fleetsim.generate.config import Config
from fleetsim.generate.encode import mean_width
from fleetsim.kinds.scale_out.plan import GOAL, Costs, Plan, plan_fleet
from fleetsim.kinds.scale_out.tasks import Tasks
from fleetsim.measure.series import Size
from fleetsim.stats.growth import PowerLaw, log_slope
from fleetsim.stats.linear import Estimate, LinearLaw, fit_linear


@dataclass(frozen=True)
class Way:
    """How a batch is made: in words, and by how many workers of Dask (0: without it)."""

    words: str
    workers: int


#: The ways by the names that records have for them.
WAYS = {
    "process": Way("one process", 0),
    "local:1": Way("1 worker", 1),
    "local:2": Way("2 workers", 2),
    "local:4": Way("4 workers", 4),
    "cluster:2": Way("2 workers, running before", 2),
}
LOCAL, CLUSTER = "local:2", "cluster:2"
#: What the seconds of a run by workers are made of.
MODEL_TERMS = ("start", "worker", "task", "event")


class WayRun(msgspec.Struct, frozen=True, kw_only=True):
    """One cold command.

    Attributes
    ----------
    events : int
        How many were expected: the size, or few for each task.
    stated_tasks : int
        Of a row of `Tasks`; 0 for a size.
    way : str
        One of `WAYS`.
    tasks : int
        Parts that the record names; 1 where it is one file.
    companies, counted, lines, bytes : int
        As in `sizes.SizeRun`; lines and bytes of all files together.
    sha256 : str
        Of the content of all files in their order, as read back.
    as_recorded : bool
        Whether lines, bytes and hash of each file are those of ``batch_meta.json``.
    meta_bytes : int
        Of ``batch_meta.json``.
    generation_seconds, process_seconds : float
        As in `sizes.SizeRun`; both hold the start of workers, but not of a cluster's.
    cpu_seconds : float
        Of the command and of all workers that it started [s].
    peak_rss_bytes : int
        Largest resident set of the command, or of a worker that it started.
    scheduler_cpu_seconds : float
        Of a cluster's scheduler, from before the command to its end [s]; None without one.
    scheduler_peak_bytes : int
        Its largest resident set.
    """

    events: int
    stated_tasks: int
    way: str
    tasks: int
    companies: int
    counted: int
    lines: int
    bytes: int
    sha256: str
    as_recorded: bool
    meta_bytes: int
    generation_seconds: float
    process_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    scheduler_cpu_seconds: float | None = None
    scheduler_peak_bytes: int | None = None


class Constants(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured once, in the notebook's own process.

    Attributes
    ----------
    cores : int
        That the processes could use.
    companies : int
        Lines of the file that was read.
    company_seconds : float
        To read one of them, the middle of some readings [s].
    company_bytes, company_peak_bytes : float
        Of one of them in memory, and at most while the file was read.
    task_bytes : int
        Of a task as it is sent, without its companies.
    """

    cores: int
    companies: int
    company_seconds: float
    company_bytes: float
    company_peak_bytes: float
    task_bytes: int


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted cost; what could not be fitted is None, and `note` says why.

    `scale` is by how much the interval was widened, `deviation` how far the law is from the mean
    of a group of equal runs at most.
    """

    cost: str
    unit: str
    runs: int
    value: float | None = None
    interval: tuple[float, float] | None = None
    scale: float | None = None
    deviation: float | None = None
    note: str = ""


@dataclass(frozen=True)
class ScaleOut:
    """What was measured, in the order of running; a run may leave out what is above a limit.

    `sizes` and `tasks` are what the experiment names; `constants` are None where nothing ran.
    """

    config: Config
    sizes: tuple[Size, ...]
    tasks: tuple[Tasks, ...]
    runs: tuple[WayRun, ...]
    constants: Constants | None = None

    def of(self, way: str, *, events: int | None = None, tasks: bool | None = None) -> list[WayRun]:
        """Return the runs of a way: of a size, of all sizes, or where tasks are counted."""
        return [
            run
            for run in self.runs
            if run.way == way
            and events in (None, run.events)
            and tasks in (None, run.stated_tasks > 0)
        ]

    @property
    def missing(self) -> list[int]:
        """The sizes of the experiment that were not measured [events]."""
        made = {run.events for run in self.runs if not run.stated_tasks}
        return [size.events for size in self.sizes if size.events not in made]

    @property
    def missing_tasks(self) -> list[int]:
        """The numbers of tasks of the experiment that were not measured."""
        made = {run.stated_tasks for run in self.runs}
        return [row.tasks for row in self.tasks if row.tasks not in made]

    @property
    def ratios(self) -> list[float]:
        """Events a second by two workers over those of one process, in each round.

        Of the largest size that was measured; the k-th repeats of all ways stand in one round.
        """
        sizes = [run.events for run in self.runs if not run.stated_tasks]
        pairs = (self.of(way, events=max(sizes, default=0), tasks=False) for way in _COMPARED)
        return [
            (two.lines / two.generation_seconds) / (one.lines / one.generation_seconds)
            for two, one in zip(*pairs, strict=False)
        ]

    # What is fitted: a law, or why there is none.

    @cached_property
    def model(self) -> LinearLaw | str:
        """The seconds of a command by workers of its own: `MODEL_TERMS`."""
        runs = [run for run in self.runs if run.way.startswith("local:")]
        costs = [run.generation_seconds for run in runs]
        return _fitted(MODEL_TERMS, [self.amounts(run) for run in runs], costs)

    @cached_property
    def overhead(self) -> LinearLaw | str:
        """The seconds by two workers of its own over the tasks, of few events each."""
        runs = self.of(LOCAL, tasks=True)
        return _over_tasks(runs, [run.generation_seconds for run in runs])

    @cached_property
    def scheduler_cpu(self) -> LinearLaw | str:
        """The scheduler's CPU seconds over the tasks."""
        runs = self.of(CLUSTER, tasks=True)
        return _over_tasks(runs, [run.scheduler_cpu_seconds or 0.0 for run in runs])

    @cached_property
    def client_cpu(self) -> LinearLaw | str:
        """The client's CPU seconds over the tasks."""
        runs = self.of(CLUSTER, tasks=True)
        return _over_tasks(runs, [run.cpu_seconds for run in runs])

    @cached_property
    def scheduler_memory(self) -> PowerLaw | str:
        """The scheduler's peak memory over the events."""
        runs = self.of(CLUSTER, tasks=False)
        return _grown(runs, [float(run.scheduler_peak_bytes or 0) for run in runs])

    @cached_property
    def client_memory(self) -> PowerLaw | str:
        """The client's peak memory over the events."""
        runs = self.of(CLUSTER, tasks=False)
        return _grown(runs, [float(run.peak_rss_bytes) for run in runs])

    def amounts(self, run: WayRun) -> tuple[float, float, float, float]:
        """Return what a run pays for, as `MODEL_TERMS` have it.

        Tasks and events are shared by the workers, but by no more than there are cores.
        """
        workers = WAYS[run.way].workers
        known = self.constants.cores if self.constants else workers
        at_once = max(1, min(workers, known, run.tasks))
        return 1.0, float(workers), run.tasks / at_once, run.lines / at_once

    def rows(self) -> list[ModelRow]:
        """Return what was fitted, as rows."""
        starts = ("start of the command and of Dask", "each worker")
        shared = ("each task, on one core", "each event, on one core")
        rows = [
            _row(self.model, f"time by workers: {name}", "s", term)
            for term, name in zip(MODEL_TERMS, (*starts, *shared), strict=True)
        ]
        rows.append(_row(self.overhead, "time by 2 workers: each task", "s", "task"))
        rows.append(_row(self.scheduler_cpu, "scheduler's CPU: each task", "s", "task"))
        rows.append(_row(self.client_cpu, "client's CPU: each task", "s", "task"))
        for law, whose in ((self.scheduler_memory, "scheduler"), (self.client_memory, "client")):
            rows.append(_growth_row(law, f"{whose}'s memory: exponent of the events"))
        return rows

    @cached_property
    def costs(self) -> Costs | str:
        """What a plan multiplies by, or why there is none."""
        laws = (self.model, self.scheduler_cpu, self.client_cpu)
        for law in laws:
            if isinstance(law, str):
                return law
        if self.constants is None:
            return "nothing ran"
        model, scheduler, client = (law for law in laws if isinstance(law, LinearLaw))
        task, event = model.each("task"), model.each("event")
        part = model.sum({"task": 1.0, "event": GOAL.part_events})
        for words, estimate in (
            ("a part", part),
            ("the scheduler for a task", scheduler.each("task")),
            ("the client for a task", client.each("task")),
        ):
            if estimate.value <= 0:
                return f"the runs do not tell what {words} takes"
        meta, meta_part = self._record_bytes()
        here = self.constants
        return Costs(
            task=task,
            event=event,
            part=_above_zero(part),
            scheduler_task=_above_zero(scheduler.each("task")),
            client_task=_above_zero(client.each("task")),
            line_bytes=mean_width(self.config, GOAL.drivers),
            meta_bytes=meta,
            meta_part_bytes=meta_part,
            company_seconds=here.company_seconds,
            company_bytes=here.company_bytes,
            company_peak_bytes=here.company_peak_bytes,
            task_bytes=here.task_bytes,
        )

    def _record_bytes(self) -> tuple[float, float]:
        """Return the bytes of a record without parts, and of each part: between most and least."""
        runs = sorted((run for run in self.runs if WAYS[run.way].workers), key=lambda r: r.tasks)
        least, most = runs[0], runs[-1]
        each = (most.meta_bytes - least.meta_bytes) / max(most.tasks - least.tasks, 1)
        return least.meta_bytes - least.tasks * each, each

    @cached_property
    def plan(self) -> Plan | str:
        """What `scale_out.GOAL` takes, or why that cannot be told."""
        costs = self.costs
        return costs if isinstance(costs, str) else plan_fleet(GOAL, costs)


_COMPARED = (LOCAL, "process")


def _fitted(
    terms: Sequence[str], amounts: Sequence[Sequence[float]], costs: Sequence[float]
) -> LinearLaw | str:
    try:
        return fit_linear(terms, amounts, costs)
    except ValueError as error:
        return str(error)


def _over_tasks(runs: Sequence[WayRun], costs: Sequence[float]) -> LinearLaw | str:
    return _fitted(("start", "task"), [(1.0, run.tasks) for run in runs], costs)


def _grown(runs: Sequence[WayRun], costs: Sequence[float]) -> PowerLaw | str:
    try:
        return log_slope([run.lines for run in runs], costs)
    except ValueError as error:
        return str(error)


def _above_zero(estimate: Estimate) -> Estimate:
    """Return an estimate of a cost, which cannot be below zero whatever its interval says."""
    return estimate.at_least(Estimate(0.0, 0.0, 0.0))


def _row(law: LinearLaw | str, cost: str, unit: str, term: str) -> ModelRow:
    if isinstance(law, str):
        return ModelRow(cost=cost, unit=unit, runs=0, note=law)
    each = law.each(term)
    return ModelRow(
        cost=cost,
        unit=unit,
        runs=law.runs,
        value=each.value,
        interval=(each.low, each.high),
        scale=law.scale,
        deviation=law.deviation,
    )


def _growth_row(law: PowerLaw | str, cost: str) -> ModelRow:
    if isinstance(law, str):
        return ModelRow(cost=cost, unit="", runs=0, note=law)
    return ModelRow(
        cost=cost,
        unit="",
        runs=law.repeats,
        value=law.exponent,
        interval=law.interval,
        scale=law.scale,
        deviation=law.deviation,
    )


class ScaleOutRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured in many ways, in the order of running, the model, and the plan by it.

    Without a plan `no_plan` says why; `unseen` is what no run on one machine shows.
    """

    runs: list[WayRun]
    constants: Constants | None
    model: list[ModelRow]
    plan: Plan | None
    no_plan: str
    unseen: str

    def cost_table(self) -> Table:
        """Return a row for each cost, as the document shows it."""
        return cost_table(self.model, self.constants)


def cost_table(model: Sequence[ModelRow], constants: Constants | None) -> Table:
    """Return a row for each fitted cost; one that could not be fitted says why."""
    rows = []
    for row in model:
        if row.interval is None or row.deviation is None:
            rows.append((row.cost, str(row.runs), "–", "–", "–", row.note))
            continue
        rows.append(
            (
                row.cost,
                str(row.runs),
                with_unit(row.value, row.unit),
                f"{number(row.interval[0])} to {number(row.interval[1])}",
                number(row.scale, 3),
                f"{100 * row.deviation:.1f} %",
            )
        )
    caption = (
        "Time by workers: start + workers × each worker + (tasks × each task + events × each "
        f"event) / the least of workers, cores ({constants.cores if constants else '?'}) and "
        "tasks; the others are straight lines over the tasks, and powers of the events."
    )
    header = ("cost", "runs", "value", "95 % interval", "interval widened by", "farthest group")
    return Table(header, tuple(rows), caption)
