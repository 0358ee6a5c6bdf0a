"""Files that no writer of events makes: read in little memory, and never for good."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import Cli, Outcome, Project

from fleetsim.batch.formats import FORMATS

pytestmark = pytest.mark.slow

FINDING = 3
LIMIT_BYTES = 512_000_000
BLOCK = 1 << 26


#: Starts a command and prints its peak [KiB] last. A process of its own: Linux carries the peak of
#: whoever starts a command over into the command's.
LAUNCHER = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measured(*arguments: object) -> Outcome:
    """Run a command in a child, and hold its memory to the limit."""
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, sys.executable, "-m", "fleetsim"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    *said, peak = done.stderr.splitlines()
    peak_bytes = int(peak) * (1 if sys.platform == "darwin" else 1024)
    print(f"{arguments[0]}: {peak_bytes / 1e6:.0f} MB")
    assert peak_bytes < LIMIT_BYTES, f"{arguments[0]}: {peak_bytes / 1e6:.0f} MB"
    return Outcome(done.returncode, done.stdout, "\n".join(said))


def gzipped(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(content) + packer.flush()


def zstandard(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


PACK = {"jsonl.gz": gzipped, "jsonl.zst": zstandard}


def grow(path: Path, more: int) -> None:
    """Let a file end with zeros that take no room on the disk."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + more)


def endless_line(path: Path, name: str) -> None:
    path.write_bytes(b"")
    grow(path, 2 << 30)


def endless_line_of_a_plain_record(path: Path, name: str) -> None:
    endless_line(path, name)
    state(path, bytes=2 << 30)


def state(path: Path, **values: Any) -> None:
    """Change what the record states."""
    record = path.parent / "batch_meta.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | values))


def zeros(path: Path, name: str) -> None:
    path.write_bytes(PACK[name](bytes(BLOCK)) * 128)


def zeros_without_a_record(path: Path, name: str) -> None:
    zeros(path, name)
    (path.parent / "batch_meta.json").unlink()


def zeros_of_a_boastful_record(path: Path, name: str) -> None:
    zeros(path, name)
    state(path, bytes=path.stat().st_size, event_count=10**11)


def zeros_behind(path: Path, name: str) -> None:
    if name in PACK:
        path.write_bytes(path.read_bytes() + PACK[name](bytes(BLOCK)) * 128)
    else:
        grow(path, 8 << 30)


def bare_zeros_behind(path: Path, name: str) -> None:
    grow(path, 8 << 30)


def newlines(path: Path, name: str) -> None:
    path.write_bytes(PACK[name](b"\n" * BLOCK) * 3)


def newlines_behind(path: Path, name: str) -> None:
    path.write_bytes(path.read_bytes() + PACK[name](b"\n" * BLOCK) * 3)


def newlines_without_a_record(path: Path, name: str) -> None:
    newlines(path, name)
    (path.parent / "batch_meta.json").unlink()


FILES: list[tuple[str, Callable[[Path, str], None]]] = [
    ("jsonl", endless_line),
    ("jsonl", endless_line_of_a_plain_record),
    ("jsonl", zeros_behind),
    *[
        ("jsonl.gz", change)
        for change in (
            zeros_without_a_record,
            zeros_of_a_boastful_record,
            bare_zeros_behind,
            newlines_behind,
            newlines_without_a_record,
        )
    ],
    *[("jsonl.zst", change) for change in (zeros, zeros_behind, bare_zeros_behind, newlines)],
]


def made(project: Project, cli: Cli, name: str) -> Path:
    """Return the events file of a batch in some format."""
    done = cli(*project.make_events("--format", name))
    assert (done.code, done.err) == (0, "")
    return project.batch / FORMATS[name].events_name


def check_both(project: Project, *, verified: bool = True) -> tuple[str, str]:
    """Audit and verify a batch that is not in order; return what both say."""
    said = []
    commands: list[list[object]] = [["audit", project.events.parent, "--config", project.config]]
    commands[0] += ["--companies", project.companies]
    if verified:
        commands.append(["verify", project.batch, "--companies", project.companies])
    for command in commands:
        done = measured(*command)
        assert done.code == FINDING, done
        # How far it is, each 10 s, where the machine is busy.
        assert [row for row in done.err.splitlines() if not row.startswith("fleetsim: ")] == []
        assert "reproduced" not in done.out
        assert "Nothing found" not in done.out
        assert max(map(len, done.out.splitlines())) < 900
        said.append(done.out)
    return said[0], said[-1]


