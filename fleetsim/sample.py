"""The sufficient statistics of batches: all that the battery looks at.

They are made from plain columns of events, drawn in memory or read back from files. The law under
test is not needed for them and not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["TIME_CELLS", "Columns", "Sample", "make_sample"]

Ints: TypeAlias = npt.NDArray[np.int64]

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


@dataclass(frozen=True)
class Sample:
    """Sufficient statistics of B batches of one fleet.

    Attributes
    ----------
    length_us : int
        Length of a batch's interval [microseconds]; a tick is one microsecond.
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
    offsets_us : tuple of int64 array
        Sorted offsets of each batch [microseconds].
    outside : int
        Events whose offset is not in [0, length).
    ties : int64 array (B,)
        Pairs of events of a batch that share a tick.
    ties_across : int
        Pairs of events of two different batches that share a tick.
    """

    length_us: int
    drivers_per_company: int
    counts: Ints
    type_counts: Ints
    types_by_company: Ints
    types_by_time: Ints
    type_pairs: Ints
    offsets_us: tuple[Ints, ...]
    outside: int
    ties: Ints
    ties_across: int

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
        """Number of events in all batches, those outside their interval included."""
        return int(self.counts.sum())

    @property
    def totals(self) -> Ints:
        """Events of each batch, int64 (B,)."""
        totals: Ints = self.counts.sum(axis=1)
        return totals

    @property
    def all_offsets_us(self) -> Ints:
        """Offsets of all batches together, int64 (n_inside,) [microseconds]."""
        return np.concatenate(self.offsets_us)

    @property
    def company_totals(self) -> Ints:
        """Events of each company, int64 (B, companies)."""
        totals: Ints = self._by_company().sum(axis=2)
        return totals

    @property
    def slot_totals(self) -> Ints:
        """Events of the drivers with one number over all companies, int64 (B, per company)."""
        totals: Ints = self._by_company().sum(axis=1)
        return totals

    def _by_company(self) -> Ints:
        return self.counts.reshape(self.n_batches, -1, self.drivers_per_company)


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
    offsets = tuple(np.sort(part) for part in np.split(timed.offset_us, ends[:-1]))
    ties = np.array([_equal_pairs(part) for part in offsets], np.int64)
    together = _equal_pairs(np.sort(timed.offset_us)) if n_batches > 1 else int(ties.sum())
    n_companies = n_drivers // drivers_per_company
    cell = _time_cell(timed.offset_us, length_us)
    return Sample(
        length_us=length_us,
        drivers_per_company=drivers_per_company,
        counts=_table(batch, driver, n_batches, n_drivers),
        type_counts=_table(batch, kind, n_batches, n_types),
        types_by_company=_table(kind, driver // drivers_per_company, n_types, n_companies),
        types_by_time=_table(timed.kind, cell, n_types, TIME_CELLS),
        type_pairs=_type_pairs(timed, n_types),
        offsets_us=offsets,
        outside=len(columns) - len(timed),
        ties=ties,
        ties_across=together - int(ties.sum()),
    )


def _check(
    columns: Columns,
    n_batches: int,
    n_drivers: int,
    n_types: int,
    drivers_per_company: int,
    length_us: int,
) -> None:
    for name, size in (
        ("n_batches", n_batches),
        ("n_drivers", n_drivers),
        ("n_types", n_types),
        ("drivers_per_company", drivers_per_company),
        ("length_us", length_us),
    ):
        if size < 1:
            raise ValueError(f"{name} is {size}, must be >= 1")
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


def _table(rows: Ints, columns: Ints, n_rows: int, n_columns: int) -> Ints:
    """Return how often each pair occurs, int64 (n_rows, n_columns)."""
    flat = np.bincount(rows * n_columns + columns, minlength=n_rows * n_columns)
    return flat.astype(np.int64, copy=False).reshape(n_rows, n_columns)


def _time_cell(offsets: Ints, length_us: int) -> Ints:
    """Return the cell of each offset; intervals of up to a day stay inside 64 bits."""
    return offsets * TIME_CELLS // length_us


def _equal_pairs(ordered: Ints) -> int:
    """Return the number of pairs of equal values among sorted ones."""
    if ordered.size < 2 or not (ordered[1:] == ordered[:-1]).any():
        return 0
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, ordered.size))
    return int((sizes * (sizes - 1) // 2).sum())


def _type_pairs(timed: Columns, n_types: int) -> Ints:
    """Return the table of types of consecutive events of a driver (see `Sample`)."""
    same = (timed.driver[1:] == timed.driver[:-1]) & (timed.batch[1:] == timed.batch[:-1])
    tied = same & (timed.offset_us[1:] == timed.offset_us[:-1])
    gap = np.zeros(1, np.bool_)
    shares_tick = np.concatenate([tied, gap]) | np.concatenate([gap, tied])
    if len(timed) == 0:
        return np.zeros((n_types, n_types), np.int64)
    ordered = same & ~shares_tick[1:] & ~shares_tick[:-1]
    return _table(timed.kind[:-1][ordered], timed.kind[1:][ordered], n_types, n_types)
