"""Run the real command line in cold child processes, one at a time, and measure each of them."""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import FleetsimError
from fleetsim.batch.dataset import COMPANIES_NAME, EVENTS_FOLDER, RAW_FOLDER
from fleetsim.batch.ledger import ledger_path, read_ledger
from fleetsim.batch.meta import EVENTS_NAME, in_time, read_meta
from fleetsim.generate.config import Config
from fleetsim.measure.child import Child, Launcher, run_child
from fleetsim.tally.values import read_times

#: Where configuration and companies stand in a folder of measurements.
CONFIG_NAME, COMPANIES_PATH = "config.json", f"{RAW_FOLDER}/{COMPANIES_NAME}"
_CGROUP_PEAK = Path("/sys/fs/cgroup/memory.peak")
_LINES = 1 << 15  # read at once
# The timestamp is the last value of a line: its 27 characters stand before '"}\n'.
_TIME = slice(-30, -3)


@dataclass(frozen=True)
class Repeat:
    """One cold run of the generator.

    Attributes
    ----------
    generation_seconds : float
        From the command's first statement to the fsync of the events, monotonic clock [s].
    stated_generation_seconds : float
        generation_time - interval_start, the source document's formula, wall clock [s].
    process_seconds : float
        The whole process, interpreter start included [s].
    peak_rss_bytes : int
        Largest resident set of the process.
    """

    generation_seconds: float
    stated_generation_seconds: float
    process_seconds: float
    peak_rss_bytes: int


@dataclass(frozen=True)
class DataSet:
    """A generated data set on the disk, and the measurements of the runs that made it.

    `batches` are the first repeat's, in the order of their intervals.
    """

    companies: Path
    batches: tuple[Path, ...]
    repeats: tuple[Repeat, ...]


def make_companies(
    config: Config, folder: Path, *, at: str | None = None, launcher: Launcher | None = None
) -> Path:
    """Write a configuration into a folder and make its companies there with the real command.

    Parameters
    ----------
    config : Config
    folder : Path
        Existing; it gets `CONFIG_NAME` and `COMPANIES_PATH`.
    at : str, optional
        ISO 8601 time at which the companies join; now by default.
    launcher : Launcher, optional
        Of the series to which the command belongs.
    """
    content = msgspec.json.format(msgspec.json.encode(config.as_dict()), indent=2) + b"\n"
    (folder / CONFIG_NAME).write_bytes(content)
    when = [] if at is None else ["--at", at]
    words = ["companies", "--config", CONFIG_NAME, "--output", COMPANIES_PATH, *when]
    run_child(words, folder, launcher)
    return folder / COMPANIES_PATH


class ColdBatches:
    """Batches that the real commands make again and again, each time in a cold process.

    Parameters
    ----------
    config : Config
    folder : Path
        Existing; it gets the configuration and the companies.
    interval : str
        "now", or the ISO 8601 start of the first interval.
    batches : int
        How many each process makes, at least 1.
    launcher : Launcher
        What the processes are started from.
    """

    def __init__(
        self, config: Config, folder: Path, *, interval: str, batches: int, launcher: Launcher
    ) -> None:
        self.folder = folder
        at = None if interval == "now" else interval
        self.companies = make_companies(config, folder, at=at, launcher=launcher)
        self._launcher = launcher
        when = ["--now"] if interval == "now" else ["--interval-start", interval]
        self._arguments = ["--config", CONFIG_NAME, "--companies", COMPANIES_PATH]
        self._arguments += [*when, "--batches", str(batches)]
        self._made, self._content = 0, [""]

    def make(self, output: Path) -> tuple[list[Path], Repeat]:
        """Make the batches in a new folder below `folder`; return them, and what it took.

        Raises
        ------
        FleetsimError
            Where the command fails, or the content is not that of the first time.
        """
        where = ["--output", str(output.relative_to(self.folder))]
        child = run_child(["events", *self._arguments, *where], self.folder, self._launcher)
        paths = in_time(output.glob("[!.]*"))
        measured = _repeat(child, paths)
        content = [content_fingerprint(path) for path in paths]
        self._made += 1
        if self._made == 1:
            self._content = content
        elif content != self._content:
            raise FleetsimError(
                f"repeat {self._made} made other events than the first: the generator's "
                "output depends on something besides its configuration"
            )
        return paths, measured


