"""Delivered lines as a table of DuckDB, in bounded memory.

Of a line without a defect only hashes and the id are kept: DuckDB parses it. The few lines of the
ledger are parsed here, since a defect may be what no parser reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.base.errors import InputError, refused
from fleetsim.base.strict import decoder
from fleetsim.batch.dataset import ledger_name
from fleetsim.batch.formats import FORMATS
from fleetsim.batch.ledger import LedgerEntry, read_ledger
from fleetsim.batch.meta import META_NAME, read_meta
from fleetsim.batch.rows import read_rows
from fleetsim.generate.model import EVENT_FIELDS, FieldKind
from fleetsim.reconcile.result import FRAGMENT
from fleetsim.tally.duck import first_words, quoted

NAMES = tuple(field.name for field in EVENT_FIELDS)
TIME = next(field.name for field in EVENT_FIELDS if field.kind is FieldKind.TIME)
ID = NAMES[0]
TEXTS = tuple(name for name in NAMES if name != TIME)
#: A place is a delivery and a line: 2**23 deliveries of 10**12 lines each.
LINE_BITS = 40
_BLOCK = 1 << 22  # bytes read at once
_ENTRIES = 1 << 12  # ledger lines written at once
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?([Zz]|[+-]\d\d(:?\d\d)?)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFECT = pa.schema(
    [
        ("place", pa.int64()),
        ("kind", pa.string()),
        ("expect", pa.string()),
        ("record", pa.string()),
        ("raw", pa.binary()),
        ("decoded", pa.string()),
        ("readable", pa.bool_()),
        ("id_unreadable", pa.bool_()),
        *((name, pa.string()) for name in TEXTS),
        ("us", pa.int64()),
        ("entry", pa.string()),
    ]
)
_START = f'{{"{ID}":"'  # of each line of the generator
_ID_FROM, _ID_TO = len(_START) + 1, len(_START) + 36
_LINES = pa.schema([("place", pa.int64()), ("line", pa.string())])


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery of one batch.

    Attributes
    ----------
    delivery : int
        From 1, in the order of arrival.
    batch_id : str
    events : Path or list of Path
        The batch as it was generated, in a copy that the pipeline never saw: a file (``jsonl``,
        ``jsonl.gz``, ``jsonl.zst`` or ``parquet``), its parts in their order, or its folder.
    ledger : Path or None
        Of its defects; with parts the folder of their ledgers. None: no defects.
    lines : int or None
        How many whole lines came of a delivery that was cut; None for all.
    fragment : bytes or None
        The line that was cut, as far as it came.
    """

    delivery: int
    batch_id: str
    events: Path | list[Path]
    ledger: Path | None = None
    lines: int | None = None
    fragment: bytes | None = None


def value_key(prefix: str = "") -> str:
    """Return SQL for the key ``vid``, ``vh`` of six values, whose time stands in ``us``.

    A key is the id, or 128 bits of MD5 where there is none, and 64 bits of all that is compared:
    only what has the same id already is told apart by the 64 bits.
    """
    own = f"{prefix}{ID}"
    values = ", ".join(f"{prefix}{name}" for name in (*TEXTS, "us"))
    return (
        f"coalesce(TRY_CAST({own} AS UUID), md5(coalesce({own}, ''))::UUID) AS vid, "
        f"hash({values}) AS vh"
    )


def other_hash(prefix: str = "") -> str:
    """Return SQL for 128 bits of the values without the id."""
    names = [name for name in TEXTS if name != ID]
    # Lengths first: no two different lists of texts, or of nulls, make the same bytes.
    lengths = [f"coalesce(strlen({prefix}{name}), -1)" for name in names]
    texts = [f"{prefix}{name}" for name in names]
    parts = [*lengths, f"coalesce({prefix}us::VARCHAR, 'null')", *texts]
    return f"md5_number(concat_ws(' ', {', '.join(parts)}))"


