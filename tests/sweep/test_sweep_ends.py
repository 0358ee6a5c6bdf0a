"""How a sweep and its points end: errors, limits, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import Cli, wait_until
from sweeps import (
    LIBRARY,
    SMOKE,
    content,
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
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import Engine
from fleetsim.experiment.spec import load_experiment
from fleetsim.report.run_report import check_report
from fleetsim.runner.engines import Job, run_library
from fleetsim.runner.watch import Watch
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import SweepOptions

pytestmark = pytest.mark.slow

project = pytest.fixture(lone_project)


def sweep_process(project: Project, *options: str) -> subprocess.Popen[str]:
    """Start a sweep in a session of its own."""
    command = [sys.executable, "-m", "fleetsim", "sweep", SMOKE, *options]
    return subprocess.Popen(
        command,
        cwd=project.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


# ---- how points end


@pytest.mark.notebook
def test_both_engines_write_the_same_record(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committed notebook with cold processes, and the library alone; the engine is told."""
    by_notebook, by_library = tmp_path / "notebook", tmp_path / "library"
    run_sweep(plan_sweep(project, SMOKE, results=str(by_notebook)))
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    run_sweep(plan_sweep(project, SMOKE, results=str(by_library)), LIBRARY)
    (one,), (other,) = runs(by_notebook), runs(by_library)
    first, second = content(one), content(other)
    files, fewer = first.pop("run"), second.pop("run")
    assert first == second
    assert set(files) - set(fewer) >= {"report.html", "report.ipynb", "figures"}
    assert set(fewer) <= set(files)
    assert all(files[name] == data for name, data in fewer.items())
    keys = [list(msgspec.to_builtins(read_record(path))) for path in (one, other)]
    assert keys[0] == keys[1]
    assert [read_record(path).provenance["engine"] for path in (one, other)] == [
        "notebook",
        "library",
    ]
    assert check_report(one) == check_report(other) == []


