"""A sweep that is killed at any moment, and started again, comes to the same end."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from support import ROOT, wait_until
from sweeps import (
    LIBRARY,
    SMOKE,
    contents,
    generate_here,
    hidden,
    linux,
    living,
    lone_project,
    make_ready,
    ready_cell,
    rewrite,
    runs,
    set_cells,
)

from fleetsim.base.project import Project
from fleetsim.report.run_report import check_report
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep

pytestmark = pytest.mark.slow

project = pytest.fixture(lone_project)


def drive(project: Project, results: str, engine: str, jobs: int, *whens: str) -> list[str]:
    """Run sweeps that are killed, one after the other; return how each ended."""
    driver = [sys.executable, str(ROOT / "tests" / "sweep_driver.py")]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # it forks
    done = subprocess.run(
        [*driver, results, engine, str(jobs), *whens],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [line.split()[-1] for line in done.stdout.splitlines() if line.startswith(whens)]


CALLS = (
    "before:1:fleetsim.runner.run.claim_folder",
    "after:1:fleetsim.runner.run.claim_folder",
    "before:1:fleetsim.measure.cold.run_child",
    "after:7:fleetsim.measure.cold.run_child",
    "before:1:fleetsim.experiment.steps.write_run_files",
    "after:1:fleetsim.experiment.steps.publish_folder",
    "before:1:fleetsim.runner.run._publish",
    "before:2:fleetsim.experiment.steps.publish_folder",
    "after:2:fleetsim.experiment.steps.publish_folder",
    "after:2:fleetsim.base.files.os.symlink",
    "before:1:fleetsim.runner.run.shutil.rmtree",
)


@linux
def test_a_sweep_that_is_killed_at_any_moment_comes_to_the_same_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed around each step of its work and at random times, then resumed.

    All points are there once, with what an unbroken sweep has, and nothing else.
    """
    grid = {"number_of_companies": [2, 3], "event_rate_per_driver": [1.0, 2.0]}
    rewrite(project.root, criteria=("jsonl_valid",), grid=grid, seeds=3)
    chance = random.Random(11)  # noqa: S311 (when to kill)
    kills = [*CALLS, *(f"at:{chance.uniform(0.1, 0.5):.3f}" for _ in range(3))]
    kills += [f"cold:at:{chance.uniform(0.2, 1.5):.3f}" for _ in range(2)]
    chance.shuffle(kills)
    ends = drive(project, "killed", "library", 2, *kills, "end")
    assert ends == ["-9"] * len(kills) + ["0"]
    wait_until(lambda: not living(project.root), "a generator lives on", seconds=120)
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    run_sweep(plan_sweep(project, SMOKE, results="unbroken"), LIBRARY)
    killed, unbroken = (project.root / name for name in ("killed", "unbroken"))
    assert len(contents(killed)) == 12
    assert contents(killed) == contents(unbroken)
    assert runs(killed, "failed") == []
    assert hidden(killed) == hidden(unbroken) == []
    assert os.readlink(killed / SMOKE / "latest") == runs(killed)[-1].name


@linux
@pytest.mark.notebook
def test_a_sweep_that_is_killed_while_it_renders_comes_to_the_same_end(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notebook and report are in a run, or there is no run."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    ready = project.root / "ready"
    set_cells(project.root, ready_cell(ready))
    rewrite(project.root, seeds=2)
    make_ready(project, ready)
    kills = (
        "before:1:fleetsim.report.run_report.render_html",
        "before:2:fleetsim.report.run_report.write_file",
    )
    assert drive(project, "killed", "notebook", 1, *kills, "end") == ["-9", "-9", "0"]
    killed = project.root / "killed"
    assert hidden(killed) == []
    assert len(contents(killed)) == 2
    for folder in runs(killed):
        assert check_report(folder) == []
    wait_until(lambda: not living(project.root), "a kernel lives on", seconds=120)
