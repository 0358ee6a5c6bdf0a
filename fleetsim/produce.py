"""The events of a batch, piece by piece in their order, by the path that suits its size.

The plain NumPy path makes small batches and is the other one's oracle; the compiled kernel makes
large ones, in threads. Content does not depend on the path, the threads or the size of a piece.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fleetsim.config import Config
from fleetsim.crew import Crew, Task, cores
from fleetsim.encode import driver_digits, encode_events, interval_dates
from fleetsim.errors import FleetsimError
from fleetsim.fleet import Fleet
from fleetsim.generate import EventColumns, draw_events
from fleetsim.layout import Layout, event_layout, line_width
from fleetsim.model import Kind, Purpose, count_law

__all__ = ["KERNELS", "Kernel", "Piece", "Producer", "content_of", "expected_events"]

logger = logging.getLogger(__name__)

Kernel = Literal["auto", "numpy", "compiled"]
KERNELS: tuple[Kernel, ...] = ("auto", "numpy", "compiled")

#: Expected events from which on loading numba pays off (measured: 0.6 s, against 1 us an event).
LARGE = 1_000_000
#: Size of a piece of lines [bytes]: it stays in a core's cache, and threads seldom meet.
PIECE_BYTES = 1 << 21
#: Events of a piece of columns.
PIECE_EVENTS = 1 << 15

_SCAN = np.uint64(1 << 22)  # drivers looked at in one call of the kernel, which no signal ends
_AHEAD = 8  # pieces in the making at most: more jobs than these would only wait
_DAY_US = 86_400_000_000


class Piece(NamedTuple):
    """Consecutive events of a batch: as columns, or as the bytes of their lines.

    Lines may stand in a buffer that is used again after `release` was called.
    """

    events: int
    columns: EventColumns | None
    lines: Any
    release: Callable[[], object] | None


@dataclass(frozen=True)
class _Interval:
    """Which batch."""

    start_us: int
    ordinal: int


def expected_events(config: Config, fleet: Fleet, start_us: int) -> float:
    """Return how many events a batch is expected to hold."""
    drivers = int(fleet.eligible(start_us).sum()) * config.drivers_per_company
    return drivers * config.event_rate_per_driver


class Producer:
    """Makes the batches of a configuration and a fleet.

    Parameters
    ----------
    config, fleet
    events : float
        How many are expected, all batches together; the choice of the path follows.
    columns : bool
        Whether pieces come as columns, or else as lines.
    kernel : "auto", "numpy" or "compiled"
        The path, where it is not to follow from the size.
    jobs : int, optional
        Threads; the number of cores by default. Small jobs have none.

    Raises
    ------
    FleetsimError
        Where the compiled kernel is asked for and cannot be had.
    """

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        events: float,
        *,
        columns: bool = False,
        kernel: Kernel = "auto",
        jobs: int | None = None,
    ) -> None:
        self._config, self._fleet = config, fleet
        self._columns = columns
        large = kernel == "compiled" or events >= LARGE
        self._workshop: _Workshop | None = None
        if large and kernel != "numpy":
            self._workshop = _workshop(config, fleet, columns, required=kernel == "compiled")
        self.crew = Crew((jobs or cores()) if large else 1)

    def __enter__(self) -> Producer:
        self.crew.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.crew.__exit__(*exception)

    def pieces(self, start_us: int, ordinal: int) -> Iterator[Piece]:
        """Yield a batch piece by piece; each is released before many more are taken."""
        if self._workshop is not None:
            return self._workshop.pieces(self.crew, _Interval(start_us, ordinal))
        return self._plain(start_us, ordinal)

    def _plain(self, start_us: int, ordinal: int) -> Iterator[Piece]:
        for events in draw_events(self._config, self._fleet.eligible(start_us), ordinal):
            if self._columns:
                yield Piece(len(events), events, None, None)
            else:
                lines = encode_events(self._config, self._fleet, start_us, events)
                yield Piece(len(events), None, lines, None)


def content_of(
    config: Config,
    fleet: Fleet,
    start_us: int,
    ordinal: int,
    *,
    kernel: Kernel = "auto",
    jobs: int | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Yield the content of a batch piece by piece: number of events, and their JSON lines."""
    events = expected_events(config, fleet, start_us)
    with Producer(config, fleet, events, kernel=kernel, jobs=jobs) as producer:
        for piece in producer.pieces(start_us, ordinal):
            lines = bytes(piece.lines)
            if piece.release:
                piece.release()
            yield piece.events, lines


_warned: set[str] = set()


def _workshop(config: Config, fleet: Fleet, columns: bool, *, required: bool) -> _Workshop | None:
    """Return what makes pieces by the kernel; None, with one warning, where it cannot be had."""
    layout = event_layout(config)
    why = None
    if layout is None:
        why = "it does not know every field of the data model"
    elif sys.byteorder != "little":
        why = "it writes for little-endian machines"
    else:
        try:
            import fleetsim.compiled  # noqa: F401 - whether it can be had

            return _Workshop(config, fleet, layout, columns)
        except ImportError as error:
            why = f"numba cannot be loaded ({error})"
    if required:
        raise FleetsimError(f"the compiled kernel cannot be used: {why}")
    if why not in _warned:
        _warned.add(why)
        logger.warning("the compiled kernel is not used: %s; the plain path is slower", why)
    return None


@dataclass(frozen=True)
class _Slot:
    """Room in which one piece after another is made; its arrays are those of the kernel."""

    runs: npt.NDArray[np.uint64]
    drawn: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.uint64]
    out: npt.NDArray[np.uint8]
    template: npt.NDArray[np.uint8]
    segments: npt.NDArray[np.uint64]


