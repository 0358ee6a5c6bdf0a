"""Sweeps: every point once, whatever stands already, whatever fails, and whoever runs beside."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Cli, tree, wait_until
from sweeps import (
    LIBRARY,
    SMOKE,
    content,
    contents,
    generate_here,
    hidden,
    rewrite,
    runs,
    smoke_project,
)

import fleetsim.kinds.baseline.run
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.batch.verify import batches_below, verify_batch
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import Engine
from fleetsim.report.run_report import check_report
from fleetsim.runner.engines import Ending, Job, RunOptions, run_library
from fleetsim.runner.run import Outcome, _publish, execute
from fleetsim.runner.watch import Watch
from fleetsim.sweep import plan as sweep_plan
from fleetsim.sweep.plan import Sweep, plan_sweep
from fleetsim.sweep.run import Progress, run_sweep, sweep_lock
from fleetsim.sweep.worker import SweepOptions

GRID = {"number_of_companies": [2, 3], "event_rate_per_driver": [1.0, 2.0]}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let data be made in this process, wait for no disk, and make no report of the sweep."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    monkeypatch.setattr("fleetsim.sweep.report.render_sweep", lambda sweep, steps: sweep.folder)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> Project:
    """Return a project whose experiment has a grid of four points, which the commands find."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))
    return smoke_project(tmp_path, grid=GRID)


def do(project: Project, **options: Any) -> tuple[Progress, Sweep]:
    """Run the sweep of a project without notebooks; return what was done, and how it stands."""
    sweep = plan_sweep(project, SMOKE, results=options.pop("results", None))
    extra = {name: options.pop(name) for name in ("cluster", "home", "progress") if name in options}
    return run_sweep(sweep, SweepOptions(**{"engine": Engine.LIBRARY, **options}), **extra), sweep


def states(project: Project) -> list[bool]:
    """Return for each point of the sweep whether it is finished."""
    sweep = plan_sweep(project, SMOKE)
    return [point.key in sweep.finished for point in sweep.points]


def break_generation(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Any], bool]) -> list[Any]:
    """Let the generation of some configurations fail; return a list that tells of each trial."""
    trials = []
    real = fleetsim.kinds.baseline.run.generate_data

    def generate(config: Any, *arguments: Any, **options: Any) -> Any:
        trials.append(config)
        if wrong(config):
            raise FleetsimError("broken on purpose")
        return real(config, *arguments, **options)

    monkeypatch.setattr("fleetsim.kinds.baseline.run.generate_data", generate)
    return trials


# ---- resume by content


def test_finished_points_are_not_run_again(project: Project) -> None:
    """The second sweep finds every point by its content, and touches nothing."""
    first, sweep = do(project)
    assert (first.done, first.failed, first.skipped, first.left) == (4, 0, 0, 0)
    made = contents(sweep.results)
    assert set(made) == {point.key for point in sweep.points}
    assert os.readlink(sweep.folder / "latest") == runs(sweep.results)[-1].name
    assert hidden(sweep.results) == []
    before = tree(runs(sweep.results)[0])
    again, _ = do(project)
    assert (again.done, again.skipped) == (0, 4)
    assert contents(sweep.results) == made
    assert tree(runs(sweep.results)[0]) == before


