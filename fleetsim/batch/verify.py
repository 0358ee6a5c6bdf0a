"""Make a batch again from its own record, and compare it with what stands on the disk."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import batch_name, format_time, parse_time
from fleetsim.base.errors import LINE_LIMIT, InputError, found, refused
from fleetsim.base.files import HashingOpener, hash_file, open_plain
from fleetsim.base.storage import folders_with, is_remote, sizes, told
from fleetsim.batch.companies import read_companies
from fleetsim.batch.dataset import (
    COMPANIES_NAME,
    LEDGER_FOLDER,
    data_folder,
    events_folders,
)
from fleetsim.batch.formats import FORMATS, Format, damaged
from fleetsim.batch.ledger import ledger_path
from fleetsim.batch.meta import DROPPED_NAME, META_NAME, BatchMeta, DefectsUsed, read_meta
from fleetsim.batch.parts import Part, part_names, shares
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.defects import defect_rates
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import STREAM_VERSION
from fleetsim.generate.patches import longest_name
from fleetsim.generate.producer import Producer, expected_events

_BATCH_ID = re.compile(r"\d{8}T\d{6}(\.\d{6})?Z", re.ASCII)
#: What is read of a file behind the batch's content, to say what it is; the same beyond the size
#: that the record states, before the file is hashed [bytes].
_MORE_BYTES = 1 << 26
#: Events that are made behind the first difference, so that the record can be held to them.
_MORE_EVENTS = 1 << 22


class Compared(msgspec.Struct, frozen=True):
    """What of a batch was held against what was made again.

    Attributes
    ----------
    files, lines, bytes : int
        Files with events that were read and are equal, with their lines, and the bytes of those.
    hashes : tuple of str
        Hashes of the record that were computed again.
    companies : int
        Lines of the companies file that were read; 0 where none were.
    ledger_entries : int
        Lines of ledgers that were read and are equal; unset for a batch without defects.
    """

    files: int = 0
    lines: int = 0
    bytes: int = 0
    hashes: tuple[str, ...] = ()
    companies: int = 0
    ledger_entries: int | msgspec.UnsetType = msgspec.UNSET

    def __str__(self) -> str:
        parts = [f"{self.lines} lines of {self.bytes} bytes"] if self.files else []
        if self.ledger_entries is not msgspec.UNSET:
            parts.append(f"{self.ledger_entries} entries of the ledger")
        return ", ".join([*parts, *self.hashes, f"{self.companies} companies"])


@dataclass(frozen=True)
class Verification:
    """What was found of one batch; no findings means that the batch is what its record says."""

    batch_id: str
    event_count: int
    findings: tuple[str, ...]
    kept: bool = True  # False where only the record could be held to it, since the events are gone
    compared: Compared = field(default_factory=Compared)


def verify_below(path: Path, companies: Path | None = None) -> list[Verification]:
    """Compare all batches that a batch folder, a data folder or a run folder holds.

    What stands among the batches, looks like one, and cannot be compared is found as well.

    Raises
    ------
    InputError
        Where there is no batch, or something cannot be read.
    """
    batches = batches_below(path)
    found = [verify_batch(batch, companies) for batch in batches]
    if batches == [path]:
        return found
    named = [
        replace(
            result,
            findings=(
                f"the folder's name is {batch.name}, its record is that of {result.batch_id}",
                *result.findings,
            ),
        )
        if batch.name != result.batch_id
        else result
        for batch, result in zip(batches, found, strict=True)
    ]
    strays = [
        Verification(name, 0, (why,))
        for folder in _folders_of_batches(path)
        for name, why in _strays(folder)
    ]
    return named + strays


def batches_below(path: Path) -> list[Path]:
    """Return the batches that a batch folder, a data folder or a run folder holds, in order.

    Raises
    ------
    InputError
        Where there is none, or a folder cannot be read, which may hold one.
    """
    with told(path), _unreadable(path):
        if (path / META_NAME).is_file():
            return [path]
    batches: list[Path] = []
    for folder in _folders_of_batches(path):
        if is_remote(folder):
            batches += folders_with(folder, META_NAME)
        else:
            batches += [row for row in _folders(folder) if os.path.lexists(row / META_NAME)]
    if batches:
        return batches
    raise InputError(
        str(path), f"no batch here; expected {META_NAME}, or a data set or run that holds batches"
    )


def _folders_of_batches(path: Path) -> tuple[Path, ...]:
    return (*events_folders(path), path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what stands in a folder of this machine, sorted, hidden names apart."""
    with _unreadable(folder):
        try:
            with os.scandir(folder) as rows:
                seen = [row for row in rows if not row.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
    return sorted(seen, key=lambda row: row.name)


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder of this machine, each of which can be read."""
    found = [folder / row.name for row in _entries(folder) if row.is_dir()]
    for path in found:
        _entries(path)  # what is in one that cannot be listed is not to be passed over
    return found


def _strays(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield names in a folder of batches that look like a batch and are none, and why."""
    if is_remote(folder):  # what has no record is nothing there
        return
    for row in _entries(folder):
        inside = [inner.name for inner in _entries(folder / row.name)] if row.is_dir() else []
        if META_NAME in inside:
            continue
        events = [name for name in inside if name.startswith(("events.", "part-"))]
        if _BATCH_ID.fullmatch(row.name) or events:
            why = f"no {META_NAME} in it" if row.is_dir() else "no folder"
            yield row.name, f"{why}: nothing of it could be compared"


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    """Take what the system says of a path of this machine as bad input: nothing was compared."""
    try:
        yield
    except OSError as error:
        if is_remote(path):
            raise
        raise InputError(
            str(error.filename or path), f"cannot be read: {error.strerror or error}"
        ) from None


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
    with told(companies), _unreadable(companies):
        there = companies.exists()
    if not there:
        raise InputError(
            str(companies),
            "no such file; expected the companies file that the batch was made from",
            next_step="name it by --companies",
        )
    fleet = read_companies(companies, lines=meta.companies.lines)
    findings = []
    if len(fleet) != meta.companies.lines:
        findings.append(
            f"{companies.name}: it has {len(fleet)} lines, the batch was made from "
            f"{meta.companies.lines}"
        )
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
    with told(batch), _unreadable(batch):
        there_now = sizes(batch)
    dropped = DROPPED_NAME in there_now
    if dropped and format.columns:
        findings.append(
            f"{DROPPED_NAME}: the events are gone, and the record of a {meta.format} file has no "
            "hash of the content: nothing of them could be compared"
        )
    comparisons, ledgers = _compare_files(batch, meta, config, fleet, start_us, dropped=dropped)
    for row, ledger in zip(comparisons.values(), ledgers.values(), strict=True):
        findings += row.findings + ledger.findings
    count = sum(comparison.count for comparison in comparisons.values())
    whole = all(comparison.whole for comparison in comparisons.values())
    findings += _meta_findings(meta, config, start_us, count if whole else None)
    if whole:
        findings += _ledger_findings(meta, config, ledgers)
    with told(batch), _unreadable(batch):
        findings += _file_findings(meta, batch, comparisons)
    known = {META_NAME, DROPPED_NAME} | (set() if dropped else set(comparisons))
    for name in sorted(there_now.keys() - known):
        if not name.startswith("."):
            why = f"{DROPPED_NAME} says that the events are gone" if dropped else "no file of it"
            findings.append(f"{name}: not compared: {why}")
    compared = _compared(meta, {} if dropped else comparisons, len(fleet), dropped=dropped)
    if config.defects:
        entries = sum(ledger.count for ledger in ledgers.values() if not ledger.findings)
        compared = msgspec.structs.replace(compared, ledger_entries=entries)
    return Verification(meta.batch_id, count, tuple(findings), not dropped, compared)


def _compare_files(
    batch: Path, meta: BatchMeta, config: Config, fleet: Fleet, start_us: int, *, dropped: bool
) -> tuple[dict[str, _Comparison], dict[str | None, _LedgerComparison]]:
    """Make every file of a batch again, and hold the files and their ledgers to that."""
    comparisons: dict[str, _Comparison] = {}
    ledgers: dict[str | None, _LedgerComparison] = {}
    format, longest = FORMATS[meta.format], longest_name(config)
    with Producer(config, fleet, expected_events(config, fleet, start_us)) as producer:
        for name, drivers in _files(meta, config, fleet.eligible(start_us)).items():
            part = name if meta.part_events else None
            with _LedgerComparison(ledger_path(batch, part), bool(config.defects)) as ledger:
                made = producer.content(start_us, meta.ordinal, drivers, ledger=ledger, part=part)
                content = (lines for _, lines in made)
                path = batch / name
                row = _make(content) if dropped else _compare(path, format, content, longest)
                ledger.finish(whole=row.whole)
            comparisons[name], ledgers[part] = row, ledger
    return comparisons, ledgers


class _LedgerComparison:
    """Holds the file of a ledger to the lines that the regeneration makes of it.

    Attributes
    ----------
    findings : list of str
    count : int
        Lines that were made so far.
    sha256 : str
        Of what was made.
    """

    def __init__(self, path: Path, wanted: bool) -> None:
        self.findings: list[str] = []
        self._path, self._wanted = path, wanted
        self._digest = hashlib.sha256()
        self.count = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> _LedgerComparison:
        if self._wanted:
            with _damage(self._path, self.findings):
                self._file = open_plain(self._path)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def __call__(self, lines: bytes) -> None:
        """Take the next lines that were made."""
        self._digest.update(lines)
        if self._file is not None and not self.findings:
            with _damage(self._path, self.findings):
                there = self._file.read(len(lines))
                if there != lines:
                    name = f"{LEDGER_FOLDER}/{self._path.name}"
                    self.findings.append(
                        _first_difference(name, self.count, there, lines, self._file, "ledger")
                    )
        self.count += lines.count(b"\n")

    def finish(self, *, whole: bool) -> None:
        """Look at what follows, where everything was made."""
        if whole and self._file is not None and not self.findings:
            with _damage(self._path, self.findings):
                if self._file.read(1):
                    name = f"{LEDGER_FOLDER}/{self._path.name}"
                    self.findings.append(f"{name}: goes on after the {self.count} lines of it")

    @property
    def sha256(self) -> str:
        """Hash of the lines that were made."""
        return self._digest.hexdigest()


def _ledger_findings(
    meta: BatchMeta, config: Config, ledgers: dict[str | None, _LedgerComparison]
) -> list[str]:
    """Compare what the record states of defects and ledgers with what was made."""
    rates = defect_rates(config)
    if not rates:
        return _differences(META_NAME, meta, {"defects": msgspec.UNSET})
    whole = None if meta.part_events else ledgers[None].sha256
    findings = _differences(META_NAME, meta, {"defects": DefectsUsed(rates, whole)})
    for part in meta.parts or ():
        if part.name in ledgers:
            expected = {"ledger_sha256": ledgers[part.name].sha256}
            findings += _differences(f"{META_NAME}: {part.name}", part, expected)
    return findings


def _compared(
    meta: BatchMeta, read: dict[str, _Comparison], companies: int, *, dropped: bool
) -> Compared:
    """Return what was compared, given what was read from the disk."""
    equal = [comparison for comparison in read.values() if not comparison.findings]
    recorded: list[Any] = [*meta.parts] if meta.parts else [meta]
    hashes = [
        name
        for name in ("sha256", "content_sha256")
        if all(getattr(row, name) is not None for row in recorded)
        and not (dropped and name == "sha256" and meta.format != "jsonl")
    ]
    return Compared(
        files=len(equal),
        lines=sum(comparison.count for comparison in equal),
        bytes=sum(comparison.size for comparison in equal),
        hashes=tuple(hashes),
        companies=companies,
    )


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

    Not `whole` where it ended before its time, since the file differs anyway. `file_sha256` is that
    of the file, where it was read to its end.
    """

    count: int
    size: int
    sha256: str
    findings: list[str]
    whole: bool = True
    file_sha256: str = ""


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
    opener = HashingOpener()  # for compressed lines

    def read(lines: bytes) -> None:
        if file is None or findings:
            return
        on_disk = file.read(len(lines))
        if on_disk != lines:
            findings.append(_first_difference(path.name, count, on_disk, lines, file))

    with ExitStack() as stack:
        with _damage(path, findings):
            open_plain(path).close()  # the system says best what is wrong with a path
            file = stack.enter_context(format.reader(path, longest, opener))
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
    return _Comparison(count, size, made.hexdigest(), findings, file_sha256=opener.sha256)


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
            raise refused(error, path, "cannot be read: {}") from None
        with told(path):
            raise


def _first_difference(
    name: str, before: int, on_disk: bytes, lines: bytes, file: BinaryIO, whole: str = "batch"
) -> str:
    """Say which line differs first; `before` lines come ahead of these pieces."""
    old, new = on_disk.split(b"\n"), lines.split(b"\n")
    if lines.startswith(on_disk):
        return f"{name}: ends within or before line {before + len(old)}; more lines belong to it"
    index = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    # The piece may end inside this line of the file, of which nothing more is read after this.
    rest = file.readline(LINE_LIMIT) if index == len(old) - 1 else b""
    line = (old[index] + rest).rstrip(b"\n")
    return (
        f"{name}: line {before + index + 1} is {_shown(line)}, the {whole} has {_shown(new[index])}"
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
    if not meta.parts and meta.part_events:
        return [f"{META_NAME}: parts: none recorded, the batch has {len(made)}"]
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
            expected["sha256"] = made.file_sha256 or hash_file(path)
    if not made.whole:
        return expected
    if meta.format == "jsonl":
        expected = {"bytes": made.size, "sha256": made.sha256}
    expected["content_sha256"] = None if FORMATS[meta.format].columns else made.sha256
    return expected


def _differences(where: str, record: BatchMeta | Part, expected: dict[str, Any]) -> list[str]:
    return [
        f"{where}: {name} is {found(getattr(record, name))}, the batch has {value!r}"
        for name, value in expected.items()
        if getattr(record, name) != value
    ]
