"""The commands around experiments, as a user types them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import copy_project

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def own_project(tmp_path, monkeypatch):
    """Return a project of its own, with this repository's experiments and notebooks."""
    copy_project(tmp_path)
    monkeypatch.chdir(tmp_path / "notebooks")  # a folder below the root does as well
    return tmp_path


def test_check_shows_the_contradiction_of_experiment_001(fleetsim_cli):
    """Probabilities, the contradiction and the remedies are on the terminal; exit code 0."""
    done = fleetsim_cli("check", "001-baseline", "--all")
    assert done.code == 0
    assert re.search(r"event_count_stated .* < 1 in a million +cannot pass", done.out)
    assert "No number of events satisfies both" in done.out
    assert "4.658" in done.out
    assert "134" in done.out


@pytest.mark.parametrize("experiment", ["001-baseline", "000-smoke", "004-acceptance"])
def test_check_is_short(fleetsim_cli, experiment):
    """What cannot pass, why and the nearest remedy; what is hardly seen; where the rest is."""
    lines = fleetsim_cli("check", experiment).out.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 100
    if experiment == "001-baseline":
        text = " ".join(" ".join(lines).split())
        assert "13 criteria: 2 cannot pass, 8 should pass, 3 measured." in text
        assert "nearest remedy: -p event_rate_per_driver 5 or -p number_of_companies 143" in text
        assert "No number of events satisfies both" in text
    assert lines[-1].startswith(f"fleetsim check {experiment} --all shows")


def test_check_strict_ends_with_a_finding(fleetsim_cli):
    """``--strict`` exits with 3 for a contradictory experiment, and 0 for a sound one."""
    assert fleetsim_cli("check", "001-baseline", "--strict").code == 3
    assert fleetsim_cli("check", "002-baseline-5k", "--strict").code == 0


def test_check_shows_power_and_warnings(fleetsim_cli):
    """Power in words with its levels, warnings apart from findings, lines of 100 characters."""
    done = fleetsim_cli("check", "002-baseline-5k", "--strict", "--all")
    assert done.code == 0
    assert "Nothing contradicts." in done.out
    findings, _, rest = done.out.partition("What these criteria hardly see or decide:")
    assert "nearly blind" not in findings
    assert "±10 % is 7.07 standard deviations" in " ".join(rest.split())
    assert "the hard limit for gates" in " ".join(rest.split())
    assert re.search(r"if the truth were +at 0\.0\d+ +at 1e-06 +fails +inconclusive", rest)
    assert re.search(r"rate 2 % too high +\d+\.?\d* % ", rest)
    assert re.search(r"start driving \+2 points, stopped driving -2 +\d+\.?\d* %", rest)
    assert re.search(r"true variation 10 %, half the limit +< 1 in a million ", rest)
    assert max(len(line) for line in done.out.splitlines()) <= 100
    assert not re.search(r"\d\n +%", done.out)


@pytest.mark.parametrize(
    ("experiment", "start"),
    [
        ("001-baseline", "001-baseline: 3500 events expected, standard deviation 59.16 13 c"),
        ("004-acceptance", "004-acceptance: 168000 events expected in 48 batches, standard deviat"),
        (
            "003-calibration",
            "003-calibration: 10000 fault-free seeds, each with one batch (3500 events expected) "
            "and again with 8 (28000); 500 seeds of each control 4 criteria",
        ),
    ],
)
def test_check_opens_with_what_a_run_makes(fleetsim_cli, experiment, start):
    """A single batch, many, or many seeds: the first line says which."""
    assert " ".join(fleetsim_cli("check", experiment).out.split()).startswith(start)


