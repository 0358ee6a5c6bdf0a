"""A report is of the notebook that was executed for its run, and of no other."""

import copy
import shutil

import msgspec
import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter
from made_runs import failed, made_record, measured, write_run
from nbformat.v4 import new_code_cell, new_notebook, new_output
from support import ROOT, tree

from fleetsim.base.errors import InputError
from fleetsim.experiment.record import read_record
from fleetsim.experiment.steps import RUN_MARK, Summary, mark_of
from fleetsim.report.executed import notebook_faults
from fleetsim.report.html import render_html
from fleetsim.report.run_report import attach_notebook, check_report, render_report

REFERENCE = ROOT / "results" / "001-baseline" / "reference"
RECORD = msgspec.structs.replace(made_record("r1"), measurements=measured(1))


def code(source, count, *outputs, tag=None):
    """Return a cell as it was executed."""
    metadata = {"tags": [tag]} if tag else {}
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata=metadata)


def executed(record=RECORD):
    """Return the notebook of a run as papermill saves it."""
    injected = "".join(f"{name} = {value!r}\n" for name, value in record.parameters.items())
    data = Summary(record)._repr_mimebundle_()
    return new_notebook(
        cells=[
            code("seed: int = None  # words\nexperiment: str = 'other'", 1, tag="parameters"),
            code(f"# Parameters\n{injected}", 2, tag="injected-parameters"),
            code("run = open_run()", 3),
            new_code_cell(""),
            code("run.finish()", 4, new_output("execute_result", data=data, execution_count=4)),
        ]
    )


def with_cells(change):
    """Return the notebook of the run after a change of its cells."""
    notebook = executed()
    change(notebook.cells)
    return notebook


def set_(name, value, cell=2):
    """Return a change of one cell."""
    return lambda cells: cells[cell].__setitem__(name, value)


def replace_(old, new, cell=1):
    """Return a change of one cell's source."""

    def change(cells):
        assert old in cells[cell].source
        cells[cell].source = cells[cell].source.replace(old, new)

    return change


def print_only(cells):
    """Leave a single cell that has to do with nothing."""
    cells[:] = [code("print(1)", 1, new_output("stream", text="1\n"))]


def fail(cells):
    """Let a cell end with an error."""
    cells[2].outputs = [new_output("error", ename="KeyError", evalue="x", traceback=["x"])]


WRONG = {
    "nothing but a print": (print_only, "made no run"),
    "no cell": (lambda cells: cells.clear(), "made no run"),
    "no end": (lambda cells: cells.pop(), "made no run"),
    "an error": (fail, "cell 2 ended with an error: 'KeyError'"),
    "a cell not executed": (set_("execution_count", None), "cell 2 was not executed"),
    "cells out of order": (set_("execution_count", 9), "cell 4 was executed before one"),
    "a cell taken out": (lambda cells: cells.pop(2), "before cell 3 is missing"),
    "another seed": (replace_("seed = 7", "seed = 8"), "parameter seed: found 8; the run has 7"),
    "another length": (replace_("PT15M", "PT16M"), "parameter batch_interval: found 'PT16M'"),
}
WRONG_MARKS = {
    "run": {"run_id": "r2"},
    "key": {"key": "ef" * 32},
    "experiment": {"experiment": "001-baseline"},
}


@pytest.fixture
def run(tmp_path):
    """Return the folder of a completed run without a report."""
    return write_run(tmp_path / "results", RECORD)


def save(notebook, folder):
    """Write a notebook outside of the run; return where."""
    path = folder / "out.ipynb"
    nbformat.write(notebook, path)
    return path


def test_the_summary_shows_which_run_it_is_of():
    """As an output of the last cell, in a form that no page shows."""
    data, _ = DisplayFormatter().format(Summary(RECORD))
    assert data["text/plain"] == repr(Summary(RECORD))
    assert data[RUN_MARK] == {"experiment": "000-smoke", "run_id": "r1", "key": RECORD.key}
    with_mark, without = executed(), executed()
    del without.cells[-1].outputs[0].data[RUN_MARK]
    assert RUN_MARK not in render_html(with_mark)
    last_line = repr(Summary(RECORD)).splitlines()[-1]
    assert (last_line in render_html(without)) > (last_line in render_html(with_mark))


