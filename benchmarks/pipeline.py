"""What it costs to run a pipeline by the kit instead of by hand.

The strict ingestion of experiment 030 is started over the same landing folder, in turn by hand and
by the kit, which measures its whole process tree. The baseline is the start by hand.


    python -m benchmarks.pipeline [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from fleetsim.base.project import find_project
from fleetsim.base.tables import Table
from fleetsim.delivery.feed import batches_of
from fleetsim.delivery.landing import Landing
from fleetsim.experiment.spec import load_experiment
from fleetsim.measure.tree import run_tree

EXPERIMENT = "030-ingest-duckdb"


def main() -> None:
    """Start the pipeline in pairs, and print medians, spreads and the ratio."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    experiment = load_experiment(find_project(), EXPERIMENT)
    home = experiment.folder.absolute()
    taken: dict[str, list[float]] = {"by hand": [], "by the kit": []}
    with (
        tempfile.TemporaryDirectory(prefix="fleetsim-bench-") as name,
        batches_of(experiment.config, experiment.keys.interval) as batches,
    ):
        folder = Path(name)
        landing = Landing(folder / "landing", batches.companies)
        for delivery in experiment.keys.reference:
            landing.deliver(batches.make(delivery.batch), delivery)
        for number in range(2 * (rounds + 1)):
            way = list(taken)[(number + number // 2) % 2]  # which is first alternates
            seconds = _start(way, home, folder)
            if number >= 2:  # the first pair warms the page cache
                taken[way].append(seconds)
    ratios = sorted(
        kit / hand for hand, kit in zip(taken["by hand"], taken["by the kit"], strict=True)
    )
    rows = tuple(
        (way, f"{median(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}")
        for way, values in taken.items()
    )
    print(Table((f"{rounds} starts [s]", "median", "least", "most"), rows))
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    print(f"by the kit over by hand: {median(ratios):.3f}, middle 80 % {low:.3f} to {high:.3f}")


def _start(way: str, home: Path, folder: Path) -> float:
    """Start the pipeline over an empty output; return the seconds to its end."""
    output = folder / "output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    environment = {
        "FLEETSIM_LANDING": str(folder / "landing"),
        "FLEETSIM_OUTPUT": str(output),
    }
    command = [sys.executable, "ingest.py"]
    if way == "by hand":
        begun = time.monotonic()
        subprocess.run(command, cwd=home, env=os.environ | environment, check=True)
        return time.monotonic() - begun
    start = run_tree(
        command,
        cwd=home,
        environment=environment,
        output=output,
        stdout=folder / "out",
        stderr=folder / "err",
        timeout=600,
        output_limit=1 << 30,
    )
    if start.exit_code:
        raise SystemExit((folder / "err").read_text())
    return start.seconds


if __name__ == "__main__":
    main()
