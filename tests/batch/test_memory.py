"""Batches in memory against those on the disk."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pandas as pd
import pytest
from support import AT, AT_US

import fleetsim
from fleetsim.base.clock import Instant
from fleetsim.base.errors import InputError
from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.batch.memory import EventBatch, generate_batch, make_fleet
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.write import write_batches
from fleetsim.generate.config import make_config

KERNELS = ["numpy", "compiled"]


@pytest.fixture
def written(tmp_path, small):
    """Return a configuration, its companies file, and the lines of a batch that was written."""
    config = make_config(small | {"active_fraction": 0.6, "event_types": {'"a"': 0.5, "b\n": 0.5}})
    companies = tmp_path / "companies.jsonl"
    write_companies(config, companies, at_us=AT_US, now_us=0)
    (result,) = write_batches(
        config,
        read_companies(companies),
        tmp_path / "events",
        start_us=AT_US,
        started=Instant.now(),
        options=WriteOptions(ordinal=3),
    )
    return config, companies, (result.path / "events.jsonl").read_bytes()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("source", ["file", "text", "fleet", "configuration"])
def test_a_batch_in_memory_is_the_one_on_the_disk(written, kernel, source) -> None:
    """From the companies file or from the configuration alone: the same lines."""
    config, path, content = written
    companies = {"file": path, "text": str(path), "fleet": read_companies(path)}.get(source)
    batch = generate_batch(config, companies=companies, interval_start=AT, ordinal=3, kernel=kernel)
    assert batch.lines() == content
    assert len(batch) == content.count(b"\n")
    assert batch.fleet.sha256 == read_companies(path).sha256
    assert repr(batch) == (
        f"<EventBatch of {len(batch)} events from 2025-11-08T12:00:00.000000Z, ordinal 3>"
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_frame_holds_the_lines(written, kernel) -> None:
    """Row for row and column for column, with types for exploration."""
    config, path, content = written
    frame = fleetsim.generate_batch(
        config, companies=path, interval_start=AT, ordinal=3, as_frame=True, kernel=kernel
    )
    rows = [json.loads(line) for line in content.splitlines()]
    assert list(frame.columns) == list(rows[0])
    for name in list(rows[0])[:-1]:
        assert frame[name].astype(str).tolist() == [row[name] for row in rows]
        assert isinstance(frame[name].dtype, pd.CategoricalDtype) == (name != "event_id")
    assert str(frame["timestamp"].dtype) == "datetime64[us, UTC]"
    assert frame["timestamp"].tolist() == [pd.Timestamp(row["timestamp"]) for row in rows]


def test_a_frame_in_several_tables_is_one(written, monkeypatch) -> None:
    """Categories of all tables are united."""
    config, path, _ = written
    batch = generate_batch(config, companies=path, interval_start=AT, ordinal=3)
    whole = batch.frame()
    monkeypatch.setattr("fleetsim.batch.memory._TABLE_EVENTS", 4)
    pd.testing.assert_frame_equal(batch.frame(), whole)


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_event_at_all_is_an_empty_frame(small, kernel) -> None:
    """With the columns and types of any other."""
    config = make_config(small | {"event_rate_per_driver": 0})
    empty = generate_batch(config, as_frame=True, kernel=kernel)
    some = generate_batch(make_config(small), as_frame=True)
    assert len(empty) == 0
    assert list(empty.columns) == list(some.columns)
    assert str(empty["timestamp"].dtype) == "datetime64[us, UTC]"
    assert generate_batch(config, kernel=kernel).lines() == b""


def test_the_interval_starts_now_by_default(small) -> None:
    """Between two readings of the clock."""
    before = Instant.now().wall_us
    batch = generate_batch(make_config(small))
    assert before <= batch.start_us <= Instant.now().wall_us
    assert batch.fleet.eligible(batch.start_us).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ordinal": -1}, "ordinal: found -1; allowed: 0 to"),
        ({"ordinal": 2**64}, "ordinal: found 18446744073709551616"),
        ({"interval_start": "noon"}, "interval_start: found 'noon'; allowed: a time"),
        ({"companies": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
    ],
)
def test_bad_arguments_are_refused(small, options, message) -> None:
    """With the errors of the commands."""
    with pytest.raises(fleetsim.InputError, match=message):
        generate_batch(make_config(small), **options)


@pytest.mark.parametrize("hours", [0, 5, -11])
def test_a_datetime_with_its_zone_starts_an_interval(small, hours: int) -> None:
    """The same moment in any zone gives the same events, and the same companies."""
    config = make_config(small)
    moment = datetime(2025, 11, 8, 12, tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
    batch = generate_batch(config, interval_start=moment)
    assert isinstance(batch, EventBatch)
    assert batch.start_us == AT_US
    by_text = generate_batch(config, interval_start=AT)
    assert isinstance(by_text, EventBatch)
    assert batch.lines() == by_text.lines()
    assert make_fleet(config, at=moment).sha256 == make_fleet(config, at=AT).sha256


def test_a_datetime_without_a_zone_is_refused(small) -> None:
    """It could be any of a day's moments; a finer one than a microsecond is none of ours."""
    config = make_config(small)
    naive = datetime(2025, 11, 8, 12)
    with pytest.raises(InputError, match=r"interval_start: found .*tzinfo=datetime\.timezone\.utc"):
        generate_batch(config, interval_start=naive)
    with pytest.raises(InputError, match=r"at: found .*tzinfo=datetime\.timezone\.utc"):
        make_fleet(config, at=naive)
    for fine in ("2025-11-08T12:00:00.0000001Z", pd.Timestamp("2025-11-08T12:00:00.000000001Z")):
        with pytest.raises(InputError, match=r"six decimals at most"):
            generate_batch(config, interval_start=fine)
