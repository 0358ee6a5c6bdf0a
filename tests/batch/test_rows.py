"""Rows of Parquet: one line each, whatever stands in them, and in whatever types they come."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fleets import NASTY
from support import NAME, Cli, Project

from fleetsim.batch import rows
from fleetsim.batch.rows import read_rows

FINDING = 3
TEXTS = ["event_id", "driver_id", "company_id", "truck_id", "event_type"]


@pytest.fixture
def data(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a data set of one batch in Parquet, with names of types that need escapes."""
    project.write(event_types=NASTY, event_rate_per_driver=20)
    assert fleetsim_cli(*project.make_events("--format", "parquet")).code == 0
    return project


def events_file(data: Project) -> Path:
    return data.batch / "events.parquet"


def lines_of(path: Path, longest: int = 1000) -> list[bytes]:
    with read_rows(path, longest) as file:
        return file.read().splitlines(keepends=True)


def audited(data: Project, cli: Cli) -> tuple[int, list[str], int]:
    """Return exit code, findings and number of lines."""
    done = cli("audit", data.events.parent, "--config", data.config, "--companies",
               data.companies, "--json")  # fmt: skip
    assert done.err == ""
    found = json.loads(done.out)
    return done.code, found["findings"], found["event_count"]


def verified(data: Project, cli: Cli) -> tuple[int, list[str]]:
    done = cli("verify", data.batch, "--companies", data.companies, "--json")
    assert done.err == ""
    return done.code, json.loads(done.out)[0]["findings"]


def with_column(table: Any, name: str, values: Any, kind: Any = None) -> Any:
    index = table.schema.names.index(name)
    return table.set_column(index, name, pa.array(values, kind) if kind else values)


def with_value(table: Any, name: str, row: int, value: Any) -> Any:
    values = table[name].to_pylist()
    values[row] = value
    return with_column(table, name, values, table[name].type)


FORGED = '","event_type":"x","timestamp":"2025-11-08T12:00:00.000000Z"}\n{"event_id":"'
TEXTS_OF_NO_LINE = [
    *["\n", "\r\n", "\0", "\t", '"', "\\", "\x7f", "\u2028", "\u0085", "é", "🚚", "", " "],
    '"}\n',
    FORGED,
]


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_makes_no_line_of_its_own(data: Project, fleetsim_cli: Cli, name: str) -> None:
    """As many lines as rows, each JSON with the row's own text; the row is a fault."""
    path = events_file(data)
    table = pq.read_table(path)
    honest = lines_of(path)
    random.seed(name)
    places = random.sample(range(len(table)), len(TEXTS_OF_NO_LINE))
    values = table[name].to_pylist()
    for row, text in zip(places, TEXTS_OF_NO_LINE, strict=True):
        values[row] = f"x{values[row]}{text}" if text else text
    pq.write_table(with_column(table, name, values, pa.string()), path)
    lines = lines_of(path)
    assert len(lines) == len(table)
    assert [json.loads(line)[name] for line in lines] == values
    assert [i for i, line in enumerate(lines) if line != honest[i]] == sorted(places)
    code, findings, count = audited(data, fleetsim_cli)
    assert (code, count) == (FINDING, len(table))
    for row in places:
        assert any(f"{NAME} line {row + 1}: " in finding for finding in findings)
    assert verified(data, fleetsim_cli)[0] == FINDING


def test_a_forged_event_inside_of_a_text_is_found(data: Project, fleetsim_cli: Cli) -> None:
    """Two events in the text of one: the row before and the row itself are no two lines."""
    path = events_file(data)
    table = pq.read_table(path)
    first, second = lines_of(path)[6:8]
    head, tail = b'"truck_id":"', b'","event_type"'
    start, end = first.index(head) + len(head), second.index(tail)
    truck = (first[start:] + second[:end]).decode()
    merged = pa.concat_tables([table.slice(0, 6), table.slice(7)])
    event = merged.slice(6, 1)
    for name in ("event_id", "driver_id", "company_id"):
        event = with_value(event, name, 0, table[name][6].as_py())
    event = with_value(event, "truck_id", 0, truck)
    pq.write_table(pa.concat_tables([merged.slice(0, 6), event, merged.slice(7)]), path)
    code, findings, count = audited(data, fleetsim_cli)
    assert (code, count) == (FINDING, len(table) - 1)
    assert any(f"{NAME} line 7: truck_id is " in finding for finding in findings)
    code, found = verified(data, fleetsim_cli)
    assert code == FINDING
    assert found[0].startswith("events.parquet: line 7 is ")


