"""Read batches back from the disk, as foreign data: faults found, and what the tests need.

Nothing here draws or knows a law. The roster of drivers comes from the companies file and the
configuration, so drivers without an event are counted too. Every line is held to the exact bytes
of the data model; only a line that deviates is parsed, to say what is wrong with it. Memory is
bounded by the roster (8 bytes a driver and batch), not by the number of events.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np
import numpy.typing as npt

from fleetsim.batch import META_NAME, BatchMeta, in_time, read_meta
from fleetsim.clock import LAST_US, batch_name, format_time, parse_time
from fleetsim.companies import read_companies
from fleetsim.config import Config
from fleetsim.diagnosis import Roster, diagnose
from fleetsim.errors import FleetsimError, InputError, found
from fleetsim.faults import Fault, FaultKind, Faults
from fleetsim.files import PARTIAL, hash_file
from fleetsim.fleet import Fleet
from fleetsim.formats import FORMATS
from fleetsim.lines import LineReader, Membership, RawLine, Rows
from fleetsim.model import EVENT_FIELDS, Kind, type_law
from fleetsim.sample import TIME_CELLS, Sample, TypePairs, table_of, time_cell
from fleetsim.store import EventStore, Repeat
from fleetsim.times import times_of

__all__ = ["Tally", "size_of", "tally_batches"]

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_ID, _TYPE, _TIME = (
    next(field.name for field in EVENT_FIELDS if field.kind is kind)
    for kind in (Kind.UUID, Kind.CHOICE, Kind.TIME)
)


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
    samples : tuple of Sample
        The statistics of consecutive batches with one roster; several, where companies joined
        between the batches. Broken lines and strangers are counted as unplaced.
    spans : tuple of (int, int)
        Of each sample, the positions of its batches in `batch_ids`: first, and one past the last.
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
    samples: tuple[Sample, ...]
    spans: tuple[tuple[int, int], ...]
    batch_bytes: int
    batch_disk_bytes: int
    faults: tuple[Fault, ...]
    fault_counts: dict[FaultKind, int]

    @property
    def sample(self) -> Sample:
        """The statistics of all batches.

        Raises
        ------
        FleetsimError
            Where companies joined between the batches, so that they have no common roster.
        """
        if len(self.samples) > 1:
            raise FleetsimError("the eligible fleet grew between the batches; look at them apart")
        return self.samples[0]

    @property
    def timed(self) -> int:
        """Events whose time lies inside their interval."""
        return sum(sample.times.n for sample in self.samples)

    def faults_of(self, *kinds: FaultKind) -> tuple[int, tuple[Fault, ...]]:
        """Return how many faults of these kinds there are, and the first of them."""
        total = sum(self.fault_counts.get(kind, 0) for kind in kinds)
        return total, tuple(fault for fault in self.faults if fault.kind in kinds)


def tally_batches(
    config: Config,
    companies: Path,
    batches: Iterable[Path],
    *,
    any_seed: bool = False,
    faults: Faults | None = None,
    progress: Callable[[int], object] | None = None,
) -> Tally:
    """Tally batches of one data set.

    Parameters
    ----------
    config : Config
        What the data are said to follow.
    companies : Path
        The companies file; drivers are those of its companies.
    batches : iterable of Path
        Batch folders.
    any_seed : bool
        Whether the records may name another seed than the configuration; the law is the same.
    faults : Faults, optional
        What was found already; what is found is added.
    progress : callable, optional
        Called with numbers of bytes as they are read.

    Raises
    ------
    InputError
        Where the companies file cannot be read, or there is no batch.
    """
    ordered = in_time(batches)
    if not ordered:
        raise InputError(str(companies.parent), "no batch to read")
    fleet = read_companies(companies)
    faults = Faults() if faults is None else faults
    _check_fleet(config, fleet, companies, faults)
    with EventStore(config.interval_us) as store:
        reading = _Reading(config, fleet, companies, store, faults, any_seed, progress)
        parts = [reading.tally(number, batch) for number, batch in enumerate(ordered)]
        for folder in sorted({batch.parent for batch in ordered}):
            for left in sorted(folder.glob(f".*{PARTIAL}")):
                faults.add(FaultKind.FOLDER, left.name, "left by a writer that did not finish")
        samples, spans = [], []
        # Who stands twice is searched beside the statistics: both mostly wait for sorts.
        with ThreadPoolExecutor(1) as helper:
            searching = helper.submit(store.repeats, faults.room(FaultKind.DUPLICATE))
            for _, group in groupby(enumerate(parts), key=lambda pair: pair[1].eligible.tobytes()):
                numbers, members = zip(*group, strict=True)
                spans.append((numbers[0], numbers[-1] + 1))
                samples.append(_sample(config, list(members), store, *spans[-1]))
            _add_repeats(*searching.result(), parts, faults)
    sizes = [size_of(batch) for batch in ordered]
    return Tally(
        batch_ids=tuple(part.name for part in parts),
        unread=tuple(part.name for part in parts if part.unread),
        lines=sum(part.lines for part in parts),
        samples=tuple(samples),
        spans=tuple(spans),
        batch_bytes=sum(apparent for apparent, _ in sizes),
        batch_disk_bytes=sum(allocated for _, allocated in sizes),
        faults=tuple(faults.kept),
        fault_counts=dict(faults.counts),
    )


def _check_fleet(config: Config, fleet: Fleet, companies: Path, faults: Faults) -> None:
    if len(fleet) % config.number_of_companies:
        faults.add(
            FaultKind.MEMBER,
            companies.name,
            f"it has {len(fleet)} lines; the configuration gives whole cohorts of "
            f"{config.number_of_companies}",
        )


# --- one batch


@dataclass
class _Part:
    """The tally of one batch, under way; arrays over the whole fleet, eligible or not."""

    name: str
    eligible: Flags  # companies
    counts: Ints
    type_counts: Ints
    types_by_company: Ints  # (companies, types)
    types_by_time: Ints
    type_pairs: Ints
    lines: int = 0
    unread: bool = False
    timed: int = 0
    outside: int = 0


class _Reading:
    """Takes the lines of batches into parts, a store and faults."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        companies: Path,
        store: EventStore,
        faults: Faults,
        any_seed: bool,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.config, self.fleet, self.store, self.faults = config, fleet, store, faults
        self.any_seed, self.progress = any_seed, progress
        self.companies, self.hashes = companies, {len(fleet): fleet.sha256}
        self.reader = LineReader(config, fleet)
        self.n_types = len(type_law(config).names)

    def tally(self, number: int, batch: Path) -> _Part:
        """Return the tally of the batch with this number."""
        meta = _read_meta(batch, self.faults)
        form = _format_of(meta, batch)
        events_name = FORMATS[form].events_name
        _check_folder(batch, events_name, self.faults)
        start_us = _start_of(meta, batch, self.faults)
        # Where nothing says when the interval starts, every company counts as onboarded.
        eligible = self.fleet.eligible(LAST_US if start_us is None else start_us)
        used = self._companies_used(meta)
        eligible[used:] = False
        companies, types = len(self.fleet), self.n_types
        part = _Part(
            name=batch.name,
            eligible=eligible,
            counts=np.zeros(companies * self.config.drivers_per_company, np.int64),
            type_counts=np.zeros(types, np.int64),
            types_by_company=np.zeros((companies, types), np.int64),
            types_by_time=np.zeros((types, TIME_CELLS), np.int64),
            type_pairs=np.zeros((types, types), np.int64),
        )
        roster: Roster | None = None  # made where a line deviates: it is large
        order, pairs = _Order(), TypePairs(types)
        seen = 0  # bytes
        try:
            opened = None if form == "jsonl" else FORMATS[form].reader
            for rows in self.reader.read(batch / events_name, eligible, opened=opened):
                if rows.deviating or rows.strangers:
                    roster = roster or Roster.of(self.config, self.fleet, eligible)
                    self._diagnose(part, [*rows.deviating, *rows.strangers], roster)
                self._take(number, part, rows, start_us, order, pairs)
                if self.progress:
                    self.progress(self.reader.bytes - seen)
                    seen = self.reader.bytes
        except OSError as error:
            part.unread = True
            why = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
            if not error.errno:  # not the system, but the format's reader
                why += f" as {form}: {found(str(error))}"
            self.faults.add(FaultKind.FOLDER, part.name, f"{events_name} {why}")
            self.faults.add(
                FaultKind.LINE, part.name, f"there is no {events_name} that can be read"
            )
        part.lines = self.reader.lines
        part.type_pairs += pairs.finish()
        if meta is not None:
            self._check_meta(meta, batch, form, start_us, used, part)
        return part

    def _companies_used(self, meta: BatchMeta | None) -> int:
        """Return how many lines the companies file had when a batch was made of it.

        It may have been extended since; then its first lines have the hash of the record.
        """
        lines = len(self.fleet)
        if meta is None or not 0 < meta.companies.lines < lines:
            return lines
        same = meta.companies.sha256 == self._hash_of_first(meta.companies.lines)
        return meta.companies.lines if same else lines

    def _hash_of_first(self, lines: int) -> str:
        if lines not in self.hashes:
            with open(self.companies, "rb") as file:
                self.hashes[lines] = hashlib.sha256(b"".join(islice(file, lines))).hexdigest()
        return self.hashes[lines]

    def _diagnose(self, part: _Part, raw: list[RawLine], roster: Roster) -> None:
        for line in sorted(raw):
            kind, message = diagnose(line, roster)
            self.faults.add(kind, f"{part.name} line {line.number}", message)

    def _take(
        self,
        number: int,
        part: _Part,
        rows: Rows,
        start_us: int | None,
        order: _Order,
        pairs: TypePairs,
    ) -> None:
        """Add rows to a part and to the store."""
        kind = rows.drawn[_TYPE]
        line, driver, company, us = rows.number, rows.driver, rows.company, rows.drawn[_TIME]
        event_id = rows.drawn[_ID]
        if rows.strangers:
            good = (rows.membership == Membership.MEMBER) & (kind >= 0)
            line, driver, company, us, kind = (x[good] for x in (line, driver, company, us, kind))
            event_id = event_id[good]
        if not len(line):
            return
        first, last = int(company.min()), int(company.max())
        per_company = table_of(company - first, kind, last + 1 - first, self.n_types)
        part.types_by_company[first : last + 1] += per_company
        part.type_counts += per_company.sum(axis=0)
        first = int(driver.min())
        per_driver = np.bincount(driver - first)
        part.counts[first : first + len(per_driver)] += per_driver
        offset = np.full(len(line), -1)
        if start_us is not None:
            offset = us - start_us
            inside = (offset >= 0) & (offset < self.config.interval_us)
            timed = (line, driver, kind, offset)
            if not inside.all():
                self._outside(part, line[~inside], us[~inside], start_us)
                timed = (line[inside], driver[inside], kind[inside], offset[inside])
                offset[~inside] = -1
            order.check(*timed, part.name, self.faults)
            pairs.add(*timed[1:])
            cell = time_cell(timed[3], self.config.interval_us)
            part.types_by_time += table_of(timed[2], cell, self.n_types, TIME_CELLS)
            part.timed += len(cell)
        self.store.add(number, event_id, line, offset)

    def _outside(self, part: _Part, line: Ints, us: Ints, start_us: int) -> None:
        part.outside += len(line)
        room = self.faults.room(FaultKind.TIME)
        for number, time in zip(line[:room].tolist(), us[:room].tolist(), strict=True):
            side = (
                "before the interval" if time < start_us else "not before the end of the interval"
            )
            message = f"{format_time(time)} lies {side}"
            self.faults.add(FaultKind.TIME, f"{part.name} line {number}", message)
        self.faults.add_unnamed(FaultKind.TIME, len(line) - room)

    def _check_meta(
        self,
        meta: BatchMeta,
        batch: Path,
        form: str,
        start_us: int | None,
        used: int,
        part: _Part,
    ) -> None:
        """Hold the record to the files and to the configuration."""
        path, config = batch / FORMATS[form].events_name, self.config
        content = sha256 = self.reader.sha256  # of the lines
        if form != "jsonl" and path.is_file():
            sha256 = hash_file(path)
        effective = config.as_dict()
        if self.any_seed:
            effective["seed"] = meta.seed
        expected: dict[str, Any] = {
            "batch_id": batch.name,
            "event_count": part.lines,
            "seed": effective["seed"],
            "bytes": path.stat().st_size if path.is_file() else None,
            "sha256": sha256,
            "content_sha256": None if FORMATS[form].columns else content,
            "format": form,
        }
        if start_us is not None:
            expected["interval_start"] = format_time(start_us)
            expected["interval_end"] = format_time(start_us + config.interval_us)
        stated: dict[str, Any] = {name: getattr(meta, name) for name in expected}
        roster = {
            "lines": used,
            "eligible": int(part.eligible.sum()),
            "sha256": self.hashes[used],
        }
        for name, value in roster.items():
            stated[f"companies.{name}"] = getattr(meta.companies, name)
            expected[f"companies.{name}"] = value
        for name in dict.fromkeys([*effective, *meta.config]):
            stated[f"config.{name}"] = meta.config.get(name)
            expected[f"config.{name}"] = effective.get(name)
        for name, value in expected.items():
            if stated[name] != value:
                self.faults.add(
                    FaultKind.META,
                    f"{batch.name}/{META_NAME}",
                    f"{name} is {found(stated[name])}; the files and the configuration give "
                    f"{found(value)}",
                )


