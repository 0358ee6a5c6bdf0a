"""Every format holds the same rows, in bytes that depend on nothing but the rows."""

from __future__ import annotations

import gc
import gzip
import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fleets import BASE, CONFIGS, NASTY, content_of, make_fleet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import AT, AT_US, NAME, Cli, Project, command_named

from fleetsim.base.clock import Instant
from fleetsim.base.errors import FleetsimError, InputError
from fleetsim.base.files import HashingOpener, hash_file
from fleetsim.batch import formats
from fleetsim.batch import parquet as columnar
from fleetsim.batch.formats import FORMATS, FileJob
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.rows import read_rows
from fleetsim.batch.verify import verify_batch
from fleetsim.batch.write import write_batches
from fleetsim.generate import producer as produce
from fleetsim.generate.config import make_config
from fleetsim.generate.kernel import KERNELS, pieces
from fleetsim.generate.producer import Producer

OTHERS = [name for name in FORMATS if name != "jsonl"]


def write(folder: Path, name: str, values: dict[str, Any] = BASE, **options: Any) -> Path:
    """Write a batch of a fleet of seven and return the file of its events."""
    fleet = make_fleet(values["number_of_companies"], frozenset({2}))
    (result,) = write_batches(
        make_config(values),
        fleet,
        folder,
        start_us=AT_US,
        started=Instant.now(),
        options=WriteOptions(format=name, allow_empty=True, **options),
    )
    return result.path / FORMATS[name].events_name


def content(path: Path) -> bytes:
    """Return the rows of a batch as JSON Lines, by the reader of its format."""
    name = next(name for name in FORMATS if FORMATS[name].events_name == path.name)
    with FORMATS[name].reader(path) as file:
        return file.read()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONFIGS, st.sampled_from(OTHERS), st.data())
