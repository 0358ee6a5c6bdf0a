"""Bytes on their way into a file, past the page cache of the system where it allows that.

Copying gigabytes into the page cache takes longer than making them, the more so on a machine whose
memory is not at hand; the cache would hold nothing that is soon read again. So what is large is
handed to the disk directly (``O_DIRECT`` of Linux), from a buffer that is used again and again.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.generate.threads import PAGE

#: Size of the buffer for what comes without a place of its own [bytes].
BUFFER = 1 << 22
_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """Takes the content of a file piece by piece.

    Parameters
    ----------
    descriptor : int
        A file that is open for writing, at its end; nobody else writes into it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._room = np.frombuffer(mmap.mmap(-1, BUFFER), np.uint8)  # begins with a page
        self._filled = 0
        self._direct = False
        self._refused = not _DIRECT

    def write(self, content: Any, paged: Any = None) -> None:
        """Take the next bytes; they may change afterwards.

        Parameters
        ----------
        content : buffer of bytes
        paged : writable buffer of bytes, optional
            Begins with a page of memory and ends with the content; what stands before it is free.
            Where that is as long as what waits here, nothing but the rest is copied.
        """
        rest = np.frombuffer(content, np.uint8)
        if paged is not None and len(paged) - len(rest) == self._filled < PAGE:
            whole = np.frombuffer(paged, np.uint8)
            whole[: self._filled] = self._room[: self._filled]
            end = len(whole) // PAGE * PAGE
            self._write_out(whole[:end], direct=True)
            self._filled, rest = 0, whole[end:]
        while len(rest):
            n = min(len(rest), BUFFER - self._filled)
            self._room[self._filled : self._filled + n] = rest[:n]  # lets go of Python's lock
            self._filled, rest = self._filled + n, rest[n:]
            if self._filled == BUFFER:
                self._write_out(self._room, direct=True)
                self._filled = 0

    def finish(self) -> None:
        """Write what is left, and wait until all is on the disk."""
        self._write_out(self._room[: self._filled], direct=False)
        self._filled = 0
        os.fsync(self._descriptor)

    def _write_out(self, content: npt.NDArray[np.uint8], *, direct: bool) -> None:
        view = content.data
        if view:
            self._switch(direct)
        while view:
            try:
                n = os.write(self._descriptor, view)
            except OSError as error:
                if not (self._direct and error.errno == errno.EINVAL):
                    raise
                n = 0  # the file system asks for larger units
            view = view[n:]
            if view and self._direct:  # what is left need not be whole units any more
                self._refused = True
                self._switch(False)

    def _switch(self, direct: bool) -> None:
        """Write directly from here on, or not; where the file system cannot, it stays as it is."""
        direct = direct and not self._refused
        if direct == self._direct:
            return
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        try:
            flags = flags | _DIRECT if direct else flags & ~_DIRECT
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags)
            self._direct = direct
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._refused = True
