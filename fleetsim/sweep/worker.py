"""One point of a sweep: run in a thread here, or on a worker elsewhere."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim.base.clock import Instant
from fleetsim.base.cluster import when_given_up
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment.results import Engine
from fleetsim.experiment.steps import run_name
from fleetsim.runner.engines import RunOptions
from fleetsim.runner.mirror import Mirror, mirrored
from fleetsim.runner.run import Outcome, execute
from fleetsim.runner.warm import Nursery
from fleetsim.runner.watch import Watch
from fleetsim.sweep.first_uses import first_uses_on_worker


@dataclass(frozen=True)
class SweepOptions:
    """How the points of a sweep are run; nothing of it changes what their runs say.

    Attributes
    ----------
    jobs : int
        Points that run at a time in this process, beside the writing of one's report; what is
        measured takes turns all the same.
    engine : Engine
        What goes through the steps of each run.
    fresh : bool
        Run every point, also one that is finished.
    fail_fast : bool
        Begin no further point when one has failed.
    retries : int
        How often a failed point is tried again.
    cell_timeout, run_timeout : float, optional
        Seconds that a cell of a notebook, and a whole run, may take.
    figures : bool
        Whether every run draws its figures; else ``fleetsim report`` does, for the runs that it is
        asked for.
    page_follows : bool
        Whether the page of the sweep is made at its end, so that reports may link to it.
    """

    jobs: int = 1
    engine: Engine = Engine.NOTEBOOK
    fresh: bool = False
    fail_fast: bool = False
    retries: int = 0
    cell_timeout: float | None = None
    run_timeout: float | None = None
    figures: bool = False
    page_follows: bool = False


DEFAULTS = SweepOptions()


@dataclass(frozen=True)
class Order:
    """A point that is to run, and how.

    Attributes
    ----------
    root : Path
        Of the project.
    name, experiment : str
        The experiment as it was named, and its id.
    parameters : dict
    key : str
        What the run's key has to be.
    results : str
        Folder or URL of the results.
    options : SweepOptions
        Those of the sweep.
    seen : Path, optional
        What stands in a folder of results while the sweep runs.
    """

    root: Path
    name: str
    experiment: str
    parameters: dict[str, Any]
    key: str
    results: str
    options: SweepOptions = DEFAULTS
    seen: Path | None = None


class Runner:
    """Runs points, in several threads if need be, and ends those under way when told to.

    Parameters
    ----------
    nursery : Nursery, optional
        What the kernels of notebooks are forked from.
    turn : context manager, optional
        Held by a point while its steps are made, and no longer when its report is written.
    """

    def __init__(
        self,
        nursery: Nursery | None = None,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        self._nursery, self._turn = nursery, turn or nullcontext()
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._interrupted = False

    def run(self, order: Order, home: Mirror) -> Outcome:
        """Run a point, and again where it failed and may be tried again."""
        for attempt in range(order.options.retries + 1):
            outcome = self._try(order, home)
            if outcome.record.completed or attempt == order.options.retries:
                break
        return outcome

    def _try(self, order: Order, home: Mirror) -> Outcome:
        watch = Watch(order.options.run_timeout)
        with self._lock:
            self._watches.add(watch)
            if self._interrupted:
                watch.interrupt()
        try:
            folder = home.folder / order.experiment
            while (folder / run_name(Instant.now(), order.key)).exists():
                time.sleep(0.05)  # it failed in this very second, and its name is taken
            watch.check()
            options = RunOptions(
                order.options.engine,
                order.options.cell_timeout,
                nursery=self._nursery,
                figures=order.options.figures,
                sweep_follows=order.options.page_follows,
                turn=self._turn,
            )
            outcome = execute(
                home.project,
                order.name,
                order.parameters,
                results=str(home.folder),
                watch=watch,
                gallery=False,  # the sweep makes it once, at its end
                options=options,
            )
        finally:
            with self._lock:
                self._watches.discard(watch)
        if outcome.record.key != order.key:
            raise FleetsimError(
                f"{outcome.path.name}: the sources or the experiment were changed while the sweep "
                "ran; run it again"
            )
        home.upload_run(outcome.path)
        return outcome

    def interrupt(self) -> None:
        """End the points under way; nothing of them is published."""
        with self._lock:
            self._interrupted = True
            for watch in self._watches:
                watch.interrupt()


def run_on_worker(order: Order) -> Outcome:
    """Run a point on a worker of a Dask cluster, as a thread of the sweep would.

    Where the sweep is interrupted, or dies, the point ends as it does there: a notebook within a
    second, the engine "library" before its next step, and nothing of it is published.

    Raises
    ------
    InputError
        Where this machine does not have the sweep's project or results.
    """
    for path in (order.root / "experiments", order.seen):
        if path is not None and not path.exists():
            raise InputError(
                "--scheduler",
                f"a worker does not see {path}",
                next_step="let all workers share these folders, or name the results by a URL",
            )
    first_uses_on_worker(order.root, order.name, order.options.engine)
    runner = Runner()
    project = Project(order.root)
    with when_given_up(runner.interrupt), mirrored(project, order.results) as home:
        return runner.run(order, home)
