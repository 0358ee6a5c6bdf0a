"""A plan for a fleet that no one machine makes, calculated from measured costs.

`plan_fleet` multiplies the costs of a `LinearLaw`, with their intervals, by a goal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from fleetsim.base.cluster import WAITING
from fleetsim.base.tables import Table, number, with_unit
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.publish import UPLOAD
from fleetsim.stats.linear import Estimate

MB, GB, TB = 1e6, 1e9, 1e12  # bytes
#: Tasks of a thread that are under way: the one in work, and those that wait.
UNDER_WAY = 1 + WAITING
#: Requests that write to one prefix of a bucket each second, before it is split (Amazon S3 User
#: Guide, "Best practices design patterns: optimizing Amazon S3 performance").
STORE_WRITES = 3500
_LISTED = 1000  # names in one answer of an object store
_LISTINGS = 2  # of a batch's objects: before it is made, and before its record is written
_NETWORK = 12.5e9  # bytes a second: 100 Gbit/s
_MEMORY = 16 * GB  # of the machine that the scheduler runs on


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet and its events, and how they are to be made.

    Attributes
    ----------
    companies, drivers_per_company : int
    events : float
        In all batches together.
    rate : float
        Events of a driver in a batch.
    part_events : int
        Of each part.
    hours : tuple of float
        Times for which the cores are asked.
    cores : tuple of int
        Cores for which the time is asked.
    """

    companies: int
    drivers_per_company: int
    events: float
    rate: float
    part_events: int
    hours: tuple[float, ...]
    cores: tuple[int, ...]

    @property
    def drivers(self) -> int:
        """All of the fleet."""
        return self.companies * self.drivers_per_company

    @property
    def batches(self) -> int:
        """Each with every driver's events of one interval."""
        return math.ceil(self.events / (self.drivers * self.rate))

    @property
    def parts(self) -> int:
        """Of a batch."""
        return math.ceil(self.drivers * self.rate / self.part_events)


#: A thousand million drivers and a million million events; a part is about 1 GB of JSON Lines.
GOAL = Goal(
    companies=10**7,
    drivers_per_company=100,
    events=1e12,
    rate=3.5,
    part_events=4_000_000,
    hours=(1, 24),
    cores=(64, 512, 4096),
)


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, by which a plan multiplies.

    Attributes
    ----------
    task, event : Estimate
        Core seconds of a task and of an event.
    part : Estimate
        Core seconds of a part of the plan: a task and its events together.
    scheduler_task, client_task : Estimate
        CPU seconds of the scheduler and of the client for a task.
    line_bytes : float
        Of an event, as JSON Lines, with trucks' numbers as long as the goal's.
    meta_bytes, meta_part_bytes : float
        Of a record without parts, and of each part in it.
    company_seconds : float
        To read a line of companies.jsonl in one process.
    company_bytes, company_peak_bytes : float
        Of a company in the client's memory, and at most while the file is read.
    task_bytes : float
        Of a task as it is sent, without its companies.
    """

    task: Estimate
    event: Estimate
    part: Estimate
    scheduler_task: Estimate
    client_task: Estimate
    line_bytes: float
    meta_bytes: float
    meta_part_bytes: float
    company_seconds: float
    company_bytes: float
    company_peak_bytes: float
    task_bytes: float


class PlanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plan; without an interval where the value is arithmetic alone."""

    quantity: str
    value: float
    unit: str
    basis: str
    low: float | None = None
    high: float | None = None


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What limits the number of cores: from how many on it does, and in words."""

    what: str
    cores: float
    words: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a goal takes; `bounds` come in the order in which more and more cores meet them."""

    goal: Goal
    rows: list[PlanRow]
    bounds: list[Bound]
    remarks: list[str]

    def table(self) -> Table:
        """Return a row for each quantity, as notebook and document show it."""
        rows = tuple(
            (row.quantity, with_unit(row.value, row.unit), _range(row), row.basis)
            for row in self.rows
        )
        goal = self.goal
        caption = (
            f"{goal.drivers:.3g} drivers of {goal.companies:.3g} companies, {goal.events:.3g} "
            f"events, {goal.rate:g} of each driver in a batch"
        )
        return Table(("quantity", "value", "95 % interval", "made of"), rows, caption)


