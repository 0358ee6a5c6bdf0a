"""Plots of a run: each draws the evidence onto given axes and returns its alt text.

`PLOTS` is the one place where a plot is entered. Colours differ in lightness, and every series has
its own mark or hatch, so that the plots read in grey.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats as laws

from fleetsim import stats
from fleetsim.criteria import MB, Criterion
from fleetsim.evidence import Evidence
from fleetsim.model import count_law, type_law

__all__ = ["PLOTS", "Plot", "draw", "render"]

DARK, MIDDLE, LIGHT, SIGNAL = "#1b3a57", "#5b8db8", "#c9d9e8", "#b5491f"
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


def _events_per_driver(
    axes: Sequence[Axes], evidence: Evidence, criteria: Sequence[Criterion]
) -> str:
    ax = axes[0]
    counts = evidence.tally.counts.ravel()
    mean = count_law(evidence.config).mean
    last = max(int(counts.max(initial=0)), int(laws.poisson.isf(0.5 / max(len(counts), 1), mean)))
    k = np.arange(last + 1)
    observed = np.bincount(counts, minlength=last + 1)
    expected = len(counts) * laws.poisson.pmf(k, mean)
    low, high = laws.binom.interval(0.95, len(counts), laws.poisson.pmf(k, mean))
    ax.bar(k, observed, width=0.8, color=LIGHT, edgecolor=DARK, label="observed")
    ax.errorbar(
        k,
        expected,
        yerr=[np.maximum(expected - low, 0), np.maximum(high - expected, 0)],
        fmt="D",
        ms=4,
        color=SIGNAL,
        capsize=2,
        lw=1,
        label=f"Poisson({mean:g}), 95 % of samples",
    )
    ax.set(xlabel="events of a driver in one batch", ylabel="drivers")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    none = int(observed[0])
    return (
        f"Bars: how many of {len(counts)} drivers have 0, 1, 2 ... events; diamonds: what the "
        f"Poisson law with mean {mean:g} expects. {none} drivers have no event, "
        f"{expected[0]:.1f} are expected; the mean is {counts.mean() if len(counts) else 0:.3f}."
    )


def _event_types(axes: Sequence[Axes], evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    ax = axes[0]
    law = type_law(evidence.config)
    observed = evidence.tally.type_counts
    total = int(observed.sum())
    weights = 100 * np.array(law.probabilities)
    at = np.arange(len(weights))
    shares = 100 * observed / max(total, 1)
    ax.bar(at, weights, width=0.6, color=LIGHT, edgecolor=DARK, hatch="//", label="weight")
    if total:
        limits = 100 * stats.share_intervals(observed, 0.95, simultaneous=True)
        error = np.abs(limits.T - shares)
        label = "share, simultaneous 95 % interval"
        ax.errorbar(at, shares, yerr=error, fmt="o", color=SIGNAL, capsize=4, ms=5, label=label)
    ax.set_xticks(at, [_short(name) for name in law.names])
    ax.set(ylabel="share of the events [%]", ylim=(0, 1.35 * max(weights.max(), shares.max())))
    ax.legend(loc="upper right")
    listed = ", ".join(
        f"{_short(name)} {share:.1f} % (weight {weight:g} %)"
        for name, share, weight in zip(law.names, shares, weights, strict=True)
    )
    return f"Shares of the event types among {total} events against their weights: {listed}."


def _events_over_interval(
    axes: Sequence[Axes], evidence: Evidence, criteria: Sequence[Criterion]
) -> str:
    ax = axes[0]
    minutes = evidence.tally.offsets_us / 60e6
    length = evidence.config.interval_us / 60e6
    cells = int(np.clip(len(minutes) // 50, 4, 60))
    observed, edges = np.histogram(minutes, bins=cells, range=(0, length))
    expected = len(minutes) / cells
    low, high = laws.binom.interval(0.95, max(len(minutes), 1), 1 / cells)
    ax.stairs(observed, edges, fill=True, color=LIGHT, label="observed")
    ax.stairs(observed, edges, color=DARK, lw=0.8)
    ax.axhline(expected, color=SIGNAL, lw=1.5, label="uniform law")
    ax.axhspan(low, high, color=SIGNAL, alpha=0.15, lw=0, label="95 % of cells")
    ax.set(
        xlabel="time since the start of the interval [min]",
        ylabel=f"events in {60 * length / cells:.3g} s",
        xlim=(0, length),
        ylim=(0, 1.4 * max(observed.max(initial=1), high)),
    )
    ax.legend(ncols=3, loc="upper right")
    return (
        f"Events in {cells} equal cells of the interval of {length:g} minutes: between "
        f"{observed.min()} and {observed.max()} a cell; the uniform law expects {expected:.1f}, "
        f"and 95 % of cells between {low:.0f} and {high:.0f}."
    )


def _offset_ecdf(axes: Sequence[Axes], evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    whole, difference = axes
    length = evidence.config.interval_us / 60e6
    offsets = np.sort(evidence.tally.offsets_us) / 60e6
    n = len(offsets)
    for ax in axes:
        ax.set(xlabel="time since the start of the interval [min]", xlim=(0, length))
    whole.set(ylabel="share of the events", ylim=(0, 1))
    difference.set(ylabel="empirical CDF - uniform CDF")
    test = evidence.test("event_times_uniform")
    if test.statistic is None or not n:
        return "No event, so there is no empirical distribution of the times to show."
    band = float(laws.kstwo.isf(0.05, n))
    shown = np.unique(np.linspace(0, n - 1, min(n, 1000)).astype(int))
    cdf = (shown + 1) / n
    whole.plot([0, length], [0, 1], color=SIGNAL, lw=1, ls="--", label="uniform law")
    whole.plot(offsets[shown], cdf, color=DARK, lw=1.2, label="empirical CDF")
    whole.legend(loc="upper left")
    difference.axhspan(-band, band, color=LIGHT, lw=0, label="95 % band (Kolmogorov)")
    difference.plot(offsets[shown], cdf - offsets[shown] / length, color=DARK, lw=1.2)
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
    ax.hist(counts, bins=list(edges), color=LIGHT, ec=DARK, label=f"{len(counts)} seeds")
    steps = np.arange(low, high + 1)
    law = len(counts) * width * laws.poisson.pmf(steps, mean)
    ax.plot(steps, law, color=SIGNAL, lw=1.5, label=f"Poisson({mean:g})")
    ax.axvline(mean, color=DARK, ls="--", lw=1.2, label=f"configured mean {mean:g}")
    stated = _stated_count(criteria)
    text = ""
    if stated:
        middle = sum(stated) / 2
        ax.axvspan(*stated, color=MIDDLE, alpha=0.25, lw=0, label="stated range")
        ax.axvline(middle, color=MIDDLE, ls=":", lw=1.8, label=f"stated {middle:g}")
        inside = int(np.sum((counts >= stated[0]) & (counts <= stated[1])))
        text = f" {inside} of them lie in the stated range {stated[0]:g} to {stated[1]:g}."
    ax.axvline(evidence.tally.lines, color="black", lw=1, label=f"this run {evidence.tally.lines}")
    ax.set(xlabel="events of a run", ylabel=f"seeds in {width} events")
    ax.set_ylim(top=1.45 * ax.get_ylim()[1])
    ax.legend(ncols=2, loc="upper center", frameon=True, framealpha=0.9, edgecolor="none")
    return (
        f"Histogram of the event counts of {len(counts)} seeds, {low} to {high}, mean "
        f"{counts.mean():.1f}, with the Poisson law of mean {mean:g}.{text}"
    )


def _stated_count(criteria: Sequence[Criterion]) -> tuple[float, float] | None:
    for criterion in criteria:
        if criterion.kind == "event_count_range":
            return criterion.low or 0.0, criterion.high or 0.0
    return None


def _short(name: str) -> str:
    printable = "".join(c if c.isprintable() else "·" for c in name).replace("$", r"\$")
    return printable if len(printable) <= 24 else printable[:23] + "…"


PLOTS: dict[str, Plot] = {
    "events_per_driver": Plot("Events of each driver", _events_per_driver),
    "event_types": Plot("Event types against their weights", _event_types),
    "events_over_interval": Plot("Events over the interval", _events_over_interval),
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
    with _style():
        figure = Figure(figsize=size, layout="constrained")
        axes = np.atleast_1d(figure.subplots(1, plot.panels))
        alt = plot.draw(list(axes), evidence, criteria)
        figure.suptitle(plot.title, x=0.01, ha="left", fontsize=11)
    return figure, alt


def render(figure: Figure) -> dict[str, bytes]:
    """Return a figure as SVG and PNG, the same bytes for the same drawing."""
    with _style():
        return {
            "svg": _save(figure, "svg", {"Date": None}),
            "png": _save(figure, "png", {"Software": None}),
        }


def _save(figure: Figure, form: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE):
        yield
