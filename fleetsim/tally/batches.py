"""Read batches back, as foreign data: faults found, and what the tests need.

Nothing here draws or knows a law. The roster of drivers comes from the companies file and the
configuration, so drivers without an event are counted too. Every line is held to the exact bytes
of the data model; only a line that deviates is parsed, to say what is wrong with it. Memory is
bounded by the roster (8 bytes a driver and batch), not by the number of events.

Files are read one by one, here or by workers near the data, and their partial tallies are merged.
From a worker come the counts of the drivers in its file (16 bytes each), the first faults, and 24
bytes of each event, which go to the store at once: this process holds one file's events at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar
from uuid import UUID

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.files import PARTIAL
from fleetsim.base.storage import is_remote, told
from fleetsim.batch.companies import read_companies
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.meta import BatchMeta, in_time
from fleetsim.generate.config import Config
from fleetsim.generate.fleet import Fleet
from fleetsim.stats.sample import Sample
from fleetsim.stats.times import times_of
from fleetsim.tally.faults import Fault, FaultKind, Faults
from fleetsim.tally.file import (
    MISSING,
    Events,
    FileReader,
    FileTally,
    FileTask,
    members,
    tally_file,
)
from fleetsim.tally.folder import (
    BatchFiles,
    check_record,
    find_files,
    read_record,
    size_of,
    start_of,
)
from fleetsim.tally.partial import Partial, count, merge
from fleetsim.tally.store import DuplicateId, EventStore

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
T = TypeVar("T")
R = TypeVar("R")

#: Bytes of lines that a worker reads at most: the events of a larger file are no message.
_SENT_BYTES = 1 << 31


class Mapper(Protocol):
    """Has a function of this package done for tasks somewhere, such as `cluster.Cluster.map`."""

    def __call__(self, function: Callable[[T], R], tasks: Iterable[T], /) -> Iterator[tuple[T, R]]:
        """Yield each task with what the function made of it, in any order."""


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
    mapper: Mapper | None = None,
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
    mapper : Mapper, optional
        Reads files of up to some gigabytes somewhere else, where paths and URLs mean the same; by
        default all are read here. The result is the same.
    progress : callable, optional
        Called with numbers of bytes as they are read.

    Raises
    ------
    InputError
        Where the companies file cannot be read, or there is no batch.
    FleetsimError
        Where a storage or a worker fails.
    """
    ordered = in_time(batches)
    if not ordered:
        raise InputError(str(companies.parent), "no batch to read")
    fleet = read_companies(companies)
    faults = Faults() if faults is None else faults
    _check_fleet(config, fleet, companies, faults)
    with EventStore(config.interval_us) as store:
        reading = _Reading(config, fleet, companies, store, any_seed, progress)
        opened = [reading.open(number, batch) for number, batch in enumerate(ordered)]
        reading.read(mapper)
        for batch in opened:
            faults.extend(batch.faults)
        for folder in sorted({b.parent for b in ordered if not is_remote(b)}):
            for left in sorted(folder.glob(f".*{PARTIAL}")):
                faults.add(FaultKind.FOLDER, left.name, "left by a writer that did not finish")
        samples, spans = [], []
        # Duplicate ids are searched for beside the statistics: both mostly wait for sorts.
        with ThreadPoolExecutor(1) as helper:
            searching = helper.submit(store.duplicates, faults.room(FaultKind.DUPLICATE))
            for _, group in groupby(opened, key=lambda batch: batch.eligible.tobytes()):
                alike = list(group)
                spans.append((alike[0].number, alike[-1].number + 1))
                samples.append(_sample(config, alike, store, *spans[-1]))
            _add_duplicates(*searching.result(), reading, faults)
    sizes = [size_of(batch) for batch in ordered]
    return Tally(
        batch_ids=tuple(batch.name for batch in opened),
        unread=tuple(batch.name for batch in opened if batch.unread),
        lines=sum(batch.partial.lines for batch in opened),
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


class _Batch:
    """A batch that is being read: what stands around its lines, and the tallies of its files."""

    def __init__(
        self,
        number: int,
        path: Path,
        first: int,
        fleet: Fleet,
        companies_used: Callable[[BatchMeta | None], int],
    ) -> None:
        self.number, self.path, self.name, self.first = number, path, path.name, first
        self.faults = Faults()
        self.meta: BatchMeta | None = read_record(path, self.faults)
        self.files: BatchFiles = find_files(self.meta, path, self.faults)
        self.start_us = start_of(self.meta, path, self.faults)
        self.companies, self.used = len(fleet), companies_used(self.meta)
        self.eligible: Flags = members(fleet, self.start_us, self.used)
        self.read: dict[int, FileTally] = {}  # by the number of the file
        self.unread = False

    def path_of(self, file: int) -> Path:
        """Return the path of the file with a number."""
        return self.path / self.files.names[file - self.first]

    def name_of(self, file: int) -> str:
        """Return how faults call a file."""
        return f"{self.name}/{self.path_of(file).name}" if self.files.parts else self.name

    def add_to(self, store: EventStore, file: int, events: Events) -> None:
        """Give events of a file to a store."""
        store.add(self.number, *events, file=file)

    def finish(self, config: Config, roster_sha256: str, any_seed: bool, n_types: int) -> None:
        """Merge the tallies of all files, and hold the record to them."""
        tallies = [self.read[file] for file in sorted(self.read)]
        self.read.clear()
        self.partial: Partial = merge((tally.partial for tally in tallies), n_types)
        for fault in self.partial.faults:
            where = f"{self.name_of(fault.file)} line {fault.line}"
            self.faults.add(fault.kind, where, fault.message)
        for kind, number in self.partial.fault_counts.items():
            self.faults.add_unnamed(kind, number - sum(f.kind is kind for f in self.partial.faults))
        for name, tally in zip(self.files.names, tallies, strict=True):
            if tally.error:
                self.unread = True
                self.faults.add(FaultKind.FOLDER, self.name, f"{name} {tally.error}")
                why = f"there is no {name} that can be read"
                self.faults.add(FaultKind.LINE, self.name, why)
        if self.meta is not None:
            seed = self.meta.seed if any_seed else config.seed
            check_record(
                self.meta,
                self.name,
                self.files,
                tallies,
                msgspec.structs.replace(config, seed=seed),
                self.start_us,
                {
                    "lines": self.used,
                    "eligible": int(self.eligible.sum()),
                    "sha256": roster_sha256,
                },
                self.faults,
            )
        # Tables over the whole fleet, eligible or not; the counts behind them are not kept.
        drivers = self.companies * config.drivers_per_company
        self.counts = self.partial.drivers.table(drivers)
        by_company = self.partial.company_types.table(self.companies * n_types)
        self.types_by_company = by_company.reshape(self.companies, n_types)
        self.partial = replace(self.partial, drivers=_NOTHING, company_types=_NOTHING)


_NOTHING = count(np.zeros(0, np.int64))


class _Reading:
    """Reads the files of batches, here or elsewhere, into the batches and a store."""

    def __init__(
        self,
        config: Config,
        fleet: Fleet,
        companies: Path,
        store: EventStore,
        any_seed: bool,
        progress: Callable[[int], object] | None,
    ) -> None:
        self.config, self.fleet, self.store = config, fleet, store
        self.any_seed, self.progress = any_seed, progress
        self.companies, self.hashes = companies, {len(fleet): fleet.sha256}
        self.reader = FileReader(config, fleet)
        self.batch_of: list[_Batch] = []  # by the number of the file

    def open(self, number: int, path: Path) -> _Batch:
        """Return the next batch, of which no line has been read."""
        batch = _Batch(number, path, len(self.batch_of), self.fleet, self._companies_used)
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
            companies=_everywhere(self.companies),
            companies_sha256=self.fleet.sha256,
            companies_used=batch.used,
        )

    def _take(self, file: int, tally: FileTally) -> None:
        batch = self.batch_of[file]
        batch.read[file] = tally
        if len(batch.read) == len(batch.files.names):
            batch.finish(self.config, self.hashes[batch.used], self.any_seed, self.reader.n_types)

    def name_of(self, file: int) -> str:
        """Return how faults call a file."""
        return self.batch_of[file].name_of(file)

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
            with told(self.companies), self.companies.open("rb") as file:
                self.hashes[lines] = hashlib.sha256(b"".join(islice(file, lines))).hexdigest()
        return self.hashes[lines]


