"""Plots of a run over many sizes: each draws onto a figure and returns its alt text.

`PLOTS` is the one place where such a plot is entered.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from fleetsim.experiment.criterion import MB
from fleetsim.experiment.figures import DARK, LIGHT, MIDDLE, SIGNAL, Plot, sentence
from fleetsim.kinds.scaling.sizes import Scaling
from fleetsim.measure.series import PATHS

Floats = npt.NDArray[np.float64]

_MARKS = {"numpy": ("o", MIDDLE), "compiled": ("s", DARK)}
_POINTS = 100  # of a curve
_SHIFT = 0.06  # how far repeats of one size may be moved apart, in logarithms


def _time(figure: Figure, scaling: Scaling, criteria: object) -> str:
    curve, away = figure.subplots(1, 2)
    told = []
    for path, (mark, colour) in _MARKS.items():
        runs = scaling.of(path)
        if not runs:
            continue
        events, seconds = _columns(scaling, path, "generation_seconds")
        at = _apart(events)
        curve.plot(at, seconds, mark, ms=3.5, mfc="none", color=colour, label=PATHS[path])
        law = scaling.laws.get((path, "generation_seconds"))
        if law is None:
            told.append(f"the {PATHS[path]} has no fitted law")
            continue
        ends = np.geomspace(events.min(), events.max(), _POINTS)
        curve.plot(ends, law.at(ends), color=SIGNAL, lw=1.2)
        low, high = (100 * (end / law.at(ends) - 1) for end in law.band(ends))
        away.fill_between(ends, low, high, color=LIGHT, lw=0)
        off = 100 * (seconds / law.at(events) - 1)
        away.plot(at, off, mark, ms=3.5, mfc="none", color=colour)
        told.append(
            f"the {PATHS[path]} follows {law.startup:.3f} s plus a power {law.exponent:.3f} of "
            f"{events.min():.0f} to {events.max():.0f} events, from which a size is off by "
            f"{100 * law.deviation:.1f} % at most"
        )
    curve.plot([], [], color=SIGNAL, lw=1.2, label="start-up + power law")
    away.fill_between([], [], color=LIGHT, label="95 % band of the law")
    away.axhline(0, color=SIGNAL, lw=1.2)
    _by_events(curve, scaling, "generation [s]", log=True)
    _by_events(away, scaling, "distance of a run from its law [%]")
    curve.legend(loc="upper left", fontsize=8)
    away.legend(loc="upper right", fontsize=8)
    away.margins(y=0.2)
    return sentence(
        "Left: seconds of each cold run over its events, on logarithmic axes, with the fitted "
        "laws; right: how far each run is from its law",
        told,
    )


def _memory(figure: Figure, scaling: Scaling, criteria: object) -> str:
    ax = figure.subplots()
    told = []
    for path, (mark, colour) in _MARKS.items():
        if not scaling.of(path):
            continue
        events, peaks = _columns(scaling, path, "peak_rss_bytes")
        ax.plot(_apart(events), peaks / MB, mark, ms=3.5, mfc="none", color=colour)
        text = f"the {PATHS[path]} takes {peaks.min() / MB:.1f} to {peaks.max() / MB:.1f} MB"
        law = scaling.laws.get((path, "peak_rss_bytes"))
        label = PATHS[path]
        if law is not None:
            ends = np.geomspace(events.min(), events.max(), _POINTS)
            low, high = law.band(ends)
            ax.fill_between(ends, low / MB, high / MB, color=LIGHT, lw=0)
            ax.plot(ends, law.at(ends) / MB, color=SIGNAL, lw=1.2)
            label += f", exponent {law.exponent:.3f}"
            text += f", a power {law.exponent:.3f} of the events"
        ax.plot([], [], mark, ms=3.5, mfc="none", color=colour, label=label)
        told.append(text)
    ax.plot([], [], color=SIGNAL, lw=1.2, label="power law")
    ax.fill_between([], [], color=LIGHT, label="95 % band")
    _by_events(ax, scaling, "peak resident set [MB]", log=True)
    top = max(run.peak_rss_bytes for run in scaling.runs) / MB
    ax.set_ylim(10, 10 * top)
    ax.legend(ncols=2, loc="upper left", fontsize=8)
    what = "Peak memory of each cold run over its events, on logarithmic axes"
    return sentence(what, told)


def _rate(figure: Figure, scaling: Scaling, criteria: object) -> str:
    ax = figure.subplots()
    medians: dict[float, float] = {}
    for path, (mark, colour) in _MARKS.items():
        if not scaling.of(path):
            continue
        for quantity, filled in (("generation_seconds", True), ("process_seconds", False)):
            events, seconds = _columns(scaling, path, quantity)
            sizes = np.unique(events)
            rate = np.array([np.median(n / seconds[events == n]) for n in sizes]) / 1e6
            words = "generation" if filled else "whole process"
            ax.plot(
                sizes,
                rate,
                mark + ("-" if filled else "--"),
                ms=4,
                lw=1,
                mfc=colour if filled else "none",
                color=colour,
                label=f"{PATHS[path]}, {words}",
            )
            if filled:
                medians |= dict(zip(sizes.tolist(), rate.tolist(), strict=True))
                level = scaling.laws.get((path, quantity))
                if level is not None:
                    limit = level.largest / level.factor / 1e6
                    ax.hlines(limit, sizes[0], sizes[-1], color=SIGNAL, lw=0.8, ls=":")
    _by_events(ax, scaling, "million events a second", log=True)
    ax.set_ylim(top=20 * max(medians.values()))
    ax.plot([], [], color=SIGNAL, lw=0.8, ls=":", label="without the start-up, at the largest size")
    ax.legend(ncols=2, loc="upper left", fontsize=8)
    shown = [f"{rate:.3g} million at {n:.3g} events" for n, rate in medians.items()]
    told = [shown[0], shown[-1]] if len(shown) > 1 else shown
    return sentence(
        "Median events a second of generation, and of the whole process, over the events of a "
        "batch, on logarithmic axes",
        told,
    )


def _columns(scaling: Scaling, path: str, quantity: str) -> tuple[Floats, Floats]:
    """Return events and a quantity of each run on a path."""
    runs = scaling.of(path)
    return (
        np.array([run.lines for run in runs], float),
        np.array([getattr(run, quantity) for run in runs], float),
    )


def _apart(events: Floats) -> Floats:
    """Return the events moved a little, in the order of the repeats, so that points show."""
    moved = events.copy()
    for size in np.unique(events):
        own = events == size
        moved[own] *= np.exp(np.linspace(-_SHIFT, _SHIFT, int(own.sum())))
    return moved


def _by_events(ax: Axes, scaling: Scaling, label: str, *, log: bool = False) -> None:
    events = [run.lines for run in scaling.runs]
    ax.set(xscale="log", xlabel="events of the batch", ylabel=label)
    ax.set_xlim(min(events) / 1.5, 1.5 * max(events))
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())


PLOTS: dict[str, Plot] = {
    "time_over_events": Plot("Time over events", (9.0, 3.8), _time),
    "memory_over_events": Plot("Memory over events", (8.0, 3.4), _memory),
    "rate_over_events": Plot("Events a second", (8.0, 3.4), _rate),
}
