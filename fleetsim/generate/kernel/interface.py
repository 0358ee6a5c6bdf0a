"""What the kernels take and give: sizes, texts and types, for their source and for who calls them.

Nothing here needs numba, since machine code that was kept runs without it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

#: Columns of a run, which is consecutive events of one driver: the driver, the events of its block
#: before it, all its events, and the first of them that belongs here and the one after the last.
RUN_COLUMNS = 5
#: Bytes after the end of a text or of a buffer that a copy may read or write.
SLACK = 64
#: Width of a row of the table of dates.
DAY_COLUMN = 16
#: Words behind the offsets of one driver that sorting them needs.
SORT_WORDS = 128
#: Lines that `deliver` has in its hands at a time.
DELIVERED = 1024
#: Constant texts of the injection.
CONSTANTS = (
    b"null", b"true", b"false", b'{"value":', b',"speed_kmh":', b',"odometer_km":',
    b',"note":"test drive"', b'"cut"', b'"stray quote"', b'"two records"',
    b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\xaf", b"+100:00", b"DRV-", b"TRK-",
    b',"copy_of":', b',"from_batch":', b',"sha256":"', b',"original":', b',"injected":',
)  # fmt: skip

#: Columns of a row that says what comes next in a line that is read.
PART_COLUMNS = 5


class Part(IntEnum):
    """What comes next in a line that is read: the first column of its row, see `lines.read_lines`.

    DRIVER is company, number, company and truck with the texts between them.
    """

    TEXT = 0
    UUID = 1
    DRIVER = 2
    CHOICE = 3
    TIME = 4


#: A type: a word of 64 bits (U unsigned, I signed), an array with its dimensions (U and I as
#: before, B bytes, F flags), or a tuple of types.
Kind = str | tuple["Kind", ...]


class Signature(NamedTuple):
    """What a kernel takes, and the words that it returns."""

    takes: tuple[Kind, ...]
    gives: tuple[str, ...] = ()


#: The letters of arrays, as NumPy names their elements.
ELEMENTS = {"U": "uint64", "I": "int64", "B": "uint8", "F": "bool"}


def _kinds(text: str) -> tuple[Kind, ...]:
    return tuple(text.split())


_HOW = _kinds("U B1 U U B1 U U1 U1 U2 B1 U2 U2 B1 U2")
_FLEET = _kinds("U F1 U")
_TABLES = (*_kinds("I1 U2 I1 I2"), _kinds("B1 I2 I2 I2 B1 I1"), _kinds("I I"))
_PENDING, _LATE = _kinds("I1 I1 I2 B1"), _kinds("I I1 B1 I1")
_INJECTED = (*_kinds("I I2 U2"), _TABLES, _PENDING, _LATE, *_kinds("B1 I2 I B1"))

#: The kernels that are called from Python; their parameters are those in `compiled`,
#: `lines` and `counts`.
SIGNATURES = {
    "plan": Signature(_kinds("U1 U2 U U U U U U U F1 U U1"), ("U", "U")),
    "draw": Signature(_kinds("U2 U U2 U U U U U1 U1 U1 U2 U1 U1 U1")),
    "encode": Signature((*_kinds("B1 U1 U2 U U"), *_HOW), ("U",)),
    "strike": Signature(
        (*_kinds("U1 U U U U1 U U"), _FLEET, *_kinds("U1 U1 U I2 U2 U1 F1")), ("U",)
    ),
    "find_late": Signature((*_kinds("I1 U1 F1 U U1 U U U"), _FLEET, *_kinds("U1 U U")), ("I", "U")),
    "gather": Signature(_kinds("U2 U U U U U I1")),
    "inject": Signature((*_kinds("B1 B1 U1 I"), *_INJECTED), ("I",) * 5),
    "deliver": Signature((*_kinds("B1 B1 U1 U2 I"), _HOW, *_INJECTED), ("I",) * 5),
    "hash_lines": Signature(_kinds("U1 U U I2 I U")),
    "put_hashes": Signature(_kinds("B1 I2 I B1")),
    "find_ends": Signature(_kinds("B1 U U I1"), ("U", "U")),
    "read_lines": Signature(
        (*_kinds("B1 I1 U U U2 B1 U2"), _kinds("B1 U1 F1"), _kinds("U U U"), "U2"), ("U",)
    ),
    "count_types": Signature(_kinds("I2 U I2 I2 I2"), ("U",)),
    "count_runs": Signature(_kinds("I1 I1 U U I1 I1 I1"), ("U",)),
    "all_new": Signature(_kinds("U1 U1 U"), ("U",)),
}
