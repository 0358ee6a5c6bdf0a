"""The slow twin of the injection: dirty batches and their ledgers from the specification alone.

It shares no code with fleetsim, as `twin`, of which it takes the clean records: each record is a
list of keys with the JSON text of their values, and a defect changes that list.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import twin
from twin import DEFECT, DEFECT_DETAIL, WORDS, make_uuid, time_text, word

FIELDS = ["event_id", "driver_id", "company_id", "truck_id", "event_type", "timestamp"]
#: The kinds in the order in which rates are cumulated: what they may strike, and the expectation.
KINDS: dict[str, tuple[list[str], str]] = {
    "missing_field": (FIELDS, "reject"),
    "null_value": (FIELDS, "reject"),
    "wrong_type": (FIELDS, "reject"),
    "malformed_timestamp": (["timestamp"], "reject"),
    "naive_timestamp": (["timestamp"], "reject"),
    "invalid_enum": (["event_type"], "reject"),
    "orphan_reference": (["company_id"], "reject"),
    "out_of_interval": (["timestamp"], "reject"),
    "extra_field": ([], "accept"),
    "duplicate_key": (FIELDS, "reject"),
    "corrupt_record": ([], "reject"),
    "invalid_utf8": (FIELDS, "reject"),
    "duplicate": ([], "once"),
    "conflicting_duplicate": (["event_type", "timestamp"], "once"),
    "late": ([], "accept"),
}
COLUMN_KINDS = [
    "null_value", "invalid_enum", "orphan_reference", "out_of_interval", "duplicate",
    "conflicting_duplicate", "late",
]  # fmt: skip
YEAR_1, YEAR_10000 = -62_135_596_800_000_000, 253_402_300_800_000_000


def scale(raw: int, n: int) -> int:
    """Return floor(raw * n / 2**64)."""
    return raw * n // WORDS


def text(value: Any) -> str:
    """Return a value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def rendered(pairs: list[tuple[str, str]]) -> bytes:
    """Return keys and the texts of their values as a line without its end."""
    return ("{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}").encode()


def undefined(config: dict) -> str:
    """Return a name that no type of the configuration has."""
    name, number = "undefined event", 2
    while name in config["event_types"]:
        name = f"undefined event {number}"
        number += 1
    return name


def other_value(config: dict, start_us: int, row: dict, field: str, w: list[int], raw: int) -> str:
    """Return another value of a field."""
    made = make_uuid(w[2], w[3])
    if field in ("event_id", "company_id"):
        return made
    if field == "driver_id":
        return f"DRV-{made}-{row[field].rpartition('-')[2]}"
    if field == "truck_id":
        return f"TRK-{int(row[field][4:]) + 1}"
    if field == "event_type":
        names = sorted(config["event_types"])
        if len(names) == 1:
            return undefined(config)
        place = names.index(row[field]) + 1 + scale(raw, len(names) - 1)
        return names[place % len(names)]
    length = twin.duration_us(config["batch_interval"])
    return time_text(start_us + (at_us(row) - start_us + 1 + scale(raw, length - 1)) % length)


def at_us(row: dict) -> int:
    """Return a row's time [microseconds since 1970]."""
    moment = twin.datetime.fromisoformat(row["timestamp"])
    return (moment - twin.EPOCH) // twin.timedelta(microseconds=1)


def malformed(stamp: str) -> list[str]:
    """Return every variant of a malformed timestamp."""
    date, clock = stamp.rstrip("Z").split("T")
    year, month, day = date.split("-")
    hour, minute, second = clock.split(":")
    return [
        f"{year}-13-{day}T{clock}Z",
        f"{year}-{month}-32T{clock}Z",
        f"{year}-02-30T{clock}Z",
        f"{date}T25:{minute}:{second}Z",
        f"{date}T{hour}:60:{second}Z",
        f"{date}T{hour}:{minute}:61.{second.partition('.')[2]}Z",
        f"{date}T{clock}+100:00",
        f"{day}/{month}/{year} {clock.partition('.')[0]}",
        f"{date}T",
        "",
    ]