def _everywhere(where: Path) -> str:
    """Return a place as other processes find it."""
    return str(where if is_remote(where) else where.absolute())


def _add_duplicates(
    total: int, duplicates: list[DuplicateId], reading: _Reading, faults: Faults
) -> None:
    for duplicate in duplicates:
        high, low = duplicate.event_id
        faults.add(
            FaultKind.DUPLICATE,
            f"{reading.name_of(duplicate.file)} line {duplicate.line}",
            f"event_id {UUID(int=high << 64 | low)} already stands in "
            f"{reading.name_of(duplicate.first_file)} line {duplicate.first_line}",
        )
    faults.add_unnamed(FaultKind.DUPLICATE, total - len(duplicates))


def _sample(
    config: Config, batches: list[_Batch], store: EventStore, first: int, end: int
) -> Sample:
    """Return the statistics of consecutive batches with one roster."""
    eligible = batches[0].eligible
    drivers = np.repeat(eligible, config.drivers_per_company)
    partials = [batch.partial for batch in batches]
    placed = sum(int(batch.counts.sum()) for batch in batches)
    sizes = np.array([partial.timed for partial in partials], np.int64)
    by_batch = store.offsets_by_batch(first, end)
    whole = store.offsets(first, end) if len(batches) > 1 else None
    return Sample(
        drivers_per_company=config.drivers_per_company,
        counts=np.stack([batch.counts[drivers] for batch in batches]),
        type_counts=np.stack([batch.types_by_company.sum(axis=0) for batch in batches]),
        types_by_company=np.sum([b.types_by_company for b in batches], axis=0)[eligible].T,
        types_by_time=np.sum([partial.types_by_time for partial in partials], axis=0),
        type_pairs=np.sum([partial.pairs.finish() for partial in partials], axis=0),
        times=times_of(sizes, config.interval_us, by_batch, whole),
        outside=sum(partial.outside for partial in partials),
        unplaced=sum(partial.lines for partial in partials) - placed,
    )
