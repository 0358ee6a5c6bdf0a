"""Runs, from the notebook to the published folder, and what happens when one fails."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from getpass import getuser
from pathlib import Path

import nbformat
import pytest
from support import ROOT, check_files, copy_project, image_of, papermill_in, wait_until
from sweeps import found_project, generate_here

import fleetsim
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import find_run
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import open_run, run_key
from fleetsim.kinds.baseline.plots import PLOTS
from fleetsim.kinds.baseline.run import Run
from fleetsim.report.run_report import check_report, render_report
from fleetsim.runner.run import execute

SMOKE = "000-smoke"


@pytest.fixture(scope="module")
def project():
    """Return this repository's project."""
    return Project(ROOT)


@pytest.fixture(scope="module")
def outcome(project, tmp_path_factory):
    """Return one run of the smoke experiment, made by papermill."""
    results = tmp_path_factory.mktemp("results")
    return execute(project, SMOKE, {"seed": 9}, results=str(results))


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Let 000-smoke be at a fixed time, and its data be made in this process."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    found_project(tmp_path / "project", monkeypatch)


def library_run(results, **parameters):
    """Run the smoke experiment by the library alone; return its folder."""
    run = open_run(SMOKE, results=str(results), replicates=10, **parameters)
    for step in (run.generate, run.inspect, run.test, run.judge):
        step()
    run.finish(engine="library")  # which draws nothing
    return run.final


@pytest.fixture
def broken_project(tmp_path, monkeypatch):
    """Return a function that makes a project whose notebook has another first working cell."""

    def make(source):
        copy_project(tmp_path)
        path = tmp_path / "notebooks" / "experiment.ipynb"
        notebook = nbformat.read(path, as_version=4)
        cell = next(cell for cell in notebook.cells if cell.id == "generate")
        cell.source = source
        nbformat.write(notebook, path)
        monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))
        return Project(tmp_path)

    return make


@pytest.mark.notebook
def test_a_run_leaves_everything_that_belongs_to_it(outcome):
    """Report, notebook, document, record, parameters, figures and data stand in the folder."""
    check_files(outcome.path, PLOTS, "data")
    assert (outcome.path / "data" / "raw" / "companies.jsonl").is_file()
    batch = outcome.path / "data" / "raw" / "events" / outcome.record.batch_ids[0]
    assert (batch / "events.jsonl").is_file()
    latest = outcome.path.parent / "latest"
    assert os.readlink(latest) == outcome.path.name
    assert sorted(path.name for path in outcome.path.parent.parent.iterdir()) == [
        SMOKE,
        "index.html",
    ]


@pytest.mark.notebook
def test_the_record_has_the_keys_of_the_contract(outcome):
    """``result.json`` is strict JSON with the agreed keys."""
    text = (outcome.path / "result.json").read_text(encoding="utf-8")
    record = json.loads(text, parse_constant=pytest.fail)
    assert {
        "schema",
        "experiment",
        "run_id",
        "key",
        "status",
        "error",
        "started",
        "finished",
        "parameters",
        "config",
        "criteria",
        "tests",
        "measurements",
        "provenance",
    } <= set(record)
    assert record["status"] == "completed"
    assert record["error"] is None
    assert record["parameters"]["seed"] == record["config"]["seed"] == 9
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", record["run_id"])
    assert record["run_id"].endswith(record["key"][:8])
    assert {"id", "title", "stated", "low", "high", "observed", "unit", "verdict", "a_priori"} <= (
        set(record["criteria"][0])
    )
    assert len(record["measurements"]["generation_seconds"]) == record["parameters"]["repeats"]


@pytest.mark.notebook
def test_a_run_names_no_host_user_or_absolute_path(outcome):
    """Nothing that is handed on tells where it was made."""
    words = [str(ROOT), str(outcome.path.parent.parent), str(Path.home()), sys.prefix, "/tmp/"]
    host = socket.gethostname()
    for path in outcome.path.rglob("*"):
        if path.suffix in {".json", ".md", ".yaml", ".html", ".ipynb", ".svg", ".jsonl"}:
            # Pictures are base64 text, in which any short word may stand by chance.
            text = re.sub(r"[A-Za-z0-9+/=\\n]{200,}", "", path.read_text(encoding="utf-8"))
            assert [word for word in words if word in text] == [], path.name
            assert not re.search(rf"\b{re.escape(host)}\b", text), path.name
            if getuser() != "root":
                assert getuser() not in text, path.name


