"""Columns to JSON Lines, all rows of a chunk at once.

Every value is written into a matrix of bytes, one row a line; places that a value does not need
hold NUL, which JSON never contains, and one pass removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetsim.base.clock import DAY_US
from fleetsim.generate.config import Config
from fleetsim.generate.events import EventColumns
from fleetsim.generate.fleet import CompanyColumns, Fleet
from fleetsim.generate.model import COMPANY_FIELDS, EVENT_FIELDS, FieldKind, choice_law, escaped

Bytes = npt.NDArray[np.uint8]

_PAD = b"\0"
_HEX = np.frombuffer("".join(f"{i:02x}" for i in range(256)).encode(), np.uint8).reshape(256, 2)
_UUID_GROUPS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))  # hex digits between the hyphens
_UUID_WIDTH = 36
_LEDGER_BYTES = 360  # of a line of the ledger, about
_TIME_WIDTH = 27


def driver_digits(config: Config) -> int:
    """Return how many digits a driver's number has: 3, or more where the fleet needs them."""
    return max(3, len(str(config.drivers_per_company - 1)))


def encode_events(config: Config, fleet: Fleet, start_us: int, events: EventColumns) -> bytes:
    """Return the JSON lines of events of an interval that starts at `start_us`."""
    company, number = np.divmod(events.driver, config.drivers_per_company)
    ids = fleet.ids_of(company)

    values: list[Sequence[Bytes | bytes]] = []
    for field in EVENT_FIELDS:
        if field.kind is FieldKind.UUID:
            values.append(_quoted(uuid_text(events.drawn[field.name])))
        elif field.kind is FieldKind.DRIVER:
            digits = _digits(number, driver_digits(config))
            values.append(_quoted(b"DRV-", ids, b"-", digits))
        elif field.kind is FieldKind.COMPANY:
            values.append(_quoted(ids))
        elif field.kind is FieldKind.TRUCK:
            values.append(_quoted(b"TRK-", _unpadded(events.driver + 1)))
        elif field.kind is FieldKind.TIME:
            values.append(_quoted(time_text(start_us + events.drawn[field.name])))
        else:
            names = choice_law(config, field.key or field.name).names
            values.append(_quoted(_names(names)[events.drawn[field.name]]))
    return _lines([field.name for field in EVENT_FIELDS], values, len(events))


def line_width(config: Config, drivers: int) -> int:
    """Return the bytes of the longest line that a fleet of so many drivers can have."""

    def longest(key: str) -> int:
        return max(len(escaped(name)) for name in choice_law(config, key).names)

    return round(_width(config, len(str(drivers)), longest))


def mean_width(config: Config, drivers: int) -> float:
    """Return the bytes that a line has in the mean: names by their weights, all trucks alike."""

    def mean(key: str) -> float:
        law = choice_law(config, key)
        pairs = zip(law.names, law.probabilities, strict=True)
        return sum(share * len(escaped(name)) for name, share in pairs)

    return _width(config, _mean_digits(drivers), mean)


def defect_bytes(config: Config) -> float:
    """Return the bytes that defects add to an event in the mean, the line of the ledger with it.

    Refusing what cannot fit needs no more than that: what a patch adds or takes is little beside
    the ledger's line, and a copy is a line more.
    """
    rates = {kind: defect.rate for kind, defect in config.defects.items()}
    copies = sum(rates.get(kind, 0.0) for kind in ("duplicate", "conflicting_duplicate"))
    return sum(rates.values()) * _LEDGER_BYTES + copies * mean_width(config, 1)


def _width(config: Config, truck_digits: float, names: Callable[[str], float]) -> float:
    """Return the bytes of a line, from those of a truck's number and of the name of a choice."""
    values = 0.0
    for field in EVENT_FIELDS:
        if field.kind in (FieldKind.UUID, FieldKind.COMPANY):
            width: float = _UUID_WIDTH
        elif field.kind is FieldKind.DRIVER:
            width = len("DRV--") + _UUID_WIDTH + driver_digits(config)
        elif field.kind is FieldKind.TRUCK:
            width = len("TRK-") + truck_digits
        elif field.kind is FieldKind.TIME:
            width = _TIME_WIDTH
        else:
            width = names(field.key or field.name)
        values += len(f'"{field.name}":""') + width
    return values + len(EVENT_FIELDS) - 1 + len("{}\n")


def _mean_digits(last: int) -> float:
    """Return the mean number of decimal digits of 1 .. last."""
    total, width, first = 0, 1, 1
    while first <= last:
        total += width * (min(10 * first - 1, last) - first + 1)
        width, first = width + 1, 10 * first
    return total / last


