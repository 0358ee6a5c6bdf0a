"""Results on a storage: runs appear there as a whole, or stay here; and no secret goes along."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from support import Cli
from sweeps import LIBRARY, SMOKE, contents, generate_here, hidden, runs, smoke_project

from fleetsim.base.errors import InputError
from fleetsim.base.project import Project
from fleetsim.base.storage import place
from fleetsim.experiment.results import Engine
from fleetsim.runner.engines import RunOptions
from fleetsim.runner.mirror import mirrored
from fleetsim.runner.run import execute
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep

pytest_plugins = ("results_fixtures",)
BUCKET, SECRET = "fleet", "a-secret-that-nobody-may-see"  # as the plugin sets them
# The server and the storage's library close their connections when they like.
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project that the commands find; its experiment has two points, made in no time."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    return smoke_project(tmp_path, grid={"number_of_companies": [2, 3]})


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no report of a sweep."""
    monkeypatch.setattr("fleetsim.sweep.report.render_sweep", lambda sweep, steps: sweep.folder)


def stored(url: str) -> dict[str, bytes]:
    """Return all objects below a place, by their names from there on."""
    where: Any = place(url)
    where.fs.invalidate_cache()
    root = where.path.rstrip("/") + "/"
    return {key.removeprefix(root): where.fs.cat_file(key) for key in where.fs.find(root)}


def bring_down(url: str, folder: Path) -> Path:
    """Copy all objects below a place into a folder."""
    for name, content in stored(url).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_sweep_is_the_same_on_a_storage_and_is_resumed_there(
    project: Project, fleetsim_cli: Cli, results_url: str, tmp_path: Path, no_report: None
) -> None:
    """Same content as on a disk; the list names URLs; what stands is not run again."""
    done = fleetsim_cli(
        "sweep", SMOKE, "--engine", "library", "--jobs", 2, "--results", results_url
    )
    assert (done.code, done.err) == (0, "")
    assert "2 done, 0 failed, 0 finished before" in done.out
    run_sweep(plan_sweep(project, SMOKE, results="disk"), LIBRARY)
    assert contents(bring_down(results_url, tmp_path / "down")) == contents(tmp_path / "disk")
    listed = json.loads(fleetsim_cli("runs", "--results", results_url, "--json").out)
    assert [row["path"] for row in listed] == [
        f"{results_url}/{SMOKE}/{row['run_id']}" for row in listed
    ]
    assert len(listed) == 2
    before = stored(results_url)
    assert {"index.html"} < set(before)
    again = fleetsim_cli("sweep", SMOKE, "--engine", "library", "--results", results_url)
    assert "0 done, 0 failed, 2 finished before" in again.out
    after = stored(results_url)
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in after if name != "index.html")
    planned = json.loads(
        fleetsim_cli("sweep", SMOKE, "--dry-run", "--json", "--results", results_url).out
    )
    assert {row["path"] for row in planned} == {row["path"] for row in listed}
    assert hidden(project.results(None)) == []


@pytest.mark.notebook
def test_a_run_on_a_storage_is_read_back_and_holds_no_secret(
    project: Project, fleetsim_cli: Cli, results_url: str, tmp_path: Path
) -> None:
    """Run, runs, report, verify and compare; no key is in any object or output, nor the URL."""
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
    printed = []
    for words in (
        ("run", SMOKE),
        ("run", SMOKE, "-p", "seed", "8"),
        ("runs",),
        ("runs", "--html"),
        ("report", SMOKE, "--check"),
        ("report", SMOKE),
        ("verify", SMOKE),
    ):
        done = fleetsim_cli(*words, "--results", results_url)
        assert done.code == 0, (words, done)
        printed.append(done.out + done.err)
    assert "2 of 2 runs" in printed[2]
    assert f"{results_url}/{SMOKE}" in printed[0]
    assert "reproduced" in printed[6]
    first = json.loads(fleetsim_cli("runs", "--json", "--results", results_url).out)[0]["run_id"]
    compared = fleetsim_cli("compare", f"{SMOKE}/{first}", SMOKE, "--results", results_url)
    assert f"page: {results_url}/compare/" in compared.out
    objects = stored(results_url)
    assert [name for name in objects if name.startswith("compare/")]
    gallery = objects["index.html"].decode()
    assert gallery.count("report.html") == 2
    assert ".png" in gallery
    for name, content in [*objects.items(), ("output", "".join(printed).encode())]:
        assert SECRET.encode() not in content, name
        assert b"a-key-that-nobody-may-see" not in content, name
        assert b".partial" not in content, name
        assert name == "output" or results_url.encode() not in content, name
    assert not list((project.root / "results").rglob("result.json"))