class _Order:
    """Holds lines to their order: company, driver, time. Lines outside the interval have none."""

    def __init__(self) -> None:
        self._driver = self._offset = np.full(1, -1)  # of the line above

    def check(
        self, line: Ints, driver: Ints, kind: Ints, offset: Ints, name: str, faults: Faults
    ) -> None:
        """Add a fault for each line that does not follow the one above."""
        if not len(line):
            return
        drivers = np.concatenate([self._driver, driver])
        offsets = np.concatenate([self._offset, offset])
        self._driver, self._offset = drivers[-1:], offsets[-1:]
        late = (drivers[1:] == drivers[:-1]) & (offsets[1:] < offsets[:-1])
        wrong = np.flatnonzero(late | (drivers[1:] < drivers[:-1]))
        room = faults.room(FaultKind.LINE)
        for i in wrong[:room].tolist():
            what = (
                "an event earlier than the one above" if late[i] else "a driver that stands above"
            )
            message = f"{what}; the order is company, driver, time"
            faults.add(FaultKind.LINE, f"{name} line {line[i]}", message)
        faults.add_unnamed(FaultKind.LINE, len(wrong) - room)


def _add_repeats(total: int, repeats: list[Repeat], parts: list[_Part], faults: Faults) -> None:
    for repeat in repeats:
        high, low = repeat.event_id
        faults.add(
            FaultKind.DUPLICATE,
            f"{parts[repeat.batch].name} line {repeat.line}",
            f"event_id {UUID(int=high << 64 | low)} already stands in "
            f"{parts[repeat.first_batch].name} line {repeat.first_line}",
        )
    faults.add_unnamed(FaultKind.DUPLICATE, total - len(repeats))


