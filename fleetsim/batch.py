"""Write batches: check every target first, then make each one whole or not at all."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

import fleetsim
from fleetsim.clock import LAST_US, Instant, batch_name, format_time
from fleetsim.config import SEED_MAX, Config
from fleetsim.encode import encode_events
from fleetsim.errors import FleetsimError, InputError
from fleetsim.files import exclusive, make_folder, publish_folder, staging_folder
from fleetsim.fleet import Fleet
from fleetsim.generate import draw_events
from fleetsim.model import STREAM_VERSION

__all__ = ["BatchMeta", "BatchResult", "content_of", "read_meta", "write_batches"]

META_NAME = "batch_meta.json"
EVENTS_NAME = "events.jsonl"
META_SCHEMA = 1
_FAULTS_SHOWN = 10


class CompaniesUsed(msgspec.Struct, frozen=True):
    """The companies file behind a batch: its lines, how many were eligible, and its hash."""

    lines: int
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
    ordinal: int
    generation_started: str
    generation_time: str
    generation_seconds: float
    bytes: int
    sha256: str
    content_sha256: str | None
    format: str
    config: dict[str, Any]
    companies: CompaniesUsed
    versions: dict[str, str]

    def identity(self) -> dict[str, Any]:
        """Return what makes two batches the same batch."""
        names = ("stream_version", "interval_start", "seed", "ordinal", "format", "config")
        return {name: getattr(self, name) for name in names} | {
            f"companies.{name}": getattr(self.companies, name) for name in ("lines", "sha256")
        }


@dataclass(frozen=True)
class BatchResult:
    """A batch that stands on the disk; `written` is False where an equal one stood there before."""

    path: Path
    meta: BatchMeta
    written: bool


@dataclass(frozen=True)
class _Target:
    """One batch to be made."""

    path: Path
    start_us: int
    ordinal: int
    eligible: npt.NDArray[np.bool_]


def read_meta(batch: Path) -> BatchMeta:
    """Return the record of a batch folder.

    Raises
    ------
    InputError
        Where there is none or it is damaged.
    """
    path = batch / META_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=BatchMeta)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(str(batch), f"no {META_NAME} here: not a batch") from None
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"damaged: {error}") from None


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
        Replace batches that differ.
    allow_empty : bool
        Write a batch also where no company is eligible.
    allow_repeat : bool
        Write a batch also where its seed and ordinal stand in the folder under another interval.
    progress : callable, optional
        Called with the number of events after each piece of writing.

    Raises
    ------
    InputError
        Where a target is refused; nothing has been written.
    FleetsimError
        Where writing fails; the batches before stand whole.
    """
    make_folder(output)
    with exclusive(output):
        present = _present(output)
        first = _next_ordinal(config, present) if ordinal == "next" else ordinal
        targets = _targets(config, fleet, output, start_us, first, batches)
        kept = _check(config, fleet, targets, present, force, allow_repeat)
        if not allow_empty:
            _refuse_empty(fleet, targets)
        for target in targets:
            if target.path.name in kept:
                yield BatchResult(target.path, kept[target.path.name], written=False)
            else:
                meta = _write(config, fleet, target, started, force, progress)
                yield BatchResult(target.path, meta, written=True)
            started = Instant.now()


def _present(output: Path) -> dict[str, BatchMeta]:
    """Return the records of the batches that stand in a folder, by folder name."""
    folders = [path.parent for path in output.glob(f"[!.]*/{META_NAME}")]
    return {folder.name: read_meta(folder) for folder in sorted(folders)}


def _next_ordinal(config: Config, present: dict[str, BatchMeta]) -> int:
    return max((m.ordinal + 1 for m in present.values() if m.seed == config.seed), default=0)


def _targets(
    config: Config, fleet: Fleet, output: Path, start_us: int, first: int, batches: int
) -> list[_Target]:
    if start_us + batches * config.interval_us - 1 > LAST_US:
        raise InputError("interval", "the last batch ends after the year 9999, which has no name")
    if first + batches - 1 > SEED_MAX:
        raise InputError("--ordinal", f"found {first}; allowed: up to 2**64 - {batches}")
    starts = [start_us + k * config.interval_us for k in range(batches)]
    return [
        _Target(output / batch_name(at), at, first + k, fleet.eligible(at))
        for k, at in enumerate(starts)
    ]


