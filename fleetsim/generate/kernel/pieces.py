"""Pieces of a batch by the compiled kernel: room that is used again and again, and who fills it."""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import DAY_US
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.encode import driver_digits, interval_dates, line_width
from fleetsim.generate.events import EventColumns
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel.interface import DAY_COLUMN, RUN_COLUMNS, SLACK, SORT_WORDS
from fleetsim.generate.kernel.layout import Layout, event_layout
from fleetsim.generate.kernel.machine import kernels, new_kernels
from fleetsim.generate.model import FieldKind, Purpose, count_law
from fleetsim.generate.threads import PAGE, Future, Piece, Threads

if TYPE_CHECKING:
    from fleetsim.generate.kernel.dirty import CompiledInjection

#: Size of a piece of lines [bytes]: threads seldom meet, and memory stays small (measured: pieces
#: of an eighth take twice as long).
PIECE_BYTES = 1 << 22
#: Events of a piece of columns.
PIECE_EVENTS = 1 << 14

_SCAN = np.uint64(1 << 22)  # drivers looked at in one call of the kernel, which no signal ends
_AHEAD = 8  # pieces in the making at most: more jobs than these would only wait


@dataclass(frozen=True)
class _Slot:
    """Room in which one piece after another is made; its arrays are those of the kernel."""

    runs: npt.NDArray[np.uint64]
    drawn: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.uint64]
    out: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.uint64]
    template: npt.NDArray[np.uint8]
    segments: npt.NDArray[np.uint64]


