"""Who does the work: the main thread alone, or threads beside it.

Threads pay off because NumPy, the compiled kernel, zlib, zstd, SHA-256 and writing let go of
Python's lock. Whatever the number of threads, results are taken in the order of the work.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from fleetsim.generate.events import EventColumns

#: What direct writes are a multiple of [bytes], in memory and on the disk.
PAGE = 4096
_UNHASHED = 8  # pieces that may wait for their hash, where they are not bound by their buffers


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Piece(NamedTuple):
    """Consecutive events of a batch: as columns, or as the bytes of their lines.

    They may stand in a buffer that is used again after `release` was called. `paged`
    is memory that begins with a page and ends with the lines; the bytes before them are free, as
    many as all lines before have beyond whole units of `PAGE`. So a `DirectFile` needs no copy.
    `ends` are the places in `lines` where a line ends, uint64 (events,), where they are known.
    """

    events: int
    columns: EventColumns | None
    lines: Any
    release: Callable[[], object] | None
    paged: Any = None
    ends: Any = None


class Future:
    """Work that was handed out, and here was done at once; a future has the same two methods."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        """Wait for what the work returns; raise what it raised."""
        return self._value

    def done(self) -> bool:
        """Return whether there is nothing to wait for."""
        return True


class Threads:
    """Threads for the length of a command; with one job, none but the main thread.

    Leaving the context waits for work that has begun and drops what has not.

    Parameters
    ----------
    jobs : int
        Threads that make and compress pieces; a further one makes hashes, and the main thread
        writes.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._makers: Any = None
        self._hasher: Any = None
        if jobs > 1:
            from concurrent.futures import ThreadPoolExecutor  # not on a small job's path

            self._makers = ThreadPoolExecutor(jobs, "fleetsim-maker")
            self._hasher = ThreadPoolExecutor(1, "fleetsim-hasher")

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._makers is not None:
            self._makers.shutdown(cancel_futures=True)
            self._hasher.shutdown(cancel_futures=True)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future:
        """Hand work to the next free maker."""
        if self._makers is None:
            return Future(work(*arguments))
        future: Future = self._makers.submit(work, *arguments)
        return future

    def hash(self, work: Callable[..., Any], *arguments: Any) -> Future:
        """Hand work to the thread for hashes, which keeps the order."""
        if self._hasher is None:
            return Future(work(*arguments))
        future: Future = self._hasher.submit(work, *arguments)
        return future


class Digest:
    """A SHA-256 that is computed beside the writing.

    Parameters
    ----------
    threads : Threads
    """

    def __init__(self, threads: Threads) -> None:
        self.size = 0
        self._threads = threads
        self._hash = hashlib.sha256()
        self._waiting: deque[Future] = deque()

    def update(self, content: Any, release: Callable[[], object] | None = None) -> None:
        """Take the next bytes, and call `release` when they are no longer needed."""
        self.size += len(content)
        self._waiting.append(self._threads.hash(self._update, content, release))
        while self._waiting[0].done() or len(self._waiting) > _UNHASHED:
            self._waiting.popleft().result()
            if not self._waiting:
                break

    def _update(self, content: Any, release: Callable[[], object] | None) -> None:
        try:
            self._hash.update(content)
        finally:
            if release:
                release()

    def hexdigest(self) -> str:
        """Return the hash of everything so far."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._hash.hexdigest()
