"""A small run of experiment 020 with real processes: every way, the record, and the report."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import by_papermill, check_files

from fleetsim.experiment.record import read_record
from fleetsim.kinds.scale_out import measure as measure_ways
from fleetsim.kinds.scale_out.measure import steps_of
from fleetsim.kinds.scale_out.plots import PLOTS
from fleetsim.kinds.scale_out.tasks import Tasks
from fleetsim.kinds.scale_out.ways import CLUSTER, WAYS, ScaleOut
from fleetsim.measure.series import Size
from fleetsim.report.run_report import check_report
from fleetsim.runner.run import Outcome

EXPERIMENT = "020-scale-out"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return a run as the notebook stands, made by plain papermill, with its report."""
    return by_papermill(tmp_path_factory.mktemp("scale-out"), EXPERIMENT, "scale_out.ipynb")


def test_a_run_leaves_everything_that_belongs_to_it(outcome: Outcome) -> None:
    """Report, notebook, document, record, parameters and figures; data and processes are gone."""
    check_files(outcome.path, PLOTS)
    assert check_report(outcome.path) == []
    assert "___" not in (outcome.path / "experiment.md").read_text(encoding="utf-8")


def test_the_record_holds_every_way(outcome: Outcome) -> None:
    """Each cold command, all with the same bytes, and what the scheduler took."""
    record = outcome.record
    found = record.section
    sizes = [Size(**row) for row in record.description.own["sizes"]]
    tasks = [Tasks(**row) for row in record.description.own["tasks"]]
    steps = steps_of(sizes, tasks)
    assert len(found.runs) == sum(step.repeats for step in steps)
    assert {run.way for run in found.runs} == set(WAYS)
    for run in found.runs:
        workers = WAYS[run.way].workers
        assert run.tasks == (run.stated_tasks or (2 if workers else 1))
        assert (run.scheduler_peak_bytes is not None) == (run.way == CLUSTER)
        if run.scheduler_peak_bytes is not None:
            assert run.scheduler_peak_bytes > 20e6
            assert 0 < run.scheduler_cpu_seconds < run.process_seconds
    again = ScaleOut(
        config=found_config(outcome.path),
        sizes=tuple(sizes),
        tasks=tuple(tasks),
        runs=tuple(found.runs),
        constants=found.constants,
    )
    assert again.rows() == found.model
    verdicts = {c.id: c.verdict for c in record.criteria}
    assert verdicts["same_bytes"] == "pass"
    assert verdicts["throughput_ratio"] == verdicts["client_memory"] == "inconclusive"


def found_config(run: Path) -> object:
    """Return the configuration of a run."""
    from fleetsim.generate.config import make_config

    return make_config(read_record(run).config, {})


def test_what_was_started_ends_with_the_context(tmp_path: Path) -> None:
    """Scheduler and workers are gone, and the scheduler's peak is known."""
    import psutil

    before = psutil.Process().children(recursive=True)  # of other tests
    with measure_ways._cluster(2, tmp_path) as (scheduler, address):
        assert address.startswith("tcp://127.0.0.1:")
        assert scheduler.cpu_seconds() > 0
        started = [p for p in psutil.Process().children(recursive=True) if p not in before]
        assert len(started) >= 6  # three launchers, each with its command
    assert scheduler.child is not None
    assert scheduler.child.peak_rss_bytes > 20e6
    _, alive = psutil.wait_procs(started, timeout=120)
    assert alive == []
    assert list(tmp_path.iterdir()) == []
