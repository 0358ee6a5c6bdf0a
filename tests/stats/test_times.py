"""Statistics of sorted offsets, made piece by piece, against `stats` and against loops."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim import stats
from fleetsim.stats.times import (
    CELLS,
    PERIODS_US,
    PLOT_CELLS,
    Times,
    cells_for,
    times_of,
    times_of_arrays,
)

QUARTER = 900_000_000  # 15 minutes [microseconds]


def arrays(batches: list[list[int]]) -> list[np.ndarray]:
    """Return offsets as arrays."""
    return [np.array(part, np.int64) for part in batches]


def same(one: Times, other: Times) -> None:
    """Assert that two statistics are equal, sums but for their rounding."""
    for name in sorted(set(Times.__dataclass_fields__) - {"tied_batches"}):  # asked for apart
        a, b = getattr(one, name), getattr(other, name)
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=0, err_msg=name)


def in_pieces(batches: list[list[int]], length: int, cut: int) -> Times:
    """Return the statistics of offsets handed on in pieces of `cut`, some of them empty."""

    def pieces(values: np.ndarray) -> list[np.ndarray]:
        return [values[:0], *(values[i : i + cut] for i in range(0, len(values), cut)), values[:0]]

    parts = [np.sort(part) for part in arrays(batches)]
    sizes = np.array([len(part) for part in parts], np.int64)
    whole = pieces(np.sort(np.concatenate(parts)))
    return times_of(sizes, length, map(pieces, parts), whole)


batches_of_25 = st.lists(st.lists(st.integers(0, 24), max_size=30), min_size=1, max_size=3)


@given(batches=batches_of_25, cut=st.integers(1, 7))
def test_pieces_of_any_size_give_the_same_statistics(batches, cut):
    """Where a piece ends, also within a tick, has no influence."""
    same(in_pieces(batches, 25, cut), times_of_arrays(arrays(batches), 25))


@given(batches=batches_of_25)
def test_statistics_are_those_of_the_public_tests(batches):
    """D, A2 and Moran's T equal what `stats` finds with the tick as resolution."""
    times = times_of_arrays(arrays(batches), 25)
    everything = np.concatenate(arrays(batches))
    if len(everything):
        assert times.distance == pytest.approx(
            stats.uniformity_test(everything, 25, 1).statistic, rel=1e-12
        )
        assert times.anderson == pytest.approx(
            stats.edge_test(everything, 25, 1).statistic, rel=1e-10
        )
    else:
        assert math.isnan(times.anderson)
    for part, moran in zip(batches, times.moran, strict=True):
        if not part:
            assert math.isnan(moran)
            continue
        spread = sorted(spread_in_ticks(part))
        gaps = [b - a for a, b in pairwise([0.0, *spread, 25.0])]
        m = len(gaps)
        assert moran == pytest.approx(-2 * sum(math.log(m * gap / 25) for gap in gaps), rel=1e-9)


def spread_in_ticks(part: list[int]) -> list[float]:
    """Return offsets spread evenly inside their ticks."""
    often = Counter(part)
    return [tick + (j + 0.5) / k for tick, k in often.items() for j in range(k)]


@pytest.mark.parametrize("n", [1, 2, 100, 3500])
def test_morans_statistic_is_that_of_the_public_test(n):
    """At the size of a real batch `stats.spacing_test` gives the same T."""
    offsets = np.random.default_rng(n).integers(QUARTER, size=n)
    times = times_of_arrays([offsets], QUARTER)
    expected = stats.spacing_test(offsets, QUARTER, 1).statistic
    assert times.moran[0] == pytest.approx(expected, rel=1e-11)


@given(batches=batches_of_25)
def test_ties_and_ends_are_what_loops_count(batches):
    """Pairs within and across batches, and the two extremes."""
    times = times_of_arrays(arrays(batches), 25)
    labelled = [(b, t) for b, part in enumerate(batches) for t in part]
    within, across = [0] * len(batches), 0
    for i, (b1, t1) in enumerate(labelled):
        for b2, t2 in labelled[:i]:
            within[b1] += b1 == b2 and t1 == t2
            across += b1 != b2 and t1 == t2
    assert times.ties.tolist() == within
    assert times.ties_across == across
    everything = [t for _, t in labelled]
    assert times.first_us == min(everything, default=-1)
    assert times.last_us == max(everything, default=-1)
    assert times.n == len(everything)
    assert times.density == max(map(len, batches)) / 25


@given(st.lists(st.integers(0, QUARTER - 1), max_size=60))
def test_cells_and_phases_are_what_loops_count(offsets):
    """Every part of the interval, of a minute and a second has its events."""
    half = len(offsets) // 2
    times = times_of_arrays(arrays([offsets[:half], offsets[half:]]), QUARTER)
    for row, part in zip(times.cells, (offsets[:half], offsets[half:]), strict=True):
        assert row.tolist() == in_cells(part, QUARTER, CELLS)
    assert times.histogram.tolist() == in_cells(offsets, QUARTER, PLOT_CELLS)
    for row, period in zip(times.phases, PERIODS_US, strict=True):
        assert row.tolist() == in_cells([o % period for o in offsets], period, CELLS)
    for row, digits in enumerate(times.digits.tolist()):
        found = Counter(int(f"{offset:012d}"[-1 - row]) for offset in offsets)
        assert digits == [found[digit] for digit in range(10)]


def in_cells(values: list[int], length: int, cells: int) -> list[int]:
    """Return how many values fall in each cell."""
    found = Counter(value * cells // length for value in values)
    return [found[cell] for cell in range(cells)]


@given(
    st.integers(0, 10**9), st.integers(1, 86_400_000_000), st.sampled_from([50, 25, 10, 5, 2, 1])
)
def test_merged_cells_are_the_cells_of_the_smaller_number(value, length, cells):
    """A cell of few is a run of cells of many, whatever the length of the interval."""
    tick = value % length
    assert (tick * CELLS // length) // (CELLS // cells) == tick * cells // length


def test_cells_are_the_most_that_can_be_merged():
    """The number of cells is a divisor, at most what is wanted."""
    assert [cells_for(w, 50) for w in (0, 0.9, 1, 4.9, 9, 24, 49, 50, 1e9)] == [
        *(0, 0, 1, 2, 5, 10, 25, 50, 50)
    ]


@pytest.mark.parametrize("n", [0, 1, 7, 499, 500, 501, 54_321])
def test_order_statistics_are_those_of_the_sorted_offsets(n):
    """The kept ranks run from the first to the last event, at most five hundred."""
    offsets = np.random.default_rng(n).integers(QUARTER, size=n)
    times = in_pieces([offsets.tolist()], QUARTER, 997)
    ranks, values = times.shown.T
    assert values.tolist() == np.sort(offsets)[ranks].tolist()
    assert len(ranks) == min(n, 500)
    if n:
        assert (ranks[0], ranks[-1]) == (0, n - 1)
