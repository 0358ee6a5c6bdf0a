"""The two paths of the generator by size: what the kernel's start costs, and from where on it pays.

Both paths make the same batch in turn, as cold processes, one after the other in each pair. The
baseline is the NumPy path. Each batch of a size has the same bytes, which is checked.

    python -m benchmarks.paths [--pairs 9] [--sizes 1000 10000 ...]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.checking import file_hash
from benchmarks.machine import describe_machine
from benchmarks.programs import batch_command, make_work, work_of
from benchmarks.rates import spread_of
from fleetsim.base.errors import FleetsimError
from fleetsim.base.tables import Table
from fleetsim.generate.kernel.machine import kept_kernels
from fleetsim.measure.child import Child, run_command

SIZES = (1000, 3500, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_500_000)
#: Each path as options of the command; the kernel also without threads beside it.
WAYS = {
    "numpy": ("--kernel", "numpy"),
    "kernel, 1 job": ("--kernel", "compiled", "--jobs", "1"),
    "kernel": ("--kernel", "compiled"),
}


def main() -> None:
    """Measure each size, and print CPU seconds, seconds, memory and their ratios."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options.add_argument(
        "--folder",
        type=Path,
        default=Path("/var/tmp"),  # noqa: S108 (a new folder is made in it)
        help="where to write; /var/tmp mostly lies on a disk, where /tmp may be memory",
    )
    asked = options.parse_args()
    if kept_kernels() is None:
        sys.exit("bench: no machine code of the kernel lies ready; make setup makes it")
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-", dir=asked.folder) as name:
        print(describe_machine(Path(name)))
        for events in asked.sizes:
            runs = _measure(Path(name) / str(events), events, asked.pairs)
            rows += _rows(events, runs)
    columns = ("events", "path", "CPU s", "CPU s more", "of NumPy's CPU s", "of its s", "peak MB")
    print(Table(columns, tuple(rows)))


def _measure(folder: Path, events: int, pairs: int) -> dict[str, list[Child]]:
    """Return the runs of each way; the first round warms the page cache and is not counted."""
    work = make_work(folder, work_of(events))
    runs: dict[str, list[Child]] = {way: [] for way in WAYS}
    hashes = set()
    for number in range(pairs + 1):
        for way in (*WAYS,)[:: 1 if number % 2 else -1]:
            command = [sys.executable, "-P", "-m", "fleetsim", *batch_command(*WAYS[way])]
            child, printed = run_command(command, work.folder)
            if child.exit_code != 0:
                raise FleetsimError(f"{way}: exit code {child.exit_code}\n{printed}")
            hashes.add(file_hash(work.events))
            shutil.rmtree(work.batch.parent)
            if number:
                runs[way].append(child)
    if len(hashes) != 1:
        raise FleetsimError(f"{events} events: the paths make different bytes")
    shutil.rmtree(folder)
    return runs


def _rows(events: int, runs: dict[str, list[Child]]) -> list[tuple[str, ...]]:
    base = runs["numpy"]
    return [
        (
            str(events),
            way,
            spread_of(child.cpu_seconds for child in children).text(),
            spread_of(
                child.cpu_seconds - other.cpu_seconds
                for child, other in zip(children, base, strict=True)
            ).text(),
            spread_of(
                child.cpu_seconds / other.cpu_seconds
                for child, other in zip(children, base, strict=True)
            ).text(),
            spread_of(
                child.seconds / other.seconds for child, other in zip(children, base, strict=True)
            ).text(),
            spread_of(child.peak_rss_bytes / 1e6 for child in children).text(),
        )
        for way, children in runs.items()
    ]


if __name__ == "__main__":
    main()
