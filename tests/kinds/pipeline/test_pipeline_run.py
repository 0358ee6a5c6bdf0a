"""A whole run on a pipeline: by the command, by papermill, and as a sweep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from bench import CONFIG, ZOO
from support import check_files, copy_project, papermill_in
from sweeps import LIBRARY

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.base.yaml12 import load_yaml
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import find_run
from fleetsim.kinds.pipeline.plots import PLOTS
from fleetsim.kinds.pipeline.run import open_pipeline
from fleetsim.report.run_report import check_report, render_report
from fleetsim.runner.run import Outcome, execute
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.results import sweep_results
from fleetsim.sweep.run import run_sweep

pytestmark = pytest.mark.slow

EXPERIMENT = "031-ingest-first-try"
OWN_FILES = ("outcome.parquet", "outcomes", "evidence", "data")


def project_of(root: Path, fault: str, **keys: object) -> Project:
    """Return a project with one small experiment, whose pipeline has one fault."""
    copy_project(root, f"experiments/{EXPERIMENT}", "notebooks")
    folder = root / "experiments" / EXPERIMENT
    shutil.copyfile(ZOO, folder / "ingest.py")
    path = folder / "experiment.yaml"
    values = load_yaml(path.read_text(encoding="utf-8")) | {
        "deliveries": [0, 1],
        "variants": {
            "reordered": [1, 0],
            "again": [0, 1, 1],
            "half": [{"batch": 0, "as": "cut"}, 0, 1],
        },
        "pipeline": {"command": ["python", "ingest.py", fault]},
        "repeats": 2,
        "kills": {"changes": 1, "times": 1},
        **keys,
    }
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    config = CONFIG | {"seed": 5, "number_of_companies": 4}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return Project(root)


def verdicts(outcome: Outcome) -> dict[str, str]:
    """Return the verdicts of what is counted, by criterion."""
    timed = ("time", "memory")
    return {c.id: str(c.verdict) for c in outcome.record.criteria if c.id not in timed}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a project whose pipeline keeps duplicates."""
    return project_of(tmp_path_factory.mktemp("pipeline"), "keeps_duplicates")


@pytest.fixture(scope="module")
def outcome(project):
    """Return a run by the command."""
    return execute(project, EXPERIMENT)


@pytest.mark.notebook
def test_a_run_leaves_everything_that_belongs_to_it(outcome):
    """Report, notebook, document, record, figures, outcomes and what the pipeline printed."""
    there = {path.name for path in outcome.path.iterdir()}
    check_files(outcome.path, PLOTS, *there & set(OWN_FILES))
    assert {"outcome.parquet", "outcomes"} <= there
    assert not (outcome.path / "trials").exists()
    assert check_report(outcome.path) == []


@pytest.mark.notebook
def test_the_verdicts_name_the_one_fault(outcome):
    """Two lines of equal bytes are both accepted; all else is as it should be."""
    assert outcome.record.status == "completed"
    found = verdicts(outcome)
    assert [name for name, verdict in found.items() if verdict != "pass"] == ["duplicated"]
    assert found["duplicated"] == "fail"
    section = outcome.record.section
    assert section.reconciliation.duplicated > 0
    assert f"{section.reconciliation.duplicated} are accepted more than once" in (
        outcome.record.answer.text
    )
    assert section.notes == []
    assert len(section.costs) == 2
    assert {start.trial for start in section.starts} >= {"reference", "again", "repeat-2"}
    assert all(kill.struck and not kill.fatal for kill in section.kills if kill.how == "change")


@pytest.mark.notebook
def test_the_record_survives_being_written_and_read(outcome):
    """Every start, variant, kill and line comes back."""
    again = read_record(outcome.path)
    assert again == outcome.record
    assert again.encode() == (outcome.path / "result.json").read_bytes()
    json.loads(again.encode(), parse_constant=pytest.fail)


@pytest.mark.notebook
def test_document_and_report_have_the_answer(outcome):
    """No blank is left; the answer is the document's Pass/Fail, and leads the report."""
    text = (outcome.path / "experiment.md").read_text(encoding="utf-8")
    assert "___" not in text
    results = text[text.index("## Results") :]
    assert f"- **Pass/Fail**: {outcome.record.answer} (" in results
    assert "duplicate" in results
    html = (outcome.path / "report.html").read_text(encoding="utf-8")
    assert html.index(outcome.record.answer.text) < html.index('<h2 id="verdicts">')


@pytest.mark.notebook
def test_plain_papermill_gives_the_same_verdicts(outcome, project, tmp_path):
    """And the same account of every line."""
    image = tmp_path / "app"
    shutil.copytree(project.root, image, ignore=shutil.ignore_patterns("results"))
    results = str(tmp_path / "results")
    out = papermill_in(image, "pipeline.ipynb", experiment=EXPERIMENT, results=results)
    run = find_run(Project(image), EXPERIMENT, results)
    render_report(run, out)
    other = Outcome(run, read_record(run))
    assert verdicts(other) == verdicts(outcome)
    one, two = (x.record.section for x in (outcome, other))
    assert two.reconciliation == one.reconciliation
    assert two.variants == one.variants
    assert check_report(run) == []


def test_a_factor_of_the_defects_is_swept(tmp_path):
    """Without defects there is nothing that must be refused, and nothing twice."""
    keys = {"grid": {"defect_factor": [0, 1]}, "kills": None, "repeats": 1}
    project = project_of(tmp_path, "keeps_duplicates", **keys)
    path = project.experiments / EXPERIMENT / "experiment.yaml"
    values = load_yaml(path.read_text(encoding="utf-8"))
    values = {key: value for key, value in values.items() if value is not None}
    values["criteria"] = [c for c in values["criteria"] if c["id"] in ("lost", "duplicated")]
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    sweep = plan_sweep(project, EXPERIMENT)
    run_sweep(sweep, LIBRARY)
    runs = sweep_results(plan_sweep(project, EXPERIMENT)).runs
    records = {run.record.parameters["defect_factor"]: run.record for run in runs}
    assert sorted(records) == [0, 1]
    assert {c.id: str(c.verdict) for c in records[0].criteria} == {
        "lost": "pass",
        "duplicated": "pass",
    }
    assert str(records[1].criterion("duplicated").verdict) == "fail"
    assert set(records[0].section.reconciliation.matrix) == {"clean"}
    assert records[0].section.reconciliation.must_reject == {}


def test_steps_out_of_order_are_refused(tmp_path, monkeypatch):
    """A step says which one comes before it; nothing is written before a wrong command."""
    project = project_of(tmp_path, "honest")
    monkeypatch.setenv("FLEETSIM_ROOT", str(project.root))
    run = open_pipeline(EXPERIMENT)
    with pytest.raises(FleetsimError, match=r"comes after generate\(\)"):
        run.deliver()
    with pytest.raises(FleetsimError, match=r"comes after generate\(\)"):
        run.vary()
    with pytest.raises(FleetsimError, match=r"call judge\(\) first"):
        run.finish()


def test_a_command_that_is_not_there_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    """With exit code 2."""
    project = project_of(tmp_path, "honest", pipeline={"command": ["no-such-program"]})
    monkeypatch.setenv("FLEETSIM_ROOT", str(project.root))
    with pytest.raises(InputError, match="which is not there") as error:
        open_pipeline(EXPERIMENT, results=str(tmp_path / "results"))
    assert error.value.exit_code == 2
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").rglob("*.json"))
