"""Plots of a run: each draws the evidence onto given axes and returns its alt text.

`PLOTS` is the one place where a plot is entered. Colours differ in lightness, and every series has
its own mark or hatch, so that the plots read in grey.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats as laws

from fleetsim import stats
from fleetsim.config import Config
from fleetsim.criteria import MB, Criterion
from fleetsim.evidence import Evidence
from fleetsim.model import count_law, type_law
from fleetsim.sample import Sample
from fleetsim.times import PLOT_CELLS, cells_for

__all__ = [
    "PLOTS",
    "Plot",
    "ShownFigure",
    "draw",
    "draw_counts",
    "draw_over_interval",
    "draw_types",
    "render",
    "render_png",
    "sentence",
    "style",
    "tick_label",
    "titled_figure",
]

DARK, MIDDLE, LIGHT, SIGNAL = "#1b3a57", "#5b8db8", "#c9d9e8", "#b5491f"
BARS = 40  # of a histogram of counts
MANY_TYPES = 40  # more names than these are not written at the axis
TYPES_TOLD = 12  # in an alt text
_STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: a fifth of the size, and it can be searched
    "svg.hashsalt": "fleetsim",  # or the ids inside an SVG differ from run to run
}


@dataclass(frozen=True)
class Plot:
    """One plot: what it shows, its panels, and the function that draws it and returns alt text."""

    title: str
    draw: Callable[[Sequence[Axes], Evidence, Sequence[Criterion]], str]
    panels: int = 1


class ShownFigure:
    """A figure that a notebook shows as PNG, with an alt text for those who do not see it."""

    def __init__(self, png: bytes, alt: str) -> None:
        self.png = png
        self.alt = alt

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image/png": self.png, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}


def draw_counts(ax: Axes, sample: Sample, config: Config) -> str:
    """Draw how many drivers have how many events, against the law; return the alt text."""
    counts = sample.counts.ravel()
    n, mean = len(counts), count_law(config).mean
    tail = 0.5 / max(n, 1)  # beyond it less than half a driver is expected
    first = min(int(counts.min(initial=2**62)), int(laws.poisson.ppf(tail, mean)))
    last = max(int(counts.max(initial=0)), int(laws.poisson.isf(tail, mean)))
    first = 0 if first <= BARS else first
    width = 1 + (last - first) // BARS  # counts that share a bar
    edges = np.arange(first, last + 1 + width, width)
    middle = (edges[:-1] + edges[1:] - 1) / 2
    observed, _ = np.histogram(counts, bins=edges - 0.5)
    chance = np.diff(laws.poisson.cdf(edges - 1, mean))
    expected = n * chance
    low, high = laws.binom.interval(0.95, max(n, 1), chance)
    ax.bar(middle, observed, 0.8 * width, color=LIGHT, edgecolor=DARK, label="observed")
    ax.errorbar(
        middle,
        expected,
        yerr=[np.maximum(expected - low, 0), np.maximum(high - expected, 0)],
        fmt="D",
        ms=4,
        color=SIGNAL,
        capsize=2,
        lw=1,
        label=f"Poisson({mean:g}), 95 % of samples",
    )
    unit = "drivers" if width == 1 else f"drivers in {width} counts"
    ax.set(xlabel="events of a driver in one batch", ylabel=unit)
    ax.set_xlim(edges[0] - 1, max(edges[-1], edges[0] + 5))
    ax.set_ylim(0, 1.4 * max(observed.max(), np.max(high), 1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(ncols=2, loc="upper right")
    none = int(np.sum(counts == 0))
    return (
        f"Bars: how many of {n} drivers have how many events; diamonds: what the Poisson law with "
        f"mean {mean:g} expects. {none} drivers have no event, {n * np.exp(-mean):.1f} are "
        f"expected; the mean is {counts.mean() if n else 0:.3f}."
    )


def draw_types(ax: Axes, sample: Sample, config: Config) -> str:
    """Draw the shares of the event types against their weights; return the alt text."""
    law = type_law(config)
    observed = sample.type_counts.sum(axis=0)
    total = int(observed.sum())
    weights = 100 * np.array(law.probabilities)
    at = np.arange(len(weights))
    shares = 100 * observed / max(total, 1)
    top = weights.max()
    ax.bar(at, weights, width=0.6, color=LIGHT, edgecolor=DARK, hatch="//", label="weight")
    if total:
        limits = 100 * stats.share_intervals(observed, 0.95, simultaneous=True)
        error = np.maximum(np.abs(limits.T - shares), 0)
        top = max(top, limits.max())
        label = "share, simultaneous 95 % interval"
        ax.errorbar(at, shares, yerr=error, fmt="o", color=SIGNAL, capsize=3, ms=4, label=label)
    if len(at) <= MANY_TYPES:
        crowded = len(at) > 6
        names = [tick_label(name, 12 if crowded else 24) for name in law.names]
        ax.set_xticks(at, names, rotation=90 if crowded else 0)
    else:
        ax.set(xlabel="event type, by its place in the configuration, from 0")
    ax.set(ylabel="share of the events [%]", ylim=(0, 1.4 * top))
    ax.legend(ncols=2, loc="upper right")
    if total == 0:
        return f"The weights of {len(at)} event types; there is no event whose type could be shown."
    far = np.argsort(-np.abs(shares - weights), kind="stable")[:TYPES_TOLD]
    told = range(len(at)) if len(at) <= TYPES_TOLD else far.tolist()
    listed = ", ".join(
        f"{printable(law.names[i])} {shares[i]:.1f} % (weight {weights[i]:.3g} %)" for i in told
    )
    which = "" if len(at) <= TYPES_TOLD else f", the {TYPES_TOLD} of {len(at)} farthest off"
    return f"Shares of the event types among {total} events against their weights{which}: {listed}."


def draw_over_interval(ax: Axes, sample: Sample) -> str:
    """Draw how many events lie in equal cells of the interval; return the alt text."""
    times = sample.times
    length = times.length_us / 60e6
    ax.set(xlabel="time since the start of the interval [min]", ylabel="events", xlim=(0, length))
    if not times.n:
        _nothing(ax)
        return f"No event, so there is nothing to show over the interval of {length:g} minutes."
    cells = cells_for(max(times.n // 50, 4), PLOT_CELLS)
    observed = times.histogram.reshape(cells, -1).sum(axis=1)
    edges = np.linspace(0, length, cells + 1)
    expected = times.n / cells
    low, high = laws.binom.interval(0.95, times.n, 1 / cells)
    ax.stairs(observed, edges, fill=True, color=LIGHT, label="observed")
    ax.stairs(observed, edges, color=DARK, lw=0.8)
    ax.axhline(expected, color=SIGNAL, lw=1.5, label="uniform law")
    ax.axhspan(low, high, color=SIGNAL, alpha=0.15, lw=0, label="95 % of cells")
    ax.set(ylabel=f"events in {60 * length / cells:.3g} s", ylim=(0, 1.4 * max(*observed, high)))
    ax.legend(ncols=3, loc="upper right")
    return (
        f"Events in {cells} equal cells of the interval of {length:g} minutes: between "
        f"{observed.min()} and {observed.max()} a cell; the uniform law expects {expected:.1f}, "
        f"and 95 % of cells between {low:.0f} and {high:.0f}."
    )


def _offset_ecdf(axes: Sequence[Axes], evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    whole, difference = axes
    times = evidence.tally.sample.times
    n, length = times.n, times.length_us / 60e6
    for ax in axes:
        ax.set(xlabel="time since the start [min]", xlim=(0, length))
    whole.set(ylabel="share of the events", ylim=(0, 1.02))
    difference.set(ylabel="empirical CDF - uniform CDF")
    test = evidence.test("event_times_uniform")
    if test.statistic is None or not n:
        for ax in axes:
            _nothing(ax)
        return "No event, so there is no empirical distribution of the times to show."
    band = float(laws.kstwo.isf(0.05, n))
    shown, offsets_us = times.shown.T
    # A step function, both ends of each step; where not all events are shown, straight between.
    at = np.concatenate([[0], np.repeat(offsets_us / 60e6, 2), [length]])
    cdf = np.concatenate([[0], np.column_stack([shown, shown + 1]).ravel() / n, [1]])
    whole.plot([0, length], [0, 1], color=SIGNAL, lw=1, ls="--", label="uniform law")
    whole.plot(at, cdf, color=DARK, lw=1.2, label="empirical CDF")
    whole.legend(loc="upper left")
    difference.axhspan(-band, band, color=LIGHT, lw=0, label="95 % band (Kolmogorov)")
    difference.plot(at, cdf - at / length, color=DARK, lw=1.2)
    difference.axhline(0, color=SIGNAL, lw=1, ls="--")
    difference.margins(y=0.35)
    difference.legend(loc="upper right")
    inside = "inside" if test.statistic <= band else "outside"
    return (
        f"Left: empirical distribution of {n} event times with the uniform law. Right: their "
        f"difference; the largest distance is {test.statistic:.4f}, {inside} the 95 % band of "
        f"±{band:.4f}."
    )


def _repeats(axes: Sequence[Axes], evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    seconds = evidence.generation_seconds
    process = np.array([repeat.process_seconds for repeat in evidence.repeats])
    peaks = np.array([repeat.peak_rss_bytes for repeat in evidence.repeats]) / MB
    number = np.arange(1, len(seconds) + 1)
    time, memory = axes
    time.plot(number, process, "s", ms=4, mfc="none", color=MIDDLE, label="whole process")
    time.plot(number, seconds, "o", ms=4, color=DARK, label="generation")
    time.axhline(float(np.median(seconds)), color=SIGNAL, lw=1, label="median of the generation")
    time.set(xlabel="cold run", ylabel="time [s]", ylim=(0, 1.6 * process.max()))
    time.legend()
    memory.plot(number, peaks, "D", ms=4, color=DARK, label="peak resident set")
    memory.set(xlabel="cold run", ylabel="memory [MB]", ylim=(0, 1.6 * peaks.max()))
    memory.legend()
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return (
        f"{len(seconds)} cold runs. Left: generation takes {seconds.min():.3f} to "
        f"{seconds.max():.3f} s, the whole process {process.min():.3f} to {process.max():.3f} s. "
        f"Right: the peak memory is {peaks.min():.1f} to {peaks.max():.1f} MB."
    )


def _replicates(axes: Sequence[Axes], evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    ax = axes[0]
    counts, mean = evidence.replicates, evidence.mean
    low, high = int(counts.min()), int(counts.max())
    width = max(1, round((high - low) / 40))
    edges = np.arange(low, high + 2 * width, width) - 0.5
    ax.hist(counts, bins=list(edges), color=LIGHT, ec=DARK, lw=0.6, label=f"{len(counts)} seeds")
    steps = np.unique(np.linspace(low - 1, high + 1, 400).round())
    steps = steps[steps >= 0]
    law = len(counts) * width * laws.poisson.pmf(steps, mean)
    mark = "D" if len(steps) < 20 else "-"
    ax.plot(steps, law, mark, ms=4, color=SIGNAL, lw=1.5, label=f"Poisson({mean:.6g})")
    ax.axvline(mean, color=DARK, ls="--", lw=1.2, label=f"configured mean {mean:.6g}")
    run = evidence.tally.lines
    ax.axvline(run, color="black", lw=1, label=f"this run {run}")
    ax.set(xlabel="events of a run", ylabel=f"seeds in {width} events" if width > 1 else "seeds")
    ax.set_ylim(top=1.5 * ax.get_ylim()[1])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    text = _stated_range(ax, counts, criteria)
    ax.legend(ncols=2, loc="upper center", framealpha=0.9, frameon=True, edgecolor="none")
    return (
        f"Histogram of the event counts of {len(counts)} seeds, {low} to {high}, mean "
        f"{counts.mean():.1f}, with the Poisson law of mean {mean:.6g}; this run has {run}.{text}"
    )


def _stated_range(ax: Axes, counts: npt.NDArray[np.int64], criteria: Sequence[Criterion]) -> str:
    """Show the range that a criterion states; beside the axes where it is very far away."""
    stated = next((c for c in criteria if c.kind == "event_count_range"), None)
    if stated is None or stated.low is None or stated.high is None:
        return ""
    low, high = stated.low, stated.high
    inside = int(np.sum((counts >= low) & (counts <= high)))
    least, most = int(counts.min()), int(counts.max())
    if max(high, most) - min(low, least) <= 12 * (most - least):
        middle = (low + high) / 2
        ax.axvspan(low, high, color=MIDDLE, alpha=0.25, lw=0, label="stated range")
        ax.axvline(middle, color=MIDDLE, ls=":", lw=1.8, label=f"stated {middle:.6g}")
    else:
        left = low < least
        ax.text(
            0.01 if left else 0.99,
            0.5,
            f"{'← ' if left else ''}stated {low:.6g} to {high:.6g}{'' if left else ' →'}",
            color=MIDDLE,
            ha="left" if left else "right",
            transform=ax.transAxes,
        )
    return f" {inside} of the seeds lie in the stated range {low:.6g} to {high:.6g}."


def _nothing(ax: Axes) -> None:
    ax.text(0.5, 0.5, "no event", ha="center", va="center", transform=ax.transAxes)
    ax.set_yticks([])


def printable(name: str) -> str:
    """Return a name with a dot for each character that cannot be printed."""
    return "".join(c if c.isprintable() else "·" for c in name)


def tick_label(name: str, room: int) -> str:
    """Return a name as a tick's label: short, no formula, and only characters that the font has."""
    known = _characters()
    text = "".join(c if ord(c) in known else "·" for c in printable(name))
    return (text if len(text) <= room else text[: room - 1] + "…").replace("$", r"\$")


