"""Plots of a run in many ways: each draws onto a figure and returns its alt text.

`PLOTS` is the one place where such a plot is entered.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from fleetsim.experiment.criterion import MB
from fleetsim.experiment.figures import DARK, LIGHT, MIDDLE, SIGNAL, Plot, sentence
from fleetsim.kinds.scale_out.ways import CLUSTER, LOCAL, WAYS, ScaleOut, WayRun
from fleetsim.stats.growth import PowerLaw
from fleetsim.stats.linear import LinearLaw

Floats = npt.NDArray[np.float64]

_MARKS = {
    "process": ("o", SIGNAL),
    "local:1": ("^", MIDDLE),
    "local:2": ("s", DARK),
    "local:4": ("D", MIDDLE),
    "cluster:2": ("v", DARK),
}
_LABELS = {
    "process": "one process",
    "local:1": "1 worker",
    "local:2": "2 workers",
    "local:4": "4 workers",
    "cluster:2": "2 workers,\nrunning before",
}
_POINTS = 100  # of a curve
_SHIFT = 0.12  # how far repeats of one way may be moved apart


def _throughput(figure: Figure, found: ScaleOut, criteria: object) -> str:
    ax = figure.subplots()
    size = max(run.events for run in found.runs if not run.stated_tasks)
    told = []
    for place, (way, (mark, colour)) in enumerate(_MARKS.items()):
        runs = found.of(way, events=size, tasks=False)
        if not runs:
            continue
        rates = np.array([run.lines / run.generation_seconds for run in runs]) / 1e6
        at = place + np.linspace(-_SHIFT, _SHIFT, len(rates))
        ax.plot(at, rates, mark, ms=4, mfc="none", color=colour)
        middle = float(np.median(rates))
        ax.hlines(middle, place - 0.3, place + 0.3, color=colour, lw=1.5)
        told.append(f"{WAYS[way].words} {middle:.3g}")
    ax.set_xticks(range(len(_MARKS)), [_LABELS[way] for way in _MARKS])
    ax.set(ylabel="million events a second", xlim=(-0.6, len(_MARKS) - 0.4))
    ax.set_ylim(bottom=0)
    return sentence(
        f"Million events a second of each cold run of {size} events, by the way of making, with a "
        "line at each median",
        told,
    )


def _tasks(figure: Figure, found: ScaleOut, criteria: object) -> str:
    ax = figure.subplots()
    told = []
    for way in ("process", LOCAL, CLUSTER):
        runs = found.of(way, tasks=True)
        if not runs:
            continue
        mark, colour = _MARKS[way]
        tasks, seconds = _columns(runs, lambda run: float(run.tasks))
        ax.plot(tasks, seconds, mark, ms=4.5, mfc="none", color=colour, label=_LABELS[way])
        told.append(f"{WAYS[way].words} {seconds.min():.2f} to {seconds.max():.2f} s")
    law = found.overhead
    if isinstance(law, LinearLaw):
        most = max(run.tasks for run in found.of(LOCAL, tasks=True))
        ends = np.geomspace(1, most, _POINTS)
        line = law.at(np.column_stack([np.ones_like(ends), ends]))
        each = law.each("task")
        sign = "-" if each.value < 0 else "+"
        label = f"{law.coefficients[0]:.2f} s {sign} {1e3 * abs(each.value):.2g} ms a task"
        ax.plot(ends, line, color=DARK, lw=1.2, label=label)
        told.append(
            f"the line through 2 workers rises by {1e3 * each.value:.2g} ms a task, 95 % interval "
            f"{1e3 * each.low:.2g} to {1e3 * each.high:.2g} ms"
        )
    ax.set(xlabel="tasks, of about 50 events each", ylabel="generation [s]")
    _logarithmic(ax, x=True, y=True)
    figure.legend(loc="outside right upper", fontsize=8)
    return sentence("Seconds of each cold run over the number of its tasks", told)


def _memory(figure: Figure, found: ScaleOut, criteria: object) -> str:
    ax = figure.subplots()
    runs = found.of(CLUSTER, tasks=False)
    events = np.array([run.lines for run in runs], float)
    told = []
    shown: tuple[tuple[str, str, str, list[float], PowerLaw | str], ...] = (
        (
            *("client", "o", DARK),
            [run.peak_rss_bytes / MB for run in runs],
            found.client_memory,
        ),
        (
            *("scheduler", "s", MIDDLE),
            [(run.scheduler_peak_bytes or 0) / MB for run in runs],
            found.scheduler_memory,
        ),
    )
    for whose, mark, colour, peaks, law in shown:
        label, text = whose, f"the {whose} takes {min(peaks):.1f} to {max(peaks):.1f} MB"
        if isinstance(law, PowerLaw):
            ends = np.geomspace(events.min(), events.max(), _POINTS)
            low, high = law.band(ends)
            ax.fill_between(ends, low / MB, high / MB, color=LIGHT, lw=0)
            ax.plot(ends, law.at(ends) / MB, color=SIGNAL, lw=1.2)
            label += f", exponent {round(law.exponent, 3) + 0.0:.3f}"
            text += f", a power {round(law.exponent, 3) + 0.0:.3f} of the events"
        ax.plot(events, peaks, mark, ms=4.5, mfc="none", color=colour, label=label)
        told.append(text)
    ax.plot([], [], color=SIGNAL, lw=1.2, label="power law, with its 95 % band")
    ax.set(xlabel="events of the batch", ylabel="peak resident set [MB]")
    _logarithmic(ax, x=True)
    ax.xaxis.set_major_formatter(EngFormatter())  # thousands and millions
    ax.set_ylim(0, 1.6 * max(max(peaks) for _, _, _, peaks, _ in shown))
    ax.legend(ncols=2, loc="upper left", fontsize=8)
    return sentence(
        "Peak memory of client and scheduler, with two workers in processes of their own, over the "
        "events",
        told,
    )


def _model(figure: Figure, found: ScaleOut, criteria: object) -> str:
    ax = figure.subplots()
    law = found.model
    told = []
    if isinstance(law, str):
        told.append(f"there is no model: {law}")
    else:
        for way in ("local:1", "local:2", "local:4"):
            runs = found.of(way)
            mark, colour = _MARKS[way]
            said = law.at([found.amounts(run) for run in runs])
            seconds = np.array([run.generation_seconds for run in runs])
            ax.plot(said, seconds, mark, ms=4.5, mfc="none", color=colour, label=_LABELS[way])
        every = [run for run in found.runs if run.way.startswith("local:")]
        ends = [min(run.generation_seconds for run in every)]
        ends.append(max(run.generation_seconds for run in every))
        ax.plot(ends, ends, color=SIGNAL, lw=1.2, label="as the model says")
        _logarithmic(ax, x=True, y=True)
        ax.legend(loc="upper left", fontsize=8)
        told.append(
            f"{len(every)} runs of {ends[0]:.2f} to {ends[1]:.2f} s; the mean of equal runs is "
            f"off by {100 * law.deviation:.0f} % at most"
        )
    ax.set(xlabel="generation by the model [s]", ylabel="generation measured [s]")
    return sentence("Measured seconds of each run by workers over what the model gives", told)


def _columns(runs: list[WayRun], of: Callable[[WayRun], float]) -> tuple[Floats, Floats]:
    """Return something of each run, and its seconds."""
    return np.array([of(run) for run in runs]), np.array([run.generation_seconds for run in runs])


def _logarithmic(ax: Axes, *, x: bool = False, y: bool = False) -> None:
    """Make axes logarithmic, with plain numbers at 1, 2 and 5: they may span less than a decade."""
    ax.set(**({"xscale": "log"} if x else {}), **({"yscale": "log"} if y else {}))
    for axis, logarithmic in ((ax.xaxis, x), (ax.yaxis, y)):
        if logarithmic:
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())


PLOTS: dict[str, Plot] = {
    "throughput_by_way": Plot("Events a second by way of making", (8.0, 3.4), _throughput),
    "seconds_over_tasks": Plot("Seconds over tasks", (8.0, 3.4), _tasks),
    "memory_of_a_cluster": Plot("Memory of client and scheduler", (8.0, 3.4), _memory),
    "model_against_runs": Plot("The model against the runs", (6.0, 4.2), _model),
}
