"""docs/extending.md: each recipe, applied to a copy of the package, adds what it says it adds."""

from __future__ import annotations

import importlib.util
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import AT, NAME, ROOT, copy_project, copy_tracked

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
CONFIG = {
    "seed": 42,
    "number_of_companies": 30,
    "drivers_per_company": 10,
    "event_rate_per_driver": 3.5,
    "company_onboarding_interval": "PT1H",
}


def blocks(recipe: str, language: str) -> list[str]:
    """Return the blocks of code of a recipe, by its heading."""
    text = PAGE.partition(f"\n## {recipe}\n")[2].partition("\n## ")[0]
    assert text, recipe
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def changes(diff: str) -> Iterator[tuple[str, str, str]]:
    """Yield each change of a block: the file, what stands there, and what has to."""
    for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        file, _, hunks = part.partition("\n")
        for hunk in re.split(r"^@@\n", hunks, flags=re.MULTILINE):
            lines = [(line[:1] or " ", line[1:] + "\n") for line in hunk.splitlines()]
            assert {mark for mark, _ in lines} <= set(" +-"), hunk
            yield (
                file,
                "".join(line for mark, line in lines if mark != "+"),
                "".join(line for mark, line in lines if mark != "-"),
            )


class Copy:
    """A copy of the package to which a recipe was applied, in a folder for its files."""

    def __init__(self, folder: Path, diff: str = "") -> None:
        self.folder = folder
        # With it goes the machine code of the kernel, which fits while the kernel stays as it is.
        shutil.copytree(ROOT / "fleetsim", folder / "fleetsim")
        self.files: list[str] = []
        for file, old, new in changes(diff):
            path = folder / file
            text = path.read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{file}, {text.count(old)} times:\n{old}"
            path.write_text(text.replace(old, new), encoding="utf-8")
            self.files += [] if file in self.files else [file]
        (folder / "config.json").write_text(json.dumps(CONFIG))

    def python(self, *words: object, code: int = 0) -> str:
        """Run Python with the copy as the package; return what it printed."""
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def fleetsim(self, *words: object, code: int = 0) -> str:
        """Run the command line of the copy."""
        return self.python("-m", "fleetsim", *words, code=code)

    def together(self, *commands: tuple[object, ...]) -> str:
        """Run commands in one process; all have to end well."""
        lines = ["import sys, time, fleetsim.cli.main as command"]
        for words in commands:
            lines += [
                f"sys.argv = {['fleetsim', *map(str, words)]!r}",
                "try: command.main(time.time_ns(), time.monotonic_ns())",
                "except SystemExit as end: assert not end.code, (sys.argv, end.code)",
            ]
        return self.python("-c", "\n".join(lines))

    def make(self, output: str, *options: object) -> Path:
        """Make companies and a batch, and return its folder."""
        companies = ("companies", "--config", "config.json", "--output", "data/companies.jsonl")
        events = ("events", "--config", "config.json", "--companies", "data/companies.jsonl")
        made = (*events, "--output", output, "--interval-start", AT, *options)
        there = (self.folder / "data").exists()
        self.together(*([] if there else [(*companies, "--at", AT)]), made)
        return self.folder / output / NAME

    def style(self) -> None:
        """Hold the changed files to the style of the package."""
        files = [self.folder / file for file in self.files]
        settings = ["--config", ROOT / "pyproject.toml"]
        self.python("-m", "ruff", "check", "--no-cache", *settings, *files)
        self.python("-m", "ruff", "format", "--check", "--no-cache", *settings, *files)


def recipe(folder: Path, heading: str, *files: str, number: int = 0) -> Copy:
    """Apply a recipe, which has to touch these files and no other."""
    copy = Copy(folder, blocks(heading, "diff")[number])
    assert copy.files == [f"fleetsim/{file}" for file in files]
    copy.style()
    return copy


def test_a_recipe_that_no_longer_fits_is_found(tmp_path: Path) -> None:
    """A change of the lines around it, or of the page, is an error and not silently left out."""
    with pytest.raises(AssertionError, match="0 times"):
        Copy(tmp_path / "a", "--- fleetsim/generate/model.py\n NOTHING = 1\n+MORE = 2\n")
    with pytest.raises(AssertionError):
        blocks("A recipe for soup", "diff")