@pytest.mark.parametrize("name", [*TEXTS, "timestamp"])
def test_a_null_is_no_empty_text(data: Project, fleetsim_cli: Cli, name: str) -> None:
    """Nor is it anything that a type may be called."""
    data.write(event_types={"null": 0.5, "None": 0.5})
    assert fleetsim_cli(*data.make_events("--format", "parquet", "--force")).code == 0
    path = events_file(data)
    assert audited(data, fleetsim_cli)[1] == []
    pq.write_table(with_value(pq.read_table(path), name, 3, None), path)
    assert json.loads(lines_of(path)[3])[name] is None
    code, findings, _ = audited(data, fleetsim_cli)
    assert code == FINDING
    assert any(f"{NAME} line 4: {name} is null, not text" in finding for finding in findings)


def test_bytes_that_are_no_text_are_a_fault_of_their_row(data: Project, fleetsim_cli: Cli) -> None:
    """The others are read; a line feed among them makes no line."""
    path = events_file(data)
    table = pq.read_table(path)
    values = [text.encode() for text in table["truck_id"].to_pylist()]
    values[4] = b'TRK-\xff\n"\\'
    column = pa.array(values, pa.binary()).view(pa.string())
    pq.write_table(with_column(table, "truck_id", column), path)
    assert len(lines_of(path)) == len(table)
    code, findings, count = audited(data, fleetsim_cli)
    assert (code, count) == (FINDING, len(table))
    assert any(f"{NAME} line 5: not UTF-8: byte" in finding for finding in findings)


def test_a_long_text_is_cut_and_is_none_that_is_allowed(data: Project) -> None:
    """It says how long it was; as many bytes as the longest name are not cut."""
    path = events_file(data)
    table = pq.read_table(path)
    values = table["event_type"].to_pylist()
    values[:3] = ["a" * 100, "b" * 101, "é" * 60]
    pq.write_table(with_column(table, "event_type", values, pa.string()), path)
    first, second, third = [json.loads(line)["event_type"] for line in lines_of(path, 100)[:3]]
    assert first == "a" * 100
    assert second == "101 bytes that begin with " + "b" * 100
    assert third == "120 bytes that begin with " + "é" * 50


# --- the same rows in other clothes


def kinds(table: Any, kind: Any) -> Any:
    for name in TEXTS:
        table = with_column(table, name, table[name].cast(kind))
    return table


def coded(table: Any, values: Any) -> Any:
    for name in TEXTS:
        column = table[name].cast(values).combine_chunks().dictionary_encode()
        table = with_column(table, name, column)
    return table


def at(table: Any, unit: str, zone: str | None) -> Any:
    """Return a table with whole units of time, and its own times in another type."""
    return with_column(table, "timestamp", table["timestamp"].cast(pa.timestamp(unit, zone)))


def not_null(table: Any) -> Any:
    return table.cast(pa.schema([field.with_nullable(False) for field in table.schema]))


