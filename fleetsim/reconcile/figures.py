"""The figures of a reconciliation, and its first wrong lines with their evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from fleetsim.reconcile.delivered import (
    LINE_BITS,
    TEXTS,
    TIME,
    Arrival,
    found_lines,
    read_values,
)
from fleetsim.reconcile.result import (
    CLEAN,
    SURPLUS,
    UNEXPECTED,
    Balance,
    Came,
    Reconciliation,
    WrongLine,
)

#: SQL for what is said of a line, of ``listed``.
LISTED = (
    f"batch::VARCHAR AS batch_id, (place >> {LINE_BITS})::INTEGER AS delivery, "
    f"(place & {(1 << LINE_BITS) - 1})::BIGINT AS line, "
    "CASE WHEN has_own THEN own ELSE vid::VARCHAR END AS event_id, kind, expect, outcome, reason"
)
_FIRST = 10  # wrong lines shown of each cell
_SHOWN = 500  # bytes of a line that are shown
_MASK = (1 << LINE_BITS) - 1
_EPOCH = datetime(1970, 1, 1)
#: Whether the outcome of a line is wrong. A copy of an accepted line may be refused.
_WRONG = """CASE
    WHEN rule = 1 THEN outcome <> 'rejected' AND (outcome <> 'unaccounted' OR {reports})
    WHEN outcome = 'accepted' THEN false
    WHEN outcome IN ('rejected', 'unaccounted') THEN rule = 0 AND a = 0
    ELSE true END"""
_GROUPS = """SELECT
    coalesce(sum(n), 0), coalesce(sum(least(a, n)), 0),
    coalesce(sum(least(r, n - least(a, n))), 0),
    coalesce(sum(n) FILTER (a + r = 0), 0),
    coalesce(sum(n - least(a, n) - least(r, n - least(a, n))) FILTER (a + r > 0), 0),
    coalesce(sum(greatest(a - n, 0)), 0),
    count(*) FILTER (rule = 0 AND a = 0),
    count(*) FILTER (CASE WHEN rule = 1 THEN a > n ELSE a > 1 END),
    coalesce(sum(y) FILTER (rule <> 1), 0),
    coalesce(sum(r) FILTER (rule = 1), 0),
    coalesce(sum(CASE WHEN a = 0 THEN r ELSE greatest(r - (n - 1), 0) END)
        FILTER (rule = 0), 0),
    coalesce(sum(n) FILTER (a + r = 0 AND rule <> 2), 0)
    FROM state"""


def figures(base: Any, arrivals: Sequence[Arrival], reports: bool) -> Reconciliation:
    """Return what was found, once each line has its outcome.

    Parameters
    ----------
    base : DuckDB connection
        With the tables that `reconcile` makes.
    arrivals : sequence of Arrival
    reports : bool
        Whether the pipeline reports what it refused.
    """
    (row,) = base.execute(_GROUPS).fetchall()
    sums = [int(value) for value in row]
    delivered, taken, refused, silent, again, doubles, lost, duplicated, altered = sums[:9]
    right, wrongly, unaccounted = sums[9:]
    accepted_rows = _one(base, "SELECT count(*) FROM kept")
    rejected_rows = _one(base, "SELECT count(*) FROM refusal")
    unexpected = _one(base, "SELECT count(*) FROM loose ANTI JOIN assigned USING (rid)")
    used = _one(base, "SELECT coalesce(sum(r), 0)::BIGINT FROM state")
    balance = Balance(
        accepted=taken,
        deduplicated=again,
        rejected=refused,
        unaccounted=silent,
        doubles=doubles,
        unexpected=unexpected,
        surplus_rejections=rejected_rows - used,
    )
    cells = base.execute(
        f"SELECT kind, rule, outcome, {_WRONG.format(reports=str(reports).lower())} AS wrong, "
        f"count(*), min(place, {_FIRST}) FILTER (wrong) FROM outcome GROUP BY ALL"
    ).fetchall()
    _check(balance, delivered, accepted_rows, sum(cell[4] for cell in cells))
    must, right_lines = _must_reject(cells, reports)
    return Reconciliation(
        delivered=delivered,
        accepted_rows=accepted_rows,
        rejected_rows=rejected_rows if reports else None,
        balance=balance,
        lost=lost,
        unexpected=unexpected,
        duplicated=duplicated,
        altered=altered,
        must_reject=must,
        refused=right_lines,
        refusals_right=right,
        refusals_all=right + wrongly,
        unaccounted=unaccounted,
        matrix=_matrix(cells),
        wrong=[*_wrong_lines(base, arrivals, cells), *_unexpected(base), *_surplus(base)],
    )


def _one(base: Any, query: str) -> int:
    ((count,),) = base.execute(query).fetchall()
    return int(count)


def _check(balance: Balance, delivered: int, accepted_rows: int, outcomes: int) -> None:
    """Count both sides, which have to close."""
    lines = balance.accepted + balance.deduplicated + balance.rejected + balance.unaccounted
    rows = balance.accepted + balance.doubles + balance.unexpected
    if not delivered == lines == outcomes or rows != accepted_rows:
        raise AssertionError(
            f"the balance does not close: {delivered} lines delivered, {lines} in it and "
            f"{outcomes} with an outcome; {accepted_rows} rows accepted, {rows} in it"
        )


def _name(kind: str | None) -> str:
    return CLEAN if kind is None else kind


def _must_reject(
    cells: list[tuple[Any, ...]], reports: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the lines that must be refused, and those that were, by kind."""
    must: dict[str, int] = {}
    refused: dict[str, int] = {}
    wanted = "rejected" if reports else "unaccounted"
    for kind, rule, outcome, _, count, _ in sorted(cells, key=lambda cell: _name(cell[0])):
        if rule == 1:
            must[_name(kind)] = must.get(_name(kind), 0) + count
            more = count if outcome == wanted else 0
            refused[_name(kind)] = refused.get(_name(kind), 0) + more
    return must, refused


