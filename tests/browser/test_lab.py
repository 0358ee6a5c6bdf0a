"""JupyterLab as users have it: explore.ipynb runs, a slider moves, and the picture changes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import copy_project

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef"  # noqa: S105
EXPLORE = "notebooks/explore.ipynb"
STATE = """() => {
    const cells = window.jupyterapp.shell.currentWidget.content.model.cells;
    const found = {run: 0, left: 0, errors: []};
    for (let i = 0; i < cells.length; i++) {
        const cell = cells.get(i);
        if (cell.type !== 'code') continue;
        cell.executionState === 'running' || !cell.executionCount ? found.left++ : found.run++;
        for (let j = 0; j < cell.outputs.length; j++) {
            const output = cell.outputs.get(j).toJSON();
            if (output.output_type === 'error') found.errors.push(output.evalue);
        }
    }
    return found;
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of JupyterLab, started on a copy of the project as `make lab` starts it."""
    root = tmp_path_factory.mktemp("lab")
    copy_project(root, "experiments", "notebooks", "results/001-baseline")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HOME": str(home), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [
        str(Path(sys.executable).with_name("jupyter-lab")),
        "--no-browser",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={root}",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=True",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    log = home / "lab.log"
    with open(log, "wb") as out:
        server = subprocess.Popen(command, cwd=root, env=environment, stdout=out, stderr=out)
    try:
        for _ in range(300):
            if server.poll() is not None:
                pytest.fail(f"JupyterLab ended:\n{log.read_text()}")
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/{EXPLORE}?token={TOKEN}"
    finally:
        server.terminate()
        server.wait(30)


def test_explore_runs_and_a_slider_moves_the_picture(browser: Any, lab: str) -> None:
    """Run All without an error; the rate's slider changes the picture and the words."""
    with browser.open(lab, width=1400) as seen:
        page = seen.page
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.connectionStatus === 'connected'",
            timeout=60_000,
        )
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        for _ in range(240):
            state = page.evaluate(STATE)
            if state["errors"] or (state["run"] and not state["left"]):
                break
            page.wait_for_timeout(500)
        assert state["errors"] == []
        assert state["left"] == 0
        picture = page.locator("img.widget-image, .widget-image img").first
        picture.scroll_into_view_if_needed(timeout=30_000)
        before = picture.get_attribute("src")
        words = page.locator(".widget-html").first.inner_text()
        assert before
        assert "No test rejects" in words or "Against the law" in words
        handle = page.locator(".widget-slider .noUi-handle").first
        handle.focus()
        for _ in range(8):
            page.keyboard.press("PageUp")
        page.wait_for_function(
            "old => document.querySelector('img.widget-image, .widget-image img').src !== old",
            arg=before,
            timeout=30_000,
        )
        page.wait_for_function(
            "() => [...document.querySelectorAll('.widget-html')]"
            ".some(e => e.innerText.includes('event count'))",
            timeout=30_000,
        )