def _check(
    config: Config,
    fleet: Fleet,
    targets: list[_Target],
    present: dict[str, BatchMeta],
    force: bool,
    allow_repeat: bool,
) -> dict[str, BatchMeta]:
    """Return the equal batches that stand already, by folder name; raise for what is refused."""
    kept: dict[str, BatchMeta] = {}
    differing: list[str] = []
    repeated: list[str] = []
    used = {meta.ordinal: name for name, meta in present.items() if meta.seed == config.seed}
    for target in targets:
        name = target.path.name
        if name in present:
            differences = _differences(config, fleet, target, present[name])
            if not differences:
                kept[name] = present[name]
            elif not force:
                differing.append(f"{name} exists and differs: {'; '.join(differences)}")
        elif target.path.exists() and not (force and target.path.is_dir()):
            differing.append(f"{name} exists and is not a batch (it has no {META_NAME})")
        if used.get(target.ordinal, name) != name and not allow_repeat:
            repeated.append(
                f"{name} would be a copy of {used[target.ordinal]}: seed {config.seed} and "
                f"ordinal {target.ordinal} again, under another interval"
            )
    if repeated:
        free = _next_ordinal(config, present)
        raise InputError(
            str(targets[0].path.parent),
            *_shorten(repeated + differing),
            next_step=f"--ordinal next (or --ordinal {free}, the next free one) for new events, "
            "--allow-repeat for the copy",
        )
    if differing:
        raise InputError(
            str(targets[0].path.parent),
            *_shorten(differing),
            next_step="--force to replace it, or another --output",
        )
    return kept


def _shorten(faults: list[str]) -> list[str]:
    more = len(faults) - _FAULTS_SHOWN
    return faults if more <= 0 else [*faults[:_FAULTS_SHOWN], f"and {more} more"]


def _differences(config: Config, fleet: Fleet, target: _Target, meta: BatchMeta) -> list[str]:
    """Return in words in what a batch on the disk differs from the one asked for."""
    asked: dict[str, Any] = {
        "stream_version": STREAM_VERSION,
        "interval_start": format_time(target.start_us),
        "seed": config.seed,
        "ordinal": target.ordinal,
        "format": "jsonl",
        "config": config.as_dict(),
        "companies.lines": len(fleet),
        "companies.sha256": fleet.sha256,
    }
    differences = []
    for name, value in meta.identity().items():
        if name == "config":
            keys = asked[name].keys() | value.keys()
            differences += [
                f"{key} is {value.get(key)!r}, asked for {asked[name].get(key)!r}"
                for key in sorted(keys - {"seed"})
                if value.get(key) != asked[name].get(key)
            ]
        elif name == "companies.sha256" and value != asked[name]:
            differences.append("made from another companies file")
        elif value != asked[name]:
            differences.append(f"{name} is {value!r}, asked for {asked[name]!r}")
    return differences


def _refuse_empty(fleet: Fleet, targets: list[_Target]) -> None:
    for target in targets:
        if target.eligible.any():
            continue
        if not fleet.active.any():
            why = f"none of the {len(fleet)} companies is active"
        else:
            first = format_time(int(fleet.created_us[fleet.active].min()))
            why = f"the first active company joins at {first}"
        raise InputError(
            target.path.name,
            f"no company is eligible at {format_time(target.start_us)}: {why}; "
            "the batch would be silently empty",
            next_step="choose a later interval, or --allow-empty to write the empty batch",
        )


def content_of(
    config: Config, fleet: Fleet, start_us: int, ordinal: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the content of a batch piece by piece: number of events, and their JSON lines."""
    for events in draw_events(config, fleet.eligible(start_us), ordinal):
        yield len(events), encode_events(config, fleet, start_us, events)


def _write(
    config: Config,
    fleet: Fleet,
    target: _Target,
    started: Instant,
    force: bool,
    progress: Callable[[int], object] | None,
) -> BatchMeta:
    """Make one batch in a hidden sibling folder and give it its name when it is complete."""
    with staging_folder(target.path) as partial:
        count, size, digest = 0, 0, hashlib.sha256()
        try:
            with open(partial / EVENTS_NAME, "wb", buffering=0) as file:
                for n, lines in content_of(config, fleet, target.start_us, target.ordinal):
                    _write_all(file.fileno(), lines)
                    digest.update(lines)
                    count, size = count + n, size + len(lines)
                    if progress:
                        progress(n)
                os.fsync(file.fileno())
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
                sha256=digest.hexdigest(),
                content_sha256=digest.hexdigest(),
                format="jsonl",
                config=config.as_dict(),
                companies=CompaniesUsed(
                    lines=len(fleet), eligible=int(target.eligible.sum()), sha256=fleet.sha256
                ),
                versions={
                    "fleetsim": fleetsim.__version__,
                    "numpy": np.__version__,
                    "python": platform.python_version(),
                },
            )
            with open(partial / META_NAME, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            publish_folder(partial, target.path, replace=force)
        except OSError as error:
            free = shutil.disk_usage(target.path.parent).free / 1e6
            raise FleetsimError(
                f"{target.path}: could not be written ({error.strerror}; {free:.0f} MB free); "
                "the batch was not made"
            ) from error
    return meta


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:  # an unbuffered write may take a part only
        view = view[os.write(descriptor, view) :]
