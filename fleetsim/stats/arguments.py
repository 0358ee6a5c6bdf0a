"""Checks of the arguments of tests: what is not allowed raises `ValueError`."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

# Counts and their totals stay below 2**53, so that each is exact as a float64.
MAX_COUNT = 2**53


def number_of(name: str, value: float, rule: str, allowed: Callable[[float], bool]) -> float:
    """Return `value` as a finite float for which `allowed` holds; `rule` is that in words."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise ValueError(f"{name} is {value!r}, must be a finite number {rule}")
    number = float(value)
    if not math.isfinite(number) or not allowed(number):
        raise ValueError(f"{name} is {value}, must be a finite number {rule}")
    return number


def positive(name: str, value: float) -> float:
    """Return `value` as a finite float above 0."""
    return number_of(name, value, "> 0", lambda number: number > 0)


def not_negative(name: str, value: float) -> float:
    """Return `value` as a finite float from 0."""
    return number_of(name, value, ">= 0", lambda number: number >= 0)


def fraction(name: str, value: float) -> float:
    """Return `value` as a float between 0 and 1."""
    return number_of(name, value, "> 0 and < 1", lambda number: 0 < number < 1)


def count_of(name: str, value: float) -> int:
    """Return `value` as an int from 0 to 2**53."""
    rule = "that is whole, >= 0 and <= 2**53"
    return int(number_of(name, value, rule, lambda x: 0 <= x <= MAX_COUNT and x == math.floor(x)))


def array_of(name: str, values: npt.ArrayLike, ndim: int = 1) -> npt.NDArray[Any]:
    """Return `values` as an array of finite numbers that has `ndim` dimensions and is not empty."""
    array = np.asarray(values)
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} dimensions, must have {ndim}")
    if array.size == 0:
        raise ValueError(f"{name} is empty, must have at least one value")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} has type {array.dtype}, must be numbers")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name}: value {bad[0]} is {array.flat[bad[0]]}, must be finite")
    return array


def floats(name: str, values: npt.ArrayLike) -> Floats:
    """Return `values` as a one-dimensional float64 array of finite numbers."""
    return array_of(name, values).astype(np.float64)


def counts_of(name: str, values: npt.ArrayLike, ndim: int = 1) -> Ints:
    """Return `values` as an int64 array of counts whose total is at most 2**53."""
    array = array_of(name, values, ndim)
    for fault, rule in (
        (array < 0, "must be >= 0"),
        (array != np.floor(array), "must be a whole number"),
        (array > MAX_COUNT, "must be <= 2**53"),
    ):
        bad = np.flatnonzero(fault)
        if bad.size:
            raise ValueError(f"{name}: value {bad[0]} is {array.flat[bad[0]]}, {rule}")
    if float(array.sum(dtype=np.float64)) > MAX_COUNT:
        raise ValueError(f"{name}: the total is above 2**53, must be <= 2**53")
    return array.astype(np.int64)


def categories_of(observed: npt.ArrayLike, weights: npt.ArrayLike) -> tuple[Ints, Floats]:
    """Return observed counts and the weights that belong to them, both checked."""
    counts = counts_of("observed", observed)
    shares = floats("weights", weights)
    if shares.size != counts.size:
        raise ValueError(
            f"weights has {shares.size} values, must have {counts.size}, as many as observed"
        )
    bad = np.flatnonzero(shares < 0)
    if bad.size:
        raise ValueError(f"weights: value {bad[0]} is {shares[bad[0]]}, must be >= 0")
    total = math.fsum(shares)
    if abs(total - 1) > 1e-9:
        raise ValueError(f"weights: the sum is {total!r}, must be 1 within 1e-9")
    return counts, shares


def sum_of(values: Floats) -> float:
    """Return the sum, exact to a few units in the last place at any length."""
    # NumPy adds pairwise along a row; fsum then adds the rows without rounding. Plain fsum would
    # be as good and ten times slower.
    rows = values.size // 1024
    head = values[: rows * 1024].reshape(rows, 1024).sum(axis=1)
    return math.fsum(head.tolist() + values[rows * 1024 :].tolist())
