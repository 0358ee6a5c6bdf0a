"""Sizes of a Parquet file's pages, from their headers, before any page is decoded.

What a reader of Parquet needs at once is a page of each column, with what its values become. The
footer states sums of them, and a file of somebody else may state anything; a page's header is what
the reader goes by. Headers are Thrift's compact protocol, of which this reads as much as is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

#: Pages of all columns together that are decoded at once [bytes], and the values of a page.
PAGE_BYTES = 1 << 25
PAGE_VALUES = 1 << 24
#: Size of a footer [bytes]; the one of ten million row groups of ours needs no more.
FOOTER_BYTES = 1 << 25
_HEADER_BYTES, _LONG_HEADER_BYTES = 1 << 9, 1 << 20
_DEPTH = 8  # of structs inside each other; a header has three
# Kinds of pages and encodings, by the numbers of the format.
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_CODED, _FRONT_CODED = (2, 8), 7


@dataclass
class ColumnPages:
    """The pages of a column.

    Attributes
    ----------
    largest : int
        Size of the largest page, not compressed [bytes].
    per_value : float
        Bytes that a value needs, in the page where that is most.
    coded : bool
        Whether values stand in dictionaries.
    """

    largest: int = 0
    per_value: float = 0.0
    coded: bool = False

    def take(self, header: dict[int, Any]) -> None:
        """Take a page's header.

        Raises
        ------
        ValueError
            Where no reader should go on.
        """
        kind, size = header.get(1), header.get(2)
        if not isinstance(size, int) or not isinstance(header.get(3), int):
            raise ValueError("the header of a page is damaged")
        if min(size, header[3]) < 0:
            raise ValueError("a page has a size below 0")
        self.largest = max(self.largest, size)
        if kind == _DICTIONARY:
            self.coded = True
        if kind not in (_DATA, _DATA_V2):
            return
        data = header.get(5 if kind == _DATA else 8)
        values = data.get(1) if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(values, int) or values < 0:
            raise ValueError("the header of a page is damaged")
        if values > PAGE_VALUES:
            raise ValueError(f"a page has {values} values; allowed: at most {PAGE_VALUES}")
        encoding = data.get(2 if kind == _DATA else 4)
        if encoding in _CODED:
            per_value = 4.0
        elif encoding == _FRONT_CODED:  # each value may repeat all of the one before
            per_value = float(size)
        else:
            per_value = size / max(1, values)
        self.per_value = max(self.per_value, per_value)


def columns_pages(file: BinaryIO, footer: Any, names: Sequence[str]) -> dict[str, ColumnPages]:
    """Return what the pages of each column need.

    Parameters
    ----------
    file : binary file
    footer : pyarrow.parquet.FileMetaData
    names : sequence of str
        The columns, in the order of the file.

    Raises
    ------
    ValueError
        Where a page is larger than what any file of events needs, or damaged.
    """
    pages = {name: ColumnPages() for name in names}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for index, name in enumerate(names):
            chunk = group.column(index)
            # A place of 0 is none: a group without rows may have a dictionary alone.
            coded = chunk.dictionary_page_offset if chunk.has_dictionary_page else 0
            start = min((at for at in (chunk.data_page_offset, coded or 0) if at > 0), default=0)
            if not start and not chunk.num_values:
                continue
            end = start + chunk.total_compressed_size
            while start < end:
                header, length = _read_header(file, start)
                pages[name].take(header)
                if pages[name].largest > PAGE_BYTES:
                    raise ValueError(
                        f"column {name}: found a page of {pages[name].largest} bytes in row group "
                        f"{number + 1}; allowed: at most {PAGE_BYTES}"
                    )
                start += length + header[3]
    together = sum(column.largest for column in pages.values())
    if together > PAGE_BYTES:
        raise ValueError(
            f"found pages of {together} bytes in all columns together; allowed: at most "
            f"{PAGE_BYTES}"
        )
    return pages


def check_footer(file: BinaryIO) -> None:
    """Look at the size of a footer before anything reads it.

    Raises
    ------
    ValueError
        Where it is too large; where it is none, the reader of Parquet says so better.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    end = file.read(8)
    length = int.from_bytes(end[:4], "little")
    if len(end) == 8 and end[4:] == b"PAR1" and length > FOOTER_BYTES:
        raise ValueError(
            f"found a footer of {length} bytes; allowed: at most {FOOTER_BYTES} (fewer and larger "
            "row groups)"
        )


def _read_header(file: BinaryIO, start: int) -> tuple[dict[int, Any], int]:
    """Return the header of the page that starts at a place, and how long it is."""
    for size in (_HEADER_BYTES, _LONG_HEADER_BYTES):
        file.seek(start)
        content = file.read(size)
        try:
            return _struct(content, 0, _DEPTH)
        except IndexError:  # it goes on, or is none
            continue
    raise ValueError("the header of a page is damaged")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("the header of a page is damaged")


def _zigzag(content: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(content, at)
    return value >> 1 ^ -(value & 1), at


def _struct(content: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """Return the fields of a struct by their numbers, and where it ends."""
    if not depth:
        raise ValueError("the header of a page is damaged")
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = content[at]
        at += 1
        if not head:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            number, at = _zigzag(content, at)
        fields[number], at = _value(content, at, head & 0x0F, depth)


def _value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Return a field's value, None for what no page's size needs, and where it ends."""
    if kind in (1, 2):  # a truth value, which its kind says
        return kind == 1, at
    if kind in (4, 5, 6):
        return _zigzag(content, at)
    if kind == 12:
        return _struct(content, at, depth - 1)
    if kind == 3:
        at += 1
    elif kind == 7:
        at += 8
    elif kind == 8:
        length, at = _varint(content, at)
        at += length
    else:  # lists and maps stand in no header
        raise ValueError("the header of a page is damaged")
    if at > len(content):
        raise IndexError
    return None, at
