"""The plots of a run of a batch: each draws the evidence and returns its alt text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats as laws

from fleetsim.experiment.criterion import MB, Criterion
from fleetsim.experiment.figures import (
    DARK,
    LIGHT,
    MIDDLE,
    SIGNAL,
    Plot,
    draw_counts,
    draw_over_interval,
    draw_types,
    no_event,
)
from fleetsim.kinds.baseline.evidence import Evidence

SIZE = (8.0, 3.4)  # inches


def _offset_ecdf(figure: Figure, evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    axes = whole, difference = figure.subplots(1, 2)
    times = evidence.tally.sample.times
    n, length = times.n, times.length_us / 60e6
    for ax in axes:
        ax.set(xlabel="time since the start [min]", xlim=(0, length))
    whole.set(ylabel="share of the events", ylim=(0, 1.02))
    difference.set(ylabel="empirical CDF - uniform CDF")
    test = evidence.test("event_times_uniform")
    if test.statistic is None or not n:
        for ax in axes:
            no_event(ax)
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


def _repeats(figure: Figure, evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    axes = time, memory = figure.subplots(1, 2)
    seconds = evidence.generation_seconds
    process = np.array([repeat.process_seconds for repeat in evidence.repeats])
    peaks = np.array([repeat.peak_rss_bytes for repeat in evidence.repeats]) / MB
    number = np.arange(1, len(seconds) + 1)
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


def _replicates(figure: Figure, evidence: Evidence, criteria: Sequence[Criterion]) -> str:
    ax = figure.subplots()
    counts, mean = evidence.replicates, evidence.drawn
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
    tally = evidence.tally
    run = tally.lines if tally.explained is None else int(counts[0])  # of records, not lines
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


PLOTS: dict[str, Plot] = {
    "events_per_driver": Plot(
        "Events of each driver",
        SIZE,
        lambda figure, evidence, _: draw_counts(
            figure.subplots(), evidence.tally.sample, evidence.config
        ),
    ),
    "event_types": Plot(
        "Event types against their weights",
        SIZE,
        lambda figure, evidence, _: draw_types(
            figure.subplots(), evidence.tally.sample, evidence.config
        ),
    ),
    "events_over_interval": Plot(
        "Events over the interval",
        SIZE,
        lambda figure, evidence, _: draw_over_interval(figure.subplots(), evidence.tally.sample),
    ),
    "offset_ecdf": Plot("Distribution of the event times", SIZE, _offset_ecdf),
    "repeats": Plot("Run time and memory of the cold runs", SIZE, _repeats),
    "replicates": Plot("Event counts of many seeds", SIZE, _replicates),
}
