"""Plots of a run on a pipeline: each draws onto a figure and returns its alt text.

`PLOTS` is the one place where such a plot is entered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fleetsim.experiment.criterion import MB
from fleetsim.experiment.figures import DARK, LIGHT, MIDDLE, SIGNAL, Plot, sentence
from fleetsim.kinds.pipeline.evidence import QUANTITIES, Cost, Evidence
from fleetsim.kinds.pipeline.words import expects_of, in_order, wrong_cells
from fleetsim.reconcile.result import OUTCOMES
from fleetsim.stats.growth import PowerLaw

#: Colour and hatch of each part of the balance.
_PARTS = {
    "accepted": (MIDDLE, ""),
    "deduplicated": (LIGHT, "//"),
    "rejected": (DARK, ""),
    "unaccounted": (SIGNAL, "xx"),
}
_COSTS = {
    "seconds": ("time [s]", 1.0),
    "cpu_seconds": ("CPU [s]", 1.0),
    "peak_bytes": ("memory peak [MB]", MB),
}
_POINTS = 50  # of a curve


def _flow(figure: Figure, evidence: Evidence, criteria: object) -> str:
    """Draw where the delivered lines went, and the same for each kind as shares."""
    found = evidence.found
    whole, by_kind = figure.subplots(1, 2, width_ratios=(1, 2))
    left, told = 0, []
    for part, (colour, hatch) in _PARTS.items():
        lines = getattr(found.balance, part)
        whole.bar([0], [lines], bottom=[left], color=colour, hatch=hatch, edgecolor="white")
        if lines:
            told.append(f"{lines} {part}")
        left += lines
    whole.set(xlabel="", ylabel="delivered lines", xticks=[0], xticklabels=[f"{left} lines"])
    whole.yaxis.set_major_locator(MaxNLocator(integer=True))
    whole.set_xlim(-0.8, 0.8)
    kinds = in_order(found, expects_of(evidence.config))[::-1]
    parts = _shares(evidence, kinds)
    start = np.zeros(len(kinds))
    for part, (colour, hatch) in _PARTS.items():
        by_kind.barh(
            kinds, parts[part], left=start, color=colour, hatch=hatch, edgecolor="white", label=part
        )
        start += parts[part]
    by_kind.set(xlabel="share of the lines of a kind [%]", xlim=(0, 100))
    by_kind.tick_params(axis="y", labelsize=8)
    figure.legend(*by_kind.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return sentence(f"Left: where {left} delivered lines went; right: the same by kind", told)


def _shares(evidence: Evidence, kinds: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the shares of each kind's lines by part of the balance [%]."""
    found = evidence.found
    parts = {part: np.zeros(len(kinds)) for part in _PARTS}
    for row, kind in enumerate(kinds):
        counts = found.matrix[kind]
        total = sum(counts.values())
        for outcome, count in counts.items():
            part = outcome if outcome in ("rejected", "unaccounted") else "accepted"
            if kind == "duplicate" and part == "accepted" and outcome == "accepted":
                part = "deduplicated"
            parts[part][row] += 100 * count / max(total, 1)
    return parts


def _matrix(figure: Figure, evidence: Evidence, criteria: object) -> str:
    """Draw the number of lines of each kind with each outcome; wrong cells are framed."""
    found = evidence.found
    ax = figure.subplots()
    expects, marked = expects_of(evidence.config), wrong_cells(found)
    kinds = in_order(found, expects)
    counts = np.array([[found.matrix[kind].get(o, 0) for o in OUTCOMES] for kind in kinds])
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(np.sqrt(counts / totals), cmap="Blues", vmin=0, vmax=3.5, aspect="auto")
    told = []
    for row, kind in enumerate(kinds):
        for column, outcome in enumerate(OUTCOMES):
            count = counts[row, column]
            if not count:
                continue
            wrong = (kind, outcome) in marked
            ax.text(
                column,
                row,
                f"{count} ✗" if wrong else str(count),
                ha="center",
                va="center",
                fontsize=8.5,
                color=SIGNAL if wrong else "black",
                weight="bold" if wrong else "normal",
            )
            if wrong:
                box = Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, fill=False)
                box.set(edgecolor=SIGNAL, lw=1.5)
                ax.add_patch(box)
                told.append(f"{count} {kind} are {outcome}")
    ax.set_xticks(range(len(OUTCOMES)), [o.replace(" and ", "\nand ") for o in OUTCOMES])
    ax.set_yticks(range(len(kinds)), [f"{kind}: {expects.get(kind, '')}" for kind in kinds])
    ax.tick_params(length=0, labelsize=8)
    ax.xaxis.tick_top()
    for spine in ax.spines.values():
        spine.set_visible(False)
    what = "Lines by kind, with what is expected, and outcome; what should not be is framed"
    return sentence(what, told or ["nothing is"])


