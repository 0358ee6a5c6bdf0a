"""Speed and memory of the generator, beside what one would use instead and the bare write.

All programs run as cold processes, in turn, round by round, and write to the disk; every line of
every run is checked, outside of the time taken.

A batch of middle size is made besides, to the disk and to memory, where no disk hides what the
programs take.

    python -m benchmarks.generate [--events 20000000] [--rounds 5] [--write]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.checking import check_batch, check_same, file_hash
from benchmarks.performance import Results, tell, write_page
from benchmarks.programs import (
    BARE,
    COLD,
    FASTEST,
    HASH,
    KIT,
    PEERS,
    PROFILED,
    READY,
    Program,
    Work,
    make_work,
    work_of,
)
from benchmarks.rates import Run
from fleetsim.base.errors import FleetsimError
from fleetsim.measure.child import Child, run_command

ROOT = Path(__file__).resolve().parents[1]
COLD_PAIRS = 10  # in each round: a cold start takes a moment, and scatters
_TRIAL = 20_000  # events of a first, untimed run, which brings programs into the page cache
MIDDLE = 3_500_000  # events of the batch that is also made in memory
_MAX_MEMORY = "the bare write holds the whole batch in memory, 0.26 GB a million events"


def main() -> None:
    """Measure, print the tables, and write the page where it is asked for."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--events", type=int, default=20_000_000, help=_MAX_MEMORY)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument(
        "--folder",
        type=Path,
        default=Path("/var/tmp"),  # noqa: S108 (a new folder is made in it)
        help="where to write; /var/tmp mostly lies on a disk, where /tmp may be memory",
    )
    options.add_argument(
        "--memory",
        type=Path,
        default=Path("/dev/shm"),  # noqa: S108 (a new folder is made in it)
        help="a folder that lies in memory, 1 GB of it",
    )
    options.add_argument("--write", action="store_true", help="write docs/performance.md and .png")
    asked = options.parse_args()
    results = Results()
    with (
        tempfile.TemporaryDirectory(prefix="fleetsim-bench-", dir=asked.folder) as name,
        tempfile.TemporaryDirectory(prefix="fleetsim-bench-", dir=asked.memory) as memory,
    ):
        bench = Bench(Path(name), asked.events, results)
        (Path(name) / "middle").mkdir()
        disk, memory_bench = (
            Bench(folder, MIDDLE, Results()) for folder in (Path(name) / "middle", Path(memory))
        )
        results.to_disk, results.to_memory = disk.results.runs, memory_bench.results.runs
        try:
            bench.warm_up()
            for number in range(asked.rounds):
                bench.run_round(number)
                disk.make_ready()
                disk.run_all([*FASTEST, *BARE], number)
                memory_bench.run_all([*FASTEST], number)
                hashed = disk.run_hash(number)
                disk.results.runs.append(hashed)
                memory_bench.results.runs.append(hashed)  # it is the same wherever the bytes are
        except FleetsimError as error:
            sys.exit(f"bench: {error}")
        print(tell(results))
        if asked.write:
            for path in write_page(results, ROOT / "docs", Path(name)):
                print(path.relative_to(ROOT))


