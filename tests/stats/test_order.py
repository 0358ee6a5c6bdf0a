"""What events show by their order: against a slow twin, in pieces of any size, in any grouping."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.stats import order as module
from fleetsim.stats.order import GAP_CELLS, TIME_CELLS, InOrder, gap_edges, time_cell

TYPES, PER_COMPANY = 3, 2


@pytest.fixture(scope="module", autouse=True, params=["kernel", "numpy"])
def counting(request: pytest.FixtureRequest) -> Iterator[str]:
    """Count by machine code, and by NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(module, "kept_kernels", lambda: None)
        elif module.kept_kernels() is None:
            pytest.skip("no machine code here")
        yield request.param


def plain(found: InOrder, length: int) -> dict[str, Any]:
    """Return everything that was counted as plain data."""
    whole = found.closed()
    drivers, companies = whole.times()
    shift = max(0, length.bit_length() - 21)
    units = drivers.squares * (length >> shift) ** 2
    return {
        "pairs": whole.types.pairs.tolist(),
        "apart": whole.types.apart.tolist(),
        "places": whole.types.places.tolist(),
        "drivers": dict(zip(drivers.sizes.tolist(), drivers.runs.tolist(), strict=True)),
        "squares": np.rint(units).astype(np.int64).tolist(),
        "gaps": {i: n for i, n in enumerate(drivers.gaps.tolist()) if n},
        "disordered": drivers.disordered,
        "companies": dict(zip(companies.sizes.tolist(), companies.runs.tolist(), strict=True)),
        "shared": companies.pairs.tolist(),
    }


def gap_cell(gap: int) -> int:
    """Return the cell of a gap by its definition: half octaves of gap + 1."""
    octave = (gap + 1).bit_length() - 1
    return 2 * octave + (2 * (gap + 1) >= 3 * 2**octave)


