"""Statistics of the times of events, made in one pass over sorted offsets.

Offsets come in sorted pieces, from an array or from a disk, so that memory does not grow with their
number. Those that share a tick are spread evenly inside it, as `stats` does at resolution 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from fleetsim.stats.arguments import Floats, Ints

#: Equal parts of the interval, and of a period, that the tests count events in.
CELLS = 50
#: Equal parts of the interval in a plot.
PLOT_CELLS = 60
#: Periods by which no event should be preferred: a minute, a second.
PERIODS_US = (60_000_000, 1_000_000)
#: Pairs of batches that share most offsets, as many as are kept.
TIED_BATCHES = 5
_SHOWN = 500  # order statistics that are kept, for a plot of the distribution


@dataclass(frozen=True)
class Times:
    """What the tests of times look at, of B batches; only events inside their interval count.

    Attributes
    ----------
    length_us : int
        Length of a batch's interval, in ticks of one microsecond.
    sizes : int64 array (B,)
        Events of each batch.
    first_us, last_us : int
        Smallest and largest offset of all; -1 where there is no event.
    distance : float
        Kolmogorov and Smirnov's D of all offsets against the uniform law.
    anderson : float
        Anderson and Darling's A2 of all offsets against the uniform law.
    moran : float64 array (B,)
        Moran's T of the spacings of each batch; NaN for a batch without events.
    cells : int64 array (B, CELLS)
        Events in equal parts of the interval: part j holds floor(offset CELLS / length) = j.
    phases : int64 array (2, CELLS)
        Events of all batches in equal parts of each of `PERIODS_US`.
    digits : int64 array (6, 10)
        Events of all batches by the decimal digits of their offset below a second: row d by the
        digit of 10**d microseconds.
    histogram : int64 array (PLOT_CELLS,)
        Events of all batches in equal parts of the interval.
    ties : int64 array (B,)
        Pairs of events of a batch that share a tick.
    ties_across : int
        Pairs of events of two different batches that share a tick.
    shown : int64 array (k, 2)
        Order statistics of all offsets: rank from 0, and offset.
    tied_batches : int64 array (k, 3)
        Two batches and how many pairs of events they share an offset in, the most first, at most
        `TIED_BATCHES`; none where it was not asked for.
    """

    length_us: int
    sizes: Ints
    first_us: int
    last_us: int
    distance: float
    anderson: float
    moran: Floats
    cells: Ints
    phases: Ints
    digits: Ints
    histogram: Ints
    ties: Ints
    ties_across: int
    shown: Ints
    tied_batches: Ints = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    @property
    def n(self) -> int:
        """Events of all batches."""
        return int(self.sizes.sum())

    @property
    def density(self) -> float:
        """Events per tick of the largest batch."""
        return float(self.sizes.max(initial=0)) / self.length_us


def cells_for(wanted: float, cells: int) -> int:
    """Return the largest divisor of `cells` that is not above `wanted`; 0 where that is below 1.

    Neighbouring cells can be merged to that many equal ones.
    """
    return max((k for k in range(1, cells + 1) if cells % k == 0 and k <= wanted), default=0)


def times_of_arrays(offsets: Iterable[Ints], length_us: int) -> Times:
    """Return the statistics of offsets in memory, one array a batch, in any order.

    Parameters
    ----------
    offsets : iterable of int64 array
        Offsets of each batch, each >= 0 and < length_us [microseconds].
    length_us : int
    """
    parts = [np.sort(part) for part in offsets]
    sizes = np.array([len(part) for part in parts], np.int64)
    whole = [np.sort(np.concatenate(parts))] if len(parts) > 1 else None
    times = times_of(sizes, length_us, ([part] for part in parts), whole)
    if not many_ties_across(times):
        return times
    joined, batch = np.concatenate(parts), np.repeat(np.arange(len(parts)), sizes)
    order = np.lexsort((batch, joined))
    return replace(times, tied_batches=tied_batches([(joined[order], batch[order])]))


def many_ties_across(times: Times) -> bool:
    """Return whether batches share so many offsets that it is worth telling which they are."""
    total, within = float(times.sizes.sum()), times.sizes.astype(np.float64)
    expected = (total**2 - float(np.sum(within**2))) / 2 / times.length_us
    return times.ties_across > expected + 3 * math.sqrt(expected)


def tied_batches(pieces: Iterable[tuple[Ints, Ints]]) -> Ints:
    """Return which batches share most offsets, see `Times.tied_batches`.

    Of three or more that share an offset only those that follow each other are told.

    Parameters
    ----------
    pieces : iterable of (int64 array, int64 array)
        Offsets of all batches together and their batches, sorted by both, in pieces of any size.
    """
    found: Counter[tuple[int, int]] = Counter()
    before = np.full((2, 1), -1, np.int64)
    for offset, batch in pieces:
        rows = np.concatenate([before, [offset, batch]], axis=1)
        before = rows[:, -1:]
        shared = (rows[0, 1:] == rows[0, :-1]) & (rows[1, 1:] != rows[1, :-1])
        both = np.array([rows[1, :-1][shared], rows[1, 1:][shared]])
        pairs, numbers = np.unique(both, axis=1, return_counts=True)
        for one, two, n in zip(*pairs.tolist(), numbers.tolist(), strict=True):
            found[one, two] += n
    most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:TIED_BATCHES]
    return np.array([(*pair, n) for pair, n in most], np.int64).reshape(-1, 3)


def times_of(
    sizes: Ints,
    length_us: int,
    batches: Iterable[Iterable[Ints]],
    whole: Iterable[Ints] | None = None,
) -> Times:
    """Return the statistics of sorted offsets.

    Parameters
    ----------
    sizes : int64 array (B,)
        How many offsets each batch has.
    length_us : int
    batches : iterable of iterable of int64 array
        For each batch its sorted offsets, in pieces of any size.
    whole : iterable of int64 array, optional
        The sorted offsets of all batches together, in pieces; not needed for a single batch.
    """
    cells = np.zeros((len(sizes), CELLS), np.int64)
    moran = np.full(len(sizes), math.nan)
    ties = np.zeros(len(sizes), np.int64)
    minutes = np.zeros(CELLS, np.int64)
    # Events by the thousandth of a millisecond, and of a second, that they lie in.
    thousandths = np.zeros((2, 1000), np.int64)
    histogram = np.zeros(PLOT_CELLS, np.int64)
    together = _Distribution(int(sizes.sum()), length_us)
    ticks = _Ticks(together)

    def add_to_whole(piece: Ints) -> None:
        np.add(histogram, _cells(piece, length_us, PLOT_CELLS), out=histogram)
        np.add(minutes, _cells(piece % PERIODS_US[0], PERIODS_US[0], CELLS), out=minutes)
        whole_ms = piece // 1000
        thousandths[0] += np.bincount(piece - 1000 * whole_ms, minlength=1000)
        thousandths[1] += np.bincount(whole_ms - whole_ms // 1000 * 1000, minlength=1000)

    for row, (size, pieces) in enumerate(zip(sizes.tolist(), batches, strict=True)):
        gaps = _Gaps(size, length_us)
        # A single batch is all there is: what its ticks share is looked at once.
        own = _Ticks(gaps) if whole is not None else _Ticks(gaps, together)
        for piece in pieces:
            cells[row] += _cells(piece, length_us, CELLS)
            own.add(piece)
            if whole is None:
                add_to_whole(piece)
        own.flush()
        if size:
            moran[row], ties[row] = gaps.finish(), own.pairs
        if whole is None:
            ticks = own
    for piece in whole or ():
        ticks.add(piece)
        add_to_whole(piece)
    ticks.flush()
    distance, anderson = together.finish()
    return Times(
        length_us=length_us,
        sizes=sizes,
        first_us=ticks.first,
        last_us=ticks.last,
        distance=distance,
        anderson=anderson,
        moran=moran,
        cells=cells,
        phases=np.array([minutes, thousandths[1].reshape(CELLS, -1).sum(axis=1)]),
        digits=np.concatenate([_digits(row) for row in thousandths]),
        histogram=histogram,
        ties=ties,
        ties_across=ticks.pairs - int(ties.sum()),
        shown=together.shown(),
    )


def _digits(thousandths: Ints) -> Ints:
    """Return events by the last, the middle and the first of three digits, int64 (3, 10)."""
    cube = thousandths.reshape(10, 10, 10)
    return np.array([cube.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))])


def _cells(offsets: Ints, length: int, cells: int) -> Ints:
    # Up to a day in microseconds times 60 cells stays far inside 64 bits.
    return np.bincount(offsets * cells // length, minlength=cells)


class _Taker(Protocol):
    """Takes ticks, those spread evenly that share one, and the rank of the first."""

    def take(self, ticks: Ints, spread: Floats, rank: int) -> None:
        """Take the next ones."""


class _Ticks:
    """Takes sorted ticks in pieces and hands them on with all that share a tick together."""

    def __init__(self, *takers: _Taker) -> None:
        self.first = self.last = -1
        self.pairs = 0  # that share a tick
        self._takers = takers
        self._rank = 0
        self._held = np.zeros(0, np.int64)  # all equal: more of them may follow

    def add(self, piece: Ints) -> None:
        """Take the next piece."""
        if not len(piece):
            return
        if self.first < 0:
            self.first = int(piece[0])
        self.last = int(piece[-1])
        ticks = np.concatenate([self._held, piece]) if len(self._held) else piece
        cut = int(np.searchsorted(ticks, self.last))
        self._held = ticks[cut:]
        self._pass_on(ticks[:cut])

    def flush(self) -> None:
        """Hand on what is held: nothing follows."""
        self._pass_on(self._held)
        self._held = self._held[:0]

    def _pass_on(self, ticks: Ints) -> None:
        if not len(ticks):
            return
        same = ticks[1:] == ticks[:-1]
        if same.any():
            starts = np.flatnonzero(np.concatenate([[True], ~same]))
            sizes = np.diff(starts, append=len(ticks))
            self.pairs += int((sizes * (sizes - 1) // 2).sum())
            place = np.arange(len(ticks)) - np.repeat(starts, sizes)
            inside = (place + 0.5) / np.repeat(sizes, sizes)
        else:
            inside = np.full(len(ticks), 0.5)
        spread = ticks + inside
        for taker in self._takers:
            taker.take(ticks, spread, self._rank)
        self._rank += len(ticks)


class _Gaps:
    """Moran's T = -2 sum ln(m s_i / length) over the m = n + 1 spacings, both ends included."""

    def __init__(self, n: int, length: int) -> None:
        self.n, self.length = n, length
        self._sums: list[float] = []
        self._before = 0.0

    def take(self, ticks: Ints, spread: Floats, rank: int) -> None:
        self._sums.append(self._logs(np.diff(spread, prepend=self._before)))
        self._before = float(spread[-1])

    def _logs(self, spacings: Floats) -> float:
        # A spacing can round to 0 inside a crowded tick: T is then infinite.
        with np.errstate(divide="ignore"):
            return float(np.log((self.n + 1) * (spacings / self.length)).sum())

    def finish(self) -> float:
        """Return T."""
        self._sums.append(self._logs(np.array([self.length - self._before])))
        return -2 * math.fsum(self._sums)


