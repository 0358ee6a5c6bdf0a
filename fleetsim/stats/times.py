"""Statistics of the times of events, made in one pass over sorted offsets.

Offsets come in sorted pieces, from an array or from a disk, so that memory does not grow with their
number. Those that share a tick are spread evenly inside it, as `stats` does at resolution 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fleetsim.stats.arguments import Floats, Ints

#: Equal parts of the interval, and of a period, that the tests count events in.
CELLS = 50
#: Equal parts of the interval in a plot.
PLOT_CELLS = 60
#: Periods by which no event should be preferred: a minute, a second, a millisecond.
PERIODS_US = (60_000_000, 1_000_000, 1_000)
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
    phases : int64 array (3, CELLS)
        Events of all batches in equal parts of each of `PERIODS_US`.
    histogram : int64 array (PLOT_CELLS,)
        Events of all batches in equal parts of the interval.
    ties : int64 array (B,)
        Pairs of events of a batch that share a tick.
    ties_across : int
        Pairs of events of two different batches that share a tick.
    shown : int64 array (k, 2)
        Order statistics of all offsets: rank from 0, and offset.
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
    histogram: Ints
    ties: Ints
    ties_across: int
    shown: Ints

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
    return times_of(sizes, length_us, ([part] for part in parts), whole)


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
    phases = np.zeros((len(PERIODS_US), CELLS), np.int64)
    histogram = np.zeros(PLOT_CELLS, np.int64)
    together = _Distribution(int(sizes.sum()), length_us)

    def add_to_whole(piece: Ints) -> None:
        together.add(piece)
        np.add(histogram, _cells(piece, length_us, PLOT_CELLS), out=histogram)
        for row, period in enumerate(PERIODS_US):
            phases[row] += _cells(piece % period, period, CELLS)

    for row, (size, pieces) in enumerate(zip(sizes.tolist(), batches, strict=True)):
        gaps = _Gaps(size, length_us)
        for piece in pieces:
            cells[row] += _cells(piece, length_us, CELLS)
            gaps.add(piece)
            if whole is None:
                add_to_whole(piece)
        if size:
            moran[row], ties[row] = gaps.finish()
    for piece in whole or ():
        add_to_whole(piece)
    distance, anderson, all_ties = together.finish()
    return Times(
        length_us=length_us,
        sizes=sizes,
        first_us=together.first,
        last_us=together.last,
        distance=distance,
        anderson=anderson,
        moran=moran,
        cells=cells,
        phases=phases,
        histogram=histogram,
        ties=ties,
        ties_across=all_ties - int(ties.sum()),
        shown=together.shown(),
    )


def _cells(offsets: Ints, length: int, cells: int) -> Ints:
    # Up to a day in microseconds times 60 cells stays far inside 64 bits.
    return np.bincount(offsets * cells // length, minlength=cells)


class _Runs:
    """Takes sorted ticks in pieces and hands them on with all that share a tick together."""

    def __init__(self, n: int, length: int) -> None:
        self.n, self.length = n, length
        self.first = self.last = -1
        self.pairs = 0  # that share a tick
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
        self._take(ticks, ticks + inside, self._rank)
        self._rank += len(ticks)

    def _take(self, ticks: Ints, spread: Floats, rank: int) -> None:
        raise NotImplementedError


class _Gaps(_Runs):
    """Moran's T = -2 sum ln(m s_i / length) over the m = n + 1 spacings, both ends included."""

    def __init__(self, n: int, length: int) -> None:
        super().__init__(n, length)
        self._sums: list[float] = []
        self._before = 0.0

    def _take(self, ticks: Ints, spread: Floats, rank: int) -> None:
        self._sums.append(self._logs(np.diff(spread, prepend=self._before)))
        self._before = float(spread[-1])

    def _logs(self, spacings: Floats) -> float:
        # A spacing can round to 0 inside a crowded tick: T is then infinite.
        with np.errstate(divide="ignore"):
            return float(np.log((self.n + 1) * (spacings / self.length)).sum())

    def finish(self) -> tuple[float, int]:
        """Return T, and how many pairs share a tick."""
        self.flush()
        self._sums.append(self._logs(np.array([self.length - self._before])))
        return -2 * math.fsum(self._sums), self.pairs


class _Distribution(_Runs):
    """Distance of the distribution functions, and A2 (see `stats.edge_test` for the formulas)."""

    def __init__(self, n: int, length: int) -> None:
        super().__init__(n, length)
        self._distance = 0.0
        self._sums: list[float] = []
        self._ranks = np.unique(np.linspace(0, n - 1, min(n, _SHOWN)).astype(np.int64))
        self._shown: list[Ints] = []

    def _take(self, ticks: Ints, spread: Floats, rank: int) -> None:
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

    def finish(self) -> tuple[float, float, int]:
        """Return the distance, A2, and how many pairs share a tick."""
        self.flush()
        anderson = -self.n - math.fsum(self._sums) / self.n if self.n else math.nan
        return self._distance, anderson, self.pairs

    def shown(self) -> Ints:
        """Return the order statistics that are kept."""
        return np.concatenate([np.zeros((0, 2), np.int64), *self._shown])