def bytes_key(line: str, names: tuple[str, str] = ("bid", "bh")) -> str:
    """Return SQL for the key of a line as a BLOB with its line feed; as `value_key`."""
    start = f"{line}[1:{len(_START)}] = '{_START}'::BLOB"
    own = f"TRY_CAST({line}[{_ID_FROM}:{_ID_TO}]::VARCHAR AS UUID)"
    return (
        f"coalesce(CASE WHEN {start} THEN {own} END, md5({line})::UUID) AS {names[0]}, "
        f"hash({line}) AS {names[1]}"
    )


def _clean_line(struct: str) -> str:
    """Return SQL for a line without a defect: `line`'s columns from ``source``."""
    # The generator's lines begin with their id, so that one cast makes both keys.
    own = f"substr(line, {_ID_FROM}, {_ID_TO - _ID_FROM + 1})"
    bid = (
        f"coalesce(CASE WHEN NOT starts_with(line, '{_START}') THEN NULL WHEN {own} = {ID} "
        f"THEN uuid ELSE TRY_CAST({own} AS UUID) END, md5(line)::UUID)"
    )
    values = ", ".join((*TEXTS, "us"))
    return (
        f"SELECT place, {bid}, hash(line), coalesce(uuid, md5(coalesce({ID}, ''))::UUID), "
        f"hash({values}), coalesce(uuid::VARCHAR <> {ID}, true) FROM "
        f"(SELECT *, epoch_us(CAST({TIME} AS TIMESTAMP)) AS us, TRY_CAST({ID} AS UUID) AS uuid "
        f"FROM (SELECT place, line, unnest(from_json(line, '{struct}')) FROM source))"
    )


def load_delivered(
    base: duckdb.DuckDBPyConnection, arrivals: Sequence[Arrival], folder: Path
) -> None:
    """Make the tables ``arrival``, ``line``, ``odd`` and ``defect``, and the view ``defect_line``.

    ``odd`` has the ids of lines without a defect that are no UUID as the generator writes one.

    Parameters
    ----------
    base : DuckDB connection
    arrivals : sequence of Arrival
    folder : Path
        For a file with the lines of the ledgers, which the view reads.

    Raises
    ------
    InputError
        Where a file or a ledger is missing, damaged, or does not fit the other, or two arrivals
        have one number.
    """
    _check(arrivals)
    names = ", ".join(quoted(name) for name in sorted({one.batch_id for one in arrivals})) or "''"
    base.execute(f"CREATE TYPE batch_name AS ENUM ({names})")
    base.execute("CREATE TABLE arrival (delivery INTEGER, batch batch_name)")
    base.execute(
        "CREATE TABLE line "
        "(place BIGINT, bid UUID, bh UBIGINT, vid UUID, vh UBIGINT, is_odd BOOLEAN)"
    )
    base.execute("CREATE TABLE odd (place BIGINT, event_id VARCHAR)")
    loader = _Loader(base, folder / "defects.parquet")
    with loader.writer:
        for arrival in arrivals:
            base.execute("INSERT INTO arrival VALUES (?, ?)", [arrival.delivery, arrival.batch_id])
            loader.load(arrival)
        loader.flush()
    loader.finish()


def _check(arrivals: Sequence[Arrival]) -> None:
    seen: set[int] = set()
    for arrival in arrivals:
        if not 1 <= arrival.delivery < 1 << 22:
            fault = f"found the delivery {arrival.delivery}; allowed: 1 to {(1 << 22) - 1}"
            raise InputError("arrivals", fault)
        if arrival.delivery in seen:
            fault = f"found the delivery {arrival.delivery} twice; allowed: each number once"
            raise InputError("arrivals", fault)
        seen.add(arrival.delivery)


def files_of(events: Path | list[Path]) -> list[Path]:
    """Return the files of a batch in the order of their lines.

    Raises
    ------
    InputError
        Where a folder holds no file of events.
    """
    if isinstance(events, list):
        return events
    if not events.is_dir():
        return [events]
    names: Sequence[str] = ()
    if (events / META_NAME).is_file():
        names = list(read_meta(events).files)
    else:
        whole = [form.events_name for form in FORMATS.values()]
        names = [name for name in whole if (events / name).is_file()][:1]
        names = names or sorted(path.name for path in events.glob("part-*.*"))
    if not names:
        raise InputError(str(events), "found no file of events; allowed: a batch as generated")
    return [events / name for name in names]


