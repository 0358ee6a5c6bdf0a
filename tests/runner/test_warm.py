"""Kernels that are forked: processes of their own, like those that are started."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from sweeps import SMOKE, generate_here, make_ready, ready_cell, set_cells, smoke_project

from fleetsim.runner.engines import RunOptions, execute_notebook
from fleetsim.runner.warm import LIKELY, Nursery
from fleetsim.runner.watch import Watch
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import SweepOptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.notebook,
    pytest.mark.skipif(not Nursery.possible(), reason="kernels are not forked here"),
]

TELLS = """
import json, os, random, sys
import numpy as np

print(json.dumps({
    "pid": os.getpid(), "group": os.getpgrp(), "parent": os.getppid(), "cwd": os.getcwd(),
    "path": sys.path, "arguments": len(sys.argv), "environment": dict(os.environ),
    "drawn": [random.random(), np.random.rand()], "left": hasattr(json, "left"),
    "main": sorted(name for name in vars(sys.modules["__main__"]) if name.startswith("__")),
}))
json.left = True
"""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Return what kernels are forked from; one for all tests that leave it as it is."""
    with Nursery() as warm:
        yield warm


def run(folder: Path, source: str, nursery: Nursery | None, watch: Watch | None = None) -> Any:
    """Return how a notebook of one cell ended."""
    path = folder / "notebook.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    return execute_notebook(path, {}, watch or Watch(), options=RunOptions(nursery=nursery))


def told(folder: Path, nursery: Nursery | None) -> dict[str, Any]:
    """Return what a kernel tells of itself."""
    ending = run(folder, TELLS, nursery)
    assert ending.error is None
    output = "".join(row.text for row in ending.notebook.cells[-1].outputs if row.name == "stdout")
    found: dict[str, Any] = json.loads(output)
    return found


def test_every_kernel_is_a_process_of_its_own(tmp_path: Path, nursery: Nursery) -> None:
    """What one leaves the next does not find, not even the state of the random numbers."""
    first, second = told(tmp_path, nursery), told(tmp_path, nursery)
    assert first["pid"] != second["pid"]
    assert first["parent"] == second["parent"] != os.getpid()
    assert (first["group"], second["group"]) == (first["pid"], second["pid"])
    assert not first["left"]
    assert not second["left"]
    assert not set(first["drawn"]) & set(second["drawn"])


def test_a_forked_kernel_finds_what_a_started_one_finds(
    tmp_path: Path, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, path, arguments and environment, also where that has changed since the start."""
    monkeypatch.setenv("FLEETSIM_OF_LATE", "1")
    monkeypatch.chdir(tmp_path)
    warm, cold = told(tmp_path, nursery), told(tmp_path, None)
    assert cold["parent"] == os.getpid()
    for row in (warm, cold):
        row["environment"].pop("JPY_PARENT_PID", None)
    for name in ("cwd", "path", "arguments", "environment", "main"):
        assert warm[name] == cold[name], name


def test_how_a_kernel_ended_is_told(tmp_path: Path, nursery: Nursery) -> None:
    """By a signal, or by itself."""
    killed = run(tmp_path, "import os\nos.kill(os.getpid(), 9)", nursery).error
    assert killed.message.startswith("the kernel was ended by the signal Killed")
    ended = run(tmp_path, "import os\nos._exit(3)", nursery).error
    assert ended.message == "the kernel ended with exit code 3"


def test_exit_handlers_of_a_notebook_run(tmp_path: Path, nursery: Nursery) -> None:
    """Also in a kernel whose modules are not taken apart at its end."""
    left = tmp_path / "left"
    source = f"import atexit, pathlib\natexit.register(pathlib.Path({str(left)!r}).touch)"
    assert run(tmp_path, source, nursery).error is None
    assert left.exists()


def test_the_kernel_of_a_single_run_is_given_those_that_draw(tmp_path: Path) -> None:
    """It has loaded no Matplotlib itself, and a second one draws for itself."""
    source = """
import sys
from fleetsim.experiment.drawing import open_drawers
drawers = open_drawers("baseline")
print(None if drawers is None else len(drawers.names), "matplotlib" in sys.modules)
"""
    with Nursery(LIKELY) as warm:
        endings = [run(tmp_path, source, warm) for _ in range(2)]
    printed = [ending.notebook.cells[-1].outputs[0].text for ending in endings]
    assert printed == ["6 False\n", "None False\n"]


def test_without_a_nursery_kernels_are_started(tmp_path: Path) -> None:
    """Where the process that they are forked from was killed, one runs all the same."""
    with Nursery() as gone:
        os.kill(told(tmp_path, gone)["parent"], signal.SIGKILL)
        assert told(tmp_path, gone)["parent"] == os.getpid()


def test_a_nursery_leaves_no_process(tmp_path: Path) -> None:
    """It is gone at the end of its context."""
    with Nursery() as warm:
        server = told(tmp_path, warm)["parent"]
        os.kill(server, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


@pytest.mark.parametrize(("seeds", "possible", "made"), [(2, True, 1), (2, False, 0), (1, True, 0)])
def test_a_sweep_of_several_points_forks_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int, possible: bool, made: int
) -> None:
    """Where that is possible; the runs are there in any case."""
    started = []

    class Counted(Nursery):
        def __init__(self, *given: Any, **more: Any) -> None:
            started.append(1)
            super().__init__(*given, **more)

        possible = staticmethod(lambda: possible)  # type: ignore[assignment]

    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    monkeypatch.setattr("fleetsim.sweep.run.Nursery", Counted)
    project = smoke_project(tmp_path, grid={"number_of_companies": [2]}, seeds=seeds)
    set_cells(tmp_path, ready_cell(tmp_path / "ready"))
    make_ready(project, tmp_path / "ready")
    started.clear()
    assert run_sweep(plan_sweep(project, SMOKE), SweepOptions(jobs=2)).done == seeds
    assert len(started) == made