@pytest.mark.notebook
def test_the_report_loads_nothing(outcome):
    """The page has no script, and refers to nothing outside itself."""
    html = (outcome.path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html
    assert "default-src 'none'" in html
    assert not re.search(r"src=\"(?!data:)", html)
    links = re.findall(r"href=\"(?!data:|#)([^\"]*)", html)  # to what stands beside the page
    assert not [link for link in links if ":" in link or link.startswith("/")]
    assert html.count("<h1") == 1
    assert "9 pass, 0 fail, 0 inconclusive" in html


@pytest.mark.notebook
def test_the_report_fits_its_record_until_one_is_changed(outcome, tmp_path):
    """``report --check`` names each file that no longer fits; making it anew mends that."""
    folder = tmp_path / "run"
    shutil.copytree(outcome.path, folder)
    assert check_report(folder) == []
    for name in ("experiment.md", "report.html"):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("9 pass", "8 pass"), encoding="utf-8")
        assert [finding.split()[0] for finding in check_report(folder)] == [name]
        path.write_text(text, encoding="utf-8")
    record = (folder / "result.json").read_text(encoding="utf-8")
    (folder / "result.json").write_text(record.replace('"pass"', '"fail"', 1), encoding="utf-8")
    found = [finding.split()[0] for finding in check_report(folder)]
    assert found == ["experiment.md", "report.ipynb", "report.html"]
    render_report(folder)
    assert check_report(folder) == []


@pytest.mark.notebook
def test_papermill_alone_makes_the_same_run(outcome, tmp_path):
    """The notebook under the plain papermill command writes the run; the report is added later."""
    image = image_of(tmp_path / "app")
    out = papermill_in(image, "experiment.ipynb", seed=9, results=tmp_path / "results")
    folder = find_run(Project(ROOT), SMOKE, str(tmp_path / "results"))
    assert not (folder / "report.html").exists()
    render_report(folder, out)
    assert check_report(folder) == []
    mine, other = (json.loads((p / "result.json").read_text()) for p in (folder, outcome.path))
    assert same_but_for_measurements(mine) == same_but_for_measurements(other)


def same_but_for_measurements(record):
    """Return a record without what may differ between two runs of one seed."""
    kept = dict(record)
    for name in ("measurements", "started", "finished", "run_id", "provenance", "batch_ids"):
        kept.pop(name)
    measured = {"generation_time", "memory_peak", "generation_time_variation", "batch_directory"}
    kept["answer"] = kept["answer"]["verdict"]
    kept["criteria"] = [
        {
            k: v
            for k, v in c.items()
            if c["id"] not in measured or k not in ("observed", "note", "brief")
        }
        for c in kept["criteria"]
    ]
    return kept


def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(tmp_path, quick):
    """Records agree but for what was measured; another seed gives another count."""
    first, again = (
        json.loads((library_run(tmp_path / name, seed=5) / "result.json").read_text())
        for name in ("a", "b")
    )
    assert first["key"] == again["key"]
    assert same_but_for_measurements(first) == same_but_for_measurements(again)
    other = json.loads((library_run(tmp_path / "c", seed=6) / "result.json").read_text())
    assert other["key"] != first["key"]
    assert other["tests"][0]["statistic"] != first["tests"][0]["statistic"]


def test_the_key_depends_on_parameters(project):
    """Another value of any parameter gives another key; the same values give the same one."""
    keys = {
        run_key(project, load_experiment(project, SMOKE, parameters))
        for parameters in ({}, {"seed": 1}, {"repeats": 11}, {"batch_interval": "PT5M"})
    }
    assert len(keys) == 4
    assert run_key(project, load_experiment(project, SMOKE)) in keys


def test_steps_out_of_order_are_refused(tmp_path):
    """A step says which one comes before it, and an unfinished run is not published."""
    run = open_run(SMOKE, str(tmp_path))
    with pytest.raises(FleetsimError, match=r"comes after generate\(\)"):
        run.inspect()
    with pytest.raises(FleetsimError, match=r"call judge\(\) first"):
        run.finish()
    assert not list(tmp_path.glob(f"{SMOKE}/[!.]*"))


