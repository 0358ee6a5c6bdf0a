"""Rows of any data that DuckDB reads, as batches: the six columns, by a query of the user's.

DuckDB works in memory and spills to a temporary folder of its own. It loads no extension, uses no
network, and reads nothing outside of the data. The rows are put into the order of intervals,
companies, drivers and times, and are then read as the lines that they would be.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np

from fleetsim.base.clock import FIRST_US, LAST_US, batch_name, format_time
from fleetsim.base.errors import InputError, found
from fleetsim.generate.config import Config
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, type_law
from fleetsim.tally.duck import (
    close_doors,
    confine,
    one_select,
    open_duck,
    told_of_duckdb,
)
from fleetsim.tally.folder import BatchFiles
from fleetsim.tally.lines import name_of
from fleetsim.tally.partitions import Partition

WHERE = "--read"
MEMORY = "256MB"
_ROWS = 1 << 13  # fetched at once
_TEXT = 4096  # characters of a text that are looked at, beside those of the longest type
_NAMES = [field.name for field in EVENT_FIELDS]
_TIME = name_of(FieldKind.TIME)
_TIME_TYPE = "TIMESTAMP WITH TIME ZONE"
_MOST_BATCHES = 100_000
_MOST_COUNTS = 10**8  # drivers x batches


class Query:
    """The rows of a query; close it, or use it with ``with``.

    Parameters
    ----------
    sql : str
        One SELECT; ``{data}`` stands for the folder of the data.
    data : Path
    config : Config
    start_us : int, optional
        Start of the first interval; by default the one in which the smallest time lies, counted
        from 1970 in UTC.
    batches : int, optional
        How many intervals there are; by default all up to the largest time.

    Raises
    ------
    InputError
        Where the query is no SELECT, does not run, or has not the six columns.
    FleetsimError
        Where memory or disk do not suffice.
    """

    def __init__(
        self,
        sql: str,
        data: Path,
        config: Config,
        *,
        start_us: int | None = None,
        batches: int | None = None,
    ) -> None:
        if not isinstance(data, Path) or not data.is_dir():
            raise InputError(str(data), f"no folder of this machine, which {WHERE} needs")
        self._config, self._data = config, data.resolve()
        self._folder = TemporaryDirectory(prefix="fleetsim-", ignore_cleanup_errors=True)
        self._base = open_duck(self._folder.name, MEMORY)
        try:
            with told_of_duckdb(WHERE):
                self._take(sql)
                self._divide(start_us, batches)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Query:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the rows."""
        self._base.close()
        self._folder.cleanup()

    def _take(self, sql: str) -> None:
        """Run the query into a table, and shut the door behind it."""
        query = one_select(
            self._base, sql.replace("{data}", str(self._data).replace("'", "''")), WHERE
        )
        self._base.execute("SET TimeZone = 'UTC'")
        # A DuckDB that cannot keep to a folder is closed after reading.
        confined = confine(self._base, str(self._data))
        rows = f"(\n{query}\n)"
        described = self._base.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()  # noqa: S608
        _check_columns({name: kind for name, kind, *_ in described})
        longest = max(len(name) for name in type_law(self._config).names)
        texts = ", ".join(
            f'left("{name}"::VARCHAR, {_TEXT + longest}) AS "{name}"'
            for name in _NAMES
            if name != _TIME
        )
        moment = f'CASE WHEN isfinite("{_TIME}") THEN epoch_us("{_TIME}") END AS us'
        self._base.execute(f"CREATE TABLE taken AS SELECT {texts}, {moment} FROM {rows}")  # noqa: S608
        if not confined:
            close_doors(self._base)

    def _divide(self, start_us: int | None, batches: int | None) -> None:
        """Divide the rows into intervals, and put them into their order."""
        length = self._config.interval_us
        # A time outside of the calendar is a fault of its row, and no interval begins there.
        counted = (
            "SELECT min(us) FILTER (us BETWEEN ? AND ?), max(us) FILTER (us BETWEEN ? AND ?), "
            "count(*) FROM taken"
        )
        last = LAST_US // length * length - 1  # the last interval ends within the calendar
        least, most, self.rows = self._one(counted, [FIRST_US + length, last] * 2)
        if start_us is None and least is not None:
            start_us = least // length * length
        self.start_us = start_us
        if batches is None:
            batches = 1
            if start_us is not None and most is not None:
                batches = max(1, (most - start_us) // length + 1)
        self.batches = batches
        config = self._config
        if start_us is not None and start_us + batches * length > LAST_US:
            fault = f"found {batches} x {config.batch_interval} from {format_time(start_us)} on"
            raise InputError("--batches", f"{fault}; allowed: an end before the year 10000")
        drivers = config.number_of_companies * config.drivers_per_company
        if batches > _MOST_BATCHES or batches * drivers > _MOST_COUNTS:
            times = "no time"
            if least is not None and most is not None:
                times = f"times from {_shown(least)} to {_shown(most)}"
            raise InputError(
                WHERE,
                f"found {times}, {batches} intervals; allowed: {_MOST_BATCHES} intervals, and "
                f"{_MOST_COUNTS} drivers x intervals",
                next_step="give --interval-start and --batches, or a WHERE",
            )
        first = 0 if start_us is None else start_us
        self._base.execute(
            "CREATE TABLE event AS SELECT *, "
            "coalesce(least(greatest((us - ?) // ?, 0), ?), 0) AS batch FROM taken "
            "ORDER BY batch, company_id, driver_id, us",
            [first, length, batches - 1],
        )
        self._base.execute("DROP TABLE taken")

    def _one(self, query: str, values: Sequence[int]) -> Any:
        row = self._base.execute(query, values).fetchone()
        assert row is not None  # noqa: S101 - an aggregate has a row
        return row

    def sources(self) -> list[Partition]:
        """Return the batches, for `tally_batches`."""
        made = []
        for number in range(self.batches):
            start = self.start_us
            if start is not None:
                start += number * self._config.interval_us
            name = "rows" if start is None else batch_name(start)
            files = BatchFiles("jsonl", ("rows",), False, {})
            rows: Callable[[], BinaryIO] = partial(_open, self, number)
            made.append(Partition(self._data, name, files, start, rows))
        return made

    def lines(self, batch: int) -> Iterator[bytes]:
        """Yield the rows of a batch as JSON Lines, some thousand at a time."""
        columns = ", ".join(f'"{name}"' for name in _NAMES if name != _TIME)
        query = (
            f"SELECT {columns}, us FROM event WHERE batch = ? "  # noqa: S608 (our own names)
            "ORDER BY company_id, driver_id, us"
        )
        with told_of_duckdb(WHERE), self._base.cursor() as cursor:
            cursor.execute(query, [batch])
            while rows := cursor.fetchmany(_ROWS):
                us = np.array([0 if row[-1] is None else row[-1] for row in rows], "datetime64[us]")
                texts = np.datetime_as_string(us, unit="us").tolist()
                yield _encoder.encode_lines(
                    [
                        dict(
                            zip(
                                _NAMES,
                                (*row[:-1], None if row[-1] is None else f"{text}Z"),
                                strict=True,
                            )
                        )
                        for row, text in zip(rows, texts, strict=True)
                    ]
                )


_encoder = msgspec.json.Encoder()


def _open(query: Query, batch: int) -> BinaryIO:
    return cast("BinaryIO", _Lines(query, batch))


def _shown(us: int) -> str:
    try:
        return format_time(us)
    except OverflowError:
        return "a time after the year 9999" if us > 0 else "a time before the year 1"


class _Lines(io.RawIOBase):
    """The lines of a batch as a file."""

    def __init__(self, query: Query, batch: int) -> None:
        super().__init__()
        self._pieces, self._left = query.lines(batch), memoryview(b"")

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        if not len(self._left):
            self._left = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _check_columns(columns: dict[str, str]) -> None:
    """Refuse a result that has not the six columns in types that lose nothing."""
    faults = []
    for name in _NAMES:
        kind = columns.get(name)
        if kind is None:
            faults.append(f"column {name} is missing")
        elif name == _TIME and kind != _TIME_TYPE:
            hint = f'CAST("{name}" AS TIMESTAMPTZ), which takes a time without a zone as UTC'
            faults.append(
                f"column {name}: found {found(kind)}; allowed: {_TIME_TYPE}, as by {hint}"
            )
        elif name != _TIME and kind not in ("VARCHAR", "UUID") and not kind.startswith("ENUM"):
            faults.append(f"column {name}: found {found(kind)}; allowed: VARCHAR, UUID, ENUM")
    if faults:
        shown = ", ".join(f"{name} {found(kind)[1:-1]}" for name, kind in columns.items())
        needed = f"the query has the columns {found(shown, 600)[1:-1]}; needed: {', '.join(_NAMES)}"
        raise InputError(WHERE, *faults, needed)
