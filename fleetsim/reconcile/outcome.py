"""One outcome for each delivered line: lines, accepted rows and refusals, joined by DuckDB.

Lines of equal bytes are a group, and rows are matched to groups as multisets. Nothing here runs
once for each clean line: the joins are DuckDB's, which spills what is beyond its limit of memory.
"""

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
    bytes_key,
    files_of,
    load_delivered,
    other_hash,
    value_key,
)
from fleetsim.reconcile.figures import LISTED, figures
from fleetsim.reconcile.outputs import ACCEPTED_KEY, REJECTED_KEY, Outputs, Queries
from fleetsim.reconcile.result import Reconciliation
from fleetsim.tally.duck import first_words, open_duck, quoted

# Limits of DuckDB; the process needs about 250 MB more.
_LITTLE, _MUCH = "160MB", "512MB"
_LITTLE_BYTES = 1 << 29  # of lines for which little memory suffices
_PACKED = 12  # times as large are packed lines once they are read, at most
#: SQL for the id of a group's record, of ``named`` and its `vid`.
EVENT_ID = "CASE WHEN named.g IS NULL THEN vid::VARCHAR ELSE named.event_id END"


def reconcile(
    arrivals: Sequence[Arrival],
    queries: Queries,
    output: Path,
    *,
    outcome: Path | None = None,
    keep_accepted: Path | None = None,
    memory: str | None = None,
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
        Where the six columns of the accepted rows are written, with their keys, as Parquet, for
        `accepted_difference`; whole or not at all.
    memory : str, optional
        Limit of DuckDB, such as ``512MB``; by default 160 MB, and 512 MB for more than about two
        million lines.
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
        memory = _memory_for(arrivals) if memory is None else memory
        base = open_duck(name, memory, preserve_insertion_order=False)
        try:
            base.execute("SET TimeZone = 'UTC'")
            with whole(keep_accepted, folder / "accepted.parquet") as kept, _told():
                with Outputs(
                    queries, output, memory, accepted=accepted, rejected=rejected
                ) as outputs:
                    reports = _take_outputs(base, outputs, kept, folder / "rejected.parquet")
                load_delivered(base, arrivals, folder)
                _match(base)
                with whole(outcome, folder / "outcome.parquet") as path:
                    _write_outcome(base, path)
                return figures(base, arrivals, reports)
        finally:
            base.close()


def _memory_for(arrivals: Sequence[Arrival]) -> str:
    """Return the limit of DuckDB's memory for deliveries."""
    size = 0
    for arrival in arrivals:
        for path in files_of(arrival.events):
            factor = 1 if path.name.endswith(".jsonl") else _PACKED
            size += factor * (path.stat().st_size if path.is_file() else 0)
    return _LITTLE if size <= _LITTLE_BYTES else _MUCH


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
        query = f"SELECT {shown}, {value_key()} FROM {source}"
        base.execute(f"COPY ({query}) TO {quoted(str(kept))} {form}")
    reports = outputs.reports_refusals
    with outputs.rejected() as reader:
        source = "no_refusal"
        if reader is not None:
            base.register("refusals", reader)
            source = "refusals"
        query = (
            f"SELECT * EXCLUDE (whole), {bytes_key('whole')} FROM "
            f"(SELECT *, {_WHOLE} AS whole FROM {source})"
        )
        base.execute(f"COPY ({query}) TO {quoted(str(refused))} {form}")
    texts = ", ".join(f"{name}" for name in TEXTS)
    base.execute(
        f"CREATE VIEW kept AS SELECT {texts}, epoch_us({TIME}) AS us, vid, vh "
        f"FROM read_parquet({quoted(str(kept))})"
    )
    base.execute(f"CREATE VIEW refusal AS SELECT * FROM read_parquet({quoted(str(refused))})")
    base.execute(
        "CREATE TABLE given AS SELECT bid, bh, count(*) AS r, min(reason) AS reason, "
        "bool_or(is_text) AS is_text FROM refusal WHERE raw IS NOT NULL GROUP BY bid, bh"
    )
    return reports


# A refused line as the delivered ones: with its line feed, whatever stands at the end of `raw`.
_WHOLE = r"""CASE
    WHEN hex(raw[-2:]) = '0D0A' THEN unhex(left(hex(raw), -4) || '0A')
    WHEN hex(raw[-1:]) = '0A' THEN raw
    ELSE raw || '\x0A'::BLOB END"""


def _match(base: Any) -> None:
    """Make the table ``state``: groups with what was accepted and refused of each.

    A group is named by the place `g` of its first line.
    """
    _make_groups(base)
    _match_refusals(base)
    _match_values(base)
    _match_loose(base)
    base.execute(
        "CREATE TABLE state AS SELECT matched.g, n, vid, rule, x, coalesce(near.y, 0) AS y, "
        "x + coalesce(near.y, 0) AS a, least(coalesce(refused_group.r, 0), n) AS r, "
        "refused_group.reason FROM matched LEFT JOIN "
        "(SELECT g, count(*) AS y FROM assigned GROUP BY g) AS near USING (g) "
        "LEFT JOIN refused_group USING (g)"
    )
    base.execute("DROP VIEW matched")
    base.execute("DROP TABLE joined")


def _make_groups(base: Any) -> None:
    """Make ``grp``, the lines of equal bytes, and ``copy``, the lines of groups of several.

    `rule` is 0 for a group that has to be accepted, 1 for one that must be refused, and 2 for one
    that may be either.
    """
    base.execute(
        "CREATE TABLE struck AS SELECT bid, bh, count(*) AS d, any_value(record) AS record, "
        "arg_min(expect, place) AS first_expect, "
        "arg_min(kind, place) FILTER (kind NOT IN ('duplicate', 'fragment')) AS kind, "
        "arg_min(expect, place) FILTER (kind NOT IN ('duplicate', 'fragment')) AS expect "
        "FROM defect GROUP BY bid, bh"
    )
    # A line without an entry has to be accepted, and so have the copies of it.
    base.execute(
        "CREATE TABLE grp AS SELECT lines.*, CASE WHEN d IS NULL OR d < n THEN 0 "
        "WHEN kind = 'conflicting_duplicate' AND expect = 'once' THEN 1 "
        "WHEN coalesce(expect, first_expect) = 'reject' THEN 1 "
        "WHEN coalesce(expect, first_expect) = 'either' THEN 2 ELSE 0 END::UTINYINT AS rule "
        "FROM (SELECT bid, bh, count(*)::INTEGER AS n, min(place) AS g, any_value(vid) AS vid, "
        "any_value(vh) AS vh FROM line GROUP BY bid, bh) AS lines "
        "LEFT JOIN struck USING (bid, bh)"
    )
    # The id of a group is its `vid`, but for those here.
    base.execute(
        "CREATE TABLE named AS SELECT g, record AS event_id FROM struck JOIN grp USING (bid, bh) "
        "WHERE d = n OR record IS NOT NULL UNION ALL "
        "SELECT place, event_id FROM odd WHERE place IN (SELECT g FROM grp)"
    )
    base.execute(
        "CREATE TABLE copy AS SELECT place, g, row_number() OVER (PARTITION BY g ORDER BY place) "
        "AS k FROM line JOIN (SELECT g, bid, bh FROM grp WHERE n > 1) USING (bid, bh)"
    )
    base.execute("DROP TABLE line")


def _match_refusals(base: Any) -> None:
    """Make ``refused_group``, the refusals of each group, and ``given_to``, where each went."""
    base.execute(
        "CREATE TABLE given_to AS SELECT given.bid, given.bh, g FROM given JOIN grp USING (bid, bh)"
    )
    # A text may be that of a line that is no UTF-8.
    base.execute(
        "INSERT INTO given_to SELECT given.bid, given.bh, min(g) FROM given "
        "JOIN defect ON given.bid = alt_id AND given.bh = alt_h "
        "JOIN grp ON defect.bid = grp.bid AND defect.bh = grp.bh "
        "WHERE is_text AND (given.bid, given.bh) NOT IN (SELECT (bid, bh) FROM given_to) "
        "GROUP BY given.bid, given.bh"
    )
    base.execute(
        "CREATE TABLE refused_group AS SELECT g, sum(r)::BIGINT AS r, min(reason) AS reason "
        "FROM given JOIN given_to USING (bid, bh) GROUP BY g"
    )


def _match_values(base: Any) -> None:
    """Make ``matched``, groups with the rows that equal them, and ``left_over``, other rows."""
    base.execute(
        "CREATE TABLE row_value AS SELECT vid, vh, count(*) AS x FROM kept GROUP BY vid, vh"
    )
    # Values that several groups have: one row each in their order, and the first takes the rest.
    base.execute(
        "CREATE TABLE shared AS SELECT g, CASE WHEN k > rows THEN 0 WHEN k = 1 "
        "THEN 1 + greatest(rows - c, 0) ELSE 1 END AS x FROM (SELECT g, row_value.x AS rows, "
        "row_number() OVER (PARTITION BY vid, vh ORDER BY rule = 1, g) AS k, "
        "count(*) OVER (PARTITION BY vid, vh) AS c FROM grp JOIN (SELECT vid, vh FROM grp "
        "WHERE vh IS NOT NULL GROUP BY vid, vh HAVING count(*) > 1) USING (vid, vh) "
        "JOIN row_value USING (vid, vh))"
    )
    base.execute(
        "CREATE TABLE joined AS SELECT g, n, grp.vid, rule, x, row_value.vid AS row_vid, "
        "row_value.vh AS row_vh FROM grp FULL JOIN row_value "
        "ON grp.vid = row_value.vid AND grp.vh = row_value.vh"
    )
    base.execute("DROP TABLE grp")
    base.execute("DROP TABLE row_value")
    base.execute(
        "CREATE TABLE left_over AS SELECT row_vid AS vid, row_vh AS vh FROM joined WHERE g IS NULL"
    )
    base.execute(
        "CREATE VIEW matched AS SELECT g, n, vid, rule, coalesce(shared.x, joined.x, 0) AS x "
        "FROM joined LEFT JOIN shared USING (g) WHERE joined.g IS NOT NULL"
    )


def _match_loose(base: Any) -> None:
    """Make ``loose``, rows that equal no line, and ``assigned``, those that come near a group."""
    order = ", ".join((*TEXTS, "us"))
    base.execute("CREATE TABLE loose_row AS SELECT * FROM kept SEMI JOIN left_over USING (vid, vh)")
    base.execute(
        f"CREATE TABLE loose AS SELECT row_number() OVER (ORDER BY {order}) AS rid, *, "
        f"{other_hash()} AS w FROM loose_row"
    )
    base.execute("DROP TABLE loose_row")
    base.execute(
        "CREATE TABLE same_id AS SELECT g, event_id, rule, x FROM "
        f"(SELECT matched.g, {EVENT_ID} AS event_id, rule, x FROM matched "
        "LEFT JOIN named ON matched.g = named.g "
        "WHERE named.g IS NOT NULL OR vid IN (SELECT vid FROM loose)) "
        "WHERE event_id IN (SELECT event_id FROM loose WHERE event_id <> '')"
    )
    base.execute(
        "CREATE TABLE same_others AS SELECT DISTINCT g, w, rule, x FROM matched JOIN "
        "(SELECT coalesce(copy.g, place) AS g, w FROM defect LEFT JOIN copy USING (place) "
        "WHERE w IS NOT NULL) USING (g) WHERE w IN (SELECT w FROM loose)"
    )
    base.execute("CREATE TABLE assigned (rid BIGINT, g BIGINT)")
    rows = "(SELECT * FROM loose)"
    _assign(base, rows, "same_id", "event_id")
    rows = "(SELECT * FROM loose WHERE event_id IS NULL OR event_id NOT IN "
    _assign(base, rows + "(SELECT event_id FROM same_id))", "same_others", "w")


def _assign(base: Any, rows: str, groups: str, key: str) -> None:
    """Assign rows to the groups of one key: one each in their order, the first takes the rest."""
    base.execute(
        "INSERT INTO assigned SELECT rid, g FROM "
        f"(SELECT rid, {key}, row_number() OVER (PARTITION BY {key} ORDER BY rid) AS j "
        f"FROM {rows}) JOIN (SELECT *, "
        f"row_number() OVER (PARTITION BY {key} ORDER BY x > 0, rule = 1, g) AS k, "
        f"count(*) OVER (PARTITION BY {key}) AS c FROM {groups}) USING ({key}) "
        "WHERE k = CASE WHEN j <= c THEN j ELSE 1 END"
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
    base.execute(
        f"CREATE VIEW outcome AS SELECT lines.*, {_OUTCOME} AS outcome, defect.kind, "
        "defect.place IS NOT NULL AND defect.kind IS NOT NULL AS has_record, record, "
        "coalesce(defect.expect, 'accept') AS expect FROM ("
        "SELECT *, g AS place, 1 AS k FROM state WHERE n = 1 UNION ALL BY NAME "
        "SELECT state.*, copy.place, k FROM copy JOIN state USING (g)) AS lines "
        "LEFT JOIN defect ON lines.place = defect.place"
    )
    base.execute(
        f"CREATE VIEW listed AS SELECT batch, place, outcome.g, a, x, vid, "
        "has_record OR named.g IS NOT NULL AS has_own, "
        "CASE WHEN has_record THEN record ELSE named.event_id END AS own, "
        "kind, expect, outcome, "
        "CASE WHEN outcome IN ('rejected', 'accepted and rejected') THEN reason END AS reason "
        "FROM outcome LEFT JOIN named ON outcome.g = named.g "
        f"JOIN arrival ON delivery = place >> {LINE_BITS}"
    )
    # Ids and names are written out behind the sort: long texts make it slow.
    base.execute("SET preserve_insertion_order = true")
    base.execute(
        f"COPY (SELECT {LISTED} FROM (SELECT * FROM listed ORDER BY place)) "
        f"TO {quoted(str(path))} (FORMAT parquet)"
    )