def test_what_a_dead_run_left_is_cleared_and_a_living_one_is_not(tmp_path):
    """The next run removes hidden folders whose process is gone, and only these."""
    left = tmp_path / SMOKE / ".20200101T000000Z-00000000.partial"
    left.mkdir(parents=True)
    living = open_run(SMOKE, str(tmp_path), seed=1)
    assert not left.exists()
    open_run(SMOKE, str(tmp_path), seed=2)
    assert living.folder.is_dir()


def test_a_run_of_the_same_name_is_never_overwritten(tmp_path, quick):
    """Two runs of the same inputs in the same second: the second is refused, the first stays."""
    folder = library_run(tmp_path, seed=3)
    before = (folder / "result.json").read_bytes()
    run = open_run(SMOKE, str(tmp_path), replicates=10, seed=3)
    run.final = folder
    for step in (run.generate, run.inspect, run.test, run.judge):
        step()
    with pytest.raises(FleetsimError, match="stands already"):
        run.finish(engine="library")
    assert (folder / "result.json").read_bytes() == before


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("raise RuntimeError('broken on purpose')", "RuntimeError"),
        ("import os\nos.kill(os.getpid(), 9)", "DeadKernelError"),
    ],
)
def test_a_run_that_breaks_is_recorded_as_failed(broken_project, tmp_path, source, kind):
    """Status, error and the partial notebook are kept; `latest` does not point there."""
    project = broken_project(source)
    outcome = execute(project, SMOKE, results=str(tmp_path / "results"))
    record = read_record(outcome.path)
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.kind == kind
    assert record.measurements is None
    assert (outcome.path / "report.ipynb").is_file()
    assert "The run failed" in (outcome.path / "report.html").read_text(encoding="utf-8")
    assert "The run failed" in (outcome.path / "experiment.md").read_text(encoding="utf-8")
    assert not (outcome.path.parent / "latest").exists()
    assert check_report(outcome.path) == []
    with pytest.raises(InputError, match="an experiment with a completed run"):
        find_run(project, SMOKE, str(tmp_path / "results"))


@pytest.mark.notebook
def test_an_interrupted_run_leaves_nothing(tmp_path):
    """SIGTERM ends the command with 143; no folder of the run stays, hidden or not."""
    command = [sys.executable, "-m", "fleetsim", "run", SMOKE, "--results", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_until(lambda: list(tmp_path.glob(f".*/{SMOKE}/.*/data")), "no data")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143
    lines = err.decode().splitlines()
    assert lines[-1] == "fleetsim: terminated"
    assert all(line.startswith("fleetsim: ") for line in lines)  # on a busy machine of progress
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"seeed": 1}, "did you mean seed"),
        ({"a=1;import os": 5}, "is not a name"),
        ({"seed": "seven"}, "found 'seven'"),
        ({"seed": True}, "found True"),
        ({"repeats": 3}, "from 10"),
        ({"batch_interval": "PT0S"}, "above zero"),
    ],
)
def test_wrong_parameters_start_no_kernel(project, tmp_path, monkeypatch, parameters, message):
    """Names and types are refused before papermill is called, and nothing is written."""
    monkeypatch.setattr("papermill.execute_notebook", lambda *a, **k: pytest.fail("a kernel ran"))
    with pytest.raises(InputError, match=message):
        execute(project, SMOKE, parameters, results=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_parameter_that_the_notebook_does_not_declare_is_refused(broken_project, tmp_path):
    """A notebook without a parameter is not run with it."""
    project = broken_project("run.generate()")
    path = project.notebooks / "experiment.ipynb"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'\s+"seed: int = None[^\n]*\n', "\n", text), encoding="utf-8")
    with pytest.raises(InputError, match="seed: not declared"):
        execute(project, SMOKE, {"seed": 1}, results=str(tmp_path / "results"))


def test_open_run_refuses_what_is_no_text(tmp_path):
    """An experiment or results folder that is no text is refused."""
    with pytest.raises(InputError, match="experiment: found 5"):
        open_run(5)
    with pytest.raises(InputError, match="results: found 5"):
        open_run(SMOKE, 5)


def test_an_unknown_plot_is_refused(tmp_path):
    """The plots that exist are named."""
    with pytest.raises(InputError, match="events_per_driver"):
        open_run(SMOKE, str(tmp_path)).plot("histogram")


def test_the_front_door_opens_a_run():
    """``fleetsim.open_run`` is what the notebook calls."""
    assert fleetsim.open_run is open_run
    assert fleetsim.Run is Run