def _range(row: PlanRow) -> str:
    if row.low is None and row.high is None:
        return "–"
    low, high = ("?" if end is None else number(end) for end in (row.low, row.high))
    return f"{low} to {high}"


def plan_fleet(goal: Goal, costs: Costs) -> Plan:
    """Return what a goal takes by the measured costs; see `Plan`."""
    part_bytes = goal.part_events * costs.line_bytes
    pieces = math.ceil(part_bytes / UPLOAD)
    writes = pieces + 2  # and one each to begin and to complete it
    task_bytes = (
        costs.task_bytes
        + costs.company_bytes * goal.part_events / goal.rate / goal.drivers_per_company
    )
    rows = [
        *_work_rows(goal, costs, part_bytes),
        *_storage_rows(goal, costs, pieces, writes),
        *_memory_rows(goal, costs, task_bytes),
    ]
    bounds = _bounds(goal, costs, task_bytes, part_bytes, writes)
    return Plan(goal=goal, rows=rows, bounds=bounds, remarks=_remarks(goal, costs, bounds))


def _work_rows(goal: Goal, costs: Costs, part_bytes: float) -> list[PlanRow]:
    """Return the rows of tasks, cores and times."""
    tasks = goal.parts * goal.batches
    work = costs.part * tasks
    reading = goal.companies * costs.company_seconds
    handing = costs.scheduler_task * tasks
    rows = [
        _row("batches", goal.batches, "", "events / (drivers × events of a driver in a batch)"),
        _row("size of a part", part_bytes / GB, "GB", f"{goal.part_events} events as JSON Lines"),
        _row("parts of a batch", goal.parts, "", "each is a task"),
        _row("tasks in all", tasks, "", "batches × parts"),
        _estimated("core time", work * (1 / 3600), "h", "tasks × (a task + its events)"),
    ]
    for hours in goal.hours:
        needed = work * (1 / max(3600 * hours - reading, 1e-9))
        what = "core time / (time - reading of the companies)"
        rows.append(_estimated(f"cores for {hours:g} h", needed, "", what))
    for cores in goal.cores:
        time = ((work * (1 / cores)).at_least(handing) + reading) * (1 / 3600)
        what = "reading of the companies + core time / cores, or the scheduler's time for all tasks"
        rows.append(_estimated(f"time with {cores} cores", time, "h", what))
    for cores in goal.cores:
        # The tasks that so many cores end in a second, each of which the scheduler has to handle.
        load = costs.part.inverse().times(costs.scheduler_task) * (100 * cores)
        what = "tasks a second × CPU seconds of the scheduler for each; above 100 % it is the limit"
        rows.append(_estimated(f"scheduler's load by {cores} cores", load, "%", what))
    return rows


def _storage_rows(goal: Goal, costs: Costs, pieces: int, writes: int) -> list[PlanRow]:
    """Return the rows of what is stored, and of the requests that it takes."""
    parts, tasks = goal.parts, goal.parts * goal.batches
    total = goal.events * costs.line_bytes
    lists = _LISTINGS * math.ceil((parts + 1) / _LISTED)
    return [
        _row("JSON Lines in all", total / TB, "TB", "events × bytes of a line"),
        *(
            _row(f"{name} in all", FORMATS[name].share * total / TB, "TB", "share of JSON Lines")
            for name in ("jsonl.zst", "parquet")
        ),
        _row("requests that write", tasks * writes + goal.batches, "", _WRITES.format(pieces)),
        _row("requests that list", goal.batches * lists, "", f"{_LISTINGS} times for each batch"),
        _row(
            "batch_meta.json",
            (costs.meta_bytes + parts * costs.meta_part_bytes) / MB,
            "MB",
            f"{costs.meta_part_bytes:.0f} bytes a part",
        ),
    ]