def _sample(config: Config, parts: list[_Part], store: EventStore, first: int, end: int) -> Sample:
    """Return the statistics of consecutive batches with one roster."""
    eligible = parts[0].eligible
    drivers = np.repeat(eligible, config.drivers_per_company)
    placed = sum(int(part.counts.sum()) for part in parts)
    sizes = np.array([part.timed for part in parts], np.int64)
    batches = store.offsets_by_batch(first, end)
    whole = store.offsets(first, end) if len(parts) > 1 else None
    return Sample(
        drivers_per_company=config.drivers_per_company,
        counts=np.stack([part.counts[drivers] for part in parts]),
        type_counts=np.stack([part.type_counts for part in parts]),
        types_by_company=np.sum([part.types_by_company for part in parts], axis=0)[eligible].T,
        types_by_time=np.sum([part.types_by_time for part in parts], axis=0),
        type_pairs=np.sum([part.type_pairs for part in parts], axis=0),
        times=times_of(sizes, config.interval_us, batches, whole),
        outside=sum(part.outside for part in parts),
        unplaced=sum(part.lines for part in parts) - placed,
    )


# --- what stands around the lines


def _read_meta(batch: Path, faults: Faults) -> BatchMeta | None:
    try:
        return read_meta(batch)
    except InputError as error:
        faults.add(FaultKind.META, batch.name, "; ".join(error.faults))
        return None