def _matrix(cells: list[tuple[Any, ...]]) -> dict[str, dict[str, int]]:
    matrix: dict[str, dict[str, int]] = {}
    for kind, _, outcome, _, count, _ in sorted(cells, key=lambda cell: (_name(cell[0]), cell[2])):
        row = matrix.setdefault(_name(kind), {})
        row[outcome] = row.get(outcome, 0) + count
    return matrix


def _wrong_lines(
    base: Any, arrivals: Sequence[Arrival], cells: list[tuple[Any, ...]]
) -> list[WrongLine]:
    """Return the first wrong lines of each kind and outcome, in their order."""
    by_cell: dict[tuple[str, str], list[int]] = {}
    for kind, _, outcome, wrong, _, places in cells:
        if wrong:
            by_cell.setdefault((_name(kind), outcome), []).extend(places)
    chosen = sorted(p for places in by_cell.values() for p in sorted(places)[:_FIRST])
    if not chosen:
        return []
    base.execute("CREATE TABLE chosen AS SELECT unnest(?::BIGINT[]) AS place", [chosen])
    rows = base.execute(
        f"SELECT place, {LISTED}, a, x, near "
        "FROM listed SEMI JOIN chosen USING (place) "
        "LEFT JOIN (SELECT g, min(rid) AS near FROM assigned GROUP BY g) USING (g) ORDER BY place"
    ).fetchall()
    entries = {
        place: (raw, entry)
        for place, raw, entry in base.execute(
            "SELECT place, raw, entry FROM defect_line SEMI JOIN chosen USING (place)"
        ).fetchall()
    }
    clean = [place for place in chosen if place not in entries]
    texts = _texts(arrivals, clean) | {place: raw for place, (raw, _) in entries.items()}
    near = _loose_rows(base, [row[-1] for row in rows if row[-1] is not None])
    made = []
    for place, batch, delivery, line, event_id, kind, expect, outcome, reason, a, x, rid in rows:
        entry = json.loads(entries[place][1] or "{}") if place in entries else {}
        came = None
        if a:
            came = _values(texts[place]) if x else near.get(rid)
        made.append(
            WrongLine(
                batch_id=batch,
                delivery=delivery,
                line=line,
                event_id=event_id,
                kind=kind,
                expect=expect,
                outcome=outcome,
                reason=reason,
                text=shown_bytes(texts[place]),
                field=entry.get("field"),
                original=entry.get("original"),
                injected=entry.get("injected"),
                came_out=came,
            )
        )
    return made


