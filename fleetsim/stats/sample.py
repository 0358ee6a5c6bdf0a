"""The sufficient statistics of batches: all that the battery looks at.

They are made from plain columns of events, drawn in memory or read back from files. The law under
test is not needed for them and not known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.stats.arguments import Ints
from fleetsim.stats.times import Times, times_of_arrays

#: Equal parts of the interval in the table of types by time.
TIME_CELLS = 20


@dataclass(frozen=True)
class Columns:
    """Events as plain columns, one entry an event, in any order.

    Attributes
    ----------
    batch : int64 array (n,)
        Number of the batch, from 0.
    driver : int64 array (n,)
        Position among the eligible drivers of the fleet, in its order, from 0.
    kind : int64 array (n,)
        Position of the event type in the law's order, from 0.
    offset_us : int64 array (n,)
        Time since the start of the batch's interval [microseconds].
    """

    batch: Ints
    driver: Ints
    kind: Ints
    offset_us: Ints

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, rows: npt.NDArray[Any]) -> Columns:
        """Return the events at `rows`, positions or a mask."""
        return Columns(self.batch[rows], self.driver[rows], self.kind[rows], self.offset_us[rows])


#: The kind of defect whose records come with a later batch.
LATE = "late"


@dataclass(frozen=True)
class DefectCounts:
    """The defects of some batches, as their ledgers name them and the lines bear them out.

    Attributes
    ----------
    found : mapping
        Records of these batches with a defect, by kind. Of the late ones, those of batches whose
        later batch is at hand.
    records : int
        Records drawn that stand in their own batch: clean or with a defect, but neither copies nor
        late ones. It is the n of every kind but late.
    seen : int
        Records drawn, late ones included, of the batches whose later batch is at hand: the n of
        late. The last batches of a data set lack it, and a data set of one batch has none.
    unusable : str
        Why they cannot be counted, in words; empty where they can.
    """

    found: Mapping[str, int]
    records: int
    seen: int
    unusable: str = ""

    def of(self, kind: str, rates: Mapping[str, float]) -> tuple[int, int, float]:
        """Return how many there are of a kind, among how many records, and its chance for each.

        Which records are late is known only where the batch that brings them is at hand, so all
        other kinds are counted among the records that are not late, of which a share of
        rate / (1 - rate of late) has the kind. That is exact: of a multinomial draw, the numbers of
        the other kinds given one of them.
        """
        rate, late = rates.get(kind, 0.0), rates.get(LATE, 0.0)
        if kind == LATE:
            return self.found.get(kind, 0), self.seen, rate
        chance = min(1.0, rate / (1 - late)) if late < 1 else 0.0
        return self.found.get(kind, 0), self.records, chance


@dataclass(frozen=True)
class Sample:
    """Sufficient statistics of B batches of one fleet.

    Attributes
    ----------
    drivers_per_company : int
    counts : int64 array (B, drivers)
        Events of each eligible driver in fleet order, zeros included.
    type_counts : int64 array (B, types)
    types_by_company : int64 array (types, companies)
    types_by_time : int64 array (types, TIME_CELLS)
        Only of events inside the interval, as all that follows.
    type_pairs : int64 array (types, types)
        Types of two consecutive events of a driver, the earlier one in rows. An event that shares
        its tick with another one of its driver has no order, and its pairs are left out.
    times : Times
        Of the events inside their interval.
    outside : int
        Events whose offset is not in [0, length).
    unplaced : int
        Lines that could not be read as an event of a known driver and type. They count in no test;
        what is wrong with them is told elsewhere.
    unlisted : int64 array (B,), optional
        Events of each batch where there is no roster: then `counts` has no drivers.
    unread : str
        What of the data could not be read, in words; empty where all could. What counts events or
        drivers is then no test of the data.
    defects : DefectCounts, optional
        Of lines that a ledger explains, which count in nothing else; None without a ledger.
    """

    drivers_per_company: int
    counts: Ints
    type_counts: Ints
    types_by_company: Ints
    types_by_time: Ints
    type_pairs: Ints
    times: Times
    outside: int
    unplaced: int = 0
    unlisted: Ints | None = None
    unread: str = ""
    defects: DefectCounts | None = None

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return len(self.counts)

    @property
    def n_drivers(self) -> int:
        """Number of eligible drivers."""
        return int(self.counts.shape[1])

    @property
    def n_events(self) -> int:
        """Number of events in all batches, those outside included."""
        return int(self.totals.sum())

    @property
    def totals(self) -> Ints:
        """Events of each batch, int64 (B,)."""
        totals: Ints = self.counts.sum(axis=1) if self.unlisted is None else self.unlisted
        return totals

    @property
    def has_roster(self) -> bool:
        """Whether it is known which drivers there are, with or without events."""
        return self.unlisted is None

    @property
    def length_us(self) -> int:
        """Length of a batch's interval [microseconds]; a tick is one microsecond."""
        return self.times.length_us

    @property
    def company_totals(self) -> Ints:
        """Events of each company, int64 (B, companies)."""
        totals: Ints = self._by_company().sum(axis=2)
        return totals

    @property
    def driver_number_totals(self) -> Ints:
        """Events of the drivers with one number over all companies, int64 (B, per company)."""
        totals: Ints = self._by_company().sum(axis=1)
        return totals

    def _by_company(self) -> Ints:
        companies = self.n_drivers // self.drivers_per_company
        return self.counts.reshape(self.n_batches, companies, self.drivers_per_company)