def _trials(figure: Figure, evidence: Evidence, criteria: object) -> str:
    """Draw how far variants and kills are from the reference."""
    variants, kills = figure.subplots(1, 2)
    told = []
    names = [variant.name for variant in evidence.variants][::-1]
    differ = [variant.differ for variant in evidence.variants][::-1]
    bars = variants.barh(names, differ, color=SIGNAL)
    variants.bar_label(bars, padding=3, fontsize=8.5)
    variants.set(xlabel="accepted rows other than the reference's", title="Variants")
    variants.set_xlim(0, max([*differ, 1]) * 1.25)
    variants.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    told += [f"{name}: {count}" for name, count in zip(names[::-1], differ[::-1], strict=True)]
    for how, mark, x in (("change", "s", 0), ("time", "o", 1)):
        for number, kill in enumerate(k for k in evidence.kills if k.how == how):
            colour = SIGNAL if kill.fatal else MIDDLE if kill.struck else "none"
            kills.plot(number + 1, x, mark, ms=11, mfc=colour, mec=DARK)
            if kill.fatal:
                kills.text(number + 1, x + 0.18, str(kill.differ), ha="center", fontsize=8)
    kills.set_yticks([0, 1], ["at changes", "at times"])
    kills.set(xlabel="kill", title="Kills", ylim=(-0.6, 1.7))
    kills.xaxis.set_major_locator(MaxNLocator(integer=True))
    for colour, label in ((SIGNAL, "other outcome"), (MIDDLE, "same outcome"), ("none", "no hit")):
        kills.plot([], [], "s", mfc=colour, mec=DARK, label=label)
    kills.legend(loc="upper center", ncols=3, fontsize=8, bbox_to_anchor=(0.5, 1.0))
    struck = [kill for kill in evidence.kills if kill.struck]
    fatal = sum(kill.fatal for kill in struck)
    told.append(f"{fatal} of {len(struck)} kills that struck changed the outcome")
    return sentence("Left: accepted rows of each variant that differ; right: every kill", told)


def _cost(figure: Figure, evidence: Evidence, criteria: object) -> str:
    """Draw time, CPU and memory of each start of the reference and its repeats."""
    starts = [s for s in evidence.starts if s.trial == "reference" or "repeat-" in s.trial]
    told = []
    for ax, (name, (label, unit)) in zip(figure.subplots(1, 3), _COSTS.items(), strict=True):
        values = np.array([getattr(start, name) for start in starts]) / unit
        after = np.array([start.after for start in starts], float)
        shift = np.linspace(-0.12, 0.12, max(len(evidence.costs), 2))
        runs = {trial: place for place, trial in enumerate(dict.fromkeys(s.trial for s in starts))}
        at = after + [shift[runs[start.trial] % len(shift)] for start in starts]
        well = np.array([start.well for start in starts])
        ax.plot(at[well], values[well], "o", ms=4, mfc="none", color=DARK)
        ax.plot(at[~well], values[~well], "x", ms=6, color=SIGNAL)
        ax.set(xlabel="after delivery", ylabel=label, ylim=(0, 1.15 * values.max()))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        told.append(f"{label} {values.min():.3g} to {values.max():.3g}")
    return sentence(f"Every start of {len(evidence.costs)} cold runs", told)


def _growth(figure: Figure, evidence: Evidence, criteria: object) -> str:
    """Draw what each size took, with the fitted laws."""
    told = []
    if not evidence.sizes:
        figure.set_size_inches(9.0, 0.9)
        figure.text(0.01, 0.15, "The experiment names no sizes.")
        return (
            "Time, CPU and memory over the delivered lines: the experiment names no sizes, so that "
            "no growth was measured."
        )
    panels = figure.subplots(1, 3)
    for ax, quantity in zip(panels, QUANTITIES, strict=True):
        name, _ = QUANTITIES[quantity]
        label, unit = _COSTS[name]
        ax.set(xlabel="delivered lines", ylabel=label)
        told.append(_grown(ax, evidence.sizes, evidence.laws[quantity], quantity, name, unit))
    what = "Time, CPU and memory over the delivered lines, on logarithmic axes"
    return sentence(what, told)


def _grown(
    ax: Axes, costs: Sequence[Cost], law: PowerLaw | str, quantity: str, name: str, unit: float
) -> str:
    events = np.array([cost.events for cost in costs], float)
    values = np.array([getattr(cost, name) for cost in costs]) / unit
    ax.loglog(events, values, "o", ms=4, mfc="none", color=DARK)
    if isinstance(law, str):
        return f"{quantity}: no law, {law}"
    ends = np.geomspace(events.min(), events.max(), _POINTS)
    low, high = law.band(ends)
    ax.fill_between(ends, low / unit, high / unit, color=LIGHT, lw=0)
    ax.plot(ends, law.at(ends) / unit, color=SIGNAL, lw=1.2)
    ax.set_title(f"exponent {law.exponent:.2f}")
    return f"{quantity} grows by a power {law.exponent:.3f}"


PLOTS: dict[str, Plot] = {
    "flow": Plot("Where the delivered lines went", (9.0, 4.4), _flow),
    "matrix": Plot("Kinds and outcomes", (9.0, 5.2), _matrix),
    "trials": Plot("Variants and kills beside the reference", (9.0, 3.2), _trials),
    "cost": Plot("What each start took", (9.0, 3.0), _cost),
    "growth": Plot("How the cost grows", (9.0, 3.0), _growth),
}
