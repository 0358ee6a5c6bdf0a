"""A newcomer's first quarter of an hour, typed by one test: from a clone to an audit's page."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import fresh_clone, git

pytestmark = [pytest.mark.slow, pytest.mark.notebook]


class Terminal:
    """A shell in the folder of the clone, with the environment that one has there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        apart = ("FLEETSIM_ROOT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        self.environment = {key: value for key, value in os.environ.items() if key not in apart}

    def type(self, line: str, *, code: int = 0) -> str:
        """Type a line; return what it printed. It has to end with the code."""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def test_the_way_of_a_newcomer(tmp_path: Path) -> None:
    """Each step works as README says, leads to the next, and leaves the clone's own files alone."""
    clone = fresh_clone(tmp_path)
    terminal = Terminal(clone)
    results = clone / "results"

    told = terminal.type("make run")
    assert "fail: event_count_stated. " in told  # its document claims what it cannot make
    assert "report: results/001-baseline/" in told
    assert (results / "001-baseline" / "latest" / "report.html").is_file()

    terminal.type(".venv/bin/fleetsim new 110-mine")
    made = clone / "experiments" / "110-mine"
    assert {path.name for path in made.iterdir()} == {
        "config.yaml",
        "experiment.yaml",
        "experiment.md",
    }
    with (made / "experiment.yaml").open("a", encoding="utf-8") as claims:
        claims.write("replicates: 50\n")
    assert "Nothing contradicts." in terminal.type(".venv/bin/fleetsim check 110-mine --strict")

    terminal.type(".venv/bin/fleetsim run 110-mine")
    run = (results / "110-mine" / "latest").resolve()
    assert (run / "report.html").is_file()
    assert json.loads((run / "result.json").read_text())["status"] == "completed"

    with (made / "experiment.yaml").open("a", encoding="utf-8") as claims:
        claims.write("grid:\n  event_rate_per_driver: [2, 4]\n")
    sweep = ".venv/bin/fleetsim sweep 110-mine --engine library"
    assert terminal.type(f"{sweep} --dry-run").count("to do") == 1  # the other one is the run
    terminal.type(sweep)
    assert len(list((results / "110-mine").glob("2*"))) == 2
    assert (results / "110-mine" / "sweep.html").is_file()

    terminal.type(".venv/bin/fleetsim compare 001-baseline 110-mine --html compare.html")
    assert "event_rate" in (clone / "compare.html").read_text(encoding="utf-8")

    data = f"results/110-mine/{run.name}/data/raw"
    config = "experiments/110-mine/config.yaml"
    terminal.type(f".venv/bin/fleetsim audit {data} --config {config} --html audit.html")
    page = (clone / "audit.html").read_text(encoding="utf-8")
    assert "<svg" in page or "data:image" in page
    assert git(clone, "status", "--porcelain").split() == [
        *("??", "audit.html"),
        *("??", "compare.html"),
        *("??", "experiments/110-mine/"),
    ]
