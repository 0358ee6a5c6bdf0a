"""What injected defects cost, and whether as many are injected as configured.

The same batch is made without defects and with 5 % of all kinds, in turn, by cold processes; then
it is audited without and with its ledger. The baseline of each is the process without.

    python benchmarks/defects.py [--events 10000000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import yaml

from fleetsim.base.tables import Table
from fleetsim.generate.config import make_config
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.measure.child import Child, run_command

RATE = 10.0  # events per driver
SHARE = 0.05  # of the records has a defect
AT = "2025-11-08T12:00:00Z"
#: Two batches, since the first has no late records.
MAKE = ("--companies", "companies.jsonl", "--interval-start", AT, "--batches", "2")


def main() -> None:
    """Make the data, run all in turn, and print medians, spreads and ratios."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--events", type=int, default=10_000_000)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-") as name:
        folder = Path(name)
        _prepare(folder, asked.events)
        making: dict[str, list[Child]] = {"none": [], "5 %": []}
        for _ in range(asked.rounds + 1):  # the first round warms the page cache
            for rates, config, output in (
                ("none", "clean.yaml", "clean"),
                ("5 %", "dirty.yaml", "dirty"),
            ):
                for left in ("events", "ledger"):
                    shutil.rmtree(folder / output / left, ignore_errors=True)
                words = ["events", "--config", config, "--output", f"{output}/events", *MAKE]
                making[rates].append(_run(folder, words)[0])
        print(_table("made with defects [s]", {k: runs[1:] for k, runs in making.items()}))
        audits: dict[str, list[Child]] = {"no ledger": [], "ledger": []}
        for _ in range(max(1, asked.rounds // 2)):
            audit = ["audit", "dirty", "--config", "dirty.yaml", "--json"]
            audits["no ledger"].append(_run(folder, audit)[0])
            child, printed = _run(folder, [*audit, "--ledger", "dirty/ledger"])
            audits["ledger"].append(child)
        print(f"\n{_table('audited with [s]', audits)}")
        print(f"\n{_counts(printed)}")
        print(f"\nabout {asked.events} events, {asked.rounds} rounds")


def _prepare(folder: Path, events: int) -> None:
    values = {
        "seed": 1,
        "number_of_companies": max(1, round(events / 2 / RATE / 100)),
        "drivers_per_company": 100,
        "event_rate_per_driver": RATE,
        "company_onboarding_interval": "PT1H",
    }
    rates = dict.fromkeys(DEFECT_KINDS, SHARE / len(DEFECT_KINDS))
    for name, more in (("clean", {}), ("dirty", {"defects": rates})):
        config = make_config({**values, **more})
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config.as_dict(), sort_keys=False))
    words = ["companies", "--config", "clean.yaml", "--output", "companies.jsonl", "--at", AT]
    _run(folder, words)
    for name in ("clean", "dirty"):
        (folder / name).mkdir()
        shutil.copy(folder / "companies.jsonl", folder / name)


def _run(folder: Path, words: list[str]) -> tuple[Child, str]:
    child, printed = run_command([sys.executable, "-P", "-m", "fleetsim", *words], folder)
    # A finding (exit 3) is no fault of the benchmark: without a ledger each defect is one.
    if child.exit_code not in (0, 3):
        sys.exit(f"{words}: exit code {child.exit_code}\n{printed}")
    return child, printed


def _table(title: str, found: dict[str, list[Child]]) -> Table:
    rows = []
    for name, runs in found.items():
        seconds = [run.seconds for run in runs]
        cpu, peak = median(run.cpu_seconds for run in runs), max(r.peak_rss_bytes for r in runs)
        times = (f"{f(seconds):.2f}" for f in (min, median, max))
        rows.append((name, *times, f"{cpu:.2f}", f"{peak / 1e6:.0f}"))
    base, other = found.values()
    pairs = list(zip(other, base, strict=True))
    ratios = [a.seconds / b.seconds for a, b in pairs]
    cpu = median(a.cpu_seconds / b.cpu_seconds for a, b in pairs)
    times = (f"{f(ratios):.2f}" for f in (min, median, max))
    rows.append(("ratio, pair by pair", *times, f"{cpu:.2f}", ""))
    return Table((title, "least", "median", "most", "CPU", "peak [MB]"), tuple(rows))


def _counts(printed: str) -> Table:
    """Return how many defects of each kind there are, and what is expected, with p-values."""
    rows = [
        (row["kind"], str(row["found"]), f"{row['expected']:.1f}", f"{row['p_value']:.3g}")
        for row in json.loads(printed[printed.index("{") :])["explained"]  # behind the progress
    ]
    return Table(("kind", "injected", "expected", "p"), tuple(rows))


if __name__ == "__main__":
    main()