def generate_data(
    config: Config,
    folder: Path,
    *,
    interval: str = "now",
    batches: int = 1,
    repeats: int = 10,
    progress: Callable[[int], object] | None = None,
) -> DataSet:
    """Make a data set with the real commands, again and again, each time in a cold process.

    The first repeat's batches stay, under ``folder/raw``; those of the others are checked to have
    the same content but for the instant, and deleted.

    Parameters
    ----------
    config : Config
    folder : Path
        Existing folder for the configuration and the data.
    interval : str
        "now", or the ISO 8601 start of the first interval.
    batches, repeats : int
        How many batches, and how many cold processes make them; each at least 1.
    progress : callable, optional
        Called with 1 after each repeat.

    Raises
    ------
    FleetsimError
        Where a command fails, or a repeat gives other content.
    """
    with closing(Launcher()) as launcher:
        cold = ColdBatches(config, folder, interval=interval, batches=batches, launcher=launcher)
        scratch = folder / "scratch"
        made: list[Path] = []
        results: list[Repeat] = []
        for repeat in range(repeats):
            output = (folder / RAW_FOLDER if repeat == 0 else scratch) / EVENTS_FOLDER
            paths, measured = cold.make(output)
            results.append(measured)
            if repeat == 0:
                made = paths
            else:
                shutil.rmtree(scratch)
            if progress:
                progress(1)
    return DataSet(cold.companies, tuple(made), tuple(results))


def _repeat(child: Child, batches: list[Path]) -> Repeat:
    """Return the measurements of one run, from its process and from what its batches record."""
    metas = [read_meta(path) for path in batches]
    last, first = metas[-1], metas[0]
    stated_us = parse_time(last.generation_time) - parse_time(first.interval_start)
    return Repeat(
        generation_seconds=sum(meta.generation_seconds for meta in metas),
        stated_generation_seconds=timedelta(microseconds=stated_us).total_seconds(),
        process_seconds=child.seconds,
        peak_rss_bytes=child.peak_rss_bytes,
    )


def container_memory_peak() -> int | None:
    """Return the memory.peak of this container's cgroup [bytes], or None outside of one.

    It covers everything in the container, page cache included, the notebook's kernel too.
    """
    try:
        return int(_CGROUP_PEAK.read_text())
    except (OSError, ValueError):
        return None


def content_fingerprint(batch: Path) -> str:
    """Return a hash of a batch's content that does not depend on when its interval starts.

    Timestamps are replaced by their distance from the interval's start; all other bytes count. Of a
    line with an injected defect, whose time may stand anywhere, the defect and the record count.

    Parameters
    ----------
    batch : Path
        A batch folder.
    """
    meta = read_meta(batch)
    start_us = parse_time(meta.interval_start)
    digest = hashlib.sha256()
    touched = array("q")
    for entry in read_ledger(ledger_path(batch)) if meta.defects else ():
        what = entry.line, entry.kind, entry.event_id, entry.field, entry.copy_of
        digest.update(msgspec.json.encode(what))
        touched.append(entry.line)
    dirty = np.array(touched, np.int64)
    with open(batch / EVENTS_NAME, "rb") as file:
        before = 0
        while chunk := list(islice(file, _LINES)):
            low, high = np.searchsorted(dirty, [before + 1, before + len(chunk) + 1])
            gone = set((dirty[low:high] - before - 1).tolist())
            before += len(chunk)
            if gone:
                chunk = [line for place, line in enumerate(chunk) if place not in gone]
            digest.update(np.array([len(line) for line in chunk], "<i8").tobytes())
            digest.update(b"".join(line[: _TIME.start] + line[_TIME.stop :] for line in chunk))
            digest.update(_distances([line[_TIME] for line in chunk], start_us))
    return digest.hexdigest()


def _distances(texts: list[bytes], start_us: int) -> bytes:
    """Return times as distances from the start; where one is no time, all texts as they are."""
    width = _TIME.stop - _TIME.start
    if all(len(text) == width for text in texts):
        rows = np.frombuffer(b"".join(texts), np.uint8).reshape(-1, width)
        marks = np.frombuffer(b"--T::.Z", np.uint8)
        times, good = read_times(rows)
        if good.all() and (rows[:, [4, 7, 10, 13, 16, 19, 26]] == marks).all():
            return (times - start_us).astype("<i8").tobytes()
    return b"".join(texts)