def _texts(arrivals: Sequence[Arrival], places: list[int]) -> dict[int, bytes]:
    """Return lines by their places, from their files read again."""
    wanted: dict[int, list[int]] = {}
    for place in places:
        wanted.setdefault(place >> LINE_BITS, []).append(place & _MASK)
    texts: dict[int, bytes] = {}
    for arrival in arrivals:
        lines = wanted.get(arrival.delivery)
        for line, raw in found_lines(arrival, lines) if lines else ():
            texts[(arrival.delivery << LINE_BITS) + line] = raw
    return texts


def shown_bytes(raw: bytes) -> str:
    """Return bytes as a report shows them: cut, other than printable ASCII by a backslash."""
    text = raw[:_SHOWN].decode("ascii", "backslashreplace")
    shown = "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text)
    return shown + ("…" if len(raw) > _SHOWN else "")


def _came(texts: Sequence[str | None], us: int | None) -> Came:
    values: Came = dict(zip(TEXTS, texts, strict=True))
    return values | {TIME: _time(us)}


def _time(us: int | None) -> str | None:
    if us is None:
        return None
    try:
        return (_EPOCH + timedelta(microseconds=us)).isoformat(timespec="microseconds") + "Z"
    except OverflowError:
        return f"{us} microseconds since 1970"


def _values(raw: bytes) -> Came:
    """Return the six values of a line that was accepted as it is."""
    values, _, _ = read_values(raw.decode(errors="replace"))
    return _came([values[name] for name in TEXTS], values["us"])


def _loose_rows(base: Any, rids: list[int]) -> dict[int, Came]:
    columns = ", ".join(TEXTS)
    rows = base.execute(
        f"SELECT rid, us, {columns} FROM loose WHERE rid IN (SELECT unnest(?::BIGINT[]))",
        [rids],
    ).fetchall()
    return {rid: _came(texts, us) for rid, us, *texts in rows}


def _unexpected(base: Any) -> list[WrongLine]:
    rids = base.execute(
        f"SELECT rid FROM loose ANTI JOIN assigned USING (rid) ORDER BY rid LIMIT {_FIRST}"
    ).fetchall()
    rows = _loose_rows(base, [rid for (rid,) in rids])
    return [_of_no_line(UNEXPECTED, came=rows[rid], event_id=rows[rid]["event_id"]) for rid in rows]


def _surplus(base: Any) -> list[WrongLine]:
    """Return the first refusals of no line, and those beyond the lines of their bytes."""
    base.execute(
        "CREATE TABLE beyond AS SELECT bid, bh, given.r - coalesce(n, 0) AS more FROM given "
        "LEFT JOIN given_to USING (bid, bh) LEFT JOIN state USING (g) "
        f"WHERE given.r > coalesce(n, 0) ORDER BY bid, bh LIMIT {_FIRST}"
    )
    rows = base.execute(
        "SELECT any_value(raw), min(reason), any_value(more) FROM refusal "
        "JOIN beyond USING (bid, bh) GROUP BY bid, bh ORDER BY min(raw)"
    ).fetchall()
    made = []
    for raw, reason, more in rows:
        one = _of_no_line(SURPLUS, text=shown_bytes(raw), reason=reason)
        made += [one] * min(int(more), _FIRST)
    nulls = base.execute(
        f"SELECT reason FROM refusal WHERE raw IS NULL ORDER BY reason LIMIT {_FIRST}"
    ).fetchall()
    made += [_of_no_line(SURPLUS, reason=reason) for (reason,) in nulls]
    return made[:_FIRST]


def _of_no_line(
    outcome: str,
    *,
    text: str | None = None,
    reason: str | None = None,
    event_id: str | None = None,
    came: Came | None = None,
) -> WrongLine:
    return WrongLine(
        batch_id=None,
        delivery=None,
        line=None,
        event_id=event_id,
        kind=None,
        expect=None,
        outcome=outcome,
        reason=reason,
        text=text,
        came_out=came,
    )
