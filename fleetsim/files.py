"""Write files and folders so that each appears whole or not at all."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleetsim.errors import FleetsimError, InputError

__all__ = ["exclusive", "make_folder", "publish_folder", "staging_folder", "sync", "write_file"]

logger = logging.getLogger(__name__)

_PARTIAL = ".partial"
_AT_FDCWD = {"linux": -100, "darwin": -2}
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


def make_folder(path: Path) -> None:
    """Create a folder with its parents; a file in its place or a missing permission is an error.

    Raises
    ------
    InputError
        Where the folder cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            str(path), "a file stands here or on the way; a folder is needed"
        ) from None
    except OSError as error:
        raise InputError(str(path), f"cannot be created: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(str(path), "the folder is not writable", next_step="choose another output")


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes) -> None:
    """Replace a file with new content in one step."""
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the only right to write in a folder, and clear what killed writers left there.

    The right is a lock on the folder itself: it ends with the process, whatever ends it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("%s: waiting for another command that writes here", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in folder.glob(f".*{_PARTIAL}"):
            _remove(left)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """Yield a new hidden sibling of `final`; it is gone afterwards unless it was published.

    The caller holds the parent by `exclusive`.
    """
    partial = final.with_name(f".{final.name}{_PARTIAL}")
    partial.mkdir()
    try:
        yield partial
    finally:
        _remove(partial)


def publish_folder(partial: Path, final: Path, *, replace: bool = False) -> None:
    """Give a finished folder its final name; with `replace`, exchange it for what stands there.

    There is no moment without a folder of the final name: the exchange is one system call.

    Raises
    ------
    FleetsimError
        Where the file system cannot exchange two folders.
    """
    sync(partial)
    if replace and final.exists():
        _exchange(partial, final)
    else:
        os.rename(partial, final)
    sync(final.parent)


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if hasattr(libc, "renameat2"):
        here = _AT_FDCWD["linux"]
        code = libc.renameat2(here, paths[0], here, paths[1], ctypes.c_uint(_EXCHANGE))
    elif sys.platform == "darwin":
        code = libc.renamex_np(*paths, ctypes.c_uint(_EXCHANGE))
    else:
        code = -1
    if code != 0:
        reason = os.strerror(ctypes.get_errno())
        raise FleetsimError(
            f"{other}: this file system cannot exchange two folders in one step ({reason}); "
            "remove the folder yourself and run the command again"
        )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