def encode_companies(config: Config, companies: CompanyColumns) -> bytes:
    """Return the JSON lines of consecutive companies."""
    values: list[Sequence[Bytes | bytes]] = []
    for field in COMPANY_FIELDS:
        if field.kind is FieldKind.UUID:
            values.append(_quoted(uuid_text(companies.company_id)))
        elif field.kind is FieldKind.TIME:
            values.append(_quoted(time_text(companies.created_us)))
        else:
            names = _names(choice_law(config, field.key or field.name).names)
            text = names[getattr(companies, field.name)]
            values.append([text] if field.kind is FieldKind.FLAG else _quoted(text))
    return _lines([field.name for field in COMPANY_FIELDS], values, len(companies.created_us))


def _lines(keys: Sequence[str], values: Sequence[Sequence[Bytes | bytes]], n: int) -> bytes:
    """Return n JSON objects, a line each, from the parts of each key's value."""
    parts: list[Bytes | bytes] = []
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        parts += [("," if i else "{").encode() + f'"{key}":'.encode(), *value]
    parts.append(b"}\n")
    width = sum(len(part) if isinstance(part, bytes) else part.shape[1] for part in parts)
    rows = np.empty((n, width), np.uint8)
    at = 0
    for part in parts:
        size = len(part) if isinstance(part, bytes) else part.shape[1]
        rows[:, at : at + size] = np.frombuffer(part, np.uint8) if isinstance(part, bytes) else part
        at += size
    return rows.tobytes().translate(None, _PAD)


def _quoted(*parts: Bytes | bytes) -> list[Bytes | bytes]:
    return [b'"', *parts, b'"']


def _names(names: Sequence[str]) -> Bytes:
    """Return the escaped names, one a row, padded at the right."""
    texts = [escaped(name) for name in names]
    width = max(map(len, texts))
    return np.frombuffer(b"".join(t.ljust(width, _PAD) for t in texts), np.uint8).reshape(-1, width)


def uuid_text(pairs: npt.NDArray[np.integer[Any]]) -> Bytes:
    """Return the 36 characters of each UUID, shape (n, 36)."""
    octets = np.ascontiguousarray(pairs, dtype=">u8").view(np.uint8).reshape(-1, 16)
    digits = _HEX[octets].reshape(-1, 32)
    text = np.full((len(digits), 36), ord("-"), np.uint8)
    for hyphens, (start, end) in enumerate(_UUID_GROUPS):
        text[:, start + hyphens : end + hyphens] = digits[:, start:end]
    return text


def interval_dates(start_us: int, width: int) -> Bytes:
    """Return the date of an interval's start and the next one, as ``2025-11-08T``, padded rows."""
    day = start_us // DAY_US
    rows = np.zeros((2, width), np.uint8)
    rows[:, :11] = time_text(np.array([day, day + 1]) * DAY_US)[:, :11]
    return rows.ravel()


def _digits(values: npt.NDArray[np.int64], width: int) -> Bytes:
    """Return the last `width` decimal digits of each value, zero-padded."""
    text = np.empty((len(values), width), np.uint8)
    rest = values
    for place in range(width - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        text[:, place] = digit + ord("0")
    return text


def _unpadded(values: npt.NDArray[np.int64]) -> Bytes:
    """Return the decimal digits of each positive value, padded at the left."""
    width = len(str(int(values.max()))) if len(values) else 1
    text = _digits(values, width)
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    text[values[:, None] < powers] = 0
    return text


def time_text(us: npt.NDArray[np.integer[Any]]) -> Bytes:
    """Return microseconds since 1970 as 27 characters, ``2025-11-08T12:00:00.000000Z``."""
    text = np.empty((len(us), 27), np.uint8)
    text[:] = np.frombuffer(b"0000-00-00T00:00:00.000000Z", np.uint8)
    day, in_day = np.divmod(us, DAY_US)
    days, index = np.unique(day, return_inverse=True)
    dates = np.datetime_as_string(days.astype("datetime64[D]")).astype("S10")
    text[:, :10] = dates.view(np.uint8).reshape(-1, 10)[index]
    second, fraction = np.divmod(in_day, 1_000_000)
    text[:, 20:26] = _digits(fraction, 6)
    for place, unit in ((17, 1), (14, 60), (11, 3600)):
        text[:, place : place + 2] = _digits(second // unit % (60 if unit < 3600 else 24), 2)
    return text
