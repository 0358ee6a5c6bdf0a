"""What `fleetsim run 001-baseline` takes beyond the cold runs that it measures, and where.

Each round is one whole run from its command to its end. The baseline is the sum of its own cold
runs, as its record has them. When a part ended is read from the record and from the files:

- start: until the run's first statement, with the kernel's start;
- before: claims and chances, and the companies;
- between: from one cold run to the next, where each batch is compared with the first;
- analysis: reading back and tests, until the first figure is drawn;
- figures: all others;
- record: verdicts, record and document;
- page: the kernel's end, the page, and the end of the command.

Nothing else should run meanwhile.

    python -m benchmarks.run [--rounds 7] [--beside FLEETSIM]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.rates import spread_of
from fleetsim.base.clock import parse_time
from fleetsim.base.tables import Table
from fleetsim.experiment.record import read_record

EXPERIMENT = "001-baseline"
_SCRIPT = str(Path(sys.executable).with_name("fleetsim"))
_ENDS = ("start", "before", "cold runs and between", "analysis", "figures", "record", "page")


def main() -> None:
    """Run the experiment in turn with each fleetsim, and print the ratio and the parts."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--beside", action="append", default=[], help="another fleetsim's command")
    asked = options.parse_args()
    commands = [_SCRIPT, *asked.beside]
    rounds: dict[str, list[dict[str, float]]] = {command: [] for command in commands}
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-", dir="/var/tmp") as name:
        print(describe_machine(Path(name)))
        for number in range(asked.rounds + 1):
            for command in commands[:: 1 if number % 2 else -1]:
                parts = _round(command, Path(name))
                if number:  # the first brings the files of programs into the page cache
                    rounds[command].append(parts)
    for command, taken in rounds.items():
        rows = tuple(
            (part, *(f"{v:.3g}" for v in spread_of(parts[part] for parts in taken)))
            for part in taken[0]
        )
        print(Table((f"{asked.rounds} runs by {command}", "median", "least", "most"), rows))
    print(f"load {os.getloadavg()[0]:.1f}")


def _round(command: str, folder: Path) -> dict[str, float]:
    """Run the experiment once; return what the parts took [s], and the ratio."""
    results = folder / str(time.monotonic_ns())
    begun, clock = time.time(), time.monotonic()
    words = [command, "run", EXPERIMENT, "--results", str(results)]
    process = os.posix_spawn(
        command, words, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)]
    )
    _, status, usage = os.wait4(process, 0)
    whole = time.monotonic() - clock
    if status:
        raise SystemExit(f"bench: {' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    run = results / EXPERIMENT / "latest"
    record = read_record(run)
    assert record.measurements is not None
    figures = sorted(path.stat().st_mtime for path in (run / "figures").glob("*.png"))
    ends = (
        begun,
        parse_time(record.started) / 1e6,
        (run / "data" / "raw" / "companies.jsonl").stat().st_mtime,
        (run / "data").stat().st_mtime,  # the last repeat's data were removed from it
        figures[0],
        figures[-1],
        parse_time(record.finished) / 1e6,
        begun + whole,
    )
    parts = {name: ends[i + 1] - ends[i] for i, name in enumerate(_ENDS)}
    cold = sum(record.measurements.process_seconds)
    return {
        "whole [s]": whole,
        "cold runs [s]": cold,
        "whole / cold runs": whole / cold,
        "start [s]": parts["start"],
        "before [s]": parts["before"],
        "between [s]": parts["cold runs and between"] - cold,
        "analysis [s]": parts["analysis"],
        "figures [s]": parts["figures"],
        "record [s]": parts["record"],
        "page [s]": parts["page"],
        "CPU, all processes [s]": usage.ru_utime + usage.ru_stime,
    }


if __name__ == "__main__":
    main()
