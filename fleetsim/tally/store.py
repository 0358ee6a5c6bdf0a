"""Events' ids and times: which ids stand twice, and all offsets in order.

Both need all events at once, which memory need not hold: DuckDB sorts them, and spills what is
beyond its limit to a temporary folder. Few events are sorted where they are, by NumPy: they take
less time than DuckDB's start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import groupby
from operator import itemgetter
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fleetsim.base.errors import FleetsimError
from fleetsim.generate.kernel.machine import kept_kernels

Ints: TypeAlias = npt.NDArray[np.int64]
Whole: TypeAlias = npt.NDArray[np.signedinteger[Any]]

MEMORY = "128MB"  # of DuckDB; the process needs about 200 MB more
BUFFER_EVENTS = 1 << 18  # handed to DuckDB at once; no more than these are few
_LINE_BITS = 40  # a place is a file and a line: 2**23 files of 10**12 lines each
TURN_IDS = 6_000_000  # ids that are compared at once
_TABLE = 1 << 22  # words of the table for them, at most; each has two places
_TRIES = 1 << 10  # places where one is looked for
_VECTORS = 64  # of 2048 rows, fetched at once


class DuplicateId(NamedTuple):
    """An id that stands twice: its words, where it stands again, and where it stands first."""

    event_id: tuple[int, int]
    file: int
    line: int
    first_file: int
    first_line: int


class _Rows(NamedTuple):
    """Columns of events, as DuckDB's table has them.

    `moment` is batch x length + offset: one whole number sorts by batch, then by time.
    """

    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]
    place: Ints
    moment: Ints

    @classmethod
    def empty(cls) -> _Rows:
        """Return room for the events that are handed to DuckDB at once."""
        n = BUFFER_EVENTS
        ids, whole = (np.empty((2, n), kind) for kind in (np.uint64, np.int64))
        return cls(*ids, *whole)

    def part(self, start: int, end: int) -> _Rows:
        """Return the rows `start` to `end` - 1."""
        return _Rows._make(column[start:end] for column in self)

    def moments(self, first: int, end: int) -> Ints:
        """Return the moments from `first` on, before `end`."""
        return self.moment[(self.moment >= first) & (self.moment < end)]


class EventStore:
    """Events of many batches, few or any number; close it, or use it with ``with``.

    Parameters
    ----------
    length_us : int
        Length of a batch's interval [microseconds].
    """

    def __init__(self, length_us: int) -> None:
        self._length = length_us
        self._base: Any = None  # DuckDB's, once there are more than a few
        self._stack = ExitStack()
        self._rows = _Rows.empty()
        self._count = self._added = 0
        self._helper = ThreadPoolExecutor(1)  # hands rows to DuckDB beside the reading of others
        self._writing: Future[None] | None = None
        self._flushing = Lock()

    def __enter__(self) -> EventStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._helper.shutdown()
        self._stack.close()

    def add(
        self,
        batch: int,
        event_id: npt.NDArray[np.uint64],
        line: Whole,
        offset_us: Whole,
        *,
        file: int | None = None,
    ) -> None:
        """Take events of a batch, whose files may come in any order.

        Parameters
        ----------
        batch : int
        event_id : uint64 array (n, 2)
        line : int array (n,)
            Line numbers.
        offset_us : int array (n,)
            Offsets; -1 where the time is not inside the interval.
        file : int, optional
            Number of the file, where a batch may have several; by default that of the batch.
        """
        file = batch if file is None else file
        self._added += len(line)
        for start in range(0, len(line), BUFFER_EVENTS):
            part = slice(start, start + BUFFER_EVENTS)
            self._add(batch, file, event_id[part], line[part], offset_us[part])

    def _add(
        self,
        batch: int,
        file: int,
        event_id: npt.NDArray[np.uint64],
        line: Whole,
        offset_us: Whole,
    ) -> None:
        if self._count + len(line) > BUFFER_EVENTS:
            self._flush()
        high, low, place, moment = self._rows.part(self._count, self._count + len(line))
        high[:], low[:] = event_id.T
        np.add(line, file << _LINE_BITS, out=place, dtype=np.int64)
        np.add(offset_us, batch * self._length, out=moment, dtype=np.int64)
        moment[offset_us < 0] = -1
        self._count += len(line)

    def _connect(self) -> None:
        from fleetsim.tally.duck import open_duck  # who has few events does not wait for it

        folder = TemporaryDirectory(prefix="fleetsim-", ignore_cleanup_errors=True)
        spilled = self._stack.enter_context(folder)
        self._base = open_duck(spilled, MEMORY, preserve_insertion_order=False)
        self._stack.callback(self._base.close)
        self._base.execute(
            "CREATE TABLE event (high UBIGINT, low UBIGINT, place BIGINT, moment BIGINT)"
        )

    def _flush(self, *, wait: bool = False) -> None:
        with self._flushing:  # two results may be asked for at once
            if self._writing:
                self._writing.result()
                self._writing = None
            if self._count:
                if self._base is None:
                    self._connect()
                rows = self._rows.part(0, self._count)
                self._rows, self._count = _Rows.empty(), 0
                self._writing = self._helper.submit(self._insert, rows)
            if wait and self._writing:
                self._writing.result()
                self._writing = None

    def _insert(self, rows: _Rows) -> None:
        with _told():
            self._base.register("fresh", rows._asdict())
            self._base.execute("INSERT INTO event SELECT * FROM fresh")
            self._base.unregister("fresh")

    def duplicates(self, most: int) -> tuple[int, list[DuplicateId]]:
        """Return how many events have an id that stands before, and the first of them.

        Parameters
        ----------
        most : int
            How many are returned at most.
        """
        if not self._any_half_twice():
            return 0, []
        total = 0
        first: list[Any] = []  # id and place of the first of the last run
        found: list[tuple[int, DuplicateId]] = []
        query = "SELECT high, low, place FROM event ORDER BY high, low, place"

        def sort(rows: _Rows) -> list[npt.NDArray[Any]]:
            order = np.lexsort((rows.place, rows.low, rows.high))
            return [rows.high[order], rows.low[order], rows.place[order]]

        for high, low, place in self._pieces(query, sort):
            same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
            again = np.concatenate([[bool(first) and first[:2] == [high[0], low[0]]], same])
            heads = np.where(again, -1, np.arange(len(place)))
            head = np.maximum.accumulate(heads)
            total += int(again.sum())
            rows = np.flatnonzero(again)
            rows = rows[np.argsort(place[rows])][:most]
            for i in rows.tolist():
                start = int(place[head[i]]) if head[i] >= 0 else first[2]
                found.append(
                    (int(place[i]), _duplicate(int(high[i]), int(low[i]), place[i], start))
                )
            found = sorted(found)[:most]
            if head[-1] >= 0:
                first = [high[-1], low[-1], int(place[head[-1]])]
        return total, [duplicate for _, duplicate in found]

    def _any_half_twice(self) -> bool:
        """Return whether half of some id may stand twice: quick to see, and mostly not so."""
        kernels: Any = kept_kernels()
        return self._any_twice_sorted() if kernels is None else self._any_twice(kernels)

    def _any_twice(self, kernels: Any) -> bool:
        """Ask the kernel, which seldom says so of ids that differ: its table keeps parts of them.

        It takes the ids in turns, by their last bits, so that the table stays small. Where ids were
        chosen so that one turn has most of them, it becomes too full, which counts as twice.
        """
        total, turns = self._added, 1
        while turns * TURN_IDS < total:
            turns *= 2
        for turn in range(turns):
            table = np.zeros(min(_TABLE, 1 << total.bit_length()), np.uint64)
            for (low,) in self._lows(turns, turn):
                if not kernels.all_new(np.ascontiguousarray(low), table, _TRIES):
                    return True
        return False

    def _lows(self, turns: int, turn: int) -> Iterator[Sequence[npt.NDArray[Any]]]:
        """Yield the half of the ids that one of so many turns takes; they are a power of two."""
        query = f"SELECT low FROM event WHERE low & {turns - 1} = {turn}"  # noqa: S608 (numbers)
        bits = np.uint64(turns - 1)
        return self._pieces(query, lambda rows: [rows.low[rows.low & bits == turn]])

    def _any_twice_sorted(self) -> bool:
        """Sort them: DuckDB does so in bounded memory, while its groups need more with more ids."""
        before = None
        query = "SELECT low FROM event ORDER BY low"
        for (low,) in self._pieces(query, lambda rows: [np.sort(rows.low)]):
            if low[0] == before or (low[1:] == low[:-1]).any():
                return True
            before = low[-1]
        return False

    def offsets(self, first: int, end: int) -> Iterator[Ints]:
        """Yield the offsets of the batches `first` to `end` - 1 together, sorted, in pieces."""
        # A narrower number sorts faster; 2**32 microseconds are 71 minutes.
        narrow = "::UINTEGER" if self._length <= 2**32 else ""
        query = (
            f"SELECT (moment % ?){narrow} AS us FROM event "  # noqa: S608 (no outside text)
            "WHERE moment >= ? AND moment < ? ORDER BY us"
        )
        bounds = first * self._length, end * self._length

        def sort(rows: _Rows) -> list[Ints]:
            return [np.sort(rows.moments(*bounds) % self._length)]

        for (us,) in self._pieces(query, sort, [self._length, *bounds]):
            yield us.astype(np.int64)

    def offsets_by_batch(self, first: int, end: int) -> Iterator[Iterator[Ints]]:
        """Yield for each of the batches its offsets, sorted, in pieces; take them in order."""
        if end == first + 1:
            yield self.offsets(first, end)
            return
        query = "SELECT moment FROM event WHERE moment >= ? AND moment < ? ORDER BY moment"
        bounds = first * self._length, end * self._length
        pieces = self._pieces(query, lambda rows: [np.sort(rows.moments(*bounds))], bounds)
        grouped = groupby(self._split(pieces), key=itemgetter(0))
        batch, mine = next(grouped, (end, iter(())))
        for wanted in range(first, end):
            if wanted < batch:
                yield iter(())
                continue
            yield (part for _, part in mine)
            batch, mine = next(grouped, (end, iter(())))

    def offsets_and_batches(self, first: int, end: int) -> Iterator[tuple[Ints, Ints]]:
        """Yield the offsets of the batches `first` to `end` - 1 and their batches, sorted by both.

        Batches count from `first`.
        """
        query = (
            "SELECT moment % ? AS us, moment // ? - ? AS batch FROM event "
            "WHERE moment >= ? AND moment < ? ORDER BY us, batch"
        )
        length = self._length
        bounds = first * length, end * length

        def sort(rows: _Rows) -> list[Ints]:
            moment = rows.moments(*bounds)
            us, batch = moment % length, moment // length - first
            order = np.lexsort((batch, us))
            return [us[order], batch[order]]

        for us, batch in self._pieces(query, sort, [length, length, first, *bounds]):
            yield us.astype(np.int64), batch.astype(np.int64)

    def _split(self, pieces: Iterator[Sequence[npt.NDArray[Any]]]) -> Iterator[tuple[int, Ints]]:
        """Yield pieces of moments cut where a batch ends, as batch and offsets."""
        for (piece,) in pieces:
            batch = piece // self._length
            cuts = np.flatnonzero(batch[1:] != batch[:-1]) + 1
            for part in np.split(piece, cuts):
                number = int(part[0]) // self._length
                yield number, part - number * self._length

    def _pieces(
        self,
        query: str,
        few: Callable[[_Rows], Sequence[npt.NDArray[Any]]],
        values: Sequence[int] = (),
    ) -> Iterator[Sequence[npt.NDArray[Any]]]:
        """Yield the columns of a result, some hundred thousand rows at a time.

        `few` is the same as the query, of rows that are in memory.
        """
        if self._base is None:
            columns = few(self._rows.part(0, self._count))
            if len(columns[0]):
                yield columns
            return
        self._flush(wait=True)
        # A cursor of its own: two results may be read side by side.
        with _told(), self._base.cursor() as cursor:
            cursor.execute(query, list(values))
            while len(frame := cursor.fetch_df_chunk(_VECTORS)):
                yield [frame[name].to_numpy() for name in frame]


def _duplicate(high: int, low: int, place: int, first: int) -> DuplicateId:
    line = (1 << _LINE_BITS) - 1
    place = int(place)
    return DuplicateId(
        (high, low), place >> _LINE_BITS, place & line, first >> _LINE_BITS, first & line
    )


@contextmanager
def _told() -> Iterator[None]:
    """Turn DuckDB's errors into ours: the disk is full, or even its sort lacks memory."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        why = str(error).partition("\n")[0]
        raise FleetsimError(
            f"the temporary table of the events: {why}; it lies in $TMPDIR and needs about 40 "
            "bytes an event there"
        ) from error
