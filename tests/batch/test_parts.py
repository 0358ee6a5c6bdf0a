"""Batches in parts: the same content as one file, whoever makes which part, and when."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from fleets import BASE, content_of, make_fleet
from hypothesis import given, settings
from hypothesis import strategies as st
from support import AT_US, NAME, Cli, Project, examples

from fleetsim.base.clock import Instant
from fleetsim.base.errors import InputError
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.parts import make_part, part_names, shares, tasks_of
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.write import write_batches
from fleetsim.generate.config import make_config
from fleetsim.generate.producer import Producer
from fleetsim.generate.streams import BLOCK

MANY = BASE | {"drivers_per_company": 700, "event_rate_per_driver": 0.7}  # seven companies
KERNELS = ["numpy", "compiled"]


def content(values: dict[str, Any], fleet: Any) -> bytes:
    """Return a batch as one file."""
    return b"".join(lines for _, lines in content_of(make_config(values), fleet, AT_US, 3))


@settings(max_examples=examples(60), deadline=None)
@given(
    eligible=st.lists(st.booleans(), min_size=1, max_size=40),
    drivers=st.integers(1, 3000),
    rate=st.floats(1e-3, 50),
    part_events=st.integers(1, 100_000),
)
def test_shares_cover_every_driver_once(eligible, drivers, rate, part_events) -> None:
    """They follow each other, start with blocks, and none has much more than was asked for."""
    config = make_config(BASE | {"drivers_per_company": drivers, "event_rate_per_driver": rate})
    rows = np.array(eligible)
    found = shares(config, rows, part_events)
    assert found[0].start == 0
    assert found[-1].stop == len(rows) * drivers
    assert all(a.stop == b.start for a, b in pairwise(found))
    assert all(share.start % BLOCK == 0 for share in found)
    working = np.repeat(rows, drivers)
    expected = [working[share.start : share.stop].sum() * rate for share in found]
    assert max(expected) < part_events + BLOCK * rate + 1e-6


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("inactive", [frozenset(), frozenset({0, 3}), frozenset({6})])
def test_parts_made_apart_are_the_batch(tmp_path: Path, kernel, inactive) -> None:
    """Each task knows its own companies alone, is made after a journey, and in any order."""
    config, fleet = make_config(MANY), make_fleet(7, inactive)
    tasks = tasks_of(
        config,
        fleet,
        AT_US,
        3,
        part_events=500,
        events=0,
        format="jsonl",
        folder=tmp_path,
        kernel=kernel,
    )
    sent = [
        pickle.loads(pickle.dumps(task))  # noqa: S301 (our own)
        for task in tasks
    ]
    assert len(sent) > 3
    assert all(len(task.fleet) < len(fleet) for task in sent)
    made = {task.number: make_part(task) for task in reversed(sent)}
    files = sorted(tmp_path.iterdir())
    assert [made[number].name for number in sorted(made)] == [path.name for path in files]
    assert b"".join(path.read_bytes() for path in files) == content(MANY, fleet)
    assert sum(part.rows for part in made.values()) == content(MANY, fleet).count(b"\n")


@pytest.mark.parametrize("format", list(FORMATS))
def test_parts_read_as_one(tmp_path: Path, format) -> None:
    """DuckDB and pandas read them by one glob or list, rows in the order of the single file."""
    config, fleet = make_config(MANY), make_fleet(7)
    written = {}
    for part_events in (None, 800):
        output = tmp_path / str(part_events)
        ((path, meta, _),) = write_batches(
            config,
            fleet,
            output,
            start_us=AT_US,
            started=Instant.now(),
            options=WriteOptions(format=format, part_events=part_events),
        )
        written[part_events] = path, meta
    path, meta = written[800]
    single, whole = written[None]
    assert meta.event_count == whole.event_count
    assert [part.name for part in meta.parts] == part_names(len(meta.parts), format)
    assert len(meta.parts) > 2
    assert sum(part.rows for part in meta.parts) == meta.event_count
    read = "read_parquet" if format == "parquet" else "read_json_auto"
    one, many = (
        duckdb.sql(f"SELECT * FROM {read}('{folder}/{pattern}')").fetchall()  # noqa: S608
        for folder, pattern in ((single, "events.*"), (path, "part-*"))
    )
    assert many == one
    if format == "jsonl.zst":
        return  # pandas reads it with a library that the kit does not need
    reader = pd.read_parquet if format == "parquet" else pd.read_json
    options = {} if format == "parquet" else {"lines": True}
    frames = [reader(file, **options) for file in sorted(path.glob("part-*"))]
    pd.testing.assert_frame_equal(
        pd.concat(frames, ignore_index=True), reader(next(single.glob("events.*")), **options)
    )


def test_an_error_survives_its_way_from_a_worker() -> None:
    """With its place, all of its faults, and what to do next."""
    error = InputError("config.yaml", "one", "two", next_step="mend it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    assert (again.where, again.faults, again.next_step) == (
        "config.yaml",
        ("one", "two"),
        "mend it",
    )
    assert (str(again), again.exit_code) == (str(error), 2)


def test_names_sort_in_the_order_of_the_content() -> None:
    """They are wide enough for the batch."""
    for count in (1, 11, 1_000_000, 1_000_001):
        names = part_names(count, "jsonl.gz")
        assert names == sorted(names)
        assert len({len(name) for name in names}) == 1
    assert part_names(1, "jsonl") == ["part-000000.jsonl"]
    assert len(part_names(1_000_001, "jsonl")[0]) == len("part-0000000.jsonl")


def test_the_command_makes_parts_once(project: Project, fleetsim_cli: Cli) -> None:
    """The same command again touches nothing; another layout is another batch."""
    project.write(drivers_per_company=1000, event_rate_per_driver=1)
    assert fleetsim_cli(*project.make_companies()).code == 0
    command = project.make_events("--part-events", 2000)
    assert fleetsim_cli(*command).code == 0
    first = fleetsim_cli(*command)
    assert (first.code, "stood there already" in first.out) == (0, True)
    assert fleetsim_cli("verify", project.batch).code == 0
    other = fleetsim_cli(*project.make_events())
    assert other.code == 2
    assert "part_events is 2000, asked for None" in other.err
    assert fleetsim_cli(*project.make_events("--force")).code == 0
    assert {path.name for path in project.batch.iterdir()} == {"events.jsonl", "batch_meta.json"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda part: part.unlink(), "part-000001.jsonl: missing"),
        (lambda part: part.write_bytes(part.read_bytes()[:-9]), "part-000001.jsonl: ends within"),
        (lambda part: part.write_bytes(part.read_bytes() * 2), "lines more than"),
    ],
)
def test_a_damaged_part_is_found(project: Project, fleetsim_cli: Cli, spoil, message) -> None:
    """By verify, and by the command that would take the batch for finished."""
    project.write(drivers_per_company=1000, event_rate_per_driver=1)
    assert fleetsim_cli(*project.make_companies()).code == 0
    command = project.make_events("--part-events", 2000)
    assert fleetsim_cli(*command).code == 0
    spoil(project.batch / "part-000001.jsonl")
    done = fleetsim_cli("verify", project.batch)
    assert done.code == 3
    assert message in done.out
    again = fleetsim_cli(*command)
    assert again.code == 2
    assert "part-000001.jsonl" in again.err


def test_a_record_that_lies_of_a_part_is_found(project: Project, fleetsim_cli: Cli) -> None:
    """Rows, bytes and hashes are held to what the batch has."""
    project.write(drivers_per_company=1000, event_rate_per_driver=1)
    assert fleetsim_cli(*project.make_companies()).code == 0
    assert fleetsim_cli(*project.make_events("--part-events", 2000)).code == 0
    record = project.batch / "batch_meta.json"
    meta = json.loads(record.read_text())
    meta["parts"][1]["rows"] += 1
    meta["parts"][2]["sha256"] = "0" * 64
    record.write_text(json.dumps(meta))
    done = fleetsim_cli("verify", project.batch)
    assert done.code == 3
    assert "part-000001.jsonl: rows is" in done.out
    assert "part-000002.jsonl: sha256 is" in done.out


def test_one_producer_makes_parts_and_batches(tmp_path: Path) -> None:
    """Its room is used again, from whatever driver a part begins."""
    config, fleet = make_config(MANY), make_fleet(7)
    ranges = shares(config, fleet.eligible(AT_US), 500)
    with Producer(config, fleet, 0, kernel="compiled", jobs=2) as producer:
        for _ in range(2):
            parts = [producer.content(AT_US, 3, drivers) for drivers in ranges]
            made = b"".join(lines for part in parts for _, lines in part)
            assert made == content(MANY, fleet)
            assert b"".join(lines for _, lines in producer.content(AT_US, 3)) == made


def test_what_a_killed_command_left_is_cleared(project: Project, fleetsim_cli: Cli) -> None:
    """Hidden folders of this and of other batches go; the batch is there."""
    assert fleetsim_cli(*project.make_companies()).code == 0
    for name in (f".{NAME}.0badcafe.partial", ".20240101T000000Z.partial"):
        (project.events / name).mkdir(parents=True)
    assert fleetsim_cli(*project.make_events()).code == 0
    assert [path.name for path in project.events.iterdir()] == [NAME]
