"""Sweeps: every point of an experiment's grid, run once whatever happens to the machine.

A point is known by its key, the hash of all that its content depends on. A completed run with that
key is the point's result; nothing else is remembered, so there is no state that could be wrong.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from fleetsim.apriori import expected_line_bytes
from fleetsim.cluster import Cluster
from fleetsim.config import SEED_MAX
from fleetsim.errors import InputError
from fleetsim.execute import Outcome
from fleetsim.experiment import Experiment, load_experiment, with_parameters
from fleetsim.files import PARTIAL, claim_folder, free_bytes, make_folder, point_link
from fleetsim.gallery import refresh_gallery
from fleetsim.grid import grid_points, grid_size
from fleetsim.mirror import Mirror
from fleetsim.points import Order, Runner, run_on_worker
from fleetsim.project import Project, source_hash
from fleetsim.record import Record
from fleetsim.run import run_key
from fleetsim.runs import LATEST, RECORD_NAME
from fleetsim.warm import Nursery

__all__ = ["Point", "Sweep", "expected_events", "plan_sweep", "run_sweep"]

#: More runs than this are begun only when asked for twice.
MANY_RUNS = 10_000


@dataclass(frozen=True)
class Point:
    """One run of a sweep: what the grid sets and the seed, and the key of the whole."""

    number: int
    setting: dict[str, Any]
    seed: int
    key: str

    @property
    def parameters(self) -> dict[str, Any]:
        """What is given to the run."""
        return {**self.setting, "seed": self.seed}


@dataclass
class Sweep:
    """A sweep with what stands of it in the results.

    Attributes
    ----------
    project : Project
    name : str
        The experiment's id or path, as it was given.
    experiment : Experiment
    results : Path
        Folder of the results.
    points : list of Point
    finished : dict
        Key of a point to the folder of its newest completed run.
    failed : dict
        Key of a point to the folder of its newest failed run, where none was completed.
    damaged : list of str
        Records that cannot be read; they count for nothing.
    newest : Path or None
        Folder of the experiment's newest completed run, of whatever parameters.
    """

    project: Project
    name: str
    experiment: Experiment
    results: Path
    points: list[Point]
    finished: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, Path] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    newest: Path | None = None

    @property
    def folder(self) -> Path:
        """Folder of the experiment's runs."""
        return self.results / self.experiment.id

    def look(self) -> None:
        """See which points stand in the results."""
        self.finished, self.failed, self.damaged, self.newest = {}, {}, [], None
        wanted = {point.key for point in self.points}
        found: dict[str, dict[str, Path]] = {"completed": {}, "failed": {}}
        # Names begin with the time of the run, so that the newest comes last.
        for path in sorted(self.folder.glob(f"[!.]*/{RECORD_NAME}")):
            if path.parent.is_symlink():  # latest
                continue
            try:
                content = path.read_bytes()
                row = msgspec.json.decode(content, type=_Row)
                if row.key in wanted:
                    msgspec.json.decode(content, type=Record)
            except (OSError, msgspec.DecodeError, RecursionError) as error:
                self.damaged.append(f"{path.parent.name}/{RECORD_NAME}: damaged: {error}")
                continue
            if row.status == "completed":
                self.newest = path.parent
            if row.key in wanted and row.status in found:
                found[row.status][row.key] = path.parent
        self.finished = found["completed"]
        self.failed = {k: path for k, path in found["failed"].items() if k not in self.finished}

    def to_do(self, *, fresh: bool = False) -> list[Point]:
        """Return the points that have no completed run, or all of them."""
        return [point for point in self.points if fresh or point.key not in self.finished]


class _Row(msgspec.Struct):
    """What of a record says which point it is."""

    key: str
    status: str


