"""README.md and docs/: every command that they name can be typed, and prints what they show."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import papermill
import pytest
from support import AT, COMMAND_NAMES, ROOT, Cli, command_named, copy_project, copy_tracked

from fleetsim.cli.main import cli
from fleetsim.experiment.document import verdict_table
from fleetsim.experiment.record import read_record
from fleetsim.experiment.steps import Summary

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Pages whose commands belong together, or need what an ordinary environment has not;
#: tests/cluster, tests/test_defects_page.py and tests/cli/test_pipelines_cli.py run them.
ELSEWHERE = ["scaling.md", "defects.md", "pipelines.md"]
#: Commands that the same tests run: what one leaves behind, the next one needs.
TOGETHER = ("deliver", "reconcile")
README = PAGES[0].read_text(encoding="utf-8")
#: Words that stand for the reader's own, and what is taken for them here.
OWN = {
    **dict.fromkeys(("EXPERIMENT", "ID"), "000-smoke"),
    **dict.fromkeys(("<id>", "100-busy-feed"), "mine"),
    **dict.fromkeys(("RUN", "RUN_OR_BATCH", "A"), "001-baseline/reference"),
    "B": "001-baseline",
    **dict.fromkeys(("K", "KIND"), "baseline"),
    "DATA_DIR": "results/001-baseline/reference/data/raw",
    "C": "experiments/001-baseline/config.yaml",
}


@pytest.fixture
def own_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of this project with an experiment `mine`; it is the working folder.

    The reference run stands there as the latest one of two experiments, too.
    """
    copy_project(tmp_path)
    copy_tracked("experiments/000-smoke", tmp_path / "experiments" / "mine")
    reference = ROOT / "results" / "001-baseline" / "reference"
    run_id = read_record(reference).run_id
    for place in ("001-baseline/reference", f"001-baseline/{run_id}", f"mine/{run_id}"):
        shutil.copytree(reference, tmp_path / "results" / place)
    for name in ("001-baseline", "mine"):
        (tmp_path / "results" / name / "latest").symlink_to(run_id)
    shutil.copy(reference / "report.ipynb", tmp_path / "out.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(program: str, pages: list[Path]) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a program that pages name, in a line of code or a block, once."""
    seen = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        joined = [block.replace("\\\n", " ") for block in blocks]
        lines = [line.partition("  #")[0] for block in joined for line in block.splitlines()]
        outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside)]
        for line in lines:
            words = shlex.split(line.removeprefix(".venv/bin/"))
            if words and words[0] == program and tuple(words) not in seen:
                seen.add(tuple(words))
                yield f"{page.name}: {line}", words[1:]


def named(program: str, pages: list[Path] = PAGES) -> Any:
    """Parametrize a test by the commands of a program."""
    found = list(commands(program, pages))
    return pytest.mark.parametrize("words", [w for _, w in found], ids=[name for name, _ in found])


def shown(before: str) -> list[str]:
    """Return the lines of the first block of output after a text, but for dots."""
    block = README.partition(before)[2].partition("```text\n")[2].partition("```")[0]
    assert block, before
    return [line for line in block.splitlines() if line != "..."]


def test_the_pages_name_commands() -> None:
    """The search finds them: those of blocks, of the table, of prose."""
    found = [" ".join(words) for _, words in commands("fleetsim", PAGES)]
    assert {"check <id>", "verify RUN_OR_BATCH", "run 001-baseline -p seed=7"} <= set(found)
    assert ["run"] in [words for _, words in commands("make", PAGES)]
    assert len(found) > 15


@named("fleetsim")
def test_a_command_of_the_pages_can_be_typed(words: list[str]) -> None:
    """Its command and all of its options exist, and the choices that are listed."""
    group = {option for row in cli.params for option in row.opts} | {"--help", "..."}
    if not words or words[0] not in COMMAND_NAMES:
        assert set(words) <= group
        return
    command = command_named(words[0])
    options = {name: row for row in command.params for name in row.opts}
    for word, value in pairwise([*words[1:], ""]):
        if word.startswith("-"):
            assert word in options or word == "--help"
            kind = options[word].type if word in options else None
            if isinstance(kind, click.Choice):
                assert set(value.split("|")) <= set(kind.choices)


@pytest.mark.parametrize("command", COMMAND_NAMES)
def test_every_command_is_in_the_table_of_the_readme(command: str) -> None:
    """No command is left out."""
    table = README.partition("| command | what it does |\n")[2].partition("\n\n")[0]
    assert f"`fleetsim {command}" in table


@named("fleetsim", [page for page in PAGES if page.name not in ELSEWHERE])
def test_a_command_of_the_pages_works(
    fleetsim_cli: Cli, own_project: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """In a project of its own; runs go as far as to a kernel, sweeps as far as to their points.

    What measures goes as far as to its first process.

    Names without their arguments, and lists of choices, are asked for their help.
    """

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("papermill.execute_notebook", stop)
    monkeypatch.setattr("fleetsim.report.compare.again.measure_in_turn", stop)
    (own_project / "params.yaml").write_text("seed: 3\n")
    known = OWN | {"ID": "200-new"} if words[0] == "new" else OWN
    words = [known.get(word, word) for word in words if word != "..."]
    words = words[: words.index(">")] if ">" in words else words
    whole = len(words) > 1 or words == ["runs"]
    whole = (
        whole
        and words[0] in {*COMMAND_NAMES} - {*TOGETHER}
        and not any("|" in word for word in words)
    )
    only = ["--dry-run"] if words[0] == "sweep" else []
    done = fleetsim_cli(*words, *(only if whole else ["--help"]))
    asked = whole and (words[0] == "run" or "--measure-again" in words) and "--help" not in words
    assert done.code == (130 if asked else 0), done.err


@named("make")
def test_a_target_of_the_pages_exists(words: list[str]) -> None:
    """And the variables that are set are those of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert re.search(rf"^{name} \?=" if is_variable else rf"^{name}:", text, re.MULTILINE)


@named("papermill")
def test_a_papermill_command_of_the_pages_fits_its_notebook(words: list[str]) -> None:
    """The notebook is there, and declares what is set."""
    (notebook,) = [word for word in words if word.startswith("notebooks/")]
    declared = papermill.inspect_notebook(str(ROOT / notebook))
    assert {words[i + 1] for i, word in enumerate(words) if word == "-p"} <= set(declared)


def test_the_verdicts_shown_are_those_of_the_reference() -> None:
    """The kept run of experiment 001 printed them; where that was made anew, so is the README."""
    record = read_record(ROOT / "results" / "001-baseline" / "reference")
    printed = f"{verdict_table(record)}\n{Summary(record)!r}"
    for line in shown("It ends with"):
        assert " ".join(line.split()) in " ".join(printed.split())


def test_the_audit_shown_is_that_of_four_batches(fleetsim_cli: Cli, tmp_path: Path) -> None:
    """Of the baseline; another clock or place gives the same figures."""
    config = ROOT / "experiments" / "001-baseline" / "config.yaml"
    companies, events = tmp_path / "companies.jsonl", tmp_path / "events"
    made = fleetsim_cli("companies", "--config", config, "--output", companies, "--at", AT)
    assert made.code == 0
    words = ["--companies", companies, "--output", events, "--interval-start", AT, "--batches", 4]
    assert fleetsim_cli("events", "--config", config, *words).code == 0
    done = fleetsim_cli("audit", tmp_path, "--config", config)
    assert done.code == 0
    for line in shown("Is this the data it claims to be?"):
        assert line in done.out
