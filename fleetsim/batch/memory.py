"""Batches in memory, for exploration: columns or a data frame, with no file in between."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fleetsim.base.clock import format_time, parse_time
from fleetsim.base.errors import InputError
from fleetsim.batch.companies import read_companies
from fleetsim.batch.ledger import LedgerEntry
from fleetsim.batch.plan import check_kinds
from fleetsim.generate.config import Config
from fleetsim.generate.encode import encode_companies, encode_events, uuid_text
from fleetsim.generate.events import EventColumns
from fleetsim.generate.fleet import Fleet, draw_companies
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.model import EVENT_FIELDS, choice_law
from fleetsim.generate.producer import Producer, expected_events
from fleetsim.generate.streams import BLOCK

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5  # events in a notebook
_TABLE_EVENTS = 1 << 20  # events of a frame that are made at once
_OF_PARTS = ("part",)  # the last key of a ledger's line, which a batch in memory never has
_LEDGER_TYPES = {"line": "int64", "copy_of": "Int64"}


@dataclass(frozen=True)
class EventBatch:
    """A batch in memory.

    Attributes
    ----------
    config : Config
    fleet : Fleet
    start_us : int
        Start of the interval [microseconds since 1970 UTC].
    ordinal : int
    columns : EventColumns
        The events as numbers, as they were drawn; `frame` and `lines` put them into words, with
        the defects of the configuration.
    """

    config: Config
    fleet: Fleet
    start_us: int
    ordinal: int
    columns: EventColumns

    def __len__(self) -> int:
        return len(self.columns)

    def __repr__(self) -> str:
        start = format_time(self.start_us)
        return f"<EventBatch of {len(self)} events from {start}, ordinal {self.ordinal}>"

    def _repr_html_(self) -> str:
        from fleetsim.base.tables import Table

        part = self.columns.part(0, _SHOWN)
        lines = encode_events(self.config, self.fleet, self.start_us, part).splitlines()
        events = [msgspec.json.decode(line) for line in lines]
        header = tuple(field.name for field in EVENT_FIELDS)
        rows = tuple(tuple(event[name] for name in header) for event in events)
        start = format_time(self.start_us)
        caption = (
            f"{len(self)} events of the {self.config.batch_interval} from {start} on, ordinal "
            f"{self.ordinal}; the first {len(rows)}"
        )
        return Table(header, rows, caption)._repr_html_()

    def lines(self) -> bytes:
        """Return the JSON Lines that `fleetsim events` would write."""
        if self.config.defects:
            with self._producer(columns=False) as producer:
                return b"".join(lines for _, lines in producer.content(self.start_us, self.ordinal))
        return b"".join(
            encode_events(self.config, self.fleet, self.start_us, part)
            for part in self._parts(1 << 15)
        )

    def frame(self) -> pd.DataFrame:
        """Return a pandas DataFrame with the columns of a line, and their names.

        The event's id is text, the other ids and the type are categories, the time is in UTC.

        Raises
        ------
        InputError
            Where the configuration has a defect that columns cannot hold.
        """
        import pyarrow as pa

        from fleetsim.batch.parquet import table_of

        check_kinds(self.config, "frame")
        parts = self._delivered() if self.config.defects else self._parts(_TABLE_EVENTS)
        tables = [table_of(self.config, self.fleet, self.start_us, part) for part in parts]
        frame: pd.DataFrame = pa.concat_tables(tables).unify_dictionaries().to_pandas()
        return frame

    def ledger_frame(self) -> pd.DataFrame:
        """Return the ledger of the defects as a pandas DataFrame: a row for each line they touch.

        The columns are the keys of a ledger's line; `line` is the place among the rows of `frame`
        and the lines of `lines`, from 1. `injected` is text: a JSON value where it is no text
        itself. No rows where the configuration has no defects.
        """
        import pandas as pd

        ledger: list[bytes] = []
        if self.config.defects:
            with self._producer(columns=False) as producer:
                for _ in producer.content(self.start_us, self.ordinal, ledger=ledger.append):
                    pass
        entries = msgspec.json.decode(
            b"[" + b",".join(b"".join(ledger).splitlines()) + b"]", type=list[LedgerEntry]
        )
        columns: dict[str, pd.Series] = {}
        for field in LedgerEntry.__struct_fields__[: -len(_OF_PARTS)]:
            values = [getattr(entry, field) for entry in entries]
            if field == "injected":
                values = [
                    value if value is None or isinstance(value, str) else _json_text(value)
                    for value in values
                ]
            columns[field] = pd.Series(values, dtype=_LEDGER_TYPES.get(field, "object"))
        return pd.DataFrame(columns)

    def _producer(self, *, columns: bool) -> Producer:
        events = expected_events(self.config, self.fleet, self.start_us)
        return Producer(self.config, self.fleet, events, columns=columns)

    def _delivered(self) -> list[EventColumns]:
        """Return the rows with their defects, some at a time; one part where there are none."""
        with self._producer(columns=True) as producer:
            rows = [piece.columns for piece in producer.delivered(self.start_us, self.ordinal)]
        return [part for part in rows if part is not None] or [EventColumns.joined([])]

    def _parts(self, size: int) -> list[EventColumns]:
        """Return consecutive events, `size` at a time; one part where there are none."""
        return [self.columns.part(at, at + size) for at in range(0, max(1, len(self)), size)]


def _json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def generate_batch(
    config: Config,
    *,
    companies: Fleet | Path | str | None = None,
    interval_start: str | datetime | None = None,
    ordinal: int = 0,
    as_frame: bool = False,
    jobs: int | None = None,
    kernel: Kernel = "auto",
) -> EventBatch | pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Return a batch in memory: the events that ``fleetsim events`` would write.

    Parameters
    ----------
    config : Config
    companies : Fleet, or path of a companies file, optional
        By default the first cohort of the configuration, which has joined.
    interval_start : str or datetime, optional
        ISO 8601 time with its zone, or a datetime with one; by default this moment, as ``--now``.
    ordinal : int
        Number of the batch among those of its seed.
    as_frame : bool
        Return a pandas DataFrame in place of an `EventBatch`; where the configuration has defects,
        the pair of it and of the ledger's (`EventBatch.ledger_frame`).
    jobs, kernel
        See `batch.write_batches`.

    Raises
    ------
    InputError
        Where the time or the companies cannot be read, the ordinal is out of range, or a frame is
        asked for that cannot hold a kind of defect.
    """
    if as_frame:
        check_kinds(config, "frame")
    if not 0 <= ordinal < 2**64:
        raise InputError("ordinal", f"found {ordinal}; allowed: 0 to 2**64 - 1")
    start_us = _instant("interval_start", interval_start)
    if companies is None:
        fleet = _first_cohort(config, start_us)
    else:
        fleet = companies if isinstance(companies, Fleet) else read_companies(Path(companies))
    parts: list[EventColumns] = []
    events = expected_events(config, fleet, start_us)
    with Producer(config, fleet, events, columns=True, kernel=kernel, jobs=jobs) as producer:
        for piece in producer.pieces(start_us, ordinal):
            assert piece.columns is not None  # noqa: S101 - columns were asked for
            parts.append(piece.columns if piece.release is None else piece.columns.copy())
            if piece.release:
                piece.release()
    batch = EventBatch(config, fleet, start_us, ordinal, EventColumns.joined(parts))
    if as_frame and config.defects:
        return batch.frame(), batch.ledger_frame()
    return batch.frame() if as_frame else batch


