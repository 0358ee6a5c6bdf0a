"""The compiled kernel: the numbers and the JSON Lines of `generate` and `encode`, by machine code.

It makes exactly the bytes of the NumPy path, which is its oracle in the tests. This module is the
source, and is imported only where there is no machine code of it yet: numba takes a second to load.
Every kernel stands in this file: numba notices a change of a file, not of what the file imports.

All numbers are unsigned 64-bit words. A signed one beside them would make numba calculate in
floating point, and a signed index would be checked for wrapping around.

The kernels are freestanding: they allocate nothing, count no references and raise nothing, so that
their machine code needs no runtime of numba. What they work in is handed to them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from fleetsim.base.clock import DAY_US
from fleetsim.generate.kernel.interface import DELIVERED
from fleetsim.generate.streams import BLOCK


class Op:
    """What the kernel does next in a line; the values are those of the layout's arrays."""

    TEXT, UUID, CHOICE, TIME = (np.uint64(i) for i in range(4))
    CONSTANT, COMPANY, DRIVER, TRUCK = (np.uint64(i) for i in range(4))


_kernels: list[Any] = []
#: How numba compiles: without its runtime, and without a check of what divides.
OPTIONS = {"nogil": True, "_nrt": False, "error_model": "numpy"}


def _jit(function: Any) -> Any:
    """Compile a function, and keep the machine code where that can be done."""
    try:
        kernel = njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder is writable: it is compiled again in each process
        kernel = njit(**OPTIONS)(function)
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


