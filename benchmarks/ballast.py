"""Memory for the page cache that the machine already has.

A virtual machine hands memory that lies free for some seconds back to its host, and takes long to
get it again: on the one where this was found, writing a gigabyte into the page cache took 2.8 s
then and 0.3 s otherwise, whichever program wrote. So what one program wrote is kept as the ballast
of the next ones, and is cut away, as fast as they write, to make room for it.
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
    """Files in the page cache that shrink as others grow.

    Parameters
    ----------
    folder : Path
        Where they lie, a new folder on the file system of what is measured.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._files: list[Path] = []
        self._taken = 0

    def take(self, file: Path) -> None:
        """Move a file here."""
        kept = self._folder / str(self._taken)
        os.rename(file, kept)
        self._files.append(kept)
        self._taken += 1

    @property
    def size(self) -> int:
        """Bytes that are here."""
        return sum(path.stat().st_size for path in self._files)

    @contextmanager
    def make_room(self, folder: Path, expected: int) -> Iterator[None]:
        """Shrink as the files below a folder grow, to `expected` bytes in all."""
        before, ended = self.size, Event()

        def follow() -> None:
            done = False
            while not done:
                done = ended.is_set()
                self._shrink(before - min(expected, _AHEAD + _bytes_below(folder)))
                ended.wait(_EVERY)

        thread = Thread(target=follow)
        self._shrink(before - min(expected, _AHEAD))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _shrink(self, size: int) -> None:
        surplus = self.size - max(0, size)
        while surplus > 0:
            last = self._files[-1]
            rest = last.stat().st_size - surplus
            if rest > 0:
                os.truncate(last, rest)
                return
            self._files.pop().unlink()
            surplus = -rest


def _bytes_below(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # renamed in between
                total += os.stat(os.path.join(path, name)).st_size
    return total
