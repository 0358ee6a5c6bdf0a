"""Time, CPU and peak memory of `fleetsim audit`, beside DuckDB counting the same lines.

The baseline is the least that a reader could do: ``count(*), count(DISTINCT event_id)`` with the
typed schema. Both run as cold processes, in turn, on one file that lies in the page cache.

    python benchmarks/audit.py [--events 10000000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

import yaml

from fleetsim.base.tables import Table
from fleetsim.generate.config import make_config
from fleetsim.measure.child import Child, run_child, run_command

RATE = 10.0  # events per driver
BASELINE = """
import duckdb
print(duckdb.sql('''
    SELECT count(*), count(DISTINCT event_id)
    FROM read_json('events/*/events.jsonl', format = 'newline_delimited', columns = {
        event_id: 'UUID', driver_id: 'VARCHAR', company_id: 'UUID', truck_id: 'VARCHAR',
        event_type: 'VARCHAR', timestamp: 'TIMESTAMP'
    })
''').fetchall())
"""


def main() -> None:
    """Make the data, run both in turn, and print medians, spreads and ratios."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-") as name:
        folder = Path(name)
        _make(folder, asked.events)
        audit = [sys.executable, "-P", "-m", "fleetsim", "audit", ".", "--config", "config.yaml"]
        commands = {"audit": audit, "DuckDB": [sys.executable, "-c", BASELINE]}
        found: dict[str, list[Child]] = {name: [] for name in commands}
        for _ in range(asked.rounds + 1):  # the first round warms the page cache
            for name, command in commands.items():
                child, printed = run_command(command, folder)
                # A false alarm of the tests (exit 3) is no fault of the benchmark.
                if child.exit_code not in (0, 3):
                    sys.exit(f"{name}: exit code {child.exit_code}\n{printed}")
                found[name].append(child)
        print(_table({name: runs[1:] for name, runs in found.items()}))
        size = sum(path.stat().st_size for path in folder.glob("events/*/events.jsonl"))
        print(f"\n{size / 1e9:.2f} GB, about {asked.events} events, {asked.rounds} rounds")


def _make(folder: Path, events: int) -> None:
    config = make_config(
        {
            "seed": 1,
            "number_of_companies": max(1, round(events / RATE / 100)),
            "drivers_per_company": 100,
            "event_rate_per_driver": RATE,
            "company_onboarding_interval": "PT1H",
        }
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config.as_dict()))
    at = "2025-11-08T12:00:00Z"
    common = ["--config", "config.yaml"]
    run_child(["companies", *common, "--output", "companies.jsonl", "--at", at], folder)
    batch = ["--companies", "companies.jsonl", "--output", "events", "--interval-start", at]
    run_child(["events", *common, *batch], folder)


def _table(found: dict[str, list[Child]]) -> Table:
    peaks = {name: max(run.peak_rss_bytes for run in runs) for name, runs in found.items()}
    rows = []
    for what, field in (("wall", "seconds"), ("CPU", "cpu_seconds")):
        taken = {name: [getattr(run, field) for run in runs] for name, runs in found.items()}
        rows += [
            (f"{name}, {what}", *_spread(seconds), f"{peaks[name] / 1e6:.0f}")
            for name, seconds in taken.items()
        ]
        ratios = [one / other for one, other in zip(*taken.values(), strict=True)]
        rows.append((f"ratio of {what}, pair by pair", *_spread(ratios), ""))
    return Table(("whole process [s]", "least", "median", "most", "peak [MB]"), tuple(rows))


def _spread(values: list[float]) -> tuple[str, ...]:
    return tuple(f"{of(values):.2f}" for of in (min, median, max))


if __name__ == "__main__":
    main()
