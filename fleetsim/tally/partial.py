"""The tally of a part of a batch, and how the tallies of adjacent parts become one.

A `Partial` is small: it grows with the drivers that have events in the part, and not with its
events or the fleet. It can travel between processes. `merge` of adjacent partials, in groups of any
kind, gives what one look at all of their lines gives: what crosses from one to the next, the order
of lines and pairs of events, is seen in the first and last events that each one keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fleetsim.stats.order import TIME_CELLS, InOrder
from fleetsim.tally.faults import EXAMPLES, Cause, FaultKind, counts_of

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_SPARSE = 8  # times as many values as numbers: then a table of all values is the slower way
_PENDING = 1 << 19  # numbers that may wait until they are added up


@dataclass(frozen=True, eq=False)
class Counts:
    """How often numbers occur: those that do, rising, and how often each one does.

    Both are int32 (n,) where that is wide enough, else int64: there may be some for each driver.
    """

    numbers: npt.NDArray[np.signedinteger]
    times: npt.NDArray[np.signedinteger]

    def __len__(self) -> int:
        return len(self.numbers)

    def table(self, length: int) -> Ints:
        """Return how often each number below `length` occurs, zeros included."""
        table = np.zeros(length, np.int64)
        table[self.numbers] = self.times
        return table


def count(values: Ints) -> Counts:
    """Count values >= 0, int64 (n,)."""
    if not len(values):
        return Counts(values, values)
    first = int(values.min())
    if int(values.max()) - first >= _SPARSE * len(values):
        numbers, times = np.unique(values, return_counts=True)
        return Counts(_narrow(numbers), _narrow(times))
    table = np.bincount(values - first)
    there = np.flatnonzero(table)
    return Counts(_narrow(there + first), _narrow(table[there]))


def _narrow(values: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.signedinteger]:
    """Return whole numbers >= 0 in the narrower type that holds them."""
    fits = not len(values) or int(values.max()) <= np.iinfo(np.int32).max
    return values.astype(np.int32 if fits else np.int64, copy=False)


def _added(parts: list[Counts]) -> Counts:
    """Return the sum of counts.

    Parts of a file in order have little more than one driver in common with the next one: only what
    they share is sorted, so that no copy of all is made beyond the result.
    """
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    shared = sum(
        len(one)
        - int(np.searchsorted(one.numbers, two.numbers[0]))
        + int(np.searchsorted(two.numbers, one.numbers[-1], side="right"))
        for one, two in pairwise(parts)
        if two.numbers[0] <= one.numbers[-1]
    )
    if shared > sum(map(len, parts)) // 8:
        return _sorted(parts)
    row: list[Counts] = []  # rising, and without a number in common
    for part in parts:
        rest = part
        if row and rest.numbers[0] <= row[-1].numbers[-1]:
            before = row.pop()
            if rest.numbers[0] < before.numbers[0]:  # it reaches back beyond the part before
                return _sorted(parts)
            cut = int(np.searchsorted(before.numbers, rest.numbers[0]))
            end = int(np.searchsorted(rest.numbers, before.numbers[-1], side="right"))
            if cut:
                row.append(Counts(before.numbers[:cut], before.times[:cut]))
            both = [
                Counts(before.numbers[cut:], before.times[cut:]),
                Counts(rest.numbers[:end], rest.times[:end]),
            ]
            row.append(_sorted(both))
            rest = Counts(rest.numbers[end:], rest.times[end:])
        if len(rest):
            row.append(rest)
    return Counts(*_joined(row))


def _joined(parts: list[Counts]) -> tuple[Any, Any]:
    """Return the numbers of parts one after the other, and how often each occurs."""
    none = np.zeros(0, np.int32)
    return (
        np.concatenate([none, *(part.numbers for part in parts)]),
        np.concatenate([none, *(part.times for part in parts)]),
    )


def _sorted(parts: list[Counts]) -> Counts:
    """Return the sum of counts whose numbers may stand in any order."""
    numbers, times = _joined(parts)
    if (numbers[1:] < numbers[:-1]).any():
        order = np.argsort(numbers, kind="stable")
        numbers, times = numbers[order], times[order]
    new = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=new[1:])
    if new.all():
        return Counts(numbers, times)
    sums = np.add.reduceat(times, np.flatnonzero(new), dtype=np.int64)
    return Counts(numbers[new], _narrow(sums))


class LineFault(NamedTuple):
    """A fault of a line: the number of its file, its own in the file, and what it is."""

    file: int
    line: int
    kind: FaultKind
    cause: str
    message: str


def first_faults(faults: Iterable[LineFault]) -> tuple[LineFault, ...]:
    """Return the first faults of each cause, in the order of their lines, as many as are kept."""
    seen: Counter[Cause] = Counter()
    kept = []
    for fault in sorted(faults, key=lambda fault: fault[:2]):
        cause = fault.kind, fault.cause
        seen[cause] += 1
        if seen[cause] <= EXAMPLES:
            kept.append(fault)
    return tuple(kept)


def misplaced(driver: Ints, offset: Ints) -> tuple[Flags, Flags]:
    """Return which events but the first do not follow the one before, and why.

    The order is company, driver, time. `first` is about drivers that stand above already, `second`
    about events earlier than the one above. Drivers without a place, below 0, have no order.
    """
    late = (driver[1:] == driver[:-1]) & (offset[1:] < offset[:-1])
    above = driver[1:] < driver[:-1]
    if above.any():
        above &= driver[1:] >= 0
    return above, late


def misplaced_fault(file: int, line: int, late: bool) -> LineFault:
    """Return the fault of a line that does not follow the one above."""
    what = "an event earlier than the one above" if late else "a driver that stands above"
    why = f"{what}; the order is company, driver, time"
    return LineFault(file, line, FaultKind.LINE, misplaced_cause(late), why)


def misplaced_cause(late: bool) -> str:
    """Return the cause of the fault of a line that does not follow the one above."""
    return "order of times" if late else "order of drivers"


@dataclass(frozen=True, eq=False)
class Partial:
    """What adjacent lines of a batch's files hold.

    Attributes
    ----------
    lines : int
        How many lines these are.
    timed, outside : int
        Events of known drivers and types inside the interval, and outside of it.
    driver_types : Counts
        Events of each driver and type, at driver x types + type, by position in the whole fleet.
    company_types : Counts
        Events of each company and type, at company x types + type.
    types_by_time : int64 array (types, TIME_CELLS)
    order : InOrder
        What the timed events show by their order.
    first : (int, int) or None
        File and line of the first timed event.
    faults : tuple of LineFault
        The first of each cause, in the order of lines.
    causes : Counter
        How many there are of each cause.
    examined : Counter
        Lines that could be asked for faults of a kind: what is not JSON names nobody, and has
        neither an id nor a time. All lines are asked for their form.
    """

    lines: int
    timed: int
    outside: int
    driver_types: Counts
    company_types: Counts
    types_by_time: Ints
    order: InOrder
    first: tuple[int, int] | None
    faults: tuple[LineFault, ...]
    causes: Counter[Cause]
    examined: Counter[FaultKind]

    @property
    def fault_counts(self) -> Counter[FaultKind]:
        """How many faults there are of each kind that occurs."""
        return counts_of(self.causes)


def merge(partials: Iterable[Partial], order: InOrder) -> Partial:
    """Return the partial of adjacent ones, given in their order; that of none is neutral.

    `order` is one without events, which takes those of all.
    """
    rows = list(partials)
    n_types = len(order.types.pairs)
    first: tuple[int, int] | None = None
    causes: Counter[Cause] = Counter()
    examined: Counter[FaultKind] = Counter()
    faults: list[LineFault] = []
    by_time = np.zeros((n_types, TIME_CELLS), np.int64)
    for row in rows:
        causes.update(row.causes)
        examined.update(row.examined)
        faults += row.faults
        by_time += row.types_by_time
        if row.first:
            edge = np.concatenate([order.last[:, -1:], row.order.first[:, :1]], axis=1)
            above, late = misplaced(edge[0], edge[2])
            if above.any() or late.any():
                fault = misplaced_fault(*row.first, late=bool(late.any()))
                faults.append(fault)
                causes[fault.kind, fault.cause] += 1
            order.append(row.order)
            first = first or row.first
    return Partial(
        lines=sum(row.lines for row in rows),
        timed=sum(row.timed for row in rows),
        outside=sum(row.outside for row in rows),
        driver_types=_added([row.driver_types for row in rows]),
        company_types=_added([row.company_types for row in rows]),
        types_by_time=by_time,
        order=order,
        first=first,
        faults=first_faults(faults),
        causes=causes,
        examined=examined,
    )


class Growing:
    """Merges partials one after the other; what waits is never much more than what there is."""

    def __init__(self, nothing: Callable[[], InOrder]) -> None:
        self._nothing = nothing
        self._rows: list[Partial] = []
        self._size = self._least = 0

    def add(self, partial: Partial) -> None:
        """Take the next one."""
        self._rows.append(partial)
        self._size += _size(partial)
        if self._size > 1.25 * self._least + _PENDING:
            self._rows = [self.finish()]
            self._size = self._least = _size(self._rows[0])

    def finish(self) -> Partial:
        """Return the partial of all."""
        return merge(self._rows, self._nothing())


def _size(partial: Partial) -> int:
    return len(partial.driver_types) + len(partial.company_types)
