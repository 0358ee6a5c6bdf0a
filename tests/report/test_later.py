"""Figures that a run of a sweep leaves to be drawn are those that it would have drawn itself."""

from __future__ import annotations

import ast
import copy
import shutil
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import pytest
from analysis import baseline, hand_made
from support import ROOT, Cli
from sweeps import QUICK, SMOKE, found_project, generate_here, rewrite

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment.kept import (
    EVIDENCE_NAME,
    FIGURES,
    LATER,
    PLOT_MARK,
    Undrawn,
    keep_evidence,
    read_evidence,
)
from fleetsim.experiment.record import read_record
from fleetsim.experiment.steps import open_run
from fleetsim.kinds.baseline.evidence import Evidence
from fleetsim.kinds.baseline.plots import PLOTS
from fleetsim.report.later import draw_later
from fleetsim.report.run_report import attach_notebook, check_report, render_report
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import SweepOptions

TIMED = "repeats"  # the plot of what differs from run to run


@pytest.fixture(scope="module", params=["steps", pytest.param("sweep", marks=pytest.mark.slow)])
def swept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return one run twice, with its figures at once and later: by two sweeps, or step by step."""
    root = tmp_path_factory.mktemp("later")
    make = by_sweep if request.param == "sweep" else by_steps
    with pytest.MonkeyPatch.context() as there:
        project = found_project(root, there, seeds=1, grid={"number_of_companies": [2]})
        there.setenv("PYTHONPATH", str(ROOT / "tests"))
        notebook = nbformat.read(project.notebooks / "experiment.ipynb", as_version=4)
        sized = nbformat.v4.new_code_cell('run.plot("event_types", (3, 2))')
        notebook.cells[-2:-2] = [sized]
        rewrite(root, replicates=10)
        return {name: make(project, notebook, name, there) for name in ("now", "later")}


def by_sweep(
    project: Project, notebook: nbformat.NotebookNode, when: str, patch: pytest.MonkeyPatch
) -> Path:
    """Run the only point of a sweep, with a kernel; return the folder."""
    own = copy.deepcopy(notebook)
    own.cells[2:2] = [nbformat.v4.new_code_cell(QUICK)]
    nbformat.write(own, project.notebooks / "experiment.ipynb")
    sweep, options = plan_sweep(project, SMOKE, results=when), SweepOptions(figures=when == "now")
    assert run_sweep(sweep, options).done == 1
    return (project.root / when / SMOKE / "latest").resolve()


def by_steps(
    project: Project, notebook: nbformat.NotebookNode, when: str, patch: pytest.MonkeyPatch
) -> Path:
    """Go through the steps of a run here, and put what they show into the notebook."""
    patch.setenv(FIGURES, when)
    patch.setattr("fleetsim.measure.cold.run_child", generate_here)
    run = until_plots(open_run(SMOKE, results=when))
    executed = copy.deepcopy(notebook)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        cell.execution_count = number
        if cell.source.startswith("run.plot("):
            plotted = run.plot(*ast.literal_eval(f"({cell.source[9:-1]},)"))
            cell.outputs = [output_of(plotted)]
    run.judge()
    code[-1].outputs = [output_of(run.finish())]
    attach_notebook(run.final, read_record(run.final), executed)
    return run.final


def until_plots(run: Any) -> Any:
    """Go through the steps of a run as far as to what is plotted."""
    for step in (run.generate, run.inspect, run.test):
        step()
    return run


def open_later(root: Path, patch: pytest.MonkeyPatch) -> Any:
    """Return a tested run in a project of its own, which leaves its figures to be drawn."""
    patch.setenv(FIGURES, LATER)
    patch.setattr("fleetsim.measure.cold.run_child", generate_here)
    found_project(root, patch)
    return until_plots(open_run(SMOKE, results=str(root / "results"), replicates=10))


def output_of(shown: Any) -> nbformat.NotebookNode:
    """Return an object as the output of a cell."""
    bundle = shown._repr_mimebundle_()
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    if "image/png" in data:
        data = data | {"image/png": b64encode(data["image/png"]).decode()}
    return nbformat.v4.new_output("execute_result", data=data, metadata=metadata)


@pytest.fixture
def later(swept: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the run whose figures are not drawn."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(swept["later"].parents[2]))
    return Path(shutil.copytree(swept["later"], tmp_path / SMOKE / swept["later"].name))


def shown(run: Path) -> list[Any]:
    """Return the outputs of the cells of a run's notebook that plot, but for that of times."""
    cells = nbformat.read(run / "report.ipynb", as_version=4).cells
    plots = [cell for cell in cells if "run.plot(" in cell.source and TIMED not in cell.source]
    return [{**output, "execution_count": 0} for cell in plots for output in cell.outputs]


