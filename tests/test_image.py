"""Notebooks in an environment like the image's: a project that cannot be written, and no home.

Those of the other kinds are executed so by `support.by_papermill` where their runs are tested.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import nbformat
import pytest
from support import image_of, papermill_in
from sweeps import LIBRARY, SMOKE, generate_here, smoke_project

from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep

pytestmark = pytest.mark.slow


def shown(path: Path) -> str:
    """Return all text that the cells of a notebook show."""
    return "\n".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", ())
    )


@pytest.mark.notebook
def test_explore_ends_well_without_a_reference_run(tmp_path: Path) -> None:
    """The cell says that there is none yet, and how to make one; sliders are a picture."""
    text = shown(papermill_in(image_of(tmp_path / "app"), "explore.ipynb", extras=False))
    assert "There is no run 001-baseline/reference in the results here yet" in text
    assert "fleetsim run 001-baseline" in text


@pytest.mark.notebook
def test_scale_out_ends_well_without_dask(tmp_path: Path) -> None:
    """It says what is missing, and what to install."""
    text = shown(papermill_in(image_of(tmp_path / "app"), "scale_out.ipynb", extras=False))
    assert "Dask is an extra that is not installed" in text


@pytest.mark.notebook
def test_a_sweep_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its notebook reads results that lie outside of the project."""
    project = smoke_project(tmp_path / "made", grid={"number_of_companies": [2, 3]})
    monkeypatch.setenv("FLEETSIM_ROOT", str(project.root))
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    results = tmp_path / "results"
    assert run_sweep(plan_sweep(project, SMOKE, results=str(results)), LIBRARY).done == 2
    for path in (*project.root.rglob("*"), project.root):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    out = papermill_in(project.root, "sweep.ipynb", experiment=SMOKE, results=results)
    assert "2 of 2 runs completed" in shown(out)
    assert os.access(results, os.W_OK)
