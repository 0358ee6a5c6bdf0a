"""A slow twin of the generator in plain Python, to which the fast one is held byte for byte.

It shares no code with fleetsim, only the documented addresses: Philox4x64-10 with the key
(seed, purpose) and the counter (position // 4, 0, block, ordinal), blocks of 1024 rows, and the
numbers of the purposes. Everything else is done another way: integers of any size instead of NumPy,
fractions instead of decimal rounding, the uuid, datetime and json modules for the text.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache

MASK = 2**64 - 1
WORDS = 2**64
ROWS_OF_A_BLOCK = 1024
EVENT_COUNT, EVENT_OFFSET, EVENT_ID, EVENT_TYPE = 1, 2, 3, 4
DEFECT, DEFECT_DETAIL = 5, 6
COMPANY_ID, COMPANY_GEOGRAPHY, COMPANY_ACTIVE = 101, 102, 103

DEFAULTS = {
    "batch_interval": "PT15M",
    "event_types": {"start driving": 0.40, "stopped driving": 0.35, "delivered": 0.25},
    "geographies": {"US": 1.0},
    "active_fraction": 1.0,
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the four words of Philox4x64-10 (Salmon et al. 2011) for a counter and a key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return c0, c1, c2, c3


@cache
def _four_words(seed: int, purpose: int, ordinal: int, block: int, group: int) -> tuple[int, ...]:
    # NumPy counts up before it makes words, hence the 1.
    return philox((group + 1, 0, block, ordinal), (seed, purpose))


def word(seed: int, purpose: int, ordinal: int, block: int, position: int) -> int:
    """Return the word at one address."""
    return _four_words(seed, purpose, ordinal, block, position // 4)[position % 4]


@cache
def poisson_table(rate: str) -> tuple[int, ...]:
    """Return floor(P(X <= k) * 2**64) up to the first that is 2**64 - 1; none for a rate of 0."""
    mean = Fraction(Decimal(rate))
    if mean == 0:
        return ()
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 90, -(10**6) + 1, 10**6 - 1
        # The sum is kept without e**-mean, and multiplied by it last.
        factor, term, total, table = Decimal(rate).copy_negate().exp(), Decimal(1), Decimal(1), []
        while not table or table[-1] != MASK:
            table.append(min(int(factor * total * WORDS), MASK))
            term = term * Decimal(rate) / len(table)
            total += term
    return tuple(table)


def poisson(rate: float, raw: int) -> int:
    """Return the count that a word stands for."""
    return sum(1 for threshold in poisson_table(repr(float(rate))) if threshold <= raw)


def pick(weights: dict[str, float], raw: int) -> str:
    """Return the name that a word stands for: names in alphabetical order, weights over their sum.

    A name is taken where word < floor(CDF * 2**64), so the shares are exact to 2**-64.
    """
    exact = {name: Fraction(repr(float(weight))) for name, weight in weights.items()}
    whole, cumulated = sum(exact.values()), Fraction(0)
    for name in sorted(exact):
        cumulated += exact[name]
        if raw < cumulated * WORDS // whole:
            return name
    raise AssertionError("the weights sum to the whole")


def make_uuid(high: int, low: int) -> str:
    """Return the UUID of version 4 that two words stand for."""
    return str(uuid.UUID(int=high << 64 | low, version=4))


def duration_us(text: str) -> int:
    """Return the microseconds of an ISO 8601 duration in days, hours, minutes and seconds."""
    parts = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", text)
    assert parts, text
    days, hours, minutes, seconds = (Fraction(part or 0) for part in parts.groups())
    return int((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 10**6)


def time_text(us: int) -> str:
    """Return microseconds since 1970 as a timestamp with six decimals."""
    moment = EPOCH + timedelta(microseconds=us)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def line(row: dict[str, object]) -> bytes:
    """Return one line of JSON Lines."""
    return (json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def companies(config: dict, base_us: int, cohorts: int = 1) -> list[dict]:
    """Return the lines of the companies file as mappings."""
    config = DEFAULTS | config
    rows = []
    for i in range(config["number_of_companies"] * cohorts):
        block, position = divmod(i, ROWS_OF_A_BLOCK)

        def at(purpose: int, place: int, block: int = block) -> int:
            return word(config["seed"], purpose, 0, block, place)

        active = config["active_fraction"]
        cohort = i // config["number_of_companies"]
        joined = base_us + cohort * duration_us(config["company_onboarding_interval"])
        rows.append(
            {
                "company_id": make_uuid(
                    at(COMPANY_ID, 2 * position), at(COMPANY_ID, 2 * position + 1)
                ),
                "geography": pick(config["geographies"], at(COMPANY_GEOGRAPHY, position)),
                "active": pick(
                    {"true": active, "false": 1.0 - active}, at(COMPANY_ACTIVE, position)
                )
                == "true",
                "created_at": time_text(joined),
            }
        )
    return rows


def events(config: dict, fleet: list[dict], start_us: int, ordinal: int = 0) -> list[dict]:
    """Return the lines of a batch as mappings; companies that joined by the start have events."""
    return [row for _, _, row in placed_events(config, fleet, start_us, ordinal)]


def placed_events(
    config: dict, fleet: list[dict], start_us: int, ordinal: int
) -> list[tuple[int, int, dict]]:
    """Return the events with the addresses of their words: the block, and the place in it."""
    config = DEFAULTS | config
    seed, per_company = config["seed"], config["drivers_per_company"]
    length = duration_us(config["batch_interval"])
    width = max(3, len(str(per_company - 1)))
    rows = []
    for i in range(len(fleet) * per_company):
        block, position = divmod(i, ROWS_OF_A_BLOCK)
        if position == 0:
            before = 0  # events of the block's drivers so far

        def at(purpose: int, place: int, block: int = block) -> int:
            return word(seed, purpose, ordinal, block, place)

        count = poisson(config["event_rate_per_driver"], at(EVENT_COUNT, position))
        places = range(before, before + count)
        before += count
        company = fleet[i // per_company]
        if not company["active"] or company["created_at"] > time_text(start_us):
            continue
        offsets = sorted(at(EVENT_OFFSET, place) * length // WORDS for place in places)
        for place, offset in zip(places, offsets, strict=True):
            row = {
                "event_id": make_uuid(at(EVENT_ID, 2 * place), at(EVENT_ID, 2 * place + 1)),
                "driver_id": f"DRV-{company['company_id']}-{i % per_company:0{width}d}",
                "company_id": company["company_id"],
                "truck_id": f"TRK-{i + 1}",
                "event_type": pick(config["event_types"], at(EVENT_TYPE, place)),
                "timestamp": time_text(start_us + offset),
            }
            rows.append((block, place, row))
    return rows


def content(rows: list[dict]) -> bytes:
    """Return rows as JSON Lines."""
    return b"".join(map(line, rows))
