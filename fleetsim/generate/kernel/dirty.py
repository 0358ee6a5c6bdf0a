"""Defects in the pieces of the compiled kernel: the bytes of `inject.Injection`, by machine code.

What is decided is drawn by the same words; what a defect does to a line is done by the kernel,
which leaves room for the hashes in the ledger's lines.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from queue import Empty, SimpleQueue
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import DAY_US, LAST_US, batch_name, format_time
from fleetsim.generate.config import Config
from fleetsim.generate.defects import DEFECT_KINDS, defect_thresholds
from fleetsim.generate.encode import driver_digits, encode_events, line_width
from fleetsim.generate.events import EventColumns, Places, draw_places
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel.interface import CONSTANTS, DELIVERED, SLACK
from fleetsim.generate.kernel.machine import kernels
from fleetsim.generate.kernel.pieces import _paged
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, Purpose, count_law, escaped
from fleetsim.generate.patches import EXTRA_KEYS, names_not_configured
from fleetsim.generate.streams import BLOCK
from fleetsim.generate.strikes import earliest_late, late_source
from fleetsim.generate.threads import PAGE, Piece

_SLOTS = 1100  # copies that can wait: one for each of the events within reach, and some
_BEFORE_DAYS, _DAYS = 2, 9  # dates that a time may be moved to, about that of the start
_FIRST_US = -62_135_596_800_000_000  # the year 1
_ENTRY = 700  # bytes of a ledger's line, but for the values in it
_NEVER = 2**62
_STRIKES = 1 << 13  # struck ones that are decided at a time
#: Events, and late records, that are decided ahead at most: few records at a time cost far more.
_AHEAD, _AHEAD_LATE = 300_000, 10_000
_STEPS, _STATE = ("Init", "Update", "Final"), 512  # of OpenSSL; bytes of its state, and more

Signed = npt.NDArray[np.int64]
Drawn = npt.NDArray[np.uint64]


class CompiledInjection:
    """Puts defects into the lines of one batch, or of one part of it; see `inject.Injection`."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        start_us: int,
        ordinal: int,
        drivers: range,
        ledger: Callable[[bytes], object],
        part: str | None = None,
    ) -> None:
        self._config, self._fleet, self._ledger = config, fleet, ledger
        self._source = late_source(config, start_us, ordinal)
        self._decisions = _Decisions(config, fleet, start_us, ordinal, drivers)
        # A name may become longer in the other letter case: an eszett becomes two letters.
        self._clean_width = line_width(config, drivers.stop)
        self._width = 3 * self._clean_width + 256
        self._scratch = np.zeros(DELIVERED * self._clean_width + SLACK, np.uint8)
        self._ends = np.zeros(DELIVERED, np.uint64)
        self._tables = _tables(config, start_us, part, self._source and self._source.start_us)
        rows = np.zeros((_SLOTS, 7), np.int64)
        rows[:-1, 0] = np.arange(1, _SLOTS)  # each free row names the next one
        rows[0, 1] = self._width * 2
        heads, tails = np.zeros(2048, np.int64), np.zeros(2048, np.int64)
        self._pending = (heads, tails, rows, np.zeros(_SLOTS * self._width * 2 + 64, np.uint8))
        self._rep = np.zeros(self._width + SLACK, np.uint8)
        self._late_kind = list(config.defects).index("late") if "late" in config.defects else -1
        self._free: SimpleQueue[npt.NDArray[np.uint8]] = SimpleQueue()
        self._book = _paged(0)
        self._shift = self._decided = self._position = self._first = 0
        self._waiting: list[tuple[Signed, npt.NDArray[np.uint64]]] = []
        self._late = _no_late()
        self._ahead = 0
        if self._source is not None:
            rate = config.defects["late"].rate
            self._ahead = min(_AHEAD, int(_AHEAD_LATE / rate)) if rate else _AHEAD

    def piece(self, drawn: Drawn, n: int, how: tuple[Any, ...]) -> Piece:
        """Return the next n events that were drawn, as they are delivered.

        Parameters
        ----------
        drawn : uint64 array (columns, n or more)
        n : int
        how : tuple
            What `compiled.encode` takes behind the places of the events.
        """
        first, self._first = self._first, self._first + n
        return self._make(drawn, n, how, first, self._first)

    def rest(self) -> Iterator[Piece]:
        """Yield what comes behind the last event, if anything does."""
        last = self._make(None, 0, (), self._first, _NEVER)
        if last.events:
            yield last

    def _decide(self, end: int) -> tuple[Signed, npt.NDArray[np.uint64]]:
        """Return the struck ones of the events up to a number, and their words."""
        late: list[tuple[int, Places]] = []
        ahead = self._ahead if self._decided < end else 0
        while self._decided < end + ahead:
            decided = self._decisions.next(end + ahead)
            if decided is None:
                break
            strikes, words, self._decided, places = decided
            self._waiting.append((strikes, words))
            late += [(self._decided, places)] if places else []
        if late:
            self._late = _and_then(self._late, self._lines_of(late))
        if not self._waiting:
            return np.zeros((0, 3), np.int64), np.zeros((0, 4), np.uint64)
        strikes, words = self._waiting[0]
        if len(self._waiting) > 1:
            strikes = np.concatenate([some for some, _ in self._waiting])
            words = np.concatenate([some for _, some in self._waiting])
        here = int(np.searchsorted(strikes[:, 0], end))
        self._waiting = [(strikes[here:], words[here:])]
        return strikes[:here], words[:here]

    def _late_until(self, end: int) -> tuple[Signed, npt.NDArray[np.uint8], Signed]:
        """Return before which events late records come, their lines, and where those end."""
        places, text, ends = self._late
        n = int(np.searchsorted(places, end, side="right"))
        self._late = places[n:], text, ends[n:]
        return places[:n], text, ends[: n + 1]

    def _lines_of(self, late: list[tuple[int, Places]]) -> _Late:
        """Return the lines of late records, drawn anew."""
        assert self._source is not None  # noqa: S101 (or there are none)
        events = self._decisions.draw(self._source.ordinal, [places for _, places in late])
        lines = encode_events(self._config, self._fleet, self._source.start_us, events)
        text = np.frombuffer(lines + bytes(SLACK), np.uint8)
        ends = np.flatnonzero(text == ord("\n")) + 1
        before = np.array([place for place, _ in late])
        return (
            np.repeat(before, [len(places.places) for _, places in late]),
            text,
            np.concatenate([[0], ends]),
        )

    def _make(
        self, drawn: Drawn | None, n: int, how: tuple[Any, ...], first: int, end: int
    ) -> Piece:
        """Return one piece with its defects, in room that is used again."""
        strikes, words = self._decide(end)
        places, text, late_ends = self._late_until(end)
        waiting = _SLOTS + len(strikes) + len(places)
        room = int(late_ends[-1] - late_ends[0]) + SLACK
        size = PAGE + n * self._clean_width + waiting * self._width + room
        out = self._room(size)
        book = self._book = _at_least(self._book, waiting * (_ENTRY + 2 * self._width))
        entries = np.empty((waiting, 3), np.int64)
        at = self._position % PAGE
        late = (self._late_kind, places, text, late_ends)
        more = (
            first, strikes, words, self._tables, self._pending, late, book, entries, self._shift,
            self._rep,
        )  # fmt: skip
        if drawn is None:
            done = kernels().inject(out[at:], self._scratch, self._ends, 0, *more)
        else:
            done = kernels().deliver(out[at:], self._scratch, self._ends, drawn, n, how, *more)
        lines, length, noted, count, self._shift = done
        self._position += lines
        content = out[at : at + lines].data
        self._note(content, book, length, entries, noted)
        return Piece(count, None, content, partial(self._free.put, out), out[: at + lines].data)

    def _note(self, content: Any, book: Any, length: int, entries: Signed, n: int) -> None:
        """Hand on the lines of the ledger, with their hashes."""
        kernels().put_hashes(book, entries, n, _hashes(content, entries, n))
        if length:
            self._ledger(book[:length].tobytes())

    def _room(self, size: int) -> npt.NDArray[np.uint8]:
        """Return room of a size at least, that which was used before if there is some."""
        try:
            return _at_least(self._free.get_nowait(), size)
        except Empty:
            return _at_least(_paged(0), size)


