"""Memory for the page cache that the machine already has.

A virtual machine hands memory that lies free for some seconds back to its host, and takes long to
get it again: on the one where this was found, writing a gigabyte into the page cache took 2.8 s
then and 0.3 s otherwise, whichever program wrote. So what one program wrote is kept as the ballast
of the next, and is cut away, as fast as that one writes, to make room for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

__all__ = ["Ballast"]

_AHEAD = 1 << 28  # bytes that are free before they are written
_EVERY = 0.02  # seconds


class Ballast:
    """A file in the page cache that shrinks as another one grows.

    Parameters
    ----------
    path : Path
        Where it lies; on the file system of what is measured.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, file: Path) -> None:
        """Keep a file in place of what is left, where it is larger; it is gone in either case."""
        if file.stat().st_size > self._size():
            os.replace(file, self._path)
        else:
            file.unlink()

    @contextmanager
    def make_room(self, folder: Path) -> Iterator[None]:
        """Shrink as the files below a folder grow; the rest stays for the next."""
        size, ended = self._size(), Event()

        def follow() -> None:
            done = False
            while not done:
                done = ended.is_set()
                self._cut(size - _AHEAD - _bytes_below(folder))
                ended.wait(_EVERY)

        thread = Thread(target=follow)
        self._cut(size - _AHEAD)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _cut(self, size: int) -> None:
        if self._path.exists():
            os.truncate(self._path, max(0, size))


def _bytes_below(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # renamed in between
                total += os.stat(os.path.join(path, name)).st_size
    return total
