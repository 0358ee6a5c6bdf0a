"""Partial tallies: merged in any groups they are the tally of one look at all lines."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fleets import BASE
from hypothesis import given, settings
from hypothesis import strategies as st
from support import AT_US, examples

from fleetsim.base.clock import format_time
from fleetsim.generate.config import make_config
from fleetsim.generate.fleet import Fleet
from fleetsim.tally import partial as module
from fleetsim.tally.faults import FaultKind
from fleetsim.tally.file import Events, FileReader, empty_order
from fleetsim.tally.partial import Counts, Growing, Partial, count, merge

CONFIG = make_config(BASE | {"drivers_per_company": 3, "number_of_companies": 2})
IDS = [str(UUID(int=number, version=4)) for number in (7, 3)]
FLEET = Fleet(
    company_id=np.frombuffer("".join(IDS).encode(), np.uint8).reshape(-1, 36),
    active=np.ones(2, np.bool_),
    created_us=np.zeros(2, np.int64),
    sha256="",
)
TYPES = sorted(CONFIG.event_types)
LENGTH = CONFIG.interval_us
DAMAGED = [b"\n", b"x\n", b"{}\r\n", b'{"event_id":"\xff"}\n']


def spelled(text: bytes) -> bytes:
    """Return an event in another JSON spelling, which can be read all the same."""
    return json.dumps(json.loads(text)).encode() + b"\n"


def without_type(text: bytes) -> bytes:
    """Return a line that names no type, but has an id and a time."""
    row = json.loads(text)
    del row["event_type"]
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def line(driver: int, offset: int, kind: int, truck: int = 0) -> bytes:
    """Return an event; a driver of 9 is unknown, and so is one with another's truck."""
    company = IDS[driver // 3 % 2]
    return (
        f'{{"event_id":"{UUID(int=offset + 99, version=4)}",'
        f'"driver_id":"DRV-{company}-{driver % 3 if driver < 9 else 7:03d}",'
        f'"company_id":"{company}","truck_id":"TRK-{driver + 1 + truck}",'
        f'"event_type":"{TYPES[kind % len(TYPES)]}",'
        f'"timestamp":"{format_time(AT_US + offset)}"}}\n'
    ).encode()


offsets = st.one_of(st.integers(0, 3), st.integers(LENGTH - 2, LENGTH + 1), st.just(-1))
events = st.builds(line, st.integers(0, 5), offsets, st.integers(0, 2))
strangers = st.builds(line, st.just(9), offsets, st.integers(0, 2))
deviating = st.one_of(events.map(spelled), strangers.map(spelled), events.map(without_type))
rows = st.lists(
    st.one_of(events, events, events, strangers, deviating, st.sampled_from(DAMAGED)), max_size=30
)


def tally(lines: list[bytes], file: int = 0) -> tuple[Partial, list[Events]]:
    """Return the partial of a file with these lines."""
    taken: list[Events] = []
    eligible = np.ones(len(FLEET), np.bool_)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_bytes(b"".join(lines))
        reader = FileReader(CONFIG, FLEET)
        found = reader.read(path, "jsonl", eligible, AT_US, taken.append, file=file)
    assert found.error == ""
    return found.partial, taken


def merged(*partials: Partial) -> Partial:
    """Return the partial of adjacent ones."""
    return merge(partials, empty_order(CONFIG))


def plain(partial: Partial, starts: list[int] | None = None) -> dict[str, Any]:
    """Return a partial as plain data; with `starts`, lines count through the files."""

    def place(file: int, number: int) -> Any:
        return number + starts[file] if starts else (file, number)

    values: dict[str, Any] = {"first": partial.first and place(*partial.first)}
    values["faults"] = [(place(f.file, f.line), f.kind, f[3:]) for f in partial.faults]
    values["causes"] = {cause: n for cause, n in partial.causes.items() if n}
    values["examined"] = {kind: n for kind, n in partial.examined.items() if n}
    for name in ("lines", "timed", "outside"):
        values[name] = getattr(partial, name)
    for name in ("driver_types", "company_types"):
        counts: Counts = getattr(partial, name)
        values[name] = (counts.numbers.tolist(), counts.times.tolist())
    values["by_time"] = partial.types_by_time.tolist()
    for name in ("pairs", "apart", "places", "first", "last"):
        values[f"types {name}"] = getattr(partial.order.types, name).tolist()
    whole = partial.order.closed()
    for name in ("pairs", "apart", "places"):
        values[f"all {name}"] = getattr(whole.types, name).tolist()
    for times in whole.times():
        values |= {
            f"{type(times).__name__} {k}": np.array(v).tolist() for k, v in vars(times).items()
        }
    return values


@settings(max_examples=examples(150), deadline=None)
@given(lines=rows, cuts=st.tuples(st.integers(0, 30), st.integers(0, 30)), in_order=st.booleans())
def test_partials_merge_in_any_groups(lines, cuts, in_order) -> None:
    """Drivers may lie on both sides of a cut, in order or not, with damage anywhere.

    Only two faults of a cause are kept here, so that some are dropped wherever they come from.
    """
    if in_order:
        lines = sorted(lines)
    first, second = sorted(cuts)
    pieces = [lines[:first], lines[first:second], lines[second:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EXAMPLES", 2)
        whole, _ = tally(lines)
        a, b, c = (tally(piece, file)[0] for file, piece in enumerate(pieces))
        together = merged(a, b, c)
        assert plain(together, [0, *np.cumsum([len(p) for p in pieces]).tolist()]) == plain(
            whole, [0]
        )
        assert plain(merged(merged(a, b), c)) == plain(together)
        assert plain(merged(a, merged(b, c))) == plain(together)
        nothing = merged()
        assert plain(merged(nothing, a, nothing)) == plain(a)
        patch.setattr(module, "_PENDING", 0)
        growing = Growing(lambda: empty_order(CONFIG))
        for part in (a, b, c):
            growing.add(part)
        assert plain(growing.finish()) == plain(together)


@given(lines=st.lists(st.one_of(events, events.map(without_type)), max_size=30))
def test_another_spelling_tells_the_same(lines) -> None:
    """Default spaces of json.dumps: the faults of the form come on top, and nothing is lost."""
    one, taken = tally([row for row in lines if b"event_type" in row])
    other, again = tally([spelled(row) for row in lines if b"event_type" in row])
    form = {FaultKind.LINE: other.lines} if other.lines else {}
    assert other.causes - one.causes == Counter({(FaultKind.LINE, "spelling"): other.lines})
    assert set(other.fault_counts) - set(one.fault_counts) <= set(form)
    assert other.examined == one.examined
    for name in ("driver_types", "company_types"):
        for mine, its in zip(
            vars(getattr(one, name)).values(), vars(getattr(other, name)).values(), strict=True
        ):
            assert mine.tolist() == its.tolist()
    for mine, its in zip(taken, again, strict=True):
        assert [column.tolist() for column in mine] == [column.tolist() for column in its]


def test_the_lines_are_what_they_are_said_to_be() -> None:
    """Or else nothing but faults would be merged above."""
    found, _ = tally([line(driver, driver, driver) for driver in range(6)])
    assert (found.timed, found.fault_counts) == (6, {})
    assert (tally([line(0, -1, 0)])[0].outside, tally([line(9, 0, 0)])[0].timed) == (1, 0)


@given(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 10**15)), max_size=40))
def test_counts_are_those_of_numpy(values) -> None:
    """Dense or far apart, and no larger than what there is."""
    counted = count(np.array(values, np.int64))
    numbers, times = np.unique(np.array(values, np.int64), return_counts=True)
    assert counted.numbers.tolist() == numbers.tolist()
    assert counted.times.tolist() == times.tolist()


def test_a_line_that_does_not_follow_another_file_is_a_fault() -> None:
    """The control: two files in the wrong order are found, once, at the later one's line."""
    early, late = tally([b"x\n", line(1, 5, 0)], 1)[0], tally([line(3, 5, 0)], 0)[0]
    found = merged(late, early)
    assert [(f.file, f.line, f.message[:8]) for f in found.faults] == [
        (1, 1, "not vali"),
        (1, 2, "a driver"),
    ]
    assert merged(early, late).fault_counts.total() == 1


@given(parts=st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=6), rising=st.booleans())
def test_sums_of_counts_are_those_of_all_values_together(parts, rising) -> None:
    """Parts that overlap a little, much, or reach back beyond the one before."""
    if rising:
        whole = sorted(value for part in parts for value in part)
        cuts = np.cumsum([len(part) for part in parts])[:-1]
        parts = [part.tolist() for part in np.split(np.array(whole, np.int64), cuts)]
    found = module._added([count(np.array(part, np.int64)) for part in parts])
    wanted = Counter(value for part in parts for value in part)
    assert dict(zip(found.numbers.tolist(), found.times.tolist(), strict=True)) == wanted
    assert (np.diff(found.numbers) > 0).all()