@pytest.mark.parametrize(
    ("name", "change"), FILES, ids=[f"{name} {change.__name__}" for name, change in FILES]
)
def test_lines_without_end_are_read_in_little_memory(
    project: Project, fleetsim_cli: Cli, name: str, change: Callable[[Path, str], None]
) -> None:
    """Gigabytes of zeros, newlines or one line: a finding, and little of it is read."""
    path = made(project, fleetsim_cli, name)
    change(path, name)
    there = (path.parent / "batch_meta.json").exists()
    audited, verified = check_both(project, verified=there)
    if change is bare_zeros_behind:
        assert f"{path.name} cannot be read as {name}" in audited
    else:
        assert f"{path.name} goes on behind line " in audited
    if change in (zeros_behind, newlines_behind):
        assert "more than the" in verified


# --- Parquet


def columns(path: Path) -> Any:
    return pq.read_table(path)


def replaced(table: Any, **values: Any) -> Any:
    for name, column in values.items():
        table = table.set_column(table.schema.names.index(name), name, column)
    return table


def repeated(text: str, rows: int) -> Any:
    """Return a column that holds one text many times, in little room."""
    return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), [text])


def many(table: Any, rows: int) -> Any:
    """Return the first row many times."""
    kinds = {name: repeated(table[name][0].as_py(), rows) for name in table.schema.names[:-1]}
    time = pa.nulls(rows, table.schema.types[-1]).fill_null(table["timestamp"][0])
    return pa.table(kinds | {"timestamp": time})


def long_types(path: Path) -> None:
    table = many(columns(path), 100_000)
    pq.write_table(replaced(table, event_type=repeated("x" * 100_000, len(table))), path)


def long_types_in_plain_pages(path: Path) -> None:
    table = many(columns(path), 10_000)
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False) as file:
        for start in range(0, len(table), 500):
            part = table.slice(start, 500)
            part = replaced(part, event_type=repeated("x" * 100_000, len(part)))
            file.write_table(part)


def long_ids(path: Path) -> None:
    table = many(columns(path), 100_000)
    pq.write_table(replaced(table, event_id=repeated("x" * 30_000, len(table))), path)


def long_ids_by_their_beginnings(path: Path) -> None:
    table = many(columns(path), 20_000)
    table = replaced(table, event_id=pa.array(["x" * 30_000] * len(table)))
    encoding = {"event_id": "DELTA_BYTE_ARRAY"}
    pq.write_table(table, path, use_dictionary=False, column_encoding=encoding)


def one_text_of_300_mb(path: Path) -> None:
    table = columns(path)
    values = table["event_type"].to_pylist()
    values[7] = "x" * 300_000_000
    table = replaced(table, event_type=pa.array(values))
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)


def one_text_as_large_as_a_page(path: Path) -> None:
    table = columns(path)
    values = table["event_type"].to_pylist()
    values[7] = "\n" * 33_000_000
    table = replaced(table, event_type=pa.array(values))
    pq.write_table(table, path, use_dictionary=False, write_statistics=False)


def rows_without_end(path: Path) -> None:
    table = many(columns(path), 1_000_000)
    with pq.ParquetWriter(path, table.schema) as file:
        for _ in range(20):
            file.write_table(table)


def rows_without_end_or_record(path: Path) -> None:
    rows_without_end(path)
    (path.parent / "batch_meta.json").unlink()


def a_large_footer(path: Path) -> None:
    path.write_bytes(b"PAR1" + bytes(40_000_000) + (39_000_000).to_bytes(4, "little") + b"PAR1")


def row_groups_of_one_row(path: Path) -> None:
    pq.write_table(many(columns(path), 5000), path, row_group_size=1)


COLUMNS: list[tuple[Callable[[Path], None], str]] = [
    (long_types, "event_type '100000 bytes that begin with xxx"),
    (long_types_in_plain_pages, "column event_type: found a page of 50"),
    (long_ids, "event_id is '30000 bytes that begin with xxx"),
    (long_ids_by_their_beginnings, "event_id is '30000 bytes that begin with xxx"),
    (one_text_of_300_mb, "column event_type: found a page of 300"),
    (one_text_as_large_as_a_page, "event_type '33000000 bytes that begin with "),
    (rows_without_end, "events.parquet goes on behind line "),
    (rows_without_end_or_record, "events.parquet goes on behind line "),
    (a_large_footer, "found a footer of 39000000 bytes; allowed: at most "),
    (row_groups_of_one_row, "event_id "),
]


@pytest.mark.parametrize(("change", "sentence"), COLUMNS, ids=[c.__name__ for c, _ in COLUMNS])
def test_columns_without_end_are_read_in_little_memory(
    project: Project, fleetsim_cli: Cli, change: Callable[[Path], None], sentence: str
) -> None:
    """Long texts, however they are packed, and more rows than the record has: a finding."""
    path = made(project, fleetsim_cli, "parquet")
    change(path)
    there = (path.parent / "batch_meta.json").exists()
    assert sentence in check_both(project, verified=there)[0]
