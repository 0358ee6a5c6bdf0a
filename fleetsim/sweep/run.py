"""Run the points of a sweep that are not finished, in threads here or on the workers of a cluster.

One sweep of an experiment runs at a time. What it needs to know it sees in the results when it
begins (`fleetsim.sweep.plan`), so that a sweep that was ended goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Semaphore
from uuid import uuid4

from fleetsim.base.cluster import Cluster
from fleetsim.base.errors import InputError
from fleetsim.base.files import PARTIAL, claim_folder, make_folder, point_link, take_lock
from fleetsim.base.terminal import warn
from fleetsim.experiment.results import LATEST, Engine, own_folder
from fleetsim.report.gallery import refresh_gallery
from fleetsim.runner.engines import check_notebook
from fleetsim.runner.mirror import Mirror
from fleetsim.runner.run import Outcome
from fleetsim.runner.warm import Nursery
from fleetsim.sweep.first_uses import first_uses
from fleetsim.sweep.plan import Point, Sweep
from fleetsim.sweep.worker import DEFAULTS, Order, Runner, SweepOptions, run_on_worker


@contextmanager
def sweep_lock(sweep: Sweep) -> Iterator[None]:
    """Hold the only right to run this experiment's points; a second sweep waits for it."""
    make_folder(own_folder(sweep.folder, sweep.results))
    flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(sweep.folder / ".sweep.lock", flags, 0o644)
    except OSError as error:
        raise InputError(
            str(sweep.folder / ".sweep.lock"), f"no lock of a sweep: {error.strerror}"
        ) from None
    try:
        take_lock(descriptor, lambda: _say_waiting(sweep.experiment.id))
        yield
    finally:
        os.close(descriptor)


def _say_waiting(experiment: str) -> None:
    waits = "waiting for another sweep of this experiment; what it completes is kept"
    warn(__name__, f"{experiment}: {waits}")


@dataclass
class Progress:
    """How many points were done, failed, skipped since they stood already, and not begun."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    left: int = 0


def run_sweep(
    sweep: Sweep,
    options: SweepOptions = DEFAULTS,
    *,
    cluster: Cluster | None = None,
    home: Mirror | None = None,
    progress: Callable[[Outcome], object] | None = None,
) -> Progress:
    """Run the points that have no completed run; the sweep then knows where all of them stand.

    Parameters
    ----------
    sweep : Sweep
    options : SweepOptions
    cluster : Cluster, optional
        Run the points on its workers, as many at a time as they have threads.
    home : Mirror, optional
        The results, where they are on a storage; the sweep was planned on its folder.
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
    if options.engine == Engine.NOTEBOOK:
        check_notebook(sweep.project, sweep.experiment)  # here, not at the first point
        sweep.experiment.kind.check_machine(sweep.experiment, sweep.results)
    with ExitStack() as stack:
        stack.enter_context(sweep_lock(sweep))
        shared = cluster is not None and home.where is None
        seen = stack.enter_context(_seen(sweep.folder)) if shared else None
        sweep.look()
        to_do = sweep.to_do(fresh=options.fresh)
        points = iter(to_do)
        count = Progress(skipped=0 if options.fresh else len(sweep.finished))

        def orders() -> Iterator[Order]:
            while not (options.fail_fast and count.failed) and (point := next(points, None)):
                yield _order(sweep, point, options, home, seen)

        if cluster is None:
            forked = options.engine == Engine.NOTEBOOK and len(to_do) > 1 and Nursery.possible()
            nursery = None
            if forked:  # it imports while this process does
                kind, named = sweep.experiment.kind, (sweep.project.root, sweep.name)
                draws = options.figures or kind.evidence() is None
                nursery = stack.enter_context(Nursery(kind.name, named, draws=draws))
            if to_do:
                first_uses(sweep.experiment.kind, options.engine)
            outcomes = _in_threads(orders(), home, options, nursery)
        else:
            outcomes = _on_workers(orders(), cluster)
        with closing(outcomes):
            for outcome in outcomes:
                completed = outcome.record.completed
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


def _order(
    sweep: Sweep, point: Point, options: SweepOptions, home: Mirror, seen: Path | None
) -> Order:
    return Order(
        root=sweep.project.root,
        name=sweep.name,
        experiment=sweep.experiment.id,
        parameters=point.parameters,
        key=point.key,
        results=str(home.where or sweep.results.absolute()),
        options=options,
        seen=seen,
    )


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
    orders: Iterator[Order], home: Mirror, options: SweepOptions, nursery: Nursery | None
) -> Generator[Outcome]:
    """Yield the outcomes of points as they end, so many at a time.

    There is one thread more: while it writes the report of a point, as many run. Where a failure
    ends the sweep, none may begin before that report is written.
    """
    runner = Runner(nursery, Semaphore(options.jobs))
    threads = options.jobs + (not options.fail_fast)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sweep")
    running: set[Future[Outcome]] = set()
    try:
        while True:
            for order in islice(orders, threads - len(running)):
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
