"""The formats of a batch's events: for each, how it is written and how it is read back.

A compressed file is a row of frames of `FRAME` bytes of content each, one after the other as the
standards of gzip and zstd allow, so that many threads can compress and the bytes on the disk do
not depend on how many did.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self, cast

from fleetsim.generate.config import Config
from fleetsim.generate.events import EventColumns
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.threads import Crew, Digest, Piece, Task

FRAME = 1 << 20
_GZIP_LEVEL, _ZSTD_LEVEL = 4, 1  # within some per cent of the best, at several times its speed
_GZIP = 31  # zlib's number for gzip's header, which then holds no time and no name


class Output(Protocol):
    """Takes the content of a file piece by piece, such as a `sink.Sink`."""

    def write(self, content: Any, paged: Any = None) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Wait until all is where it belongs."""


class Written(NamedTuple):
    """A file of events: its size and hash, and the hash of the JSON Lines, if it holds them."""

    bytes: int
    sha256: str
    content_sha256: str | None


class Job(NamedTuple):
    """What a writer may need to know of a batch besides its pieces."""

    config: Config
    fleet: Fleet
    start_us: int
    crew: Crew


class Writer:
    """Writes the pieces of one batch; a context, after which it writes nothing any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Let go of the output."""

    def write(self, piece: Piece) -> None:
        """Take the next piece."""
        raise NotImplementedError

    def finish(self) -> Written:
        """Write what is left."""
        raise NotImplementedError


class Format(NamedTuple):
    """How events stand on the disk.

    Attributes
    ----------
    events_name : str
        The file in the folder of a batch.
    share : float
        Size relative to the JSON Lines, about; refusing what cannot fit needs no more.
    columns : bool
        Whether the writer takes columns, or else lines.
    writer : callable
        From an `Output` and the job to a `Writer`.
    reader : callable
        From a path to the stream of the rows as JSON Lines.
    """

    events_name: str
    share: float
    columns: bool
    writer: Callable[[Output, Job], Writer]
    reader: Callable[[Path], BinaryIO]


class _Plain(Writer):
    """Lines as they are."""

    def __init__(self, sink: Output, job: Job) -> None:
        self._sink = sink
        self._digest = Digest(job.crew)

    def write(self, piece: Piece) -> None:
        self._sink.write(piece.lines, piece.paged)
        self._digest.update(piece.lines, piece.release)

    def finish(self) -> Written:
        sha256 = self._digest.hexdigest()
        return Written(self._digest.size, sha256, sha256)


class _Compressed(Writer):
    """Lines in frames that are compressed one by one."""

    def __init__(self, sink: Output, job: Job, compress: Callable[[bytes], Any]) -> None:
        self._sink, self._crew, self._compress = sink, job.crew, compress
        self._content, self._file = Digest(job.crew), Digest(job.crew)
        self._rest = bytearray()
        self._frames: deque[Task] = deque()

    def write(self, piece: Piece) -> None:
        self._rest += piece.lines
        if piece.release:
            piece.release()
        while len(self._rest) >= FRAME:
            self._hand_out(bytes(memoryview(self._rest)[:FRAME]))
            del self._rest[:FRAME]

    def _hand_out(self, content: bytes) -> None:
        self._content.update(content)
        self._frames.append(self._crew.submit(self._compress, content))
        self._collect(self._crew.jobs)

    def _collect(self, waiting: int) -> None:
        while self._frames and (len(self._frames) > waiting or self._frames[0].done()):
            frame = self._frames.popleft().result()
            self._sink.write(frame)
            self._file.update(frame)

    def finish(self) -> Written:
        if self._rest or not self._content.size:  # an empty file would not be a compressed one
            self._hand_out(bytes(self._rest))
        self._collect(0)
        return Written(self._file.size, self._file.hexdigest(), self._content.hexdigest())