@linux
@pytest.mark.notebook
def test_points_that_fail_say_why_and_the_sweep_goes_on(
    project: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its reason in its record and keeps its partial notebook; another one is done."""
    ready = project.root / "ready"
    set_cells(
        project.root,
        "import os, time\nif seed == 1:\n    raise ValueError('broken on purpose')\n"
        "if seed == 2:\n    os.kill(os.getpid(), 9)\nif seed == 3:\n    time.sleep(300)\n"
        "if seed == 4:\n    os._exit(0)",
        "if seed == 6:\n    " + ready_cell(ready).replace("\n", "\n    "),
    )
    rewrite(project.root, grid=None, seeds=6)
    config = project.experiments / SMOKE / "config.yaml"
    config.write_text(config.read_text().replace("seed: 7", "seed: 1"))
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    make_ready(project, ready)
    outcome = fleetsim_cli("sweep", SMOKE, "--jobs", "3", "--cell-timeout", "30")
    assert outcome.code == 1
    assert "1 done, 5 failed, 0 finished before, 0 not begun" in outcome.out
    results = project.root / "results"
    failed = {read_record(path).config["seed"]: path for path in runs(results, "failed")}
    expected = {
        1: ("ValueError", "broken on purpose"),
        2: (
            "DeadKernelError",
            "the kernel was ended by the signal Killed; the system does this where memory runs out",
        ),
        3: ("CellTimeoutError", "a cell took longer than 30 s"),
        4: ("DeadKernelError", "the kernel ended with exit code 0"),
        5: ("NoRecord", "the notebook ended without a record"),
    }
    assert set(failed) == set(expected)
    for seed, (kind, message) in expected.items():
        record = read_record(failed[seed])
        assert record.error is not None
        assert (record.error.kind, record.error.message) == (kind, message)
        assert f"failed: {kind}: {message}" in outcome.err
        assert record.measurements is None
        assert "broken on purpose" in (failed[seed] / "report.ipynb").read_text()
        assert "The run failed" in (failed[seed] / "report.html").read_text(encoding="utf-8")
        assert check_report(failed[seed]) == []
    (done,) = runs(results)
    assert read_record(done).config["seed"] == 6
    assert os.readlink(results / SMOKE / "latest") == done.name
    assert hidden(results) == []
    assert living(project.root) == []


@linux
@pytest.mark.notebook
def test_a_run_over_its_time_is_ended_with_all_that_it_started(
    project: Project, fleetsim_cli: Cli
) -> None:
    """Cells that are each in time do not save a run; its generator is killed as well."""
    child = "import time; time.sleep(300)"
    set_cells(
        project.root,
        "import sys\nfrom pathlib import Path\nfrom fleetsim.measure.child import run_command\n"
        f"run_command([sys.executable, '-c', {child!r}], Path({str(project.root)!r}))",
    )
    outcome = fleetsim_cli("sweep", SMOKE, "--run-timeout", "8")
    assert outcome.code == 1
    (folder,) = runs(project.root / "results", "failed")
    error = read_record(folder).error
    assert error is not None
    assert (error.kind, error.message) == ("RunTimeout", "the run took longer than 8 s")
    assert (folder / "report.ipynb").is_file()
    wait_until(lambda: not living(project.root), "processes live on", seconds=120)


def test_a_run_without_a_kernel_ends_between_two_steps(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of time holds for the engine library too, as soon as it comes to look."""

    def slow(*arguments: Any) -> Any:
        time.sleep(0.05)
        return generate_here(*arguments)

    monkeypatch.setattr("fleetsim.measure.cold.run_child", slow)
    sweep = plan_sweep(project, SMOKE)
    count = run_sweep(sweep, SweepOptions(engine=Engine.LIBRARY, run_timeout=0.2))
    assert (count.done, count.failed) == (0, 1)
    error = read_record(sweep.failed[sweep.points[0].key]).error
    assert error is not None
    assert (error.kind, error.message) == ("RunTimeout", "the run took longer than 0.2 s")


def test_what_goes_through_the_steps_never_publishes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that comes to its end after its runner is gone stands in a hidden folder alone."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    results = project.root / "results"
    private = results / ".run-of-a-dead-runner.partial"
    experiment = load_experiment(project, SMOKE, {"number_of_companies": 2})
    assert run_library(Job(project, experiment, SMOKE, private), Watch()).error is None
    assert list(private.glob(f"{SMOKE}/[!.]*/result.json"))
    assert not (results / SMOKE).exists()
    sweep = plan_sweep(project, SMOKE)
    assert run_sweep(sweep, LIBRARY).done == 1
    assert (len(runs(results)), hidden(results)) == (1, [])


# ---- how sweeps end


@linux
@pytest.mark.notebook
@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_ended_sweep_leaves_nobody_behind(
    project: Project, signum: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No kernel, no launcher and no generator outlives the command, whatever ended it.

    Nothing stands in the results but, after SIGKILL, what the next sweep clears.
    """
    child = "import time; open('started', 'w').close(); time.sleep(300)"
    set_cells(
        project.root,
        "import sys\nfrom pathlib import Path\nfrom fleetsim.measure.child import run_command\n"
        f"run_command([sys.executable, '-c', {child!r}], Path({str(project.root)!r}))",
    )
    rewrite(project.root, seeds=3)
    results = project.root / "results"
    with sweep_process(project, "--jobs", "2") as process:
        wait_until((project.root / "started").exists, "no generator started", seconds=120)
        # What kernels are forked from, and one of them at least.
        assert len([line for line in living(project.root) if "fleetsim.runner.warm" in line]) >= 2
        process.send_signal(signum)
        out, err = process.communicate(timeout=120)
    assert process.returncode == code
    wait_until(lambda: not living(project.root), "processes live on", seconds=120)
    assert runs(results) == runs(results, "failed") == []
    assert "Traceback" not in err
    if signum == signal.SIGKILL:
        assert [name for name in hidden(results) if name.count("/") == 0]
        monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
        assert run_sweep(plan_sweep(project, SMOKE), LIBRARY).done == 3
    else:
        assert err.strip().splitlines() == [
            {2: "fleetsim: interrupted", 15: "fleetsim: terminated"}[signum]
        ]
    assert hidden(results) == []
    assert out == ""


def test_an_interrupted_library_sweep_keeps_what_is_finished(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the point under way and leaves nothing of it; the next sweep goes on there."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    rewrite(project.root, seeds=3)
    sweep = plan_sweep(project, SMOKE)

    def interrupt(outcome: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, LIBRARY, progress=interrupt)
    assert len(runs(sweep.results)) in (1, 2)
    assert (runs(sweep.results, "failed"), hidden(sweep.results)) == ([], [])
    count = run_sweep(sweep, LIBRARY)
    assert (count.done + count.skipped, len(contents(sweep.results))) == (3, 3)
