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
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import LAST_US, format_time
from fleetsim.base.errors import FleetsimError, InputError, found
from fleetsim.base.files import hash_file
from fleetsim.base.storage import place, told
from fleetsim.batch.companies import read_companies
from fleetsim.batch.formats import FORMATS, damaged
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.encode import line_width
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, type_law
from fleetsim.stats.sample import TIME_CELLS, TypePairs, table_of, time_cell
from fleetsim.tally.diagnosis import Roster, diagnose
from fleetsim.tally.faults import EXAMPLES, FaultKind
from fleetsim.tally.lines import Bounds, LineReader, Membership, Rows
from fleetsim.tally.partial import (
    Growing,
    LineFault,
    Partial,
    count,
    first_faults,
    misplaced,
    misplaced_fault,
)

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_ID, _TYPE, _TIME = (
    next(field.name for field in EVENT_FIELDS if field.kind is kind)
    for kind in (FieldKind.UUID, FieldKind.CHOICE, FieldKind.TIME)
)


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
        Path or URL of the companies file.
    companies_sha256 : str
    companies_used : int
        How many of its lines count.
    stated : Stated
        What is said of the file.
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


def members(fleet: Fleet, start_us: int | None, used: int) -> Flags:
    """Return which companies of a fleet may have events in a batch.

    Where nothing says when the interval starts, every company counts as onboarded.
    """
    eligible = fleet.eligible(LAST_US if start_us is None else start_us)
    eligible[used:] = False
    return eligible


class FileReader:
    """Reads files of batches that are said to follow a configuration; many at a time may.

    Parameters
    ----------
    config : Config
    fleet : Fleet
    """

    def __init__(self, config: Config, fleet: Fleet) -> None:
        self.config, self.fleet = config, fleet
        names = type_law(config).names
        self.n_types = len(names)
        self._longest = max(len(name.encode()) for name in names)
        self._width = line_width(config, max(1, len(fleet) * config.drivers_per_company))
        self._lines = LineReader(config, fleet)
        self._roster: Roster | None = None  # made where a line deviates: it is large

    def read(
        self,
        path: Path,
        format: str,
        eligible: Flags,
        start_us: int | None,
        take: Callable[[Events], object],
        *,
        file: int = 0,
        stated: Stated = Stated(),  # noqa: B008 (a constant)
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
        stated : Stated
            What is said of the file; what goes on far beyond that is not read.
        progress : callable, optional
            Called with numbers of bytes as they are read.

        Raises
        ------
        FleetsimError
            Where a storage fails. What the system says of a path is what was found.
        """
        lines = copy.copy(self._lines)
        growing = Growing(self.n_types)
        seen, error, sha256 = 0, "", ""
        opened = None
        if format != "jsonl":
            opened = partial(FORMATS[format].reader, longest=self._longest)
        bounds = self._bounds(format, stated)
        with told(path):
            try:
                for rows in lines.read(path, eligible, opened=opened, bounds=bounds):
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
                    sha256 = hash_file(path)
                except OSError as fault:
                    error = error or _why(fault, path, format)
        return FileTally(growing.finish(), lines.bytes, lines.sha256, sha256, error, more)

    def _bounds(self, format: str, stated: Stated) -> Bounds:
        """Return where the reading of a file stops."""
        lines = math.inf if stated.rows is None else max(0, stated.rows) + MORE_LINES
        most = [math.inf]
        if format == "jsonl":
            most += [] if stated.bytes is None else [stated.bytes]
        else:
            most += [] if stated.rows is None else [stated.rows * self._width]
            most += [] if stated.size is None else [stated.size // _LEAST_BYTES * self._width]
        return Bounds(lines, max(0, min(most)) + MORE_BYTES, SHORT_LINES, LINE_BYTES)

    def _tally(
        self, rows: Rows, file: int, eligible: Flags, start_us: int | None
    ) -> tuple[Partial, Events]:
        """Return the partial of consecutive lines, and their events."""
        kind = rows.drawn[_TYPE]
        line, driver, company, us = rows.number, rows.driver, rows.company, rows.drawn[_TIME]
        event_id = rows.drawn[_ID]
        if rows.strangers:
            good = (rows.membership == Membership.MEMBER) & (kind >= 0)
            line, driver, company, us, kind = (x[good] for x in (line, driver, company, us, kind))
            event_id = event_id[good]
        faults = self._diagnoses(rows, file, eligible)
        counts = Counter(fault.kind for fault in faults)
        offset = np.full(len(line), -1)
        pairs, first = TypePairs(self.n_types), None
        by_time = np.zeros((self.n_types, TIME_CELLS), np.int64)
        timed = outside = 0
        if start_us is not None and len(line):
            offset = us - start_us
            inside = (offset >= 0) & (offset < self.config.interval_us)
            ordered = (line, driver, kind, offset)
            if not inside.all():
                faults += _outside(file, line[~inside], us[~inside], start_us)
                outside = int((~inside).sum())
                counts[FaultKind.TIME] += outside
                ordered = (line[inside], driver[inside], kind[inside], offset[inside])
                offset[~inside] = -1
            timed = len(ordered[0])
            if timed:
                first = file, int(ordered[0][0])
                above, late = misplaced(ordered[1], ordered[3])
                wrong = np.flatnonzero(above | late)
                counts[FaultKind.LINE] += len(wrong)
                for i in wrong[:EXAMPLES].tolist():
                    faults.append(misplaced_fault(file, int(ordered[0][i + 1]), bool(late[i])))
                pairs.add(*ordered[1:])
                cell = time_cell(ordered[3], self.config.interval_us)
                by_time = table_of(ordered[2], cell, self.n_types, TIME_CELLS)
        partial = Partial(
            lines=rows.lines,
            timed=timed,
            outside=outside,
            drivers=count(driver),
            company_types=count(company * self.n_types + kind),
            types_by_time=by_time,
            pairs=pairs,
            first=first,
            faults=first_faults(faults) if faults else (),
            fault_counts=+counts,  # those above 0
        )
        return partial, Events(event_id, line, offset)

    def _diagnoses(self, rows: Rows, file: int, eligible: Flags) -> list[LineFault]:
        raw = [*rows.deviating, *rows.strangers]
        if not raw:
            return []
        if self._roster is None:
            self._roster = Roster.of(self.config, self.fleet, eligible)
        roster = replace(self._roster, eligible=eligible)
        return [LineFault(file, line.number, *diagnose(line, roster)) for line in raw]


def _outside(file: int, line: Ints, us: Ints, start_us: int) -> list[LineFault]:
    """Return the faults of the first of some lines whose time lies outside of the interval."""
    faults = []
    for number, time in zip(line[:EXAMPLES].tolist(), us[:EXAMPLES].tolist(), strict=True):
        side = "before the interval" if time < start_us else "not before the end of the interval"
        faults.append(LineFault(file, number, FaultKind.TIME, f"{format_time(time)} lies {side}"))
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
    try:
        fleet = read_companies(place(companies))
    except InputError as error:
        raise FleetsimError(f"a worker cannot use the companies: {error}") from None
    if fleet.sha256 != sha256:
        raise FleetsimError(f"{companies}: a worker sees another file there than this process")
    return FileReader(make_config(msgspec.json.decode(config)), fleet)


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
    )
    none = Events(np.zeros((0, 2), np.uint64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    return tally, Events(*(np.concatenate(column) for column in zip(none, *events, strict=True)))
