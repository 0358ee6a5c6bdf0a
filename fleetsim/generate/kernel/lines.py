"""The kernels that read lines of events: those in canonical form whose members are all known.

It only accepts lines, and says nothing of the others: whatever is not plainly a good line is left
to the NumPy reader, which is also its oracle in the tests.

As in `compiled`, numbers are unsigned 64-bit words, and the kernels are freestanding. They look at
bytes behind a line, of which there are `SLACK` behind the last one, but nothing of what stands
there is taken for a part of the line.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fleetsim.generate.kernel.compiled import _jit, _load, _place, _words
from fleetsim.generate.kernel.interface import SLACK, Part

_TEXT, _UUID, _DRIVER, _CHOICE = (
    np.uint64(part) for part in (Part.TEXT, Part.UUID, Part.DRIVER, Part.CHOICE)
)


def _every(byte: int) -> Any:
    """Return a word of eight equal bytes."""
    return np.uint64(byte * 0x0101010101010101)


_0, _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12 = (np.uint64(i) for i in range(13))
_14, _15, _16, _18, _19, _20, _21, _24 = (np.uint64(i) for i in (14, 15, 16, 18, 19, 20, 21, 24))
_27, _28, _29, _30, _31, _32, _36 = (np.uint64(i) for i in (27, 28, 29, 30, 31, 32, 36))
_40, _48, _56, _60, _62, _64, _100 = (np.uint64(i) for i in (40, 48, 56, 60, 62, 64, 100))
_153, _365, _400, _10_000 = (np.uint64(i) for i in (153, 365, 400, 10_000))
_MILLION = np.uint64(1_000_000)
_NONE, _SLACK = np.uint64(2**64 - 1), np.uint64(SLACK)
_BYTE, _TWO_BYTES, _LOW = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
_HYPHEN, _ZERO_BYTE = np.uint8(ord("-")), np.uint8(ord("0"))
_ZERO, _Z = np.uint64(ord("0")), np.uint64(ord("Z"))
# Eight characters at once: digits become values, and what is none of them leaves a bit.
_ZEROS, _HIGH_BITS, _TO_HIGH = _every(ord("0")), _every(0x80), _every(0x80 - 10)
_DIGIT, _ONES, _SIXES, _OVER = _every(0x0F), _every(1), _every(6), _every(0xF0)
_LETTER = np.uint64(ord("a") - ord("9") - 1)
_BYTES, _WORDS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_TWO_ZEROS = np.uint64(0x3030 << 48)
# What stands between digits, in words of eight bytes, and which bytes of them these are.
_HYPHENS, _OF_HYPHENS = np.uint64(0x00002D000000002D), np.uint64(0x0000FF00000000FF)
_DATE, _OF_DATE = np.uint64(0x2D00002D00000000), np.uint64(0xFF0000FF00000000)  # 2025-11-
_HOUR, _OF_HOUR = np.uint64(0x00003A0000540000), np.uint64(0x0000FF0000FF0000)  # 08T12:03
_SECOND, _OF_SECOND = np.uint64(0x2E00003A), np.uint64(0xFF0000FF)  # :27.
_TO_1970 = np.uint64(719_468)  # days from 1 March of the year 0
# How drivers without a roster are numbered, see `tally.lines`.
_MIXING, _MOST_NUMBER = np.uint64(0x9E3779B97F4A7C15), np.uint64((1 << 20) - 1)
_MODULUS, _UNLISTED = np.uint64(2**63 - 4), np.uint64(2**64 - 3)


@intrinsic
def _line_feeds(typing: Any, text: Any, at: Any) -> Any:
    """Return which of the 64 bytes from a position on are line feeds, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        many = ir.VectorType(ir.IntType(8), 64)
        place = _place(context, builder, signature.args[0], *arguments)
        found = builder.load(builder.bitcast(place, many.as_pointer()), align=1)
        same = builder.icmp_unsigned("==", found, ir.Constant(many, [ord("\n")] * 64))
        return builder.bitcast(same, ir.IntType(64))

    return types.uint64(text, types.uint64), generate


