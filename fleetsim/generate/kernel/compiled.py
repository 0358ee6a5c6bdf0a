"""The compiled kernel: the numbers and the JSON Lines of `generate` and `encode`, by machine code.

It makes exactly the bytes of the NumPy path, which is its oracle in the tests. Only large jobs
import this module, since numba takes a moment to load. Every kernel stands in this file: numba
notices a change of a file, not of what the file imports.

All numbers are unsigned 64-bit words. A signed one beside them would make numba calculate in
floating point, and a signed index would be checked for wrapping around.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fleetsim.base.clock import DAY_US
from fleetsim.generate.streams import BLOCK

#: Columns of a run, which is consecutive events of one driver: the driver, the events of its block
#: before it, all its events, and the first of them that belongs here and the one after the last.
RUN_COLUMNS = 5
#: Bytes after the end of a text or of a buffer that a copy may read or write.
SLACK = 64
#: Width of a row of the table of dates.
DAY_COLUMN = 16


class Op:
    """What the kernel does next in a line; the values are those of the layout's arrays."""

    TEXT, UUID, CHOICE, TIME = (np.uint64(i) for i in range(4))
    CONSTANT, COMPANY, DRIVER, TRUCK = (np.uint64(i) for i in range(4))


_kernels: list[Any] = []


def _jit(function: Any) -> Any:
    """Compile a function, and keep the machine code where that can be done."""
    try:
        kernel = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder is writable: it is compiled again in each process
        kernel = njit(nogil=True)(function)
    _kernels.append(kernel)
    return kernel


_0, _1, _2, _3, _4, _5 = (np.uint64(i) for i in range(6))
_8, _10, _16, _24, _28, _32 = (np.uint64(i) for i in (8, 10, 16, 24, 28, 32))
_NONE = np.uint64(2**64 - 1)
_BLOCK = np.uint64(BLOCK)

_TEXT, _UUID, _CHOICE, _TIME = Op.TEXT, Op.UUID, Op.CHOICE, Op.TIME
_CONSTANT, _COMPANY, _DRIVER = Op.CONSTANT, Op.COMPANY, Op.DRIVER

# Philox4x64-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405).
_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)

_KEEP_HIGH, _VERSION = np.uint64(0xFFFFFFFFFFFF0FFF), np.uint64(0x4000)
_KEEP_LOW, _VARIANT = np.uint64(0x3FFFFFFFFFFFFFFF), np.uint64(0x8000000000000000)

