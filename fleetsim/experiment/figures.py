"""What all plots have in common: their looks, their bytes, and what is drawn of any sample.

Colours differ in lightness, and every series has its own mark or hatch, so that plots read in grey.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image
from scipy import stats as laws

from fleetsim.experiment.criterion import Criterion
from fleetsim.experiment.drawing import Drawn
from fleetsim.experiment.drawing import ShownFigure as ShownFigure
from fleetsim.generate.config import Config
from fleetsim.generate.model import type_law
from fleetsim.stats.categories import share_intervals
from fleetsim.stats.driver_tests import gap_cells
from fleetsim.stats.effects import law_of
from fleetsim.stats.sample import Sample
from fleetsim.stats.times import PLOT_CELLS, cells_for

DARK, MIDDLE, LIGHT, SIGNAL = "#1b3a57", "#5b8db8", "#c9d9e8", "#b5491f"
_COLOURS = 128  # of a PNG, edges included
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
#: Settings of windows and of whole processes, which stay as they are.
_NO_LOOKS = (
    *("animation", "backend", "backend_fallback", "date", "docstring", "interactive", "keymap"),
    *("macosx", "timezone", "tk", "toolbar", "webagg"),
)


@dataclass(frozen=True)
class Plot:
    """One plot of a kind of experiment.

    Attributes
    ----------
    title : str
    size : (float, float)
        Width and height [inches].
    draw : callable
        ``(figure, evidence, criteria) -> str``: draws what a run found, returns the alt text.
    """

    title: str
    size: tuple[float, float]
    draw: Callable[[Figure, Any, Sequence[Criterion]], str]


def draw_counts(ax: Axes, sample: Sample, config: Config) -> str:
    """Draw how many drivers have how many events, against the law; return the alt text."""
    counts = sample.counts.ravel()
    n, mean = len(counts), law_of(config, ledger=sample.defects is not None).rate
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
        limits = 100 * share_intervals(observed, 0.95, simultaneous=True)
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
        no_event(ax)
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


def draw_gaps(ax: Axes, sample: Sample) -> str:
    """Draw how often gaps between a driver's events have a size, over what the law says.

    Returns the alt text.
    """
    found = gap_cells(sample.driver_times, sample.length_us)
    ax.set(xlabel="gap between two events of a driver [s]", ylabel="observed / expected")
    if isinstance(found, str):
        ax.text(0.5, 0.5, found, ha="center", va="center", transform=ax.transAxes)
        ax.set_yticks([])
        return f"No gaps between a driver's events are shown: {found}."
    edges, observed, expected = found
    ratio, half = observed / expected, 1.96 / np.sqrt(expected)
    # The first cell begins at 0, which a logarithmic axis does not show.
    shown = np.maximum(edges / 1e6, edges[1] / 2e6)
    ax.stairs(1 + half, shown, baseline=1 - half, fill=True, color=SIGNAL, alpha=0.15, lw=0)
    ax.fill_between([], [], color=SIGNAL, alpha=0.15, lw=0, label="95 % of cells")
    ax.axhline(1, color=SIGNAL, lw=1.5, label="independent, uniform times")
    ax.stairs(ratio, shown, baseline=None, color=DARK, lw=1.5, label="observed")
    top = max(1.5, 1.15 * float(max(ratio.max(), (1 + half).max())))
    ax.set(xscale="log", xlim=(shown[0], shown[-1]), ylim=(0, top))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.legend(ncols=3, loc="upper right")
    far = int(np.argmax(np.abs(ratio - 1) / half))
    first, last = edges[far] / 1e6, edges[far + 1] / 1e6
    return (
        f"Gaps between two events of a driver by their size, in {len(observed)} cells, over what "
        f"independent uniform times give. Farthest off: {observed[far]} gaps of {first:.3g} to "
        f"{last:.3g} s, {expected[far]:.1f} expected."
    )


def no_event(ax: Axes) -> None:
    """Say on axes that there is no event to show."""
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


def draw_plot(
    plot: Plot,
    evidence: Any,
    criteria: Sequence[Criterion] = (),
    size: tuple[float, float] | None = None,
) -> tuple[Figure, str]:
    """Return a plot as a figure, of another size [inches] where one is given, and its alt text."""
    return titled_figure(
        plot.title, size or plot.size, lambda figure: plot.draw(figure, evidence, criteria)
    )


def drawn(
    plot: Plot,
    evidence: Any,
    criteria: Sequence[Criterion] = (),
    size: tuple[float, float] | None = None,
) -> Drawn:
    """Return a plot in both its forms, and its alt text."""
    figure, alt = draw_plot(plot, evidence, criteria, size)
    return Drawn(render(figure), alt)


def render(figure: Figure) -> dict[str, bytes]:
    """Return a figure as PNG and SVG, the same bytes for the same drawing."""
    with style():
        # The layout is found once: each format would look for it again.
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)
        svg = _save(figure, "svg", {"Date": None})
        return {"png": _png(figure), "svg": _in_both_schemes(svg)}


def render_png(figure: Figure) -> bytes:
    """Return a figure as PNG alone, the same bytes for the same drawing."""
    with style():
        return _png(figure)


def _png(figure: Figure) -> bytes:
    """Return a figure as PNG with a palette, a third of the size; plots have few colours."""
    # Where it is the layout's own canvas, it knows the sizes of the texts.
    own = figure.canvas
    canvas = own if type(own) is FigureCanvasAgg else FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    rgba = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    pixels = Image.frombuffer("RGBA", canvas.get_width_height(), rgba)
    buffer = io.BytesIO()
    # This method keeps rare colours, as of a few marks: no value is off by more than a few of 255.
    few = pixels.convert("RGB").quantize(
        _COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    few.save(buffer, "png")  # a smaller file by a sixth would take ten times as long
    return buffer.getvalue()


#: What each colour of a plot becomes on a dark page.
_ON_DARK = {
    "#000000": "#e6e9ec",
    "#ffffff": "#14181c",
    DARK: "#a9cbe8",
    MIDDLE: "#6fa3cf",
    LIGHT: "#2c4a63",
    SIGNAL: "#ff9d70",
}


#: Digits behind a hundredth of a pixel, which nobody sees and which are a third of an SVG.
_FINE = re.compile(rb"(\d\.\d\d)\d+")


def _in_both_schemes(svg: bytes) -> bytes:
    """Return an SVG whose colours follow the scheme of the page that shows it."""
    svg = _FINE.sub(rb"\1", svg)
    rules = "".join(  # hatches have attributes where the rest has a style
        f'[style*="{what}: {light}"],[{what}="{light}"]{{{what}:{dark}!important}}'
        for light, dark in _ON_DARK.items()
        for what in ("fill", "stroke")
    )
    rules = f"text{{fill:{_ON_DARK['#000000']}}}{rules}"
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, tag, rest = svg.partition(b"<defs>")  # the first element inside
    return head + style.encode() + tag + rest


def _save(figure: Figure, form: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw in the manner of all plots."""
    with mpl.rc_context(_looks()):
        yield


@cache
def _looks() -> Any:
    """Return every setting of a drawing, so that no matplotlibrc of a user's changes a figure."""
    names = [name for name in mpl.rcParamsDefault if name.partition(".")[0] not in _NO_LOOKS]
    return {name: mpl.rcParamsDefault[name] for name in names} | _STYLE
