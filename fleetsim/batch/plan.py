"""What batches are asked for, and which of them may be made: all are looked at before any is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from fleetsim.base.clock import LAST_US, batch_name, format_time
from fleetsim.base.errors import InputError, found
from fleetsim.base.files import free_bytes
from fleetsim.base.storage import folders_with, is_remote, sizes, told
from fleetsim.base.terminal import warn
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.ledger import hash_of, ledger_path
from fleetsim.batch.meta import META_NAME, BatchMeta, read_meta
from fleetsim.generate.config import SEED_MAX, Config
from fleetsim.generate.encode import defect_bytes, mean_width
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.model import STREAM_VERSION

#: So many batches one command makes at most: 28 years of quarters of an hour.
MOST_BATCHES = 10**6
_MANY_BATCHES = 10_000  # more are planned with a word about it
_FAULTS_SHOWN = 10


class Target(NamedTuple):
    """One batch to be made."""

    path: Path
    start_us: int
    ordinal: int


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How batches are written.

    Attributes
    ----------
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
    part_events : int or None
        Write parts of about so many events each in place of one file.
    jobs : int or None
        Threads for what is large; None takes as many as there are cores.
    kernel : "auto", "numpy" or "compiled"
        Which path makes the events; "auto" takes the one that suits their number.
    """

    batches: int = 1
    ordinal: int | Literal["next"] = 0
    force: bool = False
    allow_empty: bool = False
    allow_repeat: bool = False
    format: str = "jsonl"
    part_events: int | None = None
    jobs: int | None = None
    kernel: Kernel = "auto"


class Request(NamedTuple):
    """What `write_batches` is asked for, and where the intervals start."""

    config: Config
    fleet: Fleet
    output: Path
    starts: Sequence[int]
    options: WriteOptions


def check_kinds(config: Config, format: str) -> None:
    """Refuse defects that a format cannot hold.

    Parameters
    ----------
    config : Config
    format : str
        One of `formats.FORMATS`, or "frame".

    Raises
    ------
    InputError
        Which names them.
    """
    if not config.defects or (format in FORMATS and not FORMATS[format].columns):
        return
    from fleetsim.generate.defects import DEFECT_KINDS, unfit_kinds  # nothing clean data need

    if unfit := unfit_kinds(config):
        held = ", ".join(kind.name for kind in DEFECT_KINDS.values() if kind.columns)
        lines = ", ".join(name for name, form in FORMATS.items() if not form.columns)
        raise InputError(
            "defects",
            f"found {', '.join(unfit)}; allowed in the format {format}: {held}",
            next_step=f"one of the formats {lines}, or leave these kinds out",
        )


def starts_of(config: Config, start_us: int, batches: int) -> range:
    """Return where the intervals start [microseconds since 1970 UTC]."""
    if batches > MOST_BATCHES:
        raise InputError(
            "batches",
            f"found {batches}; allowed: 1 to {MOST_BATCHES} at a time",
            next_step="make them with several commands, each from where the last one ended",
        )
    if start_us + batches * config.interval_us > LAST_US:
        raise InputError(
            "interval",
            f"found {batches} x {config.batch_interval} from {format_time(start_us)} on; allowed: "
            "an end before the year 10000",
        )
    return range(start_us, start_us + batches * config.interval_us, config.interval_us)


def batches_present(output: Path, replaceable: set[str]) -> dict[str, BatchMeta]:
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


def events_to_make(request: Request, plan: list[tuple[Target, BatchMeta | None]]) -> float:
    """Return how many events the targets that do not stand yet are expected to have."""
    config, fleet = request.config, request.fleet
    joined = np.sort(fleet.created_us[fleet.active])
    starts = np.array([target.start_us for target, equal in plan if not equal], np.int64)
    companies = int(np.searchsorted(joined, starts, side="right").sum())
    return companies * config.drivers_per_company * config.event_rate_per_driver


def _next_ordinal(config: Config, present: dict[str, BatchMeta]) -> int:
    return max((m.ordinal + 1 for m in present.values() if m.seed == config.seed), default=0)


