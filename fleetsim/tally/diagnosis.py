"""Say what is wrong with a line, and what it still tells: the slow path, for few lines.

A line that is JSON in another spelling (spaces, another order of keys, an id in capitals) is at
fault, and is read nevertheless: whatever else is wrong with it is told too, and an event whose six
fields can all be read counts in the statistics as one in canonical form does.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import found
from fleetsim.generate.config import Config
from fleetsim.generate.encode import driver_digits
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.model import EVENT_FIELDS, FieldKind, choice_law, escaped
from fleetsim.tally.faults import FaultKind
from fleetsim.tally.lines import RawLine, unlisted_driver

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_VALUE = {
    FieldKind.UUID: f"({_UUID})",
    FieldKind.COMPANY: f"({_UUID})",
    FieldKind.DRIVER: rf"DRV-({_UUID})-([0-9]{{3,9}})",
    FieldKind.TRUCK: r"TRK-([1-9][0-9]{0,17})",
    FieldKind.CHOICE: r'((?:[^"\\]|\\.)*)',
    FieldKind.TIME: r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)",
}
_FORM = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in _VALUE.items()}
_LINE = re.compile(
    (
        r"\{" + ",".join(f'"{f.name}":"{_VALUE[f.kind]}"' for f in EVENT_FIELDS) + r"\}\n"
    ).encode()  # bytes: a text that is not UTF-8 is no canonical line either
)
# What a text can still be read as, though it does not have its form.
_ANY_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ANY_DRIVER = re.compile("DRV-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-([0-9]{1,9})", re.I)
_ANY_TRUCK = re.compile("TRK-([0-9]{1,18})")
#: The field of each kind that says whom and when; an added attribute comes after it.
_NAMES = {f.kind: f.name for f in reversed(EVENT_FIELDS)}
#: The field of each group of `_LINE`; the driver's has two, its company and its number.
_GROUPS = [f for f in EVENT_FIELDS for _ in range(_FORM[f.kind].groups)]
_EXPECTED = [f.name for f in EVENT_FIELDS]


@dataclass(frozen=True)
class Roster:
    """Who may stand in a line: companies by id, numbers of drivers, names of each choice.

    `companies` is None where nobody says who they are; `listed` is what a company that is not among
    them is not.
    """

    companies: dict[bytes, int] | None
    eligible: npt.NDArray[np.bool_]
    drivers_per_company: int
    digits: int
    choices: dict[str, dict[str, int]]
    listed: str = "in the companies file"

    @classmethod
    def of(
        cls, config: Config, fleet: Fleet | None, eligible: npt.NDArray[np.bool_], listed: str
    ) -> Roster:
        """Return the roster of a fleet of which some companies are eligible."""
        ids = None if fleet is None else fleet.company_id
        return cls(
            companies=None if ids is None else {row.tobytes(): i for i, row in enumerate(ids)},
            eligible=eligible,
            drivers_per_company=config.drivers_per_company,
            digits=driver_digits(config),
            choices={
                f.name: {n: i for i, n in enumerate(choice_law(config, f.key or f.name).names)}
                for f in EVENT_FIELDS
                if f.kind is FieldKind.CHOICE
            },
            listed=listed,
        )


class Finding(NamedTuple):
    """One fault of a line."""

    kind: FaultKind
    cause: str
    message: str


@dataclass
class Diagnosis:
    """What is wrong with a line, and what could be read of it.

    Attributes
    ----------
    findings : list of Finding
    event_id : int or None
        As a number of 128 bits.
    us : int or None
        Microseconds since 1970 UTC.
    driver, company : int
        Positions as `lines.Rows` has them; -1 where the line does not name a member of the roster.
    type : int
        Position in the law's names; -1 where it is not among them.
    named : bool
        Whether company, driver, truck and type could all be read, whoever they are.
    """

    findings: list[Finding]
    event_id: int | None = None
    us: int | None = None
    driver: int = -1
    company: int = -1
    type: int = -1
    named: bool = False

    @property
    def counts(self) -> bool:
        """Whether the line is an event of the statistics: all six fields are read and known."""
        known = self.company >= 0 and self.type >= 0
        return known and self.event_id is not None and self.us is not None

    def add(self, kind: FaultKind, cause: str, message: str) -> None:
        """Take a fault."""
        self.findings.append(Finding(kind, cause, message))


def diagnose(line: RawLine, roster: Roster) -> Diagnosis:
    """Return what is wrong with a line that `LineReader` did not take for good.

    Parameters
    ----------
    line : RawLine
    roster : Roster
    """
    made = Diagnosis([])
    if len(line.raw) < line.length:
        size = f"{line.length:,}".replace(",", " ")
        made.add(FaultKind.LINE, "length", f"a line of {size} bytes, far longer than any event")
        return made
    values = _texts(line.raw, made)
    if values is None:
        return made
    for f in EVENT_FIELDS:
        text = values.get(f.name)
        if (
            text is not None
            and f.kind is not FieldKind.CHOICE
            and not _FORM[f.kind].fullmatch(text)
        ):
            why = f"{f.name} is {found(text)}, which does not have its form"
            made.add(FaultKind.LINE, f"form of {f.name}", why)
    _read_id(values.get(_NAMES[FieldKind.UUID]), made)
    for f in EVENT_FIELDS:
        if f.kind is FieldKind.TIME:
            _read_time(f.name, values.get(f.name), made)
        elif f.kind is FieldKind.CHOICE:
            _read_choice(f.name, values.get(f.name), roster, made)
    _read_members(values, roster, made)
    if len(values) == len(EVENT_FIELDS) and not any(
        f.kind is FaultKind.LINE for f in made.findings
    ):
        _check_spelling(line.raw, values, made)
    if not made.findings:
        raise AssertionError(f"nothing is wrong with line {line.number}")
    return made


# --- from bytes to texts


def _texts(raw: bytes, made: Diagnosis) -> dict[str, str] | None:
    """Return the texts of the fields that stand in a line once; None where it is no object.

    What is wrong with the rest is added.
    """
    match = _LINE.fullmatch(raw)
    if match and b"\\" not in raw:  # in form: it says something that is not so
        try:
            texts = _of_match(match)
        except UnicodeDecodeError:
            texts = {}
        if texts and min("".join(texts.values())) >= " ":
            return texts
    pairs = _pairs(raw, made)
    if pairs is None:
        return None
    keys = [key for key, _ in pairs]
    known = [key for key in dict.fromkeys(keys) if key in _EXPECTED]
    twice = [key for key, number in Counter(keys).items() if number > 1]
    for key in twice[:1]:
        more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
        made.add(FaultKind.LINE, "key twice", f"key {found(key)} twice{more}")
    for key in _EXPECTED:
        if key not in known:
            made.add(FaultKind.LINE, f"missing key {key}", f"missing key {key!r}")
    extra = [key for key in dict.fromkeys(keys) if key not in _EXPECTED]
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        made.add(FaultKind.LINE, "extra key", f"extra key {found(extra[0])}{more}")
    if not twice and known != [key for key in _EXPECTED if key in known]:
        why = f"keys in another order: {', '.join(known)}"
        made.add(FaultKind.LINE, "order of keys", why)
    texts = {}
    for key, value in pairs:
        if key not in _EXPECTED or key in twice:
            continue
        if isinstance(value, str):
            texts[key] = value
        else:
            what = _JSON_NAMES.get(type(value), "a number")
            cause = f"{key} is null" if value is None else f"{key} is not text"
            made.add(FaultKind.LINE, cause, f"{key} is {what}, not text")
    return texts


def _of_match(match: re.Match[bytes]) -> dict[str, str]:
    groups: dict[str, list[str]] = {name: [] for name in _EXPECTED}
    for field, text in zip(_GROUPS, match.groups(), strict=True):
        groups[field.name].append(text.decode())
    prefix = {FieldKind.DRIVER: "DRV-", FieldKind.TRUCK: "TRK-"}
    return {f.name: prefix.get(f.kind, "") + "-".join(groups[f.name]) for f in EVENT_FIELDS}


def _pairs(raw: bytes, made: Diagnosis) -> _Pairs | None:
    """Return the pairs of the JSON object of a line, and add what is wrong around it."""
    body, cut = raw, not raw.endswith(b"\n")
    if cut:
        made.add(FaultKind.LINE, "no end", "the last line is cut: it has no end")
    elif raw.endswith(b"\r\n"):
        made.add(FaultKind.LINE, "CR LF", "ends with CR LF; a line ends with LF alone")
    if body.startswith(codecs.BOM_UTF8):
        made.add(FaultKind.LINE, "byte order mark", "begins with a byte order mark")
        body = body[len(codecs.BOM_UTF8) :]
    if not body.strip():
        if not made.findings:
            made.add(FaultKind.LINE, "blank", "a blank line")
        return None
    try:
        text = body.rstrip(b"\r\n").decode()
        pairs = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse)
    except UnicodeDecodeError as error:
        place = error.start + 1 + len(raw) - len(body)
        why = "not UTF-8", f"not UTF-8: byte {place} of the line is invalid"
    except json.JSONDecodeError as error:
        why = "not JSON", f"not valid JSON: {error.msg} at character {error.pos + 1}"
    except (ValueError, RecursionError) as error:
        why = "not JSON", f"not valid JSON: {error}"
    else:
        if isinstance(pairs, _Pairs):
            return pairs
        why = "not an object", "not a JSON object"
    if not cut:  # what is cut is not whole: once is enough
        made.add(FaultKind.LINE, *why)
    return None


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that order and repeated keys stay visible."""


