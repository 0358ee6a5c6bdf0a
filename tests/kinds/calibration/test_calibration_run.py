"""A calibration as a run: from the notebook to the published folder, and what it refuses."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from support import ROOT, by_papermill, check_files

import fleetsim
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment.record import decode_record, read_record
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import open_run, repeat_commands
from fleetsim.generate.config import load_config
from fleetsim.kinds.calibration.plots import PLOTS
from fleetsim.kinds.calibration.run import open_calibration
from fleetsim.kinds.calibration.trials import (
    BUDGET,
    calibrate,
    measure_power,
    size_table,
    uniformity_table,
)
from fleetsim.report.run_report import check_report
from fleetsim.runner.run import execute
from fleetsim.stats.controls import CONTROLS

pytestmark = pytest.mark.slow

EXPERIMENT = "003-calibration"
SMALL = {"replicates": 100, "control_seeds": 5}  # the notebook's defaults


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Return a run at the notebook's defaults, made by plain papermill, with its report."""
    return by_papermill(tmp_path_factory.mktemp("calibration"), EXPERIMENT, "calibration.ipynb")


@pytest.mark.notebook
def test_a_calibration_leaves_everything_that_belongs_to_it(outcome):
    """Report, notebook, document, record, parameters and figures; no data."""
    check_files(outcome.path, PLOTS)
    assert check_report(outcome.path) == []


@pytest.mark.notebook
def test_the_record_holds_what_the_library_finds(outcome):
    """The tables are those of the public functions on the same seeds; the run gave every number."""
    record = outcome.record
    assert record.status == "completed"
    assert record.parameters == {
        **load_experiment(Project(ROOT), EXPERIMENT).parameters,
        **SMALL,
    }
    assert (record.tests, record.measurements, record.batch_ids) == ([], None, [])
    config = load_config(ROOT / "experiments" / EXPERIMENT / "config.yaml")
    found, budget = calibrate(config, 100), BUDGET / 2  # the other half is that of many batches
    own = [row for row in record.section.rejections if row.batches == 1]
    assert own == size_table(found, budget=budget)
    laws = [row for row in record.section.uniformity if row.batches == 1]
    assert laws == uniformity_table(found, budget=budget)
    assert {row.batches for row in record.section.rejections} == {1, 8}
    assert {row.control for row in record.section.controls} == {c.name for c in CONTROLS}
    control = CONTROLS[3]
    measured = {row.test: row for row in measure_power(control, config, 5)}
    for row in record.section.controls:
        if row.control == control.name:
            assert row == measured[row.test]
    assert {c.id: c.verdict for c in record.criteria}["rejections_in_band"] == "inconclusive"


@pytest.mark.notebook
def test_a_record_survives_being_written_and_read(outcome):
    """The calibration comes back row by row, and other records are without the part."""
    again = read_record(outcome.path)
    assert again == outcome.record
    assert again.encode() == (outcome.path / "result.json").read_bytes()
    json.loads(again.encode(), parse_constant=pytest.fail)
    without = msgspec.structs.replace(again, section=msgspec.UNSET)
    assert "calibration" not in json.loads(without.encode())
    assert decode_record(without.encode()) == without


@pytest.mark.notebook
def test_the_document_holds_every_row(outcome):
    """No blank is left, and every count and power of the record stands in it."""
    text = (outcome.path / "experiment.md").read_text(encoding="utf-8")
    assert "___" not in text
    found = outcome.record.section
    for row in found.rejections:
        start = f"| {row.test} | {row.batches} | {row.level} | {row.seeds} | {row.rejected} |"
        assert start in text
    for row in found.controls:
        assert f"| {row.control} | {row.test} | {row.batches} | {row.seeds} |" in text
    assert "100 fault-free seeds, one batch of each and then 8, and 5 seeds of each control" in text
    assert "--now" not in text


def test_the_notebook_is_given_every_parameter(tmp_path, monkeypatch):
    """Its small defaults do not come into a run by the command."""
    given = {}

    def stop(*arguments, parameters, **_):
        given.update(parameters)
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", stop)
    with pytest.raises(KeyboardInterrupt):
        execute(Project(ROOT), EXPERIMENT, results=str(tmp_path))
    given.pop("results")
    assert given == load_experiment(Project(ROOT), EXPERIMENT).parameters
    assert (given["replicates"], given["control_seeds"]) == (10_000, 500)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_name_the_notebook():
    """Both ways to repeat a run are of the experiment's own notebook."""
    experiment = load_experiment(Project(ROOT), EXPERIMENT, SMALL)
    one, other = repeat_commands(experiment)
    assert one.startswith(f"fleetsim run {EXPERIMENT} -p replicates 100 -p control_seeds 5 ")
    assert other.startswith("papermill notebooks/calibration.ipynb out.ipynb -p experiment")


def test_steps_out_of_order_are_refused(tmp_path):
    """A step says which one comes before it."""
    run = open_calibration(results=str(tmp_path), workers=1)
    with pytest.raises(FleetsimError, match=r"comes after calibrate\(\)"):
        run.measure_controls()
    for step in (run.judge, lambda: run.plot("control_power")):
        with pytest.raises(FleetsimError, match=r"comes after measure_controls\(\)"):
            step()
    with pytest.raises(FleetsimError, match=r"call judge\(\) first"):
        run.finish()
    with pytest.raises(InputError, match="control_power"):
        run.plot("events_per_driver")


def test_the_other_notebooks_experiments_are_refused(tmp_path):
    """Each front door names the notebook that runs the experiment."""
    with pytest.raises(
        InputError, match=r"notebooks/experiment\.ipynb runs; allowed: one of kind calib"
    ):
        open_calibration("001-baseline", results=str(tmp_path))
    with pytest.raises(
        InputError, match=r"notebooks/calibration\.ipynb runs; allowed: one of kind baseline"
    ):
        open_run(EXPERIMENT, str(tmp_path), repeats=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "control"),
    [
        ({"event_rate_per_driver": 0}, "negative_binomial_counts"),
        ({"number_of_companies": 1, "drivers_per_company": 1}, "negative_binomial_counts"),
        ({"batch_interval": "PT0.00001S"}, "busy_spells"),
    ],
)
def test_a_configuration_without_room_for_a_control_is_refused(
    tmp_path, monkeypatch, parameters, control
):
    """Where nothing is there to spoil: one error names the controls, and no kernel starts."""
    monkeypatch.setattr("papermill.execute_notebook", lambda *a, **k: pytest.fail("a kernel ran"))
    message = f"parameters.*no room for the control {control}"
    with pytest.raises(InputError, match=re.compile(message, re.DOTALL)):
        execute(Project(ROOT), EXPERIMENT, parameters, results=str(tmp_path))
    with pytest.raises(InputError, match=f"no room for the control {control}"):
        open_calibration(results=str(tmp_path), **parameters)
    assert list(tmp_path.iterdir()) == []


def test_the_front_door_opens_a_calibration():
    """``fleetsim.open_calibration`` is what the notebook calls."""
    assert fleetsim.open_calibration is open_calibration