def blocks(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file of events, some thousand at a time, each with its line feed."""
    rest = b""
    try:
        with closing(_open(path)) as file:
            while piece := file.read(_BLOCK):
                end = piece.rfind(b"\n") + 1
                if not end:
                    rest += piece
                    continue
                yield _plain(rest + piece[:end])
                rest = piece[end:]
    except (pa.ArrowException, EOFError) as error:
        raise InputError(str(path), f"cannot be read: {error}") from error
    except OSError as error:
        raise refused(error, path, "cannot be read: {}") from error
    if rest:
        yield _plain(rest + b"\n")


def _plain(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n") if b"\r" in block else block


def _open(path: Path) -> Any:
    if path.name.endswith(".parquet"):
        return read_rows(path)
    if path.name.endswith(".gz"):
        import gzip

        return gzip.open(path, "rb")
    if path.name.endswith(".zst"):
        return pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd")
    return path.open("rb")


class _Loader:
    """Fills the tables ``line`` and ``defect``, delivery by delivery."""

    def __init__(self, base: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._base, self._path = base, path
        self._rows: list[tuple[Any, ...]] = []
        # A file, since DuckDB runs a statement of its own while these lines come.
        self.writer = pq.ParquetWriter(path, _DEFECT, compression="NONE")

    def load(self, arrival: Arrival) -> None:
        """Take the lines of one delivery."""
        offset = 0
        for path in files_of(arrival.events):
            left = None if arrival.lines is None else arrival.lines - offset
            if left is not None and left <= 0:
                break
            offset = self._load_file(arrival, path, offset)
        if arrival.lines is not None and offset < arrival.lines:
            fault = f"found {offset} lines; allowed: at least the {arrival.lines} that came"
            raise InputError(str(arrival.events), fault)
        if arrival.fragment:
            place = (arrival.delivery << LINE_BITS) + offset + 1
            raw = arrival.fragment.removesuffix(b"\n").removesuffix(b"\r")
            self._take(place, raw, FRAGMENT, "either", None, b"")

    def _load_file(self, arrival: Arrival, path: Path, offset: int) -> int:
        """Take the lines of one file; return how many there are with those before it."""
        feed = _Feed(self, arrival, path, offset)
        struct = json.dumps(dict.fromkeys(NAMES, "VARCHAR"))
        self._run(f"INSERT INTO line {_clean_line(struct)}", feed)
        low, high = (arrival.delivery << LINE_BITS) + offset, (arrival.delivery + 1) << LINE_BITS
        odd = f"FROM line WHERE is_odd AND place > {low} AND place < {high}"
        (row,) = self._base.execute(f"SELECT count(*) {odd}").fetchall()
        if row[0]:
            named = (
                f"INSERT INTO odd SELECT place, line ->> '$.{ID}' FROM source "
                f"SEMI JOIN (SELECT place {odd}) USING (place)"
            )
            self._run(named, _Feed(None, arrival, path, offset))
        return feed.last

    def _run(self, query: str, feed: _Feed) -> None:
        """Run a query of the lines of a file, which are its table ``source``."""
        source = pa.RecordBatchReader.from_batches(_LINES, feed.batches())
        self._base.register("source", source)
        try:
            self._base.execute(query)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            if feed.error is not None:
                raise feed.error from None
            raise InputError(
                str(feed.path),
                f"found a line without a defect that is none of the generator's: "
                f"{first_words(error)}",
                next_step="give the batch as it was generated, with its ledger",
            ) from error
        finally:
            self._base.unregister("source")

    def take_entry(self, place: int, raw: bytes, entry: LedgerEntry, path: Path) -> None:
        """Take a line that the ledger names."""
        is_rows = path.name.endswith(".parquet")  # a row's hash is that of its canonical line, too
        if hashlib.sha256(raw).hexdigest() != entry.sha256:
            raise InputError(
                f"{path}: {'row' if is_rows else 'line'} {entry.line}",
                f"found other bytes than those of the ledger's {entry.kind}",
                next_step="give the batch as it was generated, with its own ledger",
            )
        self._take(place, raw, entry.kind, entry.expect, entry.event_id, msgspec.json.encode(entry))

    def take_clean(self, place: int, raw: bytes) -> None:
        """Take a line that is no UTF-8 and that no ledger names."""
        self._take(place, raw, None, "accept", None, b"")

    def _take(
        self,
        place: int,
        raw: bytes,
        kind: str | None,
        expect: str,
        record: str | None,
        entry: bytes,
    ) -> None:
        try:
            text, decoded = raw.decode(), None
        except UnicodeDecodeError:
            text = decoded = raw.decode(errors="replace")
        values, readable, id_unreadable = read_values(text, decoded is None)
        made = (place, kind, expect, record, raw, decoded, readable, id_unreadable)
        self._rows.append((*made, *values.values(), entry.decode() or None))
        if len(self._rows) >= _ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(column, _DEFECT[i].type) for i, column in enumerate(columns)]
            self.writer.write_table(pa.Table.from_arrays(arrays, schema=_DEFECT))
            self._rows = []

    def finish(self) -> None:
        """Hash the lines of the ledgers, and add them to all lines."""
        self._base.execute(
            f"CREATE VIEW defect_line AS SELECT * FROM read_parquet({quoted(str(self._path))})"
        )
        fields = f"{bytes_key('whole')}, {value_key()}, {bytes_key('other', ('alt_id', 'alt_h'))}"
        self._base.execute(
            "CREATE TABLE defect AS SELECT place, kind, expect, record, bid, bh, "
            "CASE WHEN readable THEN vid END AS vid, CASE WHEN readable THEN vh END AS vh, "
            "CASE WHEN decoded IS NOT NULL THEN alt_id END AS alt_id, "
            "CASE WHEN decoded IS NOT NULL THEN alt_h END AS alt_h, w FROM "
            f"(SELECT *, {fields}, CASE WHEN id_unreadable THEN {other_hash()} END AS w FROM "
            r"(SELECT *, raw || '\x0A'::BLOB AS whole, "
            r"encode(decoded || chr(10)) AS other FROM defect_line))"
        )
        self._base.execute("INSERT INTO line SELECT place, bid, bh, vid, vh, false FROM defect")


class _Feed:
    """The lines of one file: those without a defect for DuckDB, the others for the loader."""

    def __init__(self, loader: _Loader | None, arrival: Arrival, path: Path, offset: int) -> None:
        self._loader, self._arrival, self.path = loader, arrival, path
        self._offset = self.last = offset
        self._entries = self._ledger()
        self._next = next(self._entries, None)
        self.error: InputError | None = None

    def _ledger(self) -> Iterator[LedgerEntry]:
        path = self._arrival.ledger
        if path is None:
            return iter(())
        if path.is_dir():
            path /= ledger_name(self._arrival.batch_id, self.path.name)
        return read_ledger(path)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the lines without a defect; keep an error, which DuckDB would only quote."""
        try:
            for block in blocks(self.path):
                made = self._batch(block)
                if made is None:
                    return
                yield made
            self._check_end()
        except InputError as error:
            self.error = error
            raise

    def _check_end(self) -> None:
        if self._next is not None and self._arrival.lines is None:
            raise InputError(
                str(self.path),
                f"found {self.last - self._offset} lines, and line {self._next.line} in the ledger",
                next_step="give the batch as it was generated, with its own ledger",
            )

    def _batch(self, block: bytes) -> pa.RecordBatch | None:
        """Return the clean lines of a block; None where all that came was read."""
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10) + 1
        if self._arrival.lines is not None:
            ends = ends[: max(0, self._arrival.lines - self.last)]
            if not len(ends):
                self._next = None
                return None
        starts = np.concatenate([[0], ends[:-1]])
        first = self.last
        self.last += len(ends)
        clean = np.ones(len(ends), np.bool_)
        while self._next is not None and self._next.line + self._offset <= self.last:
            at = self._next.line + self._offset - first - 1
            clean[at] = False
            raw = block[starts[at] : ends[at] - 1]
            place = self._place(first + at)
            if self._loader is not None:
                self._loader.take_entry(place, raw, self._next, self.path)
            self._next = next(self._entries, None)
        places = self._place(first) + np.arange(len(ends))
        every = _strings(block, ends)
        lines = every if clean.all() else every.filter(pa.array(clean))
        if not _is_utf8(lines):
            self._take_strange(block, starts, ends, clean, first)
            lines = every.filter(pa.array(clean))
        if len(lines) < len(ends):
            places = places[clean]
        return pa.RecordBatch.from_arrays([pa.array(places), lines], schema=_LINES)

    def _place(self, row: int) -> int:
        return (self._arrival.delivery << LINE_BITS) + row + 1

    def _take_strange(
        self,
        block: bytes,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        clean: npt.NDArray[np.bool_],
        first: int,
    ) -> None:
        """Take the lines that are no UTF-8 and have no entry as they are; they are not clean."""
        for at in np.flatnonzero(clean).tolist():
            raw = block[starts[at] : ends[at] - 1]
            try:
                raw.decode()
            except UnicodeDecodeError:
                clean[at] = False
                if self._loader is not None:
                    self._loader.take_clean(self._place(first + at), raw)