class _Workshop:
    """Makes pieces by the compiled kernel."""

    def __init__(self, config: Config, fleet: Fleet, layout: Layout, columns: bool) -> None:
        from fleetsim import compiled

        self._kernel, self._layout = compiled, layout
        self._config, self._fleet = config, fleet
        self._columns = columns
        self._table = np.array(count_law(config).thresholds, np.uint64)
        self._drivers = len(fleet) * config.drivers_per_company
        self._width = line_width(config, self._drivers)
        self.room = PIECE_EVENTS if columns else max(1, PIECE_BYTES // self._width)
        slack = np.zeros(compiled.SLACK, np.uint8)
        self._ids = np.concatenate([fleet.company_id.ravel(), slack])
        self._free: SimpleQueue[_Slot] = SimpleQueue()
        self._slots = 0
        self._try_out()

    def _try_out(self) -> None:
        """Load or compile the kernel here, so that no thread has to; survive a full disk."""
        slot = self._slot(1)
        nobody = np.zeros(1, np.bool_)
        for last in (False, True):
            try:
                self._plan(np.zeros(3, np.uint64), slot, 1, 0, nobody)
                self._draw(slot, 0, slot.drawn, 0, 0)
                self._encode(slot, 0, 0)
                return
            except OSError:  # the machine code could not be written
                if last:
                    raise
                self._kernel.keep_nothing()

    def _slot(self, room: int) -> _Slot:
        layout, kernel = self._layout, self._kernel
        width = self._width + kernel.SLACK
        return _Slot(
            runs=np.empty((room, kernel.RUN_COLUMNS), np.uint64),
            drawn=np.empty((layout.columns, room), np.uint64),
            offsets=np.empty(len(self._table) + 1, np.uint64),
            out=np.empty(0 if self._columns else room * self._width + kernel.SLACK, np.uint8),
            template=np.empty(width, np.uint8),
            segments=np.empty((layout.segments, 2), np.uint64),
        )

    def _plan(
        self,
        cursor: npt.NDArray[np.uint64],
        slot: _Slot,
        room: int,
        ordinal: int,
        eligible: npt.NDArray[np.bool_],
    ) -> tuple[int, int]:
        n_runs, n_events = self._kernel.plan(
            cursor,
            slot.runs,
            np.uint64(room),
            _SCAN,
            np.uint64(self._config.seed),
            np.uint64(Purpose.EVENT_COUNT),
            np.uint64(ordinal),
            np.uint64(self._config.drivers_per_company),
            eligible,
            self._table,
        )
        return int(n_runs), int(n_events)

    def _draw(
        self, slot: _Slot, n_runs: int, out: npt.NDArray[np.uint64], at: int, ordinal: int
    ) -> None:
        layout = self._layout
        self._kernel.draw(
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

    def _encode(self, slot: _Slot, n: int, start_us: int) -> int:
        layout, config = self._layout, self._config
        size = self._kernel.encode(
            slot.out,
            slot.drawn,
            np.uint64(n),
            np.uint64(start_us % _DAY_US),
            interval_dates(start_us, self._kernel.DAY_COLUMN),
            np.uint64(config.drivers_per_company),
            np.uint64(driver_digits(config)),
            self._ids,
            layout.ops,
            layout.places,
            layout.parts,
            layout.text,
            layout.names,
            layout.name_spans,
            slot.template,
            slot.segments,
        )
        return int(size)

    def pieces(self, crew: Crew, interval: _Interval) -> Iterator[Piece]:
        """Yield a batch in pieces, made by as many threads as the crew has."""
        ahead = min(crew.jobs, _AHEAD)
        while self._slots < ahead + (3 if crew.jobs > 1 else 0):  # one is written, two are hashed
            self._free.put(self._slot(self.room))
            self._slots += 1
        eligible = self._fleet.eligible(interval.start_us)
        cursor = np.zeros(3, np.uint64)
        making: deque[tuple[_Slot, int, Task]] = deque()
        more = True
        try:
            while more or making:
                while more and len(making) < ahead:
                    try:
                        slot = self._free.get(block=not making)
                    except Empty:
                        break
                    n_runs, n = self._plan(cursor, slot, self.room, interval.ordinal, eligible)
                    more = int(cursor[0]) < self._drivers
                    if n:
                        task = crew.submit(self._make, slot, n_runs, n, interval)
                        making.append((slot, n, task))
                    else:
                        self._free.put(slot)
                if making:
                    slot, n, task = making.popleft()
                    content = task.result()
                    release = partial(self._free.put, slot)
                    if self._columns:
                        yield Piece(n, content, None, release)
                    else:
                        yield Piece(n, None, slot.out[:content].data, release)
        finally:
            for slot, _, task in making:  # left early: the room is ours again when they end
                with suppress(Exception):
                    task.result()
                self._free.put(slot)

    def _make(self, slot: _Slot, n_runs: int, n: int, interval: _Interval) -> Any:
        self._draw(slot, n_runs, slot.drawn, 0, interval.ordinal)
        if self._columns:
            return self.columns(slot.drawn[:, :n])
        return self._encode(slot, n, interval.start_us)

    def columns(self, drawn: npt.NDArray[np.uint64]) -> EventColumns:
        """Return drawn words as columns, without a copy."""
        named: dict[str, Any] = {}
        for row, first in zip(self._layout.fields, self._layout.draw_columns.tolist(), strict=True):
            if row.kind is Kind.UUID:
                named[row.name] = drawn[first : first + 2].T
            else:
                named[row.name] = drawn[first].view(np.int64)
        return EventColumns(driver=drawn[0].view(np.int64), drawn=named)
