"""A folder of results that is another's: links lead nowhere, what was left is cleared."""

import fcntl
import os
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest
from made_runs import made_record, write_run

from fleetsim.base.errors import InputError
from fleetsim.base.files import claim_folder, clear_left, point_link, write_file
from fleetsim.base.project import Project
from fleetsim.experiment.results import find_run, own_folder
from fleetsim.report.gallery import render_gallery, write_gallery
from fleetsim.report.listing import list_runs
from fleetsim.report.run_report import check_report, render_report
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import sweep_lock

LEFT = (
    ".run-0123456789abcdef0123456789abcdef.partial",
    ".url-0123456789abcdef0123456789abcdef.partial",
    ".sweep-0123456789abcdef0123456789abcdef.partial",
    ".20260101T000000Z-0123abcd.partial",
)


@pytest.fixture
def outside(tmp_path):
    """Return a file that nothing may read or write by way of the results."""
    path = tmp_path / "outside" / "secret"
    path.parent.mkdir()
    path.write_text("secret")
    return path


@pytest.fixture
def results(tmp_path):
    """Return results with two runs, and the link to the newer one."""
    results = tmp_path / "results"
    for name in ("r1", "r2"):
        write_run(results, made_record(name))
    point_link(results / "000-smoke" / "latest", "r2")
    return results


def test_nothing_is_written_through_a_link(results, outside):
    """Neither by the names that were used, nor by those that are: nobody can know them."""
    run = results / "000-smoke" / "r1"
    for name in ("experiment.md", "report.ipynb", "report.html"):
        (run / f".{name}.partial").symlink_to(outside)
    write_file(run / "experiment.md", b"document")
    for path in run.glob(".*"):
        path.unlink()
    (results / ".index.html.partial").symlink_to(outside)
    write_gallery(results)
    (run / "report.html").symlink_to(outside)
    write_file(run / "report.html", b"new")  # in its place, not through it
    assert (run / "report.html").read_bytes() == b"new"
    assert not (run / "report.html").is_symlink()
    assert outside.read_text() == "secret"


def test_unfinished_files_are_made_new(tmp_path, monkeypatch):
    """Under a random name, and never where something stands."""
    opened = []
    plain_open = os.open

    def spy(path, flags, *rest, **more):
        if str(path).endswith(".partial"):
            opened.append((os.fspath(path), flags))
        return plain_open(path, flags, *rest, **more)

    monkeypatch.setattr("os.open", spy)
    old = os.umask(0o027)
    try:
        for _ in range(2):
            write_file(tmp_path / "x", b"x")
    finally:
        os.umask(old)
    assert len({path for path, _ in opened}) == 2
    assert all(flags & os.O_EXCL and flags & os.O_NOFOLLOW for _, flags in opened)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("name", ["result.json", "experiment.md", "data", "figures/x.png"])
def test_a_run_with_links_out_is_refused(fleetsim_cli, results, outside, name):
    """Every command that reads it names every link, and writes nothing."""
    run = results / "000-smoke" / "r1"
    (run / "figures").mkdir()
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside.parent if name == "data" else outside)
    (run / "another").symlink_to("../../../outside")
    for command in (
        ("report", "000-smoke/r1"),
        ("report", "000-smoke/r1", "--check"),
        ("report", run),
        ("compare", "000-smoke/r1", "000-smoke/r2"),
        ("verify", "000-smoke/r1"),
        ("verify", run),
    ):
        done = fleetsim_cli(*command, "--results", results)
        assert (done.code, done.out) == (2, ""), command
        assert f"{name} -> {outside.parent}" in done.err
        assert "another -> ../../../outside: a symbolic link that leads out" in done.err
    assert outside.read_text() == "secret"
    with pytest.raises(InputError, match="2 faults"):
        check_report(run)
    with pytest.raises(InputError, match="2 faults"):
        render_report(run)


def test_a_link_inside_is_followed(results):
    """Our own link to the newest run, and any other that stays."""
    project = Project(results.parent)
    assert find_run(project, "000-smoke").name == "r2"
    (results / "000-smoke" / "best").symlink_to("r1")
    assert find_run(project, "000-smoke/best").name == "r1"
    assert find_run(project, str(results / "000-smoke" / "latest")).name == "r2"


def test_a_list_names_what_leads_out(fleetsim_cli, results, outside, tmp_path):
    """A record, a run, an experiment, and a latest that are links to elsewhere are no runs."""
    elsewhere = tmp_path / "elsewhere"
    write_run(elsewhere, made_record("r9"))
    away = elsewhere / "000-smoke" / "r9"
    (results / "000-smoke" / "r3").mkdir()
    (results / "000-smoke" / "r3" / "result.json").symlink_to(away / "result.json")
    (results / "000-smoke" / "r4").symlink_to(away)
    (results / "001-away").symlink_to(elsewhere / "000-smoke")
    (results / "000-smoke" / "latest").unlink()
    (results / "000-smoke" / "latest").symlink_to(away)
    runs, damaged = list_runs(results)
    assert [run.run_id for run in runs] == ["r1", "r2"]
    said = sorted(error.where.removeprefix(f"{results}/") for error in damaged)
    assert said == ["000-smoke/latest", "000-smoke/r3", "000-smoke/r4", "001-away"]
    done = fleetsim_cli("runs", "--results", results)
    assert done.code == 0
    assert done.err.count("a symbolic link that leads out of the") == 4
    for name in ("000-smoke", "000-smoke/r3", "000-smoke/r4", "001-away/r9"):
        done = fleetsim_cli("report", name, "--check", "--results", results)
        assert (done.code, done.out) == (2, ""), name
        assert "a symbolic link that leads out of the" in done.err
    page = render_gallery(results)
    assert page.count("symbolic link") == 4
    assert "r9" not in page.replace(str(away), "")