def make_fleet(config: Config, *, at: str | datetime | None = None) -> Fleet:
    """Return the first cohort of a configuration: what ``fleetsim companies --at`` would list.

    Parameters
    ----------
    config : Config
    at : str or datetime, optional
        ISO 8601 time with its zone, or a datetime with one, at which the cohort joins; by default
        this moment.

    Raises
    ------
    InputError
        Where the time cannot be read.
    """
    return _first_cohort(config, _instant("at", at))


def _instant(name: str, given: str | datetime | None) -> int:
    """Return a time [microseconds since 1970 UTC]; this moment where none is given."""
    if given is None:
        return time.time_ns() // 1000
    try:
        return parse_time(given)
    except ValueError as error:
        raise InputError(name, str(error)) from None


def _first_cohort(config: Config, at_us: int) -> Fleet:
    n = config.number_of_companies
    active = choice_law(config, "active_fraction").names.index("true")
    digest = hashlib.sha256()
    ids, flags = [], []
    for block in range(-(-n // BLOCK)):
        companies = draw_companies(config, block, at_us, n)
        ids.append(uuid_text(companies.company_id))
        flags.append(companies.active == active)
        digest.update(encode_companies(config, companies))
    return Fleet(
        np.concatenate(ids),
        np.concatenate(flags),
        np.full(n, at_us, np.int64),
        digest.hexdigest(),
    )
