"""Write batches: check every target first, then make each one whole or not at all."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

import fleetsim
from fleetsim.base.clock import Instant, batch_name, format_time
from fleetsim.base.errors import FleetsimError, InputError, found, nearest, refused
from fleetsim.base.files import free_bytes
from fleetsim.base.storage import is_remote, require
from fleetsim.batch.dataset import ledger_name
from fleetsim.batch.formats import FORMATS, FileJob
from fleetsim.batch.ledger_stage import clear_ledgers, stage_ledger
from fleetsim.batch.meta import META_NAME, META_SCHEMA, BatchMeta, CompaniesUsed, DefectsUsed
from fleetsim.batch.parts import (
    PART_EVENTS,
    Maker,
    Part,
    WrittenEvents,
    part_of,
    tasks_of,
    write_events,
)
from fleetsim.batch.plan import (
    Request,
    Target,
    WriteOptions,
    amount,
    batches_present,
    check_kinds,
    events_to_make,
    plan_targets,
    starts_of,
)
from fleetsim.batch.publish import alone, stage_batch
from fleetsim.generate.config import Config
from fleetsim.generate.defects import defect_rates
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import STREAM_VERSION
from fleetsim.generate.producer import Producer

_BATCH_NAMES = "[0-9]*T[0-9]*Z*"  # a glob
_DEFAULTS = WriteOptions()


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
    options: WriteOptions = _DEFAULTS,
    maker: Maker | None = None,
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
    options : WriteOptions
    maker : Maker, optional
        Makes the parts somewhere else; by default they are made here, one after the other.
    progress : callable, optional
        Called with the number of events after each piece of writing.

    Raises
    ------
    InputError
        Where a target is refused; nothing has been written.
    FleetsimError
        Where writing fails; the batches before stand whole.
    """
    if options.format not in FORMATS:
        allowed = f"allowed: {', '.join(FORMATS)}{nearest(options.format, FORMATS)}"
        raise InputError("format", f"found {found(options.format)}; {allowed}")
    if maker and not options.part_events:
        options = msgspec.structs.replace(options, part_events=PART_EVENTS)
    check_kinds(config, options.format)
    starts = starts_of(config, start_us, options.batches)
    request = Request(config, fleet, output, starts, options)
    with _writing(request):
        replaceable = {batch_name(at) for at in starts} if options.force else set()
        plan = plan_targets(request, batches_present(output, replaceable))
        with _Makers(request, maker, events_to_make(request, plan)) as makers:
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
        clear_ledgers(output)
        yield


class _Makers:
    """Makes the files of batches, here or by a maker of parts."""

    def __init__(self, request: Request, maker: Maker | None, events: float) -> None:
        self._request, self._maker, self._events = request, maker, events
        self._producer: Producer | None = None
        if maker is None:
            columns = FORMATS[request.options.format].columns
            self._producer = Producer(
                request.config,
                request.fleet,
                events,
                columns=columns,
                kernel=request.options.kernel,
                jobs=request.options.jobs,
            )

    def __enter__(self) -> _Makers:
        if self._producer:
            self._producer.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._producer:
            self._producer.__exit__(*exception)

    def make(
        self,
        target: Target,
        folder: Path,
        ledger: Path | None,
        progress: Callable[[int], object] | None,
    ) -> dict[str, Any]:
        """Make the files of a batch in a folder; return what its record says of them."""
        options = self._request.options
        rates = defect_rates(self._request.config)
        if not options.part_events:
            name = FORMATS[options.format].events_name
            made = self._here(target, folder, ledger, name, None, progress)
            defects = {"defects": DefectsUsed(rates, made.ledger_sha256)} if rates else {}
            return {"event_count": made.events, **made.written._asdict(), **defects}
        parts = self._parts(target, folder, ledger, options.part_events, progress)
        defects = {"defects": DefectsUsed(rates, None)} if rates else {}
        return defects | {
            "event_count": sum(part.rows for part in parts),
            "bytes": sum(part.bytes for part in parts),
            "sha256": None,  # each part has its own
            "content_sha256": None,
            "part_events": options.part_events,
            "parts": parts,
        }

    def _parts(
        self,
        target: Target,
        folder: Path,
        ledger: Path | None,
        part_events: int,
        progress: Callable[[int], object] | None,
    ) -> tuple[Part, ...]:
        request = self._request
        tasks = tasks_of(
            request.config,
            request.fleet,
            target.start_us,
            target.ordinal,
            part_events=part_events,
            events=self._events,
            format=request.options.format,
            folder=folder,
            kernel=request.options.kernel,
            ledger=ledger,
        )
        if self._maker:
            made = dict(self._maker(tasks, progress))
            return tuple(made[number] for number in sorted(made))
        found = []
        for task in tasks:
            made_here = self._here(target, folder, ledger, task.name, task.drivers, progress)
            found.append(part_of(task.name, made_here))
        return tuple(found)

    def _here(
        self,
        target: Target,
        folder: Path,
        ledger: Path | None,
        name: str,
        drivers: range | None,
        progress: Callable[[int], object] | None,
    ) -> WrittenEvents:
        assert self._producer is not None  # noqa: S101 - or else a maker makes it
        request = self._request
        return write_events(
            self._producer,
            FileJob(request.config, request.fleet, target.start_us, self._producer.threads),
            target.ordinal,
            format=request.options.format,
            folder=folder,
            name=name,
            drivers=drivers,
            progress=progress,
            ledger=ledger,
        )


def _write(
    request: Request,
    makers: _Makers,
    target: Target,
    started: Instant,
    progress: Callable[[int], object] | None,
) -> BatchMeta:
    """Make one batch, which has its name when it is complete."""
    stage = None
    try:
        options, wanted = request.options, bool(request.config.defects)
        with (
            stage_batch(target.path, META_NAME, replace=options.force) as stage,
            stage_ledger(target.path, wanted=wanted, parts=bool(options.part_events)) as ledger,
        ):
            files = makers.make(target, stage.folder, ledger.folder, progress)
            meta = _meta_of(request, target, started, files)
            record = msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n"
            ledger.place(record, [ledger_name(target.path.name, part) for part in meta.ledgers])
            stage.publish(record, meta.files)
            ledger.keep()
    except OSError as error:
        if is_remote(target.path):
            raise  # told already
        why = error.strerror or str(error)
        if stage is not None and stage.published:
            raise FleetsimError(
                f"{target.path}: the batch stands, but what it replaced could not be removed "
                f"({why})"
            ) from error
        free = amount(free_bytes(target.path.parent) or 0)
        words = f"could not be written ({{}}; {free} free); the batch was not made"
        raise refused(error, target.path, words) from error
    return meta


def _meta_of(
    request: Request, target: Target, started: Instant, files: dict[str, Any]
) -> BatchMeta:
    """Return the record of a batch whose files were made just now."""
    config, fleet = request.config, request.fleet
    finished = Instant.now()
    return BatchMeta(
        schema=META_SCHEMA,
        stream_version=STREAM_VERSION,
        batch_id=target.path.name,
        interval_start=format_time(target.start_us),
        interval_end=format_time(target.start_us + config.interval_us),
        seed=config.seed,
        ordinal=target.ordinal,
        generation_started=format_time(started.wall_us),
        generation_time=format_time(finished.wall_us),
        generation_seconds=finished.seconds_since(started),
        format=request.options.format,
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
        **files,
    )
