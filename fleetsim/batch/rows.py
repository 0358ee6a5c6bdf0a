"""The rows of a Parquet file of events as JSON Lines: one line a row, whatever stands in it.

A column is taken by its name, in each of the types that hold the same values. A text is written as
the JSON encoder writes it, so that no text makes a line, a key or a value of its own; what cannot
stand in a line of the data model (a null, a text that is no UTF-8, a fraction of a microsecond) is
written so that the line is found not to be one.

Memory is bounded before anything is decoded: `pages` says how large the pages are.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.base.clock import LAST_US
from fleetsim.base.errors import found
from fleetsim.base.storage import is_remote
from fleetsim.batch.formats import LONGEST, TEXT_TYPES, TIME_TYPES
from fleetsim.batch.pages import PAGE_BYTES, ColumnPages, check_footer, columns_pages
from fleetsim.generate.encode import time_text
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, escaped

#: Rows and bytes that are decoded at once, and bytes of lines that are made at once, at most; the
#: memory for what is decoded is several times that.
ROWS = 1 << 15
DECODED_BYTES = 1 << 24
PIECE_BYTES = 1 << 22
_ID_BYTES = 64  # no id is longer
_BUFFER_BYTES = 1 << 20
_FIRST_US = -62_135_596_800_000_000  # the year 1
_UNITS = {"s": 1_000_000, "ms": 1000, "us": 1, "ns": 1}  # microseconds; nanoseconds stand apart

# Bytes of a text that is not what stands between the quotes, or needs a look at its UTF-8.
_ODD = np.zeros(256, np.bool_)
_ODD[:0x20] = _ODD[0x80:] = True
_ODD[[ord('"'), ord("\\")]] = True
_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')


def read_rows(path: Path, longest: int = LONGEST) -> io.BufferedReader:
    """Return the rows of a Parquet file as a stream of JSON Lines.

    Parameters
    ----------
    path : Path
    longest : int
        Bytes of the longest text that an event may have. A longer one is cut, and the cut one is
        longer still than this, so that it is none of those.

    Raises
    ------
    ValueError
        Where the file is none, has not the columns of events, or cannot be read in little memory.
    """
    longest = max(longest, _ID_BYTES)
    with path.open("rb") as file:
        check_footer(file)
        footer = pq.ParquetFile(file)
        names = _check_columns(footer.schema_arrow)
        pages = _pages(file, footer.metadata, names, everywhere=not is_remote(path))
    per_row = sum(column.per_value for column in pages.values())
    opened = pq.ParquetFile(
        path if isinstance(path, Path) else path.open("rb"),
        metadata=footer.metadata,
        buffer_size=_BUFFER_BYTES,  # pages are read one by one, not a row group's together
        read_dictionary=[
            field.name
            for field in EVENT_FIELDS
            if field.kind is not FieldKind.TIME and pages[field.name].coded
        ],
    )
    rows = int(max(1, min(ROWS, DECODED_BYTES // max(per_row, 1))))
    return io.BufferedReader(_Stream(opened, rows, longest), 1 << 20)


def _pages(file: Any, footer: Any, names: list[str], *, everywhere: bool) -> dict[str, ColumnPages]:
    """Return what the pages need, by their headers or, on a storage, by what bounds them.

    There, the headers are as many requests as the file itself.
    """
    if not everywhere:
        pages = {name: ColumnPages() for name in names}
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            for index, column in enumerate(pages.values()):
                chunk = group.column(index)
                size = chunk.total_uncompressed_size
                column.largest = max(column.largest, size)
                column.coded |= chunk.has_dictionary_page
                front = "DELTA_BYTE_ARRAY" in chunk.encodings
                per_value = size if front else size / max(1, chunk.num_values)
                column.per_value = max(column.per_value, per_value)
        if sum(column.largest for column in pages.values()) <= PAGE_BYTES:
            return pages
    return columns_pages(file, footer, names)


def _check_columns(schema: Any) -> list[str]:
    """Return the names of the columns in their order, where they are those of events.

    Raises
    ------
    ValueError
        With every column at fault, what was found and what is allowed.
    """
    faults = []
    fields = {field.name: field for field in EVENT_FIELDS}
    for name, field in fields.items():
        time = field.kind is FieldKind.TIME
        allowed = TIME_TYPES if time else TEXT_TYPES
        kinds = [column.type for column in schema if column.name == name]
        if len(kinds) != 1:
            number = "twice or more" if kinds else "missing"
            faults.append(f"column {name} is {number}; allowed: once, {allowed}")
        elif not (_is_instant if time else _is_text)(kinds[0]):
            faults.append(f"column {name}: found {found(_Named(kinds[0]))}; allowed: {allowed}")
    for column in schema:
        if column.name not in fields:
            allowed = ", ".join(fields)
            faults.append(f"extra column {found(column.name)}; allowed: {allowed}")
    if faults:
        shown = "; ".join(faults[:8])
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise ValueError(f"it has not the columns of events: {shown}{more}")
    return [column.name for column in schema]


class _Named:
    """A type as messages show it."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __repr__(self) -> str:
        zone = " without a time zone" if pa.types.is_timestamp(self._kind) else ""
        return f"{self._kind}{zone}"


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    view = getattr(pa.types, "is_string_view", None)  # not in the oldest pyarrow that will do
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or (view and view(kind)))


def _is_instant(kind: Any) -> bool:
    # The zone is a name for showing it: the number counts from 1970 UTC whatever the name.
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


