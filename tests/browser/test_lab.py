"""JupyterLab as users have it: explore.ipynb runs, a slider moves, and the picture changes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import fresh_clone, git, wait_until

TOKEN = "0123456789abcdef"  # noqa: S105
EXPLORE = "notebooks/copies/explore.ipynb"
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


class Lab(NamedTuple):
    """JupyterLab as it runs for a test: the project, and the address of explore.ipynb's copy."""

    root: Path
    address: str


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Yield JupyterLab as `make lab` starts it for somebody who never had it."""
    root = fresh_clone(tmp_path_factory.mktemp("lab"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path_factory.mktemp("home")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "JUP"))}
    environment = {**kept, "HOME": str(home), "JUPYTER_PREFER_ENV_PATH": "1"}
    options = [
        "--no-browser",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.expose_app_in_browser=True",
    ]
    command = ["make", "lab", f"ARGS={' '.join(options)}"]
    log = home / "lab.log"
    with open(log, "wb") as out:
        server = subprocess.Popen(
            command, cwd=root, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        for _ in range(300):
            if server.poll() is not None:
                pytest.fail(f"JupyterLab ended:\n{log.read_text()}")
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield Lab(root, f"http://127.0.0.1:{port}/lab/tree/{EXPLORE}?token={TOKEN}")
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)  # make and JupyterLab
        server.wait(30)


def run_all(page: Any) -> None:
    """Run all cells of the notebook that is open; none may fail."""
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


def test_explore_runs_and_a_slider_moves_the_picture(browser: Any, lab: Lab) -> None:
    """Run All without an error; the rate's slider changes the picture and the words."""
    with browser.open(lab.address, width=1400) as seen:
        page = seen.page
        run_all(page)
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


def test_run_all_and_save_leave_git_clean(browser: Any, lab: Lab) -> None:
    """The copy holds the outputs, the notebook is untouched, and nobody is asked about news."""
    saved = lab.root / EXPLORE
    with browser.open(lab.address, width=1400) as seen:
        page = seen.page
        run_all(page)
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        wait_until(lambda: '"image/png"' in saved.read_text(), "the saved copy")
        page.wait_for_function("() => window.jupyterapp.restored.then(() => true)")
        told = page.evaluate(
            "() => [...document.querySelectorAll('.Toastify__toast')].map(e => e.innerText)"
        )
        assert not [text for text in told if "news" in text]
    assert git(lab.root, "status", "--porcelain") == ""