@pytest.mark.parametrize(
    ("number", "name", "files"),
    [
        (0, "trip_id", ["generate/model.py"]),
        (1, "cargo", ["generate/model.py", "generate/config.py"]),
    ],
    ids=["id", "choice"],
)
def test_an_attribute_of_events(tmp_path: Path, number: int, name: str, files: list[str]) -> None:
    """It is in every line and format by both paths, nothing else has moved, and audit holds it."""
    old = Copy(tmp_path / "old").make("data/events")
    copy = recipe(tmp_path / "new", "An attribute of events", *files, number=number)
    new = copy.make("data/events", "--kernel", "numpy")
    lines = (new / "events.jsonl").read_bytes()
    rows = [json.loads(line) for line in lines.splitlines()]
    values = {row.pop(name) for row in rows}
    before = [json.loads(line) for line in (old / "events.jsonl").read_bytes().splitlines()]
    assert rows == before
    assert len(rows) > 500
    assert len(values) == (len(rows) if name == "trip_id" else 2)
    assert json.loads((new / "batch_meta.json").read_text())["stream_version"] == 2

    compiled = copy.make("compiled", "--kernel", "compiled")
    assert (compiled / "events.jsonl").read_bytes() == lines
    parquet = copy.make("parquet", "--format", "parquet")
    told = copy.together(
        ("verify", parquet, "--companies", "data/companies.jsonl"),
        ("audit", "data", "--config", "config.json", "--json"),
    )
    assert json.loads(told[told.index("\n{") :])["findings"] == []

    value = str(json.loads(lines.splitlines()[6])[name])
    spoilt = lines.splitlines(keepends=True)
    spoilt[6] = spoilt[6].replace(value.encode(), b"soup")
    (new / "events.jsonl").write_bytes(b"".join(spoilt))
    told = copy.fleetsim("audit", "data", "--config", "config.json", code=3)
    assert all(words in told for words in ("line 7", f"{name}", "soup"))


