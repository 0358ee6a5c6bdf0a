"""Plots of a sweep; `SWEEP_PLOTS` is the one place where a plot is entered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fleetsim.base.tables import number, with_unit
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.figures import DARK, LIGHT, MIDDLE, SIGNAL, titled_figure
from fleetsim.sweep.analysis import QUANTITIES, Cell, SweepRecord, fit_quantity
from fleetsim.sweep.results import SweepResults

LINES = 5  # that a reader can tell apart
LABELLED = 24  # points whose names are written at an axis
ANNOTATED = 12  # columns of a heat map in which a number has room
#: From light to dark, so that it reads in grey too.
SHADES = LinearSegmentedColormap.from_list("fleetsim", ["#eef3f8", LIGHT, MIDDLE, DARK])
MARKS = "osD^v"
VERDICT_SHADES = {
    Verdict.PASS: LIGHT,
    Verdict.INCONCLUSIVE: "#e8d9a8",
    Verdict.FAIL: SIGNAL,
}
COSTS = ("generation_seconds", "peak_rss", "batch_size")
LAWS = ("generation_seconds", "peak_rss")


@dataclass(frozen=True)
class SweepPlot:
    """One plot: its title, its panels, how it is drawn, and whether a sweep has what it shows."""

    title: str
    draw: Callable[[Sequence[Axes], SweepResults, SweepRecord], str]
    fits: Callable[[SweepRecord], bool]
    panels: int = 1
    height: float = 3.4


def _costs(axes: Sequence[Axes], results: SweepResults, record: SweepRecord) -> str:
    name = record.names[0]
    told = []
    for ax, quantity in zip(axes, COSTS, strict=True):
        rows = record.costs[quantity]
        lines = _lines(rows, name)
        shown = [lines[i] for i in _spaced(len(lines), LINES)]
        for i, (label, line) in enumerate(shown):
            x = [float(row.setting[name]) for row in line]
            y = np.array([row.value for row in line])
            low, high = np.array([row.interval or (row.value, row.value) for row in line]).T
            colour = SHADES(0.5 + 0.5 * i / max(len(shown) - 1, 1))
            ax.errorbar(
                x,
                y,
                yerr=[y - low, high - y],
                fmt=f"{MARKS[i]}-",
                color=colour,
                capsize=2,
                ms=4,
                lw=1.2,
                label=label,
            )
        _scale(ax.set_xscale, [row.setting[name] for row in rows])
        _scale(ax.set_yscale, [row.value for row in rows])
        _from_zero(ax)
        words = QUANTITIES[quantity]
        ax.set(xlabel=name, ylabel=f"{words.title} [{words.unit}]")
        told.append(
            f"{words.title} from {number(min(row.value for row in rows), 3)} to "
            f"{with_unit(max(row.value for row in rows), words.unit, 3)}"
        )
    if len(record.names) > 1:
        title = f"{', '.join(record.names[1:])}:"
        handles, labels = axes[0].get_legend_handles_labels()
        figure = axes[0].get_figure()
        if figure is not None:
            figure.legend(
                handles,
                labels,
                title=title,
                ncols=LINES,
                loc="outside lower center",
                fontsize=8,
                title_fontsize=8,
            )
    return f"Over {name}: {'; '.join(told)}. Bars are 95 % intervals over the seeds."


def _lines(rows: Sequence[Cell], name: str) -> list[tuple[str, list[Cell]]]:
    """Return the cells as lines along a parameter, one for each setting of the others."""
    lines: dict[str, list[Cell]] = {}
    for row in rows:
        label = ", ".join(str(v) for key, v in row.setting.items() if key != name)
        lines.setdefault(label, []).append(row)
    return [
        (label, sorted(line, key=lambda row: row.setting[name])) for label, line in lines.items()
    ]


def _heat(axes: Sequence[Axes], results: SweepResults, record: SweepRecord) -> str:
    first, second = record.names[:2]
    seconds = {
        _place(r.setting, first, second): r.value for r in record.costs["generation_seconds"]
    }
    failing: dict[tuple[Any, Any], list[int]] = {}
    for run in results.completed:
        place = _place(run.point.setting, first, second)
        failing.setdefault(place, []).append(run.verdicts()[Verdict.FAIL])
    fails = {place: float(np.mean(values)) for place, values in failing.items()}
    _map(axes[0], seconds, first, second, "generation time [s]", log=True)
    _map(axes[1], fails, first, second, "criteria that fail, mean of the runs")
    worst = max(seconds, key=lambda place: seconds[place])
    return (
        f"Two maps over {first} and {second}. Left: generation time, longest with "
        f"{number(seconds[worst], 3)} s at {worst[0]} and {worst[1]}. Right: how many criteria "
        f"fail, from {number(min(fails.values()), 3)} to {number(max(fails.values()), 3)}."
    )


def _place(setting: Mapping[str, Any], first: str, second: str) -> tuple[Any, Any]:
    return setting[first], setting[second]


def _map(
    ax: Axes,
    values: Mapping[tuple[Any, Any], float],
    first: str,
    second: str,
    title: str,
    *,
    log: bool = False,
) -> None:
    """Draw a heat map with the number in each field, where there is room."""
    columns, rows = (sorted({place[i] for place in values}) for i in (0, 1))
    table = np.array([[values.get((c, r), np.nan) for c in columns] for r in rows])
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    spread = high > low
    norm = LogNorm(low, high) if log and spread else Normalize(low, high if spread else low + 1)
    ax.imshow(table, cmap=SHADES, norm=norm, origin="lower", aspect="auto")
    if len(columns) <= ANNOTATED:
        for i, j in np.ndindex(table.shape):
            if np.isfinite(table[i, j]):
                colour = "white" if float(norm(table[i, j])) > 0.55 else "black"
                text = number(float(table[i, j]), 2)
                ax.text(j, i, text, ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(len(columns)), [_short(c) for c in columns], rotation=45, ha="right")
    ax.set_yticks(range(len(rows)), [_short(r) for r in rows])
    ax.set_xlabel(first)
    ax.set_ylabel(second)
    ax.set_title(title, fontsize=9.5)
    for side in ax.spines.values():
        side.set_visible(False)


def _verdicts(axes: Sequence[Axes], results: SweepResults, record: SweepRecord) -> str:
    ax = axes[0]
    points = [
        (setting, [r for r in runs if r.completed]) for setting, runs, _ in results.settings()
    ]
    points = [(setting, runs) for setting, runs in points if runs]
    names = [row.id for row in record.criteria]
    for i in range(len(names)):
        for j, (_, runs) in enumerate(points):
            found = [run.record.criteria[i].verdict for run in runs]
            bottom = i - 0.45
            for verdict, colour in VERDICT_SHADES.items():
                height = 0.9 * found.count(verdict) / len(found)
                hatch = "///" if verdict == Verdict.FAIL else None
                ax.bar(
                    j, height, 0.94, bottom, color=colour, hatch=hatch, edgecolor="white", lw=0.3
                )
                bottom += height
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(-0.5, len(points) - 0.5)
    if len(points) <= LABELLED:
        labels = [", ".join(_short(v) for v in setting.values()) for setting, _ in points]
        ax.set_xticks(range(len(points)), labels, rotation=90, fontsize=8)
    else:
        ax.set_xticks([])
    ax.set_xlabel("points: " + (", ".join(record.names) or "one, with several seeds"))
    patches = [
        Patch(
            facecolor=colour,
            hatch="///" if verdict == Verdict.FAIL else None,
            edgecolor="white",
            label=verdict,
        )
        for verdict, colour in VERDICT_SHADES.items()
    ]
    ax.legend(handles=patches, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    told = [
        f"{row.id} fails in {row.counts[Verdict.FAIL]} of {sum(row.counts.values())}"
        for row in record.criteria
        if row.counts[Verdict.FAIL]
    ]
    listed = "; ".join(told) or "no criterion fails anywhere"
    return f"Verdict of each criterion at each of {len(points)} points: {listed}."


def _laws(axes: Sequence[Axes], results: SweepResults, record: SweepRecord) -> str:
    told = []
    for ax, name in zip(axes, LAWS, strict=True):
        quantity = QUANTITIES[name]
        rows = record.costs[name]
        n = np.array([row.events for row in rows])
        y = np.array([row.value for row in rows])
        low, high = np.array([row.interval or (row.value, row.value) for row in rows]).T
        ax.errorbar(
            n, y, yerr=[y - low, high - y], fmt="o", color=DARK, ms=4, capsize=2, lw=1, zorder=3
        )
        ax.set(xlabel="expected events", ylabel=f"{quantity.title} [{quantity.unit}]")
        _scale(ax.set_xscale, n)
        _scale(ax.set_yscale, y)
        _from_zero(ax)
        law = next(row for row in record.laws if row.quantity == name)
        if law.exponent is None or law.interval is None:
            ax.set_title(f"no law for {quantity.title}", fontsize=9.5)
            told.append(f"{quantity.title}: {law.note}")
            continue
        curve = fit_quantity(results, name)
        at = np.geomspace(n.min(), n.max(), 200)
        ax.plot(at, curve.at(at), color=SIGNAL, lw=1.2)
        ax.fill_between(at, *curve.band(at), color=SIGNAL, alpha=0.2, lw=0)
        exponent = f"{law.exponent:.3f} ({law.interval[0]:.3f} to {law.interval[1]:.3f})"
        ax.set_title(f"exponent {exponent}", fontsize=9.5)
        told.append(f"{quantity.title} grows with exponent {exponent} beyond its start-up")
    return f"Points and fitted laws over the expected events. {'; '.join(told)}."


def _spread(axes: Sequence[Axes], results: SweepResults, record: SweepRecord) -> str:
    ax = axes[0]
    rows = [row for row in record.spread if row.ratio is not None and row.interval is not None]
    at = np.arange(len(rows))
    ratio = np.array([row.ratio for row in rows], float)
    limits: npt.NDArray[np.float64] = np.array(
        [row.interval for row in rows if row.interval is not None], float
    )
    low = np.maximum(limits[:, 0], 1e-3)
    ax.axhline(1, color=SIGNAL, lw=1, label="Poisson law")
    ax.errorbar(
        at,
        np.maximum(ratio, 1e-3),
        yerr=[np.maximum(ratio - low, 0), np.maximum(limits[:, 1] - ratio, 0)],
        fmt="o",
        color=DARK,
        ms=4,
        capsize=2,
        lw=1,
        label="variance/mean over the seeds, 95 % interval",
    )
    ax.set_yscale("log")
    if len(rows) <= LABELLED:
        labels = [", ".join(_short(v) for v in row.setting.values()) for row in rows]
        ax.set_xticks(at, labels, rotation=90, fontsize=8)
    else:
        ax.set_xticks([])
    ax.set(xlabel=f"points: {', '.join(record.names)}", ylabel="variance/mean")
    ax.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
    outside = int(np.sum((limits[:, 0] > 1) | (limits[:, 1] < 1)))
    return (
        f"Variance over mean of the event counts at {len(rows)} points with "
        f"{len(rows[0].counts)} seeds each; {outside} of the 95 % intervals leave out 1."
    )


def _scale(set_scale: Callable[[str], object], values: Sequence[float] | Any) -> None:
    """Take a logarithmic scale where values span more than a factor of 8, and none is 0."""
    low, high = float(min(values)), float(max(values))
    if low > 0 and high / low > 8:
        set_scale("log")


def _from_zero(ax: Axes) -> None:
    """Let an axis of linear scale begin at 0, so that small differences look small."""
    if ax.get_yscale() == "linear":
        ax.set_ylim(0, 1.1 * ax.get_ylim()[1])


def _spaced(n: int, most: int) -> list[int]:
    """Return at most so many numbers below n, evenly spaced, both ends among them."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most)).tolist()})


