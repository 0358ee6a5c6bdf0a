"""A run that shows how cost grows: batches of many sizes, the laws through them, and verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from fleetsim.base.progress import notebook_bar
from fleetsim.base.project import Project
from fleetsim.base.tables import Table
from fleetsim.experiment.criterion import MB
from fleetsim.experiment.spec import Experiment
from fleetsim.experiment.steps import BaseRun, open_run
from fleetsim.kinds.scaling.sizes import Scaling, ScalingRecord, law_table, measure_sizes
from fleetsim.measure.series import PATHS


def open_scaling(experiment: str = "005-scaling", **parameters: Any) -> ScalingRun:
    """Start a run over many sizes, as `open_run` does."""
    run: ScalingRun = open_run(experiment, kind="scaling", **parameters)
    return run


class ScalingRun(BaseRun):
    """A run over many sizes under way. The steps: measure, laws, judge, finish."""

    steps = ("measure", "laws", "judge")

    def __init__(
        self, project: Project, experiment: Experiment, results: Path, *, workers: int = 1
    ) -> None:
        super().__init__(project, experiment, results, workers=workers)
        self._scaling: Scaling | None = None

    def measure(self, progress: Callable[[int], object] | None = None) -> Table:
        """Make batches of every size with the real commands; return times and memory.

        `progress` is called with 1 after each cold run; by default a notebook shows a bar.
        """
        experiment = self.experiment
        with notebook_bar(sum(size.repeats for size in experiment.keys.measured), "run") as update:
            runs = measure_sizes(
                experiment.config,
                experiment.keys.measured,
                self.folder,
                interval=experiment.keys.interval,
                progress=progress or update,
            )
        self._scaling = Scaling(experiment.keys.sizes, runs)
        return _size_table(self._scaling)

    def laws(self) -> Table:
        """Fit the laws; return their exponents with intervals."""
        return law_table(self._need(self._scaling, "measure").rows(), spoken=True)

    def evidence(self) -> Scaling:
        """Return what was found."""
        found: Scaling = self._need(self._scaling, "measure")
        return found

    def judge(self) -> Table:
        """Decide every criterion on what was measured; return the verdicts."""
        scaling = self.evidence()
        record = ScalingRecord(runs=list(scaling.runs), laws=scaling.rows())
        return self._judge(section=record)


def _size_table(scaling: Scaling) -> Table:
    """Return a row for each size: its events and repeats, and the middle of what they took."""
    rows = []
    for size in sorted({run.events for run in scaling.runs}):
        runs = [run for run in scaling.runs if run.events == size]
        seconds = [run.generation_seconds for run in runs]
        middle = median(seconds)
        rows.append(
            (
                str(runs[0].lines),
                PATHS[runs[0].path],
                str(runs[0].companies),
                str(len(runs)),
                f"{min(seconds):.3f}",
                f"{middle:.3f}",
                f"{max(seconds):.3f}",
                f"{median(run.process_seconds for run in runs):.3f}",
                f"{median(run.cpu_seconds for run in runs):.3f}",
                f"{max(run.peak_rss_bytes for run in runs) / MB:.1f}",
                f"{runs[0].lines / middle / 1e6:.3g}",
            )
        )
    header = (
        *("events", "path", "companies", "cold runs", "generation [s]: least", "median", "most"),
        *("process [s]: median", "CPU [s]: median", "memory [MB]: most", "million events a second"),
    )
    return Table(header, tuple(rows))
