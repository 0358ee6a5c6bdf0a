"""Write files and folders so that each appears whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO, cast

from fleetsim.base.errors import FleetsimError, InputError, cut, refused
from fleetsim.base.terminal import warn

PARTIAL = ".partial"
#: Names of what runs, sweeps, measurements and written files leave in results when they are killed.
_LEFT = re.compile(
    r"\.(?:(?:run|url|sweep|again)-[0-9a-f]{32}|\d{8}T\d{6}Z-[0-9a-f]{8}|.+\.[0-9a-f]{16}|"
    r"[0-9a-f]{16}\.gone)\.partial"
)
_AT_FDCWD = {"linux": -100, "darwin": -2}
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
#: What the fsync of a folder says on a file system that has none.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO (a named pipe)",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


class UnflushedError(FleetsimError):
    """Something has its new content and name, and may lose both where the power fails."""


def open_plain(path: Path, what: str = "a plain file", *, buffering: int = -1) -> BinaryIO:
    """Open a file that anybody may have put there, for reading.

    What is no plain file is refused without a byte read of it: a FIFO or a device would keep the
    reader waiting, or never end. A file on a storage is plain.

    Parameters
    ----------
    path : Path
    what : str
        What is expected there, for the message.
    buffering : int
        As for `open`.

    Raises
    ------
    InputError
        Where something else stands there.
    OSError
        Where it cannot be opened.
    """
    if not isinstance(path, Path):
        storage: Any = path
        return io.BufferedReader(storage.open("rb"))  # its own files take no limit of a line
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # a socket
            _refuse_special(path, path.stat().st_mode, what)
        raise
    try:
        _refuse_special(path, os.fstat(descriptor).st_mode, what)
        return os.fdopen(descriptor, "rb", buffering)
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_special(path: Path, mode: int, what: str) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "no plain file")
        raise InputError(cut(str(path)), f"cannot be read: found {kind}; allowed: {what}")


def read_plain(path: Path, limit: int, what: str = "a plain file") -> bytes:
    """Return the content of a file that anybody may have put there, of at most `limit` bytes.

    Raises
    ------
    InputError
        Where it is larger, or no plain file.
    OSError
        Where it cannot be opened or read.
    """
    with open_plain(path, what) as file:
        size = os.fstat(file.fileno()).st_size if isinstance(path, Path) else 0
        content = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(content) > limit:
        raise InputError(
            cut(str(path)),
            f"found {max(size, len(content))} bytes{'' if size > limit else ' or more'}; "
            f"allowed: {what} of at most {limit} bytes",
        )
    return content


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
        raise refused(error, path, "cannot be created: {}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(str(path), "the folder is not writable", next_step="choose another output")


def take_lock(descriptor: int, waits: Callable[[], object] | None = None) -> bool:
    """Lock an open file or folder for this process alone; return whether that was possible.

    File systems without locks refuse (a share without its lock server, some of containers). The
    work is done all the same, with a warning: what locks keep apart, the user then has to.

    Parameters
    ----------
    descriptor : int
        The lock ends with it.
    waits : callable, optional
        Called before a wait for another process.
    """
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waits:
                waits()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        _warn_once(
            f"this file system refuses locks ({os.strerror(error.errno or 0)}): "
            "let one command at a time write here"
        )
        return False
    return True


@cache
def _warn_once(text: str) -> None:
    warn(__name__, text)


def free_bytes(path: Path) -> int | None:
    """Return the bytes that a user may still write below a path; None where there is no disk.

    The nearest folder on the way to the path that exists decides.
    """
    path = path.absolute()
    system = os.statvfs(next(place for place in (path, *path.parents) if place.is_dir()))
    return system.f_bavail * system.f_frsize if system.f_blocks else None


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file of any size."""
    with open_plain(path) as file:
        return hashlib.file_digest(cast("Any", file), "sha256").hexdigest()


class HashingOpener:
    """Opens a file as `open_plain` does; once that was read to its end, its hash is known."""

    def __init__(self) -> None:
        self._opened: _Hashed | None = None

    def __call__(self, path: Path) -> io.RawIOBase:
        """Open a file."""
        self._opened = _Hashed(open_plain(path))
        return self._opened

    @property
    def sha256(self) -> str:
        """Of the whole file; "" where its end was not read, or some of it was skipped."""
        return "" if self._opened is None else self._opened.sha256


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self._in_order = file, hashlib.sha256(), True
        self.sha256 = ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = cast("Any", self._file).readinto(buffer)
        if count:
            self._hash.update(memoryview(buffer)[:count])
        elif len(buffer) and self._in_order:
            self.sha256 = self._hash.hexdigest()
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        self._in_order, self.sha256 = False, ""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk; a file system may have no such thing for folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)


def _sync_name(path: Path) -> None:
    """Flush the folder where something has got its name; that it has one is done already."""
    try:
        sync(path.parent)
    except OSError as error:
        raise UnflushedError(
            f"{path}: it stands there with its new content, but the system could not make its "
            f"folder safe on the disk ({error.strerror or error}); a power failure may bring back "
            "the old state"
        ) from error