def test_a_sweep_leaves_the_figures_to_be_drawn(later: Path) -> None:
    """Its runs keep the evidence alone; the page names the figures, and the command for them."""
    assert [path.name for path in (later / "figures").iterdir()] == ["evidence.msgpack"]
    page = (later / "report.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert "Figures that are not drawn yet: Events of each driver, Event types," in page
    assert f"<code>fleetsim report {SMOKE}/{later.name}</code>" in page
    assert "fleetsim report" not in page.replace(f"<code>fleetsim report {SMOKE}/", "")
    assert check_report(later) == []


def test_the_report_draws_what_the_run_would_have_drawn(
    later: Path, swept: dict[str, Path], fleetsim_cli: Cli
) -> None:
    """Each file, each output of the notebook, and the figures of the page; once and no more."""
    done = fleetsim_cli("report", later)
    assert (done.code, done.err) == (0, "")
    assert f"{later}/figures/event_types.svg" in done.out.splitlines()
    for path in (swept["now"] / "figures").iterdir():
        drawn = later / "figures" / path.name
        assert path.stem == TIMED or drawn.read_bytes() == path.read_bytes(), path.name
    assert {path.stem for path in (later / "figures").glob("*.png")} == set(PLOTS)
    assert shown(later) == shown(swept["now"])
    page, other = ((run / "report.html").read_text() for run in (later, swept["now"]))
    assert page.count("<img") == other.count("<img") == len(PLOTS) + 1
    assert "not drawn yet" not in page
    assert check_report(later) == []
    assert draw_later(later, read_record(later), notebook_of(later)) == []


def notebook_of(run: Path) -> nbformat.NotebookNode:
    """Return the notebook of a run."""
    return nbformat.read(run / "report.ipynb", as_version=4)


def test_a_plot_that_no_cell_shows_is_drawn_too(later: Path) -> None:
    """As a run does that draws its own."""
    notebook = notebook_of(later)
    for cell in notebook.cells:
        if 'plot("replicates")' in cell.source:
            cell.outputs = []
    written = draw_later(later, read_record(later), notebook)
    assert {path.stem for path in written} == set(PLOTS)


def test_without_evidence_the_page_stays_as_it_is(later: Path) -> None:
    """There is nothing to draw of; the page still says what is missing."""
    (later / EVIDENCE_NAME).unlink()
    before = (later / "report.html").read_bytes()
    assert not any("figures" in path.parts for path in render_report(later))
    assert (later / "report.html").read_bytes() == before


def marked(mark: Any) -> nbformat.NotebookNode:
    """Return a notebook with one output that stands in for a figure."""
    output = nbformat.v4.new_output("display_data", data={PLOT_MARK: mark})
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output])])


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        ({"name": "nothing", "size": None}, "plot: found 'nothing'; allowed: events_per_driver,"),
        ({"name": ["event_types"], "size": None}, "plot: found "),
        ({"name": "event_types", "size": [1]}, "plot: found "),
        ({"name": "event_types", "size": [1, -1]}, "size: found "),
        ({"name": "event_types", "size": [1e9, 1]}, "size: found "),
        ({"name": "event_types", "size": [float("nan"), 1]}, "size: found "),
        ("event_types", "plot: found "),
    ],
)
def test_a_damaged_notebook_is_refused(later: Path, mark: Any, told: str) -> None:
    """Before anything is written."""
    with pytest.raises(InputError, match=told):
        draw_later(later, read_record(later), marked(mark))
    assert len(list((later / "figures").iterdir())) == 1


