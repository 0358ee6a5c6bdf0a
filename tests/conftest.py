"""Fixtures for all tests: a small configuration, and the command line within this process."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import fleetsim.base.project
from fleetsim.cli.shared import load_jsonschema

gc.disable()  # until all tests are collected: no module that is loaded is garbage
load_jsonschema()  # before `support` loads it with its grammar, a second in each worker


def read_once(read: Callable[..., str]) -> Callable[..., str]:
    """Let the hash of fleetsim's own sources be found once; they stay while tests run."""
    own = cache(read)
    return lambda package=None: own() if package is None else read(package)


fleetsim.base.project.source_hash = read_once(fleetsim.base.project.source_hash)

from support import AT, Cli, Outcome, Project, examples  # noqa: E402

import fleetsim.cli.main  # noqa: E402

# A shell that starts this in the background lets it ignore interrupts, and all children would too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A process that a test starts says where it crashed; pytest does so for its own.
os.environ["PYTHONFAULTHANDLER"] = "1"

# The same examples every time, however slow the machine: a red test is a fault, not bad luck.
settings.register_profile(
    "fleetsim", deadline=None, derandomize=True, database=None, max_examples=examples(100)
)
settings.load_profile("fleetsim")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: now and then a test only waits for its processes."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return cores + 1


#: Files whose tests take long together, the longest first. They begin, so that no worker is left
#: alone with one.
LONG = (
    "test_zoo.py",
    "test_run.py",
    "test_tally.py",
    "test_audit.py",
    "test_sweep.py",
    "test_cli.py",
    "test_sweep_report.py",
    "test_plots.py",
    "test_interactive.py",
    "test_alternatives.py",
    "test_measure_again.py",
    "test_pipeline_trials.py",
    "test_document.py",
    "test_compare.py",
    "test_pipelines_cli.py",
    "test_places.py",
    "test_panel.py",
    "test_outside_kind.py",
    "test_lines.py",
    "test_tree.py",
    "test_stats.py",
    "test_measure.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of long tests first; the others keep their order."""
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONG)))


def pytest_collection_finish() -> None:
    """Look no more at what was loaded: garbage is then collected in a fraction of the time."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def small() -> dict[str, Any]:
    """Return a configuration of 5 companies with 3 drivers each; about 30 events a batch."""
    return {
        "seed": 42,
        "number_of_companies": 5,
        "drivers_per_company": 3,
        "event_rate_per_driver": 2.0,
        "company_onboarding_interval": "PT1H",
    }


@pytest.fixture
def fleetsim_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return a function that runs a command in this process, by the way of the real entry point."""

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.argv", ["fleetsim", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            fleetsim.cli.main.main(time.time_ns(), time.monotonic_ns())
        printed = capsys.readouterr()
        return Outcome(stopped.value.code or 0, printed.out, printed.err)

    return call


@pytest.fixture
def project(tmp_path: Path, small: dict[str, Any], fleetsim_cli: Cli) -> Project:
    """Return a project whose companies joined at `AT`, without any batch."""
    made = Project(tmp_path / "config.json", tmp_path / "companies.jsonl", tmp_path / "events")
    made.config.write_text(json.dumps(small))
    assert fleetsim_cli(*made.make_companies("--at", AT)).code == 0
    return made