def write_file(path: Path, content: bytes | Iterable[bytes], *, mode: int = 0o666) -> None:
    """Replace a file with new content, whole or in pieces, in one step.

    It is written under a name that nobody can know before, and that is made new: where something
    stands in its place, a link to elsewhere too, nothing is written through it. `mode` is what the
    umask takes from.

    Raises
    ------
    OSError
        Where the file is as it was before.
    UnflushedError
        Where it has the new content, and its folder could not be flushed.
    """
    pieces = [content] if isinstance(content, bytes) else content
    partial, descriptor = _new_file(path, mode)
    try:
        with open(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)  # while it is locked, so that nobody takes it for a left one
    finally:
        partial.unlink(missing_ok=True)
    _sync_name(path)


def _new_file(path: Path, mode: int) -> tuple[Path, int]:
    """Make a hidden file beside a path, locked while it is open; return it with its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        partial = path.with_name(f".{path.name}.{token_hex(8)}{PARTIAL}")
        descriptor = os.open(partial, flags, mode)
        with suppress(OSError):  # a file system without locks: it is as safe as its name
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # or it was cleared before it was locked
            return partial, descriptor
        os.close(descriptor)


@contextmanager
def exclusive(folder: Path, names: str = "*") -> Iterator[None]:
    """Hold the only right to write in a folder, and clear what killed writers left there.

    The right is a lock on the folder itself: it ends with the process, whatever ends it. `names`
    is a glob of the names written here; only their unfinished parts are cleared, since the folder
    may hold what others made.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if take_lock(descriptor, lambda: _say_waiting(folder)):  # or else they may be another's
            for left in (
                path
                for form in (f".{names}{PARTIAL}", f".{names}.*{PARTIAL}")
                for path in folder.glob(form)
            ):
                remove(left)
        yield
    finally:
        os.close(descriptor)


def _say_waiting(folder: Path) -> None:
    warn(__name__, f"{folder}: waiting for another command that writes here")


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
            remove(gone)


def claim_folder(folder: Path) -> int:
    """Make a hidden folder that stays ours while this process lives; return its lock.

    Folders of this kind whose process is gone are cleared from the same parent.
    """
    make_folder(folder.parent)
    parent = os.open(folder.parent, os.O_RDONLY)
    try:
        take_lock(parent)
        for other in folder.parent.glob(f".*{PARTIAL}"):
            _clear(other)
        folder.mkdir()
        lock = os.open(folder, os.O_RDONLY)
        take_lock(lock)
    finally:
        os.close(parent)
    return lock


def clear_left(folder: Path) -> None:
    """Clear what killed commands left in a folder of results; what a living one holds stays.

    Only what has a name that such commands give is looked at. Where nothing can be cleared, as on
    a disk that cannot be written, nothing is.
    """
    try:
        with os.scandir(folder) as entries:
            left = [Path(entry.path) for entry in entries if _LEFT.fullmatch(entry.name)]
        if not left:
            return
        parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        # Who makes such a folder holds its parent until it holds the folder.
        fcntl.flock(parent, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in left:
            _clear(path)
    except OSError:
        return
    finally:
        os.close(parent)


def _clear(left: Path) -> None:
    """Remove an unfinished file or folder where no living process holds it."""
    try:
        lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        if left.is_symlink():  # `point_link` holds the parent while there is one of its own
            remove(left)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if left.is_dir():  # under another name, or what is still written there would fill it again
            gone = left.with_name(f".{token_hex(8)}.gone{PARTIAL}")
            left.rename(gone)
            left = gone
        remove(left)
    except OSError:  # it is held, or cannot be removed
        return
    finally:
        os.close(lock)


def point_link(link: Path, target: str) -> None:
    """Let a symbolic link point to a sibling, in one step; threads and processes take turns.

    A link is a convenience: where it cannot be made, that is a warning, and the one before stays.
    """
    partial = link.with_name(f".{link.name}.{token_hex(8)}{PARTIAL}")
    try:
        parent = os.open(link.parent, os.O_RDONLY)
        try:
            take_lock(parent)  # as `claim_folder` does, which clears what is left
            os.symlink(target, partial)
            os.replace(partial, link)
        finally:
            os.close(parent)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        why = os.strerror(error.errno or 0)
        warn(__name__, f"{link}: the link to {target} cannot be made: {why}")


def publish_folder(partial: Path, final: Path, *, replace: bool = False) -> None:
    """Give a finished folder its final name; with `replace`, exchange it for what stands there.

    There is no moment without a folder of the final name: the exchange is one system call.

    Raises
    ------
    OSError
        Where nothing has changed.
    UnflushedError
        Where the folder has its name, and the folder around it could not be flushed.
    FleetsimError
        Where the file system cannot exchange two folders.
    """
    sync(partial)
    if replace and final.exists():
        _exchange(partial, final)
    else:
        os.rename(partial, final)
    _sync_name(final)


def links_out(folder: Path) -> list[str]:
    """Return what below a folder is a symbolic link that leads out of it, each with its target.

    Folders are not entered by way of links, so that the walk ends.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            path = Path(parent, name)
            if path.is_symlink() and leads_out(path, folder):
                found.append(f"{path.relative_to(folder)} -> {os.readlink(path)}")
    return found


def leads_out(path: Path, folder: Path) -> bool:
    """Return whether links on the way to a path lead out of a folder, or in a circle."""
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return True


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


def remove(path: Path) -> None:
    """Remove a file or a folder, itself and not what a link names; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
