"""Chromium for the tests of what people see; pages that these tests look at."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import copy_project, copy_tracked

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder as a browser test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@dataclass
class Seen:
    """What a page did while it was looked at."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Browser:
    """Opens pages in windows of their own, and notes requests, errors and dialogs."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def open(self, address: str, *, width: int = 1100, **context: Any) -> Iterator[Seen]:
        """Open an address; `context` are settings of the window, as ``color_scheme="dark"``."""
        window = self._chromium.new_context(viewport={"width": width, "height": 900}, **context)
        try:
            page = window.new_page()
            seen = Seen(page)
            page.on("request", lambda request: seen.requests.append(request.url))
            page.on("pageerror", lambda error: seen.errors.append(str(error)))
            page.on("dialog", lambda dialog: (seen.errors.append("dialog"), dialog.dismiss()))
            page.on(
                "console",
                lambda line: seen.errors.append(line.text) if line.type == "error" else None,
            )
            page.goto(address)
            yield seen
        finally:
            window.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Yield Chromium, Debian's or any other of that name on PATH."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("no chromium on PATH: install it, or name it in the variable CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=path, args=FLAGS, chromium_sandbox=os.geteuid() != 0
        )
        yield Browser(chromium)
        chromium.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a page of every kind that the kit makes: run, sweep, comparison, gallery."""
    root = tmp_path_factory.mktemp("project")
    copy_project(root)
    run = root / "results" / "001-baseline" / "20251108T120000Z-00000000"
    copy_tracked("results/001-baseline/reference", run)
    environment = {**os.environ, "FLEETSIM_ROOT": str(root), "OPENBLAS_NUM_THREADS": "1"}

    def fleetsim(*words: str) -> None:
        command = [str(ROOT / ".venv" / "bin" / "fleetsim"), *words]
        subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)

    fleetsim("report", str(run))
    fleetsim("run", "000-smoke")
    fleetsim("sweep", "000-smoke", "--engine", "library", "--jobs", "2")
    page = root / "results" / "compare.html"
    again = ("--measure-again", "--pairs", "6")
    fleetsim("compare", str(run), "000-smoke", *again, "--html", str(page))
    fleetsim("runs", "--html")
    audit = root / "results" / "audit.html"
    config = "experiments/002-baseline-5k/config.yaml"
    data = ("audit", str(run / "data" / "raw"), "--config", config)
    words = [str(ROOT / ".venv" / "bin" / "fleetsim"), *data, "--html", str(audit)]
    done = subprocess.run(words, cwd=root, env=environment, check=False, capture_output=True)
    assert done.returncode == 3, done.stderr  # another rate: some tests say no
    results = root / "results"
    return {
        "run": run / "report.html",
        "sweep": results / "000-smoke" / "sweep.html",
        "comparison": page,
        "gallery": results / "index.html",
        "audit": audit,
    }
