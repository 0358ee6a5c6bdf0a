"""Measure a batch in many ways: with the real commands, in cold processes, in mixed order."""

from __future__ import annotations

import pickle
import shutil
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import FleetsimError
from fleetsim.batch.companies import read_companies
from fleetsim.batch.meta import META_NAME, BatchMeta
from fleetsim.batch.parts import PART_EVENTS, tasks_of
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.streams import BLOCK
from fleetsim.generate.threads import Digest, Threads, cores
from fleetsim.kinds.scale_out.tasks import Tasks
from fleetsim.kinds.scale_out.ways import CLUSTER, LOCAL, WAYS, Constants, WayRun
from fleetsim.measure.child import Standing, standing
from fleetsim.measure.series import (
    Size,
    Workplace,
    config_of_size,
    count_and_hash,
    path_of,
    running_order,
)

_TASK_RATE = 0.05  # events of a driver where tasks are counted, not events
_JOBS = 2  # threads of the one process at a size; where tasks are counted, one
_CLUSTER_REPEATS = 2  # of a size: memory hardly varies
_FEW_PARTS = 2  # a small size still has work for two workers
_BY_TASKS = ["process", LOCAL, CLUSTER]
_READINGS = 3
_READ = 20_000  # companies, read again and again; more would only take longer


@dataclass(frozen=True)
class _Step:
    """A size or a number of tasks, a way, and how often."""

    what: Size | Tasks
    way: str
    repeats: int


def steps_of(sizes: Sequence[Size], tasks: Sequence[Tasks]) -> list[_Step]:
    """Return what is to be measured, and how often."""
    steps = []
    for size in sizes:
        for way in WAYS:
            repeats = min(size.repeats, _CLUSTER_REPEATS) if way == CLUSTER else size.repeats
            steps.append(_Step(size, way, repeats))
    for row in tasks:
        steps += [_Step(row, way, row.repeats) for way in (WAYS if row.tasks == 1 else _BY_TASKS)]
    return steps


def measure_ways(
    config: Config,
    sizes: Sequence[Size],
    tasks: Sequence[Tasks],
    folder: Path,
    *,
    interval: str,
    progress: Callable[[int], object] | None = None,
) -> tuple[tuple[WayRun, ...], Constants]:
    """Make batches in every way with the real commands in cold processes, in mixed order.

    Each batch is read back, held to its record and deleted before the next one is made. All take
    the path of the largest size, so that one law can hold for all of them.

    Parameters
    ----------
    config : Config
        Its number of companies has no influence.
    sizes : sequence of Size
        Made in every way; by the processes of a cluster twice.
    tasks : sequence of Tasks
        Few events in so many parts. One task is made in every way, more are made by one process,
        by two workers and by the processes of a cluster.
    folder : Path
        Existing folder; what is written there is gone afterwards, whatever happened.
    interval : str
        ISO 8601 start of the interval.
    progress : callable, optional
        Called with 1 after each run.

    Raises
    ------
    FleetsimError
        Where a command fails.
    """
    scratch = folder / "scratch"
    kernel = path_of(sizes[-1])
    steps = steps_of(sizes, tasks)
    try:
        places: dict[Size | Tasks, _Place] = {}
        every: list[Size | Tasks] = [*sizes, *tasks]
        for what in every:
            places[what] = _Place(config, what, scratch / str(len(places)), interval, kernel)
        constants = _constants(places[sizes[-1]].work, config, sizes[-1], interval)
        places[sizes[0]].run("process")  # it may have to compile the kernel
        runs = []
        for step in running_order(steps, config.seed):
            runs.append(places[step.what].run(step.way))
            if progress:
                progress(1)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return tuple(runs), constants