def _short(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value, 4)
    return str(value)


def _has_grid(record: SweepRecord) -> bool:
    rows = record.costs["generation_seconds"]
    return bool(record.names and rows) and isinstance(rows[0].setting[record.names[0]], int | float)


def _has_map(record: SweepRecord) -> bool:
    if len(record.names) < 2 or not record.costs["generation_seconds"]:
        return False
    rows = record.costs["generation_seconds"]
    return all(len({str(row.setting[name]) for row in rows}) > 1 for name in record.names[:2])


SWEEP_PLOTS: Mapping[str, SweepPlot] = {
    "costs": SweepPlot("Costs over the grid", _costs, _has_grid, 3),
    "heat": SweepPlot("Two parameters at a time", _heat, _has_map, 2),
    "verdicts": SweepPlot(
        "Which criteria hold where", _verdicts, lambda r: r.completed > 0, height=4.4
    ),
    "laws": SweepPlot(
        "How costs grow with the events", _laws, lambda r: len(r.costs["peak_rss"]) > 1, 2
    ),
    "spread": SweepPlot(
        "Spread of the event counts over the seeds",
        _spread,
        lambda r: any(row.ratio is not None for row in r.spread),
    ),
}


def offered_plots(record: SweepRecord) -> list[str]:
    """Return the plots for which a sweep has something to show."""
    return [name for name, plot in SWEEP_PLOTS.items() if plot.fits(record)]


def draw_sweep(name: str, results: SweepResults, record: SweepRecord) -> tuple[Figure, str]:
    """Return a figure and its alt text."""
    plot = SWEEP_PLOTS[name]

    def fill(figure: Figure) -> str:
        axes = np.atleast_1d(figure.subplots(1, plot.panels))
        return plot.draw(list(axes), results, record)

    return titled_figure(plot.title, (8.0, plot.height), fill)
