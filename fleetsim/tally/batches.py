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

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from uuid import UUID

import numpy as np

from fleetsim.base.clock import LAST_US
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.files import PARTIAL
from fleetsim.batch.companies import read_companies
from fleetsim.batch.meta import in_time
from fleetsim.generate.config import Config
from fleetsim.generate.fleet import Fleet
from fleetsim.stats.sample import LATE, Sample, TypeTables
from fleetsim.stats.times import many_ties_across, tied_batches, times_of
from fleetsim.tally.faults import Cause, Fault, FaultKind, Faults
from fleetsim.tally.file import empty_order
from fleetsim.tally.folder import read_record, size_of, start_of, time_or_none
from fleetsim.tally.ledger import Explained, Ledger, count_defects
from fleetsim.tally.partitions import Partition, size_of_files
from fleetsim.tally.reading import Mapper, OpenBatch, Reading
from fleetsim.tally.store import DuplicateId, EventStore


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
        between the batches. Lines that are no event of the roster count in none of them.
    spans : tuple of (int, int)
        Of each sample, the positions of its batches in `batch_ids`: first, and one past the last.
    batch_bytes, batch_disk_bytes : int
        Sizes of the files, and allocated blocks with the folders.
    faults : tuple of Fault
        The first of each cause.
    fault_counts : dict
        How many there are of each kind.
    causes : dict
        How many there are of each cause.
    examined : dict
        Of each kind, what was asked for faults of it, and how many there are to ask: lines, or
        batches.
    explained : Explained, optional
        What the ledgers of all batches explain; None where none were asked for.
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
    causes: dict[Cause, int] = field(default_factory=dict)
    examined: dict[FaultKind, tuple[int, int]] = field(default_factory=dict)
    explained: Explained | None = None

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
    def events(self) -> int:
        """Lines that count in the statistics: their six fields could be read and are known."""
        return sum(sample.n_events for sample in self.samples)

    @property
    def unread_files(self) -> str:
        """How many files could not be read, in words; empty where all could."""
        return next((sample.unread for sample in self.samples if sample.unread), "")

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
    companies: Path | None,
    batches: Iterable[Path | Partition],
    *,
    any_seed: bool = False,
    lenient: bool = False,
    faults: Faults | None = None,
    ledger: Path | None = None,
    mapper: Mapper | None = None,
    progress: Callable[[int], object] | None = None,
) -> Tally:
    """Tally batches of one data set.

    Parameters
    ----------
    config : Config
        What the data are said to follow.
    companies : Path
        The companies file; drivers are those of its companies. None where there is no roster: then
        no line is held to one, and the samples have no drivers.
    batches : iterable of Path or Partition
        Batch folders, or what stands for them below folders named key=value.
    any_seed : bool
        Whether the records may name another seed than the configuration; the law is the same.
    lenient : bool
        Whether bad lines of the companies file are faults, and their companies left out.
    faults : Faults, optional
        What was found already; what is found is added.
    ledger : Path, optional
        The folder of the batches' ledgers: what they explain is no fault and in no sample but in
        its `defects`.
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
    ordered = _in_time(batches)
    if not ordered:
        raise InputError(str(companies.parent) if companies else "data", "no batch to read")
    faults = Faults() if faults is None else faults
    fleet, bad = None, 0
    if companies is not None:
        fleet, bad = _read_fleet(config, companies, faults, lenient)
        if bad == len(fleet):
            fleet = companies = None
    with EventStore(config.interval_us) as store:
        reading = Reading(
            config,
            fleet,
            companies,
            store,
            any_seed,
            progress,
            bad_companies=bad > 0,
            ledger=None if ledger is None else Ledger(ledger, config),
        )
        opened = [reading.open(number, batch) for number, batch in enumerate(ordered)]
        reading.read(mapper)
        for batch in opened:
            faults.extend(batch.faults)
        for folder in sorted({b.parent for b in ordered if isinstance(b, Path)}):
            for left in sorted(folder.glob(f".*{PARTIAL}")):
                faults.add(
                    FaultKind.FOLDER, left.name, "left by a writer that did not finish", "left over"
                )
        samples, spans = [], []
        carriers = {} if ledger is None else _carriers(config, opened)
        # Duplicate ids are searched for beside the statistics: both mostly wait for sorts.
        with ThreadPoolExecutor(1) as helper:
            searching = helper.submit(store.duplicates, faults.room(FaultKind.DUPLICATE, ""))
            for _, group in groupby(opened, key=lambda batch: batch.eligible.tobytes()):
                alike = list(group)
                spans.append((alike[0].number, alike[-1].number + 1))
                types = reading.types_of(alike[0].eligible)
                sample = _sample(config, alike, types, store, *spans[-1], roster=fleet is not None)
                if ledger is not None:
                    counted = [(b.id, b.partial.lines, b.explained) for b in alike]
                    defects = count_defects(counted, [carriers.get(b.number) for b in alike])
                    sample = replace(sample, defects=defects)
                samples.append(sample)
            _add_duplicates(*searching.result(), reading, faults)
    sizes = [size_of_files(b) if isinstance(b, Partition) else size_of(b) for b in ordered]
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
        causes=dict(faults.causes),
        examined=_examined(opened, fleet is not None),
        explained=None if ledger is None else _explained(opened),
    )


def _in_time(batches: Iterable[Path | Partition]) -> list[Path | Partition]:
    """Return batches in the order of their intervals; those without one come last."""
    listed = list(batches)
    folders = in_time(batch for batch in listed if not isinstance(batch, Partition))
    others = [batch for batch in listed if isinstance(batch, Partition)]
    if not others:
        return [*folders]

    def start(batch: Path | Partition) -> tuple[int, str]:
        if isinstance(batch, Partition):
            begin = batch.start_us
            if batch.files is None:  # the record says it; what is wrong with it is told later
                begin = start_of(read_record(batch.path, Faults()), batch.path, Faults())
        else:
            begin = time_or_none(batch.name)
        return LAST_US if begin is None else begin, batch.name

    return sorted(listed, key=start)


#: Bad lines of a companies file that are listed, unless they are an error.
BAD_COMPANIES = 1000


def _read_fleet(
    config: Config, companies: Path, faults: Faults, lenient: bool
) -> tuple[Fleet, int]:
    """Return the fleet of a companies file, and how many of its lines are bad."""
    cause = "line of the companies file"

    def bad(fault: str) -> None:
        faults.add(FaultKind.MEMBER, companies.name, fault, cause, most=BAD_COMPANIES)

    fleet = read_companies(companies, bad=bad if lenient else None)
    _check_fleet(config, fleet, companies, faults)
    return fleet, faults.causes[FaultKind.MEMBER, cause]


def _examined(batches: list[OpenBatch], roster: bool) -> dict[FaultKind, tuple[int, int]]:
    """Return of each kind of faults what was asked for them, and how many there are to ask."""
    lines = sum(batch.partial.lines - batch.explained.lines for batch in batches)
    asked = {
        FaultKind.FOLDER: (sum(batch.rows is None for batch in batches), len(batches)),
        FaultKind.LINE: (lines, lines),
        FaultKind.META: (sum(batch.meta is not None for batch in batches), len(batches)),
    }
    for kind in (FaultKind.MEMBER, FaultKind.DUPLICATE, FaultKind.TIME):
        asked[kind] = (sum(batch.partial.examined[kind] for batch in batches), lines)
    if any(batch.ledger for batch in batches):
        entries = _explained(batches).entries.total()
        asked[FaultKind.LEDGER] = (entries, entries)
    if not roster:  # types are held to the configuration, but nobody to anything
        asked[FaultKind.MEMBER] = (0, lines)
    return asked


def _explained(batches: Iterable[OpenBatch]) -> Explained:
    return sum((batch.explained for batch in batches), Explained())


def _carriers(config: Config, batches: list[OpenBatch]) -> dict[int, Explained]:
    """Return what explains the batch that brings the late records of a batch, by its number.

    It begins so many intervals later as records are late, and has the ordinal that follows by as
    many: where batches were made of the same ordinals in other intervals, nobody brings them.
    """
    if LATE not in config.defects:
        return {}
    later = config.defects[LATE].batches
    by_start = {batch.start_us: batch for batch in batches if batch.start_us is not None}
    found = {}
    for batch in batches:
        if batch.start_us is None:
            continue
        carrier = by_start.get(batch.start_us + later * config.interval_us)
        if carrier is None:
            continue
        if batch.meta and carrier.meta:
            same = batch.meta.seed == carrier.meta.seed
            if not same or carrier.meta.ordinal != batch.meta.ordinal + later:
                continue
        found[batch.number] = carrier.explained
    return found


def _check_fleet(config: Config, fleet: Fleet, companies: Path, faults: Faults) -> None:
    if len(fleet) % config.number_of_companies:
        faults.add(
            FaultKind.MEMBER,
            companies.name,
            f"it has {len(fleet)} lines; the configuration gives whole cohorts of "
            f"{config.number_of_companies}",
            "cohorts",
        )


def _add_duplicates(
    total: int, duplicates: list[DuplicateId], reading: Reading, faults: Faults
) -> None:
    for duplicate in duplicates:
        high, low = duplicate.event_id
        faults.add(
            FaultKind.DUPLICATE,
            f"{reading.name_of(duplicate.file)} line {duplicate.line}",
            f"event_id {UUID(int=high << 64 | low)} already stands in "
            f"{reading.name_of(duplicate.first_file)} line {duplicate.first_line}",
        )
    faults.add_unnamed(FaultKind.DUPLICATE, "", total - len(duplicates))


def _unread(batches: list[OpenBatch]) -> str:
    """Return how many files of batches could not be read, in words; empty where all could."""
    files = sum(len(batch.files.names) for batch in batches)
    unread = sum(batch.unread for batch in batches)
    if unread:
        return f"{unread} of {files} files could not be read"
    useless = sum(bool(batch.explained.unusable) for batch in batches)
    return f"the ledgers of {useless} of {len(batches)} batches are of no use" if useless else ""


def _sample(
    config: Config,
    batches: list[OpenBatch],
    types: TypeTables,
    store: EventStore,
    first: int,
    end: int,
    *,
    roster: bool,
) -> Sample:
    """Return the statistics of consecutive batches with one roster."""
    eligible = batches[0].eligible
    drivers = np.repeat(eligible, config.drivers_per_company) if roster else slice(0)
    partials = [batch.partial for batch in batches]
    placed = [int(batch.types_by_company.sum()) for batch in batches]
    sizes = np.array([partial.timed for partial in partials], np.int64)
    by_batch = store.offsets_by_batch(first, end)
    whole = store.offsets(first, end) if len(batches) > 1 else None
    order = empty_order(config)
    for partial in partials:
        order.append(partial.order)
    driver_times, company_times = order.times()
    times = times_of(sizes, config.interval_us, by_batch, whole)
    if many_ties_across(times):
        times = replace(times, tied_batches=tied_batches(store.offsets_and_batches(first, end)))
    return Sample(
        drivers_per_company=config.drivers_per_company,
        counts=np.stack([batch.counts[drivers] for batch in batches]),
        type_counts=np.stack([batch.types_by_company.sum(axis=0) for batch in batches]),
        types_by_company=np.sum([b.types_by_company for b in batches], axis=0)[eligible].T,
        types_by_time=np.sum([partial.types_by_time for partial in partials], axis=0),
        types_by_driver=types.by_driver,
        types_by_number=types.by_number,
        types_by_count=types.by_count,
        type_pairs=order.types.pairs,
        types_apart=order.types.apart,
        type_places=order.types.places,
        driver_times=driver_times,
        company_times=company_times,
        times=times,
        outside=sum(partial.outside for partial in partials),
        unplaced=sum(b.partial.lines - b.explained.lines for b in batches) - sum(placed),
        unlisted=None if roster else np.array(placed, np.int64),
        unread=_unread(batches),
    )
