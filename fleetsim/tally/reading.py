"""Batches while they are read: their files here or by workers, merged as they come."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import batch_name
from fleetsim.base.errors import FleetsimError
from fleetsim.base.files import open_plain
from fleetsim.base.storage import is_remote, place, told
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.meta import BatchMeta
from fleetsim.generate.config import Config
from fleetsim.generate.fleet import Fleet
from fleetsim.stats.sample import TypeTables
from fleetsim.tally.faults import FaultKind, Faults
from fleetsim.tally.file import (
    MISSING,
    Events,
    FileReader,
    FileTally,
    FileTask,
    Stated,
    empty_order,
    listed_in,
    members,
    tally_file,
)
from fleetsim.tally.folder import (
    BatchFiles,
    check_record,
    find_files,
    read_record,
    start_of,
    time_or_none,
)
from fleetsim.tally.ledger import Explained, Ledger, LedgerFile, check_rates
from fleetsim.tally.partial import Partial, count, merge, misplaced_cause
from fleetsim.tally.partitions import Partition
from fleetsim.tally.store import EventStore

Flags: TypeAlias = npt.NDArray[np.bool_]
Ints: TypeAlias = npt.NDArray[np.int64]
T = TypeVar("T")
R = TypeVar("R")

#: Bytes of lines that a worker reads at most: the events of a larger file are no message.
_SENT_BYTES = 1 << 31


class Mapper(Protocol):
    """Has a function of this package done for tasks somewhere, such as `cluster.Cluster.map`."""

    def __call__(self, function: Callable[[T], R], tasks: Iterable[T], /) -> Iterator[tuple[T, R]]:
        """Yield each task with what the function made of it, in any order."""


class OpenBatch:
    """A batch that is being read: what stands around its lines, and the tallies of its files."""

    def __init__(
        self,
        number: int,
        source: Path | Partition,
        first: int,
        fleet: Fleet | None,
        companies_used: Callable[[BatchMeta | None], int],
        ledger: Ledger | None = None,
    ) -> None:
        self.number, self.source, self.name, self.first = number, source, source.name, first
        self.path = path = source.path if isinstance(source, Partition) else source
        self.rows = source.rows if isinstance(source, Partition) else None
        self.faults = Faults()
        self.meta: BatchMeta | None = None
        self.files: BatchFiles
        if isinstance(source, Partition):
            self._open_partition(source)
        else:
            self.meta = read_record(path, self.faults)
            self.files = find_files(self.meta, path, self.faults)
            self.start_us = start_of(self.meta, path, self.faults)
        self.companies = 1 if fleet is None else len(fleet)
        self.drivers = 0 if fleet is None else len(fleet)  # x drivers_per_company
        self.used = companies_used(self.meta)
        self.eligible: Flags = members(fleet, self.start_us, self.used)
        self.read: dict[int, FileTally] = {}  # by the number of the file
        self.unread = 0  # files that could not be read
        self.ledger = ledger
        self.explained = Explained()

    def _open_partition(self, source: Partition) -> None:
        """Look at a batch whose folder has the name of its time, and not of its id."""
        self.start_us = source.start_us
        if source.files:
            self.files = source.files
        else:
            found = Faults()
            self.meta = read_record(source.path, found)
            self.files = find_files(self.meta, source.path, found)
            for fault in found.kept:
                where = f"{source.name}{fault.where.removeprefix(source.path.name)}"
                self.faults.add(fault.kind, where, fault.message, fault.cause)
            self.start_us = time_or_none(self.meta.interval_start) if self.meta else None
        if self.start_us is None:
            why = "neither its name nor a record nor an event says which interval it is"
            self.faults.add(FaultKind.TIME, source.name, why, "no interval")

    @property
    def id(self) -> str:
        """The id that a record has to name."""
        if self.start_us is None or not isinstance(self.source, Partition):
            return self.name
        return batch_name(self.start_us)

    def path_of(self, file: int) -> Path:
        """Return the path of the file with a number."""
        return self.path / self.files.names[file - self.first]

    def name_of(self, file: int) -> str:
        """Return how faults call a file."""
        return f"{self.name}/{self.path_of(file).name}" if self.files.parts else self.name

    def stated_of(self, file: int) -> Stated:
        """Return what is said of a file."""
        name, meta = self.path_of(file).name, self.meta
        size = self.files.there.get(name)
        if meta is None or meta.format != self.files.format or name not in meta.files:
            return Stated(size=size)
        if not self.files.parts:
            return Stated(meta.event_count, meta.bytes, size)
        rows, recorded = next((p.rows, p.bytes) for p in meta.parts or () if p.name == name)
        return Stated(rows, recorded, size)

    def ledger_of(self, file: int) -> LedgerFile | None:
        """Return where the ledger of a file stands; None where none is asked for."""
        if self.ledger is None:
            return None
        part = self.path_of(file).name if self.files.parts else None
        return self.ledger.file_of(self.id, self.meta, part)

    def add_to(self, store: EventStore, file: int, events: Events) -> None:
        """Give events of a file to a store."""
        store.add(self.number, *events, file=file)

    def finish(
        self, config: Config, roster: dict[str, Any], any_seed: bool, types: TypeTables
    ) -> None:
        """Merge the tallies of all files, and hold the record to them and to the roster.

        `types` takes those of the eligible drivers.
        """
        nothing = empty_order(config)
        n_types = len(nothing.types.pairs)
        tallies = [self.read[file] for file in sorted(self.read)]
        self.read.clear()
        self.partial: Partial = merge((tally.partial for tally in tallies), nothing)
        self._explain(tallies)
        for name, tally in zip(self.files.names, tallies, strict=True):
            if tally.more:  # said before the lines at fault, which may be very many
                self.faults.add(FaultKind.LINE, self.name, f"{name} {tally.more}")
        unit = "line"
        if self.rows:  # rows have no order but ours
            unit = "row"
            ordered = {(FaultKind.LINE, misplaced_cause(late)) for late in (True, False)}
            self.partial = replace(
                self.partial,
                faults=tuple(f for f in self.partial.faults if (f.kind, f.cause) not in ordered),
                causes=Counter({c: n for c, n in self.partial.causes.items() if c not in ordered}),
            )
        for fault in self.partial.faults:
            where = f"{self.name_of(fault.file)} {unit} {fault.line}"
            self.faults.add(fault.kind, where, fault.message, fault.cause)
        kept = Counter((fault.kind, fault.cause) for fault in self.partial.faults)
        for cause, number in self.partial.causes.items():
            self.faults.add_unnamed(*cause, number - kept[cause])
        for name, tally in zip(self.files.names, tallies, strict=True):
            if tally.error:
                self.unread += 1
                self.faults.add(FaultKind.FOLDER, self.name, f"{name} {tally.error}", "not read")
                why = f"there is no {name} that can be read"
                self.faults.add(FaultKind.LINE, self.name, why, "not read")
        if self.meta is not None:
            seed = self.meta.seed if any_seed else config.seed
            check_record(
                self.meta,
                self.id,
                self.files,
                tallies,
                msgspec.structs.replace(config, seed=seed),
                self.start_us,
                roster,
                self.faults,
            )
            if self.ledger is not None:
                check_rates(self.meta, self.id, config, self.faults)
        # Tables over the whole fleet, eligible or not; the counts behind them are not kept.
        drivers = self.drivers * config.drivers_per_company
        by_driver = self.partial.driver_types.table(drivers * n_types).reshape(drivers, n_types)
        self.partial = replace(self.partial, driver_types=_NOTHING)
        self.counts: Ints = by_driver.sum(axis=1)
        if drivers and self.eligible.all():
            types.add(by_driver)
        elif drivers:
            types.add(by_driver[np.repeat(self.eligible, config.drivers_per_company)])
        del by_driver
        by_company = self.partial.company_types.table(self.companies * n_types)
        self.types_by_company = by_company.reshape(self.companies, n_types)
        self.partial = replace(self.partial, company_types=_NOTHING, order=nothing.closed())

    def _explain(self, tallies: list[FileTally]) -> None:
        """Add up what the ledgers of all files explain, and say which are of no use."""
        if self.ledger is None:
            return
        for name, tally in zip(self.files.names, tallies, strict=True):
            own = tally.explained or Explained()
            self.explained += own
            if own.unusable:
                where = f"{self.name}/{name}" if self.files.parts else self.name
                self.faults.add(FaultKind.LEDGER, where, f"ledger: {own.unusable}", "no ledger")


_NOTHING = count(np.zeros(0, np.int64))


class Reading:
    """Reads the files of batches, here or elsewhere, into the batches and a store."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet | None,
        companies: Path | None,
        store: EventStore,
        any_seed: bool,
        progress: Callable[[int], object] | None,
        *,
        bad_companies: bool = False,
        ledger: Ledger | None = None,
    ) -> None:
        self.ledger = ledger
        self.config, self.fleet, self.store = config, fleet, store
        self.any_seed, self.progress = any_seed, progress
        self.companies, self.bad_companies = companies, bad_companies
        self.hashes = {len(fleet): fleet.sha256} if fleet else {}
        self.reader = FileReader(config, fleet, listed_in(bad_companies))
        self.batch_of: list[OpenBatch] = []  # by the number of the file
        self._types: dict[bytes, TypeTables] = {}  # by the companies that are eligible

    def open(self, number: int, source: Path | Partition) -> OpenBatch:
        """Return the next batch, of which no line has been read."""
        batch = OpenBatch(
            number, source, len(self.batch_of), self.fleet, self._companies_used, self.ledger
        )
        self.batch_of += [batch] * len(batch.files.names)
        return batch

    def read(self, mapper: Mapper | None) -> None:
        """Read all files."""
        here = list(range(len(self.batch_of)))
        if mapper:
            sent = [file for file in here if self._size(file) <= _SENT_BYTES]
            here = [file for file in here if self._size(file) > _SENT_BYTES]
            for task, (tally, events) in mapper(tally_file, map(self._task, sent)):
                if tally.error == MISSING:
                    self._check_seen(task)
                self.batch_of[task.file].add_to(self.store, task.file, events)
                if self.progress:
                    self.progress(tally.bytes)
                self._take(task.file, tally)
        for file in here:
            batch = self.batch_of[file]
            tally = self.reader.read(
                batch.path_of(file),
                batch.files.format,
                batch.eligible,
                batch.start_us,
                partial(batch.add_to, self.store, file),
                file=file,
                rows_of=batch.rows,
                stated=batch.stated_of(file),
                ledger=batch.ledger_of(file),
                progress=self.progress,
            )
            self._take(file, tally)

    def _check_seen(self, task: FileTask) -> None:
        """Refuse workers that do not see what this process sees."""
        path = self.batch_of[task.file].path_of(task.file)
        with told(path):
            if path.is_file():
                raise FleetsimError(f"{task.path}: a worker does not see this file")

    def _size(self, file: int) -> float:
        """Return about how many bytes of lines a file holds."""
        batch = self.batch_of[file]
        files = batch.files
        size = files.there.get(batch.path_of(file).name) or 0
        return size / FORMATS[files.format].share

    def _task(self, file: int) -> FileTask:
        batch = self.batch_of[file]
        return FileTask(
            file=file,
            path=_everywhere(batch.path_of(file)),
            format=batch.files.format,
            start_us=batch.start_us,
            config=msgspec.json.encode(self.config.as_dict()),
            companies=_everywhere(self.companies) if self.companies else "",
            companies_sha256=self.fleet.sha256 if self.fleet else "",
            companies_used=batch.used,
            stated=batch.stated_of(file),
            ledger=_ledger_everywhere(batch.ledger_of(file)),
        )

    def _take(self, file: int, tally: FileTally) -> None:
        batch = self.batch_of[file]
        batch.read[file] = tally
        if len(batch.read) == len(batch.files.names):
            batch.finish(
                self.config, self._roster(batch), self.any_seed, self.types_of(batch.eligible)
            )

    def types_of(self, eligible: Flags) -> TypeTables:
        """Return what adds up the types of the batches with these companies."""
        key = eligible.tobytes()
        if key not in self._types:
            per_company = self.config.drivers_per_company
            drivers = 0 if self.fleet is None else int(eligible.sum()) * per_company
            self._types[key] = TypeTables(self.reader.n_types, drivers, per_company)
        return self._types[key]

    def _roster(self, batch: OpenBatch) -> dict[str, Any]:
        """Return what the record of a batch has to say of the companies, where that is known."""
        if self.fleet is None:
            return {}
        known = {
            "lines": batch.used,
            "eligible": int(batch.eligible.sum()),
            "sha256": self.hashes[batch.used],
        }
        if self.bad_companies:  # nobody knows whether the company of a bad line was eligible
            del known["eligible"]
        return known

    def name_of(self, file: int) -> str:
        """Return how faults call a file."""
        return self.batch_of[file].name_of(file)

    def _companies_used(self, meta: BatchMeta | None) -> int:
        """Return how many lines the companies file had when a batch was made of it.

        It may have been extended since; then its first lines have the hash of the record.
        """
        if self.fleet is None:
            return 0
        lines = len(self.fleet)
        if meta is None or not 0 < meta.companies.lines < lines:
            return lines
        same = meta.companies.sha256 == self._hash_of_first(meta.companies.lines)
        return meta.companies.lines if same else lines

    def _hash_of_first(self, lines: int) -> str:
        if lines not in self.hashes:
            assert self.companies  # noqa: S101 - there is a fleet
            with told(self.companies), open_plain(self.companies) as file:
                self.hashes[lines] = hashlib.sha256(b"".join(islice(file, lines))).hexdigest()
        return self.hashes[lines]


def _ledger_everywhere(file: LedgerFile | None) -> LedgerFile | None:
    if file is None:
        return None
    return msgspec.structs.replace(file, path=_everywhere(place(file.path)))


def _everywhere(where: Path) -> str:
    """Return a place as other processes find it."""
    return str(where if is_remote(where) else where.absolute())