def config_of_tasks(config: Config, row: Tasks) -> Config:
    """Return the configuration of a number of tasks: few events for each driver of a block."""
    companies = max(1, row.drivers // config.drivers_per_company)
    changes = {"number_of_companies": companies, "event_rate_per_driver": _TASK_RATE}
    return make_config(config.as_dict(), changes)


class _Place:
    """One size or number of tasks: its companies, and batches of them in any way."""

    def __init__(
        self, config: Config, what: Size | Tasks, folder: Path, interval: str, kernel: str
    ) -> None:
        self._kernel = kernel
        if isinstance(what, Size):
            setting, self._jobs, self._tasks = config_of_size(config, what), _JOBS, 0
            self._events = what.events
            part_events = _part_events(what)
        else:
            setting, self._jobs, self._tasks = config_of_tasks(config, what), 1, what.tasks
            self._events = round(what.drivers * _TASK_RATE)
            part_events = int(BLOCK * _TASK_RATE)  # each block begins a part
        self._parts = ("--part-events", str(part_events))
        self.work = Workplace(setting, folder, interval)

    def run(self, way: str) -> WayRun:
        """Make the batch, read it back, delete it."""
        options: list[str] = ["--kernel", self._kernel]
        if way == "process":
            options += ["--jobs", str(self._jobs), *(self._parts if self._tasks else ())]
            return self._run(way, options)
        if way != CLUSTER:
            return self._run(way, [*options, *self._parts, "--scheduler", way])
        with _cluster(WAYS[way].workers, self.work.folder) as (scheduler, address):
            before = scheduler.cpu_seconds()
            run = self._run(way, [*options, *self._parts, "--scheduler", address], scheduler)
        ended = scheduler.child
        if ended is None:
            raise FleetsimError("the launcher of the scheduler failed")
        return msgspec.structs.replace(
            run,
            scheduler_cpu_seconds=ended.cpu_seconds - before,
            scheduler_peak_bytes=ended.peak_rss_bytes,
        )

    def _run(self, way: str, options: list[str], scheduler: Standing | None = None) -> WayRun:
        work = self.work
        child, meta = work.make(*options)
        if scheduler is not None:
            scheduler.end()  # before the files are read back, which takes a while
        lines, size, sha256, as_recorded = _content(work.batch, meta)
        meta_bytes = (work.batch / META_NAME).stat().st_size
        work.clear()
        return WayRun(
            events=self._events,
            stated_tasks=self._tasks,
            way=way,
            tasks=len(meta.files),
            companies=work.companies,
            counted=work.counted,
            lines=lines,
            bytes=size,
            sha256=sha256,
            as_recorded=as_recorded and (lines, size) == (meta.event_count, meta.bytes),
            meta_bytes=meta_bytes,
            generation_seconds=meta.generation_seconds,
            process_seconds=child.seconds,
            cpu_seconds=child.cpu_seconds,
            peak_rss_bytes=child.peak_rss_bytes,
        )


def _part_events(size: Size) -> int:
    """Return the events of a part of a size: the default, or less where that leaves one part."""
    return min(PART_EVENTS, max(1, size.events // _FEW_PARTS))


def _content(batch: Path, meta: BatchMeta) -> tuple[int, int, str, bool]:
    """Return lines, bytes and SHA-256 of a batch's files, and whether each is as recorded."""
    lines = size = 0
    as_recorded = True
    with Threads(2) as threads:
        whole = Digest(threads)
        if meta.parts:
            recorded = {part.name: (part.rows, part.bytes, part.sha256) for part in meta.parts}
        else:
            recorded = dict.fromkeys(meta.files, (meta.event_count, meta.bytes, meta.sha256 or ""))
        for name, expected in recorded.items():
            found = count_and_hash(batch / name, whole)
            as_recorded = as_recorded and found == expected
            lines, size = lines + found[0], size + found[1]
        return lines, size, whole.hexdigest(), as_recorded


@contextmanager
def _cluster(workers: int, folder: Path) -> Iterator[tuple[Standing, str]]:
    """Yield a scheduler and its address; it has workers of one thread each, and is new."""
    scratch = folder / "dask"
    scratch.mkdir()
    module = [sys.executable, "-P", "-m"]
    place = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    alone = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(scratch)]
    try:
        with ExitStack() as stack:
            command = [*module, "distributed.cli.dask_scheduler", *place]
            scheduler = stack.enter_context(standing(command, folder, scratch / "scheduler.log"))
            address = scheduler.printed(r"tcp://127\.0\.0\.1:\d+")
            command = [*module, "distributed.cli.dask_worker", address, *alone]
            members = [
                stack.enter_context(standing(command, folder, scratch / f"worker-{number}.log"))
                for number in range(workers)
            ]
            for member in members:
                member.printed("Registered to")
            yield scheduler, address
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _constants(work: Workplace, config: Config, size: Size, interval: str) -> Constants:
    """Return what is measured in this process: reading companies, and the size of a task."""
    count = min(work.companies, _READ)
    seconds = []
    for _ in range(_READINGS):
        start = time.perf_counter()
        fleet = read_companies(work.file, lines=count)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()  # slows it down, hence apart
    try:
        before, _ = tracemalloc.get_traced_memory()
        fleet = read_companies(work.file, lines=count)
        kept, most = (amount - before for amount in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    tasks = tasks_of(
        config_of_size(config, size),
        fleet,
        parse_time(interval),
        0,
        part_events=_part_events(size),
        events=float(size.events),
        format="jsonl",
        folder=work.folder,
    )
    task = next(tasks)
    own = len(pickle.dumps(task.fleet, protocol=5))
    return Constants(
        cores=cores(),
        companies=count,
        company_seconds=median(seconds) / count,
        company_bytes=kept / count,
        company_peak_bytes=most / count,
        task_bytes=len(pickle.dumps(task, protocol=5)) - own,
    )
