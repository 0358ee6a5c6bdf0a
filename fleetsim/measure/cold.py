"""Run the real command line in cold child processes, one at a time, and measure each of them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import FleetsimError
from fleetsim.base.files import take_lock
from fleetsim.base.strict import decoder
from fleetsim.batch.dataset import COMPANIES_NAME, EVENTS_FOLDER, RAW_FOLDER
from fleetsim.batch.ledger import ledger_path, read_ledger
from fleetsim.batch.meta import EVENTS_NAME, in_time, read_meta
from fleetsim.generate.config import Config
from fleetsim.measure import launcher
from fleetsim.tally.values import read_times

# One file for the whole machine: the folder that $TMPDIR names may differ between users.
_LOCK = Path("/tmp/fleetsim-measure.lock")  # noqa: S108 (an empty file, only ever locked)
#: Where configuration and companies stand in a folder of measurements.
CONFIG_NAME, COMPANIES_PATH = "config.json", f"{RAW_FOLDER}/{COMPANIES_NAME}"
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
_PATIENCE = 60  # seconds until what stands beside measured commands has to be there
_CGROUP_PEAK = Path("/sys/fs/cgroup/memory.peak")
_LINES = 1 << 15  # read at once
# The timestamp is the last value of a line: its 27 characters stand before '"}\n'.
_TIME = slice(-30, -3)


class Child(msgspec.Struct, frozen=True):
    """What the kernel accounted for one child process; a signal gives a negative exit code.

    `seconds` pass on the clock, `cpu_seconds` on all cores together, in and for the process.
    """

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


decoder(Child)  # made with the module, before there are threads


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


@contextmanager
def measure_lock() -> Iterator[None]:
    """Hold the machine's only right to measure, so that parallel runs do not measure each other."""
    try:
        # Opened for reading, so that a lock file that another user made serves as well.
        descriptor = os.open(_LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
        with suppress(PermissionError):  # not our file
            os.fchmod(descriptor, 0o644)  # whatever the umask, others can open it too
    except PermissionError:
        descriptor = os.open(_LOCK, os.O_RDONLY)
    except OSError:  # /tmp cannot be written: at least this user's runs take turns
        own = Path(tempfile.gettempdir(), _LOCK.name)
        descriptor = os.open(own, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        take_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def run_child(arguments: Sequence[str], cwd: Path) -> Child:
    """Run ``fleetsim ARGUMENTS`` as a child of the launcher, in a cleaned environment.

    Raises
    ------
    FleetsimError
        Where the command fails; with what it printed.
    """
    command = [sys.executable, "-P", "-m", "fleetsim", *arguments]
    child, printed = run_command(command, cwd)
    if child.exit_code != 0:
        raise FleetsimError(f"fleetsim {arguments[0]} {ending(child.exit_code)}:\n{printed}")
    return child


def run_command(command: Sequence[str], cwd: Path) -> tuple[Child, str]:
    """Run a command as a child of the launcher, in a cleaned environment, alone on the machine.

    Returns
    -------
    Child
        Also of a command that fails.
    str
        What it printed on standard error.

    Raises
    ------
    FleetsimError
        Where the launcher itself fails.
    """
    with measure_lock():
        exit_code, output, errors = _run_launcher(command, cwd)
    printed = errors.decode(errors="replace").strip()
    if exit_code != 0:
        raise FleetsimError(f"the launcher failed: {printed}")
    return decoder(Child).decode(output), printed


def _run_launcher(command: Sequence[str], cwd: Path) -> tuple[int, bytes, bytes]:
    """Return how the launcher of a command ended, with what it printed.

    What strikes here meanwhile, as Ctrl-C does, goes on when the command has ended as well: who
    unwinds may then delete what it wrote.
    """
    process = None
    try:
        with _lifeline() as stdin:
            process = subprocess.Popen(
                _launched(command),
                cwd=cwd,
                env=_ENVIRONMENT,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            output, errors = process.communicate()
            return process.returncode, output, errors
    except BaseException:
        if process is not None:  # without its lifeline the launcher kills the command
            process.communicate()
        raise


def _launched(command: Sequence[str]) -> list[str]:
    return [sys.executable, "-I", "-S", launcher.__file__, *command]


class Standing:
    """A command that stands beside measured ones, such as a scheduler.

    Parameters
    ----------
    process : Popen
        The launcher.
    log : Path
        What the command prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self.log = process, log
        #: What the kernel accounted for it, once it has ended.
        self.child: Child | None = None

    def printed(self, pattern: str) -> str:
        """Wait until it prints a text that fits; return that.

        Raises
        ------
        FleetsimError
            Where it ends before, or prints nothing of the kind.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            text = self.log.read_text(errors="replace")
            if found := re.search(pattern, text):
                return found.group()
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise FleetsimError(f"{self.log.stem} did not start:\n{text.strip()}")

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken so far, in steps of the system's clock [s]."""
        times = self._command().cpu_times()
        return float(times.user + times.system)

    def _command(self) -> Any:
        import psutil  # comes with Dask

        return psutil.Process(self._process.pid).children()[0]

    def end(self) -> None:
        """Kill the command; it keeps nothing that anyone needs."""
        if self._process.poll() is None:
            with suppress(Exception):  # it has ended by itself, or its launcher will see to it
                self._command().kill()
        printed, _ = self._process.communicate()  # ends the launcher's lifeline too
        if printed:
            self.child = decoder(Child).decode(printed)


@contextmanager
def standing(command: Sequence[str], cwd: Path, log: Path) -> Iterator[Standing]:
    """Yield a command that runs beside measured ones until the context ends.

    Like a measured one it is a child of the launcher, in a cleaned environment, and does not
    outlive this process.

    Parameters
    ----------
    command : sequence of str
    cwd, log : Path
    """
    with open(log, "wb") as output:
        process = subprocess.Popen(
            _launched(command),
            cwd=cwd,
            env=_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        )
    stands = Standing(process, log)
    try:
        yield stands
    finally:
        stands.end()


@contextmanager
def _lifeline() -> Iterator[int]:
    """Yield the end of a pipe whose other end closes with this process, whatever ends it."""
    here, there = os.pipe()
    try:
        yield here
    finally:
        os.close(here)
        os.close(there)


def ending(exit_code: int) -> str:
    """Return how a process ended, as words that follow its name."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was ended by the signal {signal.strsignal(-exit_code) or -exit_code}"


def make_companies(config: Config, folder: Path, *, at: str | None = None) -> Path:
    """Write a configuration into a folder and make its companies there with the real command.

    Parameters
    ----------
    config : Config
    folder : Path
        Existing; it gets `CONFIG_NAME` and `COMPANIES_PATH`.
    at : str, optional
        ISO 8601 time at which the companies join; now by default.
    """
    content = msgspec.json.format(msgspec.json.encode(config.as_dict()), indent=2) + b"\n"
    (folder / CONFIG_NAME).write_bytes(content)
    when = [] if at is None else ["--at", at]
    run_child(["companies", "--config", CONFIG_NAME, "--output", COMPANIES_PATH, *when], folder)
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
    """

    def __init__(self, config: Config, folder: Path, *, interval: str, batches: int) -> None:
        self.folder = folder
        self.companies = make_companies(config, folder, at=None if interval == "now" else interval)
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
        child = run_child(["events", *self._arguments, *where], self.folder)
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
    cold = ColdBatches(config, folder, interval=interval, batches=batches)
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
