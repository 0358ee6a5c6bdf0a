"""File systems and machines that refuse what is a convenience, and those of other habits."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from fleetsim.base.errors import FleetsimError, InputError, refused
from fleetsim.base.files import PARTIAL, claim_folder, exclusive, point_link, take_lock
from fleetsim.experiment.figures import render, titled_figure
from fleetsim.runner.kernel import OwnKernelManager

REFUSALS = (errno.ENOLCK, errno.EPERM, errno.ENOTSUP)


@pytest.mark.parametrize("code", REFUSALS)
def test_without_locks_the_work_is_done(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is cleared that may be another's."""

    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    other = tmp_path / f".x{PARTIAL}"
    other.mkdir()
    with exclusive(tmp_path):
        pass
    os.close(claim_folder(tmp_path / f".mine{PARTIAL}"))
    assert other.is_dir()
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert not take_lock(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("code", [*REFUSALS, errno.EROFS, errno.ENOSPC])
def test_a_link_that_cannot_be_made_is_a_warning(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What stood there stands, and nothing is left."""
    point_link(tmp_path / "latest", "one")

    def symlink(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "symlink", symlink)
    point_link(tmp_path / "latest", "two")
    assert os.readlink(tmp_path / "latest") == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]
    assert "cannot be made" in caplog.text


def test_a_long_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets of a kernel find a shorter one, or ports."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    manager = OwnKernelManager()
    assert manager.transport == "ipc"
    assert len(f"{manager.ip}-12345") <= 107
    monkeypatch.setattr("fleetsim.runner.kernel.IPC_PATH_MAX_LEN", 10)
    assert OwnKernelManager().transport == "tcp"


def test_no_matplotlibrc_changes_a_figure() -> None:
    """Not its fonts, nor what it is drawn by."""

    def drawn() -> dict[str, bytes]:
        def fill(figure: Any) -> str:
            axes = figure.subplots()
            axes.plot([1, 2, 3], label="a")
            axes.legend()
            return "a line"

        return render(titled_figure("A title", (4, 3), fill)[0])

    plain = drawn()
    theirs: dict[Any, Any] = {
        "text.usetex": True,
        "font.size": 30,
        "axes.labelsize": 40,
        "lines.linewidth": 9,
        "axes.facecolor": "black",
        "axes.grid": True,
        "savefig.dpi": 300,
        "savefig.bbox": "tight",
        "svg.fonttype": "path",
        "path.sketch": (1, 100, 2),
    }
    with mpl.rc_context(theirs):
        assert drawn() == plain
        assert mpl.rcParams["font.size"] == 30


def test_an_error_of_the_system_names_what_the_user_knows() -> None:
    """Not our hidden names; what a library put into the text is not told."""
    full = OSError(errno.ENOSPC, "secret", f"/a/.run-{'0' * 32}{PARTIAL}/x/y")
    assert str(refused(full)).startswith("/a: cannot be used: No space left on device\n  next: ")
    assert not isinstance(refused(full), InputError)
    denied = refused(PermissionError(errno.EACCES, "secret", f"/a/.b.jsonl.0123abcd{PARTIAL}"))
    assert isinstance(denied, InputError)
    assert str(denied).startswith("/a/b.jsonl: cannot be used: Permission denied")
    long = refused(OSError(errno.ENAMETOOLONG, "", "/" + "x" * 5000))
    assert (len(str(long)) < 400, "5001 characters" in str(long)) == (True, True)
    assert isinstance(long, FleetsimError)
