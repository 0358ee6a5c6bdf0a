"""Experiment 020 as data, and what a run refuses; no test here needs Dask."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support import ROOT, copy_project, faults_of

import fleetsim
from fleetsim.base import cluster
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import repeat_commands, run_key
from fleetsim.generate.streams import BLOCK
from fleetsim.kinds.scale_out.measure import config_of_tasks
from fleetsim.kinds.scale_out.plots import PLOTS
from fleetsim.kinds.scale_out.run import ScaleOutRun, open_scale_out
from fleetsim.measure import series

EXPERIMENT = "020-scale-out"


@pytest.fixture
def without_dask(monkeypatch):
    """Let Dask seem not to be installed."""
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def with_dask(monkeypatch):
    """Let Dask seem to be installed, for what comes before it is used."""
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: object())


def test_the_experiment_covers_what_it_claims():
    """Up to fifty million events, and from one task to a thousand."""
    experiment = load_experiment(Project(ROOT), EXPERIMENT)
    assert experiment.keys.measured == experiment.keys.sizes
    assert experiment.keys.measured_tasks == experiment.keys.tasks
    assert experiment.keys.sizes[-1].events == 50_000_000
    assert [row.tasks for row in experiment.keys.tasks] == [1, 16, 128, 1024]
    assert len(experiment.keys.sizes) >= 3
    assert experiment.config == series.config_of_size(experiment.config, experiment.keys.sizes[-1])


def test_a_smaller_largest_size_is_a_parameter():
    """Sizes above it are left out, and tasks of more drivers; the claims stay."""
    whole = load_experiment(Project(ROOT), EXPERIMENT)
    part = load_experiment(Project(ROOT), EXPERIMENT, {"largest_events": np.int64(20_000)})
    assert [size.events for size in part.keys.measured] == [20_000]
    assert [row.tasks for row in part.keys.measured_tasks] == [1, 16]
    assert (part.keys.sizes, part.keys.tasks, part.criteria) == (
        whole.keys.sizes,
        whole.keys.tasks,
        whole.criteria,
    )
    assert set(part.parameters) - {"experiment"} == set(kinds()["scale_out"].run_parameters)
    project = Project(ROOT)
    assert run_key(project, part) != run_key(project, whole)
    one, other = repeat_commands(part)
    assert one.startswith(f"fleetsim run {EXPERIMENT} -p largest_events 20000 ")
    assert other.startswith("papermill notebooks/scale_out.ipynb out.ipynb -p experiment")


def test_every_task_is_a_block_of_drivers():
    """However many there are, with few events each."""
    experiment = load_experiment(Project(ROOT), EXPERIMENT)
    for row in experiment.keys.tasks:
        config = config_of_tasks(experiment.config, row)
        drivers = config.number_of_companies * config.drivers_per_company
        assert -(-drivers // BLOCK) == row.tasks
        assert config.event_rate_per_driver < 0.1


def test_without_the_extra_nothing_begins(tmp_path, without_dask):
    """One clear error that says what to install, before anything is written."""
    with pytest.raises(InputError, match="Dask is an extra that is not installed") as error:
        open_scale_out(results=str(tmp_path), largest_events=20_000)
    assert error.value.where == "scale_out.ipynb"
    assert "fleetsim[cluster]" in str(error.value.next_step)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_notebook_asks_for_the_extra_too(tmp_path, without_dask):
    """The engine `library` goes by the steps alone."""
    experiment = load_experiment(Project(ROOT), EXPERIMENT, {"largest_events": 20_000})
    run = ScaleOutRun(Project(ROOT), experiment, tmp_path)
    with pytest.raises(InputError, match="Dask is an extra"):
        run.measure()


def test_the_check_needs_no_extra(fleetsim_cli, without_dask):
    """Only what runs does."""
    done = fleetsim_cli("check", EXPERIMENT)
    assert done.code == 0
    assert "Nothing contradicts." in done.out


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"largest_events": 999}, "largest_events: found 999; allowed: a whole number from 20000"),
        (
            {"largest_events": 20_000, "number_of_companies": 5},
            "number_of_companies: found 5; it follows from the sizes, 20 for the largest",
        ),
        ({"event_rate_per_driver": 0}, "sizes: no event is expected of any company"),
        ({"repeats": 10}, "repeats: no such parameter"),
    ],
)
def test_wrong_parameters_are_refused(tmp_path, with_dask, parameters, words):
    """Before anything is written, with what is allowed."""
    with pytest.raises(InputError, match=re.escape(words)):
        open_scale_out(results=str(tmp_path), **parameters)
    assert list(tmp_path.iterdir()) == []


def test_no_room_is_refused_before_anything_is_written(tmp_path, with_dask, monkeypatch):
    """The largest batch needs its place in the results."""
    monkeypatch.setattr(series, "free_bytes", lambda _: 12_000_000_000)
    with pytest.raises(InputError, match=r"50000000 events, needs 1\d\.?\d* GB"):
        open_scale_out(results=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("tasks: 16,", "tasks: 1,"), "tasks: found 1 after 1; allowed: larger and larger numbers"),
        (("tasks: 16,", "tasks: 0,"), "tasks[2].tasks: found 0; allowed: a whole number from 1"),
        (("tasks: 16, repeats: 2", "tasks: 16"), "tasks[2].repeats: missing; allowed: a whole nu"),
        (("{tasks: 16, repeats: 2}", "16"), "tasks[2]: found 16; allowed: tasks and repeats"),
        (("interval: 2025-11-08T12:00:00Z", "interval: now"), "interval: found 'now'; allowed: a"),
        (("largest_events: 50000000\n", ""), "largest_events: missing; allowed: a whole number"),
        (("    low: 0.8\n", ""), "criteria[throughput_ratio].low: missing; a criterion of kind"),
        (
            ("kind: same_bytes", "kind: same_content"),
            "criteria[same_bytes].kind: found 'same_content', of another kind of experiment; al",
        ),
        (
            ("kind: scale_out", "kind: scaling"),
            "tasks: found [{'tasks': 1, 'repeats': 3}, ",
        ),
    ],
)
def test_a_fault_of_the_experiment_is_named(tmp_path, change, words):
    """One wrong thing in the file gives one sentence."""
    copy_project(tmp_path, "experiments")
    faults = faults_of(Project(tmp_path), EXPERIMENT, change)
    assert [fault for fault in faults if fault.startswith(words)], faults


def test_steps_out_of_order_are_refused(tmp_path, with_dask):
    """A step says which one comes before it."""
    run = open_scale_out(results=str(tmp_path), largest_events=20_000)
    name = next(iter(PLOTS))
    for step in (run.laws, run.plan, run.judge, lambda: run.plot(name)):
        with pytest.raises(FleetsimError, match=r"comes after measure\(\)"):
            step()
    with pytest.raises(FleetsimError, match=r"call judge\(\) first"):
        run.finish()


def test_the_front_door_opens_a_run():
    """``fleetsim.open_scale_out`` is what the notebook calls."""
    assert fleetsim.open_scale_out is open_scale_out
