"""Random words by address, and the exact integer transforms from words to values.

A word is addressed by (seed, purpose, ordinal, block, position), so no draw depends on the order
of the work or on who else is there. NumPy keeps the raw stream of Philox stable across versions,
but not the methods of its Generator (NEP 19): values are therefore made here, from raw words, by
comparisons and products of integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetsim.generate.model import Purpose

Words = npt.NDArray[np.uint64]

#: Rows (drivers or companies) whose words share one block of the address space.
BLOCK = 1024

_WORDS_PER_COUNTER = 4  # Philox4x64 makes four words for each value of its counter
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def words(seed: int, purpose: Purpose, ordinal: int, block: int, start: int, count: int) -> Words:
    """Return `count` raw words of one block, from position `start` on.

    The key of Philox4x64-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405) is (seed, purpose);
    the counter that NumPy is given is (position // 4, 0, block, ordinal), lowest word first.
    Addresses never overlap. NumPy counts up before it makes words, so those of position 0 are the
    cipher's at (1, 0, block, ordinal).

    Parameters
    ----------
    seed, ordinal : int
        0 .. 2**64 - 1.
    purpose : Purpose
    block, start, count : int
        From 0; positions count within the block.
    """
    skip = start % _WORDS_PER_COUNTER
    bits = np.random.Philox(
        key=np.array([seed, purpose], dtype=np.uint64),
        counter=np.array([start // _WORDS_PER_COUNTER, 0, block, ordinal], dtype=np.uint64),
    )
    return bits.random_raw(skip + count)[skip:]


def choose(raw: Words, thresholds: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return for each word how many of the ascending thresholds are <= it."""
    table = np.array(thresholds, dtype=np.uint64)
    return np.searchsorted(table, raw, side="right").astype(np.int64, copy=False)


def scale(raw: Words, length: int) -> npt.NDArray[np.int64]:
    """Return floor(word * length / 2**64) for each word: uniform on 0 .. length - 1.

    The high half of a 128-bit product, put together from 32-bit limbs; `length` < 2**63.
    """
    high, low = raw >> _HALF, raw & _LOW
    length_high, length_low = np.uint64(length >> 32), np.uint64(length & 0xFFFFFFFF)
    middle = high * length_low + ((low * length_low) >> _HALF)
    carry = (low * length_high + (middle & _LOW)) >> _HALF
    product: Words = high * length_high + (middle >> _HALF) + carry
    return product.astype(np.int64)


def uuid_words(raw: Words) -> Words:
    """Return pairs of words, shape (n, 2), with the version and variant of a UUID version 4."""
    pairs = raw.reshape(-1, 2).copy()
    pairs[:, 0] = (pairs[:, 0] & np.uint64(0xFFFFFFFFFFFF0FFF)) | np.uint64(0x4000)
    pairs[:, 1] = (pairs[:, 1] & np.uint64(0x3FFFFFFFFFFFFFFF)) | np.uint64(0x8000000000000000)
    return pairs
