"""The kernels that count what was read: types and times by their order, and words that are new.

Each makes exactly the counts of the NumPy code that calls it, which is its oracle in the tests.
As in `compiled`, numbers are unsigned 64-bit words but for those that may be negative, and the
kernels are freestanding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fleetsim.generate.kernel.compiled import _jit

_0, _1, _2, _3, _4, _5 = (np.uint64(i) for i in range(6))
_32, _33, _63, _LOW = (np.uint64(i) for i in (32, 33, 63, 2**32 - 1))
# The last steps of MurmurHash3, after which every bit of a word counts in each bit.
_MIXING_1, _MIXING_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_EARLIER, _TIED, _LATER, _OTHER = (np.uint64(i) for i in range(4))


@intrinsic
def _leading(typing: Any, word: Any) -> Any:
    """Return how many zero bits a word begins with: one instruction, which numba hides."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@_jit
def _relation(driver, offset, i):
    """Return how an event stands to the one before it."""
    if driver[i] != driver[i - _1]:
        return _OTHER
    if offset[i] > offset[i - _1]:
        return _LATER
    return _TIED if offset[i] == offset[i - _1] else _EARLIER


@_jit
def count_types(seen, before, pairs, apart, places):
    """Count types by what stands beside them, see `stats.order.TypeOrder`.

    `seen` has driver, type and offset of events, the first `before` of which were counted; what
    they form together with those that follow is counted here. Returns whether all types are ones
    that there are; if not, what is counted is of no use.
    """
    driver, kind, offset = seen[0], seen[1], seen[2]
    n_types = np.int64(len(pairs))
    n = np.uint64(seen.shape[1])
    for i in range(n):
        if kind[i] < 0 or kind[i] >= n_types:
            return _0
    first = before - _4 if before > _4 else _0
    # How this event stands to the one before, that one to the one before it, and so on.
    one = two = three = four = _OTHER
    for i in range(first + _1, n):
        four, three, two, one = three, two, one, _relation(driver, offset, i)
        if i < before:
            continue
        seen_here = i - first
        if seen_here >= _2 and one >= _LATER and two >= _LATER:
            place = _2 * np.uint64(two == _OTHER) + np.uint64(one == _OTHER)
            places[place, np.uint64(kind[i - _1])] += 1
        if seen_here >= _3 and two == _LATER and one != _TIED and three != _TIED:
            pairs[np.uint64(kind[i - _2]), np.uint64(kind[i - _1])] += 1
        ordered = two == _LATER and three == _LATER and one != _TIED and four != _TIED
        if seen_here >= _4 and ordered:
            apart[np.uint64(kind[i - _3]), np.uint64(kind[i - _1])] += 1
    return _1


@_jit
def count_runs(offset, bounds, shift, length, gaps, sizes, squares):
    """Count the times of runs that are whole, see `stats.order.DriverTimes`.

    Parameters
    ----------
    offset : int64 array [ticks]
    bounds : int64 array (m + 1,), where runs begin, and where the last one ends
    shift, length : bits that offsets lose for the squares, and the interval without these
    gaps : int64 array, to which those of runs in order are added
    sizes, squares : int64 arrays (m,), take events and sum of squares of the runs in order

    Returns how many of the runs are in order.
    """
    n = _0
    cells = np.uint64(len(gaps))
    end = np.uint64(len(offset))
    for run in range(np.uint64(len(bounds)) - _1):
        start, stop = np.uint64(bounds[run]), np.uint64(bounds[run + _1])
        if stop > end or start >= stop:
            break
        ordered = True
        for i in range(start + _1, stop):
            if offset[i] < offset[i - _1]:
                ordered = False
                break
        if not ordered:
            continue
        before = np.uint64(offset[start])
        unit = before >> shift
        total = unit * unit
        for i in range(start + _1, stop):
            here = np.uint64(offset[i])
            gap = here - before + _1
            exponent = _63 - _leading(gap)
            half = gap >> (exponent - _1) & _1 if exponent else _0
            if _2 * exponent + half < cells:
                gaps[_2 * exponent + half] += 1
            step = (here >> shift) - unit
            total += step * step
            before, unit = here, here >> shift
        rest = length - unit
        sizes[n], squares[n] = np.int64(stop - start), np.int64(total + rest * rest)
        n += _1
    return n


@_jit
def all_new(words, table, most):
    """Put words into a table; return whether each is certainly another one than all before.

    The table has a power of two of words, each with two places of 32 bits for what is kept of a
    word that was put in, and 0 where there is none. Two different words may look the same, though
    seldom. None is looked for at more than `most` places, however they were chosen.
    """
    last = _2 * np.uint64(len(table)) - _1
    for i in range(np.uint64(len(words))):
        mixed = words[i]
        mixed = (mixed ^ mixed >> _33) * _MIXING_1
        mixed = (mixed ^ mixed >> _33) * _MIXING_2
        mixed ^= mixed >> _33
        own = max(mixed >> _32, _1)
        at = mixed & last
        tried = _0
        while True:
            shift = (at & _1) << _5
            there = table[at >> _1] >> shift & _LOW
            if there == _0:
                table[at >> _1] |= own << shift
                break
            tried += _1
            if there == own or tried >= most:
                return _0
            at = at + _1 & last
    return _1
