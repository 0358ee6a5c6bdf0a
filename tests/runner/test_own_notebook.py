"""A user's own notebook: a copy of a kind's, with cells changed and added, and its parameters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support import ROOT, Cli
from sweeps import QUICK, SMOKE, found_project, generate_here, rewrite

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project
from fleetsim.experiment.kind import kinds
from fleetsim.experiment.notebook import own_parameters, parameters_of, take_parameters
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import Engine
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import open_run, repeat_commands
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import SweepOptions

pytestmark = pytest.mark.slow

OWN = "mine.ipynb"
#: What is added to the cell of parameters; only the first two are parameters.
DECLARED = '\nthreshold: float = 0.5\nlabel = "mine"\nnothing = None\nsquare = 3 * 3\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project whose experiment is run by a copy of the usual notebook, with more cells."""
    found = found_project(tmp_path, monkeypatch, seeds=1, grid={"number_of_companies": [2]})
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    rewrite(tmp_path, notebook=OWN)
    notebook = nbformat.read(found.notebooks / "experiment.ipynb", as_version=4)
    keep = ("title", "parameters", "open", "generate", "inspect", "test", "judge", "finish")
    notebook.cells = [cell for cell in notebook.cells if cell.id in keep]
    notebook.cells[0].source = "# Mine"
    notebook.cells[1].source += DECLARED
    notebook.cells[3:3] = [nbformat.v4.new_code_cell(QUICK)]
    notebook.cells[-1:-1] = [
        nbformat.v4.new_markdown_cell("## What I wanted to know"),
        nbformat.v4.new_code_cell('print(f"{label}: beyond {threshold:g}:", square > threshold)'),
    ]
    nbformat.write(notebook, found.notebooks / OWN)
    return found


def check_run(run: Path, **parameters: Any) -> None:
    """Hold a run to the notebook that made it: the report, the record, and how to repeat it."""
    record = read_record(run)
    assert record.status == "completed"
    assert record.description.notebook == OWN
    assert {name: record.parameters[name] for name in parameters} == parameters
    assert not {"nothing", "square"} & record.parameters.keys()
    first, second = record.provenance["commands"]
    for name, value in parameters.items():
        assert f"-p {name} {value}" in first
        assert f"-p {name} {value}" in second
    assert second.startswith(f"papermill notebooks/{OWN} ")
    report = (run / "report.html").read_text()
    assert "What I wanted to know" in report
    assert f"{parameters['label']}: beyond {parameters['threshold']:g}: True" in report