def test_a_changed_input_is_another_point(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configuration, claims, notebook and library count; what was made before is found again."""
    rewrite(project.root, grid={"number_of_companies": [2, 3]})
    do(project)
    config = project.experiments / SMOKE / "config.yaml"
    experiment = project.experiments / SMOKE / "experiment.yaml"
    notebook = project.notebooks / "experiment.ipynb"
    for path, old, new in (
        (config, "drivers_per_company: 5", "drivers_per_company: 6"),
        (config, "seed: 7", "seed: 8"),
        (experiment, "tolerance: 0.25", "tolerance: 0.2"),
        (experiment, "replicates: 2", "replicates: 3"),
        (experiment, "alpha: 0.05", "alpha: 0.01"),
        (notebook, "cells", "cells "),
    ):
        text = path.read_text()
        assert text.count(old) >= 1
        path.write_text(text.replace(old, new, 1))
        assert states(project) == [False] * 2, old
        path.write_text(text)
        assert states(project) == [True] * 2, old
    with monkeypatch.context() as changed:
        changed.setattr("fleetsim.sweep.plan.source_hash", lambda: "another version")
        assert states(project) == [False] * 2
    rewrite(project.root, title="Smoke, said otherwise")
    assert states(project) == [False] * 2


def test_an_extended_grid_keeps_what_is_finished(project: Project) -> None:
    """Only the new points run, wherever in the grid they stand."""
    do(project)
    rewrite(project.root, grid={"event_rate_per_driver": [0.5, 1.0, 2.0], **GRID}, seeds=2)
    rewrite(project.root, grid={**GRID, "event_rate_per_driver": [0.5, 1.0, 2.0]}, seeds=1)
    assert states(project) == [False, True, True, False, True, True]
    count, sweep = do(project)
    assert (count.done, count.skipped) == (2, 4)
    assert len(contents(sweep.results)) == 6


def test_fresh_runs_every_point_again(project: Project) -> None:
    """Both runs of a point stand; the newer one is the point's result."""
    rewrite(project.root, grid={"number_of_companies": [2, 3]})
    _, sweep = do(project)
    old = dict(sweep.finished)
    count, sweep = do(project, fresh=True)  # in the same second, or another
    assert (count.done, count.skipped) == (2, 0)
    assert len(runs(sweep.results)) == 4
    assert all(sweep.finished[key].name > path.name for key, path in old.items())
    assert all(content(sweep.finished[key]) == content(path) for key, path in old.items())


def test_failed_points_run_again_and_finished_ones_do_not(
    project: Project, monkeypatch: pytest.MonkeyPatch, fleetsim_cli: Cli
) -> None:
    """A failed point is told and kept with its reason, the others are done; exit code 1, then 0."""
    with monkeypatch.context() as broken:
        trials = break_generation(broken, lambda config: config.number_of_companies == 3)
        outcome = fleetsim_cli("sweep", SMOKE, "--engine", "library")
    assert outcome.code == 1
    assert len(trials) == 4
    assert "2 done, 2 failed, 0 finished before, 0 not begun" in outcome.out
    assert outcome.err.count("failed: FleetsimError: generate: broken on purpose") == 2
    results = project.root / "results"
    for folder in runs(results, "failed"):
        record = read_record(folder)
        assert record.error is not None
        assert (record.error.kind, record.error.cell) == ("FleetsimError", None)
        assert record.error.message == "generate: broken on purpose"
        assert record.provenance["engine"] == "library"
        assert "The run failed" in (folder / "experiment.md").read_text(encoding="utf-8")
        assert check_report(folder) == []
    rows = json.loads(fleetsim_cli("sweep", SMOKE, "--dry-run", "--json").out)
    assert [row["state"] for row in rows] == ["finished", "finished", "failed", "failed"]
    outcome = fleetsim_cli("sweep", SMOKE, "--engine", "library")
    assert outcome.code == 0
    assert "2 done, 0 failed, 2 finished before, 0 not begun" in outcome.out
    assert len(contents(results)) == 4
    assert (len(runs(results, "failed")), hidden(results)) == (2, [])


def test_fail_fast_begins_no_further_point(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first failure ends the sweep; what was not begun is counted."""
    trials = break_generation(monkeypatch, lambda config: config.event_rate_per_driver == 2.0)
    count, sweep = do(project, fail_fast=True)
    assert (count.done, count.failed, count.left) == (1, 1, 2)
    assert len(trials) == 2
    assert (len(sweep.finished), len(sweep.failed)) == (1, 1)


@pytest.mark.parametrize(("jobs", "fail_fast"), [(1, False), (2, False), (1, True), (2, True)])
def test_the_next_point_begins_while_a_report_is_written(
    project: Project, monkeypatch: pytest.MonkeyPatch, jobs: int, fail_fast: bool
) -> None:
    """But no more than so many at a time; and not where a failure may be the end of the sweep."""
    lock, next_began = threading.Lock(), threading.Event()
    at_work, begun, written = 0, 0, 0
    together: list[int] = []
    unfinished: list[int] = []

    def engine(job: Job, watch: Watch) -> Ending:
        nonlocal at_work, begun
        with lock:
            at_work, begun = at_work + 1, begun + 1
            together.append(at_work)
            if begun > jobs:
                next_began.set()
        ending = run_library(job, watch)
        with lock:
            at_work -= 1
        return ending

    def publish(*given: Any, **more: Any) -> Outcome:
        nonlocal written
        assert fail_fast or next_began.wait(60)
        with lock:
            unfinished.append(begun - written)
        outcome = _publish(*given, **more)
        with lock:
            written += 1
        return outcome

    monkeypatch.setattr("fleetsim.runner.run.ENGINES", {Engine.LIBRARY: engine})
    monkeypatch.setattr("fleetsim.runner.run._publish", publish)
    assert do(project, jobs=jobs, fail_fast=fail_fast)[0].done == 4
    assert begun == 4
    assert max(together) <= jobs
    assert (max(unfinished) > jobs) is not fail_fast


def test_a_limit_that_strikes_at_once_makes_a_failed_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first step: it is no interruption, and the other points run all the same."""

    class Late(Watch):
        def __enter__(self) -> Watch:
            super().__enter__()
            self._time_out()
            return self

    monkeypatch.setattr("fleetsim.sweep.worker.Watch", Late)
    count, sweep = do(project, run_timeout=1000.0, jobs=2)
    assert (count.done, count.failed, count.left) == (0, 4, 0)
    errors = [read_record(folder).error for folder in runs(sweep.results, "failed")]
    assert {error.kind for error in errors if error} == {"RunTimeout"}


def test_retries_are_made_where_asked_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A point that fails once is done by its second try; the failed run stays as evidence."""
    rewrite(project.root, grid={"event_rate_per_driver": [1.0]})
    tries = []

    def wrong(config: Any) -> bool:
        tries.append(config)
        return len(tries) < 3

    break_generation(monkeypatch, wrong)
    told: list[Outcome] = []
    count, sweep = do(project, retries=1, progress=told.append)
    assert (count.done, count.failed, len(tries)) == (0, 1, 2)
    count, sweep = do(project, retries=5, progress=told.append)
    assert (count.done, count.failed, len(tries)) == (1, 0, 3)
    assert [outcome.record.status for outcome in told] == ["failed", "completed"]
    assert (len(runs(sweep.results)), len(runs(sweep.results, "failed"))) == (1, 2)


DAMAGES = [
    b"",
    b"{",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"key": "KEY", "status": "completed"}',  # no record
    b'{"key": "KEY", "status": ["completed"]}',
    None,  # a folder
]


def test_damaged_records_are_named_and_count_for_nothing(
    project: Project, fleetsim_cli: Cli
) -> None:
    """The sweep says which records it skips, and runs these points again, and no other one."""
    rewrite(project.root, grid={"event_rate_per_driver": [1.0 + n for n in range(10)]})
    _, sweep = do(project)
    folders = [sweep.finished[point.key] for point in sweep.points]
    for point, folder, damage in zip(sweep.points, folders, DAMAGES, strict=False):
        path = folder / "result.json"
        if damage is None:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(damage.replace(b"KEY", point.key.encode()))
    outcome = fleetsim_cli("sweep", SMOKE, "--dry-run", "--json")
    assert outcome.code == 0
    for folder in folders[:-1]:
        assert f"fleetsim: skipped: {folder.name}/result.json: damaged: " in outcome.err
    found = [row["state"] for row in json.loads(outcome.out)]
    assert found == ["to do"] * 9 + ["finished"]
    count, sweep = do(project)
    assert (count.done, count.skipped) == (9, 1)
    assert os.readlink(sweep.folder / "latest") in {
        sweep.finished[point.key].name for point in sweep.points[:-1]
    }


def test_foreign_things_in_the_results_are_left_alone(project: Project) -> None:
    """A run of another schema, a stray file and a hidden folder are neither points nor trouble."""
    folder = project.root / "results" / SMOKE
    other = folder / "20200101T000000Z-00000000"
    other.mkdir(parents=True)
    (other / "result.json").write_text('{"schema": 99, "key": "x", "status": "completed"}')
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "result.json").write_text("{")
    count, sweep = do(project)
    assert (count.done, sweep.damaged) == (4, [])
    assert (folder / "notes.txt").read_text() == "mine"
    assert (other / "result.json").is_file()
    assert (folder / ".hidden").is_dir()


# ---- which points there are


def test_a_dry_run_lists_the_points_and_writes_nothing(project: Project, fleetsim_cli: Cli) -> None:
    """As a table and as JSON: number, parameters, key and state; the last axis moves fastest."""
    rewrite(project.root, seeds=2)
    outcome = fleetsim_cli("sweep", SMOKE, "--dry-run")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["run", *GRID, "seed", "state"]
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["1", "2", "1.0", "7"],
        ["2", "2", "1.0", "8"],
        ["3", "2", "2.0", "7"],
    ]
    assert len(lines) == 9
    assert all(line.endswith("to do") for line in lines[1:])
    rows = json.loads(fleetsim_cli("sweep", SMOKE, "--dry-run", "--json").out)
    assert [set(row) for row in rows] == [{"number", "parameters", "key", "state", "path"}] * 8
    assert len({row["key"] for row in rows}) == 8
    assert rows[2]["parameters"] == {
        "number_of_companies": 2,
        "event_rate_per_driver": 2.0,
        "seed": 7,
    }
    assert not (project.root / "results").exists()


def test_seeds_count_on_modulo_2_to_64(project: Project) -> None:
    """The seed after the last one is 0."""
    rewrite(project.root, grid={"seed": [2**64 - 2]}, seeds=4)
    sweep = plan_sweep(project, SMOKE)
    assert [point.seed for point in sweep.points] == [2**64 - 2, 2**64 - 1, 0, 1]
    count, sweep = do(project)
    assert count.done == 4
    assert {read_record(path).config["seed"] for path in sweep.finished.values()} == {
        point.seed for point in sweep.points
    }


@pytest.mark.parametrize(
    ("grid", "seeds", "twins"),
    [
        ({"seed": [1, 2]}, 2, "runs 2 and 3"),
        ({"seed": {"from": 0, "to": 20, "step": 5}}, 6, "runs 6 and 7"),
        ({"event_rate_per_driver": [1, 1.0]}, 1, "runs 1 and 2"),
        ({"batch_interval": ["PT60M", "PT1H"]}, 1, "runs 1 and 2"),
    ],
)
def test_a_grid_that_makes_one_run_twice_is_refused(
    project: Project, grid: dict[str, Any], seeds: int, twins: str
) -> None:
    """Seeds that overlap, and two writings of one value, are told before anything runs."""
    rewrite(project.root, grid=grid, seeds=seeds)
    with pytest.raises(InputError, match=f"{twins} are the same: .*allowed: every run once"):
        plan_sweep(project, SMOKE)


def test_an_experiment_without_a_grid_is_no_sweep(project: Project, fleetsim_cli: Cli) -> None:
    """The next step is said; seeds alone are enough for a sweep."""
    rewrite(project.root, grid=None)
    outcome = fleetsim_cli("sweep", SMOKE)
    assert outcome.code == 2
    assert "neither grid nor seeds" in outcome.err
    assert f"fleetsim run {SMOKE}" in outcome.err
    rewrite(project.root, seeds=3)
    assert [point.parameters for point in plan_sweep(project, SMOKE).points] == [
        {"seed": 7},
        {"seed": 8},
        {"seed": 9},
    ]


def test_ten_million_points_are_refused_unmade(
    project: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is told, with --yes as the next step, before a single point is made."""
    ten = {"from": 1, "to": 10, "step": 1}
    names = ("number_of_companies", "drivers_per_company", "event_rate_per_driver", "seed")
    rewrite(
        project.root, grid={**dict.fromkeys(names, ten), "repeats": [*range(10, 20)]}, seeds=100
    )
    monkeypatch.setattr(sweep_plan, "grid_points", lambda axes: pytest.fail("it made points"))
    outcome = fleetsim_cli("sweep", SMOKE)
    assert outcome.code == 2
    assert "100000 points with 100 seed(s) make 10000000 runs, more than 10000" in outcome.err
    assert "next: make the grid smaller, or say --yes" in outcome.err
    assert not (project.root / "results").exists()


def test_a_very_large_sweep_begins_when_asked_for_twice(
    project: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--yes lets it through, also a dry run."""
    monkeypatch.setattr(sweep_plan, "MANY_RUNS", 3)
    assert fleetsim_cli("sweep", SMOKE, "--dry-run").code == 2
    assert fleetsim_cli("sweep", SMOKE, "--dry-run", "--yes").code == 0
    monkeypatch.setattr(sweep_plan, "MANY_RUNS", 4)
    assert fleetsim_cli("sweep", SMOKE, "--dry-run").code == 0


def test_a_sweep_without_room_on_the_disk_is_refused(
    project: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is still to do decides; data that are not kept need room for a run at a time."""
    rewrite(project.root, grid={"number_of_companies": [10, 11, 12, 13]})  # some 230 B an event
    monkeypatch.setattr(sweep_plan, "free_bytes", lambda path: 30_000)
    outcome = fleetsim_cli("sweep", SMOKE, "--engine", "library")
    assert outcome.code == 2
    assert "needs" in outcome.err or "need" in outcome.err
    assert "GB free" in outcome.err
    assert "next: make the grid smaller, set keep_data: false, or say --yes" in outcome.err
    assert not (project.root / "results").exists()
    with monkeypatch.context() as roomy:
        roomy.setattr(sweep_plan, "free_bytes", lambda path: None)  # no limit is known
        do(project)
    assert fleetsim_cli("sweep", SMOKE, "--engine", "library").code == 0
    assert fleetsim_cli("sweep", SMOKE, "--dry-run", "--fresh").code == 2
    assert fleetsim_cli("sweep", SMOKE, "--dry-run", "--fresh", "--yes").code == 0
    rewrite(project.root, keep_data=False)
    monkeypatch.setattr(sweep_plan, "free_bytes", lambda path: 150_000)
    assert fleetsim_cli("sweep", SMOKE, "--dry-run", "--fresh").code == 0


# ---- the same content, however it is run


def test_the_order_of_runs_makes_no_difference(project: Project, tmp_path: Path) -> None:
    """One point at a time or three: the same records and the same bytes of data."""
    one, _ = do(project, results=str(tmp_path / "one"))
    three, _ = do(project, results=str(tmp_path / "three"), jobs=3)
    assert (one.done, three.done) == (4, 4)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_two_runs_with_one_content_and_two_without(project: Project) -> None:
    """The control: another seed gives another record and other bytes."""
    rewrite(project.root, grid=None, seeds=2)
    _, sweep = do(project)
    one, other = (content(path) for path in sweep.finished.values())
    assert one["tests"] != other["tests"]
    assert one["run"] != other["run"]


def test_thousands_of_runs_leave_no_descriptor_open(project: Project) -> None:
    """A process that runs many points holds no more files than before."""
    rewrite(project.root, grid={"event_rate_per_driver": [1.0]})
    do(project)
    rewrite(project.root, seeds=5)
    folder = Path("/dev/fd")
    before = len(list(folder.iterdir()))
    count, _ = do(project)
    assert count.done == 4
    assert len(list(folder.iterdir())) <= before + 1


def test_data_that_are_not_kept_are_reproduced_from_their_record(
    project: Project, fleetsim_cli: Cli
) -> None:
    """The events are gone, their record stays, and ``verify`` holds it to what it makes."""
    rewrite(project.root, grid={"number_of_companies": [3]}, keep_data=False)
    _, sweep = do(project)
    folder = sweep.finished[sweep.points[0].key]
    (batch,) = batches_below(folder)
    assert {path.name for path in batch.iterdir()} == {"batch_meta.json", "events.dropped"}
    result = verify_batch(batch)
    assert (result.findings, result.kept) == ((), False)
    record = read_record(folder)
    assert record.measurements is not None
    assert result.event_count == record.measurements.event_count
    outcome = fleetsim_cli("verify", folder)
    assert outcome.code == 0
    assert "not kept on the disk; their record fits" in outcome.out
    meta = batch / "batch_meta.json"
    text = meta.read_text()
    count = f'"event_count": {result.event_count}'
    if count not in text:
        count = count.replace(" ", "")
    meta.write_text(text.replace(count, count[: -len(str(result.event_count))] + "9999"))
    outcome = fleetsim_cli("verify", folder)
    assert outcome.code == 3
    assert "event_count is 9999, the batch has" in outcome.out
    (batch / "events.dropped").unlink()
    meta.write_text(text)
    assert fleetsim_cli("verify", folder).code == 3  # without the mark they are missing


def test_keeping_data_or_not_makes_the_same_record(project: Project, tmp_path: Path) -> None:
    """What was judged was there when it was judged."""
    rewrite(project.root, grid={"number_of_companies": [3]})
    _, kept = do(project, results=str(tmp_path / "kept"))
    rewrite(project.root, keep_data=False)
    _, dropped = do(project, results=str(tmp_path / "dropped"))
    (one,), (other,) = (contents(sweep.results).values() for sweep in (kept, dropped))
    assert one.pop("run") != other.pop("run")
    assert one == other


def test_a_run_without_a_notebook_fits_its_record(project: Project, fleetsim_cli: Cli) -> None:
    """``report --check`` asks for no notebook there, and sees a changed document."""
    rewrite(project.root, grid={"number_of_companies": [2]})
    _, sweep = do(project)
    folder = sweep.finished[sweep.points[0].key]
    assert {path.name for path in folder.iterdir()} == {
        "result.json",
        "experiment.md",
        "params.yaml",
        "data",
    }
    name = f"{SMOKE}/{folder.name}"
    assert fleetsim_cli("report", name, "--check").code == 0
    document = folder / "experiment.md"
    document.write_text(document.read_text(encoding="utf-8").replace("pass", "fail", 1))
    outcome = fleetsim_cli("report", name, "--check")
    assert outcome.code == 3
    assert "experiment.md is not what result.json gives" in outcome.out
    assert fleetsim_cli("report", name).code == 0
    assert fleetsim_cli("report", name, "--check").code == 0


def test_strict_makes_a_finding_of_a_failed_criterion(project: Project, fleetsim_cli: Cli) -> None:
    """A failed hypothesis is a result (0); with --strict it is a finding (3), each time."""
    rewrite(project.root, grid={"number_of_companies": [2]})
    path = project.experiments / SMOKE / "experiment.yaml"
    wrong = path.read_text().replace("tolerance: 0.25", "tolerance: 1.0e-09")
    path.write_text(wrong)
    outcome = fleetsim_cli("sweep", SMOKE, "--engine", "library")
    assert outcome.code == 0
    assert "completed  failed  pass  fail  inconclusive" in outcome.out
    assert fleetsim_cli("sweep", SMOKE, "--engine", "library", "--strict").code == 3
    path.write_text(wrong.replace("tolerance: 1.0e-09", "tolerance: 0.9"))
    assert fleetsim_cli("sweep", SMOKE, "--engine", "library", "--strict").code == 0


def test_the_command_line_refuses_what_makes_no_sense(project: Project, fleetsim_cli: Cli) -> None:
    """Numbers out of range, unknown engines and experiments: exit code 2, nothing is written."""
    for options in (
        ("--jobs", 0),
        ("--jobs", "x"),
        ("--engine", "cluster"),
        ("--retries", -1),
        ("--cell-timeout", 0),
        ("--run-timeout", -1),
    ):
        assert fleetsim_cli("sweep", SMOKE, *options).code == 2, options
    assert fleetsim_cli("sweep", "nowhere").code == 2
    assert not (project.root / "results").exists()


def test_a_point_whose_sources_changed_is_not_taken_for_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the experiment is edited while its sweep runs, the sweep ends and says so."""
    sweep = plan_sweep(project, SMOKE)
    rewrite(project.root, title="Another title")
    with pytest.raises(FleetsimError, match="changed while the sweep ran; run it again"):
        run_sweep(sweep, LIBRARY)
    assert hidden(sweep.results) == []


def test_a_second_sweep_waits_and_takes_over_what_the_first_completed(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """The lock is held by one; the other says that it waits, and runs no point twice."""
    late = plan_sweep(project, SMOKE)
    counts: list[Progress] = []
    waiting = threading.Thread(target=lambda: counts.append(run_sweep(late, LIBRARY)))
    early = plan_sweep(project, SMOKE)
    with sweep_lock(early):
        waiting.start()
        wait_until(
            lambda: "waiting for another sweep of this experiment" in caplog.text, "no second sweep"
        )
        for point in early.points[:3]:
            execute(project, SMOKE, point.parameters, options=RunOptions(Engine.LIBRARY))
    waiting.join()
    assert [(count.done, count.skipped) for count in counts] == [(1, 3)]
    assert len(contents(early.results)) == 4
