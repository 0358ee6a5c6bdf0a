"""A run that shows how cost grows: batches of many sizes, the laws through them, and verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from fleetsim.criteria import MB
from fleetsim.experiment import Experiment
from fleetsim.plots import ShownFigure
from fleetsim.progress import notebook_bar
from fleetsim.project import Project
from fleetsim.record import ScalingRecord
from fleetsim.run import BaseRun, find_experiment
from fleetsim.scaling_plots import SCALING_PLOTS, draw_scaling
from fleetsim.sizes import PATHS, QUANTITIES, Scaling, check_room, measure_sizes
from fleetsim.tables import Table, number

__all__ = ["ScalingRun", "open_scaling"]

NOTEBOOK = "scaling.ipynb"


def open_scaling(
    experiment: str = "005-scaling",
    results: str | None = None,
    largest_events: int | None = None,
    **configuration: Any,
) -> ScalingRun:
    """Start a run over many sizes.

    Parameters
    ----------
    experiment : str
        Id of an experiment of scaling.ipynb, or a path.
    results : str, optional
        Folder of the results; a relative path starts at the project's root. The largest batch
        stands there for a while.
    largest_events : int, optional
        Sizes above it are left out; verdicts about the whole range then stay open.
    **configuration
        Scalar keys of the configuration. None means "as the YAML says", here and above.

    Raises
    ------
    InputError
        Where the experiment or a parameter is wrong, or the file system has no room for the largest
        size; nothing has been written.
    """
    parameters = {"largest_events": largest_events, **configuration}
    project, loaded, folder = find_experiment(NOTEBOOK, experiment, results, parameters)
    check_room(loaded.config, loaded.measured_sizes, folder)
    return ScalingRun(project, loaded, folder)


class ScalingRun(BaseRun):
    """A run over many sizes under way. The steps: measure, laws, judge, finish."""

    plots = SCALING_PLOTS
    steps = ("measure", "laws", "judge")

    def __init__(self, project: Project, experiment: Experiment, results: Path) -> None:
        super().__init__(project, experiment, results)
        self._scaling: Scaling | None = None

    def measure(self, progress: Callable[[int], object] | None = None) -> Table:
        """Make batches of every size with the real commands; return times and memory.

        `progress` is called with 1 after each cold run; by default a notebook shows a bar.
        """
        experiment = self.experiment
        with notebook_bar(sum(size.repeats for size in experiment.measured_sizes), "run") as update:
            runs = measure_sizes(
                experiment.config,
                experiment.measured_sizes,
                self.folder,
                interval=experiment.interval,
                progress=progress or update,
            )
        self._scaling = Scaling(experiment.sizes, runs)
        return _size_table(self._scaling)

    def laws(self) -> Table:
        """Fit the laws; return their exponents with intervals."""
        return _law_table(self._need(self._scaling, "measure"))

    def plot(self, name: str) -> ShownFigure:
        """Draw a plot of `SCALING_PLOTS`, keep it under ``figures/`` and show it."""

        def make() -> tuple[Figure, str]:
            return draw_scaling(name, self._need(self._scaling, "measure"))

        return self._draw(name, make)

    def judge(self) -> Table:
        """Decide every criterion on what was measured; return the verdicts."""
        scaling: Scaling = self._need(self._scaling, "measure")
        record = ScalingRecord(runs=list(scaling.runs), laws=scaling.rows())
        return self._judge(scaling, scaling=record)


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


def _law_table(scaling: Scaling) -> Table:
    """Return a row for each path and quantity."""
    rows = []
    for law in scaling.rows():
        interval = "–"
        if law.interval is not None:
            interval = f"{law.interval[0]:.3f} to {law.interval[1]:.3f}"
        rows.append(
            (
                PATHS[law.path],
                QUANTITIES[law.quantity],
                f"{law.sizes}, {law.repeats}",
                "–" if law.exponent is None else f"{law.exponent:.4f}",
                interval,
                number(law.startup, 3),
                "–" if law.slope is None else f"{law.slope:.4f}",
                "–" if law.scale is None else f"{law.scale:.2f}",
                law.note if law.deviation is None else f"{100 * law.deviation:.1f} %",
            )
        )
    header = (
        *("path", "quantity", "sizes, runs", "exponent", "95 % interval", "start-up [s]"),
        *("slope with start-up", "interval widened by", "farthest size"),
    )
    caption = (
        "Time: start-up + factor × events^exponent; memory: factor × events^exponent. The slope is "
        "that of the logarithms as they are."
    )
    return Table(header, tuple(rows), caption)