@dataclass
class Bench:
    """Runs programs in turn, checks what they wrote, and keeps what that took."""

    folder: Path
    events: int
    results: Results
    works: dict[str, Work] = field(default_factory=dict)
    #: Hash and number of events of the kit's batch in each folder, once it is checked.
    hashes: dict[Path, tuple[str, int]] = field(default_factory=dict)

    def warm_up(self) -> None:
        """Run everything once on little: files of programs then lie in the page cache."""
        folder = self.folder / "trial"
        folder.mkdir()
        small = Bench(folder, _TRIAL, Results())
        for program in (*KIT, *PEERS, PROFILED):
            small.run(program, 0)
        small.run_cold(0)

    def run_round(self, number: int) -> None:
        """Run every program once, each round from another one on."""
        self.make_ready()
        self.run_all([*KIT, *PEERS, *BARE, PROFILED], number)
        for _ in range(COLD_PAIRS):
            self.run_cold(number)

    def run_all(self, programs: list[Program], number: int) -> None:
        """Run programs once, each round from another one on."""
        at = number * 3 % len(programs)
        for program in programs[at:] + programs[:at]:
            self.run(program, number)

    def run(self, program: Program, number: int) -> None:
        """Run a program, check what it wrote, and keep the run or its profile."""
        print(f"round {number + 1}: {program.name}", file=sys.stderr, flush=True)
        work = self._work(f"{self.events * program.share:.0f}", self.events * program.share)
        if not program.ours or program in BARE:
            work.batch.mkdir(parents=True)  # what the kit does itself
        child, printed = self._launch(program, work)
        events = self._check(program, work)
        size = work.events.stat().st_size
        shutil.rmtree(work.batch.parent)
        if program is PROFILED:
            parts = json.loads(printed.splitlines()[-1])
            self.results.profiles.append(parts | {"process": child.seconds})
            return
        seconds, cpu_seconds = child.seconds, child.cpu_seconds
        if program in BARE:  # without the process around it
            own = json.loads(printed)
            seconds, cpu_seconds = own["seconds"], own["cpu_seconds"]
        peak = child.peak_rss_bytes
        self.results.runs.append(
            Run(program.name, number, events, size, seconds, cpu_seconds, peak)
        )

    def run_cold(self, number: int) -> None:
        """Run a batch of the baseline and its measure of comparison, one after the other."""
        if "cold" not in self.works:
            config = ROOT / "experiments" / "001-baseline" / "config.yaml"
            self.works["cold"] = make_work(self.folder / "cold", yaml.safe_load(config.read_text()))
        work = self.works["cold"]
        batch, baseline = (self._launch(program, work)[0] for program in COLD)
        self._check(COLD[0], work)
        shutil.rmtree(work.batch.parent)
        self.results.cold.append((batch, baseline))

    def run_hash(self, number: int) -> Run:
        """Hash the bytes that lie ready; return what that took, without the process around it."""
        work = self._work(f"{self.events:.0f}", self.events)
        child, printed = self._launch(HASH, work)
        own = json.loads(printed)
        digest, events = self.hashes[work.folder]
        if own["sha256"] != digest:
            raise FleetsimError(f"{HASH.name}: {own['sha256']}; the batch has {digest}")
        size = (work.folder / READY).stat().st_size
        took = own["seconds"], own["cpu_seconds"]
        return Run(HASH.name, number, events, size, *took, child.peak_rss_bytes)

    def _work(self, name: str, events: float) -> Work:
        if name not in self.works:
            self.works[name] = make_work(self.folder / name, work_of(events))
        return self.works[name]

    def make_ready(self) -> None:
        """Keep the bytes of the kit's batch for the bare write."""
        work = self._work(f"{self.events:.0f}", self.events)
        if (work.folder / READY).exists():
            return
        self._launch(KIT[0], work)
        self._check(KIT[0], work)
        work.events.rename(work.folder / READY)
        shutil.rmtree(work.batch.parent)

    def _launch(self, program: Program, work: Work) -> tuple[Child, str]:
        child, printed = run_command(program.command(work), work.folder)
        if child.exit_code != 0:
            raise FleetsimError(f"{program.name}: exit code {child.exit_code}\n{printed}")
        return child, printed

    def _check(self, program: Program, work: Work) -> int:
        """Hold what a program wrote to the work; return how many events it is."""
        try:
            if not program.ours:
                return check_batch(work.config, work.companies, work.batch, recorded=False)
            known = self.hashes.get(work.folder)
            if known:
                check_same(work.events, known[0])
                return known[1]
            count = check_batch(work.config, work.companies, work.batch, recorded=True)
            self.hashes[work.folder] = file_hash(work.events), count
            return count
        except FleetsimError as error:
            raise FleetsimError(f"{program.name}: {error}") from error


if __name__ == "__main__":
    main()