#: Before which events late records come, ascending; their lines; where each begins, and the end.
_Late = tuple[Signed, npt.NDArray[np.uint8], Signed]


def _no_late() -> _Late:
    return np.zeros(0, np.int64), np.zeros(SLACK, np.uint8), np.zeros(1, np.int64)


def _and_then(waiting: _Late, later: _Late) -> _Late:
    """Return late records and those that follow them."""
    places, text, ends = waiting
    if not len(places):
        return later
    own = text[ends[0] : ends[-1]]
    more, lines, begins = later
    return (
        np.concatenate([places, more]),
        np.concatenate([own, lines]),
        np.concatenate([ends[:-1] - ends[0], begins + len(own)]),
    )


def _hashes(content: Any, entries: Signed, n: int) -> npt.NDArray[np.uint8]:
    """Return the SHA-256 of lines, 32 bytes each."""
    digests = np.zeros(32 * n + 32, np.uint8)
    functions = _functions_of_openssl()
    if functions is None:
        places = zip(entries[:n, 0].tolist(), entries[:n, 1].tolist(), strict=True)
        joined = b"".join([hashlib.sha256(content[a:b]).digest() for a, b in places])
        digests[: 32 * n] = np.frombuffer(joined, np.uint8)
        return digests
    state, lines = np.zeros(_STATE, np.uint8), np.frombuffer(content or b"\0", np.uint8)
    kernels().hash_lines(
        functions,
        np.uint64(state.ctypes.data),
        np.uint64(lines.ctypes.data),
        entries,
        n,
        np.uint64(digests.ctypes.data),
    )
    return digests


