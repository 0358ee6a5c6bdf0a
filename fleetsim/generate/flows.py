"""Clean records on their way through the injection of defects: as lines, and as columns."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import parse_time
from fleetsim.generate.config import Config
from fleetsim.generate.encode import encode_events
from fleetsim.generate.events import EventColumns
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, choice_law
from fleetsim.generate.threads import Piece

_NEWLINE = ord("\n")


class LineFlow:
    """Lines: stretches that nothing struck are passed on as they stand in a piece."""

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._lines: Any = b""
        self._ends: Any = memoryview(b"")
        self._at = self._count = 0

    def open(self, piece: Piece, struck: list[int]) -> None:
        """Take the next piece."""
        self._lines = memoryview(piece.lines)
        ends: Any = piece.ends
        if ends is None:
            ends = np.flatnonzero(np.frombuffer(piece.lines, np.uint8) == _NEWLINE) + 1
        self._ends = np.ascontiguousarray(ends, np.uint64).data
        self._at, self._count = 0, piece.events

    def cut(self, number: int) -> bytes:
        """Pass on what comes before a line, take it out, and return it."""
        start = self._ends[number - 1] if number else 0
        if start > self._at:
            self._parts.append(self._lines[self._at : start])
        self._at = end = self._ends[number]
        self._count -= 1
        return bytes(self._lines[start:end])

    def keep(self, number: int) -> None:
        """Return nothing: a line is all that a copy needs."""

    def pass_to(self, number: int) -> None:
        """Pass on the lines before one."""
        end = self._ends[number - 1] if number else 0
        if end > self._at:
            self._parts.append(self._lines[self._at : end])
            self._at = end

    def put(self, clean: bytes, line: bytes, kept: Any) -> None:
        """Let a line come next."""
        self._parts.append(line)
        self._count += 1

    def close(self) -> Piece:
        """Pass on the rest, and return all."""
        self._parts.append(self._lines[self._at :])
        lines = b"".join(self._parts)
        self._parts = []
        return Piece(self._count, None, lines, None)


class ColumnFlow:
    """Columns: what a defect changes in a line is changed in the row that the line is of."""

    def __init__(self, config: Config, fleet: Fleet, start_us: int) -> None:
        self._config, self._fleet, self._start_us = config, fleet, start_us
        self._events = EventColumns.joined([])
        self._lines: dict[int, bytes] = {}
        self._at = 0
        self._more: list[EventColumns] = []  # rows that stand behind those of the piece
        self._rows: list[npt.NDArray[np.int64]] = []
        self._changed: list[tuple[int, dict[str, Any]]] = []
        self._count = 0

    def open(self, piece: Piece, struck: list[int]) -> None:
        """Take the next piece; the lines of the struck rows are made together."""
        self._events = EventColumns.joined([]) if piece.columns is None else piece.columns
        self._at = self._count = 0
        self._lines = {}
        if struck:
            some = self._events.take(np.array(struck))
            lines = encode_events(self._config, self._fleet, self._start_us, some)
            self._lines = dict(zip(struck, lines.splitlines(keepends=True), strict=True))

    def cut(self, number: int) -> bytes:
        """Pass on the rows before one, take it out, and return its line."""
        self.pass_to(number)
        self._at = number + 1
        return self._lines[number]

    def keep(self, number: int) -> tuple[EventColumns, int]:
        """Return a row, and the start of its interval."""
        return self._events.part(number, number + 1).copy(), self._start_us

    def pass_to(self, number: int) -> None:
        """Pass on the rows before one."""
        if number > self._at:
            self._rows.append(np.arange(self._at, number))
            self._count += number - self._at
            self._at = number

    def put(self, clean: bytes, line: bytes, kept: tuple[EventColumns, int]) -> None:
        """Let a row come next, with what its line has in place of the clean one's values."""
        row, start_us = kept
        self._rows.append(np.array([len(self._events) + len(self._more)]))
        self._more.append(row)
        if line != clean:
            before, after = msgspec.json.decode(clean), msgspec.json.decode(line)
            changed = {name: text for name, text in after.items() if text != before[name]}
            self._changed.append((self._count, changed))
        elif start_us != self._start_us:  # its offset counts from the start of another batch
            self._changed.append((self._count, {"": start_us - self._start_us}))
        self._count += 1

    def close(self) -> Piece:
        """Pass on the rest, and return all."""
        self.pass_to(len(self._events))
        pool = EventColumns.joined([self._events, *self._more])
        order = np.concatenate(self._rows) if self._rows else np.zeros(0, np.int64)
        events = pool.take(order.astype(np.int64))
        replaced: list[tuple[int, str, str | None]] = []
        for row, changed in self._changed:
            replaced += self._change(events, row, changed)
        self._more, self._rows, self._changed = [], [], []
        return Piece(
            len(events), EventColumns(events.driver, events.drawn, tuple(replaced)), None, None
        )

    def _change(
        self, events: EventColumns, row: int, changed: dict[str, Any]
    ) -> list[tuple[int, str, str | None]]:
        """Put what can be drawn into a row's numbers; return the rest, which stands beside them."""
        rest: list[tuple[int, str, str | None]] = []
        for field in EVENT_FIELDS:
            drawn: Any = events.drawn.get(field.name)
            if field.kind is FieldKind.TIME and "" in changed:
                drawn[row] += changed[""]
            if field.name not in changed:
                continue
            text = changed[field.name]
            names = choice_law(self._config, field.key).names if field.key else ()
            if field.kind is FieldKind.TIME and text is not None:
                drawn[row] = parse_time(text) - self._start_us
            elif text in names:
                drawn[row] = names.index(text)
            else:
                rest.append((row, field.name, text))
        return rest
