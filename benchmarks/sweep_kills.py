"""A sweep of 40 points that is killed 20 times, held against one that was left alone.

`fleetsim sweep` runs as a process of its own session and gets SIGKILL at random times, so drawn
that the kills fall over about the first half of its work; then it runs to its end. Every point has
to be complete, none may be there twice, nothing hidden may be left, no process may live on, and
records and data have to be those of the unbroken sweep in everything but times. The experiment is
000-smoke with a fixed interval and without the criteria that measure time or memory.

    python benchmarks/sweep_kills.py [--engine notebook] [--points 40] [--kills 20] [--seed 1]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from sweeps import SMOKE, assert_whole, contents, hidden, living, runs, smoke_project  # noqa: E402


def main() -> None:
    """Run both sweeps, and print what came of them."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--engine", choices=["notebook", "library"], default="notebook")
    options.add_argument("--points", type=int, default=40)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    chance = random.Random(asked.seed)  # noqa: S311 (when to kill)
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-") as name:
        root = Path(name)
        grid = {"number_of_companies": [5, 10, 20, 40], "event_rate_per_driver": [2.0, 4.0]}
        smoke_project(root, grid=grid, seeds=max(1, asked.points // 8), replicates=100)
        command = [sys.executable, "-m", "fleetsim", "sweep", SMOKE, "--engine", asked.engine]
        command += ["--jobs", str(asked.jobs), "--results"]
        begun = time.monotonic()
        subprocess.run([*command, "whole"], cwd=root, check=True, capture_output=True)
        wall = time.monotonic() - begun
        points = len(contents(root / "whole"))
        print(f"unbroken: {points} points in {wall:.0f} s, engine {asked.engine}", flush=True)
        longest = 8 + wall / asked.kills
        stood, died = [], 0
        for _ in range(asked.kills):
            process = subprocess.Popen(
                [*command, "broken"],
                cwd=root,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(chance.uniform(0, longest))
            process.send_signal(signal.SIGKILL)
            died += process.wait() == -signal.SIGKILL
            assert_whole(root / "broken")
            stood.append(len(contents(root / "broken")))
            print(f"killed: {stood[-1]} of {points} points stand, all whole", flush=True)
        begun = time.monotonic()
        subprocess.run([*command, "broken"], cwd=root, check=True, capture_output=True)
        print(f"resumed: to the end in {time.monotonic() - begun:.0f} s")
        deadline = time.monotonic() + 30
        while living(root) and time.monotonic() < deadline:
            time.sleep(0.1)
        found = {
            f"{asked.kills} kills, all of them while it ran": died == asked.kills,
            f"all {points} points complete, none twice": len(contents(root / "broken")) == points,
            "no failed run": runs(root / "broken", "failed") == [],
            "equal to the unbroken sweep but for times": contents(root / "broken")
            == contents(root / "whole"),
            "nothing hidden is left": hidden(root / "broken") == [],
            "latest is the newest run": os.readlink(root / "broken" / SMOKE / "latest")
            == runs(root / "broken")[-1].name,
            "no process lives on": living(root) == [],
        }
        for what, holds in found.items():
            print(f"{'yes' if holds else 'NO '}  {what}")
        sys.exit(not all(found.values()))


if __name__ == "__main__":
    main()