def _struck(
    config: dict, start_us: int, row: dict, kind: str, field: str, w: list[int]
) -> tuple[bytes, str | None, str | None, Any]:
    """Return the line of a struck record, and the ledger's field, original and injected."""
    pairs = [(key, text(value)) for key, value in row.items()]
    clean, place = rendered(pairs), FIELDS.index(field) if field else 0
    value = row[field] if field else None

    def changed(*changes: tuple[str, Any]) -> bytes:
        new = dict(changes)
        return rendered([(k, text(new[k]) if k in new else v) for k, v in pairs])

    if kind == "missing_field":
        return rendered(pairs[:place] + pairs[place + 1 :]), field, value, None
    if kind == "null_value":
        return changed((field, None)), field, value, None
    if kind == "wrong_type":
        new = [scale(w[2], 10**6), scale(w[2], 2) == 1, [value], {"value": value}][scale(w[1], 4)]
        return changed((field, new)), field, value, new
    if kind == "extra_field":
        key, new = [
            ("speed_kmh", scale(w[2], 131)),
            ("odometer_km", scale(w[2], 10**6)),
            ("note", "test drive"),
        ][scale(w[1], 3)]
        return rendered([*pairs, (key, text(new))]), key, None, new
    if kind == "duplicate_key":
        new = other_value(config, start_us, row, field, w, w[2])
        return rendered([*pairs, (field, text(new))]), field, value, new
    if kind == "invalid_utf8":
        extra = [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\xaf"][scale(w[1], 4)]
        before, after = rendered(pairs[: place + 1])[:-2], rendered(pairs[place + 1 :])[1:]
        end = b'",' + after if pairs[place + 1 :] else b'"}'
        return before + extra + end, field, value, None
    if kind == "corrupt_record":
        return (*_corrupt(pairs, clean, w),)
    new = _text_value(config, start_us, row, kind, w)
    if kind == "orphan_reference":
        driver = row["driver_id"].replace(value, new)
        return changed((field, new), ("driver_id", driver)), field, value, new
    return changed((field, new)), field, value, new


def _corrupt(
    pairs: list[tuple[str, str]], clean: bytes, w: list[int]
) -> tuple[bytes, None, None, str]:
    variant = scale(w[1], 3)
    if variant == 0:
        return clean[: 1 + scale(w[2], len(clean) - 1)], None, None, "cut"
    if variant == 2:
        return clean + clean, None, None, "two records"
    number = scale(w[0], 6)
    written = pairs[number][1][1:-1].encode()
    at = len(written) if b"\\" in written else scale(w[2], len(written) + 1)
    before = rendered(pairs[:number])[:-1] + (b"," if number else b"")
    rest = rendered(pairs[number:])[1:]
    start = len(f'"{pairs[number][0]}":"')
    return before + rest[: start + at] + b'"' + rest[start + at :], None, None, "stray quote"


def _text_value(config: dict, start_us: int, row: dict, kind: str, w: list[int]) -> str:
    """Return the text that stands in place of another."""
    length = twin.duration_us(config["batch_interval"])
    if kind == "malformed_timestamp":
        return malformed(row["timestamp"])[scale(w[1], 10)]
    if kind == "naive_timestamp":
        return row["timestamp"].removesuffix("Z")
    if kind == "invalid_enum":
        name = row["event_type"]
        new = [undefined(config), name.swapcase(), name + " "][scale(w[1], 3)]
        return undefined(config) if new in config["event_types"] else new
    if kind == "orphan_reference":
        return make_uuid(w[2], w[3])
    end = start_us + length
    # What may come late is not outside: a time before is one before that.
    before = start_us - defects_of(config).get("late", {"batches": 0})["batches"] * length
    us = [before - 1 - scale(w[2], length), end, end + 1 + scale(w[2], length)][scale(w[1], 3)]
    return time_text(us if YEAR_1 <= us < YEAR_10000 else end)


def defects_of(config: dict) -> dict[str, dict[str, Any]]:
    """Return the kinds of a configuration in their order, every value explicit."""
    given = config.get("defects", {})
    forms = {}
    for kind, (fields, expect) in KINDS.items():
        if kind in given:
            form = given[kind] if isinstance(given[kind], dict) else {"rate": given[kind]}
            named = form.get("fields", fields)
            forms[kind] = {"expect": expect, "batches": 1, **form}
            forms[kind]["fields"] = [field for field in FIELDS if field in named]
    return forms


class _Batch:
    """The decisions for one batch."""

    def __init__(self, config: dict, fleet: list[dict], start_us: int, ordinal: int) -> None:
        self.config, self.start_us, self.ordinal = config, start_us, ordinal
        self.defects = defects_of(config)
        self.blocks: dict[int, list[tuple[int, dict]]] = {}
        for block, place, row in twin.placed_events(config, fleet, start_us, ordinal):
            self.blocks.setdefault(block, []).append((place, row))

    def kind(self, block: int, place: int) -> str | None:
        """Return what strikes the event at an address."""
        raw = word(self.config["seed"], DEFECT, self.ordinal, block, place)
        total = twin.Fraction(0)
        for kind, form in self.defects.items():
            total += twin.Fraction(repr(float(form["rate"])))
            if raw < total * WORDS // 1:
                return kind
        return None

    def details(self, block: int, place: int) -> list[int]:
        """Return the four words of an event."""
        seed = self.config["seed"]
        return [word(seed, DEFECT_DETAIL, self.ordinal, block, 4 * place + i) for i in range(4)]


def batch_id(us: int) -> str:
    """Return the name of the batch that starts at a time."""
    return time_text(us).replace("-", "").replace(":", "").replace(".000000", "")


def delivered(
    config: dict,
    fleet: list[dict],
    start_us: int,
    ordinal: int = 0,
    drivers: range | None = None,
    part: str | None = None,
) -> tuple[list[bytes], list[dict]]:
    """Return the lines of a batch, or of a part, with their ends, and the ledger as objects."""
    config = twin.DEFAULTS | config
    batch = _Batch(config, fleet, start_us, ordinal)
    earlier, late = None, batch.defects.get("late")
    if late and ordinal >= late["batches"]:
        before = start_us - late["batches"] * twin.duration_us(config["batch_interval"])
        earlier = _Batch(config, fleet, before, ordinal - late["batches"])
    lines: list[bytes] = []
    ledger: list[dict] = []

    def put(line: bytes, kind: str | None, row: dict, field=None, original=None, injected=None,
            copy_of=None, from_batch=None) -> int:  # fmt: skip
        lines.append(line + b"\n")
        if kind is not None:
            entry = {
                "batch_id": batch_id(start_us), "line": len(lines), "kind": kind,
                "event_id": row["event_id"], "field": field, "original": original,
                "injected": injected, "copy_of": copy_of, "from_batch": from_batch,
                "sha256": hashlib.sha256(line).hexdigest(),
                "expect": batch.defects[kind]["expect"],
            }  # fmt: skip
            ledger.append(entry | ({} if part is None else {"part": part}))
        return len(lines)

    n_drivers = len(fleet) * config["drivers_per_company"]
    drivers = range(n_drivers) if drivers is None else drivers
    for block in range(drivers.start // 1024, -(-drivers.stop // 1024)):
        _put_block(batch, block, put)
        for place, row in earlier.blocks.get(block, []) if earlier else []:
            if earlier.kind(block, place) == "late":
                put(twin.line(row)[:-1], "late", row, from_batch=batch_id(earlier.start_us))
    return lines, ledger


def _put_block(batch: _Batch, block: int, put: Any) -> None:
    own = batch.blocks.get(block, [])
    due: dict[int, list[tuple]] = {}
    for i, (place, row) in enumerate(own):
        kind = batch.kind(block, place)
        clean, w = twin.line(row)[:-1], batch.details(block, place)
        fields = batch.defects[kind]["fields"] if kind else []
        field = fields[scale(w[0], len(fields))] if fields else None
        if kind is None:
            put(clean, None, row)
        elif kind in ("duplicate", "conflicting_duplicate"):
            first = put(clean, None, row)
            copy, original, injected = clean, None, None
            if field:
                original = row[field]
                injected = other_value(batch.config, batch.start_us, row, field, w, w[3])
                copy = twin.line(row | {field: injected})[:-1]
            behind = min(i + 1 + scale(w[2], 1024), len(own) - 1)
            due.setdefault(behind, []).append((copy, kind, row, field, original, injected, first))
        elif kind != "late":
            line, *told = _struck(batch.config, batch.start_us, row, kind, field, w)
            put(line, kind, row, *told)
        for copy in due.pop(i, []):
            put(*copy)


def ledger_lines(ledger: list[dict]) -> bytes:
    """Return the objects of a ledger as its lines."""
    return b"".join(text(entry).encode() + b"\n" for entry in ledger)
