"""Parts of a batch: consecutive drivers whose events stand in a file of their own.

Which drivers a part holds follows from the configuration, the companies and the size asked for, so
any process can make any part at any time, with the same bytes; the parts in the order of their
names are the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import batch_name
from fleetsim.base.storage import place
from fleetsim.batch.dataset import ledger_name
from fleetsim.batch.formats import FORMATS, FileJob, Output, Written
from fleetsim.batch.publish import open_output
from fleetsim.generate.config import Config
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.producer import Producer
from fleetsim.generate.streams import BLOCK
from fleetsim.generate.threads import Digest

if TYPE_CHECKING:
    from fleetsim.base.cluster import Cluster

#: Events of a part by default, some 255 MB of JSON Lines.
PART_EVENTS = 1_000_000

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Part(msgspec.Struct, frozen=True):
    """What `batch_meta.json` records of a part; sizes are bytes."""

    name: str
    rows: _Count
    bytes: _Count
    sha256: str
    content_sha256: str | None
    ledger_sha256: str | msgspec.UnsetType = msgspec.UNSET


class Task(msgspec.Struct, frozen=True):
    """Everything that a process needs to make a part.

    Attributes
    ----------
    number : int
        Which part of the batch it is.
    config : Config
    fleet : Fleet
        The companies of its drivers alone.
    start_us, ordinal : int
        Of the batch.
    drivers : range
        Positions in the whole fleet.
    events : float
        How many the whole batch is expected to have; the path of the generator follows from it.
    format : str
    folder : str
        Path or URL of the place where the part goes.
    name : str
    kernel : "auto", "numpy" or "compiled"
    ledger : str or None
        Path or URL of the place where the part's ledger goes; None where there is none.
    """

    number: int
    config: Config
    fleet: Fleet
    start_us: int
    ordinal: int
    drivers: range
    events: float
    format: str
    folder: str
    name: str
    kernel: Kernel
    ledger: str | None = None


class Maker(Protocol):
    """Makes parts somewhere, in any order."""

    def __call__(
        self, tasks: Iterable[Task], progress: Callable[[int], object] | None
    ) -> Iterator[tuple[int, Part]]:
        """Yield the number of each part and what became of it."""


def shares(config: Config, eligible: npt.NDArray[np.bool_], part_events: int) -> list[range]:
    """Return the drivers of each part of a batch, by their positions in the whole fleet.

    A part starts at the first block of the address space before which k times `part_events` events
    are expected, k = 0, 1, ...; so all parts hold about as many, save where drivers of one block
    have more.

    Parameters
    ----------
    config : Config
    eligible : bool array (n_companies,)
        Which companies of the fleet produce events.
    part_events : int
    """
    per_company = config.drivers_per_company
    drivers = len(eligible) * per_company
    starts = np.arange(0, max(drivers, 1), BLOCK)
    company, within = np.divmod(starts, per_company)
    before = np.concatenate([[0], np.cumsum(eligible, dtype=np.int64)]) * per_company
    here = np.concatenate([eligible, [False]])
    expected = (before[company] + np.where(here[company], within, 0)) * config.event_rate_per_driver
    number = np.floor(expected / part_events).astype(np.int64)
    first = np.flatnonzero(np.diff(number, prepend=-1) > 0)
    ends = [*starts[first[1:]].tolist(), drivers]
    return [range(start, end) for start, end in zip(starts[first].tolist(), ends, strict=True)]


def part_names(count: int, format: str) -> list[str]:
    """Return the names of a batch's parts; sorted, they are in the order of the content."""
    width = max(6, len(str(count - 1)))
    suffix = FORMATS[format].events_name.partition(".")[2]
    return [f"part-{number:0{width}d}.{suffix}" for number in range(count)]


