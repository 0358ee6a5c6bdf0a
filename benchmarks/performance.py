"""What was measured: tables on a terminal, and the page and the plot of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure

from benchmarks.kit import FSYNC, HASHING, KERNEL, LOADING, WRITING
from benchmarks.machine import describe_machine
from benchmarks.programs import BARE, HASH, KIT, PEERS
from benchmarks.rates import MEASURES, Run, Spread, best, ratio, significant, spread_of, values_of
from fleetsim.base.files import write_file
from fleetsim.base.tables import Table
from fleetsim.experiment.figures import DARK, LIGHT, MIDDLE, SIGNAL, render, style
from fleetsim.measure.child import Child

__all__ = ["Results", "draw_rates", "tell", "write_page"]

WALL, CPU = "million events/s", "million events/CPU s"
PROCESS, REST = "process", "the rest"
_PARTS = {
    LOADING: "loading the kernel",
    KERNEL: "the kernel: drawing and encoding",
    HASHING: "hashing",
    WRITING: "writing",
    FSYNC: "fsync",
    REST: "the rest: start of Python, imports, companies, end",
}
_TEMPLATE = Path(__file__).with_name("performance.md.template")


@dataclass
class Results:
    """Everything that was measured.

    Attributes
    ----------
    runs : list of Run
    profiles : list of dict
        Seconds of each part of a profiled run, and of its whole process.
    cold : list of (Child, Child)
        Pairs of a baseline batch and of what its start is compared with.
    to_disk, to_memory : list of Run
        Batches of middle size.
    """

    runs: list[Run] = field(default_factory=list)
    profiles: list[dict[str, float]] = field(default_factory=list)
    cold: list[tuple[Child, Child]] = field(default_factory=list)
    to_disk: list[Run] = field(default_factory=list)
    to_memory: list[Run] = field(default_factory=list)


def tell(results: Results) -> str:
    """Return the tables for a terminal."""
    tables = [_rates(results.runs), _ratios(results.runs), _shares(results.profiles)]
    tables.append(_middle(results))
    texts = [table.text(width=1000) for table in tables]
    return "\n\n".join([*texts, f"Cold start: {_cold(results.cold)}"])


def write_page(results: Results, docs: Path, folder: Path) -> list[Path]:
    """Write the page and its plot, and return their paths; `folder` is where programs wrote."""
    figure, alt = draw_rates(results.runs)
    runs = results.runs
    rounds = len({run.round for run in runs})
    text = _TEMPLATE.read_text(encoding="utf-8").format(
        about=f"{describe_machine(folder)} Rounds: {rounds}.",
        alt=alt,
        rates=_markdown(_rates(runs)),
        ratios=_markdown(_ratios(runs)),
        shares=_markdown(_shares(results.profiles)),
        cold=_cold(results.cold),
        middle=_markdown(_middle(results)),
        middle_events=f"{_events(results.to_memory, KIT[0].name):,}".replace(",", " "),
        best_wall=_best(runs, WALL),
        best_cpu=_best(runs, CPU),
        hash_bound=significant(_hash_bound(results)),
        profiled=f"{_events(runs, KIT[0].name):,}".replace(",", " "),
    )
    page, plot = docs / "performance.md", docs / "performance.png"
    write_file(page, text.encode())
    write_file(plot, render(figure)["png"])
    return [page, plot]


def draw_rates(runs: Sequence[Run]) -> tuple[Figure, str]:
    """Return a plot of events a second, and a CPU second, and its alt text."""
    names = _programs(runs)
    colours = dict.fromkeys((program.name for program in PEERS), LIGHT)
    colours |= {program.name: MIDDLE for program in KIT}
    colours |= {program.name: SIGNAL for program in BARE}
    at = np.arange(len(names))[::-1]
    with style():
        figure = Figure(figsize=(8.6, 4.4), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (measure, title) in zip(
            axes, ((WALL, "a second"), (CPU, "a CPU second")), strict=True
        ):
            spreads = [_spread(runs, name, measure) for name in names]
            middle = [spread.median for spread in spreads]
            error = [
                [spread.median - spread.least for spread in spreads],
                [spread.most - spread.median for spread in spreads],
            ]
            fill = [colours[name] for name in names]
            bars = ax.barh(at, middle, 0.7, color=fill, edgecolor=DARK, linewidth=0.6)
            for name, bar in zip(names, bars, strict=True):
                bar.set_hatch("///" if "no hash" in name else "")
            ax.errorbar(middle, at, xerr=error, fmt="none", ecolor="black", capsize=2, lw=1)
            # The bare write takes hardly any CPU time: the others would be too small to be seen.
            own = [s for s, name in zip(spreads, names, strict=True) if colours[name] != SIGNAL]
            top = 1.1 * max(spread.most for spread in own)
            for place, spread in zip(at.tolist(), spreads, strict=True):
                text, beyond = significant(spread.median), spread.most > top
                where = 0.98 * top if beyond else spread.most + 0.02 * top
                ax.text(
                    where,
                    place,
                    f"{text} →" if beyond else text,
                    va="center",
                    ha="right" if beyond else "left",
                )
            ax.set(xlim=(0, 1.15 * top), xlabel=f"million events {title}")
        axes[0].set_yticks(at, names)
        figure.suptitle("Whole cold processes: median, least and most", x=0.01, ha="left")
    told = ", ".join(
        f"{name} {_spread(runs, name, WALL).median:.3g} and {_spread(runs, name, CPU).median:.3g}"
        for name in names
    )
    return figure, f"Million events a second, and a CPU second, of each program: {told}."


def _rates(runs: Sequence[Run]) -> Table:
    rows, bare = [], [program.name for program in BARE]
    for name in _programs(runs):
        cells = [_spread(runs, name, measure).text() for measure in MEASURES]
        if name in bare:
            cells[-1] = "–"  # the batch itself
        rows.append((name, f"{_events(runs, name) / 1e6:.3g}", *cells))
    return Table(("program", "million events", *MEASURES), tuple(rows))


def _ratios(runs: Sequence[Run]) -> Table:
    wall, cpu = _best(runs, WALL), _best(runs, CPU)
    bare = best(runs, [program.name for program in BARE], MEASURES[WALL])
    columns = {
        f"events/s over {wall}": (wall, WALL),
        f"events/CPU s over {cpu}": (cpu, CPU),
        f"events/s over the {bare}": (bare, WALL),
    }
    rows = [
        (
            program.name,
            *(
                ratio(runs, program.name, other, MEASURES[m]).text()
                for other, m in columns.values()
            ),
        )
        for program in KIT
    ]
    return Table(("ratio", *columns), tuple(rows))


def _middle(results: Results) -> Table:
    """Return the ratios of batches of middle size over the best peer, on the disk and in memory."""
    disk, memory = results.to_disk, results.to_memory
    names = [program.name for program in PEERS if program.name in {run.program for run in disk}]
    wall, cpu = (best(memory, names, MEASURES[measure]) for measure in (WALL, CPU))
    columns = {
        f"to memory, events/s over {wall}": (memory, wall, WALL),
        f"events/CPU s over {cpu}": (memory, cpu, CPU),
        f"to the disk, events/s over {wall}": (disk, wall, WALL),
        f"events/CPU s over {cpu}, to the disk": (disk, cpu, CPU),
    }
    rows = []
    for name in _programs(disk):
        cells = [
            ratio(runs, name, other, MEASURES[measure]).text()
            if name in {run.program for run in runs}
            else "–"
            for runs, other, measure in columns.values()
        ]
        rows.append((name, *cells))
    return Table(("ratio", *columns), tuple(rows))


def _shares(profiles: Sequence[dict[str, float]]) -> Table:
    """Return the seconds of each part, and their share of the process."""
    rows = []
    for part, words in _PARTS.items():
        seconds = [_seconds(profile, part) for profile in profiles]
        shares = [100 * s / profile[PROCESS] for s, profile in zip(seconds, profiles, strict=True)]
        rows.append((words, spread_of(seconds).text(2), spread_of(shares).text(2)))
    return Table(("part", "seconds", "share [%]"), tuple(rows))


def _hash_bound(results: Results) -> float:
    """Return how many million events a second one thread hashes."""
    seconds = median(profile[HASHING] for profile in results.profiles)
    return _events(results.runs, KIT[0].name) / seconds / 1e6


def _seconds(profile: dict[str, float], part: str) -> float:
    if part != REST:
        return profile[part]
    return profile[PROCESS] - sum(s for name, s in profile.items() if name != PROCESS)


def _cold(pairs: Sequence[tuple[Child, Child]]) -> str:
    def spread(value: Callable[[Child], float]) -> Spread:
        return spread_of(value(batch) / value(other) for batch, other in pairs)

    batch, other = (1000 * median(pair[i].seconds for pair in pairs) for i in (0, 1))
    return (
        f'the baseline\'s batch of experiment 001 took {batch:.0f} ms, `python -c "import numpy"` '
        f"{other:.0f} ms (medians of {len(pairs)} pairs). The ratio of each pair is "
        f"{spread(lambda child: child.seconds).text()} by the clock and "
        f"{spread(lambda child: child.cpu_seconds).text()} in CPU seconds."
    )


def _programs(runs: Sequence[Run]) -> list[str]:
    known = {run.program for run in runs}
    return [program.name for program in (*KIT, *PEERS, *BARE, HASH) if program.name in known]


def _events(runs: Sequence[Run], name: str) -> int:
    return round(median(run.events for run in runs if run.program == name))


def _spread(runs: Sequence[Run], name: str, measure: str) -> Spread:
    return spread_of(values_of(runs, name, MEASURES[measure]).values())


def _best(runs: Sequence[Run], measure: str) -> str:
    return best(runs, [program.name for program in PEERS], MEASURES[measure])


def _markdown(table: Table) -> str:
    lines = [table.header, ("---", *("--:" for _ in table.header[1:])), *table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
