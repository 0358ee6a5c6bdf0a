"""The kinds of defects: what each is, what it may strike, and how a configuration names it.

`DEFECT_KINDS` is the table that the injection, the ledger's reader, the audit and the documentation
read. A kind's place in it is part of the rule that turns a seed into data: rates are cumulated in
this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from fleetsim.base.errors import found, nearest
from fleetsim.generate.config import Config, Defect
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, rate_thresholds

#: What a right ingestion may do with a line.
EXPECTATIONS = ("accept", "reject", "once", "either")
#: A late record comes at most so many batches later.
MOST_LATE = 10**6

_KEYS = ("rate", "fields", "expect", "batches")
_RATE = "a number from 0 to 1"


class DefectKind(msgspec.Struct, frozen=True):
    """A kind of defect.

    Attributes
    ----------
    name : str
    expect : "accept", "reject" or "once"
        What a right ingestion does with such a line, where the configuration does not say.
    fields : tuple of str
        The keys of an event that it fits; empty for a kind that strikes the whole record.
    columns : bool
        Whether Parquet and data frames can hold it.
    description : str
        What is written.
    """

    name: str
    expect: str
    fields: tuple[str, ...]
    columns: bool
    description: str


_ALL = tuple(field.name for field in EVENT_FIELDS)


def _of(*kinds: FieldKind) -> tuple[str, ...]:
    return tuple(field.name for field in EVENT_FIELDS if field.kind in kinds)


_KINDS = (
    DefectKind("missing_field", "reject", _ALL, False, "one key is left out"),
    DefectKind("null_value", "reject", _ALL, True, "one value is null"),
    DefectKind(
        "wrong_type",
        "reject",
        _ALL,
        False,
        "a number, truth value, array or object stands in place of a text",
    ),
    DefectKind(
        "malformed_timestamp",
        "reject",
        _of(FieldKind.TIME),
        False,
        "no instant of ISO 8601, or an impossible one",
    ),
    DefectKind(
        "naive_timestamp", "reject", _of(FieldKind.TIME), False, "an instant without its zone"
    ),
    DefectKind(
        "invalid_enum",
        "reject",
        _of(FieldKind.CHOICE),
        True,
        "a name that the configuration does not have; other letter case and a blank too",
    ),
    DefectKind(
        "orphan_reference",
        "reject",
        _of(FieldKind.COMPANY),
        True,
        "a company_id, also within driver_id, that the companies do not have",
    ),
    DefectKind(
        "out_of_interval",
        "reject",
        _of(FieldKind.TIME),
        True,
        "a well-formed timestamp before the interval's start, at its end or after it",
    ),
    DefectKind("extra_field", "accept", (), False, "one more key, last in the object"),
    DefectKind("duplicate_key", "reject", _ALL, False, "one key twice, with two values"),
    DefectKind(
        "corrupt_record",
        "reject",
        (),
        False,
        "no JSON: cut off, a stray quote, or two records on one line",
    ),
    DefectKind(
        "invalid_utf8", "reject", _ALL, False, "bytes that are no UTF-8 at the end of a value"
    ),
    DefectKind(
        "duplicate", "once", (), True, "the line a second time, byte for byte, later in the file"
    ),
    DefectKind(
        "conflicting_duplicate",
        "once",
        _of(FieldKind.CHOICE, FieldKind.TIME),
        True,
        "a second record with the same event_id and another value",
    ),
    DefectKind(
        "late", "accept", (), True, "the record comes some batches later, its timestamp kept"
    ),
)

#: Every kind by its name, in the order in which rates are cumulated.
DEFECT_KINDS: dict[str, DefectKind] = {kind.name: kind for kind in _KINDS}


def defect_thresholds(config: Config) -> tuple[int, ...]:
    """Return the thresholds of the kinds that a configuration has, in their order.

    How many of them are <= an event's word is the place of its kind in ``config.defects``; as many
    as there are kinds means no defect.
    """
    return rate_thresholds(defect.rate for defect in config.defects.values())


def defect_rates(config: Config) -> dict[str, float]:
    """Return the rate of each kind that a configuration has: its probability for a record."""
    return {kind: defect.rate for kind, defect in config.defects.items()}


def unfit_kinds(config: Config) -> list[str]:
    """Return the configured kinds that Parquet and data frames cannot hold."""
    return [kind for kind in config.defects if not DEFECT_KINDS[kind].columns]


def read_defects(data: Any, allowed: str) -> tuple[dict[str, Defect], list[str]]:
    """Return the defects that the key `defects` of a configuration describes, and every fault.

    Parameters
    ----------
    data : Any
        What the user wrote.
    allowed : str
        What the key may hold, for the message.
    """
    if not isinstance(data, Mapping):
        return {}, [f"defects: found {found(data)}; allowed: {allowed}"]
    faults: list[str] = []
    read: dict[str, Defect] = {}
    for name, value in data.items():
        kind = DEFECT_KINDS.get(name) if isinstance(name, str) else None
        if kind is None:
            near = nearest(str(name), DEFECT_KINDS)
            known = ", ".join(DEFECT_KINDS)
            faults.append(f"defects: found the kind {found(name)}{near}; allowed: {known}")
            continue
        form = value if isinstance(value, Mapping) else {"rate": value}
        defect, wrong = _read_defect(kind, form)
        faults += [f"defects.{name}{fault}" for fault in wrong]
        if defect is not None:
            read[name] = defect
    total = sum(Decimal(repr(defect.rate)) for defect in read.values())
    if total > 1:
        faults.append(f"defects: the rates sum to {total}; allowed: at most 1")
    return {name: read[name] for name in DEFECT_KINDS if name in read}, faults


def _read_defect(kind: DefectKind, form: Mapping[Any, Any]) -> tuple[Defect | None, list[str]]:
    """Return one kind as configured, None where a value is wrong, and what is wrong with it."""
    keys = _KEYS if kind.name == "late" else _KEYS[:-1]
    faults = [
        f": found the key {found(key)}{nearest(str(key), keys)}; allowed: {', '.join(keys)}"
        for key in form
        if key not in _KEYS
    ]
    rate = form.get("rate")
    if "rate" not in form:
        faults.append(f".rate: missing; allowed: {_RATE}")
    elif isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        faults.append(f".rate: found {found(rate)}; allowed: {_RATE}")
    fields = _read_fields(kind, form.get("fields", list(kind.fields)), faults)
    expect = form.get("expect", kind.expect)
    if expect not in EXPECTATIONS:
        near = nearest(expect, EXPECTATIONS) if isinstance(expect, str) else ""
        faults.append(f".expect: found {found(expect)}{near}; allowed: {', '.join(EXPECTATIONS)}")
    batches = form.get("batches", 1)
    if kind.name != "late":
        if "batches" in form:
            faults.append(f".batches: found {found(batches)}; allowed: only for the kind late")
        batches = 0
    elif isinstance(batches, bool) or not isinstance(batches, int) or not _in_range(batches):
        limits = f"a whole number from 1 to {MOST_LATE}"
        faults.append(f".batches: found {found(batches)}; allowed: {limits}")
    if faults:
        return None, faults
    return Defect(rate=float(rate or 0), fields=fields, expect=expect, batches=batches), []


def _in_range(batches: int) -> bool:
    return 1 <= batches <= MOST_LATE


def _read_fields(kind: DefectKind, value: Any, faults: list[str]) -> tuple[str, ...]:
    """Return the fields that a defect may strike, in the order of the data model."""
    if not kind.fields:
        if value not in ([], ()):
            faults.append(f".fields: found {found(value)}; allowed: none, {kind.name} has no field")
        return ()
    known = ", ".join(kind.fields)
    if not isinstance(value, list | tuple) or not value:
        faults.append(f".fields: found {found(value)}; allowed: a list of {known}")
        return ()
    for number, name in enumerate(value):
        if name not in kind.fields:
            near = nearest(name, kind.fields) if isinstance(name, str) else ""
            faults.append(f".fields: found {found(name)}{near}; allowed for {kind.name}: {known}")
        elif name in value[:number]:
            faults.append(f".fields: found {found(name)} twice; allowed: each field once")
    return tuple(name for name in kind.fields if name in value)
