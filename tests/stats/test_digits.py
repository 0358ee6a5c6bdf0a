"""The test of the digits below a second, against loops and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from fleetsim.stats import time_tests

QUARTER = 900_000_000  # 15 minutes [microseconds]


def table_of(offsets: np.ndarray) -> np.ndarray:
    """Return the events by each of the six digits, by loops over their text."""
    table = np.zeros((6, 10), np.int64)
    for offset in offsets.tolist():
        for row, digit in enumerate(reversed(f"{offset % 1_000_000:06d}")):
            table[row, int(digit)] += 1
    return table


def p_of(observed: np.ndarray, chances: np.ndarray) -> float:
    """Return the two-sided p of X2 by the gamma law with Haldane's (1937) moments.

    Both tails are corrected for continuity by half a step of X2.
    """
    n, k = int(observed.sum()), len(chances)
    x2 = float(np.sum((observed - n * chances) ** 2 / (n * chances)))
    variance = 2 * (k - 1) + (float(np.sum(1 / chances)) - k * k - 2 * k + 2) / n
    law = scipy_stats.gamma((k - 1) ** 2 / variance, scale=variance / (k - 1))
    return min(1.0, 2 * min(law.cdf(x2 + k / n), law.sf(x2 - k / n)))


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_of_six_p_values_decides_by_sidak(seed: int) -> None:
    """Six independent digits: 1 - (1 - p)**6 of the smallest p."""
    table = table_of(np.random.default_rng(seed).integers(0, QUARTER, 4000))
    each = [p_of(row, np.full(10, 0.1)) for row in table]
    found = time_tests.digits_test(table, QUARTER)
    assert found.p_value == pytest.approx(1 - (1 - min(each)) ** 6, rel=1e-6)
    names = ("1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms")
    assert found.note == f"the digit of {names[each.index(min(each))]} decides, of 6"
    assert (found.df, found.n) == (9, 4000)


def test_digits_count_where_the_interval_holds_two_of_their_periods() -> None:
    """An interval of 230 ticks has one digit whose shares are known, and they are not equal."""
    offsets = np.random.default_rng(7).integers(0, 230, 3000)
    for length, made in ((19, 0), (20, 1), (199, 1), (200, 2), (230, 2), (2000, 3)):
        found = time_tests.digits_test(table_of(offsets % length), length)
        assert (found.p_value is None) == (made == 0)
        if made:
            assert str(found.note).endswith(f"of {made}")
    # Tens of a tick below 230: the digits 0, 1 and 2 come three times, the others twice.
    chances = np.array([30, 30, 30, 20, 20, 20, 20, 20, 20, 20]) / 230
    table = table_of(offsets)
    each = [p_of(table[0], np.full(10, 0.1)), p_of(table[1], chances)]
    found = time_tests.digits_test(table, 230)
    assert found.p_value == pytest.approx(1 - (1 - min(each)) ** 2, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "digit"),
    [
        (lambda offsets: offsets // 2 * 2, "1 us"),
        (lambda offsets: offsets // 10 * 10, "1 us"),
        (lambda offsets: offsets // 20_000 * 20_000, None),
        (lambda offsets: offsets - offsets // 1000 % 10 * 1000 + 7000, "1 ms"),
    ],
    ids=["even", "clock of 10 us", "clock of 20 ms", "last digit of the milliseconds"],
)
def test_what_a_clock_leaves_out_is_seen(change, digit: str | None) -> None:
    """The digit that decides is named; where several can be none, any of them."""
    found = time_tests.digits_test(
        table_of(change(np.random.default_rng(3).integers(0, QUARTER, 2000))), QUARTER
    )
    assert found.p_value is not None
    assert found.p_value < 1e-12
    if digit:
        assert str(found.note).startswith(f"the digit of {digit} decides")
    assert math.isclose(found.estimate or 0, math.sqrt((found.statistic or 0) / 2000))


def test_a_handful_of_events_makes_no_test() -> None:
    """Ten cells need five expected events each."""
    few = time_tests.digits_test(table_of(np.arange(49) * 17), QUARTER)
    assert few.note == "no test: too few events"
    assert time_tests.digits_test(table_of(np.arange(50) * 17), QUARTER).p_value is not None
    short = time_tests.digits_test(table_of(np.arange(15)), 15)
    assert short.note == "no test: the interval is too short"
