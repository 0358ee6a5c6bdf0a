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
from fleetsim.stats.order import (
    TIME_CELLS,
    CompanyTimes,
    DriverTimes,
    InOrder,
    table_of,
    time_cell,
)
from fleetsim.stats.times import Times, times_of_arrays

#: Classes of how many events a driver has in a batch, half a standard deviation wide.
COUNT_CLASSES = 13
#: Numbers of drivers that have a row of their own in the table of types by number.
OWN_NUMBERS = 100
_BLOCK = 1 << 16  # drivers that are looked at together


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
        Only of events inside the interval, as all that rests on times.
    types_by_driver : int64 array (drivers, types)
        Of all batches together.
    types_by_number : int64 array (types, groups)
        By the driver's number in its company, see `number_groups`.
    types_by_count : int64 array (COUNT_CLASSES, types)
        By how many events the driver has in the batch, see `count_classes`.
    type_pairs, types_apart, type_places : int64 arrays
        Types of consecutive events of a driver, of events with one between, and by their place
        among them: see `order.TypeOrder`.
    driver_times, company_times : DriverTimes, CompanyTimes
        How events lie inside the intervals of one driver and of one company.
    times : Times
        Of all events inside their interval.
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
    types_by_driver: Ints
    types_by_number: Ints
    types_by_count: Ints
    type_pairs: Ints
    types_apart: Ints
    type_places: Ints
    driver_times: DriverTimes
    company_times: CompanyTimes
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

    @property
    def company_halves(self) -> Ints:
        """Events of each company in both halves of the batches, int64 (companies, 2)."""
        totals, half = self.company_totals, self.n_batches // 2
        return np.column_stack([totals[:half].sum(axis=0), totals[half:].sum(axis=0)])

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
    order_of = InOrder(n_types, drivers_per_company, length_us)
    cell = time_cell(timed.offset_us, length_us)
    order_of.add(timed.batch * n_drivers + timed.driver, timed.kind, timed.offset_us, cell)
    whole = order_of.closed()
    driver_times, company_times = whole.times()
    tables = TypeTables(n_types, n_drivers, drivers_per_company)
    by_batch = np.argsort(batch, kind="stable")  # quick where they are in order
    for mine in np.split(by_batch, np.cumsum(np.bincount(batch, minlength=n_batches))[:-1]):
        tables.add(table_of(driver[mine], kind[mine], n_drivers, n_types))
    return Sample(
        drivers_per_company=drivers_per_company,
        counts=table_of(batch, driver, n_batches, n_drivers),
        type_counts=table_of(batch, kind, n_batches, n_types),
        types_by_company=table_of(kind, driver // drivers_per_company, n_types, n_companies),
        types_by_time=table_of(timed.kind, cell, n_types, TIME_CELLS),
        types_by_driver=tables.by_driver,
        types_by_number=tables.by_number,
        types_by_count=tables.by_count,
        type_pairs=whole.types.pairs,
        types_apart=whole.types.apart,
        type_places=whole.types.places,
        driver_times=driver_times,
        company_times=company_times,
        times=times_of_arrays(np.split(timed.offset_us, ends[:-1]), length_us),
        outside=len(columns) - len(timed),
    )


def number_groups(drivers_per_company: int) -> Ints:
    """Return the group of each driver's number in its company, int64 (drivers_per_company,).

    Up to `OWN_NUMBERS` numbers are a group each. More are divided into half as many equal ranges,
    and these into even and odd numbers.
    """
    numbers = np.arange(drivers_per_company, dtype=np.int64)
    if drivers_per_company <= OWN_NUMBERS:
        return numbers
    return numbers * (OWN_NUMBERS // 2) // drivers_per_company * 2 + numbers % 2


def count_classes(counts: Ints, mean: float) -> Ints:
    """Return the class of each driver by its number of events in a batch.

    Classes are half a standard deviation of the Poisson law with this mean, from three below the
    mean to three above it, and all beyond.
    """
    if mean == 0:
        return np.zeros(len(counts), np.int64)
    steps = np.floor(2 * (counts - mean) / np.sqrt(mean))
    half = COUNT_CLASSES // 2
    classes: Ints = np.clip(steps, -half, half).astype(np.int64) + half
    return classes


class TypeTables:
    """Adds up types by driver, by the driver's number and by its count, batch after batch."""

    def __init__(self, n_types: int, n_drivers: int, drivers_per_company: int) -> None:
        self._per_company = drivers_per_company
        self.by_driver: Ints = np.zeros((n_drivers, n_types), np.int64)
        self.by_count: Ints = np.zeros((COUNT_CLASSES, n_types), np.int64)

    def add(self, by_driver: Ints) -> None:
        """Take the types of each driver in a batch, int64 (drivers, types)."""
        self.by_driver += by_driver
        mean = float(by_driver.sum()) / max(1, len(by_driver))
        for start in range(0, len(by_driver), _BLOCK):  # a table of all drivers is large
            part = by_driver[start : start + _BLOCK]
            classes = count_classes(part.sum(axis=1), mean)
            self.by_count = self.by_count + _rows_added(part, classes, COUNT_CLASSES)

    @property
    def by_number(self) -> Ints:
        """Types by the group of the driver's number, int64 (types, groups)."""
        groups = number_groups(self._per_company)
        table: Ints = np.zeros((min(self._per_company, OWN_NUMBERS), self.by_driver.shape[1]), int)
        for start in range(0, len(self.by_driver), _BLOCK):
            part = self.by_driver[start : start + _BLOCK]
            own = groups[np.arange(start, start + len(part)) % self._per_company]
            table = table + _rows_added(part, own, len(table))
        return table.T


def _rows_added(table: Ints, groups: Ints, n_groups: int) -> Ints:
    """Return the sums of the rows of each group, int64 (n_groups, columns)."""
    sums = np.zeros((n_groups, table.shape[1]), np.int64)
    for column in range(table.shape[1]):
        # Sums of counts are whole numbers far below 2**53.
        sums[:, column] = np.bincount(groups, weights=table[:, column], minlength=n_groups)
    return sums


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