def test_round_trips_are_equal(tmp_path, values, name, data) -> None:
    """Whatever the configuration, the rows read back are the JSON Lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "FRAME", data.draw(st.sampled_from([100, 1 << 20])))
        patch.setattr(columnar, "ROWS", data.draw(st.sampled_from([3, 1 << 18])))
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        expected = write(folder / "plain", "jsonl", values).read_bytes()
        assert content(write(folder / "other", name, values)) == expected
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_bytes_depend_on_neither_path_nor_threads(tmp_path, monkeypatch, name) -> None:
    """Many frames, row groups and pieces, by both kernels and by 1, 2, 3 and 7 threads."""
    values = BASE | {"number_of_companies": 40, "event_types": NASTY, "event_rate_per_driver": 20}
    monkeypatch.setattr(formats, "FRAME", 10_000)
    monkeypatch.setattr(columnar, "ROWS", 700)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 9_999)
    monkeypatch.setattr(pieces, "PIECE_EVENTS", 99)
    files = [
        write(tmp_path / f"{kernel}{jobs}", name, values, kernel=kernel, jobs=jobs).read_bytes()
        for kernel, jobs in [("numpy", 1), *(("compiled", jobs) for jobs in (1, 2, 3, 7))]
    ]
    assert len(set(files)) == 1
    monkeypatch.setattr(produce, "LARGE", 0)  # the plain path with threads beside it
    assert write(tmp_path / "n2", name, values, kernel="numpy", jobs=2).read_bytes() == files[0]


@pytest.mark.parametrize("name", list(FORMATS))
def test_the_record_states_file_and_content(tmp_path, name) -> None:
    """Bytes and hash are the file's, the content's hash is that of the JSON Lines."""
    path = write(tmp_path / "other", name)
    meta = json.loads((path.parent / "batch_meta.json").read_text())
    lines = write(tmp_path / "plain", "jsonl").read_bytes()
    assert sorted(os.listdir(path.parent)) == ["batch_meta.json", path.name]
    assert (meta["format"], meta["bytes"]) == (name, path.stat().st_size)
    assert meta["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = None if name == "parquet" else hashlib.sha256(lines).hexdigest()
    assert meta["content_sha256"] == expected
    assert meta["event_count"] == lines.count(b"\n")


@pytest.mark.parametrize("name", list(FORMATS))
def test_no_event_is_a_valid_file(tmp_path, name) -> None:
    """A rate of zero gives a file that its readers take."""
    path = write(tmp_path, name, BASE | {"event_rate_per_driver": 0})
    assert content(path) == b""
    if name == "jsonl.gz":
        assert gzip.decompress(path.read_bytes()) == b""
        assert path.stat().st_size > 0
    if name == "parquet":
        assert pq.read_table(path).num_rows == 0


def test_gzip_and_zstd_are_read_by_others(tmp_path, monkeypatch) -> None:
    """Frames one after the other are what Python, pandas and DuckDB read as one file."""
    monkeypatch.setattr(formats, "FRAME", 1000)
    lines = write(tmp_path / "plain", "jsonl").read_bytes()
    rows = [json.loads(line) for line in lines.splitlines()]
    assert gzip.decompress(write(tmp_path / "gz", "jsonl.gz").read_bytes()) == lines
    for name in ("jsonl.gz", "jsonl.zst"):
        path = write(tmp_path / name, name)
        query = f"SELECT count(*) FROM read_json_auto('{path}')"  # noqa: S608
        assert duckdb.sql(query).fetchall() == [(len(rows),)]
    frame = pd.read_json(tmp_path / "gz" / NAME / "events.jsonl.gz", lines=True)
    assert frame["event_id"].tolist() == [row["event_id"] for row in rows]


def test_parquet_is_typed_and_read_by_others(tmp_path, monkeypatch) -> None:
    """Strings and a UTC time in microseconds for Arrow, pandas and DuckDB; dictionaries inside."""
    monkeypatch.setattr(columnar, "ROWS", 20)
    path = write(tmp_path / "rows", "parquet", BASE | {"event_types": NASTY})
    lines = write(tmp_path / "plain", "jsonl", BASE | {"event_types": NASTY}).read_bytes()
    rows = [json.loads(line) for line in lines.splitlines()]
    names = list(rows[0])
    schema = pq.read_schema(path)
    assert schema.names == names
    assert schema.types == [pa.string()] * 5 + [pa.timestamp("us", "UTC")]
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    assert [group.num_rows for group in groups[:-1]] == [20] * (len(rows) // 20)
    coded = [names[i] for i in range(6) if groups[0].column(i).has_dictionary_page]
    assert coded == ["driver_id", "company_id", "truck_id", "event_type"]
    frame = pd.read_parquet(path)
    assert frame["timestamp"].tolist() == [pd.Timestamp(row["timestamp"]) for row in rows]
    text = ", ".join(names[:5])
    query = f"SELECT {text}, epoch_us(timestamp) FROM '{path}'"  # noqa: S608
    expected = [
        (*(row[name] for name in names[:5]), pd.Timestamp(row["timestamp"]).value // 1000)
        for row in rows
    ]
    assert duckdb.sql(query).fetchall() == expected
    assert duckdb.sql(f"DESCRIBE FROM '{path}'").fetchall()[5][1] == "TIMESTAMP WITH TIME ZONE"


# Verification, comparison and replacement know the format.


@pytest.fixture(params=list(FORMATS))
def made(request, project: Project, fleetsim_cli: Cli) -> tuple[Project, str, Path]:
    """Return a project with a batch in each format, by the command."""
    name = request.param
    outcome = fleetsim_cli(*project.make_events("--format", name))
    assert (outcome.code, outcome.err) == (0, "")
    return project, name, project.batch / FORMATS[name].events_name


def test_every_format_verifies(made, fleetsim_cli: Cli) -> None:
    """The command says that the batch reproduces."""
    outcome = fleetsim_cli("verify", made[0].batch)
    assert outcome.code == 0, outcome
    assert "reproduced" in outcome.out


def test_a_changed_row_is_found_in_every_format(made) -> None:
    """One event's type, in a file that is valid but for that."""
    _, name, path = made
    lines = content(path).replace(b"stopped driving", b"drove on forever", 1)
    rows = [json.loads(line) for line in lines.splitlines()]
    if name == "jsonl":
        path.write_bytes(lines)
    elif name == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    elif name == "jsonl.zst":
        path.write_bytes(pa.Codec("zstd").compress(lines, asbytes=True))
    else:
        table = pa.Table.from_pylist(rows)
        time = table["timestamp"].cast(pa.timestamp("us", "UTC"))
        table = table.set_column(5, "timestamp", time)
        pq.write_table(table, path, store_schema=False)
    found = list(verify_batch(path.parent).findings)
    number = next(i for i, row in enumerate(rows, 1) if row["event_type"] == "drove on forever")
    assert found[0].startswith(f"{path.name}: line {number} is '{{")
    assert "drove on forever" in found[0]
    if name != "jsonl":
        assert any("sha256 is" in finding for finding in found[1:])


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "missing", "folder"])
def test_a_damaged_file_is_found_in_every_format(made, damage) -> None:
    """A finding and no traceback, whatever the reader says of it."""
    _, _, path = made
    whole = path.read_bytes()
    if damage in ("missing", "folder"):
        path.unlink()
    if damage == "folder":
        path.mkdir()
        with pytest.raises(InputError, match="cannot be read"):
            verify_batch(path.parent)
        return
    if damage != "missing":
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"text\n", "empty": b""}[damage])
    found = verify_batch(path.parent).findings
    assert found
    assert found[0].startswith(f"{path.name}: ")


