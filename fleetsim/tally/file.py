"""Read one file of a batch into its partial tally, here or in a worker.

A worker gets a `FileTask`, of some hundred bytes beside the configuration, and reads the companies
file once for all its tasks. What comes back is a `FileTally`, and of each event of a known driver
its id, line and offset, which are 24 bytes for the usual intervals: who stands twice and how times
are spread can be told exactly only where all events meet.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import LAST_US, format_time
from fleetsim.base.errors import FleetsimError, InputError, found
from fleetsim.base.files import HashingOpener, hash_file
from fleetsim.base.storage import place, told
from fleetsim.batch.companies import read_companies
from fleetsim.batch.formats import FORMATS, damaged
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.encode import line_width
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, type_law
from fleetsim.stats.order import TIME_CELLS, InOrder, table_of, time_cell
from fleetsim.tally.diagnosis import Diagnosis, Roster, diagnose
from fleetsim.tally.faults import EXAMPLES, Cause, FaultKind
from fleetsim.tally.ledger import KINDS, Explained, LedgerFile, Marks, read_marks
from fleetsim.tally.lines import (
    Bounds,
    LineReader,
    Membership,
    NotPlainError,
    RawLine,
    Rows,
    name_of,
)
from fleetsim.tally.partial import (
    Growing,
    LineFault,
    Partial,
    count,
    first_faults,
    merge,
    misplaced,
    misplaced_cause,
    misplaced_fault,
)

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_ID, _TYPE, _TIME = (name_of(kind) for kind in (FieldKind.UUID, FieldKind.CHOICE, FieldKind.TIME))
_CHOICES = [field.name for field in EVENT_FIELDS if field.kind is FieldKind.CHOICE]


class Events(NamedTuple):
    """Events of a file, for `store.EventStore`.

    event_id : uint64 (n, 2); line : int (n,), from 1; offset_us : int (n,), -1 where the time is
    not inside the interval.
    """

    event_id: npt.NDArray[np.uint64]
    line: npt.NDArray[np.signedinteger]
    offset_us: npt.NDArray[np.signedinteger]


class Stated(msgspec.Struct, frozen=True):
    """What is said of a file before it is read; None for what is not known.

    rows, bytes : what the record states of it; size : its size on the disk [bytes].
    """

    rows: int | None = None
    bytes: int | None = None
    size: int | None = None


#: What a file may have beyond its record before nobody reads on: bytes of lines, and lines.
MORE_BYTES, MORE_LINES = 1 << 26, 1 << 16
#: Lines of a file that may be too short for any event, and the bytes of one line.
SHORT_LINES, LINE_BYTES = 1 << 18, 1 << 26
_LEAST_BYTES = 15  # of an event however it is packed: its id has 122 random bits


class FileTask(msgspec.Struct, frozen=True):
    """Everything that a process needs to tally a file.

    Attributes
    ----------
    file : int
        Number of the file among all that are read.
    path : str
        Path or URL.
    format : str
    start_us : int or None
        Start of the batch's interval, where it is known.
    config : bytes
        The configuration as JSON.
    companies : str
        Path or URL of the companies file; empty where there is no roster.
    companies_sha256 : str
    companies_used : int
        How many of its lines count.
    stated : Stated
        What is said of the file.
    ledger : LedgerFile, optional
        The ledger of its defects.
    """

    file: int
    path: str
    format: str
    start_us: int | None
    config: bytes
    companies: str
    companies_sha256: str
    companies_used: int
    stated: Stated = Stated()
    ledger: LedgerFile | None = None


@dataclass(frozen=True, eq=False)
class FileTally:
    """What was found in a file.

    Attributes
    ----------
    partial : Partial
    bytes : int
        Bytes of content that were read.
    content_sha256 : str
        Hash of the lines; empty where they could not be read to their end.
    sha256 : str
        Hash of the file.
    error : str
        Why it could not be read; empty where it could.
    more : str
        What is left of it that was not read, since it goes on where no event is expected; empty
        where it was read to its end.
    """

    partial: Partial
    bytes: int
    content_sha256: str
    sha256: str
    error: str
    more: str = ""
    explained: Explained | None = None


def listed_in(bad: bool) -> str:
    """Return what a company is not that no line of a companies file names."""
    return "on a good line of the companies file" if bad else "in the companies file"


def members(fleet: Fleet | None, start_us: int | None, used: int) -> Flags:
    """Return which companies of a fleet may have events in a batch.

    Where nothing says when the interval starts, every company counts as onboarded. Without a roster
    all companies are one.
    """
    if fleet is None:
        return np.ones(1, np.bool_)
    eligible = fleet.eligible(LAST_US if start_us is None else start_us)
    eligible[used:] = False
    return eligible


def empty_order(config: Config) -> InOrder:
    """Return the order of no events."""
    types = len(type_law(config).names)
    return InOrder(types, config.drivers_per_company, config.interval_us)


class FileReader:
    """Reads files of batches that are said to follow a configuration; many at a time may.

    Parameters
    ----------
    config : Config
    fleet : Fleet or None
        None where there is no roster: see `LineReader`.
    listed : str
        What a company that is not in the fleet is not.
    """

    def __init__(
        self, config: Config, fleet: Fleet | None, listed: str = "in the companies file"
    ) -> None:
        self._listed = listed
        self.config, self.fleet = config, fleet
        names = type_law(config).names
        self.n_types = len(names)
        self._longest = max(len(name.encode()) for name in names)
        # Without a roster nobody knows how many digits the number of a truck has.
        drivers = 10**15 if fleet is None else max(1, len(fleet) * config.drivers_per_company)
        self._width = line_width(config, drivers)
        self._lines = LineReader(config, fleet)
        self._roster: Roster | None = None  # made where a line deviates: it is large

    def nothing(self) -> InOrder:
        """Return the order of no events."""
        return empty_order(self.config)

    def read(
        self,
        path: Path,
        format: str,
        eligible: Flags,
        start_us: int | None,
        take: Callable[[Events], object],
        *,
        file: int = 0,
        rows_of: Callable[[], Any] | None = None,
        stated: Stated = Stated(),  # noqa: B008 (a constant)
        ledger: LedgerFile | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> FileTally:
        """Return the tally of a file, and hand on its events.

        Parameters
        ----------
        path : Path
        format : str
            One of `formats.FORMATS`.
        eligible : bool array (n_companies,)
            Which companies of the fleet may have events.
        start_us : int or None
            Start of the batch's interval, where it is known.
        take : callable
            Called with `Events`, some thousand at a time.
        file : int
            Number of the file in the places of faults.
        rows_of : callable, optional
            Opens a stream of the lines, where there is no file.
        stated : Stated
            What is said of the file; what goes on far beyond that is not read.
        ledger : LedgerFile, optional
            The ledger of its defects. What it explains is no event and no fault.
        progress : callable, optional
            Called with numbers of bytes as they are read.

        Raises
        ------
        FleetsimError
            Where a storage fails. What the system says of a path is what was found.
        """
        lines = copy.copy(self._lines)
        growing = Growing(self.nothing)
        explained: Explained | None = None
        marks: Marks | None = None
        if ledger is not None:
            read = read_marks(ledger, place(ledger.path))
            explained, marks = (None, read) if isinstance(read, Marks) else (read, None)
        seen, error, sha256 = 0, "", ""
        opened: Callable[[Path], Any] | None = None
        opener = HashingOpener()  # for compressed lines
        if format != "jsonl":
            opened = partial(FORMATS[format].reader, longest=self._longest, opened=opener)
        bounds = self._bounds(format, stated, 0 if marks is None else len(marks))
        where: Path | None = path
        if rows_of is not None:
            stream = rows_of
            where, opened = None, lambda _: stream()
        with told(path):
            try:
                for rows in lines.read(where, eligible, opened=opened, bounds=bounds, marks=marks):
                    if marks is not None and rows.explained is not None:
                        self._check_kinds(rows.explained, marks, eligible, start_us)
                    part, events = self._tally(rows, file, eligible, start_us)
                    growing.add(part)
                    take(events)
                    if progress:
                        progress(lines.bytes - seen)
                        seen = lines.bytes
                sha256 = lines.sha256
            except OSError as fault:
                error = _why(fault, path, format)
            more = _more(lines, stated)
            if format != "jsonl" and error != MISSING and not _far_beyond(stated):
                try:
                    sha256 = opener.sha256 or hash_file(path)
                except InputError as fault:  # no plain file
                    error = error or "; ".join(fault.faults)
                except OSError as fault:
                    error = error or _why(fault, path, format)
        if marks is not None:
            explained = marks.finish()
            _take_ids(marks, take)
            if not error:  # or all of its lines are missing, which is told already
                growing.add(_borne_out(marks, file, self.nothing()))
        whole = growing.finish()
        return FileTally(whole, lines.bytes, lines.sha256, sha256, error, more, explained)

    def _check_kinds(self, rows: Rows, marks: Marks, eligible: Flags, start_us: int | None) -> None:
        """Hold the lines that a ledger explains to the defect that it names.

        Which of several lines is the copy, and what stood in place of a value, the lines do not
        say; what is wrong with one by itself they do.
        """
        number, us = rows.number, rows.drawn[_TIME]
        kind = marks.kinds_of(number)
        seen = np.full(len(number), _IN_PLACE)
        if start_us is not None:
            seen[(us < start_us) | (us - start_us >= self.config.interval_us)] = _AWAY
        seen[rows.membership != Membership.MEMBER] = _STRANGER
        seen[rows.membership == Membership.UNKNOWN_COMPANY] = _UNKNOWN
        for name in _CHOICES:
            seen[rows.drawn[name] < 0] = _NO_CHOICE
        fits = seen == _PLACES[kind]
        if start_us is None:
            fits |= (_PLACES[kind] == _AWAY) & (seen == _IN_PLACE)
        if self.fleet is None:  # nobody is unknown
            fits |= (_PLACES[kind] == _UNKNOWN) & (seen <= _AWAY)
        wrong = number[~fits].tolist()
        wrong += self._other_defects(rows.deviating, marks, eligible)
        if wrong:
            marks.reject(sorted(wrong))

    def _other_defects(self, lines: list[RawLine], marks: Marks, eligible: Flags) -> list[int]:
        """Return which lines in no canonical form have another defect than the ledger names."""
        if not lines:
            return []
        roster = self._roster_of(eligible)
        kinds = marks.kinds_of(np.array([line.number for line in lines]))
        wrong = []
        for line, kind in zip(lines, kinds.tolist(), strict=True):
            causes = {cause for _, cause, _ in diagnose(line, roster).findings}
            if not any(cause.startswith(_CAUSES[kind]) for cause in causes):
                wrong.append(line.number)
        return wrong

    def _bounds(self, format: str, stated: Stated, marks: int) -> Bounds:
        """Return where the reading of a file stops, of which a ledger names so many lines."""
        lines = math.inf if stated.rows is None else max(0, stated.rows) + MORE_LINES
        most = [math.inf]
        if format == "jsonl":
            most += [] if stated.bytes is None else [stated.bytes]
        else:
            most += [] if stated.rows is None else [stated.rows * self._width]
            most += [] if stated.size is None else [stated.size // _LEAST_BYTES * self._width]
        return Bounds(lines, max(0, min(most)) + MORE_BYTES, SHORT_LINES + marks, LINE_BYTES)

    def _tally(
        self, rows: Rows, file: int, eligible: Flags, start_us: int | None
    ) -> tuple[Partial, Events]:
        """Return the partial of consecutive lines, and their events."""
        kind = rows.drawn[_TYPE]
        line, driver, company, us = rows.number, rows.driver, rows.company, rows.drawn[_TIME]
        event_id = rows.drawn[_ID]
        read, faults = self._diagnoses(rows, file, eligible)
        seen = len(rows) - len(rows.strangers)  # the strangers are among those diagnosed
        examined = Counter({FaultKind.MEMBER: seen, FaultKind.DUPLICATE: seen})
        if start_us is not None:
            examined[FaultKind.TIME] = seen
        if rows.strangers:
            good = rows.membership == Membership.MEMBER
            for name in _CHOICES:
                good &= rows.drawn[name] >= 0
            line, driver, company, us, kind = (x[good] for x in (line, driver, company, us, kind))
            event_id = event_id[good]
        ids: list[tuple[int, int]] = []
        strays: list[tuple[int, int]] = []
        if read:
            counted = [(n, d) for n, d in read if d.counts]
            if counted:
                more = np.array([(n, d.driver, d.company, d.us, d.type) for n, d in counted])
                order = np.argsort(np.concatenate([line, more[:, 0]]), kind="stable")
                line, driver, company, us, kind = (
                    np.concatenate([column, more[:, i]])[order]
                    for i, column in enumerate((line, driver, company, us, kind))
                )
                event_id = np.concatenate([event_id, _words([d.event_id for _, d in counted])])
                event_id = event_id[order]
            examined[FaultKind.MEMBER] += sum(d.named for _, d in read)
            examined[FaultKind.DUPLICATE] += sum(d.event_id is not None for _, d in read)
            if start_us is not None:
                examined[FaultKind.TIME] += sum(d.us is not None for _, d in read)
            # What is no event of the statistics may still be a copy, or lie outside.
            others = [(n, d) for n, d in read if not d.counts]
            ids = [(n, d.event_id) for n, d in others if d.event_id is not None]
            strays = [(n, d.us) for n, d in others if d.us is not None]
        causes: Counter[Cause] = Counter((fault.kind, fault.cause) for fault in faults)
        offset = np.full(len(line), -1)
        in_order, first = self.nothing(), None
        by_time = np.zeros((self.n_types, TIME_CELLS), np.int64)
        timed = outside = 0
        if start_us is not None and (len(line) or strays):
            offset = us - start_us
            inside = (offset >= 0) & (offset < self.config.interval_us)
            ordered = (line, driver, kind, offset)
            there, when = line[~inside], us[~inside]
            outside = len(there)
            if strays:
                number, time = np.array(strays, np.int64).T
                away = (time < start_us) | (time - start_us >= self.config.interval_us)
                there = np.concatenate([there, number[away]])
                when = np.concatenate([when, time[away]])
                there, when = there[order := np.argsort(there, kind="stable")], when[order]
            if len(there):
                found_outside = _outside(file, there, when, start_us)
                faults += found_outside
                causes[FaultKind.TIME, _OUTSIDE] += len(there)
            if outside:
                ordered = (line[inside], driver[inside], kind[inside], offset[inside])
                offset[~inside] = -1
            timed = len(ordered[0])
            if timed:
                first = file, int(ordered[0][0])
                above, late = misplaced(ordered[1], ordered[3])
                for wrong, is_late in ((above, False), (late, True)):
                    rows_wrong = np.flatnonzero(wrong)
                    if len(rows_wrong):
                        causes[FaultKind.LINE, misplaced_cause(is_late)] += len(rows_wrong)
                    for i in rows_wrong[:EXAMPLES].tolist():
                        faults.append(misplaced_fault(file, int(ordered[0][i + 1]), is_late))
                cell = time_cell(ordered[3], self.config.interval_us)
                in_order.add(*ordered[1:], cell)
                by_time = table_of(ordered[2], cell, self.n_types, TIME_CELLS)
        partial = Partial(
            lines=rows.lines,
            timed=timed,
            outside=outside,
            driver_types=_NOBODY if self.fleet is None else count(driver * self.n_types + kind),
            company_types=count(company * self.n_types + kind),
            types_by_time=by_time,
            order=in_order,
            first=first,
            faults=first_faults(faults) if faults else (),
            causes=causes,
            examined=+examined,  # those above 0
        )
        if ids:
            line = np.concatenate([line, [number for number, _ in ids]])
            event_id = np.concatenate([event_id, _words([value for _, value in ids])])
            offset = np.concatenate([offset, np.full(len(ids), -1)])
            order = np.argsort(line, kind="stable")
            line, event_id, offset = line[order], event_id[order], offset[order]
        return partial, Events(event_id, line, offset)

    def _diagnoses(
        self, rows: Rows, file: int, eligible: Flags
    ) -> tuple[list[tuple[int, Diagnosis]], list[LineFault]]:
        """Return what could be read of the lines that are not in order, and their faults."""
        raw = [*rows.deviating, *rows.strangers]
        if not raw:
            return [], []
        roster = self._roster_of(eligible)
        read = [(line.number, diagnose(line, roster)) for line in raw]
        return read, [LineFault(file, number, *f) for number, d in read for f in d.findings]

    def _roster_of(self, eligible: Flags) -> Roster:
        if self._roster is None:
            self._roster = Roster.of(self.config, self.fleet, eligible, self._listed)
        return replace(self._roster, eligible=eligible)


# What a line in canonical form is found to be.
_IN_PLACE, _AWAY, _STRANGER, _UNKNOWN, _NO_CHOICE = range(5)
_NEVER = -1  # a line with such a defect is not in canonical form
_PLACES = np.array(
    [
        {
            "invalid_enum": _NO_CHOICE,
            "orphan_reference": _UNKNOWN,
            "out_of_interval": _AWAY,
            "duplicate": _IN_PLACE,
            "conflicting_duplicate": _IN_PLACE,
            "late": _AWAY,
        }.get(kind, _NEVER)
        for kind in KINDS
    ]
)
_NULL, _NO_TEXT = (
    tuple(f"{field.name} is {what}" for field in EVENT_FIELDS) for what in ("null", "not text")
)
#: What the causes of the faults of a line in no canonical form begin with, by the place of a kind.
_CAUSES: list[tuple[str, ...]] = [
    {
        "missing_field": ("missing key",),
        "null_value": _NULL,
        "wrong_type": _NO_TEXT,
        "malformed_timestamp": ("no time", f"form of {_TIME}"),
        "naive_timestamp": (f"form of {_TIME}",),
        "invalid_enum": tuple(f"unknown {name}" for name in _CHOICES),
        "extra_field": ("extra key",),
        "duplicate_key": ("key twice",),
        "corrupt_record": ("not JSON", "not UTF-8", "not an object"),  # a cut may be in a character
        "invalid_utf8": ("not UTF-8",),
    }.get(kind, ())
    for kind in KINDS
]


def _borne_out(marks: Marks, file: int, nothing: InOrder) -> Partial:
    """Return the faults of the entries of a ledger as a partial of no lines."""
    faults, causes = marks.faults(file, EXAMPLES)
    return replace(merge([], nothing), faults=first_faults(faults), causes=causes)


def _take_ids(marks: Marks, take: Callable[[Events], object]) -> None:
    """Hand on the ids of explained records, which stand nowhere else."""
    line, event_id = marks.own_ids()
    for start in range(0, len(line), _IDS_AT_ONCE):
        some = slice(start, start + _IDS_AT_ONCE)
        take(Events(event_id[some], line[some], np.full(len(line[some]), -1)))


_IDS_AT_ONCE = 1 << 16
_NOBODY = count(np.zeros(0, np.int64))
_OUTSIDE = "outside the interval"


def _words(ids: Iterable[int | None]) -> npt.NDArray[np.uint64]:
    """Return ids of 128 bits as words, uint64 (n, 2)."""
    pairs = [(value >> 64, value & (1 << 64) - 1) for value in ids if value is not None]
    return np.array(pairs, np.uint64).reshape(-1, 2)


def _outside(file: int, line: Ints, us: Ints, start_us: int) -> list[LineFault]:
    """Return the faults of the first of some lines whose time lies outside of the interval."""
    faults = []
    for number, time in zip(line[:EXAMPLES].tolist(), us[:EXAMPLES].tolist(), strict=True):
        side = "before the interval" if time < start_us else "not before the end of the interval"
        why = f"{format_time(time)} lies {side}"
        faults.append(LineFault(file, number, FaultKind.TIME, _OUTSIDE, why))
    return faults


def _far_beyond(stated: Stated) -> bool:
    """Return whether a file is so much larger than its record says that no hash is of use."""
    return None not in (stated.bytes, stated.size) and stated.size > stated.bytes + MORE_BYTES  # type: ignore[operator]


def _more(lines: LineReader, stated: Stated) -> str:
    """Return in words what was not read of a file."""
    if not lines.stopped:
        return ""
    why = {
        "lines": f"its record states {stated.rows} lines",
        "bytes": "no events fill so much",
        "short": f"more than {SHORT_LINES} lines are too short for any event",
        "line": f"a line has more than {LINE_BYTES} bytes",
    }[lines.stopped]
    if lines.stopped == "bytes" and stated.rows is not None:
        why = f"its record states {stated.rows} lines"
    sizes = ""
    if stated.size is not None and stated.bytes is not None and stated.size > stated.bytes:
        sizes = f", and its {stated.size} bytes are {stated.size - stated.bytes} more than recorded"
    return (
        f"goes on behind line {lines.lines} and byte {lines.bytes} of its content, where reading "
        f"stopped: {why}{sizes}"
    )


#: The error of a file that is not there.
MISSING = "is missing"


def _why(error: OSError, path: Path, format: str) -> str:
    """Return in words why a file cannot be read; errors of a storage are raised again."""
    if isinstance(error, FileNotFoundError):
        return MISSING
    if isinstance(error, NotPlainError):
        return str(error)
    if damaged(error):  # not the system, but the format's reader
        return f"cannot be read as {format}: {found(str(error))}"
    if not isinstance(path, Path):
        raise error
    return "cannot be read"


# --- in a worker

_one_at_a_time = Lock()


@lru_cache(maxsize=1)
def _reader(config: bytes, companies: str, sha256: str) -> FileReader:
    """Return the reader of a data set's files, which is kept: it needs the whole companies file."""
    settings = make_config(msgspec.json.decode(config))
    if not companies:
        return FileReader(settings, None)
    bad: list[str] = []
    try:
        fleet = read_companies(place(companies), bad=bad.append)
    except InputError as error:
        raise FleetsimError(f"a worker cannot use the companies: {error}") from None
    if fleet.sha256 != sha256:
        raise FleetsimError(f"{companies}: a worker sees another file there than this process")
    return FileReader(settings, fleet, listed_in(bool(bad)))


def tally_file(task: FileTask) -> tuple[FileTally, Events]:
    """Return the tally of a file and its events, in as few bytes as hold them."""
    with _one_at_a_time:
        reader = _reader(task.config, task.companies, task.companies_sha256)
    events: list[Events] = []
    eligible = members(reader.fleet, task.start_us, task.companies_used)
    narrow = reader.config.interval_us <= np.iinfo(np.int32).max

    def take(fresh: Events) -> None:
        line = fresh.line
        if len(line) and line[-1] <= np.iinfo(np.int32).max:
            line = line.astype(np.int32)
        offset = fresh.offset_us.astype(np.int32) if narrow else fresh.offset_us
        events.append(Events(fresh.event_id, line, offset))

    tally = reader.read(
        place(task.path),
        task.format,
        eligible,
        task.start_us,
        take,
        file=task.file,
        stated=task.stated,
        ledger=task.ledger,
    )
    none = Events(np.zeros((0, 2), np.uint64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    return tally, Events(*(np.concatenate(column) for column in zip(none, *events, strict=True)))
