"""The programs that are measured, and the data set that each size of them works on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import peers
from fleetsim.base.clock import batch_name, format_time
from fleetsim.generate.config import Config, make_config
from fleetsim.measure.child import run_child

__all__ = [
    "BARE",
    "COLD",
    "FASTEST",
    "KIT",
    "PEERS",
    "PROFILED",
    "READY",
    "Program",
    "Work",
    "batch_command",
    "make_work",
    "work_of",
]

_START_US = round(peers.START.timestamp()) * 1_000_000
_HERE = Path(__file__).resolve().parent
_SCRIPT = str(Path(sys.executable).with_name("fleetsim"))
#: The bytes of the kit's batch, for the bare write.
READY = "ready.jsonl"

Command = list[str]


@dataclass(frozen=True)
class Work:
    """What is to be made: a folder with the configuration and the companies file."""

    folder: Path
    config: Config

    @property
    def companies(self) -> Path:
        """The companies file."""
        return self.folder / "companies.jsonl"

    @property
    def batch(self) -> Path:
        """Folder of the batch that a program makes."""
        return self.folder / "events" / batch_name(_START_US)

    @property
    def events(self) -> Path:
        """File of its events."""
        return self.batch / "events.jsonl"


def work_of(events: float) -> dict[str, Any]:
    """Return the configuration of about this many events, in companies of 100 drivers."""
    return {
        "seed": 1,
        "number_of_companies": max(1, round(events / peers.RATE / peers.DRIVERS)),
        "drivers_per_company": peers.DRIVERS,
        "event_rate_per_driver": peers.RATE,
        "company_onboarding_interval": "PT1H",
        "event_types": peers.TYPES,
    }


def make_work(folder: Path, values: dict[str, Any]) -> Work:
    """Make the data set of a configuration, with the kit's own command."""
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    at = ["--at", format_time(_START_US)]
    run_child(["companies", "--config", "config.yaml", "--output", "companies.jsonl", *at], folder)
    return Work(folder, make_config(values))


@dataclass(frozen=True)
class Program:
    """One program of the benchmark.

    Attributes
    ----------
    name : str
        As tables and plots show it.
    share : float
        Of the events that the benchmark is asked for: slow programs make fewer.
    command : callable
        From the work to the command, which runs in the work's folder.
    ours : bool
        Whether it is the kit, which always makes the same bytes.
    """

    name: str
    share: float
    command: Callable[[Work], Command]
    ours: bool = False


def batch_command(*options: str) -> Command:
    """Return the words of the kit's command that makes the batch."""
    start = ["--interval-start", format_time(_START_US)]
    files = ["--config", "config.yaml", "--companies", "companies.jsonl", "--output", "events"]
    return ["events", *files, *start, *options]


def _plain(*options: str) -> Callable[[Work], Command]:
    return lambda work: [sys.executable, "-P", "-m", "fleetsim", *batch_command(*options)]


def _switched(mode: str, *options: str) -> Callable[[Work], Command]:
    return lambda work: [
        sys.executable,
        "-P",
        str(_HERE / "kit.py"),
        mode,
        *batch_command(*options),
    ]


def _peer(name: str) -> Callable[[Work], Command]:
    def command(work: Work) -> Command:
        output = str(work.events.relative_to(work.folder))
        return [sys.executable, "-P", str(_HERE / "peers.py"), name, work.companies.name, output]

    return command


def _bare(way: str) -> Callable[[Work], Command]:
    def command(work: Work) -> Command:
        output = str(work.events.relative_to(work.folder))
        return [sys.executable, "-I", "-S", str(_HERE / "bare.py"), READY, output, way]

    return command


#: The kit as it is with all cores and with one thread, and each without hashing.
KIT = (
    Program("fleetsim", 1, _plain(), ours=True),
    Program("fleetsim, no hash", 1, _switched("unhashed"), ours=True),
    Program("fleetsim, 1 job", 1, _plain("--jobs", "1"), ours=True),
    Program("fleetsim, 1 job, no hash", 1, _switched("unhashed", "--jobs", "1"), ours=True),
)
PEERS = (
    Program("NumPy + polars", 1, _peer("polars")),
    Program("DuckDB", 1, _peer("duckdb")),
    Program("orjson loop", 1 / 5, _peer("orjson")),
    Program("pandas", 1 / 20, _peer("pandas")),
    Program("Mimesis", 1 / 50, _peer("mimesis")),
    Program("Faker", 1 / 50, _peer("faker")),
)
#: What is also measured on batches of middle size.
FASTEST = (*KIT[:2], *PEERS[:2])
#: Write `READY`: through the page cache, and past it.
BARE = (
    Program("bare write", 1, _bare("cached"), ours=True),
    Program("bare write, direct", 1, _bare("direct"), ours=True),
)
#: Hashes `READY`, and writes nothing.
HASH = Program("SHA-256 alone", 1, _bare("hash"), ours=True)
#: Not among the rates: tells where the seconds of one thread went.
PROFILED = Program("profile", 1, _switched("profiled", "--jobs", "1"), ours=True)
#: A batch of the baseline, as one types it, and the process that its start is compared with.
COLD = (
    Program("baseline batch", 1, lambda work: [_SCRIPT, *batch_command()], ours=True),
    Program("import numpy", 1, lambda work: [sys.executable, "-c", "import numpy"]),
)