@intrinsic
def _trailing(typing: Any, word: Any) -> Any:
    """Return how many zero bits a word ends with: one instruction, which numba hides."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@_jit
def find_ends(text, start, stop, ends):
    """Put where lines end, behind their line feeds, into `ends`.

    Returns how many do, and where to go on. It looks at the bytes from `start` to `stop` - 1, and
    stops where `ends` might not have room for those of 64 bytes more.
    """
    n, at, room = _0, start, np.uint64(len(ends))
    while at < stop and n + _64 <= room and at + _64 <= np.uint64(len(text)):
        found = _line_feeds(text, at)
        while found != _0:
            end = at + _trailing(found) + _1
            if end > stop:
                break
            ends[n] = np.int64(end)
            n += _1
            found &= found - _1
        at += _64
    return n, min(at, stop)


@_jit
def _same(text, at, other, place, length):
    """Return whether two stretches of bytes are equal; up to 7 bytes behind them are looked at."""
    i = _0
    while i + _8 <= length:
        if _load(text, at + i) != _load(other, place + i):
            return False
        i += _8
    if i == length:
        return True
    differ = _load(text, at + i) ^ _load(other, place + i)
    return differ << ((_8 + i - length) << _3) == _0


@_jit
def _hex(chars):
    """Return the value of 8 hex digits, the first one lowest in the word, and what is wrong."""
    value = (chars & _DIGIT) + ((chars >> _6) & _ONES) * _9
    again = value + _ZEROS + (((value + _SIXES) >> _4) & _ONES) * _LETTER
    wrong = (again ^ chars) | (value & _OVER)
    value = (value << _4 | value >> _8) & _BYTES
    value = (value << _8 | value >> _16) & _WORDS
    return (value << _16 | value >> _32) & _LOW, wrong


@_jit
def _uuid(text, at):
    """Return the words of the id at a place, and whether it is one of version 4."""
    middle, last = _load(text, at + _8), _load(text, at + _18)
    wrong = (middle & _OF_HYPHENS) ^ _HYPHENS | (last & _OF_HYPHENS) ^ _HYPHENS
    a, wrong_a = _hex(_load(text, at))
    b, wrong_b = _hex(middle >> _8 & _LOW | _load(text, at + _14) << _32)
    c, wrong_c = _hex(last >> _8 & _LOW | _load(text, at + _24) << _32)
    d, wrong_d = _hex(_load(text, at + _28))
    high, low = a << _32 | b, c << _32 | d
    wrong |= wrong_a | wrong_b | wrong_c | wrong_d
    return high, low, wrong == _0 and high >> _12 & _15 == _4 and low >> _62 == _2


@_jit
def _pairs(digits):
    """Return digits of a word as numbers of two, 16 bits each, and what are none of them."""
    value = digits ^ _ZEROS
    wrong = (value | (value + _TO_HIGH)) & _HIGH_BITS
    return (value * _10 + (value >> _8)) & _BYTES, wrong


@_jit
def _days(year, month, day):
    """Return days since 1970 of a date, modulo 2**64, and whether there is such a date.

    Years are counted from March on, so that the day of a leap year is the last one.
    """
    longest = _31
    if month == _2:
        leap = year % _4 == _0 and (year % _100 != _0 or year % _400 == _0)
        longest = _29 if leap else _28
    elif month in (_4, _6, _9, _11):
        longest = _30
    if year < _1 or month < _1 or month > _12 or day < _1 or day > longest:
        return _0, False
    since, years = (month + _9) % _12, year
    if month <= _2:
        years -= _1
    leaps = years // _4 - years // _100 + years // _400
    return years * _365 + leaps + (since * _153 + _2) // _5 + day - _1 - _TO_1970, True


@_jit
def _below(text, at, ids, place):
    """Return whether the id at a place in `ids` is below that in the text; both have 36 bytes."""
    for i in range(_36):
        a, b = ids[place + i], text[at + i]
        if a != b:
            return a < b
    return False


@_jit
def _find(text, at, ids, n):
    """Return the place of an id among n sorted ones; n where it is not there."""
    low, high = _0, n
    while low < high:
        middle = (low + high) >> _1
        if _below(text, at, ids, middle * _36):
            low = middle + _1
        else:
            high = middle
    return low if low < n and _same(text, at, ids, low * _36, _36) else n


@_jit
def _digits(text, at, end, most):
    """Return the number at a place, and how many digits it has: at most one more than `most`."""
    value = width = _0
    while at + width < end and width <= most:
        digit = np.uint64(text[at + width]) - _ZERO
        if digit > _9:
            break
        value = value * _10 + digit
        width += _1
    return value, width


@_jit
def _key(high, low):
    """Return what a company without a roster adds to the number of its drivers."""
    return ((high * _MIXING ^ low) >> _21) << _20


@_jit
def _driver(text, at, end, part, fixed, companies, roster, last):
    """Return driver, company and length of a driver's stretch of a line; a length of 0 is bad.

    `last` holds where the id of the company stood last, and what was found for it.
    """
    ids, order, eligible = companies
    listed, per_company, width = roster
    own = at
    at += _36
    to_company = at + _1 + width
    if to_company + part[_2] + _36 + part[_4] >= end:
        return _0, _0, _0
    number, digits = _digits(text, at + _1, to_company, width)
    at = to_company + part[_2]
    good = text[own + _36] == _HYPHEN and digits == width and number < per_company
    good = good and _same(text, to_company, fixed, part[_1], part[_2])
    good = good and _same(text, at, text, own, _36)
    at += _36
    if not (good and _same(text, at, fixed, part[_3], part[_4])):
        return _0, _0, _0
    at += part[_4]
    truck, digits = _digits(text, at, end, _18)
    if digits < _1 or digits > _18 or text[at] == _ZERO_BYTE:
        return _0, _0, _0
    if last[_0] == _NONE or not _same(text, own, text, last[_0], _36):
        last[_0] = _NONE
        company = key = _0
        if listed:
            n = np.uint64(len(order))
            place = _find(text, own, ids, n)
            if place == n:
                return _0, _0, _0
            company = order[place]
        else:
            high, low, good = _uuid(text, own)
            if not good:
                return _0, _0, _0
            key = _key(high, low)
        if company >= np.uint64(len(eligible)) or not eligible[company]:
            return _0, _0, _0
        last[_0], last[_1], last[_2] = own, company, key
    company = last[_1]
    driver = company * per_company + number
    if not listed:
        driver = _UNLISTED - (last[_2] + min(number, _MOST_NUMBER)) % _MODULUS
    elif truck != driver + _1:
        return _0, _0, _0
    return driver, company, at + digits - own


@_jit
def _name(text, at, end, fixed, names, first, n):
    """Return which of n names with its quote stands at a place, and its length; or n and 0."""
    head = _load(text, at)
    for i in range(n):
        row = first + i
        length = names[row, _3]
        if (head ^ names[row, _0]) & names[row, _1] != _0 or at + length > end:
            continue
        if length <= _8 or _same(text, at, fixed, names[row, _2], length):
            return i, length
    return n, _0


@_jit
def _time(text, at, last):
    """Return the microseconds since 1970 of a time of 27 bytes, modulo 2**64, and if it is one.

    `last` holds the date that was seen last, and its days.
    """
    first, second, third = _load(text, at), _load(text, at + _8), _load(text, at + _16)
    fourth = _load(text, at + _19)
    wrong = (second & _OF_HOUR ^ _HOUR) | (third & _OF_SECOND ^ _SECOND) | (fourth >> _56 ^ _Z)
    day = second & _TWO_BYTES
    if first != last[_0] or day != last[_1]:
        last[_0] = _NONE
        pairs, no_digits = _pairs(first & _LOW | (first >> _40 & _TWO_BYTES) << _32 | day << _48)
        year = (pairs & _BYTE) * _100 + (pairs >> _16 & _BYTE)
        days, real = _days(year, pairs >> _32 & _BYTE, pairs >> _48)
        if no_digits != _0 or not real or first & _OF_DATE != _DATE:
            return _0, False
        last[_0], last[_1], last[_2] = first, day, days
    clock = second >> _24 & _TWO_BYTES | second >> _48 << _16 | (third >> _8 & _TWO_BYTES) << _32
    clock, no_digits = _pairs(clock | _TWO_ZEROS)
    wrong |= no_digits
    part, no_digits = _pairs(fourth << _8 >> _16 | _TWO_ZEROS)
    wrong |= no_digits
    hour, minute, second = clock & _BYTE, clock >> _16 & _BYTE, clock >> _32 & _BYTE
    us = (part & _BYTE) * _10_000 + (part >> _16 & _BYTE) * _100 + (part >> _32 & _BYTE)
    seconds = ((last[_2] * _24 + hour) * _60 + minute) * _60 + second
    good = wrong == _0 and hour < _24 and minute < _60 and second < _60
    return seconds * _MILLION + us, good


@_jit
def read_lines(text, ends, start, limit, parts, fixed, names, companies, roster, out):
    """Read consecutive lines; return how many of them are good.

    Parameters
    ----------
    text : uint8 array
        The lines, with `SLACK` behind the last one.
    ends : int64 array (n,)
        Where each line ends, behind its line feed; the first one begins at `start`.
    limit : how long a good line may be
    parts : uint64 array (k, `PART_COLUMNS`)
        What a line consists of: `Part`, and where it is found. A text: place and length in `fixed`.
        A driver: those of the texts before its company and before its truck. An id and a time:
        first column in `out`; a choice: that, and the first of its names and how many there are.
    fixed : uint8 array
        The constant texts, and the names with their quotes, with `SLACK`.
    names : uint64 array (m, 4)
        Of each name its first bytes as a word, which of its bits count, place and length.
    companies : tuple
        Sorted ids, 36 bytes each, with `SLACK`; the position in the fleet of each one; who is
        eligible, by these.
    roster : whether there is one, drivers of a company, and digits of a driver's number
    out : uint64 array (columns, n)
        Takes of each good line its position among these, driver, company and drawn values.
    """
    n = _0
    company, date = _words(3), _words(3)  # what was found for those seen last
    company[_0] = date[_0] = _NONE
    driver = place = _0
    stretch = length = _0  # the driver's in the line before
    at = start
    room = np.uint64(len(text))
    for i in range(np.uint64(len(ends))):
        begin, end = at, np.uint64(ends[i])
        if end <= begin or end > room or room - end < _SLACK:
            break
        good = end - begin <= limit
        p = _0
        while good and p < np.uint64(len(parts)):
            part = parts[p]
            kind, column = part[_0], part[_1]
            p += _1
            if kind == _TEXT:
                good = at + part[_2] <= end and _same(text, at, fixed, column, part[_2])
                at += part[_2]
            elif kind == _UUID:
                good = at + _36 <= end
                if good:
                    out[column, n], out[column + _1, n], good = _uuid(text, at)
                at += _36
            elif kind == _DRIVER:
                if length == _0 or at + length > end or not _same(text, at, text, stretch, length):
                    driver, place, length = _driver(
                        text, at, end, part, fixed, companies, roster, company
                    )
                    good = length != _0
                out[_1, n], out[_2, n] = driver, place
                stretch = at
                at += length
            elif kind == _CHOICE:
                out[column, n], size = _name(text, at, end, fixed, names, part[_2], part[_3])
                good = size != _0
                at += size - _1
            else:
                good = at + _27 <= end
                if good:
                    out[column, n], good = _time(text, at, date)
                at += _27
        if good and at == end:
            out[_0, n] = i
            n += _1
        at = end
    return n
