"""A published run with its data, which are read back from its files as foreign data."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fleetsim.base.errors import InputError
from fleetsim.base.files import open_plain
from fleetsim.batch.dataset import COMPANIES_NAME, LEDGER_FOLDER, RUN_EVENTS
from fleetsim.batch.meta import read_meta
from fleetsim.experiment.record import Record, read_record
from fleetsim.experiment.results import refuse_links
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.model import type_law
from fleetsim.stats.effects import law_of
from fleetsim.stats.sample import Sample
from fleetsim.tally.batches import Tally, tally_batches
from fleetsim.tally.folder import events_files

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RunData:
    """What the files of a run hold.

    Attributes
    ----------
    config : Config
        What the run's record says that they follow.
    tally : Tally
    contents : tuple of str
        SHA-256 of each events file, in the order of the batches.
    stream_versions : tuple of int
        Those that the batches name.
    """

    config: Config
    tally: Tally
    contents: tuple[str, ...]
    stream_versions: tuple[int, ...]

    @property
    def starts(self) -> tuple[str, ...]:
        """The batches' ids, which are the starts of their intervals."""
        return self.tally.batch_ids

    @property
    def events(self) -> int:
        """Events in all batches."""
        return sum(sample.n_events for sample in self.tally.samples)

    @property
    def counts(self) -> Ints:
        """Events of each driver in each batch, zeros included, int64 (driver-batches,)."""
        return np.concatenate([sample.counts.ravel() for sample in self.tally.samples])

    @property
    def type_names(self) -> tuple[str, ...]:
        """Event types in the order of `type_counts`."""
        return type_law(self.config).names

    @property
    def type_counts(self) -> Ints:
        """Events of each type, int64 (types,)."""
        return _total([sample.type_counts.sum(axis=0) for sample in self.tally.samples])

    @property
    def time_cells(self) -> Ints:
        """Events in equal parts of the interval, int64 (TIME_CELLS,)."""
        return _total([sample.types_by_time.sum(axis=0) for sample in self.tally.samples])

    @property
    def hours(self) -> float:
        """Length of a batch's interval [hours]."""
        return self.config.interval_us / 3.6e9

    @property
    def rate(self) -> float:
        """Events per driver and batch that the configuration asks for, those without a defect."""
        return law_of(self.config, ledger=self.tally.explained is not None).rate

    @property
    def faults(self) -> int:
        """Faults in the structure of the files."""
        return sum(self.tally.fault_counts.values())

    def draws_as(self, other: RunData) -> bool:
        """Return whether everything that was counted agrees, driver by driver."""
        pairs = zip(self.tally.samples, other.tally.samples, strict=False)
        return len(self.tally.samples) == len(other.tally.samples) and all(
            all(np.array_equal(x, y) for x, y in zip(_arrays(a), _arrays(b), strict=True))
            for a, b in pairs
        )


def _total(rows: list[Ints]) -> Ints:
    total: Ints = np.sum(rows, axis=0)
    return total


def _arrays(sample: Sample) -> tuple[Ints | list[float], ...]:
    times = sample.times
    return (
        *(sample.counts, sample.type_counts, sample.types_by_company, sample.types_by_time),
        *(sample.type_pairs, sample.types_apart, sample.type_places, sample.types_by_driver),
        *(sample.types_by_number, sample.types_by_count, sample.driver_times.gaps),
        *(times.cells, times.phases, times.digits),
        [sample.outside, sample.unplaced, times.first_us, times.last_us, times.distance],
    )


@dataclass(frozen=True)
class WholeRun:
    """A published run: its folder, its record, and its data or why there are none."""

    folder: Path
    record: Record
    data: RunData | None
    missing: str

    @property
    def name(self) -> str:
        """The run's name below the results."""
        return f"{self.record.experiment}/{self.folder.name}"


def read_back(folder: Path) -> WholeRun:
    """Read a run's record, and its data from the files.

    Raises
    ------
    InputError
        Where the record cannot be read. Missing or unreadable data are no error.
    """
    refuse_links(folder)
    record = read_record(folder)
    events = folder / RUN_EVENTS
    batches = sorted(p for p in events.glob("[!.]*") if p.is_dir()) if events.is_dir() else []
    if not batches:
        why = "it has no data" if record.description.interval else "it measures no data"
        return WholeRun(folder, record, None, why)
    try:
        config = make_config(record.config)
        ledger = events.parent / LEDGER_FOLDER if config.defects else None
        tally = tally_batches(config, events.parent / COMPANIES_NAME, batches, ledger=ledger)
    except InputError as error:  # its place is a path of this machine, and no news
        return WholeRun(folder, record, None, f"its data cannot be read: {'; '.join(error.faults)}")
    if tally.unread:
        why = f"its data cannot be read: {', '.join(map(str, tally.faults))}"
        return WholeRun(folder, record, None, why)
    ordered = [events / name for name in tally.batch_ids]
    return WholeRun(
        folder,
        record,
        RunData(config, tally, *zip(*map(_content, ordered), strict=True)),
        "",
    )


def _content(batch: Path) -> tuple[str, int]:
    """Return the hash of a batch's events files, and the stream version that its record names."""
    digest = hashlib.sha256()
    for path in events_files(batch):
        with open_plain(path) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    try:
        return digest.hexdigest(), read_meta(batch).stream_version
    except InputError:  # a fault that the tally has counted
        return digest.hexdigest(), 0
