"""A kind of experiment from outside of the package: installed, run, read without it, and broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Cli, Outcome, copy_project
from sweeps import LIBRARY

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.project import Project
from fleetsim.experiment import kind as registry
from fleetsim.experiment.document import template
from fleetsim.experiment.kind import find_kind, kinds
from fleetsim.experiment.record import read_record
from fleetsim.experiment.spec import load_experiment
from fleetsim.experiment.steps import open_run, run_key
from fleetsim.sweep.plan import plan_sweep
from fleetsim.sweep.run import run_sweep

OUTSIDE = Path(__file__).parent / "outside"
COINS = "100-coins"


def install(site: Path, kind: str, target: str, *, name: str = "") -> None:
    """Write the metadata of an installed distribution with one entry point."""
    name = name or target.partition(":")[0]
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fleetsim.kinds]\n{kind} = {target}\n")


def forget() -> None:
    """Let the kinds be looked for again."""
    for cached in (registry._look, registry._warn_of_broken, registry.kind_hash, template):
        cached.cache_clear()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder whose packages are installed in this process."""
    site = tmp_path / "site"
    site.mkdir()
    for module in ("fleetsim_coins", "beginner"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(site)
    forget()
    yield site
    forget()
    sys.modules.pop("fleetsim_coins", None)
    sys.modules.pop("beginner", None)


@pytest.fixture
def coins(here: Path) -> Path:
    """Return the folder in which the model kind is installed."""
    shutil.copytree(OUTSIDE / "fleetsim_coins", here / "fleetsim_coins")
    install(here, "coins", "fleetsim_coins:CoinsKind")
    return here


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project with an experiment of the model kind, which the commands find."""
    shutil.copytree(OUTSIDE / "project", tmp_path / "home")
    copy_project(tmp_path / "home", "experiments/000-smoke")
    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path / "home"))
    return Project(tmp_path / "home")


def child(home: Project, site: Path | None, *words: object) -> Outcome:
    """Run a module of Python in a process in which a kind is installed, or is not."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=home.root,
        env=environment,
        capture_output=True,
        text=True,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.notebook
@pytest.mark.slow
def test_a_kind_from_outside_is_run_to_its_report_and_read_without_it(
    home: Project, tmp_path: Path, fleetsim_cli: Cli
) -> None:
    """By one command and by plain papermill; where it is not installed its runs stay readable."""
    site = tmp_path / "installed"
    shutil.copytree(OUTSIDE / "fleetsim_coins", site / "fleetsim_coins")
    install(site, "coins", "fleetsim_coins:CoinsKind")

    done = child(home, site, "fleetsim", "run", COINS, "-p", "flips", "1000")
    assert done.code == 0, done.err
    first = (home.root / "results" / COINS / "latest").resolve()
    out = tmp_path / "out.ipynb"
    done = child(
        home, site, "papermill", "notebooks/coins.ipynb", out, "-p", "experiment", COINS,
        "-p", "seed", 8, "--no-progress-bar",
    )  # fmt: skip
    assert done.code == 0, done.err
    second = (home.root / "results" / COINS / "latest").resolve()
    assert second != first
    done = child(home, site, "fleetsim", "report", COINS, "--notebook", out)
    assert done.code == 0, done.err

    for run, flips, seed in ((first, 1000, 7), (second, 2000, 8)):
        data = json.loads((run / "result.json").read_text())
        assert data["description"]["kind"] == "coins"
        assert data["description"]["coins"] == 3
        assert data["coins"]["flips"] == flips
        assert data["parameters"] == {"experiment": COINS, "flips": flips, "seed": seed}
        assert data["provenance"]["versions"]["fleetsim_coins"] == "1.0"
        assert [c["verdict"] for c in data["criteria"]] == ["pass", "pass"]
        assert f"3 coins, {flips} flips of each." in (run / "experiment.md").read_text()
        assert f"| 1 | {data['coins']['heads'][0]} |" in (run / "experiment.md").read_text()
        assert 'alt="Bars: heads of each of 3 coins' in (run / "report.html").read_text()
        assert {path.name for path in (run / "figures").iterdir()} == {"heads.png", "heads.svg"}

    # From here on the kind is not installed.
    assert read_record(second).section == data["coins"]
    listed = fleetsim_cli("runs")
    assert listed.code == 0
    assert first.name in listed.out
    assert second.name in listed.out
    assert fleetsim_cli("compare", first, second).code == 0
    for words in (("report", COINS), ("report", COINS, "--check"), ("check", COINS)):
        refused = fleetsim_cli(*words)
        assert refused.code == 2, words
        assert "kind: found 'coins'" in refused.err
        assert "installed" in refused.err
        assert refused.err.count("found") == 1


def test_the_library_checks_documents_and_sweeps_a_kind_from_outside(
    home: Project, coins: Path, fleetsim_cli: Cli
) -> None:
    """The grid is over a parameter that only this kind has; a second sweep has nothing to do."""
    checked = fleetsim_cli("check", COINS)
    assert checked.code == 0, checked.err
    assert "3 coins, 2000 flips of each" in checked.out
    assert "flips int" in fleetsim_cli("run", COINS, "--help").out
    assert fleetsim_cli("document", COINS).code == 0
    assert "2000 flips of each" in (home.experiments / COINS / "experiment.md").read_text()

    sweep = plan_sweep(home, COINS)
    run_sweep(sweep, LIBRARY)
    again = plan_sweep(home, COINS)
    assert len(again.finished) == 4
    assert again.to_do() == []
    runs = [read_record(path) for path in again.finished.values()]
    assert sorted(run.section.flips for run in runs) == [1000, 1000, 2000, 2000]
    compared = fleetsim_cli("compare", *list(again.finished.values())[:2])
    assert compared.code in (0, 3), compared.err
    refused = fleetsim_cli("run", COINS, "-p", "flips", "0")
    assert refused.code == 2
    assert "flips: found 0; allowed: a whole number from 1 to 1000000" in refused.err


def test_an_outside_kind_does_not_claim_what_names_its_notebook_alone(
    home: Project, coins: Path
) -> None:
    """A file without `kind:` is older than any kind from outside, or of the default kind."""
    path = home.experiments / COINS / "experiment.yaml"
    path.write_text(path.read_text().replace("kind: coins", "notebook: coins.ipynb"))
    with pytest.raises(InputError) as error:
        load_experiment(home, COINS)
    assert (
        "notebook: found 'coins.ipynb', which runs experiments of kind coins, this is one of kind "
        "baseline"
    ) in error.value.faults


def test_the_key_of_a_run_depends_on_the_sources_of_its_kind(home: Project, coins: Path) -> None:
    """A sweep would take runs of another version of the kind for its own otherwise."""
    before = run_key(home, load_experiment(home, COINS))
    assert run_key(home, load_experiment(home, COINS)) == before
    with (coins / "fleetsim_coins" / "document.md.j2").open("a") as file:
        file.write("{# changed #}\n")
    forget()
    assert run_key(home, load_experiment(home, COINS)) != before


#: The shortest kind that keeps to the protocol; each test changes it.
BEGINNER = """
from typing import Annotated
import msgspec
from fleetsim.base.strict import whole
from fleetsim.base.tables import Table
from fleetsim.experiment.criterion import CriterionKind, Judgement, Verdict, certain
from fleetsim.experiment.kind import Kind
from fleetsim.experiment.parameters import EXPERIMENT, RESULTS, Parameter
from fleetsim.experiment.steps import BaseRun

Size = Annotated[int, whole("size", 1)]

class Keys(msgspec.Struct):
    size: Size = 3

class Part(msgspec.Struct):
    size: int

class Run(BaseRun):
    steps = ("look", "judge")
    def look(self): return Table(("size",), ())
    def evidence(self): return 3
    def judge(self): return self._judge(section=Part(3))

class Mine(Kind):
    name, notebook, Keys = "mine", "mine.ipynb", Keys
    parameters = (EXPERIMENT, RESULTS, Parameter("size", Size))
    def criteria(self):
        def judge(criterion, found): return Judgement(1.0, Verdict.PASS, "Seen.")
        return {"possible": CriterionKind("seen", (), judge, certain)}
    def plots(self): return {}
    def run(self): return Run
    def section(self): return Part
"""


def beginner(site: Path, *changes: tuple[str, str], entry: str = "mine = beginner:Mine") -> None:
    """Install the short kind with changes."""
    text = BEGINNER
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (site / "beginner.py").write_text(text)
    kind, _, target = entry.partition(" = ")
    install(site, kind, target, name="beginner")


def mine(home: Project) -> str:
    """Return the id of an experiment of the short kind."""
    folder = home.experiments / "200-mine"
    shutil.copytree(home.experiments / COINS, folder)
    text = (folder / "experiment.yaml").read_text()
    text = text.replace("kind: coins", "kind: mine").replace("flips: 2000\n", "size: 3\n")
    head, _, _ = text.partition("grid:")
    (folder / "experiment.yaml").write_text(
        f"{head}criteria:\n  - {{id: a, kind: possible, title: A, stated: a, method: a}}\n"
    )
    return folder.name


def test_the_shortest_kind_runs(home: Project, here: Path) -> None:
    """What the following tests change is right as it stands, and so is a module as a package."""
    beginner(here)
    run = open_run(mine(home))
    for step in run.steps:
        getattr(run, step)()
    run.finish(engine="library")
    assert read_record(run.final).section.size == 3


Change = tuple[str, str]
#: What a beginner's kind does wrong, and what the refusal says, found when kinds are looked for.
FAULTS: dict[str, tuple[tuple[Change, ...], str]] = {
    "no kind": ((("class Mine(Kind)", "class Mine"),), "allowed: a class with the base"),
    "name": ((('"mine", "mine', '"other", "mine'),), "name: found 'other'; allowed: that of the"),
    "no name": ((("name, notebook, Keys = ", "_, notebook, Keys = "),), "name: missing"),
    "keys": ((('"mine.ipynb", Keys', '"mine.ipynb", dict'),), "Keys: found <class 'dict'>"),
    "general key": ((("size: Size", "title: Size"),), "Keys: title is a key that every experiment"),
    "config key": ((("size: Size", "seed: Size"),), "Keys: seed is a key of the configuration"),
    "parameter": (
        (('Parameter("size"', 'Parameter("sise"'),),
        "parameters: sise is neither a key of Keys nor of the configuration (did you mean size?)",
    ),
    "no parameter": ((('Parameter("size", Size)', '"size"'),), "allowed: Parameter(name, type)"),
    "no results": (
        (("(EXPERIMENT, RESULTS, ", "(EXPERIMENT, "),),
        "parameters: results is missing",
    ),
    "import": ((("import msgspec", "import msgspek"),), "No module named 'msgspek'"),
    "abstract": (
        (("def plots", "def plot"), ("def run(", "def runs(")),
        "class Mine lacks plots() and run()",
    ),
    "notebook": ((('"mine.ipynb"', '"../mine.ipynb"'),), "notebook: found '../mine.ipynb'"),
    "taken notebook": ((('"mine.ipynb"', '"experiment.ipynb"'),), "that of the kind baseline"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_kind_that_cannot_be_used_stops_no_other(
    name: str,
    home: Project,
    here: Path,
    fleetsim_cli: Cli,
) -> None:
    """One warning says what is wrong and where; who asks for the kind is refused with the same."""
    changes, said = FAULTS[name]
    beginner(here, *changes)
    asked = fleetsim_cli("check", mine(home))
    assert asked.code == 1
    assert asked.err.count("the kind 'mine'") == 1
    assert said in asked.err
    assert "beginner 1.0" in asked.err
    assert "next: " in asked.err
    other = fleetsim_cli("check", "000-smoke")
    assert other.code == 0
    assert other.err.startswith("fleetsim: warning: the kind 'mine' (entry point beginner:Mine, of")
    assert other.err.count("the kind 'mine'") == 1
    assert said in other.err
    assert fleetsim_cli("check", "000-smoke").err == ""
    assert "mine" not in kinds()


def test_a_taken_name_is_refused(home: Project, here: Path, fleetsim_cli: Cli) -> None:
    """The package's own kind stays what it is; so does the form of records."""
    beginner(here, ('"mine", "mine', '"baseline", "mine'), entry="baseline = beginner:Mine")
    done = fleetsim_cli("check", "000-smoke")
    assert done.code == 0
    assert "name: found 'baseline', which is taken" in done.err
    assert type(find_kind("baseline")).__module__.startswith("fleetsim.")


def test_a_name_of_the_record_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its section would take the place of another part."""
    beginner(here, ('"mine", "mine', '"tests", "mine'), entry="tests = beginner:Mine")
    with pytest.raises(FleetsimError, match=r"name: found 'tests', a key of every result\.json"):
        find_kind("tests")


#: What is found when a run is asked for: `fleetsim check` says it, before anything runs.
RUN_FAULTS: dict[str, tuple[Change, str]] = {
    "step": (('"look", "judge"', '"lock", "judge"'), "Run.steps names 'lock', which is no method"),
    "no judge": (('"look", "judge"', '"look",'), "Run.steps lacks 'judge'"),
    "evidence": (("def evidence", "def evidences"), "run(): class Run lacks evidence()"),
    "no run": (("return Run\n", "return Part\n"), "run(): found <class 'beginner.Part'>"),
    "section": (("section(self): return Part", "section(self): return 5"), "section(): found 5"),
    "document": (
        ("def plots", "def document(self): from pathlib import Path; return Path('no.j2')\n"
         "    def plots"),
        "document(): found 'no.j2'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUN_FAULTS)
def test_a_run_class_that_is_not_whole_is_refused_before_anything_runs(
    name: str, home: Project, here: Path, fleetsim_cli: Cli
) -> None:
    """In plain sentences, by the check and by the start of a run."""
    change, said = RUN_FAULTS[name]
    beginner(here, change)
    own = mine(home)
    checked = fleetsim_cli("check", own)
    assert checked.code == 1
    assert said in checked.err
    assert "the kind 'mine' (beginner, of beginner 1.0) cannot be used" in checked.err
    with pytest.raises(FleetsimError) as error:
        open_run(own)
    assert said in str(error.value)
    assert not (home.root / "results").exists()


@pytest.mark.parametrize("given", ["None", "Keys"])
def test_a_section_that_the_kind_does_not_have_is_refused(
    given: str, home: Project, here: Path
) -> None:
    """What `judge` stores has to be read again."""
    beginner(here, ("section(self): return Part", f"section(self): return {given}"))
    run = open_run(mine(home))
    with pytest.raises(FleetsimError, match=rf"found {given}, but judge\(\) stores a Part"):
        run.judge()


def test_commands_that_need_no_kinds_do_not_look_for_them(
    home: Project, here: Path, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken kind is nothing to who makes and verifies data."""
    (here / "beginner.py").write_text("raise SystemExit('loaded')")
    install(here, "mine", "beginner:Mine")
    monkeypatch.chdir(here)
    config = home.experiments / "000-smoke" / "config.yaml"
    for words in (
        ("companies", "--config", config, "--output", "companies.jsonl"),
        ("events", "--config", config, "--companies", "companies.jsonl", "--output", "e", "--now"),
        ("verify", "e"),
        ("--help",),
        ("run", "--help"),
    ):
        done = fleetsim_cli(*words)
        assert done.code == 0, done.err
        assert "kind" not in done.err


def test_an_unknown_kind_is_named_with_those_there_are(home: Project) -> None:
    """Neither its keys nor its criteria are held against it."""
    forget()
    with pytest.raises(InputError) as error:
        load_experiment(home, COINS)
    assert error.value.faults == (
        "kind: found 'coins'; allowed: baseline, calibration, pipeline, scale_out, scaling, or one "
        "of another package, once that is installed",
    )
