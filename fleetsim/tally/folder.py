"""What stands in the folder of a batch around the lines: its record, its files, and their sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetsim.base.clock import batch_name, format_time, parse_time
from fleetsim.base.errors import InputError, found
from fleetsim.base.storage import is_remote, sizes, told
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.meta import META_NAME, BatchMeta, read_meta
from fleetsim.generate.config import Config
from fleetsim.tally.faults import FaultKind, Faults
from fleetsim.tally.file import MISSING, FileTally

_SUFFIXES = {form.events_name.partition(".")[2]: name for name, form in FORMATS.items()}
_PART = re.compile(r"part-\d{1,18}\.(.+)", re.ASCII)


def _format_of_part(name: str) -> str | None:
    """Return the format that the name of a part says; None where it is not such a name."""
    match = _PART.fullmatch(name)
    return _SUFFIXES.get(match[1]) if match else None


@dataclass(frozen=True)
class BatchFiles:
    """The files of a batch that hold its events.

    Attributes
    ----------
    format : str
    names : tuple of str
        In the order of their lines; there is always one, which may be missing.
    parts : bool
        Whether they are parts.
    there : mapping
        Sizes [bytes] of all that stands in the folder, by name; None for what is no file.
    """

    format: str
    names: tuple[str, ...]
    parts: bool
    there: Mapping[str, int | None]

    @property
    def bytes(self) -> int | None:
        """Size of the files together; None where there is none."""
        found = [self.there.get(name) for name in self.names]
        known = [size for size in found if size is not None]
        return sum(known) if known else None


def _listing(batch: Path) -> dict[str, int | None]:
    if is_remote(batch):
        return dict(sizes(batch))
    paths = batch.iterdir() if batch.is_dir() else ()
    return {path.name: path.stat().st_size if path.is_file() else None for path in paths}


def _files(meta: BatchMeta | None, there: Mapping[str, int | None]) -> BatchFiles:
    """Return what a batch consists of: what its record says and its files bear out, or its files.

    Parts without a record are those of one format, in the order of their names.
    """
    recorded = None
    if meta and meta.format in FORMATS:
        names = tuple(meta.files)
        if meta.parts:
            names = tuple(dict.fromkeys(n for n in names if _format_of_part(n) == meta.format))
        recorded = BatchFiles(meta.format, names, bool(meta.parts), there)
        if any(name in there for name in names):
            return recorded
    for form, format in FORMATS.items():
        if format.events_name in there:
            return BatchFiles(form, (format.events_name,), False, there)
    for form in FORMATS:
        parts = tuple(sorted(name for name in there if _format_of_part(name) == form))
        if parts:
            return BatchFiles(form, parts, True, there)
    if recorded and recorded.names:
        return recorded
    return BatchFiles("jsonl", (FORMATS["jsonl"].events_name,), False, there)


def events_files(batch: Path) -> list[Path]:
    """Return the files with the events of a batch, in the order of their lines."""
    with told(batch):
        there = _listing(batch)
        try:
            meta = read_meta(batch) if META_NAME in there else None
        except InputError:
            meta = None
    return [batch / name for name in _files(meta, there).names if there.get(name) is not None]


def is_batch(folder: Path) -> bool:
    """Return whether a folder holds a batch, or something of one."""
    if is_remote(folder):  # what has no record is nothing there
        return (folder / META_NAME).exists()
    names = _listing(folder)
    events = {form.events_name for form in FORMATS.values()}
    return any(name == META_NAME or name in events or _format_of_part(name) for name in names)


def find_files(meta: BatchMeta | None, batch: Path, faults: Faults) -> BatchFiles:
    """Return the files of a batch, and take what does not belong there as a fault."""
    with told(batch):
        there = _listing(batch)
        exists = bool(there) or batch.is_dir()
    files = _files(meta, there)
    if not exists:
        faults.add(FaultKind.FOLDER, batch.name, "there is no such folder", "no folder")
        return files
    if META_NAME not in there:
        faults.add(FaultKind.FOLDER, batch.name, f"{META_NAME} is missing", "no record")
    for name in sorted(there.keys() - {META_NAME, *files.names}):
        why, cause = "does not belong to a batch", "stranger"
        if form := _format_of_part(name):
            why, cause = "is a part that the record does not name", "stray part"
            if not files.parts:
                why = f"is a part beside {files.names[0]}"
            elif form != files.format:
                why = f"is a part in another format than {files.names[0]}"
        faults.add(FaultKind.FOLDER, batch.name, f"{name} {why}", cause)
    if meta and meta.parts:
        _check_names(meta, batch, faults)
    return files


def _check_names(meta: BatchMeta, batch: Path, faults: Faults) -> None:
    """Look at the names of the parts in a record, which anybody may have written."""
    assert meta.parts  # noqa: S101 - the caller has looked
    names = [part.name for part in meta.parts]
    where = f"{batch.name}/{META_NAME}"
    seen: set[str] = set()
    for name in names:
        if _format_of_part(name) != meta.format:
            why = f"{found(name)} is no name of a part of the format {found(meta.format)}"
            faults.add(FaultKind.META, where, f"parts: {why}", "name of a part")
        elif name in seen:
            faults.add(FaultKind.META, where, f"parts: duplicate {name}", "part twice")
        seen.add(name)


# --- the record


def read_record(batch: Path, faults: Faults) -> BatchMeta | None:
    """Return the record of a batch; that there is none that can be read is a fault."""
    try:
        with told(batch):
            return read_meta(batch)
    except InputError as error:
        faults.add(FaultKind.META, batch.name, "; ".join(error.faults), "no record")
        return None


def start_of(meta: BatchMeta | None, batch: Path, faults: Faults) -> int | None:
    """Return the start of the interval, as the record and the folder's name agree.

    Where they do not, a record that agrees with its own batch_id is believed, or else the name.
    """
    recorded, named = time_or_none(meta.interval_start if meta else ""), time_or_none(batch.name)
    if meta and recorded is not None and batch_name(recorded) == meta.batch_id:
        start: int | None = recorded
    else:
        start = recorded if named is None else named
    if start is None:
        faults.add(
            FaultKind.TIME,
            batch.name,
            "neither the record nor the folder names an interval",
            "no interval",
        )
    if start is None or batch_name(start) != batch.name:
        why = "the folder's name is not the id of its batch"
        faults.add(FaultKind.FOLDER, batch.name, why, "name of a folder")
    return start


def time_or_none(text: str) -> int | None:
    """Return a time as microseconds, or None where the text is none."""
    try:
        return parse_time(text)
    except ValueError:
        return None


def check_record(
    meta: BatchMeta,
    batch: str,
    files: BatchFiles,
    read: list[FileTally],
    config: Config,
    start_us: int | None,
    roster: dict[str, Any],
    faults: Faults,
) -> None:
    """Hold a record to the files and to the configuration.

    Parameters
    ----------
    meta : BatchMeta
    batch : str
        The name of the folder.
    files : BatchFiles
    read : list of FileTally
        What was found in each of them.
    config : Config
        With the seed that the record may name.
    start_us : int or None
        Start of the interval, where it is known.
    roster : dict
        What the record has to say of the companies.
    faults : Faults
        Takes what does not fit.
    """
    expected: dict[str, Any] = {
        "batch_id": batch,
        "event_count": sum(tally.partial.lines for tally in read),
        "seed": config.seed,
        "bytes": files.bytes,
        "format": files.format,
    }
    # Each part has its own hashes.
    parts = {"sha256": None, "content_sha256": None}
    expected |= parts if files.parts else _hashes(read[0], files.format)
    if any(tally.more for tally in read):  # that they go on is told already
        del expected["event_count"]
    if start_us is not None:
        expected["interval_start"] = format_time(start_us)
        expected["interval_end"] = format_time(start_us + config.interval_us)
    stated: dict[str, Any] = {name: getattr(meta, name) for name in expected}
    for name, value in roster.items():
        stated[f"companies.{name}"] = getattr(meta.companies, name)
        expected[f"companies.{name}"] = value
    effective = config.as_dict()
    for name in dict.fromkeys([*effective, *meta.config]):
        stated[f"config.{name}"] = meta.config.get(name)
        expected[f"config.{name}"] = effective.get(name)
    recorded = {part.name: part for part in meta.parts or ()}
    if bool(meta.parts) != files.parts or (files.parts and not recorded.keys() & set(files.names)):
        stated["parts"] = sorted(recorded) or None
        expected["parts"] = list(files.names) if files.parts else None
    for name, tally in zip(files.names, read, strict=True) if files.parts else ():
        part = recorded.get(name)
        if part is None or tally.error == MISSING:
            continue
        own: dict[str, Any] = {"bytes": files.there.get(name)}
        if not tally.more:
            own = {"rows": tally.partial.lines} | own
        for key, value in (own | _hashes(tally, files.format)).items():
            stated[f"{name}: {key}"], expected[f"{name}: {key}"] = getattr(part, key), value
    for name, value in expected.items():
        if stated[name] != value:
            faults.add(
                FaultKind.META,
                f"{batch}/{META_NAME}",
                f"{name} is {found(stated[name])}; the files and the configuration give "
                f"{found(value)}",
                name.partition(": ")[2] or name,  # parts are many, their keys few
            )


def _hashes(tally: FileTally, format: str) -> dict[str, str | None]:
    """Return the hashes of a file and its content, as far as it was read."""
    hashes: dict[str, str | None] = {}
    if tally.sha256 or not tally.more:
        hashes["sha256"] = tally.sha256
    if not tally.more:
        hashes["content_sha256"] = None if FORMATS[format].columns else tally.content_sha256
    return hashes


def size_of(batch: Path) -> tuple[int, int]:
    """Return the bytes of a batch's files, and the allocated bytes with the folder (as du).

    A storage says nothing of the second, which is then the first again.
    """
    if is_remote(batch):
        total = sum(sizes(batch).values())
        return total, total
    if not batch.is_dir():
        return 0, 0
    files = [path for path in batch.rglob("*") if path.is_file()]
    folders = [batch, *(path for path in batch.rglob("*") if path.is_dir())]
    apparent = sum(path.stat().st_size for path in files)
    allocated = sum(path.stat().st_blocks for path in [*files, *folders]) * 512
    return apparent, allocated
