"""What a pipeline put out, as the two queries say: accepted rows and refused lines.

The queries run in a DuckDB of their own, which reads the output's folder and nothing else. A part
of the output that is not there is no error: it has no rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import msgspec

from fleetsim.base.errors import FleetsimError, InputError, found, nearest
from fleetsim.reconcile.attached import Attachment, attach, attachment_of, with_scans
from fleetsim.reconcile.delivered import NAMES, TEXTS, TIME
from fleetsim.tally.duck import confine, first_words, one_select, open_duck, quoted

#: Where the two queries stand in an experiment.
ACCEPTED_KEY, REJECTED_KEY = "pipeline.accepted", "pipeline.rejected"
_COLUMNS = ", ".join(NAMES)
#: The queries of who says nothing else.
ACCEPTED = f"SELECT {_COLUMNS} FROM read_parquet('{{output}}/accepted/**/*.parquet')"
REJECTED = "SELECT raw, reason FROM read_json('{output}/rejected/*.jsonl')"
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_NO_FILES = ("No files found", "database does not exist")
_TEXT_TYPES = "VARCHAR, UUID, ENUM"
_TIME_TYPES = "TIMESTAMP WITH TIME ZONE, TIMESTAMP, or VARCHAR with an instant of ISO 8601"
_ISO = r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?([Zz]|[+-]\d\d(:?\d\d)?)"
_ROWS = 1 << 16  # handed on at once
_NEXT = "docs/pipelines.md says what the output has to hold"


class UnreadableOutputError(InputError):
    """A file of the output is damaged or unfinished: what the pipeline did, not the query."""

    exit_code = 1


class Queries(msgspec.Struct, frozen=True):
    """How the output is read; ``{output}`` stands for its folder.

    Attributes
    ----------
    accepted : str
        One SELECT with the six columns, by default `ACCEPTED`, or the same from JSON Lines where
        there is no Parquet. Statements ``ATTACH ... (READ_ONLY)`` may stand before it.
    rejected : str or None
        One SELECT with ``raw``, and with ``reason`` where it likes. None: `REJECTED` where the
        output has the folder ``rejected``, or else no refusals are reported.
    """

    accepted: str = ACCEPTED
    rejected: str | None = None


def check_queries(
    queries: Queries, *, accepted: str = ACCEPTED_KEY, rejected: str = REJECTED_KEY
) -> None:
    """Refuse queries that no output can make right.

    Parameters
    ----------
    queries : Queries
    accepted, rejected : str
        What messages call them.

    Raises
    ------
    InputError
        Where there is no SELECT, a placeholder that is not known, or DuckDB cannot parse it.
    """
    for where, sql in ((accepted, queries.accepted), (rejected, queries.rejected)):
        if sql is not None:
            _parse(sql, Path("output"), where)


@cache
def _parser() -> Any:
    """Return a DuckDB that only parses: it has no thread, which a fork would leave behind."""
    return duckdb.connect(":memory:", config={"threads": 1})


def _parse(sql: str, output: Path, where: str) -> tuple[list[Attachment], str]:
    """Return the files that a query attaches, and its SELECT."""
    for name in _PLACEHOLDER.findall(sql):
        if name != "output":
            fault = f"found the placeholder {{{name}}}{nearest(name, ['output'])}"
            raise InputError(where, f"{fault}; allowed: {{output}}", next_step=_NEXT)
    text = sql.replace("{output}", str(output).replace("'", "''"))
    base = _parser().cursor()  # several threads may parse
    try:
        statements = base.extract_statements(text)
        attached = []
        while statements and statements[0].type == duckdb.StatementType.ATTACH:
            statement = statements.pop(0).query.strip().rstrip(";")
            attached.append(attachment_of(statement, where))
        rest = ";".join(statement.query for statement in statements)
        select = one_select(base, rest, where) if statements else ""
    except duckdb.Error as error:
        fault = f"found a query that cannot be parsed: {first_words(error)}"
        raise InputError(where, f"{fault}; allowed: one SELECT", next_step=_NEXT) from None
    if not select:
        raise InputError(where, "found no SELECT; allowed: one SELECT", next_step=_NEXT)
    scanned, select = with_scans(select)
    return [*attached, *scanned], select


class Outputs:
    """The output of a pipeline, read by its queries, one at a time; a context.

    Parameters
    ----------
    queries : Queries
    output : Path
    memory : str
        Limit of DuckDB.
    accepted, rejected : str
        What messages call the queries.
    """

    def __init__(
        self,
        queries: Queries,
        output: Path,
        memory: str,
        *,
        accepted: str = ACCEPTED_KEY,
        rejected: str = REJECTED_KEY,
    ) -> None:
        self._queries, self._output = queries, output.resolve()
        self._memory = memory
        self._accepted, self._rejected = accepted, rejected
        self._stack = ExitStack()
        self._base: tuple[Any, Path] | None = None  # of the queries that attach nothing

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def accepted(self) -> Iterator[Any]:
        """Give a reader of Arrow batches: five texts, and ``us`` [microseconds since 1970].

        None where the output has nothing.
        """
        sql = self._queries.accepted
        if sql == ACCEPTED and not any(self._output.glob("accepted/**/*.parquet")):
            sql = self._accepted_json()
        with self._rows(sql, self._accepted, _accepted_columns) as reader:
            yield reader

    @property
    def reports_refusals(self) -> bool:
        """Whether the pipeline says what it refused."""
        return self._queries.rejected is not None or (self._output / "rejected").is_dir()

    @contextmanager
    def rejected(self) -> Iterator[Any]:
        """Give a reader of Arrow batches: ``raw``, ``is_text`` and ``reason``; None for nothing."""
        sql = self._queries.rejected
        if sql is None or sql == REJECTED:
            sql = self._rejected_json()
        with self._rows(sql, self._rejected, _rejected_columns) as reader:
            yield reader

    def _accepted_json(self) -> str:
        files = [
            path
            for suffix in ("jsonl", "json")
            for path in sorted(self._output.glob(f"accepted/**/*.{suffix}"))
            if path.is_file() and path.stat().st_size
        ]
        if not files:
            return ""
        return self._json(files, NAMES, self._accepted)

    def _rejected_json(self) -> str:
        files = [
            path
            for path in sorted((self._output / "rejected").glob("*.jsonl"))
            if path.is_file() and path.stat().st_size
        ]
        return self._json(files, ("raw", "reason"), self._rejected) if files else ""

    def _json(self, files: list[Path], names: tuple[str, ...], where: str) -> str:
        """Return a query of JSON Lines whose types are looked at, but whose texts stay texts."""
        listed = ", ".join(quoted(str(path)) for path in files)
        source = f"read_json([{listed}], format = 'newline_delimited'"
        # No dates and ids are made of texts here: a text is compared byte for byte.
        sniffed = (
            f"SELECT * FROM {source}, dateformat = '-', timestampformat = '-', "
            "sample_size = 100000, union_by_name = true, map_inference_threshold = -1)"
        )
        with _told(where):
            base, _ = self._shared(where)
            types = _described(base, sniffed)
        if names == NAMES:
            _accepted_columns(_as_texts(types), where)
        elif "raw" not in types:
            raise _columns_missing(types, ["raw"], where)
        there = [name for name in names if name in types]
        columns = ", ".join(f"{quoted(name)}: 'VARCHAR'" for name in there)
        chosen = ", ".join(f'"{name}"' for name in there)
        return f"SELECT {chosen} FROM {source}, columns = {{{columns}}})"

    def _shared(self, where: str) -> tuple[Any, Path]:
        """Return the DuckDB of the queries that attach nothing: its start takes longer than they.

        Who attaches has one of its own, with no other names in it.
        """
        if self._base is None:
            self._base = self._stack.enter_context(self._connected(where))
        return self._base

    @contextmanager
    def _connected(self, where: str) -> Iterator[tuple[Any, Path]]:
        with TemporaryDirectory(prefix="fleetsim-", ignore_cleanup_errors=True) as folder:
            base = open_duck(folder, self._memory)
            try:
                base.execute("SET TimeZone = 'UTC'")
                if not confine(base, str(self._output)):
                    raise FleetsimError(
                        f"{where}: found DuckDB {duckdb.__version__}, which cannot keep to a "
                        "folder; allowed: 1.2 or newer"
                    )
                yield base, Path(folder)
            finally:
                base.close()

    @contextmanager
    def _rows(self, sql: str, where: str, columns: Any) -> Iterator[Any]:
        """Give a reader of a query's rows, or None where there are no files for it."""
        if not sql:
            yield None
            return
        attached, select = _parse(sql, self._output, where)
        with _told(where), ExitStack() as stack:
            own = stack.enter_context(self._connected(where)) if attached else None
            base, folder = own or self._shared(where)
            try:
                there = [attach(base, one, select, self._output, folder, where) for one in attached]
                types = _described(base, select) if all(there) else None
            except duckdb.IOException as error:
                if not any(words in str(error) for words in _NO_FILES):
                    raise
                types = None
            if types is None:
                yield None
                return
            query = f"SELECT {columns(types, where)} FROM (\n{select}\n)"
            yield _reader(base, query)


