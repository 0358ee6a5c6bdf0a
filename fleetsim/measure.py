"""Run the real command line in cold child processes, one at a time, and measure each of them."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec

from fleetsim import launcher
from fleetsim.batch import in_time, read_meta
from fleetsim.clock import parse_time
from fleetsim.config import Config
from fleetsim.errors import FleetsimError
from fleetsim.fingerprint import content_fingerprint

__all__ = ["DataSet", "Repeat", "generate_data", "measure_lock", "run_child", "run_command"]

# One file for the whole machine: the folder that $TMPDIR names may differ between users.
_LOCK = Path("/tmp/fleetsim-measure.lock")  # noqa: S108 (an empty file, only ever locked)
_CGROUP_PEAK = Path("/sys/fs/cgroup/memory.peak")


class Child(msgspec.Struct, frozen=True):
    """What the kernel accounted for one child process; a signal gives a negative exit code.

    `seconds` pass on the clock, `cpu_seconds` on all cores together, in and for the process.
    """

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int


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
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
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
        raise FleetsimError(f"fleetsim {arguments[0]} {_ending(child.exit_code)}:\n{printed}")
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
    launched = [sys.executable, "-I", "-S", launcher.__file__, *command]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
    with measure_lock():
        done = subprocess.run(
            launched, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True
        )
    printed = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0:
        raise FleetsimError(f"the launcher failed: {printed}")
    return msgspec.json.decode(done.stdout, type=Child), printed


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    return f"was ended by the signal {signal.strsignal(-exit_code) or -exit_code}"


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
    config_file = folder / "config.json"
    config_file.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    companies = folder / "raw" / "companies.jsonl"
    when = ["--now"] if interval == "now" else ["--interval-start", interval]
    at = [] if interval == "now" else ["--at", interval]
    common = ["--config", config_file.name]
    run_child(["companies", *common, "--output", "raw/companies.jsonl", *at], folder)

    scratch = folder / "scratch"
    made: list[Path] = []
    results: list[Repeat] = []
    expected: list[str] = []
    for repeat in range(repeats):
        output = folder / "raw" / "events" if repeat == 0 else scratch
        arguments = ["events", *common, "--companies", "raw/companies.jsonl"]
        arguments += ["--output", str(output.relative_to(folder)), *when, "--batches", str(batches)]
        child = run_child(arguments, folder)
        paths = in_time(output.glob("[!.]*"))
        results.append(_repeat(child, paths))
        content = [content_fingerprint(path) for path in paths]
        if repeat == 0:
            made, expected = paths, content
        else:
            if content != expected:
                raise FleetsimError(
                    f"repeat {repeat + 1} made other events than the first: the generator's "
                    "output depends on something besides its configuration"
                )
            shutil.rmtree(scratch)
        if progress:
            progress(1)
    return DataSet(companies, tuple(made), tuple(results))


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
