"""Read batches back from the disk, as foreign data: faults found, and what the tests need.

Nothing here draws or knows a law. The roster of drivers comes from the companies file and the
configuration, so drivers without an event are counted too. Every line is held to the exact bytes
of the data model; only a line that deviates is parsed, to say what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.batch import EVENTS_NAME, META_NAME, BatchMeta, read_meta
from fleetsim.clock import batch_name, format_time, parse_time
from fleetsim.companies import read_companies
from fleetsim.config import Config
from fleetsim.encode import driver_digits
from fleetsim.errors import FleetsimError, InputError
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
    Kind.DRIVER: b"DRV-(" + _UUID + rb")-(\d{3,})",
    Kind.TRUCK: rb"TRK-([1-9]\d*)",
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
    LINE = "line"  # JSON, keys, types, form
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
    lines : int
        Lines in the events files.
    counts : int64 array (n_batches, n_eligible_drivers)
        Events of each eligible driver, zeros included.
    type_counts : int64 array (n_types,)
        Events of each type, in the configuration's order.
    offsets_us : int64 array (n_valid,)
        Microseconds from the start of the interval, in the order of the files.
    batch_bytes, batch_disk_bytes : int
        Sizes of the files, and allocated blocks with the folders.
    faults : tuple of Fault
        The first of each kind.
    fault_counts : dict
        How many there are of each kind.
    """

    batch_ids: tuple[str, ...]
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
    """
    if not batches:
        raise InputError(str(companies.parent), "no batch to read")
    fleet = read_companies(companies)
    faults = _Faults()
    parts = [_tally_batch(config, fleet, batch, faults) for batch in sorted(batches)]
    for folder in sorted({batch.parent for batch in batches}):
        for left in sorted(folder.glob(f".*{PARTIAL}")):
            faults.add(FaultKind.FOLDER, left.name, "left by a writer that did not finish")
    _find_duplicates(parts, faults)
    return Tally(
        batch_ids=tuple(part.name for part in parts),
        lines=sum(part.lines for part in parts),
        counts=_stack([part.counts for part in parts]),
        type_counts=np.sum([part.type_counts for part in parts], axis=0),
        offsets_us=np.concatenate([part.offsets_us for part in parts]),
        batch_bytes=sum(size_of(batch)[0] for batch in batches),
        batch_disk_bytes=sum(size_of(batch)[1] for batch in batches),
        faults=tuple(faults.kept),
        fault_counts=dict(faults.counts),
    )


def _stack(rows: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Stack the counts of batches; a fleet that grew leaves no driver out of the later ones."""
    width = max(len(row) for row in rows)
    if any(len(row) != width for row in rows):
        raise FleetsimError("the eligible fleet grew between the batches; tally them apart")
    return np.stack(rows)


@dataclass(frozen=True)
class _Part:
    """The tally of one batch; `event_ids` has its text ids, `line_of` their line numbers."""

    name: str
    lines: int
    counts: npt.NDArray[np.int64]
    type_counts: npt.NDArray[np.int64]
    offsets_us: npt.NDArray[np.int64]
    event_ids: npt.NDArray[np.bytes_]
    line_of: npt.NDArray[np.int64]