def plan_sweep(
    project: Project,
    name: str,
    *,
    results: str | None = None,
    sent: bool = False,
    fresh: bool = False,
    confirmed: bool = False,
) -> Sweep:
    """Return the points of an experiment's sweep, and which of them stand already.

    Parameters
    ----------
    project : Project
    name : str
        Id of the experiment, or a path.
    results : str, optional
        Folder of the results; a relative path starts at the project's root.
    sent : bool
        Whether runs are sent away as they end, so that the disk has to hold only those under way.
    fresh : bool
        Whether finished points are to run again, and need room on the disk again.
    confirmed : bool
        Whether the user said yes to a sweep of more than `MANY_RUNS` runs, or to one that seems not
        to fit on the disk.

    Raises
    ------
    InputError
        Where the experiment is wrong, has no grid, makes one point twice, or is too large.
    """
    experiment = load_experiment(project, name)
    where = project.relative(project.experiment_file(name))
    if not experiment.axes and experiment.seeds == 1:
        raise InputError(
            where,
            "it has neither grid nor seeds: nothing to sweep over",
            next_step=f"add a grid, or use fleetsim run {name}",
        )
    size = grid_size(experiment.axes) * experiment.seeds
    if size > MANY_RUNS and not confirmed:
        raise InputError(
            where,
            f"{grid_size(experiment.axes)} points with {experiment.seeds} seed(s) make {size} "
            f"runs, more than {MANY_RUNS}",
            next_step="make the grid smaller, or say --yes",
        )
    sources = project.notebook_hash(experiment.notebook), source_hash()
    points: list[Point] = []
    for number, setting in enumerate(_settings(experiment)):
        made = with_parameters(experiment, setting)
        seed = made.config.seed
        key = run_key(project, made, sources)
        points.append(Point(number, {k: v for k, v in setting.items() if k != "seed"}, seed, key))
    sweep = Sweep(project, name, experiment, project.results(results), points)
    _refuse_twins(where, points)
    sweep.look()
    if not confirmed:
        _refuse_what_does_not_fit(where, sweep, sweep.to_do(fresh=fresh), sent)
    return sweep