@pytest.mark.parametrize("broken", ["result.json", "params.yaml"])
def test_a_run_that_cannot_be_sent_up_is_kept_here(
    project: Project,
    fleetsim_cli: Cli,
    results_url: str,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    no_report: None,
) -> None:
    """What is there reads as no run; the message says where the run is, and it is whole."""
    from s3fs import S3FileSystem

    real = S3FileSystem._put_file

    async def put(self: Any, source: str, *arguments: Any, **options: Any) -> Any:
        if source.endswith(broken):
            raise PermissionError(f"denied to {SECRET}")
        return await real(self, source, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(S3FileSystem, "_put_file", put)
        done = fleetsim_cli("sweep", SMOKE, "--engine", "library", "--results", results_url)
    assert done.code == 1
    assert "access denied" in done.err
    assert SECRET not in done.err
    (kept,) = runs(project.results(None))
    assert f": {kept}\n" in done.err
    assert (kept / "data" / "raw").is_dir()
    assert not [name for name in stored(results_url) if name.endswith("/result.json")]
    assert fleetsim_cli("runs", "--results", results_url).out == "no run yet\n"
    assert hidden(project.results(None)) == []
    done = fleetsim_cli("sweep", SMOKE, "--engine", "library", "--results", results_url)
    assert "2 done" in done.out


def test_a_storage_that_cannot_be_used_is_refused_before_anything_runs(
    project: Project, fleetsim_cli: Cli, results_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bucket, nobody at the endpoint, no credentials, more than a place in the URL."""
    from s3fs import S3FileSystem

    every = (("run", SMOKE), ("sweep", SMOKE), ("runs",), ("report", SMOKE))

    def refused(url: str, commands: tuple[tuple[str, ...], ...] = every) -> str:
        S3FileSystem.clear_instance_cache()
        for command in commands:
            done = fleetsim_cli(*command, "--results", url)
            assert (done.code, done.out) == (2, ""), command
            assert SECRET not in done.err
        assert not (project.root / "results").exists()
        return str(done.err)

    assert "no such bucket" in refused("s3://other/results")
    assert "found a URL with @" in refused(f"s3://user:{SECRET}@{BUCKET}/results")
    assert "found a URL with @, ?" in refused(f"s3://{BUCKET}/results?key={SECRET}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "cannot be reached at its endpoint" in refused(results_url, every[:1])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "no credentials found" in refused(results_url)


def test_names_on_a_storage_that_lead_elsewhere_are_passed_over(
    project: Project, fleetsim_cli: Cli
) -> None:
    """A record under a foreign name reaches no folder outside; leftovers without one are no run."""
    url = "memory://mirror-test/results"
    where: Any = place(url)
    run = f"{SMOKE}/20251108T120000Z-00000000"
    keys = (f"{run}/report.html", f"{SMOKE}/../../x/result.json", "a/.hidden/result.json", "a//b/c")
    for name in keys:
        where.fs.pipe_file(f"{where.path}/{name}", b"{}")
    try:
        with mirrored(project, url) as home:
            home.fetch_records()
            assert not list(home.folder.rglob("*"))
        where.fs.pipe_file(f"{where.path}/{run}/result.json", b"{}")
        done = fleetsim_cli("runs", "--results", url)
        assert done.code == 0
        assert f"passed over: {url}/{run}/result.json" in done.err
    finally:
        where.fs.rm(where.path, recursive=True)


def test_a_page_of_somebody_else_is_left_as_it_is(
    project: Project, fleetsim_cli: Cli, no_report: None
) -> None:
    """An ``index.html`` that is no gallery stays, whatever is done beside it."""
    url = "memory://foreign-page/results"
    where: Any = place(url)
    where.fs.pipe_file(f"{where.path}/index.html", b"<p>mine")
    try:
        assert fleetsim_cli("sweep", SMOKE, "--engine", "library", "--results", url).code == 0
        assert fleetsim_cli("report", SMOKE, "--results", url).code == 0
        done = fleetsim_cli("runs", "--html", "--results", url)
        assert done.code == 2
        assert f"{url}/index.html: another page than a gallery" in done.err
        assert stored(url)["index.html"] == b"<p>mine"
    finally:
        where.fs.rm(where.path, recursive=True)


def test_the_library_takes_folders(project: Project) -> None:
    """A URL would become a folder of that name; the message does not repeat it."""
    with pytest.raises(InputError, match="found a URL; allowed: a folder") as raised:
        execute(project, SMOKE, results=f"s3://{SECRET}/x", options=RunOptions(Engine.LIBRARY))
    assert SECRET not in str(raised.value)


def test_an_error_is_the_same_in_another_process() -> None:
    """With its parts, which workers send."""
    error = InputError("where", "one", "two", next_step="do this")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    assert (str(again), again.faults, again.exit_code) == (str(error), error.faults, 2)