def plan_targets(
    request: Request, present: dict[str, BatchMeta]
) -> list[tuple[Target, BatchMeta | None]]:
    """Return the targets, each with the record of an equal batch that stands there already.

    Raises
    ------
    InputError
        One error that lists every target that is refused.
    """
    config, fleet = request.config, request.fleet
    free = _next_ordinal(config, present)
    first = free if request.options.ordinal == "next" else request.options.ordinal
    if first + len(request.starts) - 1 > SEED_MAX:
        limit = f"up to 2**64 - {len(request.starts)}"
        raise InputError("--ordinal", f"found {first}; allowed: {limit}")
    if len(request.starts) > _MANY_BATCHES:
        many = f"looking at the places of {len(request.starts)} batches first"
        warn(__name__, f"{request.output}: {many}")
    targets = [
        Target(request.output / batch_name(at), at, first + k)
        for k, at in enumerate(request.starts)
    ]
    joined = fleet.created_us[fleet.active]
    first_us = int(joined.min()) if len(joined) else LAST_US + 1
    plan: list[tuple[Target, BatchMeta | None]] = []
    differing: list[str] = []
    empty: list[str] = []
    for target in targets:
        differences = _standing_differences(request, target, present)
        if differences and not (request.options.force and _is_replaceable(target, present)):
            differing.append(f"{target.path.name} exists and {differences}")
        if target.start_us < first_us and not request.options.allow_empty:
            empty.append(f"{target.path.name}: {_why_empty(fleet, target.start_us)}")
        plan.append((target, None if differences else present.get(target.path.name)))
    repeated = [] if request.options.allow_repeat else _repeats(request, plan, present)
    oversized = [] if request.options.force else _oversize(request, plan)
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


def _is_replaceable(target: Target, present: dict[str, BatchMeta]) -> bool:
    return target.path.name in present or target.path.is_dir()


def _oversize(request: Request, plan: list[tuple[Target, BatchMeta | None]]) -> list[str]:
    """Return a fault where the file system has no room for what is expected."""
    events = events_to_make(request, plan)
    drivers = len(request.fleet) * request.config.drivers_per_company
    share = FORMATS[request.options.format].share
    size = events * (mean_width(request.config, drivers) * share + defect_bytes(request.config))
    free = None if is_remote(request.output) else free_bytes(request.output)
    if free is None or size <= free:
        return []
    return [
        f"about {events:.3g} events need about {amount(size)} as {request.options.format}; the "
        f"file system has {amount(free)} free"
    ]


def amount(size: float) -> str:
    """Return a size [bytes] as words."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} PB"


def _standing_differences(
    request: Request, target: Target, present: dict[str, BatchMeta]
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
    request: Request,
    plan: list[tuple[Target, BatchMeta | None]],
    present: dict[str, BatchMeta],
) -> list[str]:
    """Return a fault for each target whose seed and ordinal stand under another interval."""
    seed = request.config.seed
    replaced = {target.path.name for target, equal in plan if request.options.force and not equal}
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


def _differences(request: Request, target: Target, meta: BatchMeta) -> list[str]:
    """Return in words in what a batch on the disk differs from the one asked for."""
    config, fleet = request.config, request.fleet
    asked: dict[str, Any] = {
        "stream_version": STREAM_VERSION,
        "interval_start": format_time(target.start_us),
        "seed": config.seed,
        "ordinal": target.ordinal,
        "format": request.options.format,
        "part_events": request.options.part_events,
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
    if meta.format == request.options.format:
        there_now = sizes(target.path)
        for name, size in meta.files.items():
            if name not in there_now:
                differences.append(f"{name} is missing")
            elif there_now[name] != size:
                differences.append(f"{name} has not the {size} bytes recorded")
        differences += _ledger_differences(target.path, meta)
    return _shorten(differences)


def _ledger_differences(batch: Path, meta: BatchMeta) -> list[str]:
    """Return in words which ledgers of a batch are not those that its record names."""
    differences = []
    for part, sha256 in meta.ledgers.items():
        path = ledger_path(batch, part)
        shown = path.relative_to(path.parents[1 if part is None else 2])
        with told(path):
            try:
                there = hash_of(path)
            except FileNotFoundError:
                differences.append(f"{shown} is missing")
                continue
        if there != sha256:
            differences.append(f"{shown} has not the sha256 recorded")
    return differences


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
