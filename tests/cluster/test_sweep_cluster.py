"""Sweeps on the workers of a Dask cluster: the same runs, whoever dies of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Cli, wait_until
from sweeps import (
    LIBRARY,
    SMOKE,
    contents,
    found_project,
    generate_here,
    hidden,
    living,
    make_ready,
    ready_cell,
    rewrite,
    runs,
    set_cells,
)

from fleetsim.base.cluster import Cluster, connect
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import Engine
from fleetsim.runner.mirror import mirrored
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import Order, SweepOptions, run_on_worker

pytest_plugins = ("results_fixtures",)
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def workers() -> Iterator[Cluster]:
    """Return two worker processes of this machine."""
    with connect("local:2") as cluster:
        yield cluster


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project that the commands find; its experiment has three points."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)  # workers start cold ones
    return found_project(tmp_path, monkeypatch, seeds=3)


def test_workers_make_the_same_runs_as_threads(project: Project, workers: Cluster) -> None:
    """Equal but for times; what stands is not run again."""
    by_threads, by_workers = (plan_sweep(project, SMOKE, results=name) for name in "ab")
    run_sweep(by_threads, SweepOptions(jobs=2, engine=Engine.LIBRARY))
    seen: list[str] = []
    count = run_sweep(
        by_workers,
        LIBRARY,
        cluster=workers,
        progress=lambda outcome: seen.append(outcome.record.key),
    )
    assert (count.done, count.failed, count.skipped, count.left) == (3, 0, 0, 0)
    assert sorted(seen) == sorted(point.key for point in by_workers.points)
    assert contents(by_workers.results) == contents(by_threads.results)
    assert os.readlink(by_workers.folder / "latest") == runs(by_workers.results)[-1].name
    assert hidden(by_workers.results) == []
    again = run_sweep(plan_sweep(project, SMOKE, results="b"), LIBRARY, cluster=workers)
    assert (again.done, again.skipped) == (0, 3)


@pytest.mark.notebook
def test_a_worker_that_is_killed_costs_no_point(project: Project, workers: Cluster) -> None:
    """Notebooks in real kernels; the point of a killed worker is run again, and nothing is left."""
    ready, started = project.root / "ready", project.root / "started"
    set_cells(
        project.root,
        f"import time\nfrom pathlib import Path\nstarted = Path({str(started)!r})\n"
        "if seed == 7 and not started.exists():\n    started.touch()\n    time.sleep(300)",
        ready_cell(ready),
    )
    make_ready(project, ready)
    sweep = plan_sweep(project, SMOKE)
    by_seed = {point.key: point.seed for point in sweep.points}
    done: list[int] = []

    def kill(outcome: Any) -> None:
        done.append(by_seed[outcome.record.key])
        if len(done) == 1:
            wait_until(started.exists, "the first point came to no kernel")
            pids = workers.client.run(os.getpid)
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)

    count = run_sweep(sweep, cluster=workers, progress=kill)
    assert (count.done, count.failed) == (3, 0)
    assert sorted(done) == [7, 8, 9]
    assert {by_seed[key] for key in contents(sweep.results)} == {7, 8, 9}
    for run in runs(sweep.results):
        assert read_record(run).provenance["engine"] == "library"  # as it stood ready
        assert (run / "report.html").is_file()
    wait_until(lambda: not hidden_runs(sweep.results), "a dead point's folder is left")


def hidden_runs(results: Path) -> list[str]:
    """Return the private folders that are left, once the next run has cleared those of the dead."""
    from fleetsim.base.files import PARTIAL, claim_folder

    probe = results / f".probe{PARTIAL}"
    os.close(claim_folder(probe))
    probe.rmdir()
    return hidden(results)


@pytest.mark.notebook
def test_an_interrupted_sweep_leaves_nothing_on_its_workers(
    project: Project, workers: Cluster
) -> None:
    """The points under way end within seconds, and nothing of them is published."""
    started = project.root / "started"
    set_cells(
        project.root,
        f"import time\nfrom pathlib import Path\nPath({str(started)!r}).touch()\n"
        "if seed != 7:\n    time.sleep(300)\nraise ValueError('broken on purpose')",
    )
    sweep = plan_sweep(project, SMOKE)

    def interrupt(outcome: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, cluster=workers, progress=interrupt)
    wait_until(lambda: not hidden(sweep.results), "a point is still under way")
    assert runs(sweep.results) == []
    assert len(runs(sweep.results, "failed")) == 1
    wait_until(lambda: not living(started), "a kernel is left")


def test_failed_points_are_tried_again_and_end_the_sweep_when_told_to(
    project: Project, workers: Cluster
) -> None:
    """Retries happen on the worker; with fail-fast no point begins after a failed one."""
    rewrite(project.root, seeds=6)
    sweep = plan_sweep(project, SMOKE)
    options = SweepOptions(engine=Engine.LIBRARY, run_timeout=0.001, fail_fast=True, retries=1)
    count = run_sweep(sweep, options, cluster=workers)
    assert count.done == 0
    assert 1 <= count.failed <= 2
    assert count.left == 6 - count.failed
    failed = runs(sweep.results, "failed")
    assert len(failed) == 2 * count.failed
    assert read_record(failed[0]).error is not None


def test_a_worker_that_has_other_sources_or_disks_says_so(
    project: Project, workers: Cluster
) -> None:
    """The key of the run has to be the point's; the folders have to be the sweep's."""
    sweep = plan_sweep(project, SMOKE)
    rewrite(project.root, title="Another title")
    with pytest.raises(FleetsimError, match="changed while the sweep ran; run it again"):
        run_sweep(sweep, LIBRARY, cluster=workers)
    point = sweep.points[0]
    for root, seen in ((Path("/nowhere"), None), (project.root, Path("/nowhere"))):
        order = Order(
            root, SMOKE, SMOKE, point.parameters, point.key, str(sweep.results), seen=seen
        )
        with pytest.raises(InputError, match="a worker does not see /nowhere"):
            run_on_worker(order)


def test_workers_send_their_runs_to_a_storage(
    project: Project, results_url: str, fleetsim_cli: Cli, tmp_path: Path
) -> None:
    """By the command: workers of its own, which have its environment; all of it is resumed."""
    rewrite(project.root, seeds=2)
    words = ("sweep", SMOKE, "--engine", "library", "--results", results_url)
    done = fleetsim_cli(*words, "--scheduler", "local:2")
    assert done.code == 0, done.err
    assert "2 done, 0 failed, 0 finished before" in done.out
    assert "0 done, 0 failed, 2 finished before" in fleetsim_cli(*words).out
    with mirrored(project, results_url) as home:
        home.fetch_records()
        made = runs(home.folder)
        assert len(made) == 2
        assert home.find(SMOKE).name == made[-1].name
        assert (made[-1] / "experiment.md").stat().st_size > 0


def test_what_does_not_go_together_is_refused(project: Project, fleetsim_cli: Cli) -> None:
    """Threads and workers; workers and a place that each process has for itself; no scheduler."""
    for words, message in (
        (("--jobs", 2, "--scheduler", "local:2"), "--jobs are threads here"),
        (("--scheduler", "local:2", "--results", "memory://x/y"), "each process's own"),
        (("--scheduler", "nowhere"), "allowed: tcp://HOST:PORT"),
    ):
        done = fleetsim_cli("sweep", SMOKE, *words)
        assert done.code == 2
        assert message in done.err