def test_a_format(tmp_path: Path) -> None:
    """It is offered, written, read back, verified and audited; damage of it is found."""
    copy = recipe(tmp_path / "x", "A format", "batch/formats.py")
    assert "jsonl.bz2" in copy.fleetsim("events", "--help")
    plain = copy.make("plain")
    batch = copy.make("data/events", "--format", "jsonl.bz2", "--jobs", 2)
    assert {path.name for path in batch.iterdir()} == {"events.jsonl.bz2", "batch_meta.json"}
    read = (
        "import sys, pathlib; from fleetsim.batch.formats import FORMATS\n"
        f"path = pathlib.Path({str(batch / 'events.jsonl.bz2')!r})\n"
        "sys.stdout.write(FORMATS['jsonl.bz2'].reader(path).read().decode())"
    )
    assert copy.python("-c", read) == (plain / "events.jsonl").read_text()
    copy.together(
        ("verify", batch, "--companies", "data/companies.jsonl"),
        ("audit", "data", "--config", "config.json"),
    )
    content = (batch / "events.jsonl.bz2").read_bytes()
    (batch / "events.jsonl.bz2").write_bytes(content[: len(content) // 2])
    copy.fleetsim("verify", batch, "--companies", "data/companies.jsonl", code=3)
    copy.fleetsim("audit", "data", "--config", "config.json", code=3)


def test_a_statistical_test(tmp_path: Path) -> None:
    """It is in the battery, passes honest data, says what it sees, and catches its control."""
    files = ("stats/battery.py", "stats/faulty.py", "stats/controls.py")
    copy = recipe(tmp_path / "x", "A statistical test", *files)
    code = """
import json
from fleetsim.generate.config import load_config
from fleetsim import stats

config = load_config("config.json", {"number_of_companies": 100})
assert stats.control_faults(config) == []
evidence = {entry.name for entry in stats.BATTERY if entry.kind is not stats.EntryKind.EQUIVALENCE}
assert evidence == {test for control in stats.CONTROLS for test in control.caught_by}
control = next(control for control in stats.CONTROLS if control.name == "early_events")

def rows(columns):
    sample = stats.sample_of(columns, config)
    return {row.entry.name: row for row in stats.run_battery(sample, stats.law_of(config))}

honest, spoilt = rows(stats.draw_columns(config)), rows(control.draw(config, 1))
print(json.dumps({
    "honest": sorted({row.verdict for row in honest.values()}),
    "caught": [spoilt[test].verdict for test in control.caught_by],
    "sentence": honest["event_times_halves"].sentence,
}))
"""
    told = json.loads(copy.python("-c", code))
    assert told["honest"] == ["pass"]
    assert told["caught"] == ["fail"]
    assert re.search(r"catches halves of the interval that hold \d+\.\d %", told["sentence"])
    copy.make("data/events")
    audit: dict[str, Any] = json.loads(
        copy.fleetsim("audit", "data", "--config", "config.json", "--json")
    )
    assert "event_times_halves" in {test["name"] for test in audit["groups"][0]["tests"]}


def test_a_criterion_and_a_plot(tmp_path: Path) -> None:
    """An experiment that names them: its check has the chance, its run the verdict, the figure."""
    copy = recipe(tmp_path / "x", "A kind of criterion", "kinds/baseline/criteria.py")
    plot = recipe(tmp_path / "y", "A plot", "kinds/baseline/plots.py")
    shutil.copy(plot.folder / plot.files[0], copy.folder / plot.files[0])
    experiment = copy.folder / "experiments" / "mine"
    copy_tracked("experiments/000-smoke", experiment)
    copy_project(copy.folder, "notebooks")
    path = experiment / "experiment.yaml"
    head, criteria, rest = path.read_text().partition("criteria:\n")
    (claim,) = blocks("A kind of criterion", "yaml")
    strict = claim.replace("id: busiest_driver", "id: too_strict").replace("high: 15", "high: 2")
    path.write_text(head + criteria + claim + strict + rest)
    (cell,) = blocks("A plot", "python")
    code = f"""
import json, fleetsim
run = fleetsim.open_run("mine")
chances = {{row.criterion.id: row.a_priori for row in run._check.criteria}}
for step in run.steps:
    getattr(run, step)()
shown = {cell.strip()}
made = sorted(path.name for path in (run.folder / "figures").iterdir())
verdicts = {{c.id: (c.verdict, c.note) for c in run._record.criteria}}
print(json.dumps([chances, verdicts, shown.alt, made]))
"""
    chances, verdicts, alt, made = json.loads(copy.python("-c", code).splitlines()[-1])
    assert 0.99 < chances["busiest_driver"] < 1
    assert chances["too_strict"] < 0.01
    assert verdicts["busiest_driver"][0] == "pass"
    assert verdicts["too_strict"][0] == "fail"
    assert re.search(r"busiest driver has \d+ events", verdicts["too_strict"][1])
    assert made == ["events_per_company.png", "events_per_company.svg"]
    assert len(alt) >= 80
    assert alt.startswith("Events of each of")


def test_the_map_shows_the_packages_that_there_are() -> None:
    """docs/design.md draws the tree: every folder with code, and no other."""
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    tree = design.partition("```text\n")[2].partition("```")[0]
    drawn = re.findall(r"^ +(\w+)/ ", tree, re.MULTILINE)
    inits = (ROOT / "fleetsim").glob("*/**/__init__.py")
    assert sorted(drawn) == sorted(path.parent.name for path in inits)


@pytest.mark.parametrize("page", sorted(p.name for p in (ROOT / "docs").glob("*.md")))
def test_a_file_that_a_page_names_is_there(page: str) -> None:
    """From the root of the repository, or from that of the package."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|ipynb|md))`", text):
        assert (ROOT / name).is_file() or (ROOT / "fleetsim" / name).is_file(), name


def test_the_modules_of_the_changelog_are_there() -> None:
    """Who looks for a module that moved is sent to one that exists."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(fleetsim[\w.]*)` \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) > 15
    for package, modules in rows:
        for module in re.findall(r"`(\w+)`", modules):
            name = f"{package}.{module}"
            assert importlib.util.find_spec(name) is not None, name
    moved = text.partition("| was | is |\n")[2]
    for now in re.findall(r"^\| .* \| (.*) \|$", moved, re.MULTILINE)[1:]:
        for name in re.findall(r"`((?:[a-z]\w*\.)+\w+)`", now):
            assert pkgutil.resolve_name(f"fleetsim.{name}") is not None