def test_check_gives_json(fleetsim_cli):
    """``--json`` holds every criterion with its probability, and the remedies."""
    result = json.loads(fleetsim_cli("check", "001-baseline", "--json").out)
    assert len(result["criteria"]) == 13
    assert result["mean"] == 3500
    assert {row["parameter"] for row in result["remedies"]["event_count_stated"]} == {
        "event_rate_per_driver",
        "number_of_companies",
        "drivers_per_company",
    }
    rows = {row["id"]: row for row in result["criteria"]}
    assert rows["memory_peak"]["power"] == rows["event_count_stated"]["power"] == []
    for row in rows["event_count_expected"]["power"]:
        assert set(row) == {"alternative", "level", "power", "fails", "inconclusive"}
        assert row["level"] in (result["alpha"] / result["family"], 1e-6)
    assert all(warning.partition(": ")[0] in rows for warning in result["warnings"])


def test_an_unknown_experiment_lists_those_that_exist(fleetsim_cli):
    """Exit code 2, the nearest id and all ids."""
    for command in ("check", "run", "document"):
        done = fleetsim_cli(command, "001-basline")
        assert done.code == 2
        assert "did you mean 001-baseline?" in done.err
        assert "000-smoke, 001-baseline, 002-baseline-5k" in done.err
        assert "Traceback" not in done.err


