"""Data sets in folders such as ``events/date=2025-11-08/hour=12``: which files are which batches.

A folder with a record is a batch as anywhere else. Without one, a file's interval is that of its
folder where both have one length; all files of the folder are then parts of one batch. In a folder
of a longer time each file has its own interval: the one that its name says, or the one in which its
first event lies, counted in batch intervals from the beginning of the folder's time.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from fleetsim.base.clock import DAY_US, batch_name, parse_time
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.meta import META_NAME
from fleetsim.generate.config import Config
from fleetsim.generate.model import FieldKind
from fleetsim.tally.faults import FaultKind, Faults
from fleetsim.tally.folder import BatchFiles, is_batch
from fleetsim.tally.lines import LINE_BYTES, name_of

_KEY = re.compile(r"([A-Za-z_][\w-]*)=(.+)", re.ASCII)
_SUFFIXES = {form.events_name.partition(".")[2]: name for name, form in FORMATS.items()}
_DATES = ("date", "dt", "ds", "day")
_TIME = name_of(FieldKind.TIME)
_TRIED = 100  # lines of a file in which a time is looked for


@dataclass(frozen=True)
class Partition:
    """A batch below folders of the form key=value.

    Attributes
    ----------
    path : Path
        The folder of its files.
    name : str
        How it is called: the folder below the data set, and the file where that holds several.
    files : BatchFiles or None
        None where a record says which ones they are.
    start_us : int or None
        Start of the interval, where it is known and no record says it.
    rows : callable, optional
        Opens the batch as a stream of JSON Lines, where no file holds them.
    """

    path: Path
    name: str
    files: BatchFiles | None = None
    start_us: int | None = None
    rows: Callable[[], BinaryIO] | None = None


def is_partition(name: str) -> bool:
    """Return whether the name of a folder has the form key=value."""
    return bool(_KEY.fullmatch(name))


def partitions(root: Path, config: Config, faults: Faults) -> Iterator[Partition | Path]:
    """Yield the batches in the folders of the form key=value in a folder; take what is no batch.

    Parameters
    ----------
    root : Path
    config : Config
        Has the length of an interval.
    faults : Faults
        Takes what does not belong there.
    """
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if is_partition(folder.name):
            yield from _below(folder, root, config, faults)


def _below(folder: Path, root: Path, config: Config, faults: Faults) -> Iterator[Partition | Path]:
    shown = str(folder.relative_to(root))
    seen = [path for path in sorted(folder.iterdir()) if path.name[0] not in "._"]
    if META_NAME in (path.name for path in seen):
        yield Partition(folder, shown)
        return
    files = {path.name: path.stat().st_size for path in seen if path.is_file()}
    events = {name: form for name in files if (form := _format(name))}
    for name in files.keys() - events.keys():
        message = "does not belong here: no file of events"
        faults.add(FaultKind.FOLDER, f"{shown}/{name}", message, "stray file")
    if events:
        yield from _batches(folder, shown, files, events, config, faults)
    for path in seen:
        if path.is_dir() and not path.is_symlink():
            if is_partition(path.name) or not is_batch(path):
                yield from _below(path, root, config, faults)
            else:
                yield path


def _format(name: str) -> str | None:
    return _SUFFIXES.get(name.partition(".")[2])


def _batches(
    folder: Path,
    shown: str,
    files: dict[str, int],
    events: dict[str, str],
    config: Config,
    faults: Faults,
) -> Iterator[Partition]:
    """Yield the batches of a folder with files of events, one for each interval."""
    begin, length = _time_of(folder.parts)
    groups: dict[int | None, list[str]] = {}
    for name in sorted(events):
        if begin is not None and length <= config.interval_us:
            start: int | None = begin
        else:
            start = _own_start(folder / name, events[name], begin or 0, config.interval_us)
        groups.setdefault(start, []).append(name)
    for start, names in groups.items():
        form = events[names[0]]
        alike = tuple(name for name in names if events[name] == form)
        for name in names:
            if name not in alike:
                message = f"is in another format than {alike[0]}, of the same interval"
                faults.add(FaultKind.FOLDER, f"{shown}/{name}", message, "another format")
        own = shown
        if len(groups) > 1:
            own = f"{shown}/{alike[0]}" if len(alike) == 1 else f"{shown} {_id(start)}"
        there = {name: files[name] for name in alike}
        yield Partition(folder, own, BatchFiles(form, alike, len(alike) > 1, there), start)


def _id(start: int | None) -> str:
    return "without a time" if start is None else batch_name(start)


def _time_of(parts: Iterable[str]) -> tuple[int | None, int]:
    """Return when the time of a folder begins, by the keys in its path, and how long it is."""
    keys = {m[1].lower(): unquote(m[2]) for part in parts if (m := _KEY.fullmatch(part))}
    date = next((keys[name] for name in _DATES if "-" in keys.get(name, "")), None)
    try:
        if date is None and "year" in keys:
            year, month, day = (int(keys[name]) for name in ("year", "month", "day"))
            date = f"{year:04d}-{month:02d}-{day:02d}"
        begin = parse_time(f"{date}T00:00:00Z")
        length = DAY_US
        for name, step in (("hour", 3_600_000_000), ("minute", 60_000_000)):
            if name in keys:
                begin, length = begin + int(keys[name]) * step, step
    except (KeyError, ValueError):
        return None, 0
    return begin, length


def _own_start(path: Path, form: str, begin: int, interval_us: int) -> int | None:
    """Return the start of the interval of a file, by its name or its first event."""
    try:
        return parse_time(path.name.partition(".")[0])
    except ValueError:
        moment = _first_time(path, form)
    return None if moment is None else begin + (moment - begin) // interval_us * interval_us


def _first_time(path: Path, form: str) -> int | None:
    """Return the first time that can be read of a file."""
    try:
        with FORMATS[form].reader(path) as file:
            lines = file if hasattr(file, "peek") else io.BufferedReader(file)  # type: ignore[type-var]
            for _ in range(_TRIED):
                try:
                    return parse_time(json.loads(lines.readline(LINE_BYTES))[_TIME])
                except (ValueError, KeyError, TypeError, IndexError, RecursionError):
                    continue
    except (OSError, EOFError, ValueError, zlib.error):
        return None  # what is wrong with the file is told where it is read
    return None


def size_of_files(batch: Partition) -> tuple[int, int]:
    """Return the bytes of a batch's files, and the allocated ones."""
    if batch.rows:
        return 0, 0
    names = batch.files.names if batch.files else os.listdir(batch.path)
    found = [(batch.path / name).stat() for name in names if (batch.path / name).is_file()]
    return sum(row.st_size for row in found), sum(row.st_blocks for row in found) * 512