def _tally_batch(config: Config, fleet: Fleet, batch: Path, faults: _Faults) -> _Part:
    name = batch.name
    meta = _read_meta(batch, faults)
    start_us = _start_of(meta, batch, faults)
    roster = _Roster.of(config, fleet, start_us)
    drivers = len(fleet) * config.drivers_per_company
    counts = np.zeros(drivers, np.int64)
    types = np.zeros(len(roster.types), np.int64)
    offsets: list[npt.NDArray[np.int64]] = []
    ids: list[npt.NDArray[np.bytes_]] = []
    numbers: list[npt.NDArray[np.int64]] = []
    lines, digest = 0, hashlib.sha256()
    path = batch / EVENTS_NAME
    if not path.is_file():
        faults.add(FaultKind.FOLDER, name, f"{EVENTS_NAME} is missing")
        faults.add(FaultKind.LINE, name, f"there is no {EVENTS_NAME} to read")
    else:
        for first, chunk in _chunks(path):
            digest.update(b"".join(chunk))
            lines += len(chunk)
            rows = _read_lines(chunk, first, name, roster, faults)
            counts += np.bincount(rows.driver, minlength=drivers)
            types += np.bincount(rows.type_index, minlength=len(types))
            offset, good = _offsets(rows, start_us, config.interval_us, name, faults)
            offsets.append(offset[good])
            ids.append(rows.event_id)
            numbers.append(rows.number)
    _check_folder(batch, faults)
    if meta is not None:
        _check_meta(config, fleet, meta, batch, lines, digest.hexdigest(), roster, faults)
    keep = np.repeat(roster.eligible, config.drivers_per_company)
    return _Part(
        name=name,
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
        problem = _membership(roster, driver_company, slot, company, truck, type_text)
        if problem:
            faults.add(FaultKind.MEMBER, f"{name} line {at}", problem)
            continue
        number.append(at)
        event_id.append(ident)
        driver.append(int(truck) - 1)
        type_index.append(roster.types[type_text])
        timestamp.append(time_text)
    return _Rows(
        number=np.array(number, np.int64),
        event_id=np.array(event_id, "S36"),
        driver=np.array(driver, np.int64),
        type_index=np.array(type_index, np.int64),
        timestamp=timestamp,
    )


def _membership(
    roster: _Roster, driver_company: bytes, slot: bytes, company: bytes, truck: bytes, type_: bytes
) -> str | None:
    """Return what is wrong with who and what a line names, or None."""
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
    if type_ not in roster.types:
        return f"event_type {type_.decode(errors='replace')!r} is not in the configuration"
    return None


def _what_is_wrong(line: bytes) -> str:
    """Say why a line does not have the exact form."""
    if not line.endswith(b"\n"):
        return "the last line is cut: it has no end"
    try:
        text = line[:-1].decode()
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse)
    except UnicodeDecodeError:
        return "not UTF-8"
    except (ValueError, RecursionError) as error:
        return f"not valid JSON ({error})"
    if not isinstance(pairs, _Pairs):
        return "not a JSON object"
    keys, expected = [key for key, _ in pairs], [f.name for f in EVENT_FIELDS]
    missing = [key for key in expected if key not in keys]
    extra = [key for key in keys if key not in expected]
    if missing or extra:
        return "; ".join(
            [f"missing key {key!r}" for key in missing] + [f"extra key {key!r}" for key in extra]
        )
    if keys != expected:
        return "keys in another order or twice"
    for key, value in pairs:
        if not isinstance(value, str):
            return f"{key} is {type(value).__name__}, not text"
    for f, (_, value) in zip(EVENT_FIELDS, pairs, strict=True):
        if f.kind is not Kind.CHOICE and not re.fullmatch(_VALUE[f.kind], value.encode()):
            return f"{f.name} is {value!r}, which does not have its form"
    return "valid JSON, but not in the compact form of the data model"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that order and repeated keys stay visible."""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _offsets(
    rows: _Rows, start_us: int, length_us: int, name: str, faults: _Faults
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return each line's offset [microseconds] and whether it lies inside the interval."""
    good = np.ones(len(rows.timestamp), np.bool_)
    try:
        texts = np.array(rows.timestamp, "S26").astype("datetime64[us]")
    except ValueError:  # a date that does not exist, as 2025-02-30: look at each line
        texts = np.zeros(len(rows.timestamp), "datetime64[us]")
        for i, raw in enumerate(rows.timestamp):
            try:
                texts[i] = np.datetime64(raw[:26].decode())
            except ValueError:
                good[i] = False
                where = f"{name} line {rows.number[i]}"
                faults.add(FaultKind.TIME, where, f"{raw.decode()} is no time")
    offsets = texts.astype(np.int64) - start_us
    inside = (offsets >= 0) & (offsets < length_us)
    for i in np.flatnonzero(good & ~inside).tolist():
        side = "before the interval" if offsets[i] < 0 else "not before the end of the interval"
        faults.add(
            FaultKind.TIME,
            f"{name} line {rows.number[i]}",
            f"{rows.timestamp[i].decode()} lies {side}",
        )
    return offsets, good & inside


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


