"""What rounds of measurements say: rates of each program, and ratios within the rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

__all__ = ["MEASURES", "Run", "Spread", "best", "ratio", "significant", "spread_of", "values_of"]


@dataclass(frozen=True)
class Run:
    """One run of one program: how much it made, and what that took.

    Attributes
    ----------
    program : str
    round : int
    events, bytes : int
        Size of what was written.
    seconds, cpu_seconds : float
        Of the whole process.
    peak_rss_bytes : int
    """

    program: str
    round: int
    events: int
    bytes: int
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


class Spread(NamedTuple):
    """The median of some values, the least and the most."""

    median: float
    least: float
    most: float

    def text(self, digits: int = 3) -> str:
        """Return ``2.51 (2.40–2.66)``, with significant digits."""
        return (
            f"{significant(self.median, digits)} "
            f"({significant(self.least, digits)}–{significant(self.most, digits)})"
        )


Measure = Callable[[Run], float]

#: What is told of a run, in the unit that tables show.
MEASURES: dict[str, Measure] = {
    "million events/s": lambda run: run.events / run.seconds / 1e6,
    "million events/CPU s": lambda run: run.events / run.cpu_seconds / 1e6,
    "MB/s": lambda run: run.bytes / run.seconds / 1e6,
    "peak memory [MB]": lambda run: run.peak_rss_bytes / 1e6,
}


def spread_of(values: Iterable[float]) -> Spread:
    """Return the spread of at least one value."""
    known = list(values)
    return Spread(median(known), min(known), max(known))


def values_of(runs: Sequence[Run], program: str, measure: Measure) -> dict[int, float]:
    """Return a program's values by round."""
    return {run.round: measure(run) for run in runs if run.program == program}


def ratio(runs: Sequence[Run], one: str, other: str, measure: Measure) -> Spread:
    """Return the spread of one program's value over another's, taken pair by pair in each round.

    Raises
    ------
    ValueError
        Where the two did not run in the same rounds.
    """
    ours, theirs = values_of(runs, one, measure), values_of(runs, other, measure)
    if not ours or ours.keys() != theirs.keys():
        raise ValueError(f"{one} and {other} did not run in the same rounds")
    return spread_of(ours[number] / theirs[number] for number in ours)


def best(runs: Sequence[Run], programs: Iterable[str], measure: Measure) -> str:
    """Return the program with the largest median."""
    return max(programs, key=lambda name: median(values_of(runs, name, measure).values()))


def significant(value: float, digits: int = 3) -> str:
    """Return a number with significant digits, trailing zeros too."""
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:#.{digits}g}"