def _memory_rows(goal: Goal, costs: Costs, task_bytes: float) -> list[PlanRow]:
    """Return the rows of what client and scheduler hold and send."""
    tasks = goal.parts * goal.batches
    reading = goal.companies * costs.company_seconds
    rows = [
        _row("reading of the companies", reading, "s", "one process, once for all batches"),
        _row(
            "the client's companies",
            goal.companies * costs.company_bytes / GB,
            "GB",
            f"{costs.company_bytes:.0f} bytes each, kept",
        ),
        _row(
            "the same while they are read",
            goal.companies * costs.company_peak_bytes / GB,
            "GB",
            f"{costs.company_peak_bytes:.0f} bytes each at most",
        ),
        _row("a task as it is sent", task_bytes / MB, "MB", "its companies and the configuration"),
        _row("all tasks as they are sent", tasks * task_bytes / GB, "GB", "by the scheduler"),
    ]
    for cores in goal.cores:
        under_way = cores * UNDER_WAY * task_bytes / GB
        what = f"{UNDER_WAY} tasks for each core, in the scheduler and in the client"
        rows.append(_row(f"tasks under way with {cores} cores", under_way, "GB", what))
    return rows


_WRITES = "{} pieces of 16 MiB and 2 more for each part; 1 for each record"


def _bounds(
    goal: Goal, costs: Costs, task_bytes: float, part_bytes: float, writes: int
) -> list[Bound]:
    """Return what limits the number of cores, the lowest first."""
    seconds = costs.part.value
    bounds = [
        Bound(
            what="scheduler",
            cores=seconds / costs.scheduler_task.value,
            words=f"the scheduler takes {1e3 * costs.scheduler_task.value:.2g} ms of CPU for a "
            f"task, so that it hands out {1 / costs.scheduler_task.value:.0f} a second at most",
        ),
        Bound(
            what="client",
            cores=seconds / costs.client_task.value,
            words=f"the client takes {1e3 * costs.client_task.value:.2g} ms of CPU for a task",
        ),
        Bound(
            what="tasks under way",
            cores=_MEMORY / (UNDER_WAY * task_bytes),
            words=f"{UNDER_WAY} tasks for each core, {task_bytes / MB:.2g} MB each, fill "
            f"{_MEMORY / GB:g} GB of the scheduler's machine",
        ),
        Bound(
            what="requests",
            cores=STORE_WRITES * seconds / writes,
            words=f"a core makes a part in {seconds:.2g} s, which is {writes} requests; a prefix "
            f"of S3 takes {STORE_WRITES} a second before it is split",
        ),
        Bound(
            what="network",
            cores=_NETWORK * seconds / part_bytes,
            words=f"a core makes {part_bytes / seconds / MB:.0f} MB of JSON Lines a second; a "
            f"network or a store that takes {8 * _NETWORK / 1e9:g} Gbit/s in all is full",
        ),
    ]
    return sorted(bounds, key=lambda bound: bound.cores)


def _remarks(goal: Goal, costs: Costs, bounds: Sequence[Bound]) -> list[str]:
    """Return where it breaks first, as sentences."""
    remarks = [
        f"From {math.ceil(bound.cores)} cores on: {bound.words}."
        for bound in bounds
        if bound.cores > 0
    ]
    reading = goal.companies * costs.company_seconds
    peak = goal.companies * costs.company_peak_bytes / GB
    record = (costs.meta_bytes + goal.parts * costs.meta_part_bytes) / MB
    return [
        *remarks,
        f"Whatever the cores: companies.jsonl of {goal.companies} lines is read by one process, "
        f"{reading:.0f} s and up to {peak:.2g} GB, before the first task.",
        f"batch_meta.json names every part: {record:.2g} MB for {goal.parts} parts, and as many "
        f"times that as the parts are smaller than {goal.part_events} events.",
    ]


def _row(quantity: str, value: float, unit: str, basis: str) -> PlanRow:
    return PlanRow(quantity=quantity, value=float(value), unit=unit, basis=basis)


def _estimated(quantity: str, estimate: Estimate, unit: str, basis: str) -> PlanRow:
    """Return a row with an interval; an end that is not finite is none."""
    low, high = (end if math.isfinite(end) else None for end in (estimate.low, estimate.high))
    return PlanRow(
        quantity=quantity, value=estimate.value, unit=unit, basis=basis, low=low, high=high
    )
