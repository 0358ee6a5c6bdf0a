"""The forms of an output that come to the same, and queries that are refused."""

# ruff: noqa: S608 - queries of our own

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from deliveries import (
    Delivered,
    broken,
    honest,
    make_data,
    put_accepted,
    put_rejected_texts,
    run,
    table_of,
)
from reconcile_twin import FIELDS, Row

from fleetsim.base.clock import format_time
from fleetsim.base.errors import InputError
from fleetsim.reconcile import (
    ACCEPTED,
    REJECTED,
    Queries,
    UnreadableOutputError,
    check_queries,
    reconcile,
)

COLUMNS = ", ".join(FIELDS)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """Return three batches with defects of all kinds, delivered once each."""
    made = Delivered(make_data(tmp_path_factory.mktemp("dirty") / "data"))
    for ordinal in range(3):
        made.add(ordinal)
    return made


def records(rows: list[Row]) -> list[dict[str, Any]]:
    """Return rows as a program without types writes them."""
    return [
        dict(zip(FIELDS, (*row[:5], None if row[5] is None else format_time(row[5])), strict=True))
        for row in rows
    ]


def as_json(output: Path, rows: list[Row]) -> Queries:
    """Write JSON Lines."""
    lines = [json.dumps(record) + "\n" for record in records(rows)]
    (output / "accepted" / "b").mkdir(parents=True)
    (output / "accepted" / "a.jsonl").write_text("".join(lines[:50]))
    (output / "accepted" / "b" / "c.json").write_text("".join(lines[50:]))
    return Queries()


def as_csv(output: Path, rows: list[Row]) -> Queries:
    """Write a CSV file, in which nulls are distinct from empty texts."""
    pyarrow.csv.write_csv(table_of(rows), output / "rows.csv")
    kinds = ", ".join(f"{name}: 'VARCHAR'" for name in FIELDS[:5])
    return Queries(
        f"SELECT {COLUMNS} FROM read_csv('{{output}}/rows.csv', header = true, "
        f"allow_quoted_nulls = false, columns = {{{kinds}, timestamp: 'TIMESTAMPTZ'}})"
    )


def as_sqlite(output: Path, rows: list[Row]) -> None:
    """Write a SQLite file."""
    with closing(sqlite3.connect(output / "rows.sqlite")) as file, file:
        file.execute(f"CREATE TABLE events ({', '.join(name + ' TEXT' for name in FIELDS)})")
        values = [tuple(record.values()) for record in records(rows)]
        file.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", values)


def as_attached_sqlite(output: Path, rows: list[Row]) -> Queries:
    """Write a SQLite file that the query attaches."""
    as_sqlite(output, rows)
    attached = "ATTACH '{output}/rows.sqlite' AS o (TYPE sqlite, READ_ONLY);"
    return Queries(f"{attached} SELECT {COLUMNS} FROM o.events")


def as_scanned_sqlite(output: Path, rows: list[Row]) -> Queries:
    """Write a SQLite file that the query scans."""
    as_sqlite(output, rows)
    return Queries(f"SELECT {COLUMNS} FROM sqlite_scan('{{output}}/rows.sqlite', 'events')")


def as_duckdb(output: Path, rows: list[Row]) -> Queries:
    """Write a DuckDB file."""
    with duckdb.connect(str(output / "rows.duckdb")) as base:
        base.register("rows", table_of(rows))
        base.execute("CREATE TABLE events AS SELECT * FROM rows")
    attached = "ATTACH '{output}/rows.duckdb' AS o (READ_ONLY);"
    return Queries(f"{attached} SELECT {COLUMNS} FROM o.events")


def as_naive_parquet(output: Path, rows: list[Row]) -> Queries:
    """Write Parquet with times that have no zone, in nanoseconds, as pandas does."""
    table = table_of(rows)
    times = table["timestamp"].cast(pa.timestamp("us")).cast(pa.timestamp("ns"))
    (output / "accepted").mkdir()
    pq.write_table(table.set_column(5, "timestamp", times), output / "accepted" / "a.parquet")
    return Queries()


