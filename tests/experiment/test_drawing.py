"""Figures that are drawn beside a run are those that it would draw itself."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import pytest
from support import quick_and_full
from sweeps import SMOKE, found_project, generate_here

from fleetsim.experiment.drawing import DRAWERS, Drawers, open_drawers
from fleetsim.experiment.steps import open_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they are forked")

#: Forks as a kernel's nursery does: in a process that has no thread.
BEFORE = """
import hashlib, os, sys
sys.path.insert(0, {tests!r})
from fleetsim.experiment import drawing
descriptors = drawing.start_drawers("baseline")
os.environ |= drawing.named_drawers("baseline", descriptors)
drawers = drawing.open_drawers("baseline")
from analysis import baseline, hand_made
evidence, criteria = hand_made(), baseline().criteria
from fleetsim.experiment.figures import draw_plot, render
from fleetsim.kinds.baseline.plots import PLOTS
"""


def ran(source: str) -> str:
    """Run a program to its end; return what it printed."""
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", BEFORE.format(tests=tests) + source],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@quick_and_full("plots", 2, 6)
def test_the_bytes_are_those_of_the_run_itself(plots: int) -> None:
    """Of all plots, in any order, the alt text too; what else there is, is left to the run."""
    ran(f"""
assert drawers.names == tuple(PLOTS) and len(PLOTS) == 6
assert drawers.take("nothing", evidence, criteria) is None
last, *others = list(reversed(PLOTS))[:{plots}]
figure, alt = draw_plot(PLOTS[last], evidence, criteria)
assert drawers.take(last, evidence, criteria) == (render(figure), alt)
assert drawers.take(others[0], hand_made(), criteria) is None  # of other evidence than before
for name in others:
    figure, alt = draw_plot(PLOTS[name], evidence, criteria)
    assert drawers.take(name, evidence, criteria) == (render(figure), alt)
""")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "evidence"),
    [
        ("no copy can be made of it", "lambda: 0"),
        ("too large", "[evidence, bytes(1 << 27)]"),
        ("not what the plots need", "3"),
    ],
)
def test_evidence_that_they_cannot_draw_is_left_to_the_run(what: str, evidence: str) -> None:
    """It then draws itself, and says what is wrong."""
    ran(f"assert drawers.take(list(PLOTS)[0], {evidence}, criteria) is None")


@pytest.mark.slow
def test_a_plot_that_warns_is_left_to_the_run() -> None:
    """The warning then stands below the notebook's cell."""
    ran("""
import warnings
from fleetsim.experiment.figures import Plot
PLOTS["repeats"] = Plot("Odd", (3, 3), lambda *_: warnings.warn("odd") or "")
os.environ |= drawing.named_drawers("baseline", drawing.start_drawers("baseline"))
drawers = drawing.open_drawers("baseline")
assert drawers.take("repeats", evidence, criteria) is None
assert drawers.take("replicates", evidence, criteria) is not None
""")


@pytest.mark.slow
def test_the_run_goes_on_where_they_are_gone() -> None:
    """Killed, or ended by an error of theirs."""
    ran("""
import signal
(child,) = open(f"/proc/self/task/{os.getpid()}/children").read().split()
os.kill(int(child), signal.SIGKILL)
os.waitpid(int(child), 0)
assert not [name for name in PLOTS if drawers.take(name, evidence, criteria)]
""")


@pytest.mark.slow
def test_they_end_with_the_connections() -> None:
    """Nobody has to end them."""
    ran("""
(child,) = open(f"/proc/self/task/{os.getpid()}/children").read().split()
del drawers
assert os.waitstatus_to_exitcode(os.waitpid(int(child), 0)[1]) == 0
""")


@pytest.mark.slow
def test_a_run_of_another_kind_draws_itself() -> None:
    """It waits for them all the same, so that they load nothing while it measures."""
    ran("""
os.environ |= drawing.named_drawers("baseline", drawing.start_drawers("baseline"))
assert drawing.open_drawers("scaling") is None
assert drawing.DRAWERS not in os.environ
""")


def test_where_nobody_has_given_any_the_run_draws_itself() -> None:
    """As in JupyterLab, and in the kernels of a sweep."""
    assert DRAWERS not in os.environ
    assert open_drawers("baseline") is None


def test_a_run_whose_drawers_are_gone_draws_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what no cell shows."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    found_project(tmp_path, monkeypatch)
    run = open_run(SMOKE, results=str(tmp_path / "results"), replicates=10)
    here, there = Pipe()
    there.close()
    run._drawers = Drawers([here])
    assert run._drawers.names == ()
    for step in (run.generate, run.inspect, run.test, run.judge, run.finish):
        step()
    drawn = {path.stem for path in (run.final / "figures").glob("*.png")}
    assert drawn == set(run.plots)
