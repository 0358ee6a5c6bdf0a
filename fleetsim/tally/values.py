"""Values in the texts of many lines at once: ids, times, numbers, and names between quotes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.generate.model import escaped

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

TEXT_BYTES = 1 << 10  # longer texts of a choice are compared one by one
_DISTINCT = 32  # texts of a slab that are compared at once with all its lines
_REMEMBERED = 1 << 12  # texts whose meaning is kept
_UUID_GROUPS = ((0, 8), (9, 13), (14, 18), (19, 23), (24, 36))
# Where digits stand in the text of a time, and in 24 digits: YYYYMMDD, 00hhmmss, 00ffffff.
_TIME_DIGITS = (
    (0, 4, 0),
    (5, 7, 4),
    (8, 10, 6),
    (11, 13, 10),
    (14, 16, 12),
    (17, 19, 14),
    (20, 26, 18),
)


def windows(buffer: Bytes, at: Numbers, width: int) -> npt.NDArray[np.void]:
    """Return the `width` bytes at each cursor."""
    # Elements that overlap, one a byte: taking these is twice as fast as taking rows of bytes.
    every = np.ndarray(len(buffer) - width + 1, f"V{width}", buffer.data, strides=(1,))
    return every[at]


@dataclass(frozen=True)
class Digits:
    """A number of `least` to `most` digits."""

    name: str
    least: int
    most: int
    padded: bool  # whether it may begin with a 0


def _every(byte: int) -> np.uint64:
    """Return a word of eight equal bytes."""
    return np.uint64(byte * 0x0101010101010101)


def _u(value: int) -> np.uint64:
    return np.uint64(value)


def read_uuids(text: Bytes) -> tuple[Words, Flags]:
    """Return the words of ids, shape (n, 2), and which are version 4; text has 36 columns."""
    digits = np.empty((len(text), 32), np.uint8)
    place = 0
    for start, end in _UUID_GROUPS:
        digits[:, place : place + end - start] = text[:, start:end]
        place += end - start
    chars = digits.view(">u8").astype(np.uint64)
    # Eight digits a word, each in its byte: a letter has bit 6, and its low bits count from 1.
    value = (chars & _every(0x0F)) + ((chars >> _u(6)) & _every(1)) * _u(9)
    again = value + _every(ord("0")) + (((value + _every(6)) >> _u(4)) & _every(1)) * _u(0x27)
    wrong = (again ^ chars) | (value & _every(0xF0))
    value |= value >> _u(4)
    value &= _u(0x00FF00FF00FF00FF)
    value |= value >> _u(8)
    value &= _u(0x0000FFFF0000FFFF)
    value |= value >> _u(16)
    value &= _u(0xFFFFFFFF)
    pairs = (value[:, ::2] << _u(32)) | value[:, 1::2]
    wrong_of_row = wrong[:, 0] | wrong[:, 1] | wrong[:, 2] | wrong[:, 3]
    return pairs, (wrong_of_row == 0) & ((pairs[:, 1] >> _u(62)) == 2)


def read_times(text: Bytes) -> tuple[Numbers, Flags]:
    """Return microseconds since 1970 UTC, and which are times of the calendar.

    Parameters
    ----------
    text : uint8 array (n, 27)
        ``2025-11-08T12:03:27.104233Z``, a byte a column. What stands between the digits is not
        looked at.
    """
    digits = np.full((len(text), 24), ord("0"), np.uint8)
    for start, end, place in _TIME_DIGITS:
        digits[:, place : place + end - start] = text[:, start:end]
    value = digits.view("<u8").astype(np.uint64) ^ _every(ord("0"))
    wrong = (value | (value + _every(0x80 - 10))) & _every(0x80)
    # Two digits become one number, which stands in 16 bits, the first pair lowest.
    pairs = ((value * _u(10) + (value >> _u(8))) & _u(0x00FF00FF00FF00FF)).view(np.int64)
    date, clock, fraction = pairs.T
    head, length = runs(date)
    days, real = _days(date[head])
    hour, minute, second = (clock >> 16) & 0xFF, (clock >> 32) & 0xFF, clock >> 48
    micro = ((fraction >> 16) & 0xFF) * 10_000 + ((fraction >> 32) & 0xFF) * 100 + (fraction >> 48)
    us = ((np.repeat(days, length) * 24 + hour) * 60 + minute) * 60 + second
    good = ((wrong[:, 0] | wrong[:, 1] | wrong[:, 2]) == 0) & np.repeat(real, length)
    return us * 1_000_000 + micro, good & (hour < 24) & (minute < 60) & (second < 60)


def _days(date: Numbers) -> tuple[Numbers, Flags]:
    """Return days since 1970 of dates in four pairs of digits, and which dates there are."""
    year = (date & 0xFF) * 100 + ((date >> 16) & 0xFF)
    month, day = (date >> 32) & 0xFF, date >> 48
    months = (year - 1970) * 12 + month - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    real = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= after - first)
    return first + day - 1, real


def runs(values: npt.NDArray[Any]) -> tuple[Numbers, Numbers]:
    """Return where runs of equal values begin, and how long they are."""
    if not len(values):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    head = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return head, np.diff(head, append=len(values))


def read_numbers(buffer: Bytes, at: Numbers, part: Digits) -> tuple[Numbers, Numbers, Flags]:
    """Return the numbers at the cursors, how many digits each has, and which are allowed."""
    # Eight bytes a word, the first one lowest; a digit becomes its value, another byte 10 or more.
    chars = windows(buffer, at, 8).view("<u8") ^ _every(ord("0"))
    others = (((chars & _every(0x7F)) + _every(0x80 - 10)) | chars) & _every(0x80)
    if others.all():
        # Below the lowest bit set lies one high bit for each digit.
        below = (others & (~others + _u(1))) - _u(1)
        length = (((below & _every(0x80)) >> _u(7)) * _every(1)) >> _u(56)
        # Moved up, digits have zeros before them, and nothing after; then pairs become numbers.
        value = chars << ((_u(8) - length) * _u(8))
        value = (value * _u(10) + (value >> _u(8))) & _u(0x00FF00FF00FF00FF)
        value = (value * _u(100) + (value >> _u(16))) & _u(0x0000FFFF0000FFFF)
        value = (value * _u(10_000) + (value >> _u(32))) & _u(0xFFFFFFFF)
        number, digits = value.view(np.int64), length.view(np.int64)
    else:
        number, digits = _long_numbers(buffer, at, part.most)
    good = (digits >= part.least) & (digits <= part.most)
    if not part.padded:
        good &= buffer[at] != ord("0")
    return number, digits, good


def _long_numbers(buffer: Bytes, at: Numbers, most: int) -> tuple[Numbers, Numbers]:
    """Return numbers and how many digits each has, one more than `most` counting as too many."""
    value, length = np.zeros(len(at), np.int64), np.zeros(len(at), np.int64)
    going = np.ones(len(at), np.bool_)
    for place in range(most + 1):
        digit = buffer[at + place] - np.uint8(ord("0"))
        going &= digit < 10
        if not going.any():
            break
        value = np.where(going, value * 10 + digit, value)
        length += going
    return value, length


_REST_OF_STRING = re.compile(rb'(?:[^"\\]|\\.)*+"', re.DOTALL)
DEVIATING = -2


class Names:
    """What a text between quotes is: the position of a name, -1 for another, or deviating."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.known = {escaped(name) + b'"': i for i, name in enumerate(names)}
        self.longest = max(map(len, self.known))
        self.others: dict[bytes, int] = {}

    def __call__(self, text: bytes) -> int:
        """Return it for a text that ends with its quote."""
        known = self.known.get(text)
        if known is not None:
            return known
        value = self.others.get(text)
        if value is None:
            value = -1 if _is_shortest(text) else DEVIATING
            if len(self.others) == _REMEMBERED:
                self.others.clear()
            if len(text) <= TEXT_BYTES:
                self.others[text] = value
        return value

    def match(self, buffer: Bytes, at: Numbers, end: Numbers) -> tuple[Numbers, Numbers]:
        """Return what stands at each cursor, and its length without the quote."""
        view = buffer.data
        value = np.full(len(at), DEVIATING, np.int64)
        length = np.zeros(len(at), np.int64)
        left = np.arange(len(at))
        for _ in range(_DISTINCT):
            if not len(left):
                return value, length
            first = int(left[0])
            text = _string(view[at[first] : end[first]])
            if 0 < len(text) <= TEXT_BYTES:
                # No text with its quote begins another one: equal bytes are the whole text.
                same = windows(buffer, at[left], len(text)).view(f"S{len(text)}") == text
            else:
                same = left == first
            value[left[same]], length[left[same]] = self(text), len(text) - 1
            left = left[~same]
        texts = [
            _string(view[start:stop])
            for start, stop in zip(at[left].tolist(), end[left].tolist(), strict=True)
        ]
        value[left] = [self(text) for text in texts]
        length[left] = [len(text) - 1 for text in texts]
        return value, length


def _string(line: memoryview) -> bytes:
    """Return a text up to its closing quote; nothing where there is none."""
    found = _REST_OF_STRING.match(line)
    return found[0] if found else b""


def _is_shortest(text: bytes) -> bool:
    """Return whether a text with its closing quote is JSON with the shortest escapes."""
    try:
        return escaped(json.loads('"' + text.decode())) + b'"' == text
    except ValueError:  # not UTF-8, a character that JSON wants escaped, half a pair of surrogates
        return False
