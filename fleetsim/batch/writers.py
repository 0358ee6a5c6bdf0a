"""The writers of a batch's events: lines as they are, compressed lines, and columns as Parquet.

A compressed file is a row of frames of `formats.FRAME` bytes of content each, one after the other
as the standards of gzip and zstd allow, so that many threads can compress and the bytes on the disk
do not depend on how many did.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from typing import Any

from fleetsim.batch import formats
from fleetsim.batch.formats import FileJob, Output, Writer, Written
from fleetsim.generate.events import EventColumns
from fleetsim.generate.threads import Digest, Future, Piece


class Plain(Writer):
    """Lines as they are."""

    def __init__(self, output: Output, job: FileJob) -> None:
        self._output = output
        self._digest = Digest(job.threads)

    def write(self, piece: Piece) -> None:
        """Take the next piece."""
        self._output.write(piece.lines, piece.paged)
        self._digest.update(piece.lines, piece.release)

    def finish(self) -> Written:
        """Write what is left."""
        sha256 = self._digest.hexdigest()
        return Written(self._digest.size, sha256, sha256)


class Compressed(Writer):
    """Lines in frames that are compressed one by one."""

    def __init__(self, output: Output, job: FileJob, compress: Callable[[bytes], Any]) -> None:
        self._output, self._threads, self._compress = output, job.threads, compress
        self._content, self._file = Digest(job.threads), Digest(job.threads)
        self._rest = bytearray()
        self._frames: deque[Future] = deque()

    def write(self, piece: Piece) -> None:
        """Take the next piece."""
        self._rest += piece.lines
        if piece.release:
            piece.release()
        while len(self._rest) >= formats.FRAME:
            self._hand_out(bytes(memoryview(self._rest)[: formats.FRAME]))
            del self._rest[: formats.FRAME]

    def _hand_out(self, content: bytes) -> None:
        self._content.update(content)
        self._frames.append(self._threads.submit(self._compress, content))
        self._collect(self._threads.jobs)

    def _collect(self, waiting: int) -> None:
        while self._frames and (len(self._frames) > waiting or self._frames[0].done()):
            frame = self._frames.popleft().result()
            self._output.write(frame)
            self._file.update(frame)

    def finish(self) -> Written:
        """Write what is left."""
        if self._rest or not self._content.size:  # an empty file would not be a compressed one
            self._hand_out(bytes(self._rest))
        self._collect(0)
        return Written(self._file.size, self._file.hexdigest(), self._content.hexdigest())


class Rows(Writer):
    """Columns as Parquet, in row groups of one size."""

    def __init__(self, output: Output, job: FileJob) -> None:
        from fleetsim.batch import parquet

        self._job, self._parquet = job, parquet
        self._digest = Digest(job.threads)
        self._out = _Hashed(output, self._digest)
        self._rows = parquet.open_writer(self._out)
        self._parts: list[EventColumns] = []
        self._n = 0

    def write(self, piece: Piece) -> None:
        """Take the next piece."""
        assert piece.columns is not None  # noqa: S101 - the format says that it wants them
        events, at = piece.columns, 0
        while at < len(events):
            end = min(len(events), at + self._parquet.ROWS - self._n)
            self._parts.append(events.part(at, end).copy())
            self._n, at = self._n + end - at, end
            if self._n == self._parquet.ROWS:
                self._hand_out()
        if piece.release:
            piece.release()

    def _hand_out(self) -> None:
        events = EventColumns.joined(self._parts)
        self._parts, self._n = [], 0
        # Not in a thread: that was measured to be no faster, and to take 50 MB more.
        job = self._job
        table = self._parquet.table_of(job.config, job.fleet, job.start_us, events)
        self._rows.write_table(table, self._parquet.ROWS)

    def finish(self) -> Written:
        """Write what is left."""
        if self._n:
            self._hand_out()
        self._rows.close()
        return Written(self._digest.size, self._digest.hexdigest(), None)

    def __exit__(self, *exception: object) -> None:
        # Arrow writes the end of a file that was given up when its memory is freed, which may be
        # at any step of this process: into another file by then, or waiting for itself forever.
        self._out.forget()


class _Hashed(io.RawIOBase):
    """A file that knows the hash of what was written into it."""

    def __init__(self, output: Output, digest: Digest) -> None:
        self._output: Output | None = output
        self._digest = digest

    def forget(self) -> None:
        """Drop what may still come."""
        self._output = None

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self._output is None:
            return len(content)
        held = bytes(content)  # the writer may use its memory again
        self._output.write(held)
        self._digest.update(held)
        return len(held)

    def tell(self) -> int:
        return self._digest.size
