"""One outcome for each delivered line: lines, accepted rows and refusals, joined by DuckDB.

Lines of equal bytes are a group, and rows are matched to groups as multisets. Nothing here runs
once for each clean line: the joins are DuckDB's, which spills what is beyond its limit of memory.
"""

# ruff: noqa: S608 - the SQL is made of our own names and of quoted paths

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import duckdb

from fleetsim.base.errors import FleetsimError
from fleetsim.reconcile.delivered import (
    LINE_BITS,
    NAMES,
    TEXTS,
    TIME,
    Arrival,
    load_delivered,
    other_hash,
    value_hash,
)
from fleetsim.reconcile.figures import figures
from fleetsim.reconcile.outputs import ACCEPTED_KEY, REJECTED_KEY, Outputs, Queries
from fleetsim.reconcile.result import Reconciliation
from fleetsim.tally.duck import duck_settings, first_words, quoted

#: Of DuckDB; the process needs about 150 MB more.
MEMORY = "256MB"
_MASK = (1 << LINE_BITS) - 1


def reconcile(
    arrivals: Sequence[Arrival],
    queries: Queries,
    output: Path,
    *,
    outcome: Path | None = None,
    keep_accepted: Path | None = None,
    memory: str = MEMORY,
    accepted: str = ACCEPTED_KEY,
    rejected: str = REJECTED_KEY,
) -> Reconciliation:
    """Hold what a pipeline put out against what was delivered.

    Parameters
    ----------
    arrivals : sequence of Arrival
    queries : Queries
    output : Path
        The pipeline's folder. What is missing in it has no rows.
    outcome : Path, optional
        Where one row for each delivered line is written, as Parquet, in the order of deliveries
        and lines; whole or not at all.
    keep_accepted : Path, optional
        Where the six columns of the accepted rows are written, as Parquet, for
        `accepted_difference`; whole or not at all.
    memory : str
        Limit of DuckDB.
    accepted, rejected : str
        What messages call the two queries.

    Raises
    ------
    InputError
        Where a query does not run or has not the columns, or a batch or ledger is damaged.
    UnreadableOutputError
        Where a file of the output is damaged or unfinished.
    FleetsimError
        Where memory or disk do not suffice.
    """
    with TemporaryDirectory(prefix="fleetsim-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        outputs = Outputs(queries, output, memory, accepted=accepted, rejected=rejected)
        settings = duck_settings(name, memory) | {"preserve_insertion_order": False}
        base = duckdb.connect(":memory:", config=settings)
        try:
            base.execute("SET TimeZone = 'UTC'")
            with whole(keep_accepted, folder / "accepted.parquet") as kept, _told():
                reports = _take_outputs(base, outputs, kept, folder / "rejected.parquet")
                load_delivered(base, arrivals, folder)
                _match(base)
                with whole(outcome, folder / "outcome.parquet") as path:
                    _write_outcome(base, path)
                return figures(base, arrivals, reports)
        finally:
            base.close()


@contextmanager
def whole(target: Path | None, spare: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes the target when all of it is there."""
    if target is None:
        yield spare
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid4().hex}.partial")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise FleetsimError(
            f"the reconciliation: {first_words(error)}; it spills to $TMPDIR, and needs about 200 "
            "bytes a line there"
        ) from error


def _take_outputs(base: Any, outputs: Outputs, kept: Path, refused: Path) -> bool:
    """Write both outputs to files in one form; return whether refusals are reported."""
    columns = ", ".join(f"{name} VARCHAR" for name in TEXTS)
    base.execute(f"CREATE TABLE no_accepted ({columns}, us BIGINT)")
    base.execute("CREATE TABLE no_refusal (raw BLOB, is_text BOOLEAN, reason VARCHAR)")
    form = "(FORMAT parquet, COMPRESSION uncompressed)"
    with outputs.accepted() as reader:
        source = "no_accepted"
        if reader is not None:
            base.register("reader", reader)
            source = "reader"
        shown = ", ".join(
            f"make_timestamptz(us) AS {TIME}" if name == TIME else name for name in NAMES
        )
        base.execute(f"COPY (SELECT {shown} FROM {source}) TO {quoted(str(kept))} {form}")
    reports = outputs.reports_refusals
    with outputs.rejected() as reader:
        source = "no_refusal"
        if reader is not None:
            base.register("refusals", reader)
            source = "refusals"
        query = f"SELECT *, {_RAW_HASH} AS h FROM {source}"
        base.execute(f"COPY ({query}) TO {quoted(str(refused))} {form}")
    texts = ", ".join(f"{name}" for name in TEXTS)
    base.execute(
        f"CREATE VIEW kept AS SELECT {texts}, epoch_us({TIME}) AS us "
        f"FROM read_parquet({quoted(str(kept))})"
    )
    base.execute(f"CREATE VIEW refusal AS SELECT * FROM read_parquet({quoted(str(refused))})")
    base.execute(
        "CREATE TABLE given AS SELECT h, count(*) AS r, min(reason) AS reason, bool_or(is_text) "
        "AS is_text FROM refusal WHERE h IS NOT NULL GROUP BY h"
    )
    return reports


# The hash of a line and its line feed, whatever stands at the end of `raw`.
_RAW_HASH = r"""CASE
    WHEN right(hex(raw[-2:]), 4) = '0D0A' THEN md5_number(unhex(left(hex(raw), -4) || '0A'))
    WHEN right(hex(raw[-1:]), 2) = '0A' THEN md5_number(raw)
    ELSE md5_number(raw || '\x0A'::BLOB) END"""


def _match(base: Any) -> None:
    """Make the table ``state``: groups with what was accepted and refused of each."""
    _make_groups(base)
    _match_values(base)
    _match_loose(base)
    _match_refusals(base)
    base.execute(
        "CREATE TABLE state AS SELECT matched.*, coalesce(near.y, 0) AS y, "
        "matched.x + coalesce(near.y, 0) AS a, coalesce(refused_group.r, 0) AS given, "
        "least(coalesce(refused_group.r, 0), matched.n) AS r, refused_group.reason "
        "FROM matched LEFT JOIN "
        "(SELECT b, count(*) AS y FROM assigned GROUP BY b) AS near USING (b) "
        "LEFT JOIN refused_group USING (b)"
    )
    base.execute("DROP TABLE matched")


def _make_groups(base: Any) -> None:
    """Make ``grp``, the lines of equal bytes, and ``copy``, the lines of groups of several.

    `rule` is 0 for a group that has to be accepted, 1 for one that must be refused, and 2 for one
    that may be either.
    """
    base.execute(
        "CREATE TABLE struck AS SELECT b, count(*) AS d, "
        "arg_min(kind, place) AS first_kind, arg_min(expect, place) AS first_expect, "
        "arg_min(kind, place) FILTER (kind NOT IN ('duplicate', 'fragment')) AS kind, "
        "arg_min(expect, place) FILTER (kind NOT IN ('duplicate', 'fragment')) AS expect "
        "FROM defect GROUP BY b"
    )
    # A line without an entry has to be accepted, and so have the copies of it.
    base.execute(
        "CREATE TABLE grp AS SELECT lines.*, CASE WHEN d IS NULL OR d < n THEN 0 "
        "WHEN kind = 'conflicting_duplicate' AND expect = 'once' THEN 1 "
        "WHEN coalesce(expect, first_expect) = 'reject' THEN 1 "
        "WHEN coalesce(expect, first_expect) = 'either' THEN 2 ELSE 0 END AS rule "
        "FROM (SELECT b, count(*) AS n, min(place) AS place, any_value(v) AS v, "
        "any_value(id) AS id, any_value(other_id) AS other_id FROM line GROUP BY b) AS lines "
        "LEFT JOIN struck USING (b)"
    )
    base.execute(
        "CREATE TABLE copy AS SELECT place, b, row_number() OVER (PARTITION BY b ORDER BY place) "
        "AS k FROM line SEMI JOIN (SELECT b FROM grp WHERE n > 1) USING (b)"
    )
    base.execute("DROP TABLE line")


def _match_values(base: Any) -> None:
    """Make ``matched``, groups with the rows that equal them, and ``left_over``, other rows."""
    base.execute(
        f"CREATE TABLE row_value AS SELECT {value_hash()} AS v, count(*) AS x FROM kept GROUP BY v"
    )
    # Values that several groups have: one row each in their order, and the first takes the rest.
    base.execute(
        "CREATE TABLE shared AS SELECT b, CASE WHEN k > rows THEN 0 WHEN k = 1 "
        "THEN 1 + greatest(rows - c, 0) ELSE 1 END AS x FROM (SELECT grp.b, row_value.x AS rows, "
        "row_number() OVER (PARTITION BY v ORDER BY rule = 1, place) AS k, "
        "count(*) OVER (PARTITION BY v) AS c FROM grp JOIN "
        "(SELECT v FROM grp WHERE v IS NOT NULL GROUP BY v HAVING count(*) > 1) USING (v) "
        "JOIN row_value USING (v))"
    )
    base.execute(
        "CREATE TABLE joined AS SELECT grp.*, row_value.v AS row_v, row_value.x "
        "FROM grp FULL JOIN row_value ON grp.v = row_value.v"
    )
    base.execute("DROP TABLE grp")
    base.execute("CREATE TABLE left_over AS SELECT row_v AS v FROM joined WHERE b IS NULL")
    base.execute(
        "CREATE TABLE matched AS SELECT joined.* EXCLUDE (row_v, x), "
        "coalesce(shared.x, joined.x, 0) AS x FROM joined LEFT JOIN shared USING (b) "
        "WHERE joined.b IS NOT NULL"
    )
    base.execute("DROP TABLE joined")
    base.execute("DROP TABLE row_value")


def _match_loose(base: Any) -> None:
    """Make ``loose``, rows that equal no line, and ``assigned``, those that come near a group."""
    order = ", ".join((*TEXTS, "us"))
    base.execute(
        f"CREATE TABLE loose AS SELECT row_number() OVER (ORDER BY {order}) AS rid, * FROM "
        f"(SELECT *, {value_hash()} AS v, {other_hash()} AS w FROM kept) SEMI JOIN left_over "
        "USING (v)"
    )
    base.execute(
        "CREATE TABLE same_id AS SELECT b, coalesce(other_id, id::VARCHAR) AS event_id, "
        "rule, x, place FROM matched WHERE coalesce(other_id, id::VARCHAR) IN "
        "(SELECT event_id FROM loose WHERE event_id <> '')"
    )
    base.execute(
        "CREATE TABLE same_others AS SELECT DISTINCT b, w, rule, x, matched.place FROM matched "
        "JOIN (SELECT b, w FROM defect WHERE w IS NOT NULL) USING (b) "
        "WHERE w IN (SELECT w FROM loose)"
    )
    base.execute("CREATE TABLE assigned (rid BIGINT, b UHUGEINT)")
    rows = "(SELECT * FROM loose)"
    _assign(base, rows, "same_id", "event_id")
    rows = "(SELECT * FROM loose WHERE event_id IS NULL OR event_id NOT IN "
    _assign(base, rows + "(SELECT event_id FROM same_id))", "same_others", "w")


def _assign(base: Any, rows: str, groups: str, key: str) -> None:
    """Assign rows to the groups of one key: one each in their order, the first takes the rest."""
    base.execute(
        "INSERT INTO assigned SELECT rid, b FROM "
        f"(SELECT rid, {key}, row_number() OVER (PARTITION BY {key} ORDER BY rid) AS j "
        f"FROM {rows}) JOIN (SELECT *, "
        f"row_number() OVER (PARTITION BY {key} ORDER BY x > 0, rule = 1, place) AS k, "
        f"count(*) OVER (PARTITION BY {key}) AS c FROM {groups}) USING ({key}) "
        "WHERE k = CASE WHEN j <= c THEN j ELSE 1 END"
    )


def _match_refusals(base: Any) -> None:
    """Make ``refused_group``, the refusals of each group, and ``given_to``, where each went."""
    base.execute(
        "CREATE TABLE given_to AS SELECT h, h AS b FROM given SEMI JOIN matched ON h = matched.b"
    )
    base.execute(
        "INSERT INTO given_to SELECT h, arg_min(defect.b, place) FROM given JOIN defect "
        "ON h = alt WHERE is_text AND h NOT IN (SELECT h FROM given_to) GROUP BY h"
    )
    base.execute(
        "CREATE TABLE refused_group AS SELECT given_to.b, sum(r)::BIGINT AS r, "
        "min(reason) AS reason FROM given JOIN given_to USING (h) GROUP BY given_to.b"
    )


#: What becomes of the line with the number `k` of its group.
_OUTCOME = """CASE
    WHEN rule = 1 THEN CASE
        WHEN a > 0 AND r > 0 THEN 'accepted and rejected'
        WHEN a > n THEN 'accepted twice' WHEN a > 0 THEN 'accepted'
        WHEN r > 0 THEN 'rejected' ELSE 'unaccounted' END
    WHEN a = 0 THEN CASE WHEN r > 0 THEN 'rejected' ELSE 'unaccounted' END
    WHEN a > 1 THEN 'accepted twice'
    WHEN r >= n THEN CASE WHEN k = 1 THEN 'accepted and rejected' ELSE 'rejected' END
    WHEN k > 1 AND k <= r + 1 THEN 'rejected'
    WHEN y > 0 THEN 'altered' ELSE 'accepted' END"""


def _write_outcome(base: Any, path: Path) -> None:
    """Make the view ``outcome``, and write what the contract says of it."""
    own = "coalesce(other_id, id::VARCHAR)"
    base.execute(
        "CREATE VIEW outcome AS SELECT lines.* EXCLUDE (id, other_id, reason), "
        f"CASE WHEN defect.place IS NULL OR defect.kind IS NULL THEN {own} "
        "ELSE record END AS event_id, "
        "defect.kind, coalesce(defect.expect, 'accept') AS expect, "
        "CASE WHEN outcome IN ('rejected', 'accepted and rejected') THEN reason END AS reason "
        f"FROM (SELECT *, {_OUTCOME} AS outcome FROM ("
        "SELECT *, 1 AS k FROM state WHERE n = 1 UNION ALL BY NAME "
        "SELECT state.* EXCLUDE (place), copy.place, k FROM copy JOIN state USING (b))) AS lines "
        "LEFT JOIN defect ON lines.place = defect.place"
    )
    base.execute("SET preserve_insertion_order = true")
    base.execute(
        f"COPY (SELECT batch_id, delivery, (place & {_MASK})::BIGINT AS line, event_id, kind, "
        f"expect, outcome, reason FROM outcome JOIN arrival ON delivery = place >> {LINE_BITS} "
        f"ORDER BY place) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)"
    )
