"""The slow twin of the reconciliation: dictionaries and loops, written from the contract alone."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

FIELDS = ["event_id", "driver_id", "company_id", "truck_id", "event_type", "timestamp"]
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
Row = tuple[Any, ...]


@dataclass
class Line:
    """A delivered line and its entry in the ledger."""

    delivery: int
    number: int
    raw: bytes
    entry: dict[str, Any] | None = None
    outcome: str = ""
    reason: str | None = None


@dataclass
class Group:
    """Lines of equal bytes, in their order."""

    lines: list[Line]
    expect: str = "accept"
    exact: int = 0
    near: int = 0
    given: int = 0
    reasons: list[str] = field(default_factory=list)

    @property
    def place(self) -> tuple[int, int]:
        """Where the first line stands."""
        return self.lines[0].delivery, self.lines[0].number

    @property
    def refuse(self) -> bool:
        """Whether the lines must be refused."""
        return self.expect == "reject"


def micros(text: str) -> int | None:
    """Return an instant in microseconds, one without a zone as in UTC."""
    if not INSTANT.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def is_utf8(raw: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    return raw.decode(errors="ignore").encode() == raw


def values_of(raw: bytes) -> tuple[Row | None, bool]:
    """Return a line's values, and whether they can be a row's; None where it is no object."""
    try:
        record = json.loads(raw.decode(errors="replace"))
    except ValueError:
        return None, False
    if not isinstance(record, dict):
        return None, False
    row: list[Any] = []
    good = is_utf8(raw)
    for name in FIELDS:
        value = record.get(name)
        if name == "timestamp" and value is not None:
            us = micros(value) if isinstance(value, str) else None
            good = good and us is not None
            row.append(us)
        elif value is None or isinstance(value, str):
            row.append(value)
        else:
            row.append(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    return tuple(row), good


def id_unreadable(raw: bytes) -> bool:
    """Return whether the id of a line cannot be read, but the rest can."""
    text = raw.decode(errors="replace")
    record = json.loads(text)
    own = record.get("event_id")
    return not isinstance(own, str) or "\ufffd" in own


def identity(line: Line) -> Any:
    """Return the id of the record as it would have been."""
    if line.entry is not None:
        return line.entry["event_id"]
    return json.loads(line.raw)["event_id"]


def grouped(lines: list[Line]) -> dict[bytes, Group]:
    """Return the groups of lines of equal bytes, with what is expected of each."""
    groups: dict[bytes, Group] = {}
    for line in lines:
        groups.setdefault(line.raw, Group([])).lines.append(line)
    for group in groups.values():
        for line in group.lines:
            if line.entry is None or line.entry["kind"] not in ("duplicate", "fragment"):
                break
        else:
            line = group.lines[0]
        entry = line.entry or {"kind": "", "expect": "accept"}
        group.expect = entry["expect"]
        if (entry["kind"], entry["expect"]) == ("conflicting_duplicate", "once"):
            group.expect = "reject"
    return groups


def order(row: Row) -> tuple[Any, ...]:
    """Sort rows with nulls last."""
    return tuple((value is None, value if value is not None else 0) for value in row)


def assign(rows: list[Row], groups: list[Group]) -> None:
    """Give near rows to groups: one each in their order, the rest to the first."""
    ranked = sorted(groups, key=lambda g: (g.exact > 0, g.refuse, g.place))
    for number, _ in enumerate(rows):
        ranked[number if number < len(ranked) else 0].near += 1


def match_rows(groups: list[Group], rows: list[Row]) -> int:
    """Match accepted rows to groups; return how many are unexpected."""
    exact: dict[Row, list[Group]] = defaultdict(list)
    for group in groups:
        values, good = values_of(group.lines[0].raw)
        if values is not None and good:
            exact[values].append(group)
    left = []
    for row, count in Counter(rows).items():
        takers = sorted(exact.get(row, []), key=lambda g: (g.refuse, g.place))
        if not takers:
            left += [row] * count
            continue
        for number in range(count):
            takers[number if number < len(takers) else 0].exact += 1
    left.sort(key=order)
    by_id: dict[Any, list[Group]] = defaultdict(list)
    by_rest: dict[Row, list[Group]] = defaultdict(list)
    for group in groups:
        name = identity(group.lines[0])
        if name:
            by_id[name].append(group)
        values, _ = values_of(group.lines[0].raw)
        if values is not None and id_unreadable(group.lines[0].raw):
            text = json.loads(group.lines[0].raw.decode(errors="replace")).get("timestamp")
            if text is None or values[5] is not None:
                by_rest[values[1:]].append(group)
    known: dict[Any, list[Row]] = defaultdict(list)
    strange: dict[Row, list[Row]] = defaultdict(list)
    unexpected = 0
    for row in left:
        if row[0] in by_id:
            known[row[0]].append(row)
        elif row[1:] in by_rest:
            strange[row[1:]].append(row)
        else:
            unexpected += 1
    for name, found in known.items():
        assign(found, by_id[name])
    for rest, found in strange.items():
        assign(found, by_rest[rest])
    return unexpected


def match_refusals(groups: dict[bytes, Group], refusals: list[tuple[bytes | str, str]]) -> int:
    """Match refusals to groups; return how many are of no line, or beyond its lines."""
    replaced = {}
    for group in reversed(list(groups.values())):
        text = group.lines[0].raw.decode(errors="replace")
        if not is_utf8(group.lines[0].raw):
            replaced[text.encode()] = group
    surplus = 0
    for raw, reason in refusals:
        own = raw.encode() if isinstance(raw, str) else raw
        own = own[:-2] if own.endswith(b"\r\n") else own.removesuffix(b"\n")
        group = groups.get(own) or (replaced.get(own) if isinstance(raw, str) else None)
        if group is None:
            surplus += 1
            continue
        group.given += 1
        group.reasons.append(reason)
        surplus += group.given > len(group.lines)
    return surplus


def outcomes_of(group: Group) -> list[str]:
    """Return the outcome of each line of a group."""
    n, a = len(group.lines), group.exact + group.near
    r = min(group.given, n)
    if group.refuse:
        if a and r:
            return ["accepted and rejected"] * n
        if a:
            return ["accepted twice" if a > n else "accepted"] * n
        return ["rejected" if r else "unaccounted"] * n
    if a == 0:
        return ["rejected" if r else "unaccounted"] * n
    if a > 1:
        return ["accepted twice"] * n
    good = "altered" if group.near else "accepted"
    if r >= n:
        return ["accepted and rejected"] + ["rejected"] * (n - 1)
    return [good] + ["rejected"] * r + [good] * (n - 1 - r)


def reconciled(
    lines: list[Line], rows: list[Row], refusals: list[tuple[bytes | str, str]]
) -> dict[str, Any]:
    """Give each line its outcome and reason; return the figures."""
    groups = grouped(lines)
    every = list(groups.values())
    unexpected = match_rows(every, rows)
    surplus = match_refusals(groups, refusals)
    figures = Counter[str]()
    for group in every:
        n, a = len(group.lines), group.exact + group.near
        r = min(group.given, n)
        for line, outcome in zip(group.lines, outcomes_of(group), strict=True):
            line.outcome = outcome
            if "rejected" in outcome:
                line.reason = min(group.reasons)
        figures["accepted"] += min(a, n)
        figures["rejected"] += min(r, n - min(a, n))
        figures["lost"] += a == 0 and group.expect in ("accept", "once")
        figures["duplicated"] += a > (n if group.refuse else 1)
        figures["altered"] += 0 if group.refuse else group.near
        figures["unaccounted"] += n if a + r == 0 and group.expect != "either" else 0
        if group.refuse:
            figures["right"] += r
            figures["all"] += r
        elif group.expect != "either":
            figures["all"] += r if a == 0 else max(0, r - (n - 1))
    return dict(figures) | {"unexpected": unexpected, "surplus": surplus}