def _settings(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """Yield the parameters of each run: each point of the grid with its seeds."""
    for setting in grid_points(experiment.axes):
        first = setting.get("seed", experiment.config.seed)
        for r in range(experiment.seeds):
            yield {**setting, "seed": (first + r) % (SEED_MAX + 1)}


def _refuse_twins(where: str, points: Sequence[Point]) -> None:
    seen: dict[str, Point] = {}
    for point in points:
        twin = seen.setdefault(point.key, point)
        if twin is not point:
            raise InputError(
                where,
                f"grid: runs {twin.number + 1} and {point.number + 1} are the same: "
                f"{point.parameters}; allowed: every run once",
            )


def expected_events(experiment: Experiment) -> float:
    """Return how many events the batches of a run are expected to have together."""
    config = experiment.config
    drivers = config.number_of_companies * config.drivers_per_company * config.active_fraction
    return drivers * config.event_rate_per_driver * experiment.batches


def _refuse_what_does_not_fit(
    where: str, sweep: Sweep, points: Sequence[Point], sent: bool
) -> None:
    """Refuse a sweep whose data the file system has no room for."""
    runs = [with_parameters(sweep.experiment, point.parameters) for point in points]
    sizes = [expected_events(run) * expected_line_bytes(run.config) for run in runs]
    kept = sweep.experiment.keep_data and not sent
    needed = sum(sizes) if kept else 2 * max(sizes, default=0)
    free = free_bytes(sweep.results)
    if free is not None and needed > free:
        raise InputError(
            where,
            f"its runs are expected to need {needed / 1e9:.3g} GB; the file system of the results "
            f"has {free / 1e9:.3g} GB free",
            next_step="make the grid smaller, set keep_data: false, or say --yes",
        )


@contextmanager
def sweep_lock(sweep: Sweep) -> Iterator[None]:
    """Hold the only right to run this experiment's points; a second sweep waits for it."""
    make_folder(sweep.folder)
    descriptor = os.open(sweep.folder / ".sweep.lock", os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.getLogger(__name__).warning(
                "%s: waiting for another sweep of this experiment; what it completes is kept",
                sweep.experiment.id,
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@dataclass
class Progress:
    """How many points were done, failed, skipped since they stood already, and not begun."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    left: int = 0


def run_sweep(
    sweep: Sweep,
    *,
    jobs: int = 1,
    cluster: Cluster | None = None,
    home: Mirror | None = None,
    engine: str = "notebook",
    fresh: bool = False,
    fail_fast: bool = False,
    retries: int = 0,
    cell_timeout: float | None = None,
    run_timeout: float | None = None,
    progress: Callable[[Outcome], object] | None = None,
) -> Progress:
    """Run the points that have no completed run; the sweep then knows where all of them stand.

    Parameters
    ----------
    sweep : Sweep
    jobs : int
        Points that run at a time; their measured processes take turns all the same.
    cluster : Cluster, optional
        Run the points on its workers, as many at a time as they have threads.
    home : Mirror, optional
        The results, where they are on a storage; the sweep was planned on its folder.
    engine : str
        A name of `engines.ENGINES`.
    fresh : bool
        Run every point, also one that is finished.
    fail_fast : bool
        Begin no further point when one has failed.
    retries : int
        How often a failed point is tried again.
    cell_timeout, run_timeout : float, optional
        Seconds that a cell of a notebook, and a whole run, may take.
    progress : callable, optional
        Called with the outcome of each point, in this thread.

    Raises
    ------
    InputError
        Where the experiment's notebook is wrong.
    FleetsimError
        Where the workers are gone, or a run could not be sent to the storage.
    KeyboardInterrupt, SystemExit
        As they came; the points under way are ended and leave nothing, those on workers too.
    """
    home = home or Mirror(sweep.project, sweep.results)
    with ExitStack() as stack:
        stack.enter_context(sweep_lock(sweep))
        shared = cluster is not None and home.where is None
        seen = stack.enter_context(_seen(sweep.folder)) if shared else None
        sweep.look()
        to_do = sweep.to_do(fresh=fresh)
        nursery = None
        if cluster is None and engine == "notebook" and len(to_do) > 1 and Nursery.possible():
            nursery = stack.enter_context(Nursery())
        points = iter(to_do)
        count = Progress(skipped=0 if fresh else len(sweep.finished))

        def orders() -> Iterator[Order]:
            while not (fail_fast and count.failed) and (point := next(points, None)):
                yield Order(
                    sweep.project.root,
                    sweep.name,
                    sweep.experiment.id,
                    point.parameters,
                    point.key,
                    str(home.where or sweep.results.absolute()),
                    engine,
                    retries,
                    cell_timeout,
                    run_timeout,
                    seen,
                )

        if cluster is None:
            outcomes = _in_threads(orders(), home, jobs, nursery)
        else:
            outcomes = _on_workers(orders(), cluster)
        with closing(outcomes):
            for outcome in outcomes:
                completed = outcome.record.status == "completed"
                count.done += completed
                count.failed += not completed
                if progress is not None:
                    progress(outcome)
        count.left = sum(1 for _ in points)
        if cluster is not None:
            home.fetch_records(sweep.experiment.id)  # workers sent them up
        sweep.look()
        if sweep.newest is not None:  # a sweep that was killed may have left it behind
            point_link(sweep.folder / LATEST, sweep.newest.name)
        refresh_gallery(sweep.results)
        return count


@contextmanager
def _seen(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder that only those see who share this one."""
    path = folder / f".sweep-{uuid4().hex}{PARTIAL}"
    lock = claim_folder(path)
    try:
        yield path.absolute()
    finally:
        path.rmdir()
        os.close(lock)


def _on_workers(orders: Iterator[Order], cluster: Cluster) -> Generator[Outcome]:
    """Yield the outcomes of points as they end; Dask hands them out."""
    with closing(cluster.map(run_on_worker, orders, waiting=0)) as rows:
        for _, outcome in rows:
            yield outcome


def _in_threads(
    orders: Iterator[Order], home: Mirror, jobs: int, nursery: Nursery | None
) -> Generator[Outcome]:
    """Yield the outcomes of points as they end, so many at a time."""
    runner = Runner(nursery)
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="sweep")
    running: set[Future[Outcome]] = set()
    try:
        while True:
            for order in islice(orders, jobs - len(running)):
                running.add(pool.submit(runner.run, order, home))
            if not running:
                break
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield future.result()
    except BaseException:
        runner.interrupt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
