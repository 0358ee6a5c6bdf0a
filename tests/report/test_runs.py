"""The list of runs: what it shows, what it passes over, and what it never loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from made_runs import failed, made_record, with_verdict, write_run
from support import HEAVY, ROOT

from fleetsim.base.errors import InputError
from fleetsim.base.files import point_link
from fleetsim.base.project import Project
from fleetsim.experiment.record import read_record
from fleetsim.experiment.results import latest_beside, one_line
from fleetsim.report.listing import differing_parameters, list_runs, select_runs, sort_runs


@pytest.fixture
def results(tmp_path):
    """Return a results folder with three completed runs of other seeds and a failed one."""
    folder = tmp_path / "results"
    for name, seed, verdict in (("r1", 7, "pass"), ("r2", 30, "fail"), ("r3", 9, "inconclusive")):
        record = with_verdict(made_record(name, seed=seed), "memory_peak", verdict)
        write_run(folder, record)
    write_run(folder, failed(made_record("r4", seed=8), "out of\n\x1b[31mmemory"))
    point_link(folder / "000-smoke" / "latest", "r3")
    return folder


@pytest.fixture
def damaged(results):
    """Return the same folder with everything that is no run beside the runs."""
    home = results / "000-smoke"
    good = (home / "r1" / "result.json").read_text()
    for name, text in (
        ("cut", good[:500]),
        ("other", json.dumps({"schema": 2, "runs": []})),
        ("planned", good.replace('"completed"', '"planned"')),
        ("twice", good.replace("{", '{"schema": 1,', 1)),
        ("undated", good.replace('"finished": "2025', '"finished": "soon')),
        ("empty", ""),
    ):
        (home / name).mkdir()
        (home / name / "result.json").write_text(text)
    (home / "nothing").mkdir()
    (home / "folder" / "result.json").mkdir(parents=True)
    (home / ".r5.partial").mkdir()
    (home / "sweep.html").write_text("a file is no run")
    (results / "compare").mkdir()
    (results / "compare" / "a-b.html").write_text("nor is a page")
    return results


def test_json_has_the_agreed_entries(fleetsim_cli, results):
    """One entry a run, with every effective parameter and the verdict of each criterion."""
    done = fleetsim_cli("runs", "--results", results, "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    assert [list(row) for row in rows] == [
        [
            *("experiment", "run_id", "status", "parameters", "path", "verdicts"),
            *("started", "seconds", "answer", "observed"),
        ]
    ] * 4
    first = rows[0]
    assert first["parameters"] == made_record("r1", seed=7).parameters
    assert {"seed", "repeats", "replicates", "batch_interval"} <= set(first["parameters"])
    assert first["verdicts"]["memory_peak"] == "pass"
    assert len(first["verdicts"]) == len(made_record().criteria)
    assert first["path"] == str(results.resolve() / "000-smoke" / "r1")  # outside the project
    assert rows[3]["status"] == "failed"
    assert rows[3]["verdicts"] == {}
    assert first["answer"] == {"verdict": "supported", "text": first["answer"]["text"]}
    assert first["observed"].keys() == first["verdicts"].keys()
    assert (rows[3]["answer"], rows[3]["observed"]) == (None, {})
    assert [row["seconds"] for row in rows] == [2.5] * 4


def test_paths_in_the_project_are_relative(fleetsim_cli):
    """The reference run is named from the root, wherever the command is given."""
    rows = json.loads(fleetsim_cli("runs", "--json", "--experiment", "001-baseline").out)
    assert "results/001-baseline/reference" in [row["path"] for row in rows]


def test_the_table_shows_what_differs_and_why_a_run_failed(fleetsim_cli, results):
    """One line a run in a pipe; parameters that are the same everywhere are left out."""
    lines = fleetsim_cli("runs", "--results", results).out.splitlines()
    n = len(made_record().criteria)
    assert lines[1].split() == f"000-smoke r1 supported {n} 0 0 2.5 s seed 7".split()
    assert "DeadKernelError: out of [31mmemory, seed 8" in lines[4]
    assert "\x1b" not in "".join(lines)
    assert lines[-1] == "4 of 4 runs"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--status", "failed"), ["r4"]),
        (("--verdict", "fail"), ["r2"]),
        (("--verdict", "pass"), ["r1", "r2", "r3"]),
        (("--sort", "seed"), ["r1", "r4", "r3", "r2"]),
        (("--sort", "-seed"), ["r2", "r3", "r4", "r1"]),
        (("--sort", "-pass", "--status", "completed"), ["r1", "r2", "r3"]),
        (("--experiment", "001-baseline"), []),
    ],
)
def test_runs_are_chosen_and_sorted(fleetsim_cli, results, options, names):
    """By status, verdict and experiment; by counts and by any parameter, as numbers."""
    done = fleetsim_cli("runs", "--results", results, "--json", *options)
    assert [row["run_id"] for row in json.loads(done.out)] == names


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sort", "sead"), "did you mean seed?"),
        (("--experiment", "000-smok"), "did you mean 000-smoke?"),
        (("--results", "nowhere"), "no such folder"),
        (("--status", "planned"), "completed"),
    ],
)
def test_what_cannot_be_listed_is_bad_usage(fleetsim_cli, results, options, words):
    """One message that says what is allowed, and exit code 2."""
    done = fleetsim_cli("runs", "--results", results, *options)
    assert done.code == 2
    assert words in done.err


def test_damaged_records_are_named_and_passed_over(fleetsim_cli, damaged):
    """Each on stderr with its place and reason; the others are listed, and the code is 0."""
    done = fleetsim_cli("runs", "--results", damaged, "--json")
    assert done.code == 0
    assert [row["run_id"] for row in json.loads(done.out)] == ["r1", "r2", "r3", "r4"]
    named = [line for line in done.err.splitlines() if "passed over" in line]
    words = {
        "cut": "damaged",
        "other": "found schema 2; allowed: 1",
        "planned": "Invalid enum value",
        "twice": "duplicate key",
        "undated": "a time with its zone",
        "empty": "damaged",
        "nothing": "no result.json here",
        "folder": "cannot be read",
    }
    assert len(named) == len(words)
    for name, why in words.items():
        assert [why in line for line in named if f"/{name}" in line] == [True], name


def test_a_record_of_another_version_is_refused_whole_too(damaged):
    """The reader of the whole record says the version, not the first thing that does not fit."""
    with pytest.raises(InputError, match="found schema 2; allowed: 1"):
        read_record(damaged / "000-smoke" / "other")


def test_before_the_first_run_there_is_nothing_to_list(fleetsim_cli, tmp_path, monkeypatch):
    """A project without a results folder is no error."""
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    done = fleetsim_cli("runs")
    assert (done.code, done.out, done.err) == (0, "no run yet\n", "")
    assert json.loads(fleetsim_cli("runs", "--json").out) == []


def test_listing_loads_nothing_of_the_analysis(results):
    """Neither NumPy nor any library of tests, plots and notebooks."""
    code = f"""
