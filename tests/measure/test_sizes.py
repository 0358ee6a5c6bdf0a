"""Measuring at many sizes: the plan, the real commands, and what is refused before."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from analysis import config_of
from hypothesis import given
from hypothesis import strategies as st
from support import AT, NAME

from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.generate.threads import cores
from fleetsim.kinds.scaling import sizes
from fleetsim.kinds.scaling.sizes import measure_sizes
from fleetsim.measure import series
from fleetsim.measure.child import Child
from fleetsim.measure.series import (
    Size,
    check_room,
    config_of_size,
    path_of,
    running_order,
    size_faults,
)

#: 1000 events a company.
WIDE = {"drivers_per_company": 100, "event_rate_per_driver": 10.0}


def sizes_of(*rows: tuple[int, int]) -> list[Size]:
    """Return sizes of events and repeats."""
    return [Size(events=events, repeats=repeats) for events, repeats in rows]


@given(
    repeats=st.lists(st.integers(2, 12), min_size=1, max_size=6),
    seed=st.integers(0, 2**64 - 1),
)
def test_the_order_holds_every_repeat_and_mixes_the_sizes(repeats, seed) -> None:
    """Each size as often as it has repeats, spread over the rounds, the same for a seed."""
    plan = sizes_of(*((100 * (k + 1), n) for k, n in enumerate(repeats)))
    order = running_order(plan, seed)
    assert Counter(order) == {size: size.repeats for size in plan}
    assert order == running_order(plan, seed)
    most = max(plan, key=lambda size: size.repeats)
    seen = 0
    for size in order:  # no size is ever ahead of its share of the rounds by more than one
        seen += size is most
        for other in plan:
            ran = order[: order.index(size)].count(other)
            assert ran <= other.repeats
    rounds = [order.index(size) for size in plan if size.repeats == most.repeats]
    assert max(rounds) < len(plan)  # the first round has all of these


def test_a_size_with_few_repeats_is_spread_over_the_run() -> None:
    """It neither begins nor ends together with the others."""
    few, many = sizes_of((100, 2), (200, 10))
    order = running_order([few, many], 1)
    first, second = (place for place, size in enumerate(order) if size is few)
    assert second - first >= 4
    assert {tuple(order), tuple(running_order([few, many], 2))} != {tuple(order)}


def test_a_size_sets_the_number_of_companies_and_nothing_else() -> None:
    """As many as its events take, inactive ones counted in."""
    config = config_of(**WIDE, seed=9)
    made = config_of_size(config, Size(events=20_000, repeats=2))
    assert made.number_of_companies == 20
    assert msgspec.structs.replace(made, number_of_companies=100) == config
    half = config_of_size(config_of(**WIDE, active_fraction=0.5), Size(events=20_000, repeats=2))
    assert half.number_of_companies == 40


@pytest.mark.parametrize(
    ("events", "path"), [(999_999, "numpy"), (1_000_000, "compiled"), (100, "numpy")]
)
def test_the_path_is_the_commands_own(events: int, path: str) -> None:
    """It changes at a million expected events, as the generator's choice does."""
    assert path_of(Size(events=events, repeats=2)) == path


@pytest.mark.parametrize(
    ("values", "events", "fault"),
    [
        (WIDE, 1000, None),
        (WIDE, 1050, None),  # 5 % off is near enough; the lines are counted
        (WIDE, 1500, "1500 events are no whole number of companies, which have 1000 events each"),
        (WIDE, 400, "400 events are no whole number of companies"),
        ({"event_rate_per_driver": 0}, 1000, "no event is expected of any company"),
        ({"active_fraction": 0.0}, 1000, "no event is expected of any company"),
        (
            {"drivers_per_company": 1, "event_rate_per_driver": 1.0},
            10**10,
            "10000000000 events take 10000000000 companies; allowed: 1000000000",
        ),
    ],
)
def test_sizes_that_cannot_be_made_are_named(values, events: int, fault: str | None) -> None:
    """One phrase each, with what a company has."""
    found = size_faults(config_of(**values), sizes_of((events, 2)))
    assert len(found) == (fault is not None)
    assert fault is None or found[0].startswith(fault)


