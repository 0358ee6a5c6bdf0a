"""A run that shows what many workers cost: batches in every way, a model, a plan, and verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from fleetsim.base.cluster import require_dask
from fleetsim.base.errors import InputError
from fleetsim.base.progress import in_notebook, notebook_bar
from fleetsim.base.project import Project
from fleetsim.base.tables import Note, Stack, Table
from fleetsim.experiment.criterion import MB
from fleetsim.experiment.spec import Experiment
from fleetsim.experiment.steps import BaseRun, open_run
from fleetsim.kinds.scale_out.measure import measure_ways, steps_of
from fleetsim.kinds.scale_out.plan import Plan
from fleetsim.kinds.scale_out.ways import CLUSTER, WAYS, ScaleOut, ScaleOutRecord, cost_table

#: What a run on one machine leaves open; it stands beside every plan.
UNSEEN = (
    "What few cores of one machine cannot show: more workers than it has cores gain nothing here; "
    "client and scheduler take their time from the same cores, so that it is part of a task's; "
    "no byte crosses a network, and no object store takes any, so that their throughput is not "
    "in the model; and the scheduler is never near its limit, of which its CPU time for a task "
    "gives an upper bound alone. A plan is arithmetic on this machine's costs."
)


class WithoutDask:
    """What a notebook has in place of a run where Dask is missing: every step says so."""

    def __init__(self, note: Note) -> None:
        self._note = note

    def __getattr__(self, name: str) -> Callable[..., Note]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: self._note


def open_scale_out(
    experiment: str = "020-scale-out", **parameters: Any
) -> ScaleOutRun | WithoutDask:
    """Start a run in many ways, as `open_run` does.

    Where Dask is missing, a notebook gets what says so at every step and ends well; anything else
    gets the error.
    """
    try:
        require_dask("scale_out.ipynb")
    except InputError as error:
        if in_notebook():
            print(error)
            return WithoutDask(Note(str(error)))
    run: ScaleOutRun = open_run(experiment, kind="scale_out", **parameters)
    return run


class ScaleOutRun(BaseRun):
    """A run in many ways under way. The steps: measure, laws, plan, judge, finish."""

    steps = ("measure", "laws", "plan", "judge")

    def __init__(
        self, project: Project, experiment: Experiment, results: Path, *, workers: int = 1
    ) -> None:
        super().__init__(project, experiment, results, workers=workers)
        self._found: ScaleOut | None = None

    def measure(self, progress: Callable[[int], object] | None = None) -> Table:
        """Make batches in every way with the real commands; return times and memory.

        `progress` is called with 1 after each cold run; by default a notebook shows a bar.
        """
        experiment = self.experiment
        require_dask(experiment.notebook)
        sizes, tasks = experiment.keys.measured, experiment.keys.measured_tasks
        count = sum(step.repeats for step in steps_of(sizes, tasks))
        with notebook_bar(count, "run") as update:
            runs, constants = measure_ways(
                experiment.config,
                sizes,
                tasks,
                self.folder,
                interval=experiment.keys.interval,
                progress=progress or update,
            )
        self._found = ScaleOut(
            experiment.config, experiment.keys.sizes, experiment.keys.tasks, runs, constants
        )
        return _ways_table(self._found)

    def laws(self) -> Table:
        """Fit what workers, tasks and events cost; return that with intervals."""
        found = self._need(self._found, "measure")
        return _unbroken(cost_table(found.rows(), found.constants))

    def plan(self) -> Stack:
        """Calculate what a fleet takes that no one machine makes; return that, and what breaks."""
        return plan_tables(self._need(self._found, "measure").plan)

    def evidence(self) -> ScaleOut:
        """Return what was found."""
        found: ScaleOut = self._need(self._found, "measure")
        return found

    def judge(self) -> Table:
        """Decide every criterion on what was measured; return the verdicts."""
        found = self.evidence()
        plan = found.plan
        record = ScaleOutRecord(
            runs=list(found.runs),
            constants=found.constants,
            model=found.rows(),
            plan=plan if isinstance(plan, Plan) else None,
            no_plan=plan if isinstance(plan, str) else "",
            unseen=UNSEEN,
        )
        return self._judge(section=record)


def _ways_table(found: ScaleOut) -> Table:
    """Return a row for each size or number of tasks, and each way: the middle of what they took."""
    rows = []
    groups = dict.fromkeys(
        (run.stated_tasks, run.events, list(WAYS).index(run.way)) for run in found.runs
    )
    for stated, events, place in sorted(groups):
        way = list(WAYS)[place]
        runs = [run for run in found.of(way, events=events) if run.stated_tasks == stated]
        seconds = [run.generation_seconds for run in runs]
        scheduler = [run.scheduler_peak_bytes or 0 for run in runs]
        rows.append(
            (
                WAYS[way].words,
                str(runs[0].lines),
                str(runs[0].tasks),
                str(len(runs)),
                f"{min(seconds):.3f}",
                f"{median(seconds):.3f}",
                f"{max(seconds):.3f}",
                f"{median(run.process_seconds for run in runs):.3f}",
                f"{median(run.cpu_seconds for run in runs):.3f}",
                f"{max(run.peak_rss_bytes for run in runs) / MB:.1f}",
                f"{max(scheduler) / MB:.1f}" if way == CLUSTER else "–",
                f"{runs[0].lines / median(seconds) / 1e6:.3g}",
            )
        )
    header = (
        *("way", "events", "files", "cold runs", "generation [s]: least", "median", "most"),
        *("process [s]: median", "CPU [s]: median", "memory [MB]: most", "scheduler [MB]: most"),
        "million events a second",
    )
    caption = (
        "CPU and memory are those of the command and of the workers that it starts itself; memory "
        "is that of the largest of its processes."
    )
    return Table(header, tuple(rows), caption)


def plan_tables(plan: Plan | str) -> Stack:
    """Return a plan as tables: what it takes, where it breaks, and what it cannot know."""
    if isinstance(plan, str):
        return Stack((Table(("plan",), ((f"No plan: {plan}.",),)),))
    breaks = tuple((remark,) for remark in plan.remarks)
    return Stack(
        (
            _unbroken(plan.table()),
            Table(("where it breaks first",), breaks, "The first line is what gives way first."),
            Table(("what this does not show",), ((UNSEEN,),)),
        )
    )


def _unbroken(table: Table) -> Table:
    """Return a table whose values stay beside their units in a narrow column."""
    place = table.header.index("value")
    rows = []
    for row in table.rows:
        cells = list(row)
        cells[place] = cells[place].replace(" ", "\N{NO-BREAK SPACE}")
        rows.append(tuple(cells))
    return dataclasses.replace(table, rows=tuple(rows))
