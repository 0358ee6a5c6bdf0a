"""Ids that stand twice and offsets in order, against a dictionary and a sort."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim.generate.kernel.machine import kept_kernels
from fleetsim.tally import store as module
from fleetsim.tally.store import DuplicateId, EventStore

LENGTH = 1000
words = st.one_of(st.integers(0, 3), st.integers(2**64 - 3, 2**64 - 1), st.integers(0, 2**64 - 1))
ids = st.tuples(words, words)
events = st.lists(st.lists(st.tuples(ids, st.integers(-1, LENGTH - 1)), max_size=20), max_size=5)


def fill(store: EventStore, batches, piece: int) -> None:
    """Give a store batches of (id, offset), piece by piece."""
    for number, batch in enumerate(batches):
        for start in range(0, len(batch), piece):
            part = batch[start : start + piece]
            store.add(
                number,
                np.array([event_id for event_id, _ in part], np.uint64).reshape(-1, 2),
                np.arange(start + 1, start + 1 + len(part)),
                np.array([offset for _, offset in part], np.int64),
            )


def slow_duplicates(batches) -> list[DuplicateId]:
    """Return the ids that stand twice by a dictionary."""
    first: dict[tuple[int, int], tuple[int, int]] = {}
    found = []
    for number, batch in enumerate(batches):
        for line, (event_id, _) in enumerate(batch, 1):
            if event_id in first:
                found.append(DuplicateId(event_id, number, line, *first[event_id]))
            else:
                first[event_id] = number, line
    return found


@settings(max_examples=40)
@given(batches=events, piece=st.integers(1, 12), buffer=st.sampled_from([1, 5, 1 << 18]))
@pytest.mark.slow
def test_a_store_finds_what_a_dictionary_and_a_sort_find(batches, piece, buffer):
    """Duplicates within and over batches in the order of their places; offsets of any span."""
    with pytest.MonkeyPatch.context() as patch, EventStore(LENGTH) as store:
        patch.setattr(module, "BUFFER_EVENTS", buffer)
        fill(store, batches, piece)
        expected = slow_duplicates(batches)
        assert store.duplicates(1000) == (len(expected), expected)
        assert store.duplicates(2) == (len(expected), expected[:2])
        inside = [[o for _, o in batch if o >= 0] for batch in batches]
        for first in range(len(batches)):
            for end in range(first + 1, len(batches) + 1):
                together = [o for piece in store.offsets(first, end) for o in piece.tolist()]
                assert together == sorted(chain.from_iterable(inside[first:end]))
                apart = [
                    [o for piece in pieces for o in piece.tolist()]
                    for pieces in store.offsets_by_batch(first, end)
                ]
                assert apart == [sorted(batch) for batch in inside[first:end]]
                pairs = [
                    pair
                    for us, batch in store.offsets_and_batches(first, end)
                    for pair in zip(us.tolist(), batch.tolist(), strict=True)
                ]
                numbered = enumerate(inside[first:end])
                assert pairs == sorted((o, batch) for batch, row in numbered for o in row)


@pytest.mark.parametrize("run", [2, 3, 5, 700])
def test_runs_of_one_id_that_pieces_cut_are_still_one_run(monkeypatch, run):
    """Six thousand events in pieces of 2048: every event of a run but its first is a duplicate."""
    monkeypatch.setattr(module, "_VECTORS", 1)
    monkeypatch.setattr(module, "BUFFER_EVENTS", 1000)
    rng = np.random.default_rng(run)
    number = rng.permutation(np.arange(6000) // run)  # which id each line has, at random places
    event_id = np.column_stack([number % 7, number * 1_000_003]).astype(np.uint64)
    batches = [[(tuple(row), 0) for row in part.tolist()] for part in np.split(event_id, 3)]
    with EventStore(LENGTH) as store:
        fill(store, batches, 500)
        expected = slow_duplicates(batches)
        assert store.duplicates(25) == (len(expected), expected[:25])
        assert store.duplicates(10_000) == (len(expected), expected)


def test_a_single_pair_that_a_piece_parts_is_found(monkeypatch):
    """The last id of one piece and the first of the next are the only equal ones."""
    monkeypatch.setattr(module, "_VECTORS", 1)
    monkeypatch.setattr(module, "BUFFER_EVENTS", 1000)
    low = np.arange(5000, dtype=np.uint64)
    low[2048] = low[2047]
    event_id = np.column_stack([np.zeros(5000, np.uint64), low])
    with EventStore(LENGTH) as store:
        store.add(0, event_id, np.arange(1, 5001), np.zeros(5000, np.int64))
        assert store.duplicates(9) == (1, [DuplicateId((0, 2047), 0, 2049, 0, 2048)])


def test_few_events_need_neither_duckdb_nor_pandas():
    """Their import takes longer than all that a small batch needs."""
    code = """
import sys
import numpy as np
from fleetsim.tally.store import EventStore
with EventStore(1000) as store:
    store.add(0, np.array([[1, 2], [1, 2]], np.uint64), np.array([1, 2]), np.array([7, 5]))
    assert [piece.tolist() for piece in store.offsets(0, 1)] == [[5, 7]]
    assert store.duplicates(9)[0] == 1
