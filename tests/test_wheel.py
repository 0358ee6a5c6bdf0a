"""What is installed from a wheel makes a project in an empty folder, and works there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from support import ROOT, tracked_files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built without a network from what git lists."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """Return a folder in which the wheel is installed, and nothing else."""
    folder = wheel.parent / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True)
    return folder


def typed(site: Path, folder: Path, *words: str, code: int = 0) -> str:
    """Run a command of the installed package in a folder; return what it printed."""
    kept = {k: v for k, v in os.environ.items() if k not in ("FLEETSIM_ROOT", "PYTHONPATH")}
    kept |= {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fleetsim", *words]
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_the_wheel_carries_the_notebooks_and_what_they_run(wheel: Path) -> None:
    """Every notebook that git lists, byte for byte, with the experiments they name; no other."""
    inside = zipfile.ZipFile(wheel)
    prefix = "fleetsim/starter/"
    carried = {
        name.removeprefix(prefix): inside.read(name)
        for name in inside.namelist()
        if name.startswith(prefix)
    }
    notebooks = {str(path.relative_to(ROOT)) for path in tracked_files("notebooks/*.ipynb")}
    assert {name for name in carried if name.startswith("notebooks/")} == notebooks
    experiments = {name.split("/")[1] for name in carried.keys() - notebooks}
    assert {"000-smoke", "001-baseline"} <= experiments
    for name, content in carried.items():
        assert content == (ROOT / name).read_bytes(), name


@pytest.mark.slow
def test_an_empty_folder_becomes_a_project(site: Path, tmp_path: Path) -> None:
    """Init, list, check, new and a sweep by the library, without notebooks and with its report."""
    folder = tmp_path / "mine"
    assert "next: cd mine && fleetsim check 001-baseline" in typed(site, tmp_path, "init", "mine")
    assert {path.name for path in folder.iterdir()} == {"README.md", "experiments", "notebooks"}
    listed = json.loads(typed(site, folder, "list", "--json"))
    assert {row["id"]: row["points"] for row in listed}["000-smoke"] == 6
    assert "cannot pass" in typed(site, folder, "check", "001-baseline")
    assert "next: write down" in typed(site, folder, "new", "100-mine")
    for path in (folder / "notebooks").iterdir():
        path.unlink()
    (folder / "notebooks").rmdir()
    path = folder / "experiments" / "100-mine" / "experiment.yaml"
    claims = yaml.safe_load(path.read_text(encoding="utf-8"))
    claims |= {"replicates": 100, "seeds": 1, "grid": {"event_rate_per_driver": [4.0]}}
    path.write_text(json.dumps(claims | {"date": str(claims["date"])}), encoding="utf-8")
    told = typed(site, folder, "sweep", "100-mine", "--engine", "library")
    assert " 0 failed" in told
    assert (folder / "results/100-mine/sweep.html").is_file()
    told = typed(site, folder, "sweep", "000-smoke", code=2)
    assert "notebooks/experiment.ipynb: no such notebook" in told
    assert "fleetsim init" in told
    assert not list((folder / "results").glob("000-smoke/*"))


def test_a_command_outside_of_a_project_names_init(site: Path, tmp_path: Path) -> None:
    """Where nothing is found, the error says how to begin."""
    assert "fleetsim init" in typed(site, tmp_path, "list", code=2)