def _is_utf8(lines: pa.Array) -> bool:
    try:
        lines.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _strings(block: bytes, ends: npt.NDArray[np.int64]) -> pa.Array:
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    return pa.Array.from_buffers(pa.string(), len(ends), buffers)


def read_values(text: str, whole: bool = True) -> tuple[dict[str, Any], bool, bool]:
    """Return what a line with a defect says, as a reader of JSON takes it.

    Parameters
    ----------
    text : str
        The line; with U+FFFD where it is no UTF-8.
    whole : bool
        Whether it is UTF-8.

    Returns
    -------
    values : dict
        Five texts and ``us``, the time in microseconds since 1970. A value that is no text is its
        JSON text; of a key that stands twice, the last counts.
    readable : bool
        Whether an accepted row can have just these values.
    id_unreadable : bool
        Whether only the id cannot be read.
    """
    if whole and (plain := _plain_values(text)) is not None:
        return plain
    nothing: dict[str, Any] = dict.fromkeys((*TEXTS, "us"))
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return nothing, False, False
    if not isinstance(record, dict):
        return nothing, False, False
    values: dict[str, Any] = {name: _text(record.get(name)) for name in TEXTS}
    moment = record.get(TIME)
    values["us"] = us = instant(moment) if isinstance(moment, str) else None
    timed = moment is None or us is not None
    own = record.get(ID)
    struck = not isinstance(own, str) or (not whole and "\ufffd" in own)
    return values, timed and whole, timed and struck