def make_sample(
    columns: Columns,
    *,
    n_batches: int,
    n_drivers: int,
    n_types: int,
    drivers_per_company: int,
    length_us: int,
) -> Sample:
    """Return the sufficient statistics of columns of events.

    Parameters
    ----------
    columns : Columns
        In any order: the result does not depend on it.
    n_batches, n_drivers, n_types : int
        How many batches, eligible drivers and event types there are, with or without events.
    drivers_per_company : int
        Divides n_drivers.
    length_us : int
        Length of a batch's interval, > 0 [microseconds].

    Raises
    ------
    ValueError
        Where a column is out of its range, the columns differ in length, or a size is not allowed.
    """
    _check(columns, n_batches, n_drivers, n_types, drivers_per_company, length_us)
    batch, driver, kind = columns.batch, columns.driver, columns.kind
    inside = (columns.offset_us >= 0) & (columns.offset_us < length_us)
    timed = columns if inside.all() else columns.take(inside)
    # One order for everything: by batch, driver, offset. Both sorts are of whole numbers.
    order = np.argsort(timed.offset_us, kind="stable")
    order = order[np.argsort((timed.batch * n_drivers + timed.driver)[order], kind="stable")]
    timed = timed.take(order)
    ends = np.cumsum(np.bincount(timed.batch, minlength=n_batches))
    n_companies = n_drivers // drivers_per_company
    pairs = TypePairs(n_types)
    pairs.add(timed.batch * n_drivers + timed.driver, timed.kind, timed.offset_us)
    cell = time_cell(timed.offset_us, length_us)
    return Sample(
        drivers_per_company=drivers_per_company,
        counts=table_of(batch, driver, n_batches, n_drivers),
        type_counts=table_of(batch, kind, n_batches, n_types),
        types_by_company=table_of(kind, driver // drivers_per_company, n_types, n_companies),
        types_by_time=table_of(timed.kind, cell, n_types, TIME_CELLS),
        type_pairs=pairs.finish(),
        times=times_of_arrays(np.split(timed.offset_us, ends[:-1]), length_us),
        outside=len(columns) - len(timed),
    )


def _check(
    columns: Columns,
    n_batches: int,
    n_drivers: int,
    n_types: int,
    drivers_per_company: int,
    length_us: int,
) -> None:
    for name, size, least in (
        ("n_batches", n_batches, 1),
        ("n_drivers", n_drivers, 0),
        ("n_types", n_types, 1),
        ("drivers_per_company", drivers_per_company, 1),
        ("length_us", length_us, 1),
    ):
        if size < least:
            raise ValueError(f"{name} is {size}, must be >= {least}")
    if n_drivers % drivers_per_company:
        raise ValueError(
            f"n_drivers is {n_drivers}, must be a multiple of {drivers_per_company} per company"
        )
    for name, values, end in (
        ("batch", columns.batch, n_batches),
        ("driver", columns.driver, n_drivers),
        ("kind", columns.kind, n_types),
        ("offset_us", columns.offset_us, None),
    ):
        if values.dtype.kind not in "iu":
            raise ValueError(f"{name} has type {values.dtype}, must be whole numbers")
        if values.shape != columns.batch.shape or values.ndim != 1:
            raise ValueError(f"{name} has shape {values.shape}, must be {columns.batch.shape}")
        if end is not None and len(values) and not 0 <= values.min() <= values.max() < end:
            raise ValueError(
                f"{name} runs from {values.min()} to {values.max()}, must be >= 0 and < {end}"
            )


def table_of(rows: Ints, columns: Ints, n_rows: int, n_columns: int) -> Ints:
    """Return how often each pair of values occurs, int64 (n_rows, n_columns)."""
    flat = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return flat.astype(np.int64, copy=False).reshape(n_rows, n_columns)


def time_cell(offsets: Ints, length_us: int) -> Ints:
    """Return the cell of each offset; intervals of up to a day stay inside 64 bits."""
    return offsets * TIME_CELLS // length_us


class TypePairs:
    """Counts the types of consecutive events of a driver (see `Sample`), taken piece by piece.

    Events come in the order of drivers and, for each, of time; what is out of order is no pair.

    Attributes
    ----------
    first, last : int64 array (3, n)
        Driver, type and offset of the first and the last events, up to three: whether two are a
        pair depends on one neighbour on each side, so pieces can be counted apart and appended.
    """

    def __init__(self, n_types: int) -> None:
        self.table: Ints = np.zeros((n_types, n_types), np.int64)
        self.first: Ints = np.zeros((3, 0), np.int64)
        self.last = self.first

    def add(self, driver: Ints, kind: Ints, offset: Ints) -> None:
        """Take the next events, int64 arrays (n,)."""
        self._follow(*(np.array([driver, kind, offset]),) * 2)

    def append(self, later: TypePairs) -> None:
        """Take the events that another one has counted, which stays as it is."""
        self.table = self.table + later.table
        self._follow(later.first, later.last)

    def _follow(self, first: Ints, last: Ints) -> None:
        """Count the pairs of the last events and the first that follow; these may be all."""
        events = np.concatenate([self.last, first], axis=1)
        if self.first.shape[1] < 3:
            self.first = np.concatenate([self.first, first[:, :3]], axis=1)[:, :3]
        self.last = np.concatenate([self.last, last[:, -3:]], axis=1)[:, -3:]
        if events.shape[1] < 4:
            return
        driver, kind, offset = events
        same = driver[1:] == driver[:-1]
        tied = same & (offset[1:] == offset[:-1])
        later = same & (offset[1:] > offset[:-1])
        pair = later[1:-1] & ~tied[:-2] & ~tied[2:]
        self.table = self.table + table_of(kind[1:-2][pair], kind[2:-1][pair], *self.table.shape)

    def finish(self) -> Ints:
        """Return the table of all events, earlier types in rows."""
        whole = TypePairs(len(self.table))
        nobody = np.zeros(1, np.int64)
        whole.add(nobody - 1, nobody, nobody)
        whole.append(self)
        whole.add(nobody - 2, nobody, nobody)
        return whole.table