def test_a_folder_without_a_project_says_so(fleetsim_cli, tmp_path, monkeypatch):
    """Outside of a project, the error names the way in."""
    monkeypatch.chdir(tmp_path)
    done = fleetsim_cli("check", "001-baseline")
    assert done.code == 2
    assert "FLEETSIM_ROOT" in done.err
    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))
    assert "holds no experiments/" in fleetsim_cli("check", "001-baseline").err
    monkeypatch.setenv("FLEETSIM_ROOT", str(ROOT))
    assert fleetsim_cli("check", "001-baseline").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "seeed", "1"], "did you mean seed?"),
        (["-p", "1=a;import os;os.remove('x')", "5"], "is not a name"),
        (["-p", "seed", "true"], "seed: found True"),
        (["-p", "seed", "1.5"], "seed: found 1.5"),
        (["-p", "seed", "-1"], "seed: found -1"),
        (["-p", "event_rate_per_driver", "1e9"], "from 0 to 10000"),
        (["-p", "repeats", "9"], "from 10"),
        (["-f", "missing.yaml"], "no such file"),
        (["-f", "other.yaml"], "experiment: found '001-baseline'"),
    ],
)
def test_wrong_parameters_are_one_error_and_write_nothing(
    fleetsim_cli, own_project, words, message
):
    """Exit code 2 before a kernel starts, and no results folder appears."""
    Path("other.yaml").write_text("experiment: 001-baseline\nseed: 3\n")
    done = fleetsim_cli("run", "000-smoke", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (own_project / "results").exists()


@pytest.mark.notebook
def test_run_ends_with_verdicts_and_the_report(fleetsim_cli, own_project, monkeypatch):
    """Parameters of file and command line arrive; verdicts, overall line and path end it."""
    monkeypatch.setattr("fleetsim.base.progress.EVERY", 1e9)  # a busy machine would see progress
    Path("params.yaml").write_text("experiment: 000-smoke\nseed: 3\nevent_rate_per_driver: 1e1\n")
    done = fleetsim_cli("run", "000-smoke", "-f", "params.yaml", "-p", "seed", "4", "--strict")
    assert done.err == ""
    assert done.out.startswith("criterion")
    assert "event_count_expected" in done.out
    report = Path(done.out.splitlines()[-1].removeprefix("report: "))
    assert report.name == "report.html"
    record = json.loads(report.with_name("result.json").read_text())
    assert record["parameters"]["seed"] == 4
    assert record["parameters"]["event_rate_per_driver"] == 10.0
    verdicts = [criterion["verdict"] for criterion in record["criteria"]]
    assert done.code == (0 if set(verdicts) == {"pass"} else 3)
    assert f"{verdicts.count('pass')} pass, " in done.out
    assert fleetsim_cli("report", "000-smoke", "--check").code == 0
    assert fleetsim_cli("verify", report.parent).code == 0
    assert fleetsim_cli("verify", "000-smoke").code == 0
    assert fleetsim_cli("verify", f"000-smoke/{record['run_id']}", "--json").code == 0
    events = next(report.parent.glob("data/raw/events/*/events.jsonl"))
    events.write_bytes(events.read_bytes()[:-1])
    assert fleetsim_cli("verify", report.parent).code == 3
    document = report.with_name("experiment.md")
    document.write_text(document.read_text().replace("pass", "fail"))
    done = fleetsim_cli("report", f"000-smoke/{record['run_id']}", "--check")
    assert (done.code, "experiment.md is not what" in done.out) == (3, True)
    assert fleetsim_cli("report", report.parent).code == 0
    assert fleetsim_cli("report", report.parent, "--check").code == 0


@pytest.mark.notebook
def test_a_run_that_breaks_exits_with_1(fleetsim_cli, own_project):
    """One message names the kind of error and where the evidence lies."""
    path = own_project / "notebooks" / "experiment.ipynb"
    path.write_text(path.read_text().replace('"run.generate()"', '"1 / 0"'))
    done = fleetsim_cli("run", "000-smoke")
    assert done.code == 1
    assert "ZeroDivisionError: division by zero" in done.err
    assert "report.ipynb" in done.err
    assert "Traceback" not in done.err


def test_report_of_no_run_says_what_is_allowed(fleetsim_cli, own_project):
    """An experiment without a run, and a notebook that does not exist, are usage errors."""
    done = fleetsim_cli("report", "001-baseline")
    assert done.code == 2
    assert "(none yet)" in done.err


def test_document_needs_experiments_or_all(fleetsim_cli, own_project):
    """Neither or both is a usage error; an id writes that document."""
    assert fleetsim_cli("document").code == 2
    assert fleetsim_cli("document", "--all", "000-smoke").code == 2
    path = own_project / "experiments" / "000-smoke" / "experiment.md"
    before = path.read_text()
    path.unlink()
    assert fleetsim_cli("document", "000-smoke").code == 0
    assert path.read_text() == before


def test_every_command_has_help(fleetsim_cli):
    """``--help`` of the group lists the commands, and each of them explains itself."""
    listed = fleetsim_cli("--help").out
    commands = "companies events check run verify report document audit runs compare"
    for command in commands.split():
        assert command in listed
        done = fleetsim_cli(command, "--help")
        assert done.code == 0
        assert "Usage: fleetsim" in done.out


def test_module_and_command_are_the_same():
    """``python -m fleetsim`` is ``fleetsim``."""
    done = subprocess.run(
        [sys.executable, "-m", "fleetsim", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("fleetsim, version ")


def test_the_examples_of_the_readme_print_what_they_show(monkeypatch, capsys):
    """The Python examples in README.md, run as they stand, give the output beneath them."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for code, shown in examples:
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102 (our own example)
        assert capsys.readouterr().out == shown


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["nonsense"], 2)])
def test_a_process_ends_with_its_code_after_all_exit_handlers(early, words, code):
    """Output in buffers is not lost, whether the interpreter is taken apart or not."""
    program = f"""
import atexit, sys
from fleetsim.cli import main as cli
from fleetsim.__main__ import entry
def register():
    atexit.register(sys.stdout.write, "handler")
def main(*clocks, real=cli.main):
    {"" if early else "register()"}
    real(*clocks)
class Last:
    def __del__(self, write=sys.stderr.write):
        write("taken apart")
cli.main = main
sys.last = Last()
sys.argv = ["fleetsim", *{words!r}]
{"register()" if early else ""}
entry()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code
    assert done.stdout.endswith("handler")
    if not early:  # else it is taken apart, as far as this Python does that
        assert "taken apart" not in done.stderr


def test_output_that_cannot_be_written_is_an_error():
    """A full disk behind standard output: not the code of success."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fleetsim", "--version"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode in (1, 120)  # 120 says that the interpreter could not flush it either
    assert "No space left" in done.stderr


def test_the_help_has_whole_summaries(fleetsim_cli):
    """None is cut off, whatever the width of the terminal."""
    done = fleetsim_cli("--help")
    assert "..." not in done.out.partition("Commands:")[2]
    assert "structure, then every test." in " ".join(done.out.split())