def test_its_own_notebook_is_taken(fleetsim_cli, run, tmp_path):
    """Spellings of a duration, a float for a whole number, and another place are no difference."""
    notebook = executed()
    assert notebook_faults(notebook, RECORD) == []
    replace_("PT15M", "PT900S")(notebook.cells)
    replace_("repeats = 10", "repeats = 10.0")(notebook.cells)
    replace_("experiment = '000-smoke'", "experiment = './experiments/000-smoke'")(notebook.cells)
    out = save(notebook, tmp_path)
    done = fleetsim_cli("report", run, "--notebook", out)
    assert done.code == 0, done.err
    assert check_report(run) == []
    assert render_report(run) == [
        run / name for name in ("experiment.md", "report.ipynb", "report.html")
    ]


@pytest.mark.parametrize("name", WRONG)
def test_another_notebook_is_refused(fleetsim_cli, run, tmp_path, name):
    """With exit code 2 and the reason; nothing is written."""
    change, reason = WRONG[name]
    out = save(with_cells(change), tmp_path)
    before = tree(run)
    done = fleetsim_cli("report", run, "--notebook", out)
    assert (done.code, done.out) == (2, "")
    assert reason in done.err
    assert "papermill executed for this run" in done.err
    assert tree(run) == before


@pytest.mark.parametrize("name", WRONG)
def test_check_finds_another_notebook(fleetsim_cli, run, name):
    """Also one that an earlier version took in, with the run's record in its metadata."""
    attach_notebook(run, RECORD, with_cells(WRONG[name][0]))
    (run / "experiment.md").write_bytes(b"")
    done = fleetsim_cli("report", run, "--check")
    assert done.code == 3
    assert "report.ipynb is not that of this run" in done.out
    assert WRONG[name][1] in done.out
    done = fleetsim_cli("report", run)  # nor is it rendered again
    assert done.code == 2
    assert (run / "experiment.md").read_bytes() == b""


@pytest.mark.parametrize("name", WRONG_MARKS)
def test_the_notebook_of_another_run_is_refused(run, name):
    """Of the same parameters and verdicts: the mark alone tells."""
    notebook = executed()
    mark = mark_of(RECORD) | WRONG_MARKS[name]
    notebook.cells[-1].outputs[0].data[RUN_MARK] = mark
    with pytest.raises(InputError, match="made another run"):
        render_report(run, save(notebook, run.parents[1]))
    attach_notebook(run, RECORD, notebook)
    assert any("made another run" in finding for finding in check_report(run))
    assert any("made no run" not in finding for finding in check_report(run))


def test_the_report_of_another_run_is_found(run, tmp_path):
    """Copied from its folder as it is."""
    other = msgspec.structs.replace(RECORD, run_id="r2")
    folder = write_run(tmp_path / "results", other)
    attach_notebook(folder, other, executed(other))
    for name in ("report.ipynb", "report.html"):
        shutil.copy(folder / name, run / name)
    assert any("000-smoke/r2" in finding for finding in check_report(run))
    with pytest.raises(InputError, match="made another run"):
        render_report(run, folder / "report.ipynb")


def test_a_notebook_that_papermill_gave_up(run):
    """Its metadata say so, whatever the outputs show."""
    notebook = executed()
    notebook.metadata["papermill"] = {"exception": True}
    assert notebook_faults(notebook, RECORD) == ["papermill says that it ended with an error"]


def test_a_failed_run_keeps_its_notebook_alone(tmp_path):
    """It never came to its end; another one is none of it."""
    record = failed(RECORD)
    run = write_run(tmp_path / "results", record)
    notebook = with_cells(lambda cells: cells.pop())
    with pytest.raises(InputError, match="made no run"):
        render_report(run, save(notebook, tmp_path))
    fail(notebook.cells)
    attach_notebook(run, record, notebook)
    assert [f for f in check_report(run) if "ipynb" in f] == []
    render_report(run)
    assert check_report(run) == []


def test_a_report_of_before_there_was_a_mark_stands():
    """The committed reference: metadata and the text of its last cell say of which run it is."""
    record = read_record(REFERENCE)
    notebook = nbformat.read(REFERENCE / "report.ipynb", as_version=4)
    assert notebook_faults(notebook, record) == []
    for change in (print_only, fail, lambda cells: cells.pop()):
        other = copy.deepcopy(notebook)
        change(other.cells)
        assert notebook_faults(other, record)


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"cells": 1, "nbformat": 4, "nbformat_minor": 5}', "\x1b", "1"]
)
def test_what_is_no_notebook_is_refused(fleetsim_cli, run, tmp_path, content):
    """By its name, as bad input."""
    path = tmp_path / "out.ipynb"
    path.write_text(content)
    done = fleetsim_cli("report", run, "--notebook", path)
    assert (done.code, done.out) == (2, "")
    assert f"{path}: not a notebook" in done.err