def test_damaged_evidence_is_refused(later: Path, fleetsim_cli: Cli) -> None:
    """With what to do; nothing is written."""
    (later / EVIDENCE_NAME).write_bytes(b"\xc1 no evidence")
    before = {path: path.read_bytes() for path in later.rglob("*") if path.is_file()}
    done = fleetsim_cli("report", later)
    assert done.code == 2
    assert f"{later / EVIDENCE_NAME}: damaged, or written by another version" in done.err
    assert "next: delete this file" in done.err
    assert {path: path.read_bytes() for path in later.rglob("*") if path.is_file()} == before


def test_hostile_arrays_are_refused(tmp_path: Path) -> None:
    """Arrays of other than numbers, and shapes of another size, are none of ours."""
    evidence = hand_made()
    assert keep_evidence(tmp_path, evidence, baseline().criteria)
    plain = msgspec.msgpack.decode((tmp_path / EVIDENCE_NAME).read_bytes())
    for array in (
        ["|O", [1], b"\0" * 8],
        ["<i8", [2], b"\0" * 8],
        ["<i8", [-1], b"\0" * 8],
        ["no kind", [1], b"\0" * 8],
        ["<i8", [1]],
        8,
    ):
        content = msgspec.msgpack.encode([plain[0] | {"replicates": array}, plain[1]])
        (tmp_path / EVIDENCE_NAME).write_bytes(content)
        with pytest.raises(InputError, match="damaged, or written by another version"):
            read_evidence(tmp_path, Evidence)


def test_a_plot_that_fails_is_told(later: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name; no figure is written, not even of another plot."""

    def fail(*_: Any) -> str:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setitem(PLOTS, "replicates", replace(PLOTS["replicates"], draw=fail))
    with pytest.raises(FleetsimError, match="plot replicates cannot be drawn: ZeroDivisionError"):
        draw_later(later, read_record(later), notebook_of(later))
    assert len(list((later / "figures").iterdir())) == 1


@pytest.mark.parametrize("why", ["too large", "cannot be written"])
def test_what_cannot_be_kept_is_drawn_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """No run is without figures that nobody could draw later."""
    run = open_later(tmp_path, monkeypatch)
    if why == "too large":
        monkeypatch.setattr("fleetsim.experiment.kept.LARGEST", 1000)
    else:
        found = run.evidence()
        object.__setattr__(found, "interval", object())
    shown = run.plot("event_types")
    assert not isinstance(shown, Undrawn)
    assert [p.name for p in sorted((run.folder / "figures").iterdir())] == [
        "event_types.png",
        "event_types.svg",
    ]


def test_a_name_that_is_no_plots_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when somebody wants to see it; and a script's run is like a notebook's."""
    run = open_later(tmp_path, monkeypatch)
    with pytest.raises(InputError, match="plot: found 'event_typs'"):
        run.plot("event_typs")
    assert repr(run.plot("event_types")) == (
        f"Event types against their weights: not drawn yet; fleetsim report {SMOKE}/{run.run_id} "
        "draws it"
    )
    run.judge()
    run.finish()
    assert [path.name for path in (run.final / "figures").iterdir()] == ["evidence.msgpack"]


def test_the_command_says_when_figures_are_drawn(
    tmp_path: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later, unless it is told to draw; without notebooks there are none."""
    found_project(tmp_path, monkeypatch, seeds=1, grid={"number_of_companies": [2]})
    asked = []

    def stop(sweep: object, options: SweepOptions, **_: Any) -> None:
        asked.append(options.figures)
        raise InputError("test", "seen")

    monkeypatch.setattr("fleetsim.sweep.run.run_sweep", stop)
    for words in ([], ["--figures"]):
        done = fleetsim_cli("sweep", SMOKE, *words)
        assert (done.code, "test: seen" in done.err) == (2, True)
    assert asked == [False, True]
    done = fleetsim_cli("sweep", SMOKE, "--figures", "--engine", "library")
    assert done.code == 2
    assert "--figures are those of notebooks; --engine library runs none." in done.err