def _start_of(meta: BatchMeta | None, batch: Path, faults: Faults) -> int | None:
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


def _format_of(meta: BatchMeta | None, batch: Path) -> str:
    """Return the format of a batch: what its record says and its files bear out, or its files."""
    stated = [meta.format] if meta and meta.format in FORMATS else []
    there = [name for name in FORMATS if os.path.lexists(batch / FORMATS[name].events_name)]
    return next(iter([name for name in stated if name in there] or there or stated), "jsonl")


def _check_folder(batch: Path, events_name: str, faults: Faults) -> None:
    if not batch.is_dir():
        faults.add(FaultKind.FOLDER, batch.name, "there is no such folder")
        return
    names = {path.name for path in batch.iterdir()}
    if META_NAME not in names:
        faults.add(FaultKind.FOLDER, batch.name, f"{META_NAME} is missing")
    for name in sorted(names - {META_NAME, events_name}):
        faults.add(FaultKind.FOLDER, batch.name, f"{name} does not belong to a batch")


def size_of(batch: Path) -> tuple[int, int]:
    """Return the bytes of a batch's files, and the allocated bytes with the folder (as du)."""
    if not batch.is_dir():
        return 0, 0
    files = [path for path in batch.rglob("*") if path.is_file()]
    folders = [batch, *(path for path in batch.rglob("*") if path.is_dir())]
    apparent = sum(path.stat().st_size for path in files)
    allocated = sum(path.stat().st_blocks for path in [*files, *folders]) * 512
    return apparent, allocated