@cache
def _characters() -> frozenset[int]:
    """Return the code points that the plots' font draws."""
    path = font_manager.findfont(_STYLE["font.family"])
    return frozenset(ft2font.FT2Font(path).get_charmap())


PLOTS: dict[str, Plot] = {
    "events_per_driver": Plot(
        "Events of each driver",
        lambda axes, evidence, _: draw_counts(axes[0], evidence.tally.sample, evidence.config),
    ),
    "event_types": Plot(
        "Event types against their weights",
        lambda axes, evidence, _: draw_types(axes[0], evidence.tally.sample, evidence.config),
    ),
    "events_over_interval": Plot(
        "Events over the interval",
        lambda axes, evidence, _: draw_over_interval(axes[0], evidence.tally.sample),
    ),
    "offset_ecdf": Plot("Distribution of the event times", _offset_ecdf, panels=2),
    "repeats": Plot("Run time and memory of the cold runs", _repeats, panels=2),
    "replicates": Plot("Event counts of many seeds", _replicates),
}


def draw(
    name: str,
    evidence: Evidence,
    criteria: Sequence[Criterion],
    size: tuple[float, float] = (8.0, 3.4),
) -> tuple[Figure, str]:
    """Return a figure of the given size [inches] and its alt text."""
    plot = PLOTS[name]

    def fill(figure: Figure) -> str:
        axes = np.atleast_1d(figure.subplots(1, plot.panels))
        return plot.draw(list(axes), evidence, criteria)

    return titled_figure(plot.title, size, fill)


def sentence(what: str, told: list[str]) -> str:
    """Return an alt text: what a plot shows, and what is to be seen in it."""
    return f"{what}: {'; '.join(told)}."


def titled_figure(
    title: str, size: tuple[float, float], fill: Callable[[Figure], str]
) -> tuple[Figure, str]:
    """Return a figure in the manner of all plots, and the alt text of what fills it."""
    with style():
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)  # it keeps its renderer, and that the sizes of texts
        alt = fill(figure)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure, alt


def render(figure: Figure) -> dict[str, bytes]:
    """Return a figure as PNG and SVG, the same bytes for the same drawing."""
    with style():
        # The layout is found once: each format would look for it again.
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)
        return {"png": _png(figure), "svg": _save(figure, "svg", {"Date": None})}


def render_png(figure: Figure) -> bytes:
    """Return a figure as PNG alone, the same bytes for the same drawing."""
    with style():
        return _png(figure)


def _png(figure: Figure) -> bytes:
    return _save(figure, "png", {"Software": None})


def _save(figure: Figure, form: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw in the manner of all plots."""
    with mpl.rc_context(_STYLE):
        yield