import json, sys
from fleetsim import __main__
sys.argv = ["fleetsim", "runs", "--results", {str(results)!r}]
try:
    __main__.main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in loaded if name.split(".")[0] in {*HEAVY, "numpy", "yaml"}] == []


def test_parameters_differ_within_one_experiment(tmp_path):
    """A value that only another experiment has makes no difference; types count."""
    write_run(tmp_path, made_record("a", seed=1))
    write_run(tmp_path, made_record("b", seed=2))
    other = msgspec.structs.replace(made_record("c", seed=3), experiment="001-baseline")
    write_run(tmp_path, other)
    runs, damaged = list_runs(tmp_path)
    assert damaged == []
    assert differing_parameters(runs) == [{"seed": 1}, {"seed": 2}, {}]


def test_values_of_two_types_sort_numbers_first_and_none_last(tmp_path):
    """A text among numbers is no error, and a run without the parameter comes last."""
    for name, value in (("a", "x"), ("b", 3), ("c", None), ("d", 2.5)):
        record = made_record(name)
        extra = {} if value is None else {"extra": value}
        write_run(
            tmp_path,
            msgspec.structs.replace(record, parameters={**record.parameters, **extra}),
        )
    runs, _ = list_runs(tmp_path)
    assert [run.run_id for run in sort_runs(runs, "extra")] == ["d", "b", "a", "c"]
    assert [run.run_id for run in sort_runs(runs, "-extra")] == ["a", "b", "d", "c"]
    assert select_runs(runs, status="failed") == []


def test_the_latest_of_an_experiment_is_found_beside_a_run(results):
    """It is refused where it is the run itself, or where there is none."""
    home = results / "000-smoke"
    assert latest_beside(home / "r1") == (home / "r3").resolve()
    with pytest.raises(InputError, match="is the baseline itself"):
        latest_beside(home / "r3")
    newest = (home / "r3").resolve()
    os.unlink(home / "latest")  # not every file system has links: then the records tell
    assert latest_beside(home / "r1") == newest
    (home / "latest").symlink_to("gone")
    with pytest.raises(InputError, match="has no latest run"):
        latest_beside(home / "r1")


def test_a_foreign_text_stays_on_its_line():
    """What would steer a terminal is gone, and long texts are cut."""
    assert one_line("a\r\n\tb\x1b[2J") == "a b [2J"
    assert one_line("x" * 200, 10) == "x" * 9 + "…"


def test_the_front_of_the_project_is_the_reference_of_paths(tmp_path):
    """A run below the root is named from it, also through a link to the root."""
    write_run(tmp_path / "home" / "results", made_record("r"))
    (tmp_path / "link").symlink_to("home")
    project = Project(tmp_path / "link")
    runs, _ = list_runs(project.results(None))
    assert runs[0].as_dict(project)["path"] == "results/000-smoke/r"
    assert Path(runs[0].folder).is_dir()