CLOTHES: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "large_string": (lambda t: kinds(t, pa.large_string()), {}),
    "string_view": (lambda t: kinds(t, pa.string_view()), {}),
    "dictionary": (lambda t: coded(t, pa.string()), {}),
    "dictionary of large_string": (lambda t: coded(t, pa.large_string()), {}),
    "no dictionary": (lambda t: t, {"use_dictionary": False}),
    "front coded": (
        lambda t: t,
        {"use_dictionary": False, "column_encoding": dict.fromkeys(TEXTS, "DELTA_BYTE_ARRAY")},
    ),
    "lengths apart": (
        lambda t: t,
        {
            "use_dictionary": False,
            "column_encoding": dict.fromkeys(TEXTS, "DELTA_LENGTH_BYTE_ARRAY"),
        },
    ),
    "NOT NULL": (not_null, {}),
    "nanoseconds": (lambda t: at(t, "ns", "UTC"), {}),
    "Etc/UTC": (lambda t: at(t, "us", "Etc/UTC"), {}),
    "+00:00": (lambda t: at(t, "us", "+00:00"), {}),
    "Z": (lambda t: at(t, "ns", "Z"), {}),
    "another order": (lambda t: t.select(t.schema.names[::-1]), {}),
    "rows alone": (lambda t: t, {"row_group_size": 1}),
    "small groups": (lambda t: t, {"row_group_size": 7}),
    "small pages": (lambda t: t, {"data_page_size": 100, "write_batch_size": 5}),
    "pages of version 2": (lambda t: t, {"data_page_version": "2.0", "compression": "gzip"}),
    "without Arrow's schema": (lambda t: t, {"store_schema": False}),
}


@pytest.mark.parametrize("clothes", list(CLOTHES))
@pytest.mark.parametrize("at_once", [5, 1 << 15])
def test_the_same_rows_in_other_clothes(
    data: Project, monkeypatch: pytest.MonkeyPatch, clothes: str, at_once: int
) -> None:
    """Byte for byte the same lines."""
    monkeypatch.setattr(rows, "ROWS", at_once)
    monkeypatch.setattr(rows, "PIECE_BYTES", 100 * at_once)
    path = events_file(data)
    lines = lines_of(path)
    change, options = CLOTHES[clothes]
    pq.write_table(change(pq.read_table(path)), path, **options)
    assert lines_of(path) == lines


def test_other_clothes_are_in_order_but_for_the_record(data: Project, fleetsim_cli: Cli) -> None:
    """The figures are those of the same rows; only size and hash are others."""
    path = events_file(data)
    pq.write_table(at(coded(pq.read_table(path), pa.large_string()), "ns", "Etc/UTC"), path)
    code, findings, _ = audited(data, fleetsim_cli)
    assert code == FINDING
    assert all(f"{NAME}/batch_meta.json: " in finding for finding in findings)
    (data.batch / "batch_meta.json").unlink()
    findings = audited(data, fleetsim_cli)[1]
    assert all("batch_meta.json" in finding for finding in findings)


@pytest.mark.parametrize("coded", [True, False])
def test_a_group_without_rows_is_read(data: Project, coded: bool) -> None:
    """As pyarrow writes one: its columns have a dictionary and no page."""
    path = events_file(data)
    before, table = lines_of(path), pq.read_table(path)
    with pq.ParquetWriter(path, table.schema, use_dictionary=coded) as writer:
        for rows in (table.slice(0, 0), table.slice(0, 100), table.slice(0, 0), table.slice(100)):
            writer.write_table(rows)
    assert pq.ParquetFile(path).num_row_groups == 4
    assert lines_of(path) == before
    pq.write_table(table.slice(0, 0), path, use_dictionary=coded)
    assert lines_of(path) == []


def test_milliseconds_are_whole_microseconds(data: Project) -> None:
    """Three digits follow."""
    path = events_file(data)
    table = pq.read_table(path)
    whole = [time.replace(microsecond=123_000) for time in table["timestamp"].to_pylist()]
    table = with_column(table, "timestamp", whole, pa.timestamp("ms", "UTC"))
    pq.write_table(table, path)
    assert json.loads(lines_of(path)[0])["timestamp"].endswith(".123000Z")


