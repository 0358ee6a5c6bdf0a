"""Write batches: check every target first, then make each one whole or not at all."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

import fleetsim
from fleetsim.base.clock import Instant, batch_name, format_time
from fleetsim.base.errors import FleetsimError, InputError, found, nearest
from fleetsim.base.files import free_bytes
from fleetsim.base.storage import is_remote, require
from fleetsim.batch.formats import FORMATS, FileJob, Written
from fleetsim.batch.meta import META_NAME, META_SCHEMA, BatchMeta, CompaniesUsed
from fleetsim.batch.parts import PART_EVENTS, Maker, Part, tasks_of, write_events
from fleetsim.batch.plan import (
    Request,
    Target,
    amount,
    batches_present,
    events_to_make,
    plan_targets,
    starts_of,
)
from fleetsim.batch.publish import alone, stage_batch
from fleetsim.generate.config import Config
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.model import STREAM_VERSION
from fleetsim.generate.producer import Producer

_BATCH_NAMES = "[0-9]*T[0-9]*Z*"  # a glob


class BatchResult(NamedTuple):
    """A batch that stands on the disk; `written` is False where an equal one stood there before."""

    path: Path
    meta: BatchMeta
    written: bool


def write_batches(
    config: Config,
    fleet: Fleet,
    output: Path,
    *,
    start_us: int,
    started: Instant,
    batches: int = 1,
    ordinal: int | Literal["next"] = 0,
    force: bool = False,
    allow_empty: bool = False,
    allow_repeat: bool = False,
    format: str = "jsonl",
    part_events: int | None = None,
    maker: Maker | None = None,
    jobs: int | None = None,
    kernel: Kernel = "auto",
    progress: Callable[[int], object] | None = None,
) -> Iterator[BatchResult]:
    """Write consecutive batches, each into a folder `output`/<batch_id>, and yield them in turn.

    All targets are checked before the first is written.

    Parameters
    ----------
    config, fleet
    output : Path
        Folder of the batches; made where missing.
    start_us : int
        Start of the first interval [microseconds since 1970 UTC].
    started : Instant
        When the command was triggered; the first batch's time counts from there.
    batches : int
        How many; each interval begins where the one before ends.
    ordinal : int or "next"
        Number of the first batch among those of its seed; "next" is the next free one.
    force : bool
        Replace batches that differ, and begin also what the file system seems to have no room for.
    allow_empty : bool
        Write a batch also where no company is eligible.
    allow_repeat : bool
        Write a batch also where its seed and ordinal stand in the folder under another interval.
    format : str
        One of `formats.FORMATS`.
    part_events : int, optional
        Write parts of about so many events each in place of one file.
    maker : Maker, optional
        Makes the parts somewhere else; by default they are made here, one after the other.
    jobs : int, optional
        Threads for what is large; as many as there are cores by default.
    kernel : "auto", "numpy" or "compiled"
        Which path makes the events; by default the one that suits their number.
    progress : callable, optional
        Called with the number of events after each piece of writing.

    Raises
    ------
    InputError
        Where a target is refused; nothing has been written.
    FleetsimError
        Where writing fails; the batches before stand whole.
    """
    if format not in FORMATS:
        allowed = f"allowed: {', '.join(FORMATS)}{nearest(format, FORMATS)}"
        raise InputError("format", f"found {found(format)}; {allowed}")
    starts = starts_of(config, start_us, batches)
    request = Request(
        config=config,
        fleet=fleet,
        output=output,
        starts=starts,
        ordinal=ordinal,
        force=force,
        allow_empty=allow_empty,
        allow_repeat=allow_repeat,
        format=format,
        part_events=part_events or (PART_EVENTS if maker else None),
        kernel=kernel,
    )
    with _writing(request):
        replaceable = {batch_name(at) for at in starts} if force else set()
        plan = plan_targets(request, batches_present(output, replaceable))
        with _Makers(request, maker, events_to_make(request, plan), jobs) as makers:
            for target, equal in plan:
                if equal:
                    yield BatchResult(target.path, equal, written=False)
                else:
                    meta = _write(request, makers, target, started, progress)
                    yield BatchResult(target.path, meta, written=True)
                started = Instant.now()


@contextmanager
def _writing(request: Request) -> Iterator[None]:
    """Hold the right to write batches in the output, where there is such a thing."""
    output = request.output
    if is_remote(output):
        require(output)
    elif not output.exists():  # refused before any folder is made
        plan_targets(request, {})
    with alone(output, _BATCH_NAMES):
        yield


class _Makers:
    """Makes the files of batches, here or by a maker of parts."""

    def __init__(
        self, request: Request, maker: Maker | None, events: float, jobs: int | None
    ) -> None:
        self._request, self._maker, self._events = request, maker, events
        self._producer: Producer | None = None
        if maker is None:
            columns = FORMATS[request.format].columns
            self._producer = Producer(
                request.config,
                request.fleet,
                events,
                columns=columns,
                kernel=request.kernel,
                jobs=jobs,
            )

    def __enter__(self) -> _Makers:
        if self._producer:
            self._producer.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._producer:
            self._producer.__exit__(*exception)

    def whole(
        self, target: Target, folder: Path, progress: Callable[[int], object] | None
    ) -> tuple[int, Written]:
        """Make a batch's one file; return how many events it has."""
        name = FORMATS[self._request.format].events_name
        return self._here(target, folder, name, None, progress)

    def parts(
        self, target: Target, folder: Path, progress: Callable[[int], object] | None
    ) -> tuple[Part, ...]:
        """Make the parts of a batch."""
        request = self._request
        assert request.part_events is not None  # noqa: S101 - or else the batch is one file
        tasks = tasks_of(
            request.config,
            request.fleet,
            target.start_us,
            target.ordinal,
            part_events=request.part_events,
            events=self._events,
            format=request.format,
            folder=folder,
            kernel=request.kernel,
        )
        if self._maker:
            made = dict(self._maker(tasks, progress))
            return tuple(made[number] for number in sorted(made))
        found = []
        for task in tasks:
            rows, written = self._here(target, folder, task.name, task.drivers, progress)
            found.append(Part(task.name, rows, *written))
        return tuple(found)

    def _here(
        self,
        target: Target,
        folder: Path,
        name: str,
        drivers: range | None,
        progress: Callable[[int], object] | None,
    ) -> tuple[int, Written]:
        assert self._producer is not None  # noqa: S101 - or else a maker makes it
        request = self._request
        return write_events(
            self._producer,
            FileJob(request.config, request.fleet, target.start_us, self._producer.threads),
            target.ordinal,
            format=request.format,
            folder=folder,
            name=name,
            drivers=drivers,
            progress=progress,
        )