print({"duckdb", "pandas"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_events_outside_their_interval_are_in_no_batch():
    """An offset of -1 stands for no time, in the first batch and in later ones."""
    with EventStore(LENGTH) as store:
        fill(store, [[((0, 1), 3), ((0, 2), -1)], [((0, 3), -1), ((0, 4), 5)]], 9)
        apart = [
            [offset for piece in pieces for offset in piece.tolist()]
            for pieces in store.offsets_by_batch(0, 2)
        ]
        assert apart == [[3], [5]]
        assert [piece.tolist() for piece in store.offsets(0, 2)] == [[3, 5]]


@pytest.mark.parametrize("buffer", [1, 3])
@pytest.mark.parametrize("length", [2**32, 2**32 + 1, 86_400_000_000])
def test_long_intervals_keep_their_last_microsecond(monkeypatch, length, buffer):
    """Offsets up to a day fit, where a batch is one of a million, too."""
    monkeypatch.setattr(module, "BUFFER_EVENTS", buffer)
    with EventStore(length) as store:
        for batch in (0, 1, 10**6):
            one = np.array([[batch, 1]], np.uint64)
            store.add(batch, one, np.array([10**12]), np.array([length - 1]))
        assert [piece.tolist() for piece in store.offsets(0, 10**6 + 1)] == [[length - 1] * 3]
        assert [piece.tolist() for piece in store.offsets(10**6, 10**6 + 1)] == [[length - 1]]
        assert store.duplicates(9) == (0, [])


@pytest.mark.parametrize("kind", ["random", "all the same", "half the same"])
def test_what_memory_does_not_hold_is_spilled_and_cleared(monkeypatch, tmp_path, kind):
    """Three million events of 32 bytes pass through 64 MB, and nothing is left behind."""
    monkeypatch.setattr(module, "MEMORY", "64MB")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rng = np.random.default_rng(1)
    step, pieces = 50_000, 60
    first = np.zeros(2, np.uint64)
    with EventStore(900_000_000) as store:
        for number in range(pieces):
            event_id = rng.integers(0, 2**64, (step, 2), np.uint64)
            if kind == "all the same":
                event_id[:] = 7
            elif kind == "half the same":
                event_id[:, 1] = 7  # the half that is looked at first
            if number == pieces - 1 and kind != "all the same":
                event_id[-1] = first
            elif number == 0:
                first = event_id[0].copy()
            line = np.arange(number * step + 1, (number + 1) * step + 1)
            store.add(0, event_id, line, rng.integers(900_000_000, size=step))
        total, duplicates = store.duplicates(3)
        assert sum(len(piece) for piece in store.offsets(0, 1)) == step * pieces
        assert list(Path(tmp_path).iterdir()) != []
    assert list(Path(tmp_path).iterdir()) == []
    if kind == "all the same":
        assert total == step * pieces - 1
        assert [duplicate.line for duplicate in duplicates] == [2, 3, 4]
    else:
        assert total == 1
        assert (duplicates[0].line, duplicates[0].first_line) == (step * pieces, 1)


# The kernel that sees whether words are new.


def seen_as_new(kernels, words, table: int, tries: int = 1000) -> bool:
    """Return whether the kernel takes all words for different ones, given in two pieces."""
    places, half = np.zeros(table, np.uint64), len(words) // 2
    pieces = words[:half], words[half:]
    return all(kernels.all_new(np.array(piece, np.uint64), places, tries) for piece in pieces)


@settings(max_examples=100)
@given(
    words=st.lists(words, max_size=200),
    stride=st.integers(0, 2**64 - 1),
    table=st.sampled_from([128, 256, 1024]),
)
def test_words_that_stand_twice_are_never_new(reader, words, stride, table):
    """And those that differ are, where the table has room; also rising ones, and multiples."""
    kernels = kept_kernels()
    if kernels is None:
        pytest.skip("no machine code here")
    many = list(dict.fromkeys([*words, *(i * stride % 2**64 for i in range(50))]))[:200]
    assert seen_as_new(kernels, many, table)
    assert not seen_as_new(kernels, [*many, many[len(many) // 2]], table)


def test_a_table_that_is_full_says_that_it_may_be(reader):
    """More words than places, or too many tries: no word is looked for without end."""
    kernels = kept_kernels()
    if kernels is None:
        pytest.skip("no machine code here")
    assert seen_as_new(kernels, range(256), 128)
    assert not seen_as_new(kernels, range(257), 128)
    assert not seen_as_new(kernels, range(256), 128, tries=2)


@pytest.mark.parametrize("buffer", [500, 5000])
@pytest.mark.parametrize("step", [1, 2, 1 << 20, 1 << 63])
def test_ids_are_compared_in_turns(monkeypatch, reader, step, buffer):
    """Whatever their last bits are; one that stands twice is found in any of the turns."""
    monkeypatch.setattr(module, "BUFFER_EVENTS", buffer)
    monkeypatch.setattr(module, "TURN_IDS", 300)
    monkeypatch.setattr(module, "_TABLE", 512)
    low = np.arange(2000, dtype=np.uint64) * np.uint64(step)
    high = np.arange(2000, dtype=np.uint64)
    line = np.arange(1, 2001)
    with EventStore(LENGTH) as store:
        store.add(0, np.column_stack([high, low]), line, np.zeros(2000, np.int64))
        assert store.duplicates(9) == (0, [])
        again = np.array([[1234, low[1234]]], np.uint64)
        store.add(0, again, np.array([2001]), np.zeros(1, np.int64))
        found = DuplicateId((1234, int(low[1234])), 0, 2001, 0, 1235)
        assert store.duplicates(9) == (1, [found])