class _Stream(io.RawIOBase):
    """Reads the rows of a file as bytes."""

    def __init__(self, file: Any, rows: int, longest: int) -> None:
        self._file = file
        self._pieces = self._lines(rows, longest)
        self._rest = memoryview(b"")

    def _lines(self, rows: int, longest: int) -> Iterator[memoryview]:
        stated, read = self._file.metadata.num_rows, 0
        for batch in _together(self._file.iter_batches(rows), rows):
            read += len(batch)
            yield from _lines(batch, longest)
        if read != stated:
            raise ValueError(f"its footer states {stated} rows, its pages have {read}")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n

    def close(self) -> None:
        self._file.close()
        super().close()


def _together(batches: Iterable[Any], rows: int) -> Iterator[Any]:
    """Yield batches, small ones as one: none goes beyond its row group, which may be one row."""
    held: list[Any] = []
    count = size = 0
    for batch in batches:
        held.append(batch)
        count, size = count + len(batch), size + batch.nbytes
        if 2 * count > rows or size > DECODED_BYTES:
            yield _one(held)
            held, count, size = [], 0, 0
    if held:
        yield _one(held)


def _one(batches: list[Any]) -> Any:
    if len(batches) == 1:
        return batches[0]
    (batch,) = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return batch


def _lines(batch: Any, longest: int) -> Iterator[memoryview]:
    """Yield rows as JSON Lines."""
    columns, width = [], 0
    for field in EVENT_FIELDS:
        column = batch.column(batch.schema.get_field_index(field.name))
        codes = None
        if field.kind is FieldKind.TIME:
            texts = _times(column)
        else:
            if pa.types.is_dictionary(column.type):
                codes, column = column.indices, column.dictionary
            texts = _texts(column.cast(pa.string()), longest)
        columns.append((field.name, texts, codes))
        width += len(field.name) + 6 + (pc.max(pc.binary_length(texts)).as_py() or 0)
    step = max(1, PIECE_BYTES // width)
    for start in range(0, len(batch), step):
        parts: list[Any] = []
        for number, (name, texts, codes) in enumerate(columns):
            if codes is None:
                texts = texts.slice(start, step)
            else:
                texts = texts.take(codes.slice(start, step))
            parts.append(f'{"," if number else "{"}"{name}":')
            if texts.null_count:
                quoted = _joined('"', texts, '"')
                parts.append(pc.if_else(texts.is_null(), "null", quoted))
            else:
                parts += ['"', texts, '"']
        yield _content(_joined(*parts, "}\n"))


def _joined(*parts: Any) -> Any:
    return pc.binary_join_element_wise(*parts, "")


def _content(texts: Any) -> memoryview:
    """Return the bytes of texts, one after the other."""
    _, ends, content = texts.buffers()
    if not len(texts):
        return memoryview(b"")
    first, last = np.frombuffer(ends, np.int32)[[texts.offset, texts.offset + len(texts)]]
    return memoryview(content).cast("B")[first:last]


def _texts(texts: Any, longest: int) -> Any:
    """Return texts as they stand between quotes."""
    content = np.frombuffer(_content(texts), np.uint8)
    if not len(content):
        return texts
    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
    length = np.diff(ends)
    odd = length > longest
    bytes_odd = _ODD[content]
    if bytes_odd.any():
        some = np.flatnonzero(length)
        odd[some] |= np.logical_or.reduceat(bytes_odd, (ends[:-1] - ends[0])[some])
    if texts.null_count:
        odd &= ~np.asarray(texts.is_null().to_numpy(zero_copy_only=False))
    if not odd.any():
        return texts
    starts = ends - ends[0]
    written = [
        _written(content[starts[i] : starts[i + 1]], longest) for i in np.flatnonzero(odd).tolist()
    ]
    return _replaced(texts, odd, written)


def _replaced(texts: Any, which: npt.NDArray[np.bool_], by: list[bytes]) -> Any:
    # Not every one is UTF-8, which Arrow would look at on the way from a list.
    new = pa.array(by, pa.binary()).view(pa.string())
    return pc.replace_with_mask(texts, pa.array(which), new)


def _written(text: npt.NDArray[np.uint8], longest: int) -> bytes:
    """Return a text as it stands between quotes; one that is too long is cut."""
    raw = text[:longest].tobytes()
    before = b"" if len(raw) == len(text) else b"%d bytes that begin with " % len(text)
    try:
        return before + escaped(raw.decode(errors="replace" if before else "strict"))
    except UnicodeDecodeError:
        return before + _ESCAPED.sub(lambda found: b"\\u%04x" % found[0][0], raw)


def _times(column: Any) -> Any:
    """Return the text of times; what is none to the microsecond is no such text."""
    unit = column.type.unit
    count = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    rest = np.zeros(len(count), np.int64)
    first, last = _FIRST_US // _UNITS[unit], LAST_US // _UNITS[unit]
    if unit == "ns":
        count_us, rest = np.divmod(count, 1000)
    else:
        count_us = np.clip(count, first, last) * _UNITS[unit]
    outside = (count_us < _FIRST_US) | (count_us > LAST_US)
    if unit != "ns":
        outside |= (count < first) | (count > last)
    text = time_text(np.where(outside, 0, count_us))
    texts = pa.StringArray.from_buffers(
        len(text),
        pa.py_buffer(np.arange(0, text.size + 1, text.shape[1], dtype=np.int32)),
        pa.py_buffer(np.ascontiguousarray(text)),
    )
    odd = outside | (rest != 0)
    if odd.any():
        written = [
            b"%d %s from 1970 on, in no year from 1 to 9999" % (count[i], unit.encode())
            if outside[i]
            else text[i, :-1].tobytes() + b"%03dZ" % rest[i]
            for i in np.flatnonzero(odd).tolist()
        ]
        texts = _replaced(texts, odd, written)
    return pc.if_else(column.is_null(), None, texts) if column.null_count else texts