def test_a_gallery_links_to_nothing_outside(results, outside):
    """Nor does it take a link for its own page."""
    run = results / "000-smoke" / "r1"
    (run / "report.html").symlink_to(outside)
    (results / "compare").mkdir()
    (results / "compare" / "a.html").symlink_to(outside)
    page = render_gallery(results)
    assert "r1/report.html" not in page
    assert "a.html" not in page
    (results / "index.html").symlink_to(outside)
    with pytest.raises(InputError, match="another page"):
        write_gallery(results)


def test_nothing_is_made_in_a_folder_that_leads_out(fleetsim_cli, results, outside):
    """Runs, sweeps and comparisons are refused before they begin."""
    (results / "compare").symlink_to(outside.parent)
    done = fleetsim_cli("compare", "000-smoke/r1", "000-smoke/r2", "--results", results)
    assert done.code == 2
    assert f"leads out of the results, to {outside.parent}" in done.err
    for name, command in {"001-baseline": "run", "010-fleet-size": "sweep"}.items():
        (results / name).symlink_to(outside.parent)
        done = fleetsim_cli(command, name, "--results", results)
        assert (done.code, done.out) == (2, ""), command
        assert f"leads out of the results, to {outside.parent}" in done.err
    assert [path.name for path in outside.parent.iterdir()] == ["secret"]


def test_a_circle_leads_out(tmp_path):
    """A link to itself is no folder."""
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(InputError):
        own_folder(tmp_path / "a", tmp_path / "b")


def test_the_lock_of_a_sweep_is_no_link(results, outside, tmp_path, monkeypatch):
    """It would be made, or held, elsewhere."""
    monkeypatch.setenv("FLEETSIM_ROOT", str(outside.parents[1]))
    sweep = plan_sweep(Project(find_root()), "010-fleet-size", results=str(results), confirmed=True)
    sweep.folder.mkdir()
    (sweep.folder / ".sweep.lock").symlink_to(outside.parent / "made")
    with pytest.raises(InputError, match=r"\.sweep\.lock"), sweep_lock(sweep):
        pass
    assert [path.name for path in outside.parent.iterdir()] == ["secret"]


def find_root():
    """Return this repository."""
    from support import ROOT

    return ROOT


@contextmanager
def held(folder):
    """Hold a folder as a run does, in another process."""
    code = (
        "import sys; from pathlib import Path; from fleetsim.base.files import claim_folder\n"
        "lock = claim_folder(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout.readline() == b"held\n"
        yield child
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize(
    "command",
    [
        ("runs",),
        ("runs", "--html"),
        ("compare", "000-smoke/r1", "000-smoke/r2"),
        ("report", "000-smoke/r1"),
        ("report", "000-smoke/r1", "--check"),
        ("verify", "000-smoke/r1"),
        ("sweep", "010-fleet-size", "--dry-run"),
        ("run", "000-smoke", "-p", "seed", "wrong"),
    ],
)
def test_the_next_command_clears_what_was_left(fleetsim_cli, results, outside, command):
    """Whichever it is; what a living process holds stays, and what is nobody's leaving too."""
    alive = ".run-ffffffffffffffffffffffffffffffff.partial"
    with held(results / alive) as child:
        for folder in (results, results / "000-smoke"):
            for name in LEFT:
                (folder / name / "000-smoke").mkdir(parents=True)
                (folder / name / "000-smoke" / "file").write_text("x")
                (folder / name / "away").symlink_to(outside.parent)
            (folder / ".index.html.0123456789abcdef.partial").write_text("half")
            (folder / ".notes.partial").write_text("mine")
        fleetsim_cli(*command, "--results", results)
        kept = {".notes.partial", alive}
        hidden = {path.name for path in results.iterdir() if path.name.startswith(".")}
        assert hidden == kept
        hidden = {p.name for p in (results / "000-smoke").iterdir() if p.name.startswith(".")}
        assert hidden == {".notes.partial"}
        assert outside.read_text() == "secret"
        child.kill()
        child.wait()
        fleetsim_cli("runs", "--results", results)
    assert not (results / alive).exists()


def test_a_report_by_path_clears_its_own_results(fleetsim_cli, results):
    """Named by a path, a run may be of other results than those of the project."""
    run = results / "000-smoke" / "r1"
    (results / LEFT[0]).mkdir()
    (run / ".report.html.0123456789abcdef.partial").write_text("half")
    fleetsim_cli("report", run, "--check")
    assert sorted(path.name for path in results.iterdir()) == ["000-smoke"]
    assert [path.name for path in run.iterdir()] == ["result.json"]


def test_a_file_under_way_is_not_cleared(tmp_path):
    """It is locked from before it has content until it has its name."""

    def pieces():
        yield b"a"
        (left,) = tmp_path.glob(".x.*.partial")
        clear_left(tmp_path)
        os.close(claim_folder(tmp_path / ".run.partial"))
        assert left.exists()
        yield b"b"

    write_file(tmp_path / "x", pieces())
    assert (tmp_path / "x").read_bytes() == b"ab"


def test_a_file_cleared_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    """Between its making and its lock another command may have looked."""
    plain, cleared = fcntl.flock, []

    def lock(descriptor, how):
        if not cleared:
            cleared.extend(tmp_path.glob(".x.*.partial"))
            cleared[0].unlink()
        plain(descriptor, how)

    monkeypatch.setattr("fcntl.flock", lock)
    write_file(tmp_path / "x", b"x")
    assert (tmp_path / "x").read_bytes() == b"x"
    assert len(cleared) == 1