class _Rows(Writer):
    """Columns as Parquet, in row groups of one size."""

    def __init__(self, sink: Output, job: Job) -> None:
        from fleetsim.batch import parquet as columnar

        self._job, self._columnar = job, columnar
        self._digest = Digest(job.crew)
        self._out = _Hashed(sink, self._digest)
        self._parquet = columnar.open_writer(self._out)
        self._parts: list[EventColumns] = []
        self._n = 0

    def write(self, piece: Piece) -> None:
        assert piece.columns is not None  # noqa: S101 - the format says that it wants them
        events, at = piece.columns, 0
        while at < len(events):
            end = min(len(events), at + self._columnar.ROWS - self._n)
            self._parts.append(events.part(at, end).copy())
            self._n, at = self._n + end - at, end
            if self._n == self._columnar.ROWS:
                self._hand_out()
        if piece.release:
            piece.release()

    def _hand_out(self) -> None:
        events = EventColumns.joined(self._parts)
        self._parts, self._n = [], 0
        # Not in a thread: that was measured to be no faster, and to take 50 MB more.
        job = self._job
        table = self._columnar.table_of(job.config, job.fleet, job.start_us, events)
        self._parquet.write_table(table, self._columnar.ROWS)

    def finish(self) -> Written:
        if self._n:
            self._hand_out()
        self._parquet.close()
        return Written(self._digest.size, self._digest.hexdigest(), None)

    def __exit__(self, *exception: object) -> None:
        # Arrow writes the end of a file that was given up when its memory is freed, which may be
        # at any step of this process: into another file by then, or waiting for itself forever.
        self._out.forget()


class _Hashed(io.RawIOBase):
    """A file that knows the hash of what was written into it."""

    def __init__(self, sink: Output, digest: Digest) -> None:
        self._sink: Output | None = sink
        self._digest = digest

    def forget(self) -> None:
        """Drop what may still come."""
        self._sink = None

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self._sink is None:
            return len(content)
        held = bytes(content)  # the writer may use its memory again
        self._sink.write(held)
        self._digest.update(held)
        return len(held)

    def tell(self) -> int:
        return self._digest.size


def _gzip(content: bytes) -> bytes:
    import zlib

    return zlib.compress(content, _GZIP_LEVEL, wbits=_GZIP)


def _zstd(sink: Output, job: Job) -> Writer:
    import pyarrow  # only where it is needed

    codec = pyarrow.Codec("zstd", _ZSTD_LEVEL)

    def compress(content: bytes) -> Any:
        return codec.compress(content, asbytes=True)

    return _Compressed(sink, job, compress)


def _read_plain(path: Path) -> BinaryIO:
    return path.open("rb")


def _read_gzip(path: Path) -> BinaryIO:
    import gzip

    # What is given as a path is closed with the stream; a storage's file holds nothing to close.
    source: Any = path if isinstance(path, Path) else path.open("rb")
    return cast("BinaryIO", gzip.open(source, "rb"))


def _read_zstd(path: Path) -> BinaryIO:
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(path.open("rb"), "zstd"), FRAME)


def _read_parquet(path: Path) -> BinaryIO:
    from fleetsim.batch import parquet as columnar

    return columnar.read_rows(path)


def damaged(error: BaseException) -> bool:
    """Return whether a reader says by an error that a file is not of its format, or cut.

    What the system or a storage says of a place has a number or a kind of its own.
    """
    if isinstance(error, OSError):
        return not error.errno and type(error).__name__ in ("OSError", "BadGzipFile")
    import zlib

    return isinstance(error, EOFError | ValueError | zlib.error)


FORMATS: dict[str, Format] = {
    "jsonl": Format("events.jsonl", 1.0, False, _Plain, _read_plain),
    "jsonl.gz": Format(
        "events.jsonl.gz",
        0.13,
        False,
        lambda sink, job: _Compressed(sink, job, _gzip),
        _read_gzip,
    ),
    "jsonl.zst": Format("events.jsonl.zst", 0.13, False, _zstd, _read_zstd),
    "parquet": Format("events.parquet", 0.1, True, _Rows, _read_parquet),
}