def _write(
    request: Request,
    makers: _Makers,
    target: Target,
    started: Instant,
    progress: Callable[[int], object] | None,
) -> BatchMeta:
    """Make one batch, which has its name when it is complete."""
    config, fleet = request.config, request.fleet
    layout: dict[str, Any] = {}
    try:
        with stage_batch(target.path, META_NAME, replace=request.force) as stage:
            if request.part_events:
                parts = makers.parts(target, stage.folder, progress)
                count, size = sum(part.rows for part in parts), sum(part.bytes for part in parts)
                hashes: tuple[str | None, str | None] = None, None  # each part has its own
                layout = {"part_events": request.part_events, "parts": parts}
            else:
                count, written = makers.whole(target, stage.folder, progress)
                size, hashes = written.bytes, written[1:]
            finished = Instant.now()
            meta = BatchMeta(
                schema=META_SCHEMA,
                stream_version=STREAM_VERSION,
                batch_id=target.path.name,
                interval_start=format_time(target.start_us),
                interval_end=format_time(target.start_us + config.interval_us),
                event_count=count,
                seed=config.seed,
                ordinal=target.ordinal,
                generation_started=format_time(started.wall_us),
                generation_time=format_time(finished.wall_us),
                generation_seconds=finished.seconds_since(started),
                bytes=size,
                sha256=hashes[0],
                content_sha256=hashes[1],
                format=request.format,
                config=config.as_dict(),
                companies=CompaniesUsed(
                    lines=len(fleet),
                    eligible=int(fleet.eligible(target.start_us).sum()),
                    sha256=fleet.sha256,
                ),
                versions={
                    "fleetsim": fleetsim.__version__,
                    "numpy": np.__version__,
                    "python": platform.python_version(),
                },
                **layout,
            )
            record = msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n"
            stage.publish(record, meta.files)
    except OSError as error:
        if is_remote(target.path):
            raise  # told already
        free = amount(free_bytes(target.path.parent) or 0)
        raise FleetsimError(
            f"{target.path}: could not be written ({error.strerror or error}; {free} free); "
            "the batch was not made"
        ) from error
    return meta
