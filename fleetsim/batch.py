"""Write batches: check every target first, then make each one whole or not at all."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

import fleetsim
from fleetsim.clock import LAST_US, Instant, batch_name, format_time, parse_time
from fleetsim.config import SEED_MAX, Config
from fleetsim.documents import read_struct
from fleetsim.encode import mean_width
from fleetsim.errors import FleetsimError, InputError, found, nearest
from fleetsim.files import exclusive, free_bytes, make_folder
from fleetsim.fleet import Fleet
from fleetsim.formats import FORMATS, Job, Written
from fleetsim.model import STREAM_VERSION
from fleetsim.parts import PART_EVENTS, Maker, Part, tasks_of, write_events
from fleetsim.places import folders_with, is_remote, require, sizes, told
from fleetsim.produce import Kernel, Producer, content_of, expected_events
from fleetsim.stage import stage_batch

__all__ = ["BatchMeta", "BatchResult", "content_of", "in_time", "read_meta", "write_batches"]

META_NAME = "batch_meta.json"
EVENTS_NAME = FORMATS["jsonl"].events_name
#: An empty file that stands where the events of a batch were deleted on purpose.
DROPPED_NAME = "events.dropped"
META_SCHEMA = 1
_FAULTS_SHOWN = 10
_BATCH_NAMES = "[0-9]*T[0-9]*Z*"  # a glob
_MAKE_AGAIN = "make the batch again with --force, or remove its folder"


class CompaniesUsed(msgspec.Struct, frozen=True):
    """The companies file behind a batch: its lines, how many were eligible, and its hash."""

    lines: Annotated[int, msgspec.Meta(ge=1)]
    eligible: int
    sha256: str


class BatchMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What `batch_meta.json` records of a batch; times are UTC text, sizes bytes."""

    schema: int
    stream_version: int
    batch_id: str
    interval_start: str
    interval_end: str
    event_count: int
    seed: int
    ordinal: Annotated[int, msgspec.Meta(ge=0)]
    generation_started: str
    generation_time: str
    generation_seconds: float
    bytes: int
    sha256: str | None
    content_sha256: str | None
    format: str
    config: dict[str, Any]
    companies: CompaniesUsed
    versions: dict[str, str]
    part_events: Annotated[int, msgspec.Meta(ge=1)] | msgspec.UnsetType = msgspec.UNSET
    parts: tuple[Part, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def files(self) -> dict[str, int]:
        """Names and sizes [bytes] of the files with the events, in their order."""
        if self.parts:
            return {part.name: part.bytes for part in self.parts}
        return {FORMATS[self.format].events_name: self.bytes}

    def identity(self) -> dict[str, Any]:
        """Return what makes two batches the same batch."""
        names = ("stream_version", "interval_start", "seed", "ordinal", "format")
        return (
            {name: getattr(self, name) for name in names}
            | {"part_events": self.part_events or None}
            | {f"companies.{name}": getattr(self.companies, name) for name in ("lines", "sha256")}
            | {f"config.{key}": value for key, value in self.config.items() if key != "seed"}
        )


class BatchResult(NamedTuple):
    """A batch that stands on the disk; `written` is False where an equal one stood there before."""

    path: Path
    meta: BatchMeta
    written: bool


class _Target(NamedTuple):
    """One batch to be made."""

    path: Path
    start_us: int
    ordinal: int


class _Request(NamedTuple):
    """What `write_batches` is asked for; its docstring says what each field means."""

    config: Config
    fleet: Fleet
    output: Path
    starts: list[int]
    ordinal: int | Literal["next"]
    force: bool
    allow_empty: bool
    allow_repeat: bool
    format: str
    part_events: int | None
    kernel: Kernel


def read_meta(batch: Path) -> BatchMeta:
    """Return the record of a batch folder.

    Raises
    ------
    InputError
        Where there is none or it is damaged.
    """
    path = batch / META_NAME
    with told(path):
        meta = read_struct(path, BatchMeta, "batch", _MAKE_AGAIN)
    if meta.schema != META_SCHEMA:
        raise InputError(str(path), f"found schema {meta.schema}; allowed: {META_SCHEMA}")
    if meta.ordinal > SEED_MAX:
        fault = f"damaged: found ordinal {meta.ordinal}; allowed: up to 2**64 - 1"
        raise InputError(str(path), fault, next_step=_MAKE_AGAIN)
    return meta


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
    starts = _starts(config, start_us, batches)
    request = _Request(
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
        plan = _plan(request, _present(output, replaceable))
        with _Makers(request, maker, _events_to_make(request, plan), jobs) as makers:
            for target, equal in plan:
                if equal:
                    yield BatchResult(target.path, equal, written=False)
                else:
                    meta = _write(request, makers, target, started, progress)
                    yield BatchResult(target.path, meta, written=True)
                started = Instant.now()


@contextmanager
def _writing(request: _Request) -> Iterator[None]:
    """Hold the right to write batches in the output, where there is such a thing."""
    output = request.output
    if is_remote(output):
        require(output)
        yield
        return
    if not output.exists():  # refused before any folder is made
        _plan(request, {})
    make_folder(output)
    with exclusive(output, _BATCH_NAMES):
        yield


class _Makers:
    """Makes the files of batches, here or by a maker of parts."""

    def __init__(
        self, request: _Request, maker: Maker | None, events: float, jobs: int | None
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
        self, target: _Target, folder: Path, progress: Callable[[int], object] | None
    ) -> tuple[int, Written]:
        """Make a batch's one file; return how many events it has."""
        name = FORMATS[self._request.format].events_name
        return self._here(target, folder, name, None, progress)

    def parts(
        self, target: _Target, folder: Path, progress: Callable[[int], object] | None
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
        target: _Target,
        folder: Path,
        name: str,
        drivers: range | None,
        progress: Callable[[int], object] | None,
    ) -> tuple[int, Written]:
        assert self._producer is not None  # noqa: S101 - or else a maker makes it
        request = self._request
        return write_events(
            self._producer,
            Job(request.config, request.fleet, target.start_us, self._producer.crew),
            target.ordinal,
            format=request.format,
            folder=folder,
            name=name,
            drivers=drivers,
            progress=progress,
        )


def _events_to_make(request: _Request, plan: list[tuple[_Target, BatchMeta | None]]) -> float:
    """Return how many events the targets that do not stand yet are expected to have."""
    config, fleet = request.config, request.fleet
    return sum(expected_events(config, fleet, t.start_us) for t, equal in plan if not equal)


def _starts(config: Config, start_us: int, batches: int) -> list[int]:
    """Return where the intervals start [microseconds since 1970 UTC]."""
    if start_us + batches * config.interval_us > LAST_US:
        raise InputError(
            "interval",
            f"found {batches} x {config.batch_interval} from {format_time(start_us)} on; allowed: "
            "an end before the year 10000",
        )
    return [start_us + k * config.interval_us for k in range(batches)]


def _present(output: Path, replaceable: set[str]) -> dict[str, BatchMeta]:
    """Return the records of the batches that stand in a folder, by folder name.

    One that cannot be read is an error, since it may have used any seed and ordinal, unless the
    batch is among the `replaceable`.
    """
    present = {}
    for folder in folders_with(output, META_NAME):
        try:
            present[folder.name] = read_meta(folder)
        except InputError:
            if folder.name not in replaceable:
                raise
    return present


def _next_ordinal(config: Config, present: dict[str, BatchMeta]) -> int:
    return max((m.ordinal + 1 for m in present.values() if m.seed == config.seed), default=0)


def _plan(
    request: _Request, present: dict[str, BatchMeta]
) -> list[tuple[_Target, BatchMeta | None]]:
    """Return the targets, each with the record of an equal batch that stands there already.

    Raises
    ------
    InputError
        One error that lists every target that is refused.
    """
    config, fleet = request.config, request.fleet
    free = _next_ordinal(config, present)
    first = free if request.ordinal == "next" else request.ordinal
    if first + len(request.starts) - 1 > SEED_MAX:
        limit = f"up to 2**64 - {len(request.starts)}"
        raise InputError("--ordinal", f"found {first}; allowed: {limit}")
    targets = [
        _Target(request.output / batch_name(at), at, first + k)
        for k, at in enumerate(request.starts)
    ]
    plan: list[tuple[_Target, BatchMeta | None]] = []
    differing: list[str] = []
    empty: list[str] = []
    for target in targets:
        differences = _standing_differences(request, target, present)
        if differences and not (request.force and _is_replaceable(target, present)):
            differing.append(f"{target.path.name} exists and {differences}")
        if not (request.allow_empty or fleet.eligible(target.start_us).any()):
            empty.append(f"{target.path.name}: {_why_empty(fleet, target.start_us)}")
        plan.append((target, None if differences else present.get(target.path.name)))
    repeated = [] if request.allow_repeat else _repeats(request, plan, present)
    oversized = [] if request.force else _oversize(request, plan)
    next_steps = (
        (
            repeated,
            f"--ordinal next (or --ordinal {free}, the next free one) for new events, "
            "--allow-repeat for the copy",
        ),
        (differing, "--force to replace what differs, or another --output"),
        (empty, "a later interval, or --allow-empty to write an empty batch"),
        (oversized, "fewer events, another --output or --format, or --force to begin all the same"),
    )
    if faults := repeated + differing + empty + oversized:
        steps = "; ".join(step for kind, step in next_steps if kind)
        raise InputError(str(request.output), *_shorten(faults), next_step=steps)
    return plan


def _is_replaceable(target: _Target, present: dict[str, BatchMeta]) -> bool:
    return target.path.name in present or target.path.is_dir()


def _oversize(request: _Request, plan: list[tuple[_Target, BatchMeta | None]]) -> list[str]:
    """Return a fault where the file system has no room for what is expected."""
    events = _events_to_make(request, plan)
    drivers = len(request.fleet) * request.config.drivers_per_company
    share = FORMATS[request.format].share
    size = events * mean_width(request.config, drivers) * share
    free = None if is_remote(request.output) else free_bytes(request.output)
    if free is None or size <= free:
        return []
    return [
        f"about {events:.3g} events need about {_amount(size)} as {request.format}; the file "
        f"system has {_amount(free)} free"
    ]


def _amount(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def _standing_differences(
    request: _Request, target: _Target, present: dict[str, BatchMeta]
) -> str | None:
    """Return in words how what stands at the target's path differs from it; None if in nothing."""
    meta = present.get(target.path.name)
    if meta:
        differences = _differences(request, target, meta)
        return f"differs: {'; '.join(differences)}" if differences else None
    if is_remote(target.path) or not os.path.lexists(target.path):
        return None  # what has no record on an object store is nothing
    if not target.path.is_dir():
        return "is no folder"
    return f"is not a batch that can be read (no valid {META_NAME})"


def _repeats(
    request: _Request,
    plan: list[tuple[_Target, BatchMeta | None]],
    present: dict[str, BatchMeta],
) -> list[str]:
    """Return a fault for each target whose seed and ordinal stand under another interval."""
    seed = request.config.seed
    replaced = {target.path.name for target, equal in plan if request.force and not equal}
    used = {
        meta.ordinal: name
        for name, meta in present.items()
        if meta.seed == seed and name not in replaced
    }
    return [
        f"{target.path.name} would be a copy of {used[target.ordinal]}: seed {seed} and ordinal "
        f"{target.ordinal} again, under another interval"
        for target, equal in plan
        if not equal and used.get(target.ordinal, target.path.name) != target.path.name
    ]


def _shorten(faults: list[str]) -> list[str]:
    more = len(faults) - _FAULTS_SHOWN
    return faults if more <= 0 else [*faults[:_FAULTS_SHOWN], f"and {more} more"]


def _differences(request: _Request, target: _Target, meta: BatchMeta) -> list[str]:
    """Return in words in what a batch on the disk differs from the one asked for."""
    config, fleet = request.config, request.fleet
    asked: dict[str, Any] = {
        "stream_version": STREAM_VERSION,
        "interval_start": format_time(target.start_us),
        "seed": config.seed,
        "ordinal": target.ordinal,
        "format": request.format,
        "part_events": request.part_events,
        "companies.lines": len(fleet),
        "companies.sha256": fleet.sha256,
    }
    asked |= {f"config.{key}": value for key, value in config.as_dict().items() if key != "seed"}
    there = meta.identity()
    differences = [
        "made from another companies file"
        if name == "companies.sha256"
        else f"{name} is {found(there.get(name))}, asked for {found(asked.get(name))}"
        for name in dict.fromkeys([*asked, *there])
        if there.get(name) != asked.get(name)
    ]
    if meta.format == request.format:
        there_now = sizes(target.path)
        for name, size in meta.files.items():
            if name not in there_now:
                differences.append(f"{name} is missing")
            elif there_now[name] != size:
                differences.append(f"{name} has not the {size} bytes recorded")
    return _shorten(differences)


def _why_empty(fleet: Fleet, start_us: int) -> str:
    if not fleet.active.any():
        why = f"none of the {len(fleet)} companies is active"
    else:
        first = format_time(int(fleet.created_us[fleet.active].min()))
        why = f"the first active company joins at {first}"
    return (
        f"no company is eligible at {format_time(start_us)}: {why}; "
        "the batch would be silently empty"
    )


def _write(
    request: _Request,
    makers: _Makers,
    target: _Target,
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
        free = _amount(free_bytes(target.path.parent) or 0)
        raise FleetsimError(
            f"{target.path}: could not be written ({error.strerror or error}; {free} free); "
            "the batch was not made"
        ) from error
    return meta