@pytest.mark.notebook
def test_an_own_notebook_is_run_by_every_way(
    project: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By fleetsim run, by a sweep of each engine, and by plain papermill with a report after it."""
    done = fleetsim_cli("run", SMOKE, "-p", "threshold", "0.25", "-p", "number_of_companies", "3")
    assert done.code == 0, done.err
    latest = project.root / "results" / SMOKE / "latest"
    check_run(latest.resolve(), threshold=0.25, label="mine", number_of_companies=3)

    for engine in Engine:  # the kernel of the notebook sees nothing of the patch
        monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
        sweep = plan_sweep(project, SMOKE, results=engine)
        assert run_sweep(sweep, SweepOptions(engine=engine)).done == 1
    swept, plain = (project.root / e / SMOKE / "latest" for e in ("notebook", "library"))
    check_run(swept.resolve(), threshold=0.5, label="mine", number_of_companies=2)
    assert read_record(plain).key == read_record(swept).key
    assert not (plain / "report.html").exists()

    command = f"papermill notebooks/{OWN} out.ipynb -p experiment {SMOKE} -p label other"
    subprocess.run(
        [sys.executable, "-m", *command.split(), "--no-progress-bar"],
        cwd=project.root,
        check=True,
        capture_output=True,
    )
    done = fleetsim_cli("report", SMOKE, "--notebook", project.root / "out.ipynb")
    assert done.code == 0, done.err
    check_run(latest.resolve(), threshold=0.5, label="other", number_of_companies=20)


def test_the_parameters_of_an_own_notebook_are_read_from_its_cell(project: Project) -> None:
    """Plain values alone: what is calculated there is a variable, and None has no type."""
    own = own_parameters(project.notebooks / OWN, parameters_of("experiment.ipynb"))
    assert [(p.name, p.type, p.default) for p in own] == [
        ("threshold", float, 0.5),
        ("label", str, "mine"),
    ]
    loaded = load_experiment(project, SMOKE, {"threshold": 1})
    assert loaded.parameters["threshold"] == 1.0
    assert "-p threshold 1.0 -p label mine" in repeat_commands(loaded)[0]
    plain = project.notebooks / "experiment.ipynb"
    assert own_parameters(plain, parameters_of("experiment.ipynb")) == ()
    assert own_parameters(project.notebooks / "none.ipynb", {}) == ()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("threshold", "high", "threshold: found 'high'; allowed: a number"),
        ("label", 5, "label: found 5; allowed: text"),
        ("treshold", 1, "treshold: no such parameter (did you mean threshold?)"),
        ("square", 1, "square: no such parameter"),
    ],
)
def test_a_wrong_own_parameter_is_refused_before_a_kernel_starts(
    name: str, value: object, said: str, project: Project, fleetsim_cli: Cli
) -> None:
    """As a parameter of the kind is."""
    done = fleetsim_cli("run", SMOKE, "-p", name, value)
    assert done.code == 2
    assert said in done.err
    assert "threshold float" in fleetsim_cli("run", SMOKE, "--help").out


def session(*cells: str, **values: Any) -> dict[str, Any]:
    """Return the namespace of a notebook that ran these cells."""
    known: dict[str, Any] = dict.fromkeys(parameters_of("experiment.ipynb"))
    return {**known, "In": ["", *cells], **values}


CELL = "experiment = '000-smoke'\nthreshold = 0.5"


def test_own_parameters_are_handed_on() -> None:
    """Those of the notebook's own cell, set by papermill or not; papermill's others are refused."""
    named = session(CELL, "# Parameters\nthreshold = 0.7\n", threshold=0.7)
    assert take_parameters("experiment.ipynb", named)["threshold"] == 0.7
    assert take_parameters("experiment.ipynb", session(CELL, threshold=0.5))["threshold"] == 0.5
    with pytest.raises(InputError, match="treshold: no such parameter"):
        take_parameters("experiment.ipynb", session(CELL, "# Parameters\ntreshold = 1\n"))
    with pytest.raises(InputError, match="workers: taken by open_run"):
        take_parameters("experiment.ipynb", session(f"{CELL}\nworkers = 3", threshold=1, workers=3))


def test_a_notebook_that_the_experiment_does_not_name_is_refused(project: Project) -> None:
    """The record would name another notebook than the one that made the run."""
    rewrite(project.root, notebook=None)
    with pytest.raises(InputError) as error:
        open_run(SMOKE, threshold=0.7)
    assert error.value.faults[0].startswith("threshold: no such parameter; allowed: repeats")
    assert error.value.next_step is not None
    assert "name that one by notebook: in experiment.yaml" in error.value.next_step
    assert "000-smoke has experiment.ipynb" in error.value.next_step


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine", "(did you mean mine.ipynb?); allowed: the name of a file in notebooks/ that ends"),
        (
            "../notebooks/mine.ipynb",
            "allowed: the name of a file in notebooks/ that ends in .ipynb",
        ),
        ("notebooks/mine.ipynb", "experiment.ipynb"),
        ("..", "allowed: the name of a file"),
        ("sweep.ipynb", "which runs no experiment"),
        ("scaling.ipynb", "which runs experiments of kind scaling, this is one of kind baseline"),
    ],
)
def test_the_name_of_a_notebook_is_a_plain_one(name: str, said: str, project: Project) -> None:
    """It is a file in notebooks/, and one that can run this kind."""
    rewrite(project.root, notebook=name, kind="baseline")
    with pytest.raises(InputError) as error:
        load_experiment(project, SMOKE)
    (fault,) = error.value.faults
    assert fault.startswith(f"notebook: found {name!r}")
    assert said in fault


def test_the_kind_of_an_old_experiment_follows_from_its_notebook(project: Project) -> None:
    """A copy says nothing of its kind: without `kind:` it is the default one."""
    assert load_experiment(project, SMOKE).kind is kinds()["baseline"]
    rewrite(project.root, notebook="calibration.ipynb")
    with pytest.raises(InputError) as error:  # and it is held to the keys of that kind
        load_experiment(project, SMOKE)
    assert any("this is one of kind calibration" in fault for fault in error.value.faults)


def test_a_record_of_before_there_were_kinds_has_that_of_its_notebook(project: Project) -> None:
    """Its description names the notebook alone."""
    run = open_run(SMOKE, threshold=0.7)
    data = json.loads(run._record.encode())
    for name in ("kind", "notebook"):
        data["description"].pop(name, None)
    folder = project.root / "old"
    folder.mkdir()
    for notebook, kind in (("calibration.ipynb", "calibration"), ("", "baseline")):
        if notebook:
            data["description"]["notebook"] = notebook
        else:
            data["description"].pop("notebook", None)
        (folder / "result.json").write_text(json.dumps(data))
        assert read_record(folder).description.kind == kind
