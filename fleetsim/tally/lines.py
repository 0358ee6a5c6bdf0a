"""Read the lines of an events file as columns, in bounded memory, by machine code or by NumPy.

Every line is held, on its raw bytes, to the canonical form that `EVENT_FIELDS` gives. Where the
kernel's machine code lies ready, it takes the good lines, of known members and names, one by one;
the others, and all lines elsewhere, are read by NumPy, to the same columns.

There a cursor goes through all lines of a slab at once, part by part: a run of parts of fixed width
is compared as 64-bit words; digits and texts move the cursor by their own length. What deviates
leaves the columns and is handed out raw, for the slow path that says what is wrong with it.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleetsim.base.errors import InputError
from fleetsim.base.files import open_plain
from fleetsim.base.storage import is_remote
from fleetsim.generate.config import Config
from fleetsim.generate.encode import driver_digits
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel.reader import line_kernel
from fleetsim.generate.model import EVENT_FIELDS, Field, FieldKind, choice_law
from fleetsim.tally.ledger import Marks
from fleetsim.tally.values import (
    DEVIATING,
    TEXT_BYTES,
    Bytes,
    Digits,
    Flags,
    Names,
    Numbers,
    read_numbers,
    read_times,
    read_uuids,
    runs,
    windows,
)

Columns = dict[str, npt.NDArray[Any]]

CHUNK_BYTES = 1 << 22  # read at once; slabs of some thousand lines stay in the processor's cache
SLAB_LINES = 1 << 14  # lines taken through the parts at once: bounds what is handed out, too
LINE_BYTES = 1 << 16  # a longer line is deviating, however long the names of the types are ...
SHORT_BYTES = 1 << 7  # no line with six keys and their values is shorter, in any spelling
SHOWN_BYTES = 1 << 10  # ... and is handed out cut to this


class Bounds(NamedTuple):
    """Where the reading of a file stops, which may go on for ever: each a number that is passed.

    lines, bytes : of the file; short : lines that are too short for any event (`SHORT_BYTES`);
    line : bytes of one line.
    """

    lines: float = math.inf
    bytes: float = math.inf
    short: float = math.inf
    line: float = math.inf


class NotPlainError(OSError):
    """What stands at a path is no plain file, and was not opened."""


class Membership(IntEnum):
    """Whether those whom a line names are in the roster; the first fault, in this order."""

    MEMBER = 0
    UNKNOWN_COMPANY = 1
    NOT_ELIGIBLE = 2  # the company is not active, or not onboarded yet
    OTHER_COMPANY = 3  # driver_id names another company than company_id
    UNKNOWN_DRIVER = 4  # a number out of range, or of another width
    OTHER_TRUCK = 5  # not the driver's


class RawLine(NamedTuple):
    """A line as it stands in the file.

    `number` counts from 1; `raw` has its first bytes, all of them and the newline where
    len(raw) == length; `length` counts the newline.
    """

    number: int
    raw: bytes
    length: int


@dataclass(frozen=True)
class Rows:
    """Consecutive lines of a file: those in canonical form as columns, the others raw.

    Attributes
    ----------
    lines : int
        How many lines these are.
    number : int64 array (n,)
        Line numbers of the canonical lines, from 1.
    driver : int64 array (n,)
        Position in the whole fleet, from 0; -1 where `membership` is not MEMBER.
    company : int64 array (n,)
        Position of company_id in the fleet; -1 where it is not there.
    membership : uint8 array (n,)
        Values of `Membership`.
    drawn : dict
        By field name: uint64 (n, 2) for a UUID; int64 (n,) positions in the law's names for a
        choice, -1 for a name that is not among them; int64 (n,) microseconds since 1970 UTC for a
        time.
    deviating : list of RawLine
        The lines that are not in canonical form.
    strangers : list of RawLine
        The canonical lines that are no members or have a choice of -1.
    explained : Rows, optional
        Those of the lines that a ledger names with their bytes; they stand nowhere else here, but
        `lines` counts them.
    """

    lines: int
    number: Numbers
    driver: Numbers
    company: Numbers
    membership: Bytes
    drawn: Columns
    deviating: list[RawLine]
    strangers: list[RawLine]
    explained: Rows | None = None

    def __len__(self) -> int:
        return len(self.number)


class _Judged(NamedTuple):
    """Canonical lines: their positions among those that were read, and columns as in `Rows`."""

    line: Numbers
    driver: Numbers
    company: Numbers
    membership: Bytes
    drawn: Columns

    def with_others(self, others: _Judged) -> _Judged:
        """Return these and others, in the order of their lines."""
        if not len(others.line):
            return self
        order = np.argsort(np.concatenate([self.line, others.line]), kind="stable")

        def both(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.concatenate([one, two])[order]

        return _Judged(
            both(self.line, others.line),
            both(self.driver, others.driver),
            both(self.company, others.company),
            both(self.membership, others.membership),
            {name: both(column, others.drawn[name]) for name, column in self.drawn.items()},
        )


# --- the layout of a line

_ANY = b"\0"  # in a template: any byte
_UUID = _ANY * 8 + b"-" + _ANY * 4 + b"-4" + _ANY * 3 + b"-" + _ANY * 4 + b"-" + _ANY * 12
_TIME = re.sub(rb"0", _ANY, b"0000-00-00T00:00:00.000000Z")


class _Fixed:
    """Consecutive parts of fixed width: a template, and where the values stand in it."""

    def __init__(self) -> None:
        self.template = b""
        self.slots: list[tuple[str, FieldKind, int]] = []

    def add(self, template: bytes, slot: tuple[str, FieldKind] | None = None) -> None:
        if slot:
            self.slots.append((*slot, len(self.template)))
        self.template += template

    def windows(self, buffer: Bytes, at: Numbers) -> tuple[Bytes, Flags]:
        """Return the bytes of each line from its cursor on, and which lines fit the template."""
        width = len(self.template)
        padded = np.frombuffer(self.template.ljust(-(-width // 8) * 8, _ANY), np.uint8)
        rows = windows(buffer, at, len(padded)).view(np.uint8).reshape(-1, len(padded))
        words = rows.view("<u8")
        differ = np.zeros(len(at), np.uint64)
        masks = np.where(padded, np.uint8(255), np.uint8(0)).view("<u8")
        for i, (pattern, mask) in enumerate(zip(padded.view("<u8"), masks, strict=True)):
            if mask:
                differ |= (words[:, i] ^ pattern) & mask
        return rows, differ == 0


@dataclass(frozen=True)
class _Text:
    """A name between quotes; the closing quote belongs to the next part."""

    field: Field


_Part = _Fixed | Digits | _Text


def _layout() -> list[_Part]:
    """Return the parts of a line, as `EVENT_FIELDS` gives them."""
    fixed = _Fixed()
    parts: list[_Part] = [fixed]

    def vary(part: Digits | _Text) -> _Fixed:
        parts.extend([part, _Fixed()])
        return parts[-1]  # type: ignore[return-value]

    for i, field in enumerate(EVENT_FIELDS):
        fixed.add(("," if i else "{").encode() + f'"{field.name}":"'.encode())
        slot = (field.name, field.kind)
        if field.kind is FieldKind.DRIVER:
            fixed.add(b"DRV-")
            fixed.add(_UUID, slot)
            fixed.add(b"-")
            fixed = vary(Digits(f"{field.name} number", 3, 9, padded=True))
        elif field.kind is FieldKind.TRUCK:
            fixed.add(b"TRK-")
            fixed = vary(Digits(field.name, 1, 18, padded=False))
        elif field.kind is FieldKind.TIME:
            fixed.add(_TIME, slot)
        elif field.kind in (FieldKind.UUID, FieldKind.COMPANY):
            fixed.add(_UUID, slot)
        else:
            fixed = vary(_Text(field))
        fixed.add(b'"')
    fixed.add(b"}\n")
    return parts


def name_of(kind: FieldKind) -> str:
    """Return the name of the first field of a kind."""
    return next(field.name for field in EVENT_FIELDS if field.kind is kind)


# --- the lines of a file


class LineReader:
    """Reads events files against a configuration and a fleet.

    Parameters
    ----------
    config : Config
    fleet : Fleet or None
        None where nobody says who the companies are: then all are known, `company` is 0 and
        `driver` is `unlisted_driver`.

    Attributes
    ----------
    lines, bytes : int
        Size of the file read last, so far; complete when its rows have run out.
    sha256 : str
        Hash of it; empty until then.
    stopped : str
        Which of the bounds was passed, so that the rest is not read; empty where none was.
    """

    def __init__(self, config: Config, fleet: Fleet | None) -> None:
        self.lines, self.bytes, self.sha256, self.stopped = 0, 0, "", ""
        self._per_company = config.drivers_per_company
        self._digits = driver_digits(config)
        self._listed = fleet is not None
        texts = np.zeros((0, 36), np.uint8) if fleet is None else fleet.company_id
        ids = np.ascontiguousarray(texts).view("S36").reshape(-1)
        self._order = np.argsort(ids)
        self._ids = ids[self._order]
        self._parts = _layout()
        self._names = {
            part.field.name: Names(choice_law(config, part.field.key or part.field.name).names)
            for part in self._parts
            if isinstance(part, _Text)
        }
        self._limit = LINE_BYTES + sum(names.longest for names in self._names.values())
        fixed = [len(part.template) for part in self._parts if isinstance(part, _Fixed)]
        self._padding = max(*fixed, TEXT_BYTES) + 32  # what a part may look at behind a line
        listed = self._ids if self._listed else None
        self._kernel = line_kernel(config, EVENT_FIELDS, listed, self._order, self._limit)

    def read(
        self,
        path: Path | None,
        eligible: Flags,
        *,
        opened: Callable[[Path], Any] | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        bounds: Bounds = Bounds(),  # noqa: B008 (a constant)
        marks: Marks | None = None,
    ) -> Iterator[Rows]:
        """Yield the lines of a file, some thousand at a time.

        Parameters
        ----------
        path : Path or None
            None where `opened` needs none.
        eligible : bool array (n_companies,)
            Which companies of the fleet may have events.
        opened : callable, optional
            Opens the file as a stream of lines, where it does not hold them as they are.
        chunk_bytes : int
            Bytes read at once; memory is bounded by it and by the longest line that is possible.
        bounds : Bounds
            Where reading stops before the end. A line that has begun there is not handed out.
        marks : Marks, optional
            Lines that a ledger names. Those with its bytes are handed out apart.

        Raises
        ------
        OSError
            Where the file cannot be read.
        """
        self.lines, self.bytes, self.sha256, self.stopped = 0, 0, "", ""
        short = 0
        kept = 0  # bytes of the line that has begun; they stand before the next chunk
        dropped = 0  # bytes of it that came before and are not kept
        head = b""  # its first bytes, where some are dropped
        for buffer, spare, filled, ends in self._chunks(path, opened, chunk_bytes):
            start = self._limit - kept
            if dropped and len(ends):
                self.lines += 1
                if marks is not None:
                    marks.unread(self.lines)
                yield _only(RawLine(self.lines, head, dropped + int(ends[0]) - start))
                start, dropped, ends = int(ends[0]), 0, ends[1:]
            for first in range(0, len(ends), SLAB_LINES):
                slab = ends[first : first + SLAB_LINES]
                slab = slab[: int(min(len(slab), bounds.lines - self.lines))]
                short += int((np.diff(slab, prepend=start) < SHORT_BYTES).sum())
                if len(slab):
                    yield self._slab(buffer, start, slab, eligible, marks)
                    start = int(slab[-1])
                if self.lines >= bounds.lines and start < filled:
                    self.stopped = "lines"
                elif short > bounds.short:
                    self.stopped = "short"
                if self.stopped:
                    return
            kept = filled - start
            if dropped or kept > self._limit:
                if not dropped:
                    head = buffer[start : start + SHOWN_BYTES].tobytes()
                dropped, kept = dropped + kept, 0
            carry = spare[self._limit - kept : self._limit]
            carry[:] = buffer[filled - kept : filled]
            if self.bytes > bounds.bytes:
                self.stopped = "bytes"
            elif dropped + kept > bounds.line:
                self.stopped = "line"
            if self.stopped:
                return
        if kept or dropped:
            self.lines += 1
            if marks is not None:  # a line without its end is not what was written
                marks.unread(self.lines)
            yield _only(RawLine(self.lines, head if dropped else carry.tobytes(), dropped + kept))

    def _chunks(
        self, path: Path | None, opened: Callable[[Path], Any] | None, chunk_bytes: int
    ) -> Iterator[tuple[Bytes, Bytes, int, Numbers]]:
        """Yield a buffer, the next one, where the first is filled to, and where its lines end.

        A chunk begins at the limit of a line: what is kept of the one before finds room there.
        """
        digest = hashlib.sha256()

        def fetch(buffer: Bytes) -> tuple[int, Numbers]:
            try:
                count = file.readinto(buffer.data[self._limit : self._limit + chunk_bytes]) or 0
            except (EOFError, ValueError, zlib.error) as error:  # what decompressors say
                raise OSError(str(error)) from error
            fresh = buffer[self._limit : self._limit + count]
            digest.update(fresh.data)
            if self._kernel is not None:
                return count, self._kernel.ends(buffer, self._limit, self._limit + count)
            return count, np.flatnonzero(fresh == ord("\n")) + (self._limit + 1)

        size = self._limit + chunk_bytes + self._padding
        buffer, spare = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        # Reading, hashing and searching let other threads run: beside the chunk before.
        with _open(path, opened) as file, ThreadPoolExecutor(1) as helper:
            fetching = helper.submit(fetch, buffer)
            while True:
                count, ends = fetching.result()
                if not count:
                    break
                self.bytes += count
                fetching = helper.submit(fetch, spare)
                yield buffer, spare, self._limit + count, ends
                buffer, spare = spare, buffer
        self.sha256 = digest.hexdigest()

    def _slab(
        self, buffer: Bytes, start: int, ends: Numbers, eligible: Flags, marks: Marks | None
    ) -> Rows:
        """Return consecutive lines; the first begins at `start`, each ends before its `ends`."""
        starts = np.concatenate([[start], ends[:-1]])
        line, driver, company, membership, drawn = self._judged(buffer, starts, ends, eligible)
        strange = membership != Membership.MEMBER
        for name in self._names:
            strange |= drawn[name] < 0
        deviating = np.ones(len(ends), np.bool_)
        deviating[line] = False

        before, view = self.lines, buffer.data

        def raw(which: Numbers) -> list[RawLine]:
            made = []
            for i in which.tolist():
                length = int(ends[i] - starts[i])
                shown = length if length <= self._limit else SHOWN_BYTES
                start = int(starts[i])
                made.append(RawLine(before + i + 1, bytes(view[start : start + shown]), length))
            return made

        def rows(some: Flags | None) -> Rows:
            """Return the lines of a mask, or all of them."""
            here = slice(None) if some is None else some[line]
            odd = deviating if some is None else deviating & some
            return Rows(
                lines=len(ends) if some is None else int(some.sum()),
                number=before + 1 + line[here],
                driver=driver[here],
                company=company[here],
                membership=membership[here],
                drawn={name: column[here] for name, column in drawn.items()},
                deviating=raw(np.flatnonzero(odd)),
                strangers=raw(line[here][strange[here]]),
            )

        self.lines += len(ends)
        if marks is None:
            return rows(None)
        explained = marks.compare(view, starts, ends, before + 1)
        if not explained.any():
            return rows(None)
        return replace(rows(~explained), lines=len(ends), explained=rows(explained))

    def _judged(self, buffer: Bytes, starts: Numbers, ends: Numbers, eligible: Flags) -> _Judged:
        """Return which lines have the canonical form, who is named in them, and their values."""
        if self._kernel is None:
            return self._by_numpy(buffer, starts, ends, eligible)
        good = self._kernel.read(buffer, int(starts[0]), ends, eligible)
        member = np.full(len(good.line), Membership.MEMBER, np.uint8)
        found = _Judged(good.line, good.driver, good.company, member, good.drawn)
        if len(good.line) == len(ends):
            return found
        left = np.ones(len(ends), np.bool_)
        left[good.line] = False
        number = np.flatnonzero(left)
        others = self._by_numpy(buffer, starts[number], ends[number], eligible)
        return found.with_others(others._replace(line=number[others.line]))

    def _by_numpy(self, buffer: Bytes, starts: Numbers, ends: Numbers, eligible: Flags) -> _Judged:
        line, columns = self._columns(buffer, starts, ends)
        company, driver, membership = self._members(columns, eligible)
        drawn = {field.name: columns[field.name] for field in EVENT_FIELDS if field.purpose}
        return _Judged(line, driver, company, membership, drawn)

    def _columns(self, buffer: Bytes, starts: Numbers, ends: Numbers) -> tuple[Numbers, Columns]:
        """Return which lines have the canonical form, and their values."""
        line = np.arange(len(starts))
        at = starts.copy()
        columns: Columns = {}

        def keep(good: Flags) -> None:
            nonlocal line, at, columns
            if not good.all():
                line, at = line[good], at[good]
                columns = {name: column[good] for name, column in columns.items()}

        keep(ends - starts <= self._limit)
        for part in self._parts:
            if isinstance(part, _Fixed):
                rows, good = part.windows(buffer, at)
                at += len(part.template)
                if not good.all():
                    rows = rows[good]
                    keep(good)
                valid = np.ones(len(line), np.bool_)
                for name, kind, place in part.slots:
                    if kind is FieldKind.TIME:
                        columns[name], good = read_times(rows[:, place : place + len(_TIME)])
                        valid &= good
                    elif kind is FieldKind.UUID:
                        columns[name], good = read_uuids(rows[:, place : place + len(_UUID)])
                        valid &= good
                    else:
                        columns[name] = rows[:, place : place + len(_UUID)].view("S36")[:, 0]
                keep(valid)
            elif isinstance(part, Digits):
                columns[part.name], length, good = read_numbers(buffer, at, part)
                columns[f"{part.name} width"] = length
                at += length
                keep(good)
            else:
                name = part.field.name
                columns[name], length = self._names[name].match(buffer, at, ends[line])
                at += length
                keep(columns[name] != DEVIATING)
        # An id that is one of the roster's has its form; only the others are looked at.
        named, company = columns[name_of(FieldKind.DRIVER)], columns[name_of(FieldKind.COMPANY)]
        columns["company"] = self._company(company)
        columns["agree"] = named == company
        valid = np.ones(len(line), np.bool_)
        for ids, unsure in ((company, columns["company"] < 0), (named, ~columns["agree"])):
            if unsure.any():
                text = np.ascontiguousarray(ids[unsure]).view(np.uint8).reshape(-1, len(_UUID))
                valid[unsure] &= read_uuids(text)[1]
        keep(valid)
        return line, columns

    def _company(self, ids: npt.NDArray[np.bytes_]) -> Numbers:
        """Return the position of each id in the fleet, or -1; equal ids mostly stand together."""
        if not len(self._ids):
            return np.full(len(ids), -1)
        head, length = runs(ids)
        place = np.minimum(np.searchsorted(self._ids, ids[head]), len(self._ids) - 1)
        known = self._ids[place] == ids[head]
        return np.repeat(np.where(known, self._order[place], -1), length)

    def _members(self, columns: Columns, eligible: Flags) -> tuple[Numbers, Numbers, Bytes]:
        """Return company, driver and `Membership` of each line."""
        named, company = name_of(FieldKind.DRIVER), columns["company"]
        number = columns[f"{named} number"]
        if self._listed:
            driver = company * self._per_company + number
            truck = columns[name_of(FieldKind.TRUCK)]
        else:
            company = np.zeros_like(company)
            driver = _unlisted(columns[name_of(FieldKind.COMPANY)], number)
            truck = driver + 1  # nobody says which one is the driver's
        faults = {
            Membership.UNKNOWN_COMPANY: company < 0,
            Membership.NOT_ELIGIBLE: ~eligible[company],
            Membership.OTHER_COMPANY: ~columns["agree"],
            Membership.UNKNOWN_DRIVER: (number >= self._per_company)
            | (columns[f"{named} number width"] != self._digits),
            Membership.OTHER_TRUCK: truck != driver + 1,
        }
        membership = np.full(len(company), Membership.MEMBER, np.uint8)
        for reason, holds in reversed(faults.items()):
            membership[holds] = reason
        driver[membership != Membership.MEMBER] = -1
        return company, driver, membership


def _unlisted(company_id: npt.NDArray[np.bytes_], number: Numbers) -> Numbers:
    """Return numbers for drivers whose place in the fleet is not known: equal for equal drivers.

    They are negative, since they have no order, and neither -1 nor -2. They hold 43 bits of the
    company's id, so that two drivers that follow one another in a file are the same number by
    chance in one of 10**13 cases.
    """
    text = np.ascontiguousarray(company_id).view(np.uint8).reshape(-1, len(_UUID))
    words = read_uuids(text)[0]
    mixed = (words[:, 0] * np.uint64(0x9E3779B97F4A7C15)) ^ words[:, 1]
    key = (mixed >> np.uint64(21)).astype(np.int64) << 20
    return -3 - (key + np.minimum(number, (1 << 20) - 1)) % (2**63 - 4)


def unlisted_driver(company_id: bytes, number: int) -> int:
    """Return the number of a driver, by company id and number in it, where there is no roster."""
    return int(_unlisted(np.array([company_id], "S36"), np.array([number]))[0])


def _open(path: Path | None, opened: Callable[[Path], Any] | None) -> Any:
    if path is None:
        assert opened  # noqa: S101 - or there is nothing to read
        return opened(Path())
    if is_remote(path):
        if opened is None:
            return path.open("rb")
    else:
        try:
            file = open_plain(path, buffering=0)
        except InputError as error:  # a fault of its batch, as other faults
            raise NotPlainError(error.faults[0]) from None
        if opened is None:
            return file
        file.close()  # the system says best what is wrong with a path
    try:
        return opened(path)
    except ValueError as error:  # what a reader of Parquet says
        raise OSError(str(error)) from error


def _only(line: RawLine) -> Rows:
    """Return one deviating line."""
    none = np.zeros(0, np.int64)
    drawn: Columns = {
        field.name: np.zeros((0, 2), np.uint64) if field.kind is FieldKind.UUID else none
        for field in EVENT_FIELDS
        if field.purpose
    }
    return Rows(1, none, none, none, np.zeros(0, np.uint8), drawn, [line], [])
