"""Read batches back from the disk, as foreign data: faults found, and what the tests need.

Nothing here draws or knows a law. The roster of drivers comes from the companies file and the
configuration, so drivers without an event are counted too. Every line is held to the exact bytes
of the data model; only a line that deviates is parsed, to say what is wrong with it.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.batch import EVENTS_NAME, META_NAME, BatchMeta, read_meta
from fleetsim.clock import LAST_US, batch_name, format_time, parse_time
from fleetsim.companies import read_companies
from fleetsim.config import Config
from fleetsim.encode import driver_digits
from fleetsim.errors import FleetsimError, InputError, found
from fleetsim.files import PARTIAL
from fleetsim.fleet import Fleet
from fleetsim.model import EVENT_FIELDS, Kind, escaped

__all__ = ["Fault", "FaultKind", "Tally", "content_fingerprint", "tally_batches"]

EXAMPLES = 20  # faults of one kind that are kept with their text; all are counted
_CHUNK_LINES = 1 << 15

_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = rb"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z"
_VALUE = {
    Kind.UUID: b"(" + _UUID + b")",
    Kind.COMPANY: b"(" + _UUID + b")",
    Kind.DRIVER: b"DRV-(" + _UUID + rb")-(\d{3,9})",
    Kind.TRUCK: rb"TRK-([1-9]\d{0,17})",
    Kind.CHOICE: rb'((?:[^"\\]|\\.)*)',
    Kind.TIME: b"(" + _TIME + b")",
}
_LINE = re.compile(
    rb"\{"
    + b",".join(b'"%s":"%s"' % (f.name.encode(), _VALUE[f.kind]) for f in EVENT_FIELDS)
    + rb"\}\n"
)


class FaultKind(Enum):
    """What a fault is a fault of."""

    FOLDER = "folder"  # the batch folder and its files
    LINE = "line"  # JSON, keys, types, form, order
    MEMBER = "member"  # companies, drivers and trucks that are not in the roster; unknown types
    DUPLICATE = "duplicate"  # an event id that stands twice
    TIME = "time"  # a timestamp outside [start, end)
    META = "meta"  # the record and the file disagree


@dataclass(frozen=True)
class Fault:
    """One fault: its kind, where it stands and what it is."""

    kind: FaultKind
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True)
class Tally:
    """What was found in the files of one or more batches.

    Attributes
    ----------
    batch_ids : tuple of str
        In the order of their intervals.
    unread : tuple of str
        Those of them whose events file is missing or cannot be read: their lines count as none.
    lines : int
        Lines in the events files.
    counts : int64 array (n_batches, n_eligible_drivers)
        Events of each eligible driver, zeros included.
    type_counts : int64 array (n_types,)
        Events of each type, in the configuration's order.
    offsets_us : int64 array (n_inside,)
        Microseconds from the start of the interval, in the order of the files; only of lines
        without a fault of form or roster, and only those inside the interval.
    batch_bytes, batch_disk_bytes : int
        Sizes of the files, and allocated blocks with the folders.
    faults : tuple of Fault
        The first of each kind.
    fault_counts : dict
        How many there are of each kind.
    """

    batch_ids: tuple[str, ...]
    unread: tuple[str, ...]
    lines: int
    counts: npt.NDArray[np.int64]
    type_counts: npt.NDArray[np.int64]
    offsets_us: npt.NDArray[np.int64]
    batch_bytes: int
    batch_disk_bytes: int
    faults: tuple[Fault, ...]
    fault_counts: dict[FaultKind, int]

    def faults_of(self, *kinds: FaultKind) -> tuple[int, tuple[Fault, ...]]:
        """Return how many faults of these kinds there are, and the first of them."""
        total = sum(self.fault_counts.get(kind, 0) for kind in kinds)
        return total, tuple(fault for fault in self.faults if fault.kind in kinds)


@dataclass
class _Faults:
    """Collects faults: all are counted, the first of each kind are kept."""

    kept: list[Fault] = field(default_factory=list)
    counts: Counter[FaultKind] = field(default_factory=Counter)

    def add(self, kind: FaultKind, where: str, message: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES:
            self.kept.append(Fault(kind, where, message))


@dataclass(frozen=True)
class _Roster:
    """Who may stand in a line: companies by id, numbers of drivers, types by their JSON text."""

    companies: dict[bytes, int]
    eligible: npt.NDArray[np.bool_]
    drivers_per_company: int
    digits: int
    types: dict[bytes, int]

    @classmethod
    def of(cls, config: Config, fleet: Fleet, start_us: int) -> _Roster:
        return cls(
            companies={row.tobytes(): i for i, row in enumerate(fleet.company_id)},
            eligible=fleet.eligible(start_us),
            drivers_per_company=config.drivers_per_company,
            digits=driver_digits(config),
            types={escaped(name): i for i, name in enumerate(config.event_types)},
        )


def tally_batches(config: Config, companies: Path, batches: list[Path]) -> Tally:
    """Tally batches of one data set.

    Parameters
    ----------
    config : Config
        What the data are said to follow.
    companies : Path
        The companies file; drivers are those of its companies.
    batches : list of Path
        Batch folders.

    Raises
    ------
    InputError
        Where the companies file cannot be read, or there is no batch.
    FleetsimError
        Where drivers join between the batches, so that they have no common roster.
    """
    if not batches:
        raise InputError(str(companies.parent), "no batch to read")
    fleet = read_companies(companies)
    faults = _Faults()
    _check_fleet(config, fleet, companies, faults)
    parts = [_tally_batch(config, fleet, batch, faults) for batch in in_time(batches)]
    for folder in sorted({batch.parent for batch in batches}):
        for left in sorted(folder.glob(f".*{PARTIAL}")):
            faults.add(FaultKind.FOLDER, left.name, "left by a writer that did not finish")
    _find_duplicates(parts, faults)
    return Tally(
        batch_ids=tuple(part.name for part in parts),
        unread=tuple(part.name for part in parts if part.unread),
        lines=sum(part.lines for part in parts),
        counts=_stack([part.counts for part in parts]),
        type_counts=np.sum([part.type_counts for part in parts], axis=0),
        offsets_us=np.concatenate([part.offsets_us for part in parts]),
        batch_bytes=sum(size_of(batch)[0] for batch in batches),
        batch_disk_bytes=sum(size_of(batch)[1] for batch in batches),
        faults=tuple(faults.kept),
        fault_counts=dict(faults.counts),
    )


def in_time(batches: Iterable[Path]) -> list[Path]:
    """Return batch folders in the order of their intervals; foreign names come last.

    Names do not sort by time: ``…T120000.500000Z`` comes before ``…T120000Z``.
    """

    def start(batch: Path) -> tuple[int, str]:
        try:
            return parse_time(batch.name), batch.name
        except ValueError:
            return LAST_US, batch.name

    return sorted(batches, key=start)


def _check_fleet(config: Config, fleet: Fleet, companies: Path, faults: _Faults) -> None:
    if len(fleet) % config.number_of_companies:
        faults.add(
            FaultKind.MEMBER,
            companies.name,
            f"it has {len(fleet)} lines; the configuration gives whole cohorts of "
            f"{config.number_of_companies}",
        )


def _stack(rows: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Return the counts of all batches in one array; refuse batches of different rosters."""
    width = max(len(row) for row in rows)
    if any(len(row) != width for row in rows):
        raise FleetsimError("the eligible fleet grew between the batches; tally them apart")
    return np.stack(rows)