@cache
def _functions_of_openssl() -> npt.NDArray[np.uint64] | None:
    """Return the addresses of the functions behind `hashlib.sha256`; None where they are hidden.

    A line is hashed in a fifth of the time that the way over an object of Python takes.
    """
    if np.dtype(np.uintp).itemsize != 8:
        return None
    try:
        import _hashlib

        library = ctypes.CDLL(_hashlib.__file__)
        begin, go_on, end = (getattr(library, f"SHA256_{name}") for name in _STEPS)
    except (ImportError, AttributeError, OSError):
        return None
    state, digest = ctypes.create_string_buffer(_STATE), ctypes.create_string_buffer(32)
    begin(state)
    go_on(state, b"fleetsim", ctypes.c_size_t(8))
    end(digest, state)
    if digest.raw != hashlib.sha256(b"fleetsim").digest():
        return None
    places = [ctypes.cast(step, ctypes.c_void_p).value for step in (begin, go_on, end)]
    return np.array(places, np.uint64)


class _Decisions:
    """What is decided of a batch's events, by the kernel; see `strikes.draw_strikes`."""

    def __init__(
        self, config: Config, fleet: Fleet, start_us: int, ordinal: int, drivers: range
    ) -> None:
        self._config, self._fleet, self._ordinal = config, fleet, ordinal
        self._table = np.array(count_law(config).thresholds, np.uint64)
        self._thresholds = np.array(defect_thresholds(config), np.uint64)
        purposes = (Purpose.EVENT_COUNT, Purpose.DEFECT, Purpose.DEFECT_DETAIL)
        self._purposes = np.array(purposes, np.uint64)
        self._companies = (
            np.uint64(config.drivers_per_company),
            fleet.eligible(start_us),
            np.uint64(fleet.first),
        )
        # The events of one driver have to find room.
        room = max(_STRIKES, len(self._table) + 1)
        self._strikes, self._details = np.empty((room, 3), np.int64), np.empty((room, 4), np.uint64)
        self._cursor = np.array([drivers.start // BLOCK, 0, 0, 0, 0], np.uint64)
        self._stop = drivers.stop
        self._source = late_source(config, start_us, ordinal)
        self._earlier = None if self._source is None else fleet.eligible(self._source.start_us)
        self._late_words = _words_of_late(config)
        self._places = np.empty(1024, np.int64)
        self._counts, self._keep = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.bool_)

    def next(self, end: int) -> tuple[Signed, Drawn, int, Places | None] | None:
        """Return what is decided next, of at least `end` events in all after enough calls.

        That is the struck ones with their words, how many events are decided in all, and which
        late records come behind these, if any; None where all is decided.
        """
        block = int(self._cursor[0])
        if block * BLOCK >= self._stop:
            return None
        config = self._config
        n = kernels().strike(
            self._cursor, np.uint64(end), np.uint64(self._source is not None),
            np.uint64(config.seed), self._purposes, np.uint64(self._ordinal),
            np.uint64(self._stop), self._companies,
            self._table, self._thresholds, np.uint64(len(config.defects)), self._strikes,
            self._details, self._counts, self._keep,
        )  # fmt: skip
        decided = int(self._cursor[4] + self._cursor[3])
        late = None if int(self._cursor[0]) == block else self._late_of(block)
        return self._strikes[:n].copy(), self._details[:n].copy(), decided, late

    def _late_of(self, block: int) -> Places | None:
        """Return which late records come behind a block; None where none does."""
        if self._source is None or self._earlier is None:
            return None
        seed, ordinal = np.uint64(self._config.seed), np.uint64(self._source.ordinal)
        companies = (self._companies[0], self._earlier, self._companies[2])
        while True:
            n, drivers = kernels().find_late(
                self._places, self._counts, self._keep, seed, self._purposes, ordinal,
                np.uint64(block), np.uint64(self._stop), companies, self._table, *self._late_words,
            )  # fmt: skip
            if n <= len(self._places):
                break
            self._places = np.empty(2 * n, np.int64)
        if not n:
            return None
        counts = self._counts[: int(drivers)].astype(np.int64)
        return Places(block, 0, 0, counts, self._places[:n].copy())

    def draw(self, ordinal: int, parts: list[Places]) -> EventColumns:
        """Draw the late records at some places of the batch that they come from."""
        seed = np.uint64(self._config.seed)

        def words_at(part: Places, purpose: Purpose, per_event: int, which: Signed) -> Drawn:
            out = np.empty((len(which), per_event), np.uint64)
            kernels().gather(
                out, seed, np.uint64(purpose), np.uint64(ordinal), np.uint64(part.block),
                np.uint64(per_event), which,
            )  # fmt: skip
            return out

        return draw_places(self._config, ordinal, parts, words_at)


def _words_of_late(config: Config) -> tuple[np.uint64, np.uint64]:
    """Return the smallest and the largest word that makes a record late; none where none does."""
    thresholds = defect_thresholds(config)
    if "late" not in config.defects:
        return np.uint64(1), np.uint64(0)
    kind = list(config.defects).index("late")
    low = thresholds[kind - 1] if kind else 0
    high = thresholds[kind] - 1 if kind < len(thresholds) else 2**64 - 1
    return (np.uint64(low), np.uint64(high)) if low <= high else (np.uint64(1), np.uint64(0))


def _at_least(room: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Return room of a size at least: that which is given, or new one with some to spare."""
    return room if len(room) >= size else _paged(size + size // 8)


def _tables(config: Config, start_us: int, part: str | None, late_us: int | None) -> Any:
    """Return what the kernel knows of a line, of the laws, and of the ledger's lines."""
    texts: list[bytes] = [*CONSTANTS]
    forms = (len(texts), len(config.defects))
    keys = [field.name.encode() for field in EVENT_FIELDS] + list(EXTRA_KEYS)
    end = b"" if part is None else b',"part":' + msgspec.json.encode(part)
    texts.append(b'{"batch_id":"%b","line":' % batch_name(start_us).encode())
    texts += [b',"kind":"%b","event_id":"' % kind.encode() for kind in config.defects]
    texts += [
        b'","expect":"%b"%b}\n' % (defect.expect.encode(), end)
        for defect in config.defects.values()
    ]
    texts += [b'","field":"%b"' % key for key in keys] + [b'","field":null']
    late = b"" if late_us is None else batch_name(late_us).encode()
    texts.append(b'"%b"' % late)
    own = len(texts)
    names = sorted(config.event_types)
    texts += [escaped(name) for name in names]
    texts += [text for name in names for text in names_not_configured(config, name)]
    texts += keys
    spans = np.array([(0, 0)] * len(texts), np.int64)
    spans[:, 1] = [len(text) for text in texts]
    spans[1:, 0] = np.cumsum(spans[:-1, 1])
    joined = np.frombuffer(b"".join(texts) + bytes(SLACK), np.uint8)
    midnight = _midnight(start_us)
    before_us = earliest_late(config, start_us)
    far = _midnight(before_us) - _DAYS * DAY_US  # these dates stand behind the others
    laws = (
        joined,
        spans,
        spans[own : own + len(names)],
        spans[own + len(names) : own + 4 * len(names)],
        np.concatenate([_dates(midnight, _DAYS), _dates(_midnight(before_us), _BEFORE_DAYS + 3)]),
        np.array(
            [
                start_us - midnight,
                config.interval_us,
                LAST_US - midnight,
                before_us - far,
                _FIRST_US - far,
            ],
            np.int64,
        ),
    )
    number = {field.name: place for place, field in enumerate(EVENT_FIELDS)}
    fields = np.zeros((len(config.defects), 7), np.int64)
    for row, defect in zip(fields, config.defects.values(), strict=True):
        row[0] = len(defect.fields)
        row[1 : 1 + len(defect.fields)] = [number[name] for name in defect.fields]
    order = list(DEFECT_KINDS)
    ops = np.array([order.index(kind) for kind in config.defects], np.int64)
    return ops, fields.astype(np.uint64), _shape(config), spans[own + 4 * len(names) :], laws, forms


def _midnight(us: int) -> int:
    """Return the start of the first day whose date is kept for times about this one."""
    return us // DAY_US * DAY_US - _BEFORE_DAYS * DAY_US


def _dates(midnight: int, days: int) -> npt.NDArray[np.uint8]:
    """Return the dates of some days as ``2025-11-08T``, each in 16 bytes; others stay empty."""
    rows = np.zeros((days, 16), np.uint8)
    for day in range(days):
        at = midnight + day * DAY_US
        if _FIRST_US <= at <= LAST_US:
            rows[day, :11] = np.frombuffer(format_time(at)[:11].encode(), np.uint8)
    return rows.ravel()


def _shape(config: Config) -> Signed:
    """Return where values stand in a line: from its start, from one another, and from its end."""
    widths = [36, 41 + driver_digits(config), 36]
    places, at = [], 1
    for field, width in zip(EVENT_FIELDS, widths, strict=False):
        at += len(f'"{field.name}":"')
        places += [at, at + width]
        at += width + len('",')
    third, fourth, last = (field.name for field in EVENT_FIELDS[3:])
    time = 27 + len('"}\n')
    places += [
        at + len(f'"{third}":"'),
        len(f'","{fourth}":"'),
        time + len(f'","{last}":"'),
        time,
    ]
    return np.array(places, np.int64)


def fits() -> bool:
    """Return whether the kernel knows the order and kinds of an event's fields."""
    kinds = (FieldKind.UUID, FieldKind.DRIVER, FieldKind.COMPANY, FieldKind.TRUCK)
    return tuple(f.kind for f in EVENT_FIELDS) == (*kinds, FieldKind.CHOICE, FieldKind.TIME)