def _reader(base: Any, query: str) -> Any:
    rows = base.sql(query)
    if hasattr(rows, "to_arrow_reader"):
        return rows.to_arrow_reader(_ROWS)
    return rows.fetch_arrow_reader(_ROWS)


def _described(base: Any, query: str) -> dict[str, str]:
    """Return the types of a query's columns by name."""
    rows = base.execute(f"DESCRIBE {query}").fetchall()
    return {name: kind for name, kind, *_ in rows}


def _as_texts(types: dict[str, str]) -> dict[str, str]:
    """Return the types of JSON columns as they are read: a column of nothing is one of nulls."""
    return {
        name: "VARCHAR" if kind in ("JSON", "UUID") or kind.startswith("TIMESTAMP") else kind
        for name, kind in types.items()
    }


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn DuckDB's errors into ours: the query's fault, or that of a file of the output."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise FleetsimError(f"{where}: {first_words(error)}") from error
    except duckdb.Error as error:
        fault = f"DuckDB refuses the query: {first_words(error)}"
        own = (duckdb.PermissionException, duckdb.CatalogException, duckdb.BinderException)
        if isinstance(error, (duckdb.IOException, duckdb.InvalidInputException)) and not isinstance(
            error, own
        ):
            step = "look at the output's files; one may be unfinished"
            raise UnreadableOutputError(where, fault, next_step=step) from error
        raise InputError(where, fault, next_step=_NEXT) from error