_DAY_US = np.uint64(DAY_US)
_MILLION, _HOUR, _MINUTE = np.uint64(10**6), np.uint64(3600), np.uint64(60)
_TEN_THOUSAND, _HUNDRED = np.uint64(10**4), np.uint64(100)
_PAIRS = np.array([ord("0") + i // 10 + (ord("0") + i % 10 << 8) for i in range(100)], np.uint64)
_COLONS = np.uint64(ord(":") << 16 | ord(":") << 40)
_POINT_Z = np.uint64(ord(".") | ord("Z") << 56)
_HYPHEN, _ZERO = np.uint64(ord("-")), np.uint8(ord("0"))

_INSERTION = np.uint64(48)  # up to so many offsets, sorting by insertion is the fastest


@intrinsic
def _high(typing: Any, a: Any, b: Any) -> Any:
    """Return the high 64 bits of a product: one instruction, which numba has no name for."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(word, wide) for word in arguments))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), ir.IntType(64).as_pointer())


@intrinsic
def _load(typing: Any, text: Any, at: Any) -> Any:
    """Return 8 bytes of an array of bytes from any position on, the first one lowest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(context, builder, signature.args[0], *arguments), align=1)

    return types.uint64(text, types.uint64), generate


@intrinsic
def _store(typing: Any, text: Any, at: Any, value: Any) -> Any:
    """Put 8 bytes into an array of bytes from any position on, the lowest one first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place, align=1)
        return context.get_dummy_value()

    return types.void(text, types.uint64, types.uint64), generate


@_jit
def _copy(out, at, text, start, length):
    """Copy bytes, 32 at a time: up to 31 more than asked for are read and written."""
    i = _0
    while i < length:
        a, b = _load(text, start + i), _load(text, start + i + _8)
        c, d = _load(text, start + i + _16), _load(text, start + i + _24)
        _store(out, at + i, a)
        _store(out, at + i + _8, b)
        _store(out, at + i + _16, c)
        _store(out, at + i + _24, d)
        i += _32


@_jit
def _cipher(four, seed, purpose, ordinal, block, group):
    """Put the four words of a group of positions into `four` (see `streams.words`)."""
    # NumPy counts up before it makes words, hence the 1.
    c0, c1, c2, c3 = group + _1, _0, block, ordinal
    k0, k1 = seed, purpose
    for _ in range(10):
        c0, c1, c2, c3 = _high(_M1, c2) ^ c1 ^ k0, _M1 * c2, _high(_M0, c0) ^ c3 ^ k1, _M0 * c0
        k0 += _W0
        k1 += _W1
    four[_0], four[_1], four[_2], four[_3] = c0, c1, c2, c3


@_jit
def _choose(table, start, length, word):
    """Return how many of a table's ascending thresholds are <= a word."""
    if length <= _16:  # without a branch that nobody can foretell
        below = _0
        for i in range(start, start + length):
            below += np.uint64(table[i] <= word)
        return below
    low, high = start, start + length
    while low < high:
        middle = (low + high) >> _1
        if table[middle] <= word:
            low = middle + _1
        else:
            high = middle
    return low - start


@_jit
def plan(
    cursor,
    runs,
    events,
    scan,
    seed,
    purpose,
    ordinal,
    per_company,
    drivers,
    eligible,
    first_company,
    table,
):
    """Put the next runs of a batch into `runs`: at most `events` events, of `scan` drivers.

    `cursor` is the next driver, the events of its block before it, and the first of its own that
    is still to come; it moves on, up to `drivers`. `eligible` begins with `first_company`. Returns
    how many runs and how many events.
    """
    rows = np.uint64(len(table))
    driver, before, first = cursor[_0], cursor[_1], cursor[_2]
    four = np.empty(4, np.uint64)
    known = _NONE
    n_runs, n_events = _0, _0
    end = min(drivers, driver + scan) if driver + scan >= driver else drivers
    while driver < end and n_events < events:
        block, local = driver // _BLOCK, driver % _BLOCK
        if local == _0 and first == _0:
            before = _0
            last = min(driver + _BLOCK, drivers) - _1
            silent = True
            for company in range(driver // per_company, last // per_company + _1):
                if eligible[company - first_company]:
                    silent = False
                    break
            if silent:
                driver = last + _1
                continue
        group = driver >> _2  # a block is whole groups, so this names block and group
        if group != known:
            _cipher(four, seed, purpose, ordinal, block, local >> _2)
            known = group
        count = _choose(table, _0, rows, four[local & _3])
        if count > first and eligible[driver // per_company - first_company]:
            last = min(count, first + events - n_events)
            runs[n_runs, _0] = driver
            runs[n_runs, _1] = before
            runs[n_runs, _2] = count
            runs[n_runs, _3] = first
            runs[n_runs, _4] = last
            n_runs += _1
            n_events += last - first
            if last < count:
                first = last
                break
        first = _0
        before += count
        driver += _1
    cursor[_0], cursor[_1], cursor[_2] = driver, before, first
    return n_runs, n_events


@_jit
def _draw_uuids(runs, n_runs, high, low, at, seed, purpose, ordinal):
    four = np.empty(4, np.uint64)
    known_block, known = _NONE, _NONE
    for r in range(n_runs):
        block = runs[r, _0] // _BLOCK
        for event in range(runs[r, _1] + runs[r, _3], runs[r, _1] + runs[r, _4]):
            group, place = event >> _1, (event & _1) << _1
            if group != known or block != known_block:
                _cipher(four, seed, purpose, ordinal, block, group)
                known_block, known = block, group
            high[at] = four[place] & _KEEP_HIGH | _VERSION
            low[at] = four[place + _1] & _KEEP_LOW | _VARIANT
            at += _1


@_jit
def _draw_choices(runs, n_runs, out, at, seed, purpose, ordinal, table, start, length, order):
    four = np.empty(4, np.uint64)
    known_block, known = _NONE, _NONE
    for r in range(n_runs):
        block = runs[r, _0] // _BLOCK
        for event in range(runs[r, _1] + runs[r, _3], runs[r, _1] + runs[r, _4]):
            group = event >> _2
            if group != known or block != known_block:
                _cipher(four, seed, purpose, ordinal, block, group)
                known_block, known = block, group
            out[at] = order[start + _choose(table, start, length, four[event & _3])]
            at += _1


@_jit
def _draw_offsets(runs, n_runs, out, at, seed, purpose, ordinal, length, sorted_):
    four = np.empty(4, np.uint64)
    known_block, known = _NONE, _NONE
    for r in range(n_runs):
        block, before, count = runs[r, _0] // _BLOCK, runs[r, _1], runs[r, _2]
        for i in range(count):  # all of the driver's, since they are sorted
            event = before + i
            group = event >> _2
            if group != known or block != known_block:
                _cipher(four, seed, purpose, ordinal, block, group)
                known_block, known = block, group
            offset = _high(four[event & _3], length)
            place = i
            if count <= _INSERTION:
                while place > _0 and sorted_[place - _1] > offset:
                    sorted_[place] = sorted_[place - _1]
                    place -= _1
            sorted_[place] = offset
        if count > _INSERTION:
            sorted_[:count].sort()
        for i in range(runs[r, _3], runs[r, _4]):
            out[at] = sorted_[i]
            at += _1


@_jit
def draw(
    runs,
    n_runs,
    out,
    at,
    seed,
    ordinal,
    length,
    ops,
    purposes,
    columns,
    spans,
    table,
    order,
    scratch,
):
    """Draw the events of runs into the columns `out`, uint64 (columns, n), from place `at` on.

    Column 0 is the driver. The other arrays are those of the layout: for each drawn field, an
    operation, its stream's purpose, its first column, and where its law stands in the tables.
    `scratch` has room for the offsets of one driver.
    """
    place = at
    for r in range(n_runs):
        for _ in range(runs[r, _3], runs[r, _4]):
            out[_0, place] = runs[r, _0]
            place += _1
    for f in range(np.uint64(len(ops))):
        column = columns[f]
        if ops[f] == _UUID:
            high, low = out[column], out[column + _1]
            _draw_uuids(runs, n_runs, high, low, at, seed, purposes[f], ordinal)
        elif ops[f] == _CHOICE:
            start, rows = spans[f, _0], spans[f, _1]
            _draw_choices(
                runs, n_runs, out[column], at, seed, purposes[f], ordinal, table, start, rows, order
            )
        else:
            _draw_offsets(
                runs, n_runs, out[column], at, seed, purposes[f], ordinal, length, scratch
            )


@_jit
def _digits(out, at, value, width):
    place = at + width
    while place > at:
        place -= _1
        out[place] = _ZERO + np.uint8(value % _10)
        value //= _10


@_jit
def _hex(word):
    """Return the 8 hex digits of the low 32 bits as bytes, the first digit lowest."""
    word = word >> _16 & np.uint64(0xFFFF) | (word & np.uint64(0xFFFF)) << _32
    word = (
        word >> _8 & np.uint64(0x000000FF000000FF) | (word & np.uint64(0x000000FF000000FF)) << _16
    )
    word = word >> _4 & np.uint64(0x000F000F000F000F) | (word & np.uint64(0x000F000F000F000F)) << _8
    letters = (word + np.uint64(0x0606060606060606)) >> _4 & np.uint64(0x0101010101010101)
    return word + np.uint64(0x3030303030303030) + letters * np.uint64(ord("a") - ord("9") - 1)


@_jit
def _put_uuid(out, at, high, low):
    # Each store of 8 bytes writes over what the one before wrote too much.
    b, c = _hex(high), _hex(low >> _32)
    _store(out, at, _hex(high >> _32))
    _store(out, at + _8, _HYPHEN | b << _8)
    _store(out, at + np.uint64(13), _HYPHEN | b >> _32 << _8)
    _store(out, at + np.uint64(18), _HYPHEN | c << _8)
    _store(out, at + np.uint64(23), _HYPHEN | c >> _32 << _8)
    _store(out, at + _28, _hex(low))


@_jit
def _put_time(out, at, dates, in_day):
    """Write a time, counted from the first date's midnight; an interval touches two dates."""
    row = _0
    if in_day >= _DAY_US:
        in_day -= _DAY_US
        row = _16
    _store(out, at, _load(dates, row))
    _store(out, at + _8, _load(dates, row + _8))
    second, fraction = in_day // _MILLION, in_day % _MILLION
    hour, rest = second // _HOUR, second % _HOUR
    clock = _PAIRS[hour] | _PAIRS[rest // _MINUTE] << _24 | _PAIRS[rest % _MINUTE] << np.uint64(48)
    _store(out, at + np.uint64(11), clock | _COLONS)
    first, rest = fraction // _TEN_THOUSAND, fraction % _TEN_THOUSAND
    digits = (
        _PAIRS[first] << _8
        | _PAIRS[rest // _HUNDRED] << _24
        | _PAIRS[rest % _HUNDRED] << np.uint64(40)
    )
    _store(out, at + np.uint64(19), digits | _POINT_Z)


@_jit
def encode(
    out,
    ends,
    drawn,
    n,
    from_midnight,
    dates,
    per_company,
    digits,
    ids,
    first_company,
    ops,
    places,
    parts,
    text,
    names,
    name_spans,
    template,
    segments,
):
    """Write n drawn events as JSON Lines into `out`; return how many bytes.

    Parameters
    ----------
    out : uint8 array, with `SLACK` beyond the last line
    ends : uint64 array (n,), takes where each line ends
    drawn : uint64 array (columns, n), of `draw`
    from_midnight : start of the interval [microseconds since midnight]
    dates : uint8 array, two rows of `DAY_COLUMN`: the interval's date and the next, with a T
    ids : uint8 array (n_companies * 36 and `SLACK`), from that of `first_company` on
    ops, places : what a line consists of, and its segment, column or span of names
    parts : uint64 array (n, 4): the segment, kind and span in `text` of each part that is the
        same for all events of a driver
    template, segments : room for a driver's parts, and where each segment starts and its length
    """
    at = _0
    known = _NONE
    for i in range(n):
        driver = drawn[_0, i]
        if driver != known:
            known = driver
            company, number = driver // per_company, driver % per_company
            end = _0
            segment = _NONE
            for p in range(np.uint64(len(parts))):
                if parts[p, _0] != segment:
                    segment = parts[p, _0]
                    segments[segment, _0] = end
                if parts[p, _1] == _CONSTANT:
                    _copy(template, end, text, parts[p, _2], parts[p, _3])
                    end += parts[p, _3]
                elif parts[p, _1] == _COMPANY:
                    _copy(
                        template, end, ids, (company - first_company) * np.uint64(36), np.uint64(36)
                    )
                    end += np.uint64(36)
                elif parts[p, _1] == _DRIVER:
                    _digits(template, end, number, digits)
                    end += digits
                else:
                    width, power = _1, _10
                    while power <= driver + _1 and width < np.uint64(19):
                        width += _1
                        power *= _10
                    _digits(template, end, driver + _1, width)
                    end += width
                segments[segment, _1] = end - segments[segment, _0]
        for k in range(np.uint64(len(ops))):
            op, place = ops[k], places[k]
            if op == _TEXT:
                length = segments[place, _1]
                _copy(out, at, template, segments[place, _0], length)
                at += length
            elif op == _UUID:
                _put_uuid(out, at, drawn[place, i], drawn[place + _1, i])
                at += np.uint64(36)
            elif op == _TIME:
                _put_time(out, at, dates, from_midnight + drawn[place, i])
                at += np.uint64(27)
            else:
                name = name_spans[k, _0] + drawn[place, i]
                length = names[name, _1]
                _copy(out, at, text, names[name, _0], length)
                at += length
        ends[i] = at
    return at


def keep_nothing() -> None:
    """Compile without writing the machine code to the disk."""
    for kernel in _kernels:
        kernel._cache.disable()
