"""Write files and folders so that each appears whole or not at all."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from fleetsim.base.errors import FleetsimError, InputError

PARTIAL = ".partial"
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


def free_bytes(path: Path) -> int | None:
    """Return the bytes that a user may still write below a path; None where there is no disk.

    The nearest folder on the way to the path that exists decides.
    """
    path = path.absolute()
    system = os.statvfs(next(place for place in (path, *path.parents) if place.is_dir()))
    return system.f_bavail * system.f_frsize if system.f_blocks else None


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Replace a file with new content, whole or in pieces, in one step."""
    pieces = [content] if isinstance(content, bytes) else content
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with open(partial, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def exclusive(folder: Path, names: str = "*") -> Iterator[None]:
    """Hold the only right to write in a folder, and clear what killed writers left there.

    The right is a lock on the folder itself: it ends with the process, whatever ends it. `names`
    is a glob of the names written here; only their unfinished parts are cleared, since the folder
    may hold what others made.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            import logging  # loaded where there is something to say

            logging.getLogger(__name__).warning(
                "%s: waiting for another command that writes here", folder
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left in folder.glob(f".{names}{PARTIAL}"):
            _remove(left)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """Yield a new hidden sibling of `final`; it is gone afterwards unless it was published.

    The caller holds the parent by `exclusive`.
    """
    # A name of its own, so that what a worker of a killed command still writes comes to nothing.
    partial = final.with_name(f".{final.name}.{token_hex(4)}{PARTIAL}")
    partial.mkdir()
    try:
        yield partial
    finally:
        if partial.exists():
            # Under another name, or else a worker could add a file while the others are removed.
            gone = partial.with_name(f"{partial.name.removesuffix(PARTIAL)}.gone{PARTIAL}")
            partial.rename(gone)
            _remove(gone)


def claim_folder(folder: Path) -> int:
    """Make a hidden folder that stays ours while this process lives; return its lock.

    Folders of this kind whose process is gone are cleared from the same parent.
    """
    make_folder(folder.parent)
    parent = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(parent, fcntl.LOCK_EX)
        for other in folder.parent.glob(f".*{PARTIAL}"):
            if _is_abandoned(other):
                _remove(other)
        folder.mkdir()
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(parent)
    return lock


def _is_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def point_link(link: Path, target: str) -> None:
    """Let a symbolic link point to a sibling, in one step; threads and processes take turns."""
    partial = link.with_name(f".{link.name}{PARTIAL}")
    parent = os.open(link.parent, os.O_RDONLY)
    try:
        fcntl.flock(parent, fcntl.LOCK_EX)  # as `claim_folder` does, which clears what is left
        partial.unlink(missing_ok=True)
        os.symlink(target, partial)
        os.replace(partial, link)
    finally:
        os.close(parent)


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
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