@dataclass(frozen=True)
class _Part:
    """The tally of one batch; `event_ids` has its text ids, `line_of` their line numbers."""

    name: str
    unread: bool
    lines: int
    counts: npt.NDArray[np.int64]
    type_counts: npt.NDArray[np.int64]
    offsets_us: npt.NDArray[np.int64]
    event_ids: npt.NDArray[np.bytes_]
    line_of: npt.NDArray[np.int64]


def _tally_batch(config: Config, fleet: Fleet, batch: Path, faults: _Faults) -> _Part:
    name = batch.name
    _check_folder(batch, faults)
    meta = _read_meta(batch, faults)
    start_us = _start_of(meta, batch, faults)
    # Where nothing says when the interval starts, every company counts as onboarded.
    roster = _Roster.of(config, fleet, LAST_US if start_us is None else start_us)
    drivers = len(fleet) * config.drivers_per_company
    counts = np.zeros(drivers, np.int64)
    types = np.zeros(len(roster.types), np.int64)
    offsets: list[npt.NDArray[np.int64]] = []
    ids: list[npt.NDArray[np.bytes_]] = []
    numbers: list[npt.NDArray[np.int64]] = []
    lines, digest, unread = 0, hashlib.sha256(), False
    above = (-1, -1)  # driver and offset of the line above
    try:
        for first, chunk in _chunks(batch / EVENTS_NAME):
            digest.update(b"".join(chunk))
            lines += len(chunk)
            rows = _read_lines(chunk, first, name, roster, faults)
            counts += np.bincount(rows.driver, minlength=drivers)
            types += np.bincount(rows.type_index, minlength=len(types))
            ids.append(rows.event_id)
            numbers.append(rows.number)
            if start_us is not None:
                offset, good = _offsets(rows, start_us, config.interval_us, name, faults)
                above = _check_order(rows, offset, good, above, name, faults)
                offsets.append(offset[good])
    except OSError as error:
        unread = True
        why = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        faults.add(FaultKind.FOLDER, name, f"{EVENTS_NAME} {why}")
        faults.add(FaultKind.LINE, name, f"there is no {EVENTS_NAME} to read")
    if meta is not None:
        _check_meta(config, fleet, meta, batch, start_us, lines, digest.hexdigest(), roster, faults)
    keep = np.repeat(roster.eligible, config.drivers_per_company)
    return _Part(
        name=name,
        unread=unread,
        lines=lines,
        counts=counts[keep],
        type_counts=types,
        offsets_us=np.concatenate(offsets) if offsets else np.zeros(0, np.int64),
        event_ids=np.concatenate(ids) if ids else np.zeros(0, "S36"),
        line_of=np.concatenate(numbers) if numbers else np.zeros(0, np.int64),
    )


