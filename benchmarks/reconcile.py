"""CPU time and peak memory of a reconciliation, beside DuckDB counting the same files.

The pipeline is one statement of DuckDB that takes every line it can read; what the ledger names is
reported as refused. The baseline is the least that a reader could do: ``count(*),
count(DISTINCT event_id)`` of what was delivered and of what was accepted. Both run as cold
processes, in turn, on files that lie in the page cache.

    python benchmarks/reconcile.py [--events 1000000 10000000] [--rounds 5]
"""

# ruff: noqa: S608 - queries of our own

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

import duckdb
import yaml

import fleetsim
from fleetsim.base.tables import Table
from fleetsim.generate.config import make_config
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.measure.child import Child, run_child, run_command

RATE = 10.0  # events per driver
DEFECTS = 0.003  # of each kind
AT, BATCH = "2025-11-08T12:00:00Z", "20251108T120000Z"
COLUMNS = """{event_id: 'VARCHAR', driver_id: 'VARCHAR', company_id: 'VARCHAR',
    truck_id: 'VARCHAR', event_type: 'VARCHAR', timestamp: 'TIMESTAMPTZ'}"""
LINES = f"""read_json('events/*/events.jsonl', format = 'newline_delimited',
    ignore_errors = true, columns = {COLUMNS})"""
BASELINE = f"""
import duckdb
for rows in ({LINES!r}, "'output/accepted/*.parquet'"):
    print(duckdb.sql(f"SELECT count(*), count(DISTINCT event_id) FROM {{rows}}").fetchall())
"""
RECONCILE = f"""
import sys
sys.path.insert(0, {str(Path(fleetsim.__file__).parents[1])!r})
from pathlib import Path
from fleetsim.reconcile import Arrival, Queries, reconcile
batch, ledger = Path('events/{BATCH}'), Path('ledger/{BATCH}.jsonl')
arrival = Arrival(delivery=1, batch_id={BATCH!r}, events=batch, ledger=ledger)
reconcile([arrival], Queries(), Path('output'), outcome=Path('outcome.parquet'))
"""


def main() -> None:
    """Make the data, run both in turn, and print medians, spreads and ratios."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--events", type=int, nargs="+", default=[1_000_000, 10_000_000])
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    for events in asked.events:
        with tempfile.TemporaryDirectory(prefix="fleetsim-bench-") as name:
            folder = Path(name)
            make_output(folder, events)
            print(measured(folder, asked.rounds))
            size = sum(path.stat().st_size for path in folder.glob("events/*/events.jsonl"))
            print(f"\n{size / 1e9:.2f} GB, about {events} events, {asked.rounds} rounds\n")


def measured(folder: Path, rounds: int) -> Table:
    """Return what both took, in turn."""
    commands = {
        "reconcile": [sys.executable, "-c", RECONCILE],
        "DuckDB": [sys.executable, "-c", BASELINE],
    }
    found: dict[str, list[Child]] = {name: [] for name in commands}
    for _ in range(rounds + 1):  # the first round warms the page cache
        for name, command in commands.items():
            child, printed = run_command(command, folder)
            if child.exit_code:
                sys.exit(f"{name}: exit code {child.exit_code}\n{printed}")
            found[name].append(child)
    return _table({name: runs[1:] for name, runs in found.items()})


def make_output(folder: Path, events: int) -> None:
    """Make a batch with defects, and what the pipeline makes of it."""
    config = make_config(
        {
            "seed": 1,
            "number_of_companies": max(1, round(events / RATE / 100)),
            "drivers_per_company": 100,
            "event_rate_per_driver": RATE,
            "company_onboarding_interval": "PT1H",
            "defects": dict.fromkeys(DEFECT_KINDS, DEFECTS),
        }
    )
    (folder / "config.yaml").write_text(yaml.safe_dump(config.as_dict()))
    common = ["--config", "config.yaml"]
    run_child(["companies", *common, "--output", "companies.jsonl", "--at", AT], folder)
    batch = ["--companies", "companies.jsonl", "--output", "events", "--interval-start", AT]
    run_child(["events", *common, *batch], folder)
    for name in ("accepted", "rejected"):
        (folder / "output" / name).mkdir(parents=True)
    source = LINES.replace("events/*", f"{folder}/events/*")
    with duckdb.connect(config={"preserve_insertion_order": False}) as base:
        base.execute(f"COPY (SELECT * FROM {source}) TO '{folder}/output/accepted/a.parquet'")
    entries = map(json.loads, (folder / "ledger" / f"{BATCH}.jsonl").open())
    named = {entry["line"]: entry["kind"] for entry in entries}
    with (
        (folder / "events" / BATCH / "events.jsonl").open("rb") as lines,
        (folder / "output" / "rejected" / "r.jsonl").open("w") as refused,
    ):
        for number, line in enumerate(lines, 1):
            if number in named:
                raw = line.decode(errors="replace")
                refused.write(json.dumps({"raw": raw, "reason": named[number]}) + "\n")


def _table(found: dict[str, list[Child]]) -> Table:
    rows = []
    for name, runs in found.items():
        seconds = [run.cpu_seconds for run in runs]
        peaks = [run.peak_rss_bytes / 1e6 for run in runs]
        clock = median(run.seconds for run in runs)
        values = [f"{f(seconds):.2f}" for f in (min, median, max)]
        rows.append((name, *values, f"{clock:.2f}", f"{max(peaks):.0f}"))
    pairs = list(zip(*found.values(), strict=True))
    ratios = [one.cpu_seconds / other.cpu_seconds for one, other in pairs]
    clocks = median(one.seconds / other.seconds for one, other in pairs)
    values = [f"{f(ratios):.2f}" for f in (min, median, max)]
    rows.append(("ratio, pair by pair", *values, f"{clocks:.2f}", ""))
    head = ("CPU of the process [s]", "least", "median", "most", "clock, median", "peak [MB]")
    return Table(head, tuple(rows))


if __name__ == "__main__":
    main()