FORMS = [
    as_json, as_csv, as_attached_sqlite, as_scanned_sqlite, as_duckdb, as_naive_parquet,
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_forms_come_to_the_same(delivered: Delivered, tmp_path: Path, form: Any):
    """Rows with every fault give the same outcomes from any form of file."""
    rows, refusals = broken(delivered.lines, random.Random(5))  # noqa: S311
    plain, other = tmp_path / "plain" / "output", tmp_path / "other" / "output"
    put_accepted(plain, rows)
    other.mkdir(parents=True)
    queries = form(other, rows)
    for output in (plain, other):
        put_rejected_texts(output, refusals)
    assert run(delivered, other, queries) == run(delivered, plain)
    tables = [pq.read_table(folder.parent / "outcome.parquet") for folder in (plain, other)]
    assert tables[0].equals(tables[1])


FAULTS = [
    ("INSERT INTO x VALUES (1)", "found INSERT"),
    ("COPY (SELECT 1) TO '{output}/x.csv'", "found COPY"),
    ("SELECT 1; SELECT 2", "found SELECT, SELECT"),
    ("", "no SELECT"),
    ("SELEC 1", "cannot be parsed"),
    ("SELECT * FROM read_parquet('{ouput}/x')", "did you mean output"),
    ("ATTACH '{output}/x.duckdb' AS o; SELECT 1", "allowed: ATTACH 'FILE' AS NAME (READ_ONLY)"),
]


@pytest.mark.parametrize(("sql", "words"), FAULTS)
def test_what_no_output_can_make_right_is_seen_before(sql: str, words: str):
    """Each fault names the query and what is allowed."""
    with pytest.raises(InputError) as error:
        check_queries(Queries(sql))
    assert error.value.where == "pipeline.accepted"
    assert words in str(error.value)
    with pytest.raises(InputError) as error:
        check_queries(Queries(ACCEPTED, sql), rejected="--rejected")
    assert error.value.where == "--rejected"


def test_the_defaults_are_right():
    """They are those of the contract."""
    check_queries(Queries())
    check_queries(Queries(ACCEPTED, REJECTED))
    assert f"SELECT {COLUMNS} FROM read_parquet('{{output}}/accepted/**/*.parquet')" == ACCEPTED
    assert REJECTED == "SELECT raw, reason FROM read_json('{output}/rejected/*.jsonl')"


VALUES = {name: f"'x' AS {name}" for name in FIELDS[:5]} | {"timestamp": "now() AS timestamp"}


def select(**changes: str) -> str:
    """Return a SELECT of the six columns with some of them changed; an empty one is left out."""
    return "SELECT " + ", ".join(value for value in (VALUES | changes).values() if value)


REFUSED = [
    (select(truck_id=""), "column truck_id is missing"),
    (select(truck_id="'x' AS truckid"), "column truck_id is missing (did you mean truckid?)"),
    (select(truck_id="1 AS truck_id"), "column truck_id: found another type, INTEGER"),
    (select(truck_id="'x'::BLOB AS truck_id"), "found another type, BLOB"),
    (select(truck_id="['x'] AS truck_id"), "found another type, VARCHAR[]"),
    (select(timestamp="1 AS timestamp"), "column timestamp: found another type, INTEGER"),
    (select(timestamp="today() AS timestamp"), "column timestamp: found another type, DATE"),
    ("SELECT * FROM read_csv('/etc/passwd')", "file system operations are disabled"),
    ("SELECT * FROM '/etc/passwd.csv'", "disabled"),
    ("ATTACH '/etc/passwd' AS o (READ_ONLY); SELECT 1", "allowed: files of the output"),
    ("SELECT * FROM sqlite_scan('{output}/../x', 'y')", "allowed: files of the output"),
    ("SELECT * FROM nothing", "Table with name nothing does not exist"),
    ("SELECT * FROM delta_scan('{output}')", "delta"),
]


@pytest.mark.parametrize(("sql", "words"), REFUSED)
def test_a_query_that_does_not_fit_is_an_error(
    delivered: Delivered, tmp_path: Path, sql: str, words: str
):
    """A column, a type, or a file that is no part of the output."""
    (tmp_path / "output").mkdir()
    with pytest.raises(InputError) as error:
        run(delivered, tmp_path / "output", Queries(sql))
    assert error.value.where == "pipeline.accepted"
    assert words in str(error.value)
    assert not (tmp_path / "outcome.parquet").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "output"]


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT {COLUMNS} FROM read_parquet('{{output}}/none/*.parquet')",
        f"SELECT {COLUMNS} FROM read_csv('{{output}}/none.csv')",
        f"ATTACH '{{output}}/none.duckdb' AS o (READ_ONLY); SELECT {COLUMNS} FROM o.events",
        f"SELECT {COLUMNS} FROM sqlite_scan('{{output}}/none.db', 'events')",
    ],
)
def test_a_file_that_is_not_there_has_no_rows(delivered: Delivered, tmp_path: Path, sql: str):
    """It is a result of the pipeline, and no error of the query."""
    (tmp_path / "output").mkdir()
    assert run(delivered, tmp_path / "output", Queries(sql)).accepted_rows == 0


