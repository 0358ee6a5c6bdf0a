"""The one sequential step that puts defects into the events of a batch, and writes its ledger.

It takes the clean pieces in their order, cuts out the records that are struck, and puts what
becomes of them in their place: patched, doubled later, or left out until a later batch. Records
that are not struck are passed on as they are. Nothing here depends on where pieces begin or end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any, NamedTuple, Protocol

import msgspec

from fleetsim.base.clock import batch_name
from fleetsim.generate.config import Config
from fleetsim.generate.encode import encode_events
from fleetsim.generate.events import EventColumns
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import EVENT_FIELDS
from fleetsim.generate.patches import EXTRA_KEYS, Patch, Patches
from fleetsim.generate.strikes import Strikes, draw_strikes, late_source
from fleetsim.generate.threads import Piece

#: A copy comes at most so many events behind the first record.
COPY_DISTANCE = 1024

_SHIFT = 64
_EVENT_ID = next(i for i, field in enumerate(EVENT_FIELDS) if field.name == "event_id")
_NEVER = 2**63
_END = -1  # in place of a kind: the end of a block behind which late records come
_NULL = b"null"


class Flow(Protocol):
    """Clean records on their way, as lines or as columns; numbers count within a piece."""

    def open(self, piece: Piece, struck: list[int]) -> None:
        """Take the next piece, of which some records are struck."""

    def cut(self, number: int) -> bytes:
        """Pass on what comes before a record, take it out, and return its line."""

    def keep(self, number: int) -> Any:
        """Return what a copy of a record needs besides its line."""

    def pass_to(self, number: int) -> None:
        """Pass on what comes before a record."""

    def put(self, clean: bytes, line: bytes, kept: Any) -> None:
        """Let a record come next, whose clean line is given with that which it has now."""

    def close(self) -> Piece:
        """Pass on the rest, and return all."""


class _Copy(NamedTuple):
    """A second record that is due behind the event of some number."""

    place: int
    order: int
    clean: bytes
    line: bytes
    kind: int
    field: int
    original: bytes
    injected: bytes
    first: int
    kept: Any


class Injection:
    """Puts defects into one batch, or into one part of it.

    Parameters
    ----------
    config, fleet
    start_us, ordinal : int
        Of the batch.
    drivers : range
        Whose events these are, by their positions in the whole fleet.
    flow : Flow
    ledger : callable
        Takes the lines of the ledger, some at a time.
    part : str, optional
        Name of the part's file, for the ledger.
    """

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        start_us: int,
        ordinal: int,
        drivers: range,
        flow: Flow,
        ledger: Callable[[bytes], object],
        part: str | None = None,
    ) -> None:
        self._config, self._fleet, self._flow, self._ledger = config, fleet, flow, ledger
        self._source = late_source(config, start_us, ordinal)
        self._decisions = draw_strikes(config, fleet, start_us, ordinal, drivers)
        self._patches = Patches(config, start_us)
        self._kinds = list(config.defects)
        self._patch: list[Patch | None] = [self._patch_of(kind) for kind in self._kinds]
        self._entries = _Entries(config, batch_name(start_us), part)
        self._late = self._kinds.index("late") if "late" in self._kinds else None
        self._copies: list[_Copy] = []
        self._strikes: list[tuple[int, int, int, Any]] = []
        self._loaded = self._decided = 0  # struck ones done of those; events that are decided
        self._shift = self._order = 0  # lines that were added, less those left out
        self._lines: list[bytes] = []

    def _patch_of(self, kind: str) -> Patch | None:
        if kind in ("duplicate", "late"):
            return None
        if kind == "conflicting_duplicate":
            return self._patches.conflicting(kind)
        return self._patches.of(kind)

    def pieces(self, clean: Iterator[Piece]) -> Iterator[Piece]:
        """Yield the pieces as delivered."""
        first = 0
        for piece in clean:
            end = first + piece.events
            self._decide(end)
            struck = [
                place - first
                for place, kind, _, _ in self._strikes[self._loaded :]
                if place < end and kind != _END
            ]
            self._flow.open(piece, struck)
            self._walk(first, end)
            yield self._close(piece)
            first = end
        self._decide(_NEVER)
        self._flow.open(Piece(0, None, b"", None), [])
        self._walk(first, _NEVER)
        last = self._close(None)
        if last.events:
            yield last

    def _close(self, piece: Piece | None) -> Piece:
        made = self._flow.close()
        if piece is not None and piece.release:
            piece.release()
        if self._lines:
            self._ledger(b"".join(self._lines))
            self._lines = []
        return made

    def _decide(self, end: int) -> None:
        """Draw what is decided of the events up to a number."""
        if self._loaded:
            del self._strikes[: self._loaded]
            self._loaded = 0
        while self._decided < end:
            decided = next(self._decisions, None)
            if decided is None:
                return
            self._take(decided)

    def _take(self, decided: Strikes) -> None:
        """Add decisions to the row of what is to be done."""
        first = self._decided - decided.before  # of the block, among the events of all
        last = first + decided.total - 1
        places = (decided.number + first).tolist()
        self._strikes += zip(
            places,
            decided.kind.tolist(),
            [last] * len(places),
            decided.details.tolist(),
            strict=True,
        )
        self._decided += decided.events
        if decided.late is not None:
            self._strikes.append((self._decided, _END, 0, decided.late))

    def _walk(self, first: int, end: int) -> None:
        """Do what is to be done with the events of a piece, in the order of its lines."""
        copies, strikes, at = self._copies, self._strikes, self._loaded
        while True:
            words: Any
            place, kind, last, words = strikes[at] if at < len(strikes) else (_NEVER, 0, 0, None)
            if copies and copies[0].place < place:
                if copies[0].place >= end:
                    break
                self._put_copy(heappop(copies), first)
            elif kind == _END and place <= end:
                self._put_late(place, words, first)
                at += 1
            elif place < end:
                self._strike(place, kind, last, words, first)
                at += 1
            else:
                break
        self._loaded = at

    def _strike(self, place: int, kind: int, last: int, words: list[int], first: int) -> None:
        """Deliver one record with its defect."""
        flow = self._flow
        clean = flow.cut(place - first)
        if kind == self._late:
            self._shift -= 1
            return
        number = place + 1 + self._shift
        patch = self._patch[kind]
        name = self._kinds[kind]
        if name in ("duplicate", "conflicting_duplicate"):
            line, field, original, injected = (
                (clean, -1, _NULL, _NULL) if patch is None else patch(clean, words)
            )
            due = min(place + 1 + (words[2] * COPY_DISTANCE >> _SHIFT), last)
            kept = flow.keep(place - first)
            flow.put(clean, clean, kept)
            self._order += 1
            heappush(
                self._copies,
                _Copy(due, self._order, clean, line, kind, field, original, injected, number, kept),
            )
            return
        assert patch is not None  # noqa: S101 - only duplicates and late records have none
        line, field, original, injected = patch(clean, words)
        flow.put(clean, line, flow.keep(place - first))
        self._lines.append(
            self._entries.entry(kind, number, clean, line, field, original, injected)
        )

    def _put_copy(self, copy: _Copy, first: int) -> None:
        """Deliver a second record, behind the event where it is due."""
        self._flow.pass_to(copy.place + 1 - first)
        self._flow.put(copy.clean, copy.line, copy.kept)
        self._shift += 1
        self._lines.append(
            self._entries.entry(
                copy.kind,
                copy.place + 1 + self._shift,
                copy.clean,
                copy.line,
                copy.field,
                copy.original,
                copy.injected,
                copy_of=b"%d" % copy.first,
            )
        )

    def _put_late(self, place: int, late: EventColumns, first: int) -> None:
        """Deliver the late records of an earlier batch, at the end of a block."""
        assert self._source is not None  # noqa: S101 - they are of it
        assert self._late is not None  # noqa: S101
        start_us = self._source.start_us
        lines = encode_events(self._config, self._fleet, start_us, late).splitlines(keepends=True)
        batch = b'"' + batch_name(start_us).encode() + b'"'
        self._flow.pass_to(place - first)
        for row, line in enumerate(lines):
            self._flow.put(line, line, (late.part(row, row + 1), start_us))
            self._shift += 1
            self._lines.append(
                self._entries.entry(
                    self._late,
                    place + self._shift,
                    line,
                    line,
                    -1,
                    _NULL,
                    _NULL,
                    from_batch=batch,
                )
            )


class _Entries:
    """Writes the ledger's lines; every key and word that is always the same is made once."""

    def __init__(self, config: Config, batch_id: str, part: str | None) -> None:
        keys = [field.name.encode() for field in EVENT_FIELDS] + list(EXTRA_KEYS)
        fields = [b'"%b"' % key for key in keys] + [_NULL]  # of the number -1
        end = b"" if part is None else b',"part":' + msgspec.json.encode(part)
        self._forms = [
            [
                b'{"batch_id":"%b","line":%%d,"kind":"%b","event_id":"%%b","field":%b,'
                b'"original":%%b,"injected":%%b,"copy_of":%%b,"from_batch":%%b,"sha256":"%%b",'
                b'"expect":"%b"%b}\n'
                % (batch_id.encode(), kind.encode(), field, defect.expect.encode(), end)
                for field in fields
            ]
            for kind, defect in config.defects.items()
        ]
        start, stop = Patches(config, 0).spans[_EVENT_ID](b"")
        self._event_id = slice(start, stop)

    def entry(
        self,
        kind: int,
        number: int,
        clean: bytes,
        line: bytes,
        field: int,
        original: bytes,
        injected: bytes,
        copy_of: bytes = _NULL,
        from_batch: bytes = _NULL,
    ) -> bytes:
        """Return the ledger's line for a delivered one."""
        return self._forms[kind][field] % (
            number,
            clean[self._event_id],
            original,
            injected,
            copy_of,
            from_batch,
            hashlib.sha256(line[:-1]).hexdigest().encode(),
        )
