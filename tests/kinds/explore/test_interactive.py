"""Notebooks as people use them: a bar while a cell works, and a cell that is interrupted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from support import ROOT, wait_until
from sweeps import SMOKE, hidden, living, smoke_project

from fleetsim.base.progress import UNWATCHED
from fleetsim.runner.engines import execute_notebook
from fleetsim.runner.watch import Watch

pytestmark = pytest.mark.notebook
OPEN = "import fleetsim\nrun = fleetsim.open_run({name!r}, repeats=10{more})"


class Kernel:
    """A kernel as JupyterLab starts it, and what its cells show."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.manager = KernelManager()
        known = {key: value for key, value in os.environ.items() if key != UNWATCHED}
        self.manager.start_kernel(cwd=str(folder), env={**known, **environment})
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)

    def begin(self, code: str) -> str:
        """Start a cell."""
        started: str = self.client.execute(code)
        return started

    def end(self, cell: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        """Return a cell's reply, and the messages that it sent."""
        shown = []
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                break
            shown.append((kind, content))
        while (reply := self.client.get_shell_msg(timeout=120))["parent_header"]["msg_id"] != cell:
            pass
        return reply["content"], shown

    def run(self, code: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
        """Start a cell, and wait for it."""
        return self.end(self.begin(code))

    def stop(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the root of a project with the experiment 000-smoke."""
    return smoke_project(tmp_path).root


@pytest.fixture
def kernels(project: Path) -> Iterator[Any]:
    """Yield a function that starts kernels, which end with the test."""
    started: list[Kernel] = []

    def start(**environment: str) -> Kernel:
        started.append(Kernel(project, FLEETSIM_ROOT=str(project), **environment))
        return started[-1]

    yield start
    for kernel in started:
        kernel.stop()


def test_explore_runs_without_anybody_who_looks() -> None:
    """As papermill executes it, from start to end, with widgets or without; the panel is a picture.

    The tests' environment has no widgets unless somebody asked for the extra `lab`.
    """
    ending = execute_notebook(ROOT / "notebooks" / "explore.ipynb", {"seed": 7}, Watch())
    assert ending.error is None
    assert ending.notebook is not None
    cells = {cell.id: cell for cell in ending.notebook.cells if cell.cell_type == "code"}
    for name in ("day-plot", "honest", "break", "panel"):
        (output,) = cells[name].outputs
        assert output.data["image/png"]
        assert len(output.metadata["image/png"]["alt"]) > 100
    assert "clumped" not in cells["honest"].outputs[0].data["text/plain"]
    assert "11 pass, 2 fail" in cells["run"].outputs[0].data["text/html"]
    assert not any(
        out.output_type in ("stream", "error") for c in cells.values() for out in c.outputs
    )


@pytest.mark.parametrize("watched", [True, False])
def test_a_long_cell_shows_a_bar_which_is_gone_at_its_end(kernels: Any, watched: bool) -> None:
    """And none where nobody looks."""
    kernel = kernels(**({} if watched else {UNWATCHED: "1"}))
    reply, _ = kernel.run(OPEN.format(name=SMOKE, more=""))
    assert reply["status"] == "ok", reply
    reply, shown = kernel.run("run.generate()")
    assert reply["status"] == "ok", reply
    kinds = [kind for kind, _ in shown]
    assert ("clear_output" in kinds) is watched
    bars = [at for at, kind in enumerate(kinds) if kind in ("stream", "display_data")]
    assert bool(bars) is watched
    if watched:  # a saved notebook keeps the result, and nothing of the bar
        assert bars[-1] < kinds.index("clear_output") < kinds.index("execute_result")
    assert any("cold runs" in str(content) for kind, content in shown if kind == "execute_result")


@pytest.mark.slow
def test_an_interrupted_cell_leaves_nothing_broken(kernels: Any, project: Path) -> None:
    """The generator ends, no run appears, and the next run in the same kernel is whole."""
    kernel = kernels()
    more = ", number_of_companies=50000, drivers_per_company=100, event_rate_per_driver=10.0"
    kernel.run(OPEN.format(name=SMOKE, more=more))
    cell = kernel.begin("run.generate()")
    results = project / "results"
    wait_until(lambda: list(results.rglob(".events.jsonl.*.partial")), "no half batch")
    kernel.manager.interrupt_kernel()
    reply, _ = kernel.end(cell)
    assert reply["status"] == "error"
    assert reply["ename"] == "KeyboardInterrupt"
    wait_until(lambda: not living(results), "the generator lives on")
    assert not list(results.glob(f"{SMOKE}/[!.]*"))
    code = OPEN.format(name=SMOKE, more="")
    steps = "run.generate(); run.inspect(); run.test(); run.judge(); run.finish()"
    reply, _ = kernel.run(f"{code}\n{steps}")
    assert reply["status"] == "ok", reply
    folders = [path for path in results.glob(f"{SMOKE}/[!.]*") if not path.is_symlink()]
    assert len(folders) == 1
    kernel.stop()
    assert all(name.startswith(f"{SMOKE}/.") for name in hidden(results))