@intrinsic(prefer_literal=True)
def _words(typing: Any, n: Any) -> Any:
    """Return an array of a constant number of words that lives until the function returns."""
    kind = types.Array(types.uint64, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        size, word = signature.args[0].literal_value, ir.IntType(64)
        array = context.make_array(kind)(context, builder)
        populate_array(
            array,
            data=alloca_once(builder, word, size=size),
            shape=[ir.Constant(word, size)],
            strides=[ir.Constant(word, 8)],
            itemsize=ir.Constant(word, 8),
            meminfo=None,
        )
        return array._getvalue()

    return kind(n), generate


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
    four = _words(4)
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
    four = _words(4)
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
    four = _words(4)
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
def _sort(values, length, stack):
    """Sort the first words of an array; `stack` has room for `SORT_WORDS`.

    Quicksort of the larger part is put off, so that the stack never holds more than 64 of them.
    """
    low, high, depth = _0, length, _0
    while True:
        while high - low > _INSERTION:
            a, b, c = values[low], values[(low + high) >> _1], values[high - _1]
            pivot = max(min(a, b), min(max(a, b), c))
            left, right = low, high - _1
            while True:
                while values[left] < pivot:
                    left += _1
                while values[right] > pivot:
                    right -= _1
                if left >= right:
                    break
                values[left], values[right] = values[right], values[left]
                left += _1
                right -= _1
            # From `left` on there is nothing below the pivot, and before it nothing above.
            if left - low < high - left:
                stack[depth], stack[depth + _1] = left, high
                high = left
            else:
                stack[depth], stack[depth + _1] = low, left
                low = left
            depth += _2
        for i in range(low + _1, high):
            value, place = values[i], i
            while place > low and values[place - _1] > value:
                values[place] = values[place - _1]
                place -= _1
            values[place] = value
        if depth == _0:
            break
        depth -= _2
        low, high = stack[depth], stack[depth + _1]


@_jit
def _draw_offsets(runs, n_runs, out, at, seed, purpose, ordinal, length, sorted_):
    four = _words(4)
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
            _sort(sorted_, count, sorted_[count:])
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
    `scratch` has room for the offsets of one driver, and for `SORT_WORDS` behind them.
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
    start,
    stop,
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
    """Write the drawn events from `start` to `stop` - 1 as JSON Lines; return how many bytes.

    Parameters
    ----------
    out : uint8 array, with `SLACK` beyond the last line
    ends : uint64 array (stop - start,), takes where each line ends
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
    for i in range(start, stop):
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
        ends[i - start] = at
    return at


# Defects. Numbers are signed here, since places are subtracted; `_put` and `_of` go between.


class Patch:
    """What is done to a struck line; the values stand for kinds of defects."""

    (MISSING, NULL, TYPE, MALFORMED, NAIVE, ENUM, ORPHAN, OUTSIDE, EXTRA, KEY, CORRUPT, UTF8,
     DUPLICATE, CONFLICTING, LATE) = range(15)  # fmt: skip


_DELIVERED = DELIVERED
# Places in `interface.CONSTANTS`.
(_NULL_T, _TRUE_T, _FALSE_T, _VALUE_T, _SPEED_T, _ODOMETER_T, _NOTE_T, _CUT_T, _STRAY_T, _TWO_T,
 _UTF8_T, _U1, _U2, _U3, _ZONE_T, _DRV_T, _TRK_T, _COPY_T, _FROM_T, _SHA_T, _ORIGINAL_T,
 _INJECTED_T) = range(22)  # fmt: skip
_QUOTE, _COMMA, _COLON, _BACKSLASH = (np.uint8(ord(letter)) for letter in '",:\\')
_PAIR_TEXT = np.frombuffer(b"".join(b"%02d" % i for i in range(100)), np.uint8)


@_jit
def _block_counts(counts, keep, seed, purpose, ordinal, block, drivers, fleet, table):
    """Draw the counts of a block's drivers, and which are eligible; return all eligible events."""
    per_company, eligible, first_company = fleet
    start = block * _BLOCK
    n = min(_BLOCK, drivers - start)
    silent = True
    for company in range(start // per_company, (start + n - _1) // per_company + _1):
        if eligible[company - first_company]:
            silent = False
    if silent:
        return n, _0, silent
    four = _words(4)
    rows, total = np.uint64(len(table)), _0
    for driver in range(n):
        if driver & _3 == _0:
            _cipher(four, seed, purpose, ordinal, block, driver >> _2)
        counts[driver] = _choose(table, _0, rows, four[driver & _3])
        keep[driver] = eligible[(start + driver) // per_company - first_company]
        if keep[driver]:
            total += counts[driver]
    return n, total, silent


@_jit
def strike(
    cursor, end, singly, seed, purposes, ordinal, drivers, fleet, table, thresholds, kinds, strikes,
    details, counts, keep,
):  # fmt: skip
    """Decide which of a batch's events are struck, and by which of `kinds` kinds.

    Parameters
    ----------
    cursor : uint64 array (5,)
        The block, its next driver, its events before that one and those of eligible drivers among
        these, and the events of eligible drivers before the block; it moves on.
    end, singly : how many events are wanted, and whether to stop behind each block
    purposes : uint64 array (3,), of counts, kinds and details
    drivers, fleet : where the drivers end; how many a company has, which companies are eligible,
        and the first of these
    table, thresholds : uint64 arrays, of the counts and of the kinds
    strikes : int64 array (n, 3)
        Takes the number of each struck one among the events of eligible drivers, its kind, and the
        number of the last one of its block. There is room for the events of any driver.
    details : uint64 array (n, 4), takes their words
    counts, keep : room for a block's drivers: the events of each, and who is eligible

    Returns how many are struck.
    """
    four = _words(4)
    n = np.uint64(len(thresholds))
    limit = thresholds[n - _1] if n == kinds else _NONE
    m = _0
    while cursor[_0] * _BLOCK < drivers and cursor[_4] < end:
        block = cursor[_0]
        size, total, silent = _block_counts(
            counts, keep, seed, purposes[_0], ordinal, block, drivers, fleet, table
        )
        driver, before, own, first = cursor[_1], cursor[_2], cursor[_3], cursor[_4]
        known = _NONE
        while driver < size and not silent:
            count = counts[driver]
            if keep[driver]:
                if m + count > np.uint64(len(strikes)):
                    cursor[_1], cursor[_2], cursor[_3] = driver, before, own
                    return m
                for event in range(before, before + count):
                    if event >> _2 != known:
                        known = event >> _2
                        _cipher(four, seed, purposes[_1], ordinal, block, known)
                    word = four[event & _3]
                    if word < limit or n < kinds:
                        strikes[m, 0] = np.int64(first + own)
                        strikes[m, 1] = np.int64(_choose(thresholds, _0, n, word))
                        strikes[m, 2] = np.int64(first + total) - 1
                        _cipher(details[m], seed, purposes[_2], ordinal, block, event)
                        m += _1
                    own += _1
            before += count
            driver += _1
        cursor[_0], cursor[_1], cursor[_2], cursor[_3] = block + _1, _0, _0, _0
        cursor[_4] = first + total
        if singly:
            break
    return m


@_jit
def find_late(
    places, counts, keep, seed, purposes, ordinal, block, drivers, fleet, table, low, high
):  # fmt: skip
    """Find the events of a block whose kind is one: their words lie from `low` to `high`.

    Parameters
    ----------
    places : int64 array (n,)
        Takes their numbers among the block's events, as many as there is room for.
    counts, keep : arrays of a block's drivers, which take the events of each, and who is eligible
    purposes : uint64 array (2 or more,), of counts and kinds

    Returns how many there are, and how many drivers the block has.
    """
    four = _words(4)
    size, _, silent = _block_counts(
        counts, keep, seed, purposes[_0], ordinal, block, drivers, fleet, table
    )
    m, before, known = 0, _0, _NONE
    for driver in range(_0 if silent else size):
        count = counts[driver]
        if keep[driver]:
            for event in range(before, before + count):
                if event >> _2 != known:
                    known = event >> _2
                    _cipher(four, seed, purposes[_1], ordinal, block, known)
                word = four[event & _3]
                if low <= word and word <= high:
                    if m < len(places):
                        places[m] = np.int64(event)
                    m += 1
        before += count
    return m, size


@_jit
def gather(out, seed, purpose, ordinal, block, per_event, places):
    """Take the words (n, per_event) of some events of a block."""
    four = _words(4)
    known = _NONE
    for row in range(len(places)):
        for column in range(per_event):
            at = np.uint64(places[row]) * per_event + column
            if at >> _2 != known:
                known = at >> _2
                _cipher(four, seed, purpose, ordinal, block, known)
            out[row, column] = four[at & _3]


@_jit
def _of(word, n):
    """Return floor(word * n / 2**64)."""
    return np.int64(_high(word, np.uint64(n)))


@_jit
def _put(out, at, text, start, length):
    """Copy bytes; return the place behind them."""
    _copy(out, np.uint64(at), text, np.uint64(start), np.uint64(length))
    return at + length


@_jit
def _put_text(out, at, texts, spans, number):
    """Copy a text of a table."""
    return _put(out, at, texts, spans[number, 0], spans[number, 1])


@_jit
def _put_number(out, at, value):
    """Write a number of any size from 0 on."""
    width, power = 1, 10
    while power <= value and width < 18:
        width += 1
        power *= 10
    for place in range(at + width - 1, at - 1, -1):
        out[place] = np.uint8(48 + value % 10)
        value //= 10
    return at + width


@_jit
def _put_uuid4(out, at, high, low):
    """Write the UUID of two words."""
    _put_uuid(out, np.uint64(at), high & _KEEP_HIGH | _VERSION, low & _KEEP_LOW | _VARIANT)
    return at + 36


@_jit
def _put_moment(out, at, days, us):
    """Write a time, counted from the midnight of the first of some dates."""
    day, in_day = us // 86_400_000_000, us % 86_400_000_000
    _put(out, at, days, day * 16, 11)
    second, fraction = in_day // 1_000_000, in_day % 1_000_000
    for place, value in ((11, second // 3600), (14, second // 60 % 60), (17, second % 60)):
        out[at + place] = _PAIR_TEXT[2 * value]
        out[at + place + 1] = _PAIR_TEXT[2 * value + 1]
    out[at + 13] = out[at + 16] = _COLON
    out[at + 19] = np.uint8(46)
    for place in range(25, 19, -1):
        out[at + place] = np.uint8(48 + fraction % 10)
        fraction //= 10
    out[at + 26] = np.uint8(90)
    return at + 27


@_jit
def _two(text, at):
    return np.int64(text[at]) * 10 + np.int64(text[at + 1]) - 528


@_jit
def _moment(text, at, days):
    """Return the time that stands in a line, counted as `_put_moment` does."""
    row = 0
    for day in range(len(days) // 16):
        same = True
        for place in range(10):
            if days[day * 16 + place] != text[at + place]:
                same = False
                break
        if same:
            row = day
            break
    second = _two(text, at + 11) * 3600 + _two(text, at + 14) * 60 + _two(text, at + 17)
    fraction = _two(text, at + 20) * 10_000 + _two(text, at + 22) * 100 + _two(text, at + 24)
    return row * 86_400_000_000 + second * 1_000_000 + fraction


@_jit
def _span(src, a, end, field, shape):
    """Return where the value of a field stands in the line from `a` to `end`, its feed included."""
    if field < 3:
        return a + shape[2 * field], a + shape[2 * field + 1]
    if field == 5:
        return end - shape[9], end - 3
    start = a + shape[6]
    stop = start
    while src[stop] != _QUOTE:
        stop += 1
    if field == 3:
        return start, stop
    return stop + shape[7], end - shape[8]


@_jit
def _name_of(src, start, stop, texts, names):
    """Return the place of an event type among the names."""
    for number in range(len(names)):
        if names[number, 1] == stop - start:
            first = names[number, 0]
            same = True
            for i in range(stop - start):
                if texts[first + i] != src[start + i]:
                    same = False
                    break
            if same:
                return number
    return 0


@_jit
def _other(rep, r, src, start, stop, field, w, word, laws):
    """Write another value of a field."""
    texts, spans, names, invalid, days, times = laws
    if field == 0 or field == 2:
        return _put_uuid4(rep, r, w[2], w[3])
    if field == 1:
        r = _put_uuid4(rep, _put_text(rep, r, texts, spans, _DRV_T), w[2], w[3])
        digits = stop - start - 40
        return _put(rep, r, src, stop - digits, digits)
    if field == 3:
        number = 0
        for place in range(start + 4, stop):
            number = number * 10 + np.int64(src[place]) - 48
        return _put_number(rep, _put_text(rep, r, texts, spans, _TRK_T), number + 1)
    if field == 5:
        start_us, length = times[0], times[1]
        offset = _moment(src, start, days) - start_us + 1 + _of(word, length - 1)
        return _put_moment(rep, r, days, start_us + offset % length)
    n = len(names)
    if n == 1:
        return _put(rep, r, texts, invalid[0, 0], invalid[0, 1])
    name = (_name_of(src, start, stop, texts, names) + 1 + _of(word, n - 1)) % n
    return _put(rep, r, texts, names[name, 0], names[name, 1])


@_jit
def _put_malformed(rep, r, src, at, variant, texts, spans):
    """Write what is no instant, made of the parts of one."""
    if variant == 9:
        return r
    if variant == 8:
        return _put(rep, r, src, at, 11)
    if variant == 7:
        for i, place in enumerate((8, 9, -47, 5, 6, -47, 0, 1, 2, 3, -32)):  # or else a letter
            rep[r + i] = np.uint8(-place) if place < 0 else src[at + place]
        return _put(rep, r + 11, src, at + 11, 8)
    _put(rep, r, src, at, 27)
    if variant == 6:
        return _put_text(rep, r + 26, texts, spans, _ZONE_T)
    if variant == 2:
        for i, letter in enumerate((48, 50, 45, 51, 48)):
            rep[r + 5 + i] = np.uint8(letter)
        return r + 27
    place, high, low = 5, 49, 51  # month 13
    if variant == 1:
        place, high, low = 8, 51, 50
    elif variant == 3:
        place, high, low = 11, 50, 53
    elif variant == 4:
        place, high, low = 14, 54, 48
    elif variant == 5:
        place, high, low = 17, 54, 49
    rep[r + place], rep[r + place + 1] = np.uint8(high), np.uint8(low)
    return r + 27


@_jit
def _patch(rep, src, a, end, op, w, fields, shape, keys, laws):
    """Write what stands in place of a part of a line.

    Returns the field (-1: none, from 6 on: one of `extra_field`), where the line's part begins and
    ends that is replaced, how much of `rep` replaces it, where in `rep` the injected value stands,
    and where the original value does (with its quotes).
    """
    texts, spans = laws[0], laws[1]
    if op == 10:
        variant = _of(w[1], 3)
        text = _put_text(rep, 0, texts, spans, _CUT_T + variant)
        if variant == 0:
            return -1, a + 1 + _of(w[2], end - a - 2), end - 1, 0, 0, text, 0, 0
        if variant == 2:
            return -1, end - 1, a, 0, 0, text, 0, 0
        start, stop = _span(src, a, end, _of(w[0], 6), shape)
        at = start + _of(w[2], stop - start + 1)
        for place in range(start, stop):
            if src[place] == _BACKSLASH:
                at = stop
                break
        rep[0] = _QUOTE
        return -1, at, at, 1, 1, _put_text(rep, 1, texts, spans, _STRAY_T), 0, 0
    if op == 8:
        variant = _of(w[1], 3)
        r = _put_text(rep, 0, texts, spans, _SPEED_T + variant)
        value = r
        if variant == 2:
            value = 8
        else:
            r = _put_number(rep, r, _of(w[2], 131 if variant == 0 else 1_000_000))
        return 6 + variant, end - 2, end - 2, r, value, r, 0, 0
    field = np.int64(fields[1 + _of(w[0], fields[0])])
    start, stop = _span(src, a, end, field, shape)
    if op == 0:
        r = _put_text(rep, 0, texts, spans, _NULL_T)
        key = start - keys[field, 1] - 4
        if field:
            return field, key - 1, stop + 1, 0, 0, r, start - 1, stop + 1
        return field, key, stop + 2, 0, 0, r, start - 1, stop + 1
    if op == 11:
        r = _put_text(rep, 0, texts, spans, _UTF8_T + _of(w[1], 4))
        value = r
        return (
            field, stop, stop, r, value, _put_text(rep, r, texts, spans, _NULL_T),
            start - 1, stop + 1,
        )  # fmt: skip
    if op == 9:
        rep[0], rep[1] = _COMMA, _QUOTE
        r = _put(rep, 2, texts, keys[field, 0], keys[field, 1])
        rep[r], rep[r + 1], rep[r + 2] = _QUOTE, _COLON, _QUOTE
        value = r + 2
        r = _other(rep, r + 3, src, start, stop, field, w, w[2], laws)
        rep[r] = _QUOTE
        return field, end - 2, end - 2, r + 1, value, r + 1, start - 1, stop + 1
    r = _put_value(rep, src, start, stop, op, field, w, laws)
    return field, start - 1, stop + 1, r, 0, r, start - 1, stop + 1


@_jit
def _put_value(rep, src, start, stop, op, field, w, laws):
    """Write what stands in place of a value and its quotes."""
    texts, spans, names, invalid, days, times = laws
    if op == 1:
        return _put_text(rep, 0, texts, spans, _NULL_T)
    if op == 2:
        variant = _of(w[1], 4)
        if variant == 0:
            return _put_number(rep, 0, _of(w[2], 1_000_000))
        if variant == 1:
            return _put_text(rep, 0, texts, spans, _TRUE_T if _of(w[2], 2) else _FALSE_T)
        rep[0] = np.uint8(91)
        r = 1
        if variant == 3:
            r = _put_text(rep, 0, texts, spans, _VALUE_T)
        r = _put(rep, r, src, start - 1, stop - start + 2)
        rep[r] = np.uint8(93) if variant == 2 else np.uint8(125)
        return r + 1
    rep[0] = _QUOTE
    r = 1
    if op == 3:
        r = _put_malformed(rep, r, src, start, _of(w[1], 10), texts, spans)
    elif op == 4:
        r = _put(rep, r, src, start, 26)
    elif op == 5:
        number = 3 * _name_of(src, start, stop, texts, names) + _of(w[1], 3)
        r = _put(rep, r, texts, invalid[number, 0], invalid[number, 1])
    elif op == 6:
        r = _put_uuid4(rep, r, w[2], w[3])
    elif op == 7:
        start_us, length, variant = times[0], times[1], _of(w[1], 3)
        us = start_us + length
        if variant != 1:
            far = _of(w[2], length)
            if variant == 0:
                us = times[3] - 1 - far
                outside = us < times[4]
            else:
                us += 1 + far
                outside = us > times[2]
            if outside:
                us = start_us + length
        r = _put_moment(rep, r, days, us)
    else:
        r = _other(rep, r, src, start, stop, field, w, w[3], laws)
    rep[r] = _QUOTE
    return r + 1


@_jit
def _put_entry(book, b, texts, spans, forms, kind, number, line, field, original, injected, more):
    """Write a line of the ledger, with room for the hash; return the places behind and of that.

    `line`, `original` and `injected` are a text with a place and a length each, `more` is what the
    line is a copy of (0: of none) and whether it is late.
    """
    first, kinds = forms
    b = _put_number(book, _put_text(book, b, texts, spans, first), number)
    b = _put_text(book, b, texts, spans, first + 1 + kind)
    b = _put(book, b, line[0], line[1], 36)
    b = _put_text(book, b, texts, spans, first + 1 + 2 * kinds + (9 if field < 0 else field))
    b = _put_text(book, b, texts, spans, _ORIGINAL_T)
    if original[2]:
        b = _put(book, b, original[0], original[1], original[2])
    else:
        b = _put_text(book, b, texts, spans, _NULL_T)
    b = _put_text(book, b, texts, spans, _INJECTED_T)
    if injected[2]:
        b = _put(book, b, injected[0], injected[1], injected[2])
    else:
        b = _put_text(book, b, texts, spans, _NULL_T)
    b = _put_text(book, b, texts, spans, _COPY_T)
    b = _put_number(book, b, more[0]) if more[0] else _put_text(book, b, texts, spans, _NULL_T)
    b = _put_text(book, b, texts, spans, _FROM_T)
    b = _put_text(book, b, texts, spans, first + 11 + 2 * kinds if more[1] else _NULL_T)
    b = _put_text(book, b, texts, spans, _SHA_T)
    return _put_text(book, b + 64, texts, spans, first + 1 + kinds + kind), b


@_jit
def _keep(pending, src, a, end, rep, due, kind, field, number, edit):
    """Keep the copy of a record until it is due.

    `edit` is what `_patch` returns of a line's part that is replaced.
    """
    heads, tails, rows, store = pending
    slot = rows[0, 0]  # the first row holds the free ones' chain and their width
    rows[0, 0] = rows[slot, 0]
    at = slot * rows[0, 1]
    start, stop, r, old, new = edit
    head = _put(store, at, src, a, start - a)
    head = _put(store, head, rep, 0, r)
    head = _put(store, head, src, stop, end - stop)
    rows[slot, 0], rows[slot, 1], rows[slot, 2], rows[slot, 3] = 0, number, kind, field
    rows[slot, 4] = head - at
    rows[slot, 5] = rows[slot, 6] = 0
    if field >= 0:
        rows[slot, 5], rows[slot, 6] = new - old, r
        head = _put(store, head, src, old, new - old)
        _put(store, head, rep, 0, r)
    place = due & 2047
    if heads[place]:
        rows[tails[place], 0] = slot
    else:
        heads[place] = slot
    tails[place] = slot


@_jit
def inject(
    out, src, ends, n, first, strikes, words, tables, pending, late, book, entries, shift, rep
):
    """Put the defects into the lines of a piece.

    Parameters
    ----------
    out, book : uint8 arrays
        Take the lines and the ledger's lines, with `SLACK` beyond them.
    src, ends, n, first
        The clean lines, where they end, how many they are, and the number of the first of them.
    strikes : int64 array (m, 3)
        Of the struck ones: number, place of the kind, and number of the block's last event.
    words : uint64 array (m, 4)
    tables : tuple
        ops and fields of the kinds, shape and keys of a line, laws (see `_other`), and forms of the
        ledger's lines.
    pending : tuple
        Copies that are due later: first and last row by the number's last 11 bits, the rows, and
        room for their texts.
    late : tuple
        Place of their kind, before which numbers they come, int64 (k,), their text, and where its
        lines begin and the last one ends, int64 (k + 1,).
    entries : int64 array (k, 3)
        Takes where each line that the ledger names begins and ends, and where its hash belongs.
    shift : int
        Lines that were added before, less those left out.
    rep : uint8 array
        Room for what replaces a part of a line.

    Returns
    -------
    tuple of int
        Bytes of the lines and of the ledger, how many entries, lines, and the shift.
    """
    ops, fields, shape, keys, laws, forms = tables
    texts, spans = laws[0], laws[1]
    heads, _, rows, store = pending
    late_kind, late_place, late_text, late_ends = late
    at, b, m, stretch, s, p, before = 0, 0, 0, 0, 0, 0, shift
    id_at = shape[0]
    for i in range(n + 1):
        number = first + i
        start = np.int64(ends[i - 1]) if i else 0
        while p < len(late_place) and late_place[p] <= number:
            at = _put(out, at, src, stretch, start - stretch)
            stretch = start
            a, end = late_ends[p], late_ends[p + 1]
            line = at
            at = _put(out, at, late_text, a, end - a)
            shift += 1
            b, gap = _put_entry(
                book, b, texts, spans, forms, late_kind, number + shift,
                (out, line + id_at), -1, (out, 0, 0), (out, 0, 0), (0, 1),
            )  # fmt: skip
            entries[m, 0], entries[m, 1], entries[m, 2] = line, at - 1, gap
            m += 1
            p += 1
        if i == n:
            break
        end = np.int64(ends[i])
        if s < len(strikes) and strikes[s, 0] == number:
            kind = strikes[s, 1]
            op = ops[kind]
            w = words[s]
            if op == 14:
                at = _put(out, at, src, stretch, start - stretch)
                stretch = end
                shift -= 1
            elif op == 12:
                due = min(number + 1 + _of(w[2], 1024), strikes[s, 2])
                _keep(
                    pending, src, start, end, rep, due, kind, -1, number + 1 + shift,
                    (end, end, 0, 0, 0),
                )  # fmt: skip
            else:
                field, cut, rest, r, i0, i1, o0, o1 = _patch(
                    rep, src, start, end, op, w, fields[kind], shape, keys, laws
                )
                if op == 13:
                    due = min(number + 1 + _of(w[2], 1024), strikes[s, 2])
                    _keep(
                        pending, src, start, end, rep, due, kind, field, number + 1 + shift,
                        (cut, rest, r, o0, o1),
                    )  # fmt: skip
                else:
                    at = _put(out, at, src, stretch, start - stretch)
                    stretch = end
                    line = at
                    at = _put(out, at, src, start, cut - start)
                    at = _put(out, at, rep, 0, r)
                    at = _put(out, at, src, rest, end - rest)
                    if op == 6:
                        _put_uuid4(store, 0, w[2], w[3])
                        for place in range(36):
                            out[line + shape[2] + 4 + place] = store[place]
                    b, gap = _put_entry(
                        book, b, texts, spans, forms, kind, number + 1 + shift,
                        (src, start + id_at), field, (src, o0, o1 - o0), (rep, i0, i1 - i0), (0, 0),
                    )  # fmt: skip
                    entries[m, 0], entries[m, 1], entries[m, 2] = line, at - 1, gap
                    m += 1
            s += 1
        slot = heads[number & 2047]
        if slot:
            heads[number & 2047] = 0
            at = _put(out, at, src, stretch, end - stretch)
            stretch = end
            while slot:
                text = slot * rows[0, 1]
                size, old, new = rows[slot, 4], rows[slot, 5], rows[slot, 6]
                line = at
                at = _put(out, at, store, text, size)
                shift += 1
                b, gap = _put_entry(
                    book, b, texts, spans, forms, rows[slot, 2], number + 1 + shift,
                    (store, text + id_at), rows[slot, 3], (store, text + size, old),
                    (store, text + size + old, new), (rows[slot, 1], 0),
                )  # fmt: skip
                entries[m, 0], entries[m, 1], entries[m, 2] = line, at - 1, gap
                m += 1
                following = rows[slot, 0]
                rows[slot, 0] = rows[0, 0]
                rows[0, 0] = slot
                slot = following
    end = np.int64(ends[n - 1]) if n else 0
    at = _put(out, at, src, stretch, end - stretch)
    return at, b, m, n + shift - before, shift


@_jit
def deliver(
    out,
    scratch,
    ends,
    drawn,
    n,
    how,
    first,
    strikes,
    words,
    tables,
    pending,
    late,
    book,
    entries,
    shift,
    rep,
):
    """Write n drawn events as JSON Lines with their defects: `encode` and `inject` in turn.

    So few lines at a time that they stay in the cache: `scratch` has room for `DELIVERED` clean
    ones, and `ends` for where they end. `how` is what `encode` takes behind the events' places;
    the other parameters, and what is returned, are those of `inject`.
    """
    late_kind, late_place, late_text, late_ends = late
    at, b, m, count, s, p = 0, 0, 0, 0, 0, 0
    for c in range(0, n, _DELIVERED):
        e = min(n, c + _DELIVERED)
        encode(scratch, ends, drawn, np.uint64(c), np.uint64(e), *how)
        t, q = s, p
        while t < len(strikes) and strikes[t, 0] < first + e:
            t += 1
        while q < len(late_place) and late_place[q] <= first + e:
            q += 1
        size, length, k, lines, shift = inject(
            out[at:], scratch, ends, e - c, first + c, strikes[s:t], words[s:t], tables, pending,
            (late_kind, late_place[p:q], late_text, late_ends[p : q + 1]), book[b:], entries[m:],
            shift, rep,
        )  # fmt: skip
        for i in range(m, m + k):
            entries[i, 0] += at
            entries[i, 1] += at
            entries[i, 2] += b
        at, b, m, count, s, p = at + size, b + length, m + k, count + lines, t, q
    return at, b, m, count, shift


@intrinsic
def _call(typing: Any, function: Any, a: Any, b: Any, c: Any) -> Any:
    """Call a function of C by its address, with three words."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word] * 3)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*(types.uint64,) * 4), generate


@_jit
def hash_lines(functions, state, lines, entries, n, digests):
    """Put the SHA-256 of lines into `digests`, 32 bytes each, by functions of C.

    `functions` are the addresses of those that begin, go on and end; `state`, `lines` and `digests`
    are the addresses of their room, of the bytes that `entries` count from, and of what is given.
    """
    for i in range(n):
        start = np.uint64(entries[i, 0])
        size = np.uint64(entries[i, 1]) - start
        _call(functions[0], state, _0, _0)
        _call(functions[1], state, lines + start, size)
        _call(functions[2], digests + np.uint64(32) * np.uint64(i), state, _0)


@_jit
def put_hashes(book, entries, n, digests):
    """Write hashes as hex digits where the ledger has room for them."""
    for i in range(n):
        at = entries[i, 2]
        for k in range(32):
            octet = np.int64(digests[32 * i + k])
            high, low = octet >> 4, octet & 15
            book[at + 2 * k] = np.uint8(high + (48 if high < 10 else 87))
            book[at + 2 * k + 1] = np.uint8(low + (48 if low < 10 else 87))


def keep_nothing() -> None:
    """Let numba neither read nor write machine code on the disk from here on."""
    for kernel in _kernels:
        kernel._cache.disable()


def keep_all() -> None:
    """Let numba read and write machine code on the disk, where it can."""
    for kernel in _kernels:
        kernel._cache.enable()
