"""Notebooks in an environment like the image's: a project that cannot be written, and no home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from support import ROOT, copy_project

#: Modules that are not there in an image without extras.
EXTRAS = ("ipywidgets", "distributed", "dask")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return a copy of the project that nobody may write to."""
    copy = copy_project(tmp_path / "app")
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return copy


def executed(image: Path, name: str, *, extras: bool) -> nbformat.NotebookNode:
    """Execute a notebook by plain papermill, as a user without rights beyond the files' own."""
    out = image.parent / "out"
    out.mkdir()
    missing = "" if extras else f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))\n"
    (out / "sitecustomize.py").write_text(missing)
    places = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    environment = {
        **{key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ},
        **{place: str(out / place) for place in places},
        "HOME": "/nonexistent",
        "FLEETSIM_ROOT": str(image),
        "PYTHONPATH": os.pathsep.join((str(out), str(ROOT))),
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "papermill", f"notebooks/{name}", str(out / name)]
    if os.geteuid() == 0:  # which may write anything, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("root without setpriv may write anything")
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = subprocess.run(
        [*command, "--no-progress-bar"], cwd=image, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return nbformat.read(out / name, as_version=4)


def shown(notebook: nbformat.NotebookNode) -> str:
    """Return all text that the cells show."""
    return "\n".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


@pytest.mark.notebook
def test_explore_ends_well_without_a_reference_run(image: Path) -> None:
    """The cell says that there is none yet, and how to make one; sliders are a picture."""
    text = shown(executed(image, "explore.ipynb", extras=False))
    assert "There is no run 001-baseline/reference in the results here yet" in text
    assert "fleetsim run 001-baseline" in text


@pytest.mark.notebook
def test_scale_out_ends_well_without_dask(image: Path) -> None:
    """It says what is missing, and what to install."""
    text = shown(executed(image, "scale_out.ipynb", extras=False))
    assert "Dask is an extra that is not installed" in text