class PieceMaker:
    """Makes pieces by the compiled kernel."""

    def __init__(self, config: Config, fleet: Fleet, layout: Layout, columns: bool) -> None:
        self._kernels = kernels()
        self._layout = layout
        self._config, self._fleet = config, fleet
        self._columns = columns
        self._table = np.array(count_law(config).thresholds, np.uint64)
        self._drivers = range(
            fleet.first * config.drivers_per_company,
            (fleet.first + len(fleet)) * config.drivers_per_company,
        )
        self._width = line_width(config, self._drivers.stop)
        self.room = PIECE_EVENTS if columns else max(1, PIECE_BYTES // self._width)
        slack = np.zeros(SLACK, np.uint8)
        self._ids = np.concatenate([fleet.company_id.ravel(), slack])
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        self._slots = 0
        self._dates: tuple[int, npt.NDArray[np.uint8]] | None = None
        self._try_out()

    def _try_out(self) -> None:
        """Load or compile the kernel here, so that no thread has to; survive a full disk."""
        slot = self._slot(1)
        nobody = np.zeros(1, np.bool_)
        cursor = np.array([self._drivers.start, 0, 0], np.uint64)
        for last in (False, True):
            try:
                self._plan(cursor, slot, 1, 0, self._drivers.start + 1, nobody)
                self._draw(slot, 0, slot.drawn, 0, 0)
                self._encode(slot, 0, 0, 0)
                return
            except OSError:  # the machine code could not be written
                if last:
                    raise
                self._kernels.keep_nothing()

    def _slot(self, room: int) -> _Slot:
        layout = self._layout
        width = self._width + SLACK
        return _Slot(
            runs=np.empty((room, RUN_COLUMNS), np.uint64),
            drawn=np.empty((layout.columns, room), np.uint64),
            offsets=np.empty(len(self._table) + 1 + SORT_WORDS, np.uint64),
            out=_paged(0 if self._columns else PAGE + room * self._width + SLACK),
            ends=np.empty(0 if self._columns else room, np.uint64),
            template=np.empty(width, np.uint8),
            segments=np.empty((layout.segments, 2), np.uint64),
        )

    def _plan(
        self,
        cursor: npt.NDArray[np.uint64],
        slot: _Slot,
        room: int,
        ordinal: int,
        drivers: int,
        eligible: npt.NDArray[np.bool_],
    ) -> tuple[int, int]:
        n_runs, n_events = self._kernels.plan(
            cursor,
            slot.runs,
            np.uint64(room),
            _SCAN,
            np.uint64(self._config.seed),
            np.uint64(Purpose.EVENT_COUNT),
            np.uint64(ordinal),
            np.uint64(self._config.drivers_per_company),
            np.uint64(drivers),
            eligible,
            np.uint64(self._fleet.first),
            self._table,
        )
        return int(n_runs), int(n_events)

    def _draw(
        self, slot: _Slot, n_runs: int, out: npt.NDArray[np.uint64], at: int, ordinal: int
    ) -> None:
        layout = self._layout
        self._kernels.draw(
            slot.runs,
            np.uint64(n_runs),
            out,
            np.uint64(at),
            np.uint64(self._config.seed),
            np.uint64(ordinal),
            np.uint64(self._config.interval_us),
            layout.draw_ops,
            layout.purposes,
            layout.draw_columns,
            layout.spans,
            layout.table,
            layout.order,
            slot.offsets,
        )

    def _encode(self, slot: _Slot, n: int, start_us: int, at: int) -> int:
        how = self._how(slot, start_us)
        out, stop = slot.out[at:], np.uint64(n)
        return int(self._kernels.encode(out, slot.ends, slot.drawn, np.uint64(0), stop, *how))

    def _how(self, slot: _Slot, start_us: int) -> tuple[Any, ...]:
        """Return what `compiled.encode` takes behind the events' places."""
        layout, config = self._layout, self._config
        return (
            np.uint64(start_us % DAY_US),
            self._dates_of(start_us),
            np.uint64(config.drivers_per_company),
            np.uint64(driver_digits(config)),
            self._ids,
            np.uint64(self._fleet.first),
            layout.ops,
            layout.places,
            layout.parts,
            layout.text,
            layout.names,
            layout.name_spans,
            slot.template,
            slot.segments,
        )

    def _dates_of(self, start_us: int) -> npt.NDArray[np.uint8]:
        """Return the dates that an interval touches, which are the same for all its pieces."""
        known = self._dates
        if known is None or known[0] != start_us:
            self._dates = known = (start_us, interval_dates(start_us, DAY_COLUMN))
        return known[1]

    def pieces(
        self,
        threads: Threads,
        start_us: int,
        ordinal: int,
        drivers: range | None = None,
        injection: CompiledInjection | None = None,
    ) -> Iterator[Piece]:
        """Yield a batch, or the part of some drivers, in pieces.

        They are drawn by as many threads as the threads has.

        Lines are written here: that takes a fraction of the time of their hash, which no number of
        threads makes faster, and then each piece can begin where the pages of the file want it.
        `injection` writes them with their defects.
        """
        ahead = min(threads.jobs, _AHEAD)
        while self._slots < ahead + (
            3 if threads.jobs > 1 else 0
        ):  # one is written, two are hashed
            self._free.put(self._slot(self.room))
            self._slots += 1
        eligible = self._fleet.eligible(start_us)
        drivers = self._drivers if drivers is None else drivers
        cursor = np.array([drivers.start, 0, 0], np.uint64)
        making: deque[tuple[_Slot, int, Future]] = deque()
        more, position = True, 0
        behind = _Behind(threads)
        try:
            while more or making:
                while more and len(making) < ahead:
                    try:
                        slot = self._free.get(block=not making)
                    except Empty:
                        break
                    n_runs, n = self._plan(cursor, slot, self.room, ordinal, drivers.stop, eligible)
                    more = int(cursor[0]) < drivers.stop
                    if n:
                        future = threads.submit(self._make, slot, n_runs, n, ordinal)
                        making.append((slot, n, future))
                    else:
                        self._free.put(slot)
                if making:
                    slot, n, future = making.popleft()
                    content = future.result()
                    if self._columns:
                        yield Piece(n, content, None, partial(self._free.put, slot))
                    elif injection is not None:
                        yield from behind.then(self._inject, injection, slot, n, start_us)
                    else:
                        piece = self._written(slot, n, start_us, position % PAGE)
                        position += len(piece.lines)
                        yield piece
            yield from behind.last()
            if injection is not None:
                yield from injection.rest()
        finally:
            with suppress(Exception):
                list(behind.last())
            for slot, _, future in making:  # left early: the room is ours again when they end
                with suppress(Exception):
                    future.result()
                self._free.put(slot)

    def _written(self, slot: _Slot, n: int, start_us: int, first: int) -> Piece:
        """Return the lines of drawn events, from a place in a page on."""
        end = first + self._encode(slot, n, start_us, first)
        lines, paged = slot.out[first:end].data, slot.out[:end].data
        return Piece(n, None, lines, partial(self._free.put, slot), paged)

    def _inject(self, injection: CompiledInjection, slot: _Slot, n: int, start_us: int) -> Piece:
        try:
            return injection.piece(slot.drawn, n, self._how(slot, start_us))
        finally:
            self._free.put(slot)

    def _make(self, slot: _Slot, n_runs: int, n: int, ordinal: int) -> EventColumns | None:
        self._draw(slot, n_runs, slot.drawn, 0, ordinal)
        return self.columns(slot.drawn[:, :n]) if self._columns else None

    def columns(self, drawn: npt.NDArray[np.uint64]) -> EventColumns:
        """Return drawn words as columns, without a copy."""
        named: dict[str, Any] = {}
        for row, first in zip(self._layout.fields, self._layout.draw_columns.tolist(), strict=True):
            if row.kind is FieldKind.UUID:
                named[row.name] = drawn[first : first + 2].T
            else:
                named[row.name] = drawn[first].view(np.int64)
        return EventColumns(driver=drawn[0].view(np.int64), drawn=named)


class _Behind:
    """Work that takes pieces one after the other, each while the one before is written."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._future: Future | None = None

    def then(self, work: Callable[..., Piece], *arguments: Any) -> Iterator[Piece]:
        """Yield the piece before, if there is one, when the next one is under way."""
        done = list(self.last())
        self._future = self._threads.submit(work, *arguments)
        yield from done

    def last(self) -> Iterator[Piece]:
        """Yield the piece that is under way, if there is one."""
        future, self._future = self._future, None
        if future is not None:
            yield future.result()


def _paged(size: int) -> npt.NDArray[np.uint8]:
    """Return an array that begins with a page of memory."""
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]


def compile_kernel() -> None:
    """Compile the kernel and keep the machine code, as `make setup` does once; then try it out."""
    new_kernels()
    one = {"seed": 0, "number_of_companies": 1, "drivers_per_company": 1}
    laws = {"event_rate_per_driver": 1, "company_onboarding_interval": "PT1H"}
    config = make_config(one | laws)
    fleet = Fleet(
        np.zeros((1, 36), np.uint8), np.zeros(1, np.bool_), np.zeros(1, np.int64), sha256=""
    )
    layout = event_layout(config)
    if layout is not None:
        _try_out_injection(PieceMaker(config, fleet, layout, columns=False))  # which tries it out


def _try_out_injection(maker: PieceMaker) -> None:
    """Try out also what puts defects into lines, by a batch of which one is late."""
    from fleetsim.generate.kernel.dirty import CompiledInjection

    config = make_config(maker._config.as_dict(), {"defects": {"late": 1}})
    fleet = Fleet(
        np.full((1, 36), ord("0"), np.uint8), np.ones(1, np.bool_), np.zeros(1, np.int64), sha256=""
    )
    layout = event_layout(config)
    assert layout is not None  # noqa: S101 - the maker has one
    dirty = PieceMaker(config, fleet, layout, columns=False)
    injection = CompiledInjection(config, fleet, DAY_US, 1, range(1), lambda lines: None)
    for piece in dirty.pieces(Threads(1), DAY_US, 1, None, injection):
        if piece.release:
            piece.release()
