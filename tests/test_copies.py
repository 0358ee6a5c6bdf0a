"""`make lab` opens copies of the notebooks: which ones are made, made anew, and kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import fresh_clone, git, tracked_files


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a clone with copies of its notebooks."""
    made = fresh_clone(tmp_path)
    assert copied(made) == ""
    return made


def copied(clone: Path) -> str:
    """Make the copies; return what was said."""
    done = subprocess.run(["sh", ".ci/copies"], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_every_notebook_has_a_copy_that_git_does_not_see(clone: Path) -> None:
    """Each is its notebook to the byte."""
    copies = sorted((clone / "notebooks" / "copies").glob("*.ipynb"))
    notebooks = tracked_files("notebooks/*.ipynb")
    assert [path.name for path in copies] == [path.name for path in notebooks]
    for copy, notebook in zip(copies, notebooks, strict=True):
        assert copy.read_bytes() == notebook.read_bytes()
    assert git(clone, "status", "--porcelain") == ""


def test_what_was_saved_is_kept(clone: Path) -> None:
    """Also where its notebook changed since, which is said; the others are made anew."""
    folder = clone / "notebooks"
    saved = folder / "copies" / "sweep.ipynb"
    saved.write_text("mine")
    assert copied(clone) == ""
    for name in ("sweep.ipynb", "scaling.ipynb"):
        (folder / name).write_text("of a later version")
    told = copied(clone)
    assert told.count("\n") == 1
    assert "notebooks/copies/sweep.ipynb was saved by you and is kept" in told
    assert saved.read_text() == "mine"
    assert (folder / "copies" / "scaling.ipynb").read_text() == "of a later version"
    saved.unlink()
    assert copied(clone) == ""
    assert saved.read_text() == "of a later version"


def test_a_notebook_of_ones_own_has_no_copy(clone: Path) -> None:
    """Where git does not know it, it is changed where it lies."""
    (clone / "notebooks" / "mine.ipynb").write_text("{}")
    assert copied(clone) == ""
    assert not (clone / "notebooks" / "copies" / "mine.ipynb").exists()


def test_there_are_copies_without_git(clone: Path) -> None:
    """As in what was unpacked from an archive."""
    (clone / ".git").rename(clone / "elsewhere")
    (clone / "notebooks" / "copies" / "sweep.ipynb").unlink()
    assert copied(clone) == ""
    assert (clone / "notebooks" / "copies" / "sweep.ipynb").is_file()