def test_parquet_with_other_columns_is_found(tmp_path) -> None:
    """A file of another table is no batch."""
    path = write(tmp_path, "parquet")
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="it has not the columns of events"):
        read_rows(path)


def test_nulls_in_parquet_are_no_rows_of_ours(tmp_path) -> None:
    """A null is read as null, which differs from every text, an empty one too."""
    path = write(tmp_path, "parquet")
    rows = pq.read_table(path).slice(0, 1).to_pylist()
    nothing = dict.fromkeys(rows[0])
    pq.write_table(pa.Table.from_pylist([nothing], pq.read_schema(path)), path)
    assert json.loads(content(path)) == dict.fromkeys(rows[0])


def test_a_batch_in_another_format_differs(made, fleetsim_cli: Cli) -> None:
    """It is refused, and replaced by --force; an equal one is left alone."""
    project, name, path = made
    again = fleetsim_cli(*project.make_events("--format", name))
    assert "stood there already" in again.out
    other = "parquet" if name == "jsonl" else "jsonl"
    command = project.make_events("--format", other)
    refused = fleetsim_cli(*command)
    assert refused.code == 2
    assert f"differs: format is '{name}', asked for '{other}'" in refused.err
    assert path.exists()
    assert fleetsim_cli(*command, "--force").code == 0
    assert sorted(os.listdir(path.parent)) == ["batch_meta.json", FORMATS[other].events_name]


def test_a_batch_without_its_events_is_not_equal(made, fleetsim_cli: Cli) -> None:
    """In any format."""
    project, name, path = made
    path.unlink()
    outcome = fleetsim_cli(*project.make_events("--format", name))
    assert outcome.code == 2
    assert f"{path.name} is missing" in outcome.err


def test_an_unknown_format_is_refused(tmp_path) -> None:
    """By the library, with the nearest name; the command lists those there are."""
    with pytest.raises(InputError, match=r"format: found 'parket'; allowed: .*mean parquet"):
        write(tmp_path / "new", "parket")
    assert not (tmp_path / "new").exists()


def test_the_command_offers_the_registered_formats() -> None:
    """The command's lists are those of the registry and of the kernels."""
    options = {option.name: option for option in command_named("events").params}
    assert list(options["format"].type.choices) == list(FORMATS)
    assert list(options["kernel"].type.choices) == list(KERNELS)


# Faults in the middle.


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch, capfd, name, jobs) -> None:
    """In any format, with threads and without: nothing is left, nothing is said twice."""
    values = BASE | {"event_rate_per_driver": 2000}
    monkeypatch.setattr(formats, "FRAME", 10_000)
    monkeypatch.setattr(columnar, "ROWS", 3_000)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 50_000)
    real, left = os.write, [100_000]

    def fill(descriptor: int, data: Any) -> int:
        if left[0] < len(data):
            raise OSError(28, "No space left on device")
        left[0] -= len(data)
        return real(descriptor, data)

    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill)
        with pytest.raises(FleetsimError, match=r"could not be written \(No space left on dev"):
            write(tmp_path, name, values, kernel="compiled", jobs=jobs)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_workers_failure_surfaces_once(tmp_path, monkeypatch, capfd, name, jobs) -> None:
    """With its cause, from whichever thread; nothing is left of the batch."""
    values = BASE | {"event_rate_per_driver": 2000}
    monkeypatch.setattr(pieces, "PIECE_BYTES", 50_000)
    monkeypatch.setattr(pieces, "PIECE_EVENTS", 500)
    made: list[int] = []
    draw = pieces.PieceMaker._draw

    def fail(self: Any, slot: Any, n_runs: int, *arguments: Any) -> None:
        made.append(n_runs)
        if len(made) > 5:
            raise MemoryError("no room for the sixth piece")
        draw(self, slot, n_runs, *arguments)

    monkeypatch.setattr(pieces.PieceMaker, "_draw", fail)
    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room for the sixth piece"):
        write(tmp_path, name, values, kernel="compiled", jobs=jobs)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("after", ["no row", "a row group"])
@pytest.mark.parametrize("name", list(FORMATS))
def test_a_file_that_was_given_up_is_written_no_more(name, after, monkeypatch) -> None:
    """Neither when its writer is left, nor when its memory is freed, whenever that may be."""
    monkeypatch.setattr(formats, "FRAME", 1000)
    monkeypatch.setattr(columnar, "ROWS", 10)
    config, fleet, format = make_config(BASE), make_fleet(7), FORMATS[name]
    written: list[bytes] = []

    class Output:
        def write(self, content: Any, paged: Any = None) -> None:
            written.append(bytes(content))

        def finish(self) -> None:
            raise AssertionError("it is not whole")

    def give_up() -> None:
        job = FileJob(config, fleet, AT_US, producer.threads)
        with format.writer(Output(), job) as writer:
            for piece in producer.pieces(AT_US, 0):
                if after == "a row group":
                    writer.write(piece)
                raise MemoryError

    columns = format.columns
    with Producer(config, fleet, 1e6, columns=columns, kernel="numpy", jobs=1) as producer:
        with pytest.raises(MemoryError):
            give_up()
        before = len(written)
        assert before > 0 or after == "no row"
    gc.collect()
    assert len(written) == before


