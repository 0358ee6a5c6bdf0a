"""Make a batch again from its own record, and compare it with what stands on the disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import batch_name, format_time, parse_time
from fleetsim.base.errors import LINE_LIMIT, InputError, found
from fleetsim.base.files import hash_file
from fleetsim.base.storage import folders_with, is_remote, told
from fleetsim.batch.companies import read_companies
from fleetsim.batch.dataset import COMPANIES_NAME, data_folder, events_folders
from fleetsim.batch.formats import FORMATS, Format, damaged
from fleetsim.batch.meta import DROPPED_NAME, META_NAME, BatchMeta, read_meta
from fleetsim.batch.parts import Part, part_names, shares
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.model import STREAM_VERSION, type_law
from fleetsim.generate.producer import Producer, expected_events

#: What is read of a file behind the batch's content, to say what it is; the same beyond the size
#: that the record states, before the file is hashed [bytes].
_MORE_BYTES = 1 << 26
#: Events that are made behind the first difference, so that the record can be held to them.
_MORE_EVENTS = 1 << 22


@dataclass(frozen=True)
class Verification:
    """What was found of one batch; no findings means that the batch is what its record says."""

    batch_id: str
    event_count: int
    findings: tuple[str, ...]
    kept: bool = True  # False where only the record could be held to it, since the events are gone


def batches_below(path: Path) -> list[Path]:
    """Return the batches that a batch folder, a data folder or a run folder holds, in order.

    Raises
    ------
    InputError
        Where there is none.
    """
    with told(path):
        if (path / META_NAME).is_file():
            return [path]
        for folder in (*events_folders(path), path):
            if batches := folders_with(folder, META_NAME):
                return batches
    raise InputError(
        str(path), f"no batch here; expected {META_NAME}, or a data set or run that holds batches"
    )


def verify_batch(batch: Path, companies: Path | None = None) -> Verification:
    """Compare a batch with what its record and its companies make.

    Parameters
    ----------
    batch : Path
        Folder with `batch_meta.json` and the events.
    companies : Path, optional
        The companies file; by default ``companies.jsonl`` of the data set that holds the batch. It
        may have been extended since.

    Raises
    ------
    InputError
        Where the record or the companies cannot be read, or another stream version made the batch.
    """
    meta = read_meta(batch)
    where = str(batch / META_NAME)
    if meta.stream_version != STREAM_VERSION:
        raise InputError(
            where,
            f"made by stream version {meta.stream_version}; this fleetsim makes {STREAM_VERSION}",
            next_step="verify it with the version of fleetsim that its record names",
        )
    if meta.format not in FORMATS:
        allowed = ", ".join(FORMATS)
        raise InputError(where, f"found format {found(meta.format)}; allowed: {allowed}")
    config = make_config(meta.config, source=f"{where}: config")
    try:
        start_us = parse_time(meta.interval_start)
    except ValueError as error:
        raise InputError(where, f"interval_start: {error}") from None
    companies = companies or data_folder(batch) / COMPANIES_NAME
    with told(companies):
        there = companies.exists()
    if not there:
        raise InputError(
            str(companies),
            "no such file; expected the companies file that the batch was made from",
            next_step="name it by --companies",
        )
    fleet = read_companies(companies, lines=meta.companies.lines)
    findings = []
    if fleet.sha256 != meta.companies.sha256:
        findings.append(
            f"{companies.name}: its first {meta.companies.lines} lines are not those that the "
            "batch was made from"
        )
    eligible = int(fleet.eligible(start_us).sum())
    if eligible != meta.companies.eligible:
        findings.append(
            f"{META_NAME}: {meta.companies.eligible} eligible companies recorded, "
            f"{eligible} of the file are"
        )
    format = FORMATS[meta.format]
    with told(batch):
        dropped = (batch / DROPPED_NAME).is_file()
    expected = expected_events(config, fleet, start_us)
    comparisons: dict[str, _Comparison] = {}
    longest = max(len(name.encode()) for name in type_law(config).names)
    with Producer(config, fleet, expected) as producer:
        for name, drivers in _files(meta, config, fleet.eligible(start_us)).items():
            made = producer.content(start_us, meta.ordinal, drivers)
            content = (lines for _, lines in made)
            path = batch / name
            compared = _make(content) if dropped else _compare(path, format, content, longest)
            comparisons[name] = compared
            findings += compared.findings
    count = sum(comparison.count for comparison in comparisons.values())
    whole = all(comparison.whole for comparison in comparisons.values())
    findings += _meta_findings(meta, config, start_us, count if whole else None)
    with told(batch):
        findings += _file_findings(meta, batch, comparisons)
    return Verification(meta.batch_id, count, tuple(findings), kept=not dropped)


def _files(
    meta: BatchMeta, config: Config, eligible: npt.NDArray[np.bool_]
) -> dict[str, range | None]:
    """Return the files that a batch has to consist of, each with its drivers; None for all."""
    if not meta.part_events:
        return {FORMATS[meta.format].events_name: None}
    ranges = shares(config, eligible, meta.part_events)
    return dict(zip(part_names(len(ranges), meta.format), ranges, strict=True))


@dataclass(frozen=True)
class _Comparison:
    """What the regeneration made (count, size [bytes], hash), and in what the file differs.

    Not `whole` where it ended before its time, since the file differs anyway.
    """

    count: int
    size: int
    sha256: str
    findings: list[str]
    whole: bool = True


def _make(content: Iterator[bytes]) -> _Comparison:
    """Return what the regeneration makes of a batch whose events were not kept."""
    made = hashlib.sha256()
    count, size = 0, 0
    for lines in content:
        made.update(lines)
        count, size = count + lines.count(b"\n"), size + len(lines)
    return _Comparison(count, size, made.hexdigest(), [])


def _compare(path: Path, format: Format, content: Iterator[bytes], longest: int) -> _Comparison:
    """Hold the rows of a file, as JSON Lines, to those of the regeneration."""
    made = hashlib.sha256()
    count, size = 0, 0
    findings: list[str] = []
    file: BinaryIO | None = None

    def read(lines: bytes) -> None:
        if file is None or findings:
            return
        on_disk = file.read(len(lines))
        if on_disk != lines:
            findings.append(_first_difference(path.name, count, on_disk, lines, file))

    with ExitStack() as stack:
        with _damage(path, findings):
            path.open("rb").close()  # the system says best what is wrong with a path
            file = stack.enter_context(format.reader(path, longest))
        most = math.inf
        for lines in content:
            made.update(lines)
            with _damage(path, findings):
                read(lines)
            count, size = count + lines.count(b"\n"), size + len(lines)
            if findings:
                most = min(most, count + _MORE_EVENTS)
            if count >= most:
                return _Comparison(count, size, "", findings, whole=False)
        if file is not None and not findings:
            with _damage(path, findings):
                findings += _what_follows(path.name, count, file)
    return _Comparison(count, size, made.hexdigest(), findings)


def _what_follows(name: str, count: int, file: BinaryIO) -> list[str]:
    """Say what stands behind the content of a batch; only the first of it is read."""
    size = lines = 0
    end = b"\n"
    while size < _MORE_BYTES and (piece := file.read(1 << 20)):
        size, lines, end = size + len(piece), lines + piece.count(b"\n"), piece[-1:]
    lines += end != b"\n"
    if not size:
        return []
    if size >= _MORE_BYTES and file.read(1):
        read = f"at least {lines} lines, {size} bytes, and still goes on:"
        return [f"{name}: {read} more than the {count} lines of the batch"]
    return [f"{name}: {lines} lines more than the {count} of the batch"]


@contextmanager
def _damage(path: Path, findings: list[str]) -> Iterator[None]:
    """Take what a reader says of a damaged file as a finding."""
    try:
        yield
    except FileNotFoundError:
        findings.append(f"{path.name}: missing")
    except Exception as error:
        if damaged(error):
            findings.append(f"{path.name}: cannot be read as what it is named: {error}")
            return
        if isinstance(error, OSError) and not is_remote(path):
            raise InputError(str(path), f"cannot be read: {error.strerror}") from None
        with told(path):
            raise


def _first_difference(name: str, before: int, on_disk: bytes, lines: bytes, file: BinaryIO) -> str:
    """Say which line differs first; `before` lines come ahead of these pieces."""
    old, new = on_disk.split(b"\n"), lines.split(b"\n")
    if lines.startswith(on_disk):
        return f"{name}: ends within or before line {before + len(old)}; more lines belong to it"
    index = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    # The piece may end inside this line of the file, of which nothing more is read after this.
    rest = file.readline(LINE_LIMIT) if index == len(old) - 1 else b""
    line = (old[index] + rest).rstrip(b"\n")
    return (
        f"{name}: line {before + index + 1} is {_shown(line)}, the batch has {_shown(new[index])}"
    )


def _shown(line: bytes) -> str:
    return found(line.decode(errors="replace"), LINE_LIMIT)


def _meta_findings(meta: BatchMeta, config: Config, start_us: int, count: int | None) -> list[str]:
    """Compare what the record states with what the regeneration gave, where it was whole."""
    expected = {
        "batch_id": batch_name(start_us),
        "interval_start": format_time(start_us),
        "interval_end": format_time(start_us + config.interval_us),
        "event_count": meta.event_count if count is None else count,
        "seed": config.seed,
    }
    return _differences(META_NAME, meta, expected)


def _file_findings(meta: BatchMeta, batch: Path, made: dict[str, _Comparison]) -> list[str]:
    """Compare what the record states of its files with what was made, and with the files."""
    if not meta.parts:
        ((name, comparison),) = made.items()
        return _differences(META_NAME, meta, _expected(meta, meta.bytes, batch / name, comparison))
    findings = []
    recorded = {part.name: part for part in meta.parts}
    for name in sorted(recorded.keys() ^ made.keys()):
        has = "does not have" if name in recorded else "has"
        findings.append(f"{META_NAME}: parts: the batch {has} {name}")
    for name, comparison in made.items():
        if part := recorded.get(name):
            expected = {"rows": comparison.count} if comparison.whole else {}
            expected |= _expected(meta, part.bytes, batch / name, comparison)
            findings += _differences(f"{META_NAME}: {name}", part, expected)
    whole = {
        "bytes": sum(part.bytes for part in meta.parts),
        "sha256": None,
        "content_sha256": None,
    }
    return findings + _differences(META_NAME, meta, whole)


def _expected(meta: BatchMeta, stated: int, path: Path, made: _Comparison) -> dict[str, Any]:
    """Return what the record has to state of a file, of which it states a size."""
    expected: dict[str, Any] = {}
    if meta.format != "jsonl" and path.is_file():
        # Another version of a library may compress the same rows differently.
        expected["bytes"] = path.stat().st_size
        if expected["bytes"] <= stated + _MORE_BYTES:
            expected["sha256"] = hash_file(path)
    if not made.whole:
        return expected
    if meta.format == "jsonl":
        expected = {"bytes": made.size, "sha256": made.sha256}
    expected["content_sha256"] = None if FORMATS[meta.format].columns else made.sha256
    return expected


def _differences(where: str, record: BatchMeta | Part, expected: dict[str, Any]) -> list[str]:
    return [
        f"{where}: {name} is {getattr(record, name)!r}, the batch has {value!r}"
        for name, value in expected.items()
        if getattr(record, name) != value
    ]