def test_a_full_disk_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest file has to fit, with what is needed and what is free in the message."""
    plan = sizes_of((1000, 5), (100_000, 5))
    config = config_of(**WIDE)
    monkeypatch.setattr(series, "free_bytes", lambda _: 30_000_000)
    check_room(config, plan, tmp_path)
    monkeypatch.setattr(series, "free_bytes", lambda _: 20_000_000)
    message = (
        r"results: the largest size, 100000 events, needs 0\.026\d? GB .* 0\.02 GB free\n  next"
    )
    with pytest.raises(InputError, match=message):
        check_room(config, plan, tmp_path)
    monkeypatch.setattr(series, "free_bytes", lambda _: None)
    check_room(config, plan, tmp_path)


def test_runs_are_those_of_real_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both paths by the real command: counted, read back, recorded, and nothing left behind."""
    monkeypatch.setattr(series, "LARGE", 3000)
    seen = []
    real = sizes.count_and_hash

    def look(path: Path) -> tuple[int, int, str]:
        content = path.read_bytes()
        left = [p for p in tmp_path.rglob("events.jsonl") if p != path]
        seen.append((len(content.splitlines()), len(content), hashlib.sha256(content).hexdigest()))
        assert left == []  # one file of events at a time
        assert path.parent.name == NAME
        return real(path)

    monkeypatch.setattr(sizes, "count_and_hash", look)
    told = []
    run_child = series.run_child

    def listen(arguments: list[str], folder: Path) -> Any:
        told.extend(b for a, b in pairwise(arguments) if a == "--kernel")
        return run_child(arguments, folder)

    monkeypatch.setattr(series, "run_child", listen)
    plan, steps = sizes_of((1000, 3), (3000, 2)), []
    runs = measure_sizes(config_of(**WIDE), plan, tmp_path, interval=AT, progress=steps.append)
    assert list(tmp_path.iterdir()) == []
    assert [run.events for run in runs] == [size.events for size in running_order(plan, 42)]
    assert steps == [1] * 5
    # The first process of each path is not counted.
    assert [(run.lines, run.bytes, run.sha256) for run in runs] == seen[2:]
    for run in runs:
        assert run.as_recorded
        assert run.lines == run.counted
        assert abs(run.lines - run.events) < 5 * run.events**0.5
        assert run.path == ("numpy" if run.events == 1000 else "compiled")
        assert run.companies == run.events // 1000
        assert 0 < run.generation_seconds < run.process_seconds
        assert 0 < run.cpu_seconds < cores() * run.process_seconds
        assert run.peak_rss_bytes > 10e6
    assert len({run.sha256 for run in runs}) == 2
    assert sorted(told[:2]) == ["compiled", "numpy"]
    assert told[2:] == [run.path for run in runs]


def test_what_was_begun_is_gone_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that fails surfaces, and its files do not stay."""

    def fail(path: Path) -> tuple[int, int, str]:
        raise FleetsimError("cannot be read")

    monkeypatch.setattr(sizes, "count_and_hash", fail)
    with pytest.raises(FleetsimError, match="cannot be read"):
        measure_sizes(config_of(**WIDE), sizes_of((1000, 2)), tmp_path, interval=AT)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_not_as_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not what its record says is a finding, and no error."""
    real = series.run_child

    def spoil(arguments: list[str], folder: Path) -> Child:
        child = real(arguments, folder)
        for path in folder.glob("events/*/events.jsonl"):
            path.write_bytes(path.read_bytes() + b"{}\n")
        return child

    monkeypatch.setattr(series, "run_child", spoil)
    runs = measure_sizes(config_of(**WIDE), sizes_of((1000, 2)), tmp_path, interval=AT)
    assert not any(run.as_recorded for run in runs)
    assert all(run.lines == run.counted + 1 for run in runs)