def slow(rows: list[tuple[int, int, int]], length: int) -> dict[str, Any]:
    """Return the same by loops over rows of (driver, type, offset), which stand in their order."""
    pairs, apart = ([[0] * TYPES for _ in range(TYPES)] for _ in range(2))
    places = [[0] * TYPES for _ in range(4)]
    runs: list[list[tuple[int, int]]] = []
    for driver, mine in itertools.groupby(rows, key=lambda row: row[0]):
        del driver
        runs.append([(kind, offset) for _, kind, offset in mine])
    sizes: Counter[int] = Counter()
    squares: dict[int, int] = defaultdict(int)
    gaps: Counter[int] = Counter()
    disordered = 0
    shift = max(0, length.bit_length() - 21)
    for run in runs:
        kinds, offsets = [kind for kind, _ in run], [offset for _, offset in run]
        steps = [b - a for a, b in itertools.pairwise(offsets)]

        def follows(i: int, steps: list[int] = steps) -> bool:
            """Return whether event i + 1 is later than event i."""
            return 0 <= i < len(steps) and steps[i] > 0

        def tied(i: int, steps: list[int] = steps) -> bool:
            """Return whether event i + 1 shares the tick of event i."""
            return 0 <= i < len(steps) and steps[i] == 0

        for i, kind in enumerate(kinds):
            first, last = i == 0, i == len(kinds) - 1
            if (first or follows(i - 1)) and (last or follows(i)):
                places[2 * first + last][kind] += 1
            if follows(i) and not tied(i - 1) and not tied(i + 1):
                pairs[kind][kinds[i + 1]] += 1
            if follows(i) and follows(i + 1) and not tied(i - 1) and not tied(i + 2):
                apart[kind][kinds[i + 2]] += 1
        if any(step < 0 for step in steps):
            disordered += 1
            continue
        sizes[len(run)] += 1
        gaps.update(gap_cell(step) for step in steps)
        units = [0, *(offset >> shift for offset in offsets), length >> shift]
        squares[len(run)] += sum((b - a) ** 2 for a, b in itertools.pairwise(units))
    companies: Counter[int] = Counter()
    shared: dict[int, int] = defaultdict(int)
    for _, mine in itertools.groupby(rows, key=lambda row: row[0] // PER_COMPANY):
        cells = Counter(offset * TIME_CELLS // length for _, _, offset in mine)
        companies[cells.total()] += 1
        shared[cells.total()] += sum(n * (n - 1) // 2 for n in cells.values())
    return {
        "pairs": pairs,
        "apart": apart,
        "places": places,
        "drivers": dict(sizes),
        "squares": [squares[n] for n in sorted(squares)],
        "gaps": dict(gaps),
        "disordered": disordered,
        "companies": dict(companies),
        "shared": [shared[n] for n in sorted(shared)],
    }


def counted(rows: list[tuple[int, int, int]], length: int) -> InOrder:
    """Return the order of rows of (driver, type, offset), taken at once."""
    found = InOrder(TYPES, PER_COMPANY, length)
    table = np.array(rows, np.int64).reshape(-1, 3)
    driver, kind, offset = (table[:, i].copy() for i in range(3))
    found.add(driver, kind, offset, time_cell(offset, length))
    return found


def some_rows(length: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """Return rows of few drivers, whose times are often equal or out of order."""
    offsets = st.one_of(st.integers(0, min(6, length - 1)), st.integers(0, length - 1))
    row = st.tuples(st.integers(0, 5), st.integers(0, TYPES - 1), offsets)
    return st.lists(row, max_size=40)


cases = st.sampled_from([7, 1_000_000, 900_000_000, 86_400_000_000]).flatmap(
    lambda length: st.tuples(st.just(length), some_rows(length))
)


@given(case=cases, in_order=st.booleans())
def test_counts_are_those_of_the_slow_twin(case, in_order):
    """Types by neighbours and places, gaps, squares and companies, in order or not."""
    length, rows = case
    rows = sorted(rows, key=lambda row: (row[0], row[2])) if in_order else rows
    assert plain(counted(rows, length), length) == slow(rows, length)


@given(case=cases, cuts=st.lists(st.integers(0, 40), max_size=6), random=st.randoms())
def test_pieces_merge_in_any_groups(case, cuts, random):
    """Pieces that were counted apart give what one look at all gives, however they are grouped."""
    length, rows = case
    if random.random() < 0.7:
        rows = sorted(rows, key=lambda row: (row[0], row[2]))
    ends = [0, *sorted(cuts), len(rows)]
    pieces = [counted(rows[a:b], length) for a, b in itertools.pairwise(ends)]
    while len(pieces) > 1:
        at = random.randrange(len(pieces) - 1)
        before = plain(pieces[at + 1], length)
        joined = InOrder(TYPES, PER_COMPANY, length)
        joined.append(pieces[at])
        joined.append(pieces[at + 1])
        assert plain(pieces[at + 1], length) == before  # what is appended stays as it is
        pieces[at : at + 2] = [joined]
    assert plain(pieces[0], length) == plain(counted(rows, length), length)


@given(case=cases, chunk=st.integers(1, 9))
def test_events_taken_in_chunks_are_the_same(case, chunk):
    """How many events are looked at together changes nothing."""
    length, rows = case
    with pytest.MonkeyPatch.context() as patch:
        whole = plain(counted(rows, length), length)
        patch.setattr(module, "_CHUNK", chunk)
        assert plain(counted(rows, length), length) == whole


def test_a_closed_batch_does_not_go_on_in_the_next():
    """A driver's events in two batches are two runs, and no pair crosses from one to the other."""
    rows = [(0, 0, 10), (0, 1, 20)]
    both = InOrder(TYPES, PER_COMPANY, 900)
    for _ in range(2):
        both.append(counted(rows, 900).closed())
    found = plain(both, 900)
    assert found["drivers"] == {2: 2}
    assert found["companies"] == {2: 2}
    assert sum(map(sum, found["pairs"])) == 2
    assert found["places"][2] == [2, 0, 0]  # two first events of type 0
    assert found["places"][1] == [0, 2, 0]


@given(gap=st.one_of(st.integers(0, 200), st.integers(0, 86_400_000_000)))
def test_a_gap_lies_between_the_edges_of_its_cell(gap):
    """Edges lie half a tick below the whole ticks that begin a cell."""
    edges, cell = gap_edges(), gap_cell(gap)
    assert len(edges) == GAP_CELLS + 1
    assert (np.diff(edges) >= 0).all()
    assert edges[cell] <= gap + 0.5 <= edges[cell + 1]


def test_edges_of_gaps_fit_differences_of_floored_times():
    """Two ticks of L are d apart with 2 (L - d) / L**2, as the ends of cells say to 1 / L**2."""
    length = 1000
    edges = gap_edges()
    apart = np.arange(length)
    chance = np.where(apart, 2 * (length - apart), length) / length**2
    cell = np.array([gap_cell(int(d)) for d in apart])
    for number in range(2, int(cell.max())):  # the first cells hold a tick or less each
        low, high = edges[number : number + 2] / length
        assert chance[cell == number].sum() == pytest.approx(
            (1 - low) ** 2 - (1 - min(high, 1.0)) ** 2, abs=1 / length**2
        )


def test_a_type_that_there_is_not_is_refused(counting):
    """And never counted beyond a table of the kernel."""
    if counting != "kernel":
        pytest.skip("NumPy makes a table of its own")
    for kind in (-1, TYPES, 2**62):
        with pytest.raises(ValueError, match="a type is none of 3"):
            counted([(0, 0, 1), (0, kind, 2), (0, 1, 3), (0, 1, 4), (0, 0, 5)], 900)
