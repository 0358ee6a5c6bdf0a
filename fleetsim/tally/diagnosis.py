"""Say what is wrong with a line: the slow path, for the few lines that are not in order."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import found
from fleetsim.generate.config import Config
from fleetsim.generate.encode import driver_digits
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, choice_law, escaped
from fleetsim.tally.faults import FaultKind
from fleetsim.tally.lines import RawLine

_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = rb"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z"
_VALUE = {
    FieldKind.UUID: b"(" + _UUID + b")",
    FieldKind.COMPANY: b"(" + _UUID + b")",
    FieldKind.DRIVER: b"DRV-(" + _UUID + rb")-(\d{3,9})",
    FieldKind.TRUCK: rb"TRK-([1-9]\d{0,17})",
    FieldKind.CHOICE: rb'((?:[^"\\]|\\.)*)',
    FieldKind.TIME: b"(" + _TIME + b")",
}
_LINE = re.compile(
    rb"\{"
    + b",".join(b'"%s":"%s"' % (f.name.encode(), _VALUE[f.kind]) for f in EVENT_FIELDS)
    + rb"\}\n"
)
#: The field of each group of `_LINE`; the driver's has two, its company and its number.
_GROUPS = [f for f in EVENT_FIELDS for _ in range(re.compile(_VALUE[f.kind]).groups)]


@dataclass(frozen=True)
class Roster:
    """Who may stand in a line: companies by id, drivers, and the names of each choice as JSON."""

    companies: dict[bytes, int]
    eligible: npt.NDArray[np.bool_]
    drivers_per_company: int
    digits: int
    choices: dict[str, frozenset[bytes]]

    @classmethod
    def of(cls, config: Config, fleet: Fleet, eligible: npt.NDArray[np.bool_]) -> Roster:
        """Return the roster of a fleet of which some companies are eligible."""
        return cls(
            companies={row.tobytes(): i for i, row in enumerate(fleet.company_id)},
            eligible=eligible,
            drivers_per_company=config.drivers_per_company,
            digits=driver_digits(config),
            choices={
                f.name: frozenset(map(escaped, choice_law(config, f.key or f.name).names))
                for f in EVENT_FIELDS
                if f.kind is FieldKind.CHOICE
            },
        )


def diagnose(line: RawLine, roster: Roster) -> tuple[FaultKind, str]:
    """Return what is wrong with a line that `LineReader` did not take for good.

    Parameters
    ----------
    line : RawLine
    roster : Roster
    """
    if len(line.raw) < line.length:
        size = f"{line.length:,}".replace(",", " ")
        return FaultKind.LINE, f"a line of {size} bytes, far longer than any event"
    match = _LINE.fullmatch(line.raw)
    if match is None:
        return FaultKind.LINE, _what_is_wrong(line.raw)
    texts: dict[FieldKind, list[bytes]] = {kind: [] for kind in FieldKind}
    for field, text in zip(_GROUPS, match.groups(), strict=True):
        texts[field.kind].append(text)
        if field.kind is FieldKind.CHOICE and text not in roster.choices[field.name]:
            return _unknown_name(field.name, roster.choices[field.name], text, line.raw)
    (driver_company, slot), (company,), (truck,) = (
        texts[kind] for kind in (FieldKind.DRIVER, FieldKind.COMPANY, FieldKind.TRUCK)
    )
    if stranger := _membership(roster, driver_company, slot, company, truck):
        return FaultKind.MEMBER, stranger
    for text in texts[FieldKind.TIME]:
        try:
            parse_time(text.decode())
        except ValueError:
            return FaultKind.TIME, f"{text.decode()} is no time"
    raise AssertionError(f"nothing is wrong with line {line.number}")


def _unknown_name(
    field: str, names: frozenset[bytes], text: bytes, line: bytes
) -> tuple[FaultKind, str]:
    """Say why the text of a choice between the quotes is none of the configuration's."""
    try:
        value = json.loads(b'"' + text + b'"')
    except ValueError:  # not UTF-8, or a character that JSON wants escaped
        return FaultKind.LINE, _what_is_wrong(line)
    if isinstance(value, str) and _escaped(value) in names:
        return FaultKind.LINE, f"{field} {found(value)} has not the shortest escapes"
    return FaultKind.MEMBER, f"{field} {found(value)} is not in the configuration"


def _escaped(text: str) -> bytes | None:
    try:
        return escaped(text)
    except UnicodeEncodeError:  # half of a pair of surrogates
        return None


def _membership(
    roster: Roster, driver_company: bytes, slot: bytes, company: bytes, truck: bytes
) -> str | None:
    """Return what is wrong with those whom a line names, or None."""
    index = roster.companies.get(company)
    if index is None:
        return f"company_id {company.decode()} is not in the companies file"
    if not roster.eligible[index]:
        return f"company_id {company.decode()} is not active or not onboarded yet"
    if driver_company != company:
        return f"driver_id names the company {driver_company.decode()}, not {company.decode()}"
    if int(slot) >= roster.drivers_per_company or len(slot) != roster.digits:
        last = f"{roster.drivers_per_company - 1:0{roster.digits}d}"
        return f"driver number {slot.decode()} is not one of {'0' * roster.digits} .. {last}"
    position = index * roster.drivers_per_company + int(slot) + 1
    if int(truck) != position:
        return f"truck_id is TRK-{truck.decode()}, this driver's is TRK-{position}"
    return None


def _what_is_wrong(line: bytes) -> str:
    """Say why a line does not have the exact form."""
    if not line.endswith(b"\n"):
        return "the last line is cut: it has no end"
    if line.endswith(b"\r\n"):
        return "ends with CR LF; a line ends with LF alone"
    if not line.strip():
        return "a blank line"
    if line.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark"
    try:
        text = line[:-1].decode()
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte {error.start + 1} of the line is invalid"
    except json.JSONDecodeError as error:
        return f"not valid JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}"
    if not isinstance(pairs, _Pairs):
        return "not a JSON object"
    keys, expected = [key for key, _ in pairs], [f.name for f in EVENT_FIELDS]
    twice = [f"key {found(key)} twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    missing = [f"missing key {key!r}" for key in expected if key not in keys]
    extra = [f"extra key {found(key)}" for key in dict.fromkeys(keys) if key not in expected]
    if twice or missing or extra:
        return "; ".join([*twice, *missing, *extra])
    if keys != expected:
        return f"keys in another order: {', '.join(keys)}"
    for key, value in pairs:
        if not isinstance(value, str):
            return f"{key} is {_JSON_NAMES.get(type(value), 'a number')}, not text"
    for f, (_, value) in zip(EVENT_FIELDS, pairs, strict=True):
        raw = value.encode(errors="surrogatepass")
        if f.kind is not FieldKind.CHOICE and not re.fullmatch(_VALUE[f.kind], raw):
            return f"{f.name} is {found(value)}, which does not have its form"
    return "valid JSON, but not in the compact form of the data model"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that order and repeated keys stay visible."""


_JSON_NAMES = {bool: "a truth value", type(None): "null", list: "a list", _Pairs: "an object"}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