def test_an_empty_folder_of_refusals_reports_none(delivered: Delivered, tmp_path: Path):
    """That it is there says that the pipeline reports; empty files hold no refusal."""
    output = tmp_path / "output"
    (output / "rejected").mkdir(parents=True)
    assert run(delivered, output).rejected_rows == 0
    (output / "rejected" / "none.jsonl").touch()
    (output / "accepted").mkdir()
    (output / "accepted" / "none.jsonl").touch()
    found = run(delivered, output)
    assert (found.rejected_rows, found.accepted_rows) == (0, 0)
    assert found.unaccounted == found.delivered == found.balance.unaccounted


def test_a_torn_file_is_of_the_pipeline(delivered: Delivered, tmp_path: Path):
    """It is told apart from a query that is wrong."""
    rows, _ = honest(delivered.lines)
    put_accepted(tmp_path / "output", rows)
    file = tmp_path / "output" / "accepted" / "part.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnreadableOutputError):
        run(delivered, tmp_path / "output")
    file.unlink()
    file.with_suffix(".jsonl").write_text(json.dumps(records(rows)[0]) + '\n{"event_id":"x')
    with pytest.raises(UnreadableOutputError):
        run(delivered, tmp_path / "output")


def test_json_of_other_types_is_refused(delivered: Delivered, tmp_path: Path):
    """The default query of JSON Lines looks at the types of the values."""
    folder = tmp_path / "output" / "accepted"
    folder.mkdir(parents=True)
    rows, _ = honest(delivered.lines)
    made = records(rows)
    lines = [json.dumps(record | {"truck_id": number}) for number, record in enumerate(made)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="column truck_id: found another type, BIGINT"):
        run(delivered, tmp_path / "output")
    for record in made:
        del record["driver_id"]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, made)))
    with pytest.raises(InputError, match="column driver_id is missing"):
        run(delivered, tmp_path / "output")


def test_another_batch_than_the_ledger_s_is_refused(delivered: Delivered, tmp_path: Path):
    """Lines are held to the hashes of the ledger."""
    arrival = delivered.arrivals[0]
    batch = Path(str(arrival.events))
    content = (batch / "events.jsonl").read_bytes()
    other = tmp_path / "events.jsonl"
    other.write_bytes(content[content.index(b"\n") + 1 :])
    for events in (other, tmp_path / "none.jsonl"):
        wrong = msgspec.structs.replace(arrival, events=events)
        with pytest.raises(InputError, match=r"events.jsonl|none.jsonl"):
            reconcile([wrong], Queries(), tmp_path / "output")
    with pytest.raises(InputError, match="twice"):
        reconcile([arrival, arrival], Queries(), tmp_path / "output")