FIRST = 1_762_603_200_000_000_000
TIMES = [
    ("ns", FIRST + 1, "2025-11-08T12:00:00.000000001Z"),
    ("ns", -1, "1969-12-31T23:59:59.999999999Z"),
    ("us", 2**63 - 1, "9223372036854775807 us from 1970 on, in no year from 1 to 9999"),
    ("ms", 2**63 - 1, "9223372036854775807 ms from 1970 on, in no year from 1 to 9999"),
    ("ms", -(2**63) + 1, "-9223372036854775807 ms from 1970 on, in no year from 1 to 9999"),
    ("us", -62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
    ("us", -62_135_596_800_000_001, "-62135596800000001 us from 1970 on, in no year from 1 to"),
    ("ms", 253_402_300_799_999, "9999-12-31T23:59:59.999000Z"),
    ("ms", 253_402_300_800_000, "253402300800000 ms from 1970 on, in no year from 1 to 9999"),
]


@pytest.mark.parametrize(("unit", "number", "text"), TIMES)
def test_times_lose_nothing_in_silence(
    data: Project, fleetsim_cli: Cli, unit: str, number: int, text: str
) -> None:
    """A fraction of a microsecond and a year that has no text are faults of their row."""
    path = events_file(data)
    table = pq.read_table(path)
    column = pa.array([number] * len(table), pa.int64()).cast(pa.timestamp(unit, "UTC"))
    pq.write_table(with_column(table, "timestamp", column), path)
    assert json.loads(lines_of(path)[0])["timestamp"].startswith(text)
    code, findings, _ = audited(data, fleetsim_cli)
    assert code == FINDING
    assert any(f"{NAME} line 1: " in finding for finding in findings)


def without(table: Any, name: str) -> Any:
    return table.drop_columns([name])


def named_twice(table: Any) -> Any:
    return table.append_column("truck_id", table["truck_id"])


INSTANT = "allowed: timestamp in s, ms, us or ns with a time zone"
TEXT = "allowed: string, large_string, string_view, or a dictionary of one of these"
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no zone": (
        lambda t: at(t, "us", None),
        f"column timestamp: found timestamp[us] without a time zone; {INSTANT}",
    ),
    "float": (
        lambda t: with_column(t, "timestamp", t["timestamp"].cast("int64").cast("float64")),
        f"column timestamp: found double; {INSTANT}",
    ),
    "text": (
        lambda t: with_column(t, "timestamp", t["timestamp"].cast("string")),
        f"column timestamp: found string; {INSTANT}",
    ),
    "bytes": (
        lambda t: with_column(t, "event_type", t["event_type"].cast("binary")),
        f"column event_type: found binary; {TEXT}",
    ),
    "numbers": (
        lambda t: with_column(t, "truck_id", pa.array(range(len(t)))),
        f"column truck_id: found int64; {TEXT}",
    ),
    "coded numbers": (
        lambda t: with_column(t, "truck_id", pa.array(range(len(t))).dictionary_encode()),
        f"column truck_id: found int64; {TEXT}",
    ),
    "lists": (
        lambda t: with_column(t, "truck_id", pa.array([["a"]] * len(t))),
        "column truck_id: found list<",
    ),
    "missing": (lambda t: without(t, "driver_id"), "column driver_id is missing; allowed: once"),
    "twice": (named_twice, "column truck_id is twice or more; allowed: once"),
    "extra": (
        lambda t: t.append_column("speed", pa.array([1] * len(t))),
        "extra column 'speed'; allowed: event_id, driver_id, ",
    ),
    "capitals": (
        lambda t: t.rename_columns([name.upper() for name in t.schema.names]),
        "extra column 'EVENT_ID'; allowed: event_id, driver_id, ",
    ),
}


@pytest.mark.parametrize("change", list(REFUSED))
def test_what_would_lose_something_is_refused(
    data: Project, fleetsim_cli: Cli, change: str
) -> None:
    """With the column, what was found and what is allowed."""
    path = events_file(data)
    pq.write_table(REFUSED[change][0](pq.read_table(path)), path)
    with pytest.raises(ValueError, match="it has not the columns of events: ") as error:
        read_rows(path)
    assert REFUSED[change][1] in str(error.value)
    code, findings, _ = audited(data, fleetsim_cli)
    assert code == FINDING
    assert any("it has not the columns of events: " in finding for finding in findings)
    code, findings = verified(data, fleetsim_cli)
    assert code == FINDING
    assert REFUSED[change][1] in findings[0]


def test_the_types_are_documented() -> None:
    """In the data dictionary."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / "data.md").read_text()
    assert TEXT.removeprefix("allowed: ") in text
    assert INSTANT.removeprefix("allowed: ") in text