_Record = msgspec.defstruct("_Record", [(name, str, "") for name in NAMES])
_plain_record: msgspec.json.Decoder[Any] = decoder(_Record)


def _plain_values(text: str) -> tuple[dict[str, Any], bool, bool] | None:
    """Return what a line of six texts says, sooner than `read_values`; None for another line."""
    try:
        record = _plain_record.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    us = instant(getattr(record, TIME))
    values = {name: getattr(record, name) for name in TEXTS}
    if us is None or not all(values.values()):
        return None
    return values | {"us": us}, True, False


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def instant(text: str) -> int | None:
    """Return an instant of ISO 8601 in microseconds since 1970, one without a zone as in UTC.

    None where the text is no instant.
    """
    if not _INSTANT.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.replace(",", "."))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def found_lines(arrival: Arrival, wanted: list[int]) -> Iterator[tuple[int, bytes]]:
    """Yield some lines of a delivery by their numbers, read again; without their line feeds."""
    left = sorted(wanted, reverse=True)
    before = 0
    for path in files_of(arrival.events):
        for block in blocks(path):
            count = block.count(b"\n")
            if left and left[-1] <= before + count:
                lines = block.split(b"\n")
                while left and left[-1] <= before + count:
                    line = left.pop()
                    yield line, lines[line - before - 1]
            if not left:
                return
            before += count
