"""The formats of a batch's events: for each, how it is written and how it is read back.

The table is light, so that the command line can name the formats; what writes and reads them is
loaded where it is used.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from fleetsim.generate.config import Config
    from fleetsim.generate.fleet import Fleet
    from fleetsim.generate.threads import Piece, Threads

#: Content of a frame of a compressed file [bytes]; the frames are compressed one by one.
FRAME = 1 << 20
#: Bytes of a text that no event exceeds: no configuration is larger.
LONGEST = 1 << 20
#: The types of Parquet's columns that are read, texts and times; others would lose something.
TEXT_TYPES = "string, large_string, string_view, or a dictionary of one of these"
TIME_TYPES = "timestamp in s, ms, us or ns with a time zone (UTC by any name)"
_GZIP_LEVEL, _ZSTD_LEVEL = 4, 1  # within some per cent of the best, at several times its speed
_GZIP_MAGIC, _BLOCK = b"\x1f\x8b", 1 << 18  # what a member begins with; bytes read at once
_GZIP = 31  # zlib's number for gzip's header, which then holds no time and no name


class Output(Protocol):
    """Takes the content of a file piece by piece, such as a `direct_io.DirectFile`."""

    def write(self, content: Any, paged: Any = None) -> None:
        """Take the next bytes."""

    def finish(self) -> None:
        """Wait until all is where it belongs."""


class Written(NamedTuple):
    """A file of events: its size and hash, and the hash of the JSON Lines, if it holds them."""

    bytes: int
    sha256: str
    content_sha256: str | None


class FileJob(NamedTuple):
    """What a writer may need to know of a batch besides its pieces."""

    config: Config
    fleet: Fleet
    start_us: int
    threads: Threads


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


class Reader(Protocol):
    """Opens a file of events as JSON Lines, which are made as they are read, in little memory."""

    def __call__(
        self,
        path: Path,
        longest: int = LONGEST,
        opened: Callable[[Path], Any] | None = None,
    ) -> BinaryIO:
        """Return the stream.

        Parameters
        ----------
        path : Path
        longest : int
            The most bytes that the text of a value may have.
        opened : callable, optional
            Opens a compressed file, which is read from its beginning to its end; plain lines and
            Parquet are opened as ever.
        """


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
        From a path to the stream of the rows as JSON Lines; see `Reader`.
    """

    events_name: str
    share: float
    columns: bool
    writer: Callable[[Output, FileJob], Writer]
    reader: Reader


def _plain(output: Output, job: FileJob) -> Writer:
    from fleetsim.batch.writers import Plain

    return Plain(output, job)


def _gzip(output: Output, job: FileJob) -> Writer:
    import zlib

    from fleetsim.batch.writers import Compressed

    def compress(content: bytes) -> bytes:
        return zlib.compress(content, _GZIP_LEVEL, wbits=_GZIP)

    return Compressed(output, job, compress)


def _zstd(output: Output, job: FileJob) -> Writer:
    import pyarrow

    from fleetsim.batch.writers import Compressed

    codec = pyarrow.Codec("zstd", _ZSTD_LEVEL)

    def compress(content: bytes) -> Any:
        return codec.compress(content, asbytes=True)

    return Compressed(output, job, compress)


def _parquet(output: Output, job: FileJob) -> Writer:
    from fleetsim.batch.writers import Rows

    return Rows(output, job)


def _read_plain(
    path: Path, longest: int = LONGEST, opened: Callable[[Path], Any] | None = None
) -> BinaryIO:
    from fleetsim.base.files import open_plain

    return open_plain(path)


def _opened(path: Path, opened: Callable[[Path], Any] | None) -> Any:
    return (opened or _read_plain)(path)


def _read_gzip(
    path: Path, longest: int = LONGEST, opened: Callable[[Path], Any] | None = None
) -> BinaryIO:
    return io.BufferedReader(_Members(_opened(path, opened)), FRAME)


class _Members(io.RawIOBase):
    """Reads the members of a gzip file one after the other.

    Python's own reader skips zeros after the last one byte by byte, for as long as there are any.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""
        self._member: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import zlib

        while True:
            if self._member is None:
                self._rest = self._rest or self._file.read(_BLOCK)
                if not self._rest:
                    return 0
                self._begin()
                self._member = zlib.decompressobj(wbits=_GZIP)
            content = self._member.decompress(self._rest, len(buffer))
            if self._member.eof:
                self._rest, self._member = self._member.unused_data, None
            else:
                self._rest = self._member.unconsumed_tail
            if content:
                buffer[: len(content)] = content
                return len(content)
            if self._member is not None and not self._rest:
                self._rest = self._file.read(_BLOCK)
                if not self._rest:
                    raise EOFError("it ends within its content")

    def _begin(self) -> None:
        """Look at the two bytes that every member begins with."""
        if len(self._rest) == 1:
            self._rest += self._file.read(_BLOCK)
        if not self._rest.startswith(_GZIP_MAGIC):
            at = self._file.tell() - len(self._rest)
            size = self._file.seek(0, 2)
            if at:
                raise ValueError(f"{size - at} bytes that are no gzip follow its content")
            raise ValueError("its first bytes are not those of gzip")

    def close(self) -> None:
        self._file.close()
        super().close()


def _read_zstd(
    path: Path, longest: int = LONGEST, opened: Callable[[Path], Any] | None = None
) -> BinaryIO:
    import pyarrow

    file = _opened(path, opened)
    return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), FRAME)


def _read_parquet(
    path: Path, longest: int = LONGEST, opened: Callable[[Path], Any] | None = None
) -> BinaryIO:
    from fleetsim.batch.rows import read_rows

    return read_rows(path, longest)


def damaged(error: BaseException) -> bool:
    """Return whether a reader says by an error that a file is not of its format, or cut.

    What the system or a storage says of a place has a number or a kind of its own.
    """
    if isinstance(error, OSError):
        return not error.errno and type(error).__name__ in ("OSError", "BadGzipFile")
    import zlib

    return isinstance(error, EOFError | ValueError | zlib.error)


FORMATS: dict[str, Format] = {
    "jsonl": Format("events.jsonl", 1.0, False, _plain, _read_plain),
    "jsonl.gz": Format("events.jsonl.gz", 0.13, False, _gzip, _read_gzip),
    "jsonl.zst": Format("events.jsonl.zst", 0.13, False, _zstd, _read_zstd),
    "parquet": Format("events.parquet", 0.1, True, _parquet, _read_parquet),
}
