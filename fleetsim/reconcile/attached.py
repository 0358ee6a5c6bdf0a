"""Database files of an output that a query attaches: DuckDB's by itself, SQLite's by Python.

DuckDB's extension for SQLite would have to be downloaded. A SQLite file is copied with its journal,
since a pipeline that was killed may have left one that has to be played back, and its tables are
handed to DuckDB.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from fleetsim.base.errors import InputError, found
from fleetsim.tally.duck import quoted

_ATTACH = re.compile(
    r"ATTACH\s+(?:DATABASE\s+)?(?:IF\s+NOT\s+EXISTS\s+)?'(?P<path>(?:[^']|'')*)'"
    r"(?:\s+AS\s+(?:\"(?P<quoted>[^\"]+)\"|(?P<name>\w+)))?\s*(?:\((?P<options>[^)]*)\))?",
    re.IGNORECASE,
)
_SCAN = re.compile(
    r"sqlite_scan\s*\(\s*'(?P<path>(?:[^']|'')*)'\s*,\s*'(?P<table>(?:[^']|'')*)'\s*\)",
    re.IGNORECASE,
)
_FORM = "ATTACH 'FILE' AS NAME (READ_ONLY), with TYPE sqlite where it is one"
_MAGIC = b"SQLite format 3\x00"
_ROWS = 1 << 12  # handed over at once


class Attachment(msgspec.Struct, frozen=True):
    """A database file under a name.

    Attributes
    ----------
    path : Path
    name : str
    sqlite : bool
        Whether the query says that it is SQLite's; a file that begins as one is, too.
    """

    path: Path
    name: str
    sqlite: bool


def attachment_of(statement: str, where: str) -> Attachment:
    """Return what an ATTACH statement attaches.

    Raises
    ------
    InputError
        Where it has another form than ours, or would write; `where` names the query.
    """
    match = _ATTACH.fullmatch(statement.strip())
    options = [] if match is None else (match["options"] or "").upper().split(",")
    words = [" ".join(option.split()) for option in options if option.strip()]
    known = {"READ_ONLY", "READ_ONLY TRUE", "TYPE SQLITE", "TYPE DUCKDB"}
    if match is None or not set(words) <= known or not any("READ_ONLY" in w for w in words):
        raise InputError(where, f"found {found(statement)}; allowed: {_FORM}")
    path = Path(match["path"].replace("''", "'"))
    name = match["quoted"] or match["name"] or path.stem
    return Attachment(path, name, "TYPE SQLITE" in words)


def with_scans(select: str) -> tuple[list[Attachment], str]:
    """Return a SELECT that reads attached tables where it scanned SQLite files, and these."""
    made: list[Attachment] = []

    def named(match: re.Match[str]) -> str:
        name = f"sqlite_scan_{len(made)}"
        made.append(Attachment(Path(match["path"].replace("''", "'")), name, sqlite=True))
        return f"{_name(name)}.{_name(match['table'])}"

    return made, _SCAN.sub(named, select)


def attach(
    base: Any, attachment: Attachment, select: str, output: Path, folder: Path, where: str
) -> bool:
    """Attach a file to a DuckDB; return False where it is not there.

    Parameters
    ----------
    base : DuckDB connection
    attachment : Attachment
    select : str
        The query: only tables that it names are read of a SQLite file.
    output : Path
        The only folder whose files may be attached.
    folder : Path
        For a copy of a SQLite file.
    where : str
        What messages call the query.
    """
    path = attachment.path if attachment.path.is_absolute() else output / attachment.path
    if not path.resolve().is_relative_to(output):
        fault = f"found ATTACH of {found(str(attachment.path))}; allowed: files of the output"
        raise InputError(where, fault)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        is_sqlite = file.read(len(_MAGIC)) == _MAGIC
    if not is_sqlite and not attachment.sqlite:
        base.execute(f"ATTACH {quoted(str(path))} AS {_name(attachment.name)} (READ_ONLY)")
        return True
    try:
        _hand_over(base, attachment.name, _copy(path, folder), select)
    except sqlite3.Error as error:
        raise InputError(where, f"{path.name}: SQLite refuses it: {error}") from error
    return True


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _copy(path: Path, folder: Path) -> Path:
    copy = folder / "copy.sqlite"
    for suffix in ("", "-wal", "-journal"):
        there = path.with_name(path.name + suffix)
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)
        if there.is_file():
            shutil.copyfile(there, copy.with_name(copy.name + suffix))
    copy.with_name(copy.name + "-shm").unlink(missing_ok=True)
    return copy


def _hand_over(base: Any, schema: str, path: Path, select: str) -> None:
    """Make a schema with the tables of a SQLite file that a query names."""
    base.execute(f"CREATE SCHEMA {_name(schema)}")
    with closing(sqlite3.connect(path, check_same_thread=False)) as file:
        file.text_factory = lambda text: text.decode(errors="replace")
        listed = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        for (table,) in file.execute(listed).fetchall():
            if table.casefold() not in select.casefold():
                continue
            columns = [row[1] for row in file.execute(f"PRAGMA table_info({_name(table)})")]
            kinds = [_kind(file, table, column) for column in columns]
            types = pa.schema(list(zip(columns, kinds, strict=True)))
            source = pa.RecordBatchReader.from_batches(types, _batches(file, table, types))
            base.register("handed_over", source)
            target = f"{_name(schema)}.{_name(table)}"
            base.execute(f"CREATE TABLE {target} AS SELECT * FROM handed_over")
            base.unregister("handed_over")


def _kind(file: sqlite3.Connection, table: str, column: str) -> pa.DataType:
    """Return the type that holds all values of a column, which in SQLite may be of several."""
    query = f"SELECT DISTINCT typeof({_name(column)}) FROM {_name(table)}"
    kinds = {kind for (kind,) in file.execute(query)} - {"null"}
    if "blob" in kinds:
        return pa.binary()
    if "text" in kinds or not kinds:
        return pa.string()
    return pa.float64() if "real" in kinds else pa.int64()


def _batches(file: sqlite3.Connection, table: str, types: pa.Schema) -> Iterator[pa.RecordBatch]:
    rows = file.execute(f"SELECT * FROM {_name(table)}")
    while some := rows.fetchmany(_ROWS):
        arrays = []
        for values, field in zip(zip(*some, strict=True), types, strict=True):
            arrays.append(pa.array([_fitting(value, field.type) for value in values], field.type))
        yield pa.RecordBatch.from_arrays(arrays, schema=types)


def _fitting(value: Any, kind: pa.DataType) -> Any:
    if value is None or kind in (pa.int64(), pa.float64()):
        return value
    if kind == pa.binary():
        return value if isinstance(value, bytes) else str(value).encode()
    return str(value)
