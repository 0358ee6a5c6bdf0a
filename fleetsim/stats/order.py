"""Timed events in the order of drivers and times: what stands beside what, and how close.

Events are taken piece by piece, and pieces that were counted apart can be appended: what crosses
from one to the next is seen in the ends that each one keeps. Memory does not grow with the events.
Where the kernel's machine code lies ready, it makes the same counts in a fraction of the time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from fleetsim.generate.kernel.machine import kept_kernels
from fleetsim.stats.arguments import Floats, Ints

#: Equal parts of the interval in the tables of time by type and by company.
TIME_CELLS = 20
#: Half octaves of gaps of up to 2**37 ticks, a day and more: see `gap_edges`.
GAP_CELLS = 75
#: Rows of the table of types by place: what an event is among those of its driver in a batch.
PLACES = ("between others", "last", "first", "only")

_UNITS = 20  # bits of an interval's length as the squares of spacings take it
_CHUNK = 1 << 18  # events at once: bounds memory, and keeps sums of squares inside 64 bits
_KEPT = 4  # events at each end: a pattern of types spans five at most


def table_of(rows: Ints, columns: Ints, n_rows: int, n_columns: int) -> Ints:
    """Return how often each pair of values occurs, int64 (n_rows, n_columns)."""
    flat = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return flat.astype(np.int64, copy=False).reshape(n_rows, n_columns)


def time_cell(offsets: Ints, length_us: int) -> Ints:
    """Return the cell of each offset; intervals of up to a day stay inside 64 bits."""
    return offsets * TIME_CELLS // length_us


# ---------------------------------------------------------------------------------------------
# Types
# ---------------------------------------------------------------------------------------------


class TypeOrder:
    """Counts types by what stands beside them, of the events of each driver.

    An event that shares its tick with another one of its driver has no order, and what rests on it
    is left out; so is what stands out of order.

    Attributes
    ----------
    pairs : int64 array (types, types)
        Types of two consecutive events, the earlier one in rows.
    apart : int64 array (types, types)
        Types of two events with one between them, the earlier one in rows.
    places : int64 array (4, types)
        Types by their place among the events of the driver, see `PLACES`.
    first, last : int64 array (3, n)
        Driver, type and offset of the first and the last events, up to four: what an event counts
        for depends on few neighbours, so pieces can be counted apart and appended.
    """

    def __init__(self, n_types: int) -> None:
        self.pairs: Ints = np.zeros((n_types, n_types), np.int64)
        self.apart = self.pairs
        self.places: Ints = np.zeros((len(PLACES), n_types), np.int64)
        self.first: Ints = np.zeros((3, 0), np.int64)
        self.last = self.first

    def add(self, driver: Ints, kind: Ints, offset: Ints) -> None:
        """Take the next events, int64 arrays (n,)."""
        self._follow(np.array([driver, kind, offset]), all_new=True)

    def append(self, later: TypeOrder) -> None:
        """Take the events that another one has counted, which stays as it is."""
        self.pairs = self.pairs + later.pairs
        self.apart = self.apart + later.apart
        self.places = self.places + later.places
        self._follow(later.first, all_new=False)
        if later.last.shape[1] == _KEPT:
            self.last = later.last

    def _follow(self, events: Ints, *, all_new: bool) -> None:
        """Count what reaches across into the events that follow, or all of it where all are new."""
        seen = np.concatenate([self.last, events], axis=1)
        before = self.last.shape[1]
        kernels: Any = kept_kernels()
        if all_new and kernels is not None:
            tables = self.pairs.copy(), self.apart.copy(), self.places.copy()
            if not kernels.count_types(seen, before, *tables):
                raise ValueError(f"a type is none of {len(self.pairs)}")
            self.pairs, self.apart, self.places = tables
        else:
            self._count(seen, before, all_new=all_new)
        if self.first.shape[1] < _KEPT:
            self.first = np.concatenate([self.first, events[:, :_KEPT]], axis=1)[:, :_KEPT]
        self.last = seen[:, -_KEPT:]

    def _count(self, seen: Ints, before: int, *, all_new: bool) -> None:
        driver, kind, offset = seen
        same = driver[1:] == driver[:-1]
        tied = same & (offset[1:] == offset[:-1])
        later = same & (offset[1:] > offset[:-1])
        in_order = later | ~same

        def window(width: int) -> slice:
            """Return the events that windows of a width, not yet counted, lie in."""
            end = seen.shape[1] if all_new else min(seen.shape[1], before + width - 1)
            return slice(max(0, before - width + 1), max(0, end))

        here = window(3)
        if here.stop - here.start >= 3:
            left = slice(here.start, here.stop - 2)  # relations before and behind the middle one
            right = slice(here.start + 1, here.stop - 1)
            fine = in_order[left] & in_order[right]
            place = 2 * ~same[left] + ~same[right]
            middle = kind[here.start + 1 : here.stop - 1]
            self.places = self.places + table_of(place[fine], middle[fine], *self.places.shape)
        here = window(4)
        if here.stop - here.start >= 4:
            at = slice(here.start + 1, here.stop - 2)
            pair = later[at] & ~tied[at.start - 1 : at.stop - 1] & ~tied[at.start + 1 : at.stop + 1]
            one, two = kind[at][pair], kind[at.start + 1 : at.stop + 1][pair]
            self.pairs = self.pairs + table_of(one, two, *self.pairs.shape)
        here = window(5)
        if here.stop - here.start >= 5:
            at = slice(here.start + 1, here.stop - 3)
            pair = later[at] & later[at.start + 1 : at.stop + 1]
            pair &= ~tied[at.start - 1 : at.stop - 1] & ~tied[at.start + 2 : at.stop + 2]
            one, two = kind[at][pair], kind[at.start + 2 : at.stop + 2][pair]
            self.apart = self.apart + table_of(one, two, *self.apart.shape)

    def closed(self) -> TypeOrder:
        """Return what is counted where nothing stands before or behind; it takes no more."""
        whole = TypeOrder(len(self.pairs))
        nobody = np.zeros(1, np.int64)
        whole.add(nobody - 1, nobody, nobody)
        whole.append(self)
        whole.add(nobody - 2, nobody, nobody)
        whole.first = whole.last = np.zeros((3, 0), np.int64)
        return whole


# ---------------------------------------------------------------------------------------------
# Times
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DriverTimes:
    """How events lie inside the intervals of their drivers; a run is a driver in a batch.

    Attributes
    ----------
    sizes : int64 array (k,)
        Numbers of events that runs have, rising, each once.
    runs : int64 array (k,)
        How many runs have so many events.
    squares : float64 array (k,)
        Sum over these runs of their sums of squared spacings, in parts of the interval: a run of n
        events has n + 1 spacings, both ends included, whose sum is 1.
    gaps : int64 array (GAP_CELLS,)
        Gaps between consecutive events of a run by their size, see `gap_edges`.
    disordered : int
        Runs left out, since their events do not stand in the order of their times.
    """

    sizes: Ints
    runs: Ints
    squares: Floats
    gaps: Ints
    disordered: int


@dataclass(frozen=True, eq=False)
class CompanyTimes:
    """How events lie inside the intervals of their companies; a run is a company in a batch.

    sizes, runs : see `DriverTimes`; pairs : pairs of events of these runs that share one of
    `TIME_CELLS` equal parts of the interval, int64 array (k,).
    """

    sizes: Ints
    runs: Ints
    pairs: Ints


def gap_edges() -> Floats:
    """Return the ends of the cells of gaps, float64 (GAP_CELLS + 1,) [ticks].

    A cell holds half an octave of gap + 1: whole ticks from one edge to the next. The edges lie
    half a tick lower, since the difference of two floored times is one tick too large as often as
    one too small.
    """
    cells = np.arange(1, GAP_CELLS)
    edges = np.ceil(2.0 ** (cells // 2) * (1 + cells % 2 / 2)) - 1.5
    return np.concatenate([[0.0], np.maximum(edges, 0.0), [np.inf]])


def _gap_cell(gaps: Ints) -> Ints:
    """Return the cell of each gap >= 0: exponent and first binary digit of gap + 1."""
    return ((gaps + 1).astype(np.float64).view(np.int64) >> 51) - 2046


class _Run(Protocol):
    """What is known of a run that may go on."""

    @property
    def key(self) -> int:
        """Whose run it is."""
        ...


R = TypeVar("R", bound=_Run)


@dataclass(eq=False)
class _Runs(Generic[R]):
    """Runs in their order: those at both ends, which may go on, and the sums of those between.

    Attributes
    ----------
    ends : list
        None, one or two.
    runs, sums : Counter
        How many runs there are of each number of events, and the sum of what is summed over them.
    """

    ends: list[R] = field(default_factory=list)
    runs: Counter[int] = field(default_factory=Counter)
    sums: Counter[int] = field(default_factory=Counter)

    def _join(self, one: R, two: R) -> R:
        raise NotImplementedError

    def _close(self, run: R) -> None:
        raise NotImplementedError

    def _append(self, ends: list[R]) -> None:
        """Take the ends of what follows, whose sums were added."""
        if self.ends and ends and self.ends[-1].key == ends[0].key:
            row = [*self.ends[:-1], self._join(self.ends[-1], ends[0]), *ends[1:]]
        else:
            row = [*self.ends, *ends]
        for run in row[1:-1]:
            self._close(run)
        self.ends = row[:1] + row[1:][-1:]

    def _close_all(self) -> None:
        for run in self.ends:
            self._close(run)
        self.ends = []

    def _table(self) -> tuple[Ints, Ints]:
        sizes = sorted(self.runs)
        return np.array(sizes, np.int64), np.array([self.runs[n] for n in sizes], np.int64)


def _sums_by(sizes: Ints, values: Ints) -> tuple[Counter[int], Counter[int]]:
    """Return how often each size occurs, and the sum of its values, >= 0, exactly."""
    if not len(sizes):
        return Counter(), Counter()
    often = np.bincount(sizes)
    there = np.flatnonzero(often)
    # As sums of 21 lower and of the upper bits, each of which a float64 holds exactly.
    high = np.bincount(sizes, weights=values >> 21)[there]
    low = np.bincount(sizes, weights=values & ((1 << 21) - 1))[there]
    numbers = there.tolist()
    sums = [(int(h) << 21) + int(lo) for h, lo in zip(high.tolist(), low.tolist(), strict=True)]
    return (
        Counter(dict(zip(numbers, often[there].tolist(), strict=True))),
        Counter(dict(zip(numbers, sums, strict=True))),
    )


@dataclass(frozen=True, eq=False)
class _DriverRun:
    """Events of one driver: number, first and last offset [ticks], squares [units], gaps."""

    key: int
    n: int
    first: int
    last: int
    squares: int
    gaps: Ints
    ordered: bool


@dataclass(eq=False)
class _DriverRuns(_Runs[_DriverRun]):
    length: int = 1
    gaps: Ints = field(default_factory=lambda: np.zeros(GAP_CELLS, np.int64))
    disordered: int = 0

    @property
    def _shift(self) -> int:
        """Bits that the offsets lose for the squares: the interval has some 2**_UNITS units."""
        return max(0, self.length.bit_length() - _UNITS - 1)

    def add(self, driver: Ints, offset: Ints, bounds: Ints) -> None:
        """Take events of runs that begin at `bounds`, the last of which is their number."""
        starts, stops = bounds[:-1], bounds[1:]
        ends = dict.fromkeys((0, len(starts) - 1))
        self._append([self._one(driver, offset, starts[i], stops[i]) for i in ends])
        if len(starts) > 2:
            self._add_whole(offset[stops[0] : starts[-1]], bounds[1:-1] - stops[0])

    def append(self, later: _DriverRuns) -> None:
        """Take the runs that another one has counted, which stays as it is."""
        self.runs.update(later.runs)
        self.sums.update(later.sums)
        self.gaps = self.gaps + later.gaps
        self.disordered += later.disordered
        self._append(later.ends)

    def _add_whole(self, offset: Ints, bounds: Ints) -> None:
        """Count runs that are whole, and begin at `bounds` but for its last entry."""
        kernels: Any = kept_kernels()
        if kernels is None:
            sizes, squares = self._count(offset, bounds)
        else:
            sizes, squares = np.empty((2, len(bounds) - 1), np.int64)
            gaps, units = self.gaps.copy(), self.length >> self._shift
            n = kernels.count_runs(offset, bounds, self._shift, units, gaps, sizes, squares)
            self.gaps = gaps
            self.disordered += len(sizes) - n
            sizes, squares = sizes[:n], squares[:n]
        runs, sums = _sums_by(sizes, squares)
        self.runs.update(runs)
        self.sums.update(sums)

    def _count(self, offset: Ints, bounds: Ints) -> tuple[Ints, Ints]:
        """Return events and sum of squares of the runs in order; count gaps and the other runs."""
        starts, sizes = bounds[:-1], np.diff(bounds)
        edge = bounds[1:] - 1
        gap, unit = np.diff(offset, append=0), offset >> self._shift
        gap[edge] = 0
        step = np.diff(unit, append=0)
        step[edge] = 0
        squares = np.add.reduceat(step * step, starts)
        squares += unit[starts] ** 2 + ((self.length >> self._shift) - unit[edge]) ** 2
        cell = _gap_cell(np.maximum(gap, 0))
        cell[edge] = GAP_CELLS
        if (gap < 0).any():
            good = ~np.logical_or.reduceat(gap < 0, starts)
            cell = cell[np.repeat(good, sizes)]
            self.disordered += int((~good).sum())
            sizes, squares = sizes[good], squares[good]
        self.gaps = self.gaps + np.bincount(cell, minlength=GAP_CELLS + 1)[:GAP_CELLS]
        return sizes, squares

    def _one(self, driver: Ints, offset: Ints, start: int, stop: int) -> _DriverRun:
        own = offset[start:stop]
        gap, step = np.diff(own), np.diff(own >> self._shift)
        cell = _gap_cell(np.maximum(gap, 0))
        return _DriverRun(
            key=int(driver[start]),
            n=len(own),
            first=int(own[0]),
            last=int(own[-1]),
            squares=int((step * step).sum()),
            gaps=np.bincount(cell, minlength=GAP_CELLS),
            ordered=bool((gap >= 0).all()),
        )

    def _join(self, one: _DriverRun, two: _DriverRun) -> _DriverRun:
        gap, gaps = two.first - one.last, one.gaps + two.gaps
        if gap >= 0:
            gaps[int(_gap_cell(np.array([gap]))[0])] += 1
        step = (two.first >> self._shift) - (one.last >> self._shift)
        return replace(
            one,
            n=one.n + two.n,
            last=two.last,
            squares=one.squares + two.squares + step * step,
            gaps=gaps,
            ordered=one.ordered and two.ordered and gap >= 0,
        )

    def _close(self, run: _DriverRun) -> None:
        if not run.ordered:
            self.disordered += 1
            return
        end = (self.length >> self._shift) - (run.last >> self._shift)
        self.runs[run.n] += 1
        self.sums[run.n] += run.squares + (run.first >> self._shift) ** 2 + end**2
        self.gaps = self.gaps + run.gaps

    def finish(self) -> DriverTimes:
        """Return what all runs show; there are no others."""
        self._close_all()
        sizes, runs = self._table()
        whole = (self.length >> self._shift) ** 2
        squares = np.array([self.sums[n] / whole for n in sizes.tolist()], np.float64)
        return DriverTimes(sizes, runs, squares, self.gaps, self.disordered)


@dataclass(frozen=True, eq=False)
class _CompanyRun:
    """Events of one company in each part of the interval, int64 (TIME_CELLS,)."""

    key: int
    cells: Ints


@dataclass(eq=False)
class _CompanyRuns(_Runs[_CompanyRun]):
    def add(self, company: Ints, cell: Ints, bounds: Ints) -> None:
        """Take events of runs that begin at `bounds`; `company` is that of each run."""
        number = np.repeat(np.arange(len(company)), np.diff(bounds))
        cells = table_of(number, cell, len(company), TIME_CELLS)
        ends = dict.fromkeys((0, len(company) - 1))
        self._append([_CompanyRun(int(company[i]), cells[i].copy()) for i in ends])
        whole = cells[1:-1]
        runs, sums = _sums_by(whole.sum(axis=1), _shared(whole))
        self.runs.update(runs)
        self.sums.update(sums)

    def append(self, later: _CompanyRuns) -> None:
        """Take the runs that another one has counted, which stays as it is."""
        self.runs.update(later.runs)
        self.sums.update(later.sums)
        self._append(later.ends)

    def _join(self, one: _CompanyRun, two: _CompanyRun) -> _CompanyRun:
        return _CompanyRun(one.key, one.cells + two.cells)

    def _close(self, run: _CompanyRun) -> None:
        n = int(run.cells.sum())
        self.runs[n] += 1
        self.sums[n] += int(_shared(run.cells))

    def finish(self) -> CompanyTimes:
        """Return what all runs show; there are no others."""
        self._close_all()
        sizes, runs = self._table()
        return CompanyTimes(sizes, runs, np.array([self.sums[n] for n in sizes.tolist()], np.int64))


def _shared(cells: Ints) -> Ints:
    """Return how many pairs of events share a cell, for each row of cells."""
    pairs: Ints = (cells * (cells - 1) // 2).sum(axis=-1)
    return pairs


class InOrder:
    """Everything that events show by their order, taken piece by piece.

    Parameters
    ----------
    n_types : int
    drivers_per_company : int
    length_us : int
        Length of a batch's interval [microseconds].
    """

    def __init__(self, n_types: int, drivers_per_company: int, length_us: int) -> None:
        self._per_company = drivers_per_company
        self._length = length_us
        self.types = TypeOrder(n_types)
        self._drivers = _DriverRuns(length=length_us)
        self._companies = _CompanyRuns()

    @property
    def first(self) -> Ints:
        """Driver, type and offset of the first events, int64 (3, n)."""
        return self.types.first

    @property
    def last(self) -> Ints:
        """Driver, type and offset of the last events, int64 (3, n)."""
        return self.types.last

    def add(self, driver: Ints, kind: Ints, offset: Ints, cell: Ints) -> None:
        """Take the next events, int64 arrays (n,); `cell` is the `time_cell` of each."""
        for start in range(0, len(driver), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._add(*(column[part] for column in (driver, kind, offset, cell)))

    def _add(self, driver: Ints, kind: Ints, offset: Ints, cell: Ints) -> None:
        self.types.add(driver, kind, offset)
        bounds = _bounds(driver, len(driver))
        self._drivers.add(driver, offset, bounds)
        company = driver[bounds[:-1]] // self._per_company
        own = _bounds(company, len(company))
        self._companies.add(company[own[:-1]], cell, bounds[own])

    def append(self, later: InOrder) -> None:
        """Take the events that another one has counted, which stays as it is."""
        self.types.append(later.types)
        self._drivers.append(later._drivers)
        self._companies.append(later._companies)

    def closed(self) -> InOrder:
        """Return a copy that is whole: what is appended to it is another batch."""
        whole = InOrder(len(self.types.pairs), self._per_company, self._length)
        whole.append(self)
        whole.types = whole.types.closed()
        whole._drivers._close_all()
        whole._companies._close_all()
        return whole

    def times(self) -> tuple[DriverTimes, CompanyTimes]:
        """Return how the events lie inside the intervals of drivers and of companies."""
        whole = self.closed()
        return whole._drivers.finish(), whole._companies.finish()


def _bounds(keys: npt.NDArray[np.int64], end: int) -> Ints:
    """Return where runs of one key begin, and the end."""
    inner = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    return np.concatenate([[0], inner, [end]])