def _start_of(meta: BatchMeta | None, batch: Path, faults: _Faults) -> int:
    """Return the start of the interval: as recorded, or else as the folder's name says."""
    for text in (meta.interval_start if meta else "", batch.name):
        try:
            return parse_time(text)
        except ValueError:
            continue
    faults.add(FaultKind.TIME, batch.name, "neither the record nor the folder names an interval")
    return 0


def _check_folder(batch: Path, faults: _Faults) -> None:
    names = {path.name for path in batch.iterdir()} if batch.is_dir() else set()
    if META_NAME not in names:
        faults.add(FaultKind.FOLDER, batch.name, f"{META_NAME} is missing")
    for name in sorted(names - {META_NAME, EVENTS_NAME}):
        faults.add(FaultKind.FOLDER, batch.name, f"{name} does not belong to a batch")
    try:
        if batch_name(parse_time(batch.name)) != batch.name:
            raise ValueError
    except ValueError:
        faults.add(FaultKind.FOLDER, batch.name, "the folder's name is not a batch id")


def _check_meta(
    config: Config,
    fleet: Fleet,
    meta: BatchMeta,
    batch: Path,
    lines: int,
    sha256: str,
    roster: _Roster,
    faults: _Faults,
) -> None:
    """Hold the record to the files and to the configuration."""
    path = batch / EVENTS_NAME
    try:
        end = format_time(parse_time(meta.interval_start) + config.interval_us)
    except ValueError:
        end = "a time that follows from interval_start"
    expected: dict[str, Any] = {
        "batch_id": batch.name,
        "event_count": lines,
        "seed": config.seed,
        "interval_end": end,
        "bytes": path.stat().st_size if path.is_file() else None,
        "sha256": sha256,
        "content_sha256": sha256,
        "config": config.as_dict(),
        "format": "jsonl",
    }
    stated: dict[str, Any] = {name: getattr(meta, name) for name in expected}
    expected["companies"] = (len(fleet), int(roster.eligible.sum()), fleet.sha256)
    stated["companies"] = (meta.companies.lines, meta.companies.eligible, meta.companies.sha256)
    for name, value in expected.items():
        if stated[name] != value:
            faults.add(
                FaultKind.META,
                f"{batch.name}/{META_NAME}",
                f"{name} is {stated[name]!r}; the files and the configuration give {value!r}",
            )


def size_of(batch: Path) -> tuple[int, int]:
    """Return the bytes of a batch's files, and the allocated bytes with the folder (as du)."""
    files = [path for path in batch.rglob("*") if path.is_file()]
    apparent = sum(path.stat().st_size for path in files)
    allocated = sum(path.stat().st_blocks for path in [*files, batch]) * 512
    return apparent, allocated


def content_fingerprint(batch: Path) -> str:
    """Return a hash of a batch's content that does not depend on when its interval starts.

    Timestamps are replaced by their distance from the interval's start; all other bytes count.
    """
    start_us = parse_time(read_meta(batch).interval_start)
    digest = hashlib.sha256()
    for _, chunk in _chunks(batch / EVENTS_NAME):
        # The timestamp is the last value of a line: 27 characters before '"}\n'.
        digest.update(b"".join(line[:-30] for line in chunk))
        times = np.array([line[-30:-4] for line in chunk], "S26").astype("datetime64[us]")
        digest.update((times.astype(np.int64) - start_us).astype("<i8").tobytes())
    return digest.hexdigest()