class _Distribution:
    """Distance of the distribution functions, and A2 (see `stats.edge_test` for the formulas)."""

    def __init__(self, n: int, length: int) -> None:
        self.n, self.length = n, length
        self._distance = 0.0
        self._sums: list[float] = []
        self._ranks = np.unique(np.linspace(0, n - 1, min(n, _SHOWN)).astype(np.int64))
        self._shown: list[Ints] = []

    def take(self, ticks: Ints, spread: Floats, rank: int) -> None:
        n, u = self.n, spread / self.length
        at = np.arange(rank, rank + len(u))
        self._distance = max(
            self._distance, float(np.max((at + 1) / n - u)), float(np.max(u - at / n))
        )
        # ln(1 - u) as the log of what is left of the interval: exact close to its end.
        logs = (2 * at + 1) * np.log(u)
        logs += (2 * (n - at) - 1) * np.log((self.length - spread) / self.length)
        self._sums.append(float(logs.sum()))
        low, high = np.searchsorted(self._ranks, [rank, rank + len(u)])
        ranks = self._ranks[low:high]
        self._shown.append(np.column_stack([ranks, ticks[ranks - rank]]))

    def finish(self) -> tuple[float, float]:
        """Return the distance, and A2."""
        anderson = -self.n - math.fsum(self._sums) / self.n if self.n else math.nan
        return self._distance, anderson

    def shown(self) -> Ints:
        """Return the order statistics that are kept."""
        return np.concatenate([np.zeros((0, 2), np.int64), *self._shown])