@pytest.mark.parametrize("name", list(FORMATS))
def test_one_producer_makes_many_batches(tmp_path, monkeypatch, name) -> None:
    """The buffers of one batch serve the next, also after a batch that was left early."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3_000)
    config, fleet = make_config(BASE), make_fleet(7)
    results = list(
        write_batches(
            config,
            fleet,
            tmp_path,
            start_us=AT_US,
            started=Instant.now(),
            options=WriteOptions(format=name, batches=12, kernel="compiled", jobs=2),
        )
    )
    for result in results[:2]:
        plain = b"".join(
            lines
            for _, lines in content_of(
                config,
                fleet,
                AT_US + 900_000_000 * result.meta.ordinal,
                result.meta.ordinal,
                kernel="numpy",
            )
        )
        assert content(result.path / FORMATS[name].events_name) == plain
    assert len({content(r.path / FORMATS[name].events_name) for r in results}) == 12


def test_a_batch_left_early_gives_its_buffers_back() -> None:
    """The next batch of the same producer is whole."""
    config, fleet = make_config(BASE | {"event_rate_per_driver": 2000}), make_fleet(7)
    with produce.Producer(config, fleet, 0, kernel="compiled", jobs=3) as producer:
        for _ in range(5):
            pieces = producer.pieces(AT_US, 0)
            first = next(pieces)
            first.release()
            pieces.close()
        whole = b""
        for piece in producer.pieces(AT_US, 0):
            whole += piece.lines
            piece.release()
    plain = content_of(config, fleet, AT_US, 0, kernel="numpy")
    assert whole == b"".join(lines for _, lines in plain)


# What is far too large.


def test_what_cannot_fit_is_refused_before_it_starts(project: Project, fleetsim_cli) -> None:
    """10^15 events: exit 2, with the estimate and the free space; nothing is made."""
    project.write(number_of_companies=100_000, drivers_per_company=10**6,
                  event_rate_per_driver=10**4)  # fmt: skip
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    for name, size in (("jsonl", "PB"), ("parquet", "PB")):
        outcome = fleetsim_cli(*project.make_events("--format", name))
        assert (outcome.code, outcome.out) == (2, "")
        assert "about 1e+15 events need about " in outcome.err
        assert f"{size} as {name}; the file system has " in outcome.err
        assert "next: fewer events, another --output or --format, or --force" in outcome.err
        assert not project.events.exists()


def test_the_estimate_is_near_the_size(tmp_path, monkeypatch) -> None:
    """Refused a little below what is needed, begun a little above; --force begins it anyway."""
    values = BASE | {"number_of_companies": 300}
    for name in FORMATS:
        size = write(tmp_path / name, name, values).stat().st_size
        for free, refused in ((size * 0.5, True), (size * 2, False)):
            with monkeypatch.context() as patch:
                patch.setattr("fleetsim.batch.plan.free_bytes", lambda path, free=free: free)
                if refused:
                    with pytest.raises(InputError, match="the file system has"):
                        write(tmp_path / f"{name} {free}", name, values)
                    assert not (tmp_path / f"{name} {free}").exists()
                    write(tmp_path / f"{name} {free}", name, values, force=True)
                else:
                    write(tmp_path / f"{name} {free}", name, values)


# The hash of a file on the way through it.


@pytest.mark.parametrize("name", ["jsonl.gz", "jsonl.zst"])
def test_the_hash_is_known_when_the_end_was_read(tmp_path: Path, name: str) -> None:
    """However it was read, of one frame or of many; not before, and not where a part is skipped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "FRAME", 500)
        path = write(tmp_path, name)
    whole = hash_file(path)
    for size in (7, 1 << 16, -1):
        opener = HashingOpener()
        assert opener.sha256 == ""
        with FORMATS[name].reader(path, opened=opener) as file:
            while file.read(size):
                pass
        assert opener.sha256 == whole
    assert opener(path).read(10)
    assert opener.sha256 == ""
    plain, opener = write(tmp_path / "plain", "jsonl"), HashingOpener()
    with FORMATS["jsonl"].reader(plain, opened=opener) as file:  # who reads it hashes it
        assert file.read()
    assert opener.sha256 == ""
    with opener(path) as raw:
        raw.seek(10)
        assert raw.readall()
    assert opener.sha256 == ""