def _chunks(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield lists of lines with the number of the first."""
    number, chunk = 1, []
    with open(path, "rb") as file:
        for line in file:
            chunk.append(line)
            if len(chunk) == _CHUNK_LINES:
                yield number, chunk
                number, chunk = number + len(chunk), []
    if chunk:
        yield number, chunk


@dataclass(frozen=True)
class _Rows:
    """The lines of a chunk that have the exact form and a place in the roster, as columns."""

    number: npt.NDArray[np.int64]
    event_id: npt.NDArray[np.bytes_]
    driver: npt.NDArray[np.int64]
    type_index: npt.NDArray[np.int64]
    timestamp: list[bytes]


def _read_lines(
    chunk: list[bytes], first: int, name: str, roster: _Roster, faults: _Faults
) -> _Rows:
    number, event_id, driver, type_index, timestamp = [], [], [], [], []
    for at, line in enumerate(chunk, start=first):
        match = _LINE.fullmatch(line)
        if match is None:
            faults.add(FaultKind.LINE, f"{name} line {at}", _what_is_wrong(line))
            continue
        ident, driver_company, slot, company, truck, type_text, time_text = match.groups()
        type_at = roster.types.get(type_text)
        if type_at is None:
            kind, problem = _unknown_type(roster, type_text, line)
            faults.add(kind, f"{name} line {at}", problem)
            continue
        stranger = _membership(roster, driver_company, slot, company, truck)
        if stranger:
            faults.add(FaultKind.MEMBER, f"{name} line {at}", stranger)
            continue
        number.append(at)
        event_id.append(ident)
        driver.append(int(truck) - 1)
        type_index.append(type_at)
        timestamp.append(time_text)
    return _Rows(
        number=np.array(number, np.int64),
        event_id=np.array(event_id, "S36"),
        driver=np.array(driver, np.int64),
        type_index=np.array(type_index, np.int64),
        timestamp=timestamp,
    )


def _unknown_type(roster: _Roster, text: bytes, line: bytes) -> tuple[FaultKind, str]:
    """Say why a type's text between the quotes is none of the configuration's."""
    try:
        value = json.loads(b'"' + text + b'"')
    except ValueError:  # not UTF-8, or a character that JSON wants escaped
        return FaultKind.LINE, _what_is_wrong(line)
    if isinstance(value, str) and _escaped(value) in roster.types:
        return FaultKind.LINE, f"event_type {found(value)} has not the shortest escapes"
    return FaultKind.MEMBER, f"event_type {found(value)} is not in the configuration"


def _escaped(text: str) -> bytes | None:
    try:
        return escaped(text)
    except UnicodeEncodeError:  # half of a pair of surrogates
        return None


def _membership(
    roster: _Roster, driver_company: bytes, slot: bytes, company: bytes, truck: bytes
) -> str | None:
    """Return what is wrong with those whom a line names, or None."""
    index = roster.companies.get(company)
    if index is None:
        return f"company_id {company.decode()} is not in the companies file"
    if not roster.eligible[index]:
        return f"company_id {company.decode()} is not active or not onboarded yet"
    if driver_company != company:
        return f"driver_id names the company {driver_company.decode()}, not {company.decode()}"
    if int(slot) >= roster.drivers_per_company or len(slot) != roster.digits:
        last = f"{roster.drivers_per_company - 1:0{roster.digits}d}"
        return f"driver number {slot.decode()} is not one of {'0' * roster.digits} .. {last}"
    position = index * roster.drivers_per_company + int(slot) + 1
    if int(truck) != position:
        return f"truck_id is TRK-{truck.decode()}, this driver's is TRK-{position}"
    return None


def _what_is_wrong(line: bytes) -> str:
    """Say why a line does not have the exact form."""
    if not line.endswith(b"\n"):
        return "the last line is cut: it has no end"
    if line.endswith(b"\r\n"):
        return "ends with CR LF; a line ends with LF alone"
    if not line.strip():
        return "a blank line"
    if line.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark"
    try:
        text = line[:-1].decode()
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start + 1} of the line is invalid"
    except json.JSONDecodeError as error:
        return f"not valid JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}"
    if not isinstance(pairs, _Pairs):
        return "not a JSON object"
    keys, expected = [key for key, _ in pairs], [f.name for f in EVENT_FIELDS]
    twice = [f"key {found(key)} twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    missing = [f"missing key {key!r}" for key in expected if key not in keys]
    extra = [f"extra key {found(key)}" for key in dict.fromkeys(keys) if key not in expected]
    if twice or missing or extra:
        return "; ".join([*twice, *missing, *extra])
    if keys != expected:
        return f"keys in another order: {', '.join(keys)}"
    for key, value in pairs:
        if not isinstance(value, str):
            return f"{key} is {_JSON_NAMES.get(type(value), 'a number')}, not text"
    for f, (_, value) in zip(EVENT_FIELDS, pairs, strict=True):
        raw = value.encode(errors="surrogatepass")
        if f.kind is not Kind.CHOICE and not re.fullmatch(_VALUE[f.kind], raw):
            return f"{f.name} is {found(value)}, which does not have its form"
    return "valid JSON, but not in the compact form of the data model"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that order and repeated keys stay visible."""


_JSON_NAMES = {bool: "a truth value", type(None): "null", list: "a list", _Pairs: "an object"}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


#: A time without its Z: the places of its digits, and what stands between them.
_TIME_FORM = b"0000-00-00T00:00:00.000000"
_MARKS = np.array([i for i, c in enumerate(_TIME_FORM) if c != ord("0")])


def _times(texts: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return times as microseconds since 1970, and which of the texts are times that exist.

    By arithmetic on the digits: NumPy's own conversion of bytes to datetime64 may crash the process
    on a date that does not exist (2.4.6, arrays of some thousands).
    """
    if not texts:
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    width = len(_TIME_FORM)
    joined = b"".join(text[:width].ljust(width) for text in texts)
    digits = np.frombuffer(joined, np.uint8).reshape(-1, width).astype(np.int64) - ord("0")
    form = np.frombuffer(_TIME_FORM, np.uint8).astype(np.int64) - ord("0")
    ok = (digits[:, _MARKS] == form[_MARKS]).all(axis=1)
    rest = np.delete(digits, _MARKS, axis=1)
    ok &= ((rest >= 0) & (rest <= 9)).all(axis=1)
    rest[~ok] = 1  # any date

    def number(first: int, last: int) -> npt.NDArray[np.int64]:
        return rest[:, first:last] @ 10 ** np.arange(last - first - 1, -1, -1)

    year, month, day = number(0, 4), number(4, 6), number(6, 8)
    hour, minute, second = number(8, 10), number(10, 12), number(12, 14)
    ok &= (year >= 1) & (month >= 1) & (month <= 12)
    ok &= (hour <= 23) & (minute <= 59) & (second <= 59)
    months = np.where(ok, 12 * (year - 1970) + month - 1, 0)
    first_day, end = (
        (months + step).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
        for step in (0, 1)
    )
    ok &= (day >= 1) & (day <= end - first_day)
    seconds = ((first_day + day - 1) * 24 + hour) * 3600 + 60 * minute + second
    return seconds * 1_000_000 + number(14, 20), ok


def _offsets(
    rows: _Rows, start_us: int, length_us: int, name: str, faults: _Faults
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return each line's offset [microseconds] and whether it lies inside the interval."""
    times, good = _times(rows.timestamp)
    for i in np.flatnonzero(~good).tolist():
        where = f"{name} line {rows.number[i]}"
        faults.add(FaultKind.TIME, where, f"{rows.timestamp[i].decode()} is no time")
    offsets = times - start_us
    inside = (offsets >= 0) & (offsets < length_us)
    for i in np.flatnonzero(good & ~inside).tolist():
        side = "before the interval" if offsets[i] < 0 else "not before the end of the interval"
        faults.add(
            FaultKind.TIME,
            f"{name} line {rows.number[i]}",
            f"{rows.timestamp[i].decode()} lies {side}",
        )
    return offsets, good & inside


def _check_order(
    rows: _Rows,
    offset: npt.NDArray[np.int64],
    good: npt.NDArray[np.bool_],
    above: tuple[int, int],
    name: str,
    faults: _Faults,
) -> tuple[int, int]:
    """Hold the lines to their order: company, driver, time. Return driver and offset of the last.

    Lines whose time is wrong have no place in it and are passed over.
    """
    number = rows.number[good]
    driver = np.concatenate([[above[0]], rows.driver[good]])
    offset = np.concatenate([[above[1]], offset[good]])
    late = (driver[1:] == driver[:-1]) & (offset[1:] < offset[:-1])
    for i in np.flatnonzero(late | (driver[1:] < driver[:-1])).tolist():
        what = "an event earlier than the one above" if late[i] else "a driver that stands above"
        message = f"{what}; the order is company, driver, time"
        faults.add(FaultKind.LINE, f"{name} line {number[i]}", message)
    return int(driver[-1]), int(offset[-1])


def _find_duplicates(parts: list[_Part], faults: _Faults) -> None:
    ids = np.concatenate([part.event_ids for part in parts])
    lines = np.concatenate([part.line_of for part in parts])
    owner = np.repeat(np.arange(len(parts)), [len(part.event_ids) for part in parts])
    order = np.argsort(ids, kind="stable")
    for at in np.flatnonzero(ids[order][1:] == ids[order][:-1]):
        first, second = order[at], order[at + 1]
        faults.add(
            FaultKind.DUPLICATE,
            f"{parts[owner[second]].name} line {lines[second]}",
            f"event_id {ids[second].decode()} already stands in {parts[owner[first]].name} "
            f"line {lines[first]}",
        )


def _read_meta(batch: Path, faults: _Faults) -> BatchMeta | None:
    try:
        return read_meta(batch)
    except InputError as error:
        faults.add(FaultKind.META, batch.name, "; ".join(error.faults))
        return None


def _start_of(meta: BatchMeta | None, batch: Path, faults: _Faults) -> int | None:
    """Return the start of the interval, as the record and the folder's name agree.

    Where they do not, a record that agrees with its own batch_id is believed, or else the name.
    """
    recorded, named = _time(meta.interval_start if meta else ""), _time(batch.name)
    if meta and recorded is not None and batch_name(recorded) == meta.batch_id:
        start: int | None = recorded
    else:
        start = recorded if named is None else named
    if start is None:
        faults.add(
            FaultKind.TIME, batch.name, "neither the record nor the folder names an interval"
        )
    if start is None or batch_name(start) != batch.name:
        faults.add(FaultKind.FOLDER, batch.name, "the folder's name is not the id of its batch")
    return start


def _time(text: str) -> int | None:
    try:
        return parse_time(text)
    except ValueError:
        return None


def _check_folder(batch: Path, faults: _Faults) -> None:
    if not batch.is_dir():
        faults.add(FaultKind.FOLDER, batch.name, "there is no such folder")
        return
    names = {path.name for path in batch.iterdir()}
    if META_NAME not in names:
        faults.add(FaultKind.FOLDER, batch.name, f"{META_NAME} is missing")
    for name in sorted(names - {META_NAME, EVENTS_NAME}):
        faults.add(FaultKind.FOLDER, batch.name, f"{name} does not belong to a batch")


def _check_meta(
    config: Config,
    fleet: Fleet,
    meta: BatchMeta,
    batch: Path,
    start_us: int | None,
    lines: int,
    sha256: str,
    roster: _Roster,
    faults: _Faults,
) -> None:
    """Hold the record to the files and to the configuration."""
    path = batch / EVENTS_NAME
    expected: dict[str, Any] = {
        "batch_id": batch.name,
        "event_count": lines,
        "seed": config.seed,
        "bytes": path.stat().st_size if path.is_file() else None,
        "sha256": sha256,
        "content_sha256": sha256,
        "format": "jsonl",
    }
    if start_us is not None:
        expected["interval_start"] = format_time(start_us)
        expected["interval_end"] = format_time(start_us + config.interval_us)
    stated: dict[str, Any] = {name: getattr(meta, name) for name in expected}
    used = {"lines": len(fleet), "eligible": int(roster.eligible.sum()), "sha256": fleet.sha256}
    for name, value in used.items():
        stated[f"companies.{name}"] = getattr(meta.companies, name)
        expected[f"companies.{name}"] = value
    effective = config.as_dict()
    for name in dict.fromkeys([*effective, *meta.config]):
        stated[f"config.{name}"] = meta.config.get(name)
        expected[f"config.{name}"] = effective.get(name)
    for name, value in expected.items():
        if stated[name] != value:
            faults.add(
                FaultKind.META,
                f"{batch.name}/{META_NAME}",
                f"{name} is {found(stated[name])}; the files and the configuration give "
                f"{found(value)}",
            )


def size_of(batch: Path) -> tuple[int, int]:
    """Return the bytes of a batch's files, and the allocated bytes with the folder (as du)."""
    if not batch.is_dir():
        return 0, 0
    files = [path for path in batch.rglob("*") if path.is_file()]
    folders = [batch, *(path for path in batch.rglob("*") if path.is_dir())]
    apparent = sum(path.stat().st_size for path in files)
    allocated = sum(path.stat().st_blocks for path in [*files, *folders]) * 512
    return apparent, allocated


def content_fingerprint(batch: Path) -> str:
    """Return a hash of a batch's content that does not depend on when its interval starts.

    Timestamps are replaced by their distance from the interval's start; all other bytes count.
    """
    start_us = parse_time(read_meta(batch).interval_start)
    digest = hashlib.sha256()
    for _, chunk in _chunks(batch / EVENTS_NAME):
        # The timestamp is the last value of a line: 26 characters before 'Z"}\n'.
        digest.update(np.array([len(line) for line in chunk], "<i8").tobytes())
        digest.update(b"".join(line[:-30] + line[-4:] for line in chunk))
        digest.update(_distances([line[-30:-4] for line in chunk], start_us))
    return digest.hexdigest()


def _distances(texts: list[bytes], start_us: int) -> bytes:
    """Return times as distances from the start; other texts as they are."""
    times, ok = _times(texts)
    if not ok.all():
        return b"".join(texts)
    return (times - start_us).astype("<i8").tobytes()