def _columns_missing(types: dict[str, str], names: list[str], where: str) -> InputError:
    faults = [f"column {name} is missing{nearest(name, types)}" for name in names]
    shown = ", ".join(f"{name} {kind}" for name, kind in types.items())
    needed = f"found the columns {found(shown, 600)[1:-1]}; allowed: {_COLUMNS}"
    if names == ["raw"]:
        needed = f"found the columns {found(shown, 600)[1:-1]}; allowed: raw, reason, batch_id"
    return InputError(where, *faults, needed, next_step=_NEXT)


def _is_text(kind: str) -> bool:
    return kind in ("VARCHAR", "UUID", "JSON") or kind.startswith("ENUM")


def _accepted_columns(types: dict[str, str], where: str) -> str:
    """Return the six columns in one form, or refuse a result that has not got them."""
    missing = [name for name in NAMES if name not in types]
    if missing:
        raise _columns_missing(types, missing, where)
    faults = []
    for name in NAMES:
        kind = types[name]
        if name == TIME and not (kind.startswith("TIMESTAMP") or _is_text(kind)):
            faults.append(f"column {name}: found another type, {kind}; allowed: {_TIME_TYPES}")
        elif name != TIME and not _is_text(kind):
            faults.append(f"column {name}: found another type, {kind}; allowed: {_TEXT_TYPES}")
    if faults:
        raise InputError(where, *faults, next_step=_NEXT)
    columns = [f'{_text(name, types[name])} AS "{name}"' for name in TEXTS]
    return ", ".join([*columns, f"{_micros(types[TIME])} AS us"])


def _text(name: str, kind: str) -> str:
    if kind == "JSON":  # a text without its quotes; anything else as it is written
        return f"(\"{name}\" ->> '$')"
    return f'"{name}"' if kind == "VARCHAR" else f'"{name}"::VARCHAR'


def _micros(kind: str) -> str:
    """Return SQL for the time; NULL where it is none."""
    if kind.startswith("TIMESTAMP"):
        target = "TIMESTAMPTZ" if "ZONE" in kind or "TZ" in kind else "TIMESTAMP"
        moment = f'"{TIME}"' if kind in (target, "TIMESTAMP WITH TIME ZONE") else ""
        moment = moment or f'"{TIME}"::{target}'
        return f"CASE WHEN isfinite({moment}) THEN epoch_us({moment}) END"
    text = _text(TIME, kind)
    # Most end with a Z, and are read faster without their zone.
    plain = f"TRY_CAST({text} AS TIMESTAMP)"
    zoned = f"TRY_CAST({text} AS TIMESTAMPTZ)"
    return (
        f"CASE WHEN regexp_full_match({text}, '{_ISO}') THEN "
        f"CASE WHEN ends_with({text}, 'Z') THEN epoch_us({plain}) ELSE epoch_us({zoned}) END END"
    )


def _rejected_columns(types: dict[str, str], where: str) -> str:
    """Return the refused bytes and the reason in one form."""
    if "raw" not in types:
        raise _columns_missing(types, ["raw"], where)
    kind = types["raw"]
    if kind not in ("VARCHAR", "BLOB", "JSON"):
        fault = f"column raw: found another type, {kind}; allowed: VARCHAR, BLOB, JSON"
        raise InputError(where, fault, next_step=_NEXT)
    raw = "raw" if kind == "BLOB" else f"encode({_text('raw', kind)})"
    reason = "NULL"
    if "reason" in types:
        reason = _text("reason", types["reason"])
    is_text = "false" if kind == "BLOB" else "true"
    return f"{raw} AS raw, {is_text} AS is_text, {reason}::VARCHAR AS reason"
