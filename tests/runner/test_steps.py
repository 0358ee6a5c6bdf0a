"""How a work tells its steps: names from a notebook's sections, on a terminal and in a pipe."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from support import ROOT

from fleetsim.base.progress import Steps
from fleetsim.runner.engines import RunOptions, execute_notebook
from fleetsim.runner.kernel import OUTSIDE, section_beginnings
from fleetsim.runner.watch import Watch


class Terminal(io.StringIO):
    """What is drawn on a terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


class Told(Steps):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        super().__init__("first")

    def plan(self, total: int) -> None:
        """Keep the number of steps."""
        self.heard.append(total)

    def begin(self, name: str) -> None:
        """Keep the name."""
        self.heard.append(name)

    def count(self, done: int, of: int, unit: str) -> None:
        """Keep how far it is."""
        self.heard.append((done, of, unit))


def test_words_of_a_step() -> None:
    """The work, the number of the step, its name, and what of it is done and left."""
    steps = Steps("reading", "page")
    assert steps.text() == "page, reading"
    steps.plan(3)
    steps.begin("making\n\x1b[2J")
    steps.count(0, 4, "runs")
    assert steps.text() == "page, step 2 of 3, making \\x1b[2J: 0 of 4 runs"
    steps.count(1, 4, "runs")
    assert steps.text().startswith("page, step 2 of 3, making \\x1b[2J: 1 of 4 runs, about ")
    assert steps.text().endswith(" s left")
    steps.begin("writing")
    assert steps.text() == "page, step 3 of 3, writing"


def test_a_terminal_shows_one_line_and_nothing_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is drawn over the one before; what is said stands above."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Steps("reading") as steps:
        steps.plan(2)
        steps.begin("x" * 200)
        steps.say("a point failed")
    drawn = terminal.getvalue()
    assert "reading" in drawn
    assert "step 2 of 2, xxx" in drawn
    assert "\r\x1b[Ka point failed\n" in drawn
    assert drawn.endswith("\r\x1b[K")
    assert max(map(len, drawn.replace("\x1b[K", "").split("\r"))) < 80
    steps.begin("late")
    assert terminal.getvalue() == drawn


def test_a_pipe_is_told_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is drawn there, and nothing is said of what ends soon."""
    with Steps("reading") as steps:
        steps.begin("making")
        steps.say("a point failed")
    assert capsys.readouterr().err == "a point failed\n"
    monkeypatch.setattr("fleetsim.base.progress.EVERY", 0.0)
    steps = Steps("making")
    waits = iter([False, False, True])
    monkeypatch.setattr(steps._over, "wait", lambda _: next(waits))
    steps.count(0, 3, "runs")
    steps._tick()
    assert capsys.readouterr().err == "fleetsim: making: 0 of 3 runs\n" * 2


def test_sections_name_the_steps() -> None:
    """By headings of the second level that have code; a notebook without them by its cells."""
    code = new_code_cell
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Title"),
            code("seed = 7"),
            code("a"),
            new_markdown_cell("## Words alone"),
            new_markdown_cell("## Making the data ##\n\nSo.\n\n### A plot"),
            code(""),
            code("b"),
            new_markdown_cell("### Another plot"),
            code("c"),
            new_markdown_cell("```\n## no heading\n```"),
            code("d"),
            new_markdown_cell("## Verdicts"),
            code("e"),
        ]
    )
    named = {1: "opening the notebook", 6: "Making the data", 12: "Verdicts"}
    assert section_beginnings(notebook) == named
    bare = new_notebook(cells=[new_markdown_cell("# Title"), code("a"), code(""), code("b")])
    assert section_beginnings(bare) == {1: "cell 1", 3: "cell 3"}


@pytest.mark.parametrize("name", ["experiment", "sweep", "pipeline", "scaling"])
def test_the_notebooks_have_sections(name: str) -> None:
    """Each with a name of its own."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    names = list(section_beginnings(notebook).values())
    assert len(set(names)) == len(names) > 5


@pytest.mark.notebook
def test_a_kernel_tells_how_far_it_is(tmp_path: Path) -> None:
    """Section by section, and the bars of its cells; nothing of that stays in the notebook."""
    bar = (
        "from fleetsim.base.progress import notebook_bar\n"
        "with notebook_bar(2, 'run') as update:\n    update(2)"
    )
    path = tmp_path / "small.ipynb"
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("seed = 1", metadata={"tags": ["parameters"]}),
        new_markdown_cell("## Making"),
        new_code_cell(bar),
        new_markdown_cell("## End"),
        new_code_cell("seed"),
    ]
    spec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": spec}), path)
    steps = Told()
    ending = execute_notebook(path, {"seed": 3}, Watch(), options=RunOptions(steps=steps))
    assert ending.error is None
    assert steps.heard == [
        "first",
        OUTSIDE + 3,
        "starting the kernel",
        "opening the notebook",
        "Making",
        (0, 2, "runs"),
        (2, 2, "runs"),
        "End",
    ]
    outputs = [cell.outputs for cell in ending.notebook.cells if cell.cell_type == "code"]
    assert outputs[-2] == []
    assert outputs[-1][0].data["text/plain"] == "3"
