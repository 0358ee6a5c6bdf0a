"""Plots of a calibration: each draws onto a figure and returns its alt text.

`PLOTS` is the one place where such a plot is entered. They take a whole figure, since
the number of their panels is that of the tests.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy import stats as laws

from fleetsim.base.tables import counted
from fleetsim.experiment.figures import DARK, LIGHT, MIDDLE, SIGNAL, Plot
from fleetsim.kinds.calibration.trials import BUDGET, Calibration, PowerRow, PValues, binomial_band
from fleetsim.stats.battery import Entry, EntryKind, entries
from fleetsim.stats.controls import CONTROLS

COLUMNS = 5  # panels side by side
RANKS = 40  # of the lower half of the p-values, at which a distribution is held to its band


def _tested(found: PValues, *, continuous_only: bool = False) -> list[Entry]:
    """Return the tests that speak against the generator and could be made."""
    return [
        entry
        for entry in entries(found.batches)
        if entry.kind is EntryKind.EVIDENCE
        and (entry.continuous or not continuous_only)
        and len(found.of(entry.name))
    ]


def _histograms(figure: Figure, calibration: Calibration, criteria: object) -> str:
    passes = calibration.passes
    tests = _tested(max(passes, key=lambda found: found.batches))
    rows = max(1, math.ceil(len(tests) / COLUMNS))
    grid = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    seeds = len(passes[0].seeds)
    cells = 20 if seeds >= 2000 else 10
    looks = cells * sum(len(_tested(found)) for found in passes)
    low, high = _cell_band(seeds, cells, looks)
    outside = 0
    for ax, entry in zip(grid, tests, strict=False):
        if entry.continuous:
            ax.axhspan(low, high, color=LIGHT, lw=0)
        ax.set_title(entry.name + ("" if entry.continuous else ", discrete"), fontsize=7)
        for found, colour, dash in zip(passes, (DARK, SIGNAL), ("-", "--"), strict=False):
            if entry in entries(found.batches) and len(p := found.of(entry.name)):
                counts, edges = np.histogram(p, cells, (0, 1))
                share = counts * cells / len(p)
                ax.stairs(share, edges, baseline=None, color=colour, ls=dash, lw=1)
                least, most = _cell_band(len(p), cells, looks)
                outside += entry.continuous and bool(np.any((share < least) | (share > most)))
    for ax in grid[len(tests) :]:
        ax.set_axis_off()
    _label_panels(list(grid), len(tests), top=max(1.5, 1.15 * high))
    for found, colour, dash in zip(passes, (DARK, SIGNAL), ("-", "--"), strict=False):
        grid[0].plot([], [], color=colour, ls=dash, lw=1, label=counted(found.batches))
    grid[0].bar([0], [0], color=LIGHT, label="band of all cells together")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    which = " and ".join(counted(found.batches) for found in passes)
    return (
        f"Histograms of the p-values of {len(tests)} tests on {seeds} fault-free seeds, in "
        f"{which}, each in {cells} cells; level 1 is uniform, and all cells together should lie "
        f"between {low:.2f} and {high:.2f}. {outside} histograms with continuous p-values leave "
        "that band."
    )


def _cell_band(n: int, cells: int, looks: int) -> tuple[float, float]:
    """Return the densities between which a cell of n p-values should lie, all looks together."""
    low, high = binomial_band(n, 1 / cells, 1 - BUDGET / looks)
    return low * cells / n, high * cells / n


def _label_panels(grid: list[Axes], used: int, top: float) -> None:
    """Label the outer panels; those above an empty place show their own axis."""
    for number, ax in enumerate(grid[:used]):
        ax.set(xlim=(0, 1), ylim=(0, top), xticks=[0, 0.5, 1])
        ax.tick_params(labelsize=7, labelbottom=number + COLUMNS >= used)
        if number + COLUMNS >= used:
            ax.set_xlabel("p-value", fontsize=7)
        if number % COLUMNS == 0:
            ax.set_ylabel("density", fontsize=7)


def _quantiles(figure: Figure, calibration: Calibration, criteria: object) -> str:
    passes = calibration.passes
    axes = figure.subplots(1, len(passes), sharey=True, squeeze=False).ravel()
    looks = RANKS * sum(len(_tested(found, continuous_only=True)) for found in passes)
    level = BUDGET / max(looks, 1)
    left = []
    for ax, found in zip(axes, passes, strict=True):
        tests = _tested(found, continuous_only=True)
        n = len(found.seeds)
        ranks = _ranks(n)
        expected = ranks / (n + 1)
        low, high = (laws.beta.ppf(q, ranks, n + 1 - ranks) for q in (level / 2, 1 - level / 2))
        ax.fill_between(
            expected,
            low / expected,
            high / expected,
            color=LIGHT,
            lw=0,
            label="band of all together",
        )
        ax.axhline(1, color=SIGNAL, lw=1, ls="--")
        inside = "each test"
        for entry in tests:
            p = np.sort(found.of(entry.name))
            own = _ranks(len(p))
            place = own / (len(p) + 1)
            ends = [laws.beta.ppf(q, own, len(p) + 1 - own) for q in (level / 2, 1 - level / 2)]
            shown = p[own - 1]
            if np.all((ends[0] <= shown) & (shown <= ends[1])):
                ax.plot(place, shown / place, color=DARK, lw=0.6, alpha=0.6, label=inside)
                inside = "_"  # one entry in the legend for all
            else:
                left.append(f"{entry.name} in {counted(found.batches)}")
                ax.plot(place, shown / place, color=SIGNAL, lw=1.6, label=entry.name)
        ax.set(xscale="log", yscale="log", title=counted(found.batches), xlabel="expected p-value")
        ax.set(xlim=(expected[0], 0.5), ylim=(0.1, 10))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.legend(loc="upper right", fontsize=8)
    axes[0].set_ylabel("observed / expected p-value")
    which = " and ".join(counted(found.batches) for found in passes)
    said = f"{', '.join(left)} leave it" if left else "none leaves it"
    return (
        f"The smaller half of the p-values of {len(passes[0].seeds)} fault-free seeds over the "
        f"quantiles of the uniform law, on logarithmic axes, one line for each test with "
        f"continuous p-values, in {which}; the ratio should be 1. The band "
        f"holds for all lines and ranks together with probability {1 - BUDGET:g}: {said}."
    )


def _ranks(n: int) -> npt.NDArray[np.int64]:
    """Return ranks of the lower half of n p-values, evenly on a logarithmic scale."""
    return np.unique(np.geomspace(1, max(1, n // 2), RANKS).round().astype(np.int64))


def _power(figure: Figure, calibration: Calibration, criteria: object) -> str:
    ax = figure.subplots()
    rows = _shown_power(calibration)
    at = np.arange(len(rows))
    share = np.array([row.share for row in rows])
    limits = np.array([row.interval for row in rows]).reshape(-1, 2)
    error = np.maximum(np.abs(limits.T - share), 0)
    ax.errorbar(
        share,
        at,
        xerr=error,
        fmt="o",
        ms=4,
        color=DARK,
        capsize=2,
        lw=1,
        label="measured, 95 % interval",
    )
    ax.plot(
        [row.share_holm for row in rows],
        at,
        "s",
        ms=6,
        mfc="none",
        color=MIDDLE,
        label="after Holm's adjustment",
    )
    known = [(row.computed, y) for row, y in zip(rows, at, strict=True) if row.computed is not None]
    if known:
        ax.plot(*zip(*known, strict=True), "x", ms=6, mew=1.6, color=SIGNAL, label="computed")
    ax.set_yticks(at, [_power_label(row, rows) for row in rows], fontsize=7)
    ax.set(
        xlim=(-0.02, 1.02),
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="share of the seeds in which p < level",
    )
    ax.grid(axis="y", color=LIGHT, lw=0.5)
    ax.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    pairs = [(row, row.computed) for row in rows if row.computed is not None]
    if not pairs:
        return f"Power of the tests against {len(rows)} controls; none has a computed power."
    far, computed = max(pairs, key=lambda pair: abs(pair[0].share - pair[1]))
    return (
        f"How often {len(rows)} pairs of a control and a test end with p below the level, in "
        f"{far.seeds} seeds each; {len(pairs)} of them have a computed power. The farthest apart "
        f"are {far.control} by {far.test}: {far.share:.3f} measured, {computed:.3f} computed."
    )


def _shown_power(calibration: Calibration) -> list[PowerRow]:
    """Return each control by its strongest test, and what else has a computed power."""
    strongest = {control.name: control.caught_by[0] for control in CONTROLS}
    return [
        row
        for row in calibration.controls
        if row.computed is not None or row.test == strongest[row.control]
    ]


def _power_label(row: PowerRow, rows: list[PowerRow]) -> str:
    alike = [other for other in rows if other.control == row.control]
    label = row.control
    if len({other.test for other in alike}) > 1:
        label += f", {row.test}"
    if len({other.batches for other in alike}) > 1:
        label += f", {counted(row.batches)}"
    return label


PLOTS: dict[str, Plot] = {
    "p_value_histograms": Plot("p-values of fault-free data", (9.0, 10.0), _histograms),
    "p_value_quantiles": Plot(
        "p-values of fault-free data against the uniform law", (8.0, 4.0), _quantiles
    ),
    "control_power": Plot("Power against the controls", (9.0, 13.0), _power),
}