def tasks_of(
    config: Config,
    fleet: Fleet,
    start_us: int,
    ordinal: int,
    *,
    part_events: int,
    events: float,
    format: str,
    folder: Path,
    kernel: Kernel = "auto",
    ledger: Path | None = None,
) -> Iterator[Task]:
    """Yield the task of each part in turn, with its companies, which are copied only then."""
    per_company = config.drivers_per_company
    ranges = shares(config, fleet.eligible(start_us), part_events)
    names = part_names(len(ranges), format)
    for number, (drivers, name) in enumerate(zip(ranges, names, strict=True)):
        yield Task(
            number=number,
            config=config,
            fleet=fleet.part(drivers.start // per_company, -(-drivers.stop // per_company)),
            start_us=start_us,
            ordinal=ordinal,
            drivers=drivers,
            events=events,
            format=format,
            folder=str(folder),
            name=name,
            kernel=kernel,
            ledger=None if ledger is None else str(ledger),
        )


def make_part(task: Task, progress: Callable[[int], object] | None = None) -> Part:
    """Make a part here, by one thread."""
    columns = FORMATS[task.format].columns
    with Producer(
        task.config, task.fleet, task.events, columns=columns, kernel=task.kernel, jobs=1
    ) as producer:
        made = write_events(
            producer,
            FileJob(task.config, task.fleet, task.start_us, producer.threads),
            task.ordinal,
            format=task.format,
            folder=place(task.folder),
            name=task.name,
            drivers=task.drivers,
            progress=progress,
            ledger=None if task.ledger is None else place(task.ledger),
        )
    return part_of(task.name, made)


def part_of(name: str, made: WrittenEvents) -> Part:
    """Return what a batch's record says of a part that was written."""
    return Part(name, made.events, *made.written, made.ledger_sha256 or msgspec.UNSET)


def parts_on(cluster: Cluster) -> Maker:
    """Return what makes the parts of a batch on the workers of a cluster."""

    def make(
        tasks: Iterable[Task], progress: Callable[[int], object] | None
    ) -> Iterator[tuple[int, Part]]:
        for task, part in cluster.map(make_part, tasks):
            if progress:
                progress(part.rows)
            yield task.number, part

    return make


class WrittenEvents(NamedTuple):
    """A file of events that was written: how many they are, and the hash of its ledger, if any."""

    events: int
    written: Written
    ledger_sha256: str | None


def write_events(
    producer: Producer,
    job: FileJob,
    ordinal: int,
    *,
    format: str,
    folder: Path,
    name: str,
    drivers: range | None = None,
    progress: Callable[[int], object] | None = None,
    ledger: Path | None = None,
) -> WrittenEvents:
    """Write the events of a batch, or of some of its drivers, into a file.

    Parameters
    ----------
    producer : Producer
    job : FileJob
    ordinal : int
    format, name : str
    folder : Path
        Where the file goes.
    drivers : range, optional
        Only those; all by default.
    progress : callable, optional
        Called with the number of events after each piece of writing.
    ledger : Path, optional
        Where the ledger of the defects goes, under the name that belongs to the file's.
    """
    count = 0
    part = None if drivers is None else name
    with ExitStack() as stack:
        entries = None
        if ledger is not None:
            own = ledger_name(batch_name(job.start_us), part)
            entries = _Ledger(stack.enter_context(open_output(ledger, own)), job)
        output = stack.enter_context(open_output(folder, name))
        writer = stack.enter_context(FORMATS[format].writer(output, job))
        pieces = producer.delivered(job.start_us, ordinal, drivers, ledger=entries, part=part)
        for piece in pieces:
            writer.write(piece)
            count += piece.events
            if progress:
                progress(piece.events)
        written = writer.finish()
        ledger_sha256 = entries.finish() if entries else None
    return WrittenEvents(count, written, ledger_sha256)


class _Ledger:
    """Takes the lines of a ledger, and knows their hash."""

    def __init__(self, output: Output, job: FileJob) -> None:
        self._output, self._digest = output, Digest(job.threads)

    def __call__(self, lines: bytes) -> None:
        self._output.write(lines)
        self._digest.update(lines)

    def finish(self) -> str:
        """Return the hash of all lines."""
        return self._digest.hexdigest()
