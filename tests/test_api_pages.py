"""The pages of the Python interface: every face is on one, with each name and its words."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT
from test_imports import FLOORS

import fleetsim

DOCS = ROOT / "docs"
PAGES = ("api.md", "api-stats.md", "api-inner.md")


def faces_on(page: str) -> list[str]:
    """Return the packages whose faces a page shows."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^\.\. face:: (\S+)$", text, re.MULTILINE)


def test_every_face_is_on_one_page() -> None:
    """The front door and the tests lead; what kinds offer is at the front door."""
    assert faces_on("api.md") == ["fleetsim"]
    assert faces_on("api-stats.md") == ["fleetsim.stats"]
    inner = [name for floor in FLOORS for name in floor if not name.startswith("kinds.")]
    wanted = {f"fleetsim.{name}" for name in inner} - {"fleetsim.stats", "fleetsim.cli"}
    assert sorted(faces_on("api-inner.md")) == sorted(wanted)


@pytest.mark.parametrize("package", ["fleetsim", "fleetsim.stats"])
def test_what_everyone_may_use_has_words(package: str) -> None:
    """Each class and function has a docstring of its own, and so have its public methods."""
    face = importlib.import_module(package)
    for name in (name for name in dir(face) if not name.startswith("__")):
        value = getattr(face, name)
        if inspect.isroutine(value):
            assert value.__doc__, name
        elif inspect.isclass(value):
            assert vars(value).get("__doc__"), name
            for own, method in vars(value).items():
                written = inspect.isfunction(method) and method.__name__ == own
                if written and not own.startswith("_"):
                    assert inspect.getdoc(getattr(value, own)), f"{name}.{own}"


@pytest.mark.slow
def test_each_name_is_on_the_built_pages(tmp_path: Path) -> None:
    """The site is built without a warning; no name lacks its entry, and no private one has any."""
    pytest.importorskip("sphinx", reason="needs the extra docs")
    words = ["-q", "-W", "--keep-going", "-b", "html", str(DOCS), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    for page in PAGES:
        text = (tmp_path / page).with_suffix(".html").read_text(encoding="utf-8")
        found = set(re.findall(r'<dt class="sig[^>]* id="([\w.]+)"', text))
        for package in faces_on(page):
            face = importlib.import_module(package)
            names = {name for name in dir(face) if not name.startswith("__")}
            if package != "fleetsim":
                door = fleetsim._HOMES
                names -= {n for n in names & set(door) if package == f"fleetsim.{home(door[n])}"}
            own = {name.removeprefix(f"{package}.") for name in found if name.startswith(package)}
            assert {name.partition(".")[0] for name in own} >= names
            assert not [name for name in own if re.search(r"(^|\.)_", name)]


def home(module: str) -> str:
    """Return the package of a module."""
    return module.partition(".")[0]