_JSON_NAMES = {bool: "a truth value", type(None): "null", list: "a list", _Pairs: "an object"}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# --- from texts to what they say


def _read_id(text: str | None, made: Diagnosis) -> None:
    if text is not None and _ANY_UUID.fullmatch(text):
        made.event_id = int(text.replace("-", ""), 16)


def _read_time(name: str, text: str | None, made: Diagnosis) -> None:
    if text is None:
        return
    try:
        us = parse_time(text)
    except ValueError:
        if _FORM[FieldKind.TIME].fullmatch(text):
            made.add(FaultKind.TIME, "no time", f"{text} is no time")
        return
    if name == _NAMES[FieldKind.TIME]:
        made.us = us


def _read_choice(name: str, text: str | None, roster: Roster, made: Diagnosis) -> None:
    if text is None:
        return
    value = roster.choices[name].get(text, -1)
    if value < 0:
        why = f"{name} {found(text)} is not in the configuration"
        made.add(FaultKind.MEMBER, f"unknown {name}", why)
    if name == _NAMES[FieldKind.CHOICE]:
        made.type = value


def _read_members(values: dict[str, str], roster: Roster, made: Diagnosis) -> None:
    """Hold those whom a line names to the roster, as far as they can be read."""
    company = values.get(_NAMES[FieldKind.COMPANY], "").lower()
    driver = _ANY_DRIVER.fullmatch(values.get(_NAMES[FieldKind.DRIVER], ""))
    truck = _ANY_TRUCK.fullmatch(values.get(_NAMES[FieldKind.TRUCK], ""))
    if not _ANY_UUID.fullmatch(company):
        return
    made.named = bool(driver and truck and _NAMES[FieldKind.CHOICE] in values)
    index = 0 if roster.companies is None else roster.companies.get(company.encode())
    if index is None:
        why = f"company_id {company} is not {roster.listed}"
        made.add(FaultKind.MEMBER, "unknown company", why)
        return
    if not roster.eligible[index]:
        why = f"company_id {company} is not active or not onboarded yet"
        made.add(FaultKind.MEMBER, "company not eligible", why)
        return
    if driver is None:
        return
    named, slot = driver[1].lower(), int(driver[2])
    if named != company:
        why = f"driver_id names the company {named}, not {company}"
        made.add(FaultKind.MEMBER, "driver of another company", why)
        return
    if slot >= roster.drivers_per_company or len(driver[2]) != roster.digits:
        last = f"{roster.drivers_per_company - 1:0{roster.digits}d}"
        why = f"driver number {driver[2]} is not one of {'0' * roster.digits} .. {last}"
        made.add(FaultKind.MEMBER, "unknown driver", why)
        return
    if truck is None:
        return
    position = index * roster.drivers_per_company + slot
    if roster.companies is None:
        position = unlisted_driver(company.encode(), slot)
    elif int(truck[1]) != position + 1:
        why = f"truck_id is TRK-{truck[1]}, this driver's is TRK-{position + 1}"
        made.add(FaultKind.MEMBER, "truck of another driver", why)
        return
    made.driver, made.company = position, index


def _check_spelling(raw: bytes, values: dict[str, str], made: Diagnosis) -> None:
    """Add what is wrong with a line whose keys and values are all as they should be."""
    match = _LINE.fullmatch(raw)
    if match is None:
        why = "valid JSON, but not in the compact form of the data model"
        made.add(FaultKind.LINE, "spelling", why)
        return
    for field, text in zip(_GROUPS, match.groups(), strict=True):
        if field.kind is not FieldKind.CHOICE:
            continue
        try:
            shortest = escaped(values[field.name])
        except UnicodeEncodeError:  # half of a pair of surrogates: a name of no configuration
            continue
        if text != shortest:
            why = f"{field.name} {found(values[field.name])} has not the shortest escapes"
            made.add(FaultKind.LINE, "escapes", why)
