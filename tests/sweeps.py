"""Small sweeps for the tests: projects made of 000-smoke, and runs held against each other."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from support import AT, copy_project

from fleetsim.base.clock import Instant, parse_time
from fleetsim.base.project import Project
from fleetsim.base.yaml12 import load_yaml
from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.write import write_batches
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import Engine
from fleetsim.generate.config import load_config
from fleetsim.measure.child import Child
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep
from fleetsim.sweep.worker import SweepOptions

#: Runs without notebooks: the same records, much sooner.
LIBRARY = SweepOptions(engine=Engine.LIBRARY)

SMOKE = "000-smoke"
linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
#: Criteria whose outcome is no measurement of time or memory.
CONTENT = ("batch_directory", "jsonl_valid", "batch_meta", "event_count_expected")


def smoke_project(
    root: Path, *, criteria: tuple[str, ...] | None = CONTENT, **keys: Any
) -> Project:
    """Return a project with one experiment, 000-smoke with other keys; None takes one out.

    Its interval is fixed, so that two runs of one key write the same bytes.
    """
    copy_project(root, "experiments/000-smoke", "notebooks")
    given = {"interval": AT, "replicates": 2, "grid": None, "seeds": None, **keys}
    rewrite(root, criteria=criteria, **given)
    return Project(root)


def rewrite(root: Path, *, criteria: tuple[str, ...] | None = None, **keys: Any) -> None:
    """Change keys of the project's experiment.yaml; None takes one out."""
    path = root / "experiments" / SMOKE / "experiment.yaml"
    data = load_yaml(path.read_text(encoding="utf-8")) | keys
    if criteria is not None:
        data["criteria"] = [row for row in data["criteria"] if row["id"] in criteria]
        data.pop("hypothesis_rests_on", None)
    data = {key: value for key, value in data.items() if value is not None}
    path.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def set_cells(root: Path, *sources: str, keep: tuple[str, ...] = ()) -> None:
    """Let the project's notebook have its parameters, the cells that are named, and these."""
    path = root / "notebooks" / "experiment.ipynb"
    notebook = nbformat.read(path, as_version=4)
    kept = [cell for cell in notebook.cells if cell.id in ("parameters", *keep)]
    notebook.cells = kept + [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)


def ready_cell(ready: Path) -> str:
    """Return a cell that hands in a run that stands ready, by its seed: a kernel's work in no time.

    What makes the runs beforehand has to see the notebook with this cell in it.
    """
    return (
        "import os, shutil\nfrom pathlib import Path\n"
        f"ready, root = Path({str(ready)!r}) / str(seed), Path({str(ready.parent)!r})\n"
        f"shutil.copytree(ready, root / results / {SMOKE!r} / ready.resolve().name)"
    )


def make_ready(project: Project, ready: Path) -> None:
    """Make the runs of a sweep without notebooks, to be found by their seeds."""
    sweep = plan_sweep(project, SMOKE, results="made")
    run_sweep(sweep, LIBRARY)
    ready.mkdir()
    for point in sweep.points:
        (ready / str(point.seed)).symlink_to(sweep.finished[point.key])


def assert_whole(results: Path) -> None:
    """Assert that no folder with a final name lacks anything, and that no point is there twice."""
    for folder in results.glob(f"{SMOKE}/[!.]*"):
        assert {"result.json", "experiment.md", "params.yaml"} <= set(os.listdir(folder)), folder
        completed = read_record(folder).status == "completed"
        assert not completed or list(folder.glob("data/raw/events/*/events.jsonl")), folder
    contents(results)


def living(folder: Path) -> list[str]:
    """Return the command of each process whose root of the project, or whose work, is there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "environ").read_bytes() + os.fsencode(os.readlink(process / "cwd"))
            if os.fsencode(folder) in words and int(process.name) != os.getpid():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is another user's
            continue
    return [command for command in found if command]  # a zombie has none


def runs(results: Path, status: str = "completed") -> list[Path]:
    """Return the folders of the runs of a status, in the order of their names."""
    folders = [path.parent for path in sorted(results.glob(f"{SMOKE}/[!.]*/result.json"))]
    return [
        folder
        for folder in folders
        if not folder.is_symlink()
        and json.loads((folder / "result.json").read_text())["status"] == status
    ]


def hidden(results: Path) -> list[str]:
    """Return what stands hidden in a results folder, but for the lock of its sweep."""
    names = (path.relative_to(results).as_posix() for path in results.rglob(".*"))
    return sorted(name for name in names if name != f"{SMOKE}/.sweep.lock")


def content(run: Path) -> dict[str, Any]:
    """Return what two runs of one key have in common, of the record and of the files."""
    record = json.loads((run / "result.json").read_text(encoding="utf-8"))
    for name in ("measurements", "started", "finished", "run_id", "provenance"):
        record.pop(name)
    record["run"] = {
        path.relative_to(run).as_posix(): path.read_bytes() if path.suffix == ".jsonl" else None
        for path in sorted(run.rglob("*"))
    }
    return record


def contents(results: Path) -> dict[str, dict[str, Any]]:
    """Return the content of each completed run, by its key, which must not stand twice."""
    found = [content(run) for run in runs(results)]
    by_key = {row["key"]: row for row in found}
    assert len(by_key) == len(found)
    return by_key


def generate_here(arguments: Sequence[str], cwd: Path, launcher: object = None) -> Child:
    """Do what a cold child would, in this process: a tenth of the time, and nothing measured."""
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    config = load_config(cwd / options["--config"])
    output = cwd / options["--output"]
    now = Instant.now()
    if arguments[0] == "companies":
        write_companies(config, output, at_us=parse_time(options["--at"]), now_us=now.wall_us)
    else:
        fleet = read_companies(cwd / options["--companies"])
        start = parse_time(options["--interval-start"])
        chosen = WriteOptions(batches=int(options["--batches"]))
        list(write_batches(config, fleet, output, start_us=start, started=now, options=chosen))
    return Child(0, 0.01, 0.01, 10**7)


#: A cell after which a kernel makes its data itself: cold runs cost most of a run's time.
QUICK = (
    "import fleetsim.measure.cold, sweeps\nfleetsim.measure.cold.run_child = sweeps.generate_here"
)


def found_project(root: Path, monkeypatch: pytest.MonkeyPatch, **keys: Any) -> Project:
    """Return a `smoke_project` that the commands find; its sweeps are not reported."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(root))
    monkeypatch.setattr("fleetsim.sweep.report.render_sweep", lambda sweep, steps: sweep.folder)
    return smoke_project(root, **keys)


def lone_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a `found_project` of one point; the fixture `project` of some files."""
    return found_project(tmp_path, monkeypatch, grid={"number_of_companies": [2]})
