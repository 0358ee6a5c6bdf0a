"""The vocabulary of the data and the laws behind it.

`COMPANY_FIELDS` and `EVENT_FIELDS` are the data model: generation, encoding, the structure check
and the data dictionary read these rows and nothing else. A law offers its moments next to the
integer thresholds that sample it exactly (STREAM: one 64-bit word a value, no floating point
between word and value).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_FLOOR, Context, Decimal
from enum import Enum, IntEnum
from functools import lru_cache
from itertools import accumulate

import msgspec

from fleetsim.generate.config import Config

#: Version of the rule that turns a configuration and a seed into data. Any change of the bytes
#: that the generator makes raises it.
STREAM_VERSION = 1

_WORDS = 2**64
# 60 digits: the sum of up to 2e4 correctly rounded terms keeps an error far below 2**-64.
_PRECISION = Context(prec=60, rounding=ROUND_FLOOR, Emin=-999999, Emax=999999)


class Purpose(IntEnum):
    """What a random stream is for. A number is never given to a second purpose."""

    EVENT_COUNT = 1
    EVENT_OFFSET = 2
    EVENT_ID = 3
    EVENT_TYPE = 4
    DEFECT = 5
    DEFECT_DETAIL = 6
    COMPANY_ID = 101
    COMPANY_GEOGRAPHY = 102
    COMPANY_ACTIVE = 103


class FieldKind(Enum):
    """How the value of a field comes about and is written."""

    UUID = "uuid"  # two words: RFC 9562 version 4
    CHOICE = "choice"  # one word, by the weights of a configuration key
    FLAG = "flag"  # one word, by the probability of a configuration key
    TIME = "time"  # microseconds, UTC
    COMPANY = "company"  # the company's id
    DRIVER = "driver"  # DRV-<company id>-<number within the company>
    TRUCK = "truck"  # TRK-<the driver's position in the fleet, from 1>


class Field(msgspec.Struct, frozen=True):
    """One key of a JSON line.

    `purpose` is the random stream of a drawn value; `key` the configuration key that holds its
    law. Both are None where the value follows from its place in the fleet.
    """

    name: str
    kind: FieldKind
    description: str
    purpose: Purpose | None = None
    key: str | None = None


COMPANY_FIELDS = (
    Field("company_id", FieldKind.UUID, "id of the company, a UUID version 4", Purpose.COMPANY_ID),
    Field(
        "geography",
        FieldKind.CHOICE,
        "where the company drives",
        Purpose.COMPANY_GEOGRAPHY,
        "geographies",
    ),
    Field(
        "active",
        FieldKind.FLAG,
        "whether the company produces events",
        Purpose.COMPANY_ACTIVE,
        "active_fraction",
    ),
    Field("created_at", FieldKind.TIME, "when the company was onboarded, UTC"),
)

EVENT_FIELDS = (
    Field("event_id", FieldKind.UUID, "id of the event, a UUID version 4", Purpose.EVENT_ID),
    Field("driver_id", FieldKind.DRIVER, "the company's id and the driver's number in it, from 0"),
    Field("company_id", FieldKind.COMPANY, "id of the driver's company"),
    Field("truck_id", FieldKind.TRUCK, "the driver's position in the whole fleet, from 1"),
    Field(
        "event_type",
        FieldKind.CHOICE,
        "what happened; an independent draw for each event",
        Purpose.EVENT_TYPE,
        "event_types",
    ),
    Field(
        "timestamp",
        FieldKind.TIME,
        "when it happened, UTC, floored to the microsecond",
        Purpose.EVENT_OFFSET,
    ),
)


class PoissonCount(msgspec.Struct, frozen=True):
    """Number of events of one driver in one batch interval; `mean` in events."""

    mean: float

    @property
    def variance(self) -> float:
        """Variance [events squared]; equal to the mean."""
        return self.mean

    @property
    def thresholds(self) -> tuple[int, ...]:
        """Return floor(P(X <= k) * 2**64) for k = 0, 1, ...; X is how many of them are <= a word.

        The table ends where the floor reaches 2**64 - 1: a word of 2**64 - 1, with probability
        5.4e-20, gives the first count past the table. A mean of 0 has an empty table: every word
        gives 0.
        """
        return _poisson_thresholds(self.mean)


@lru_cache(maxsize=64)
def _poisson_thresholds(mean: float) -> tuple[int, ...]:
    # repr gives the decimal that the user wrote, not its nearest binary fraction.
    rate = Decimal(repr(mean))
    if rate == 0:
        return ()
    term = _PRECISION.exp(-rate)
    cumulated = term
    thresholds: list[int] = []
    k = 0
    while True:
        threshold = min(_floor_words(cumulated), _WORDS - 1)
        thresholds.append(threshold)
        k += 1
        if threshold == _WORDS - 1 or term == 0:
            return tuple(thresholds)
        term = _PRECISION.divide(_PRECISION.multiply(term, rate), Decimal(k))
        cumulated = _PRECISION.add(cumulated, term)


class Categorical(msgspec.Struct, frozen=True):
    """A choice among names; `weights` sum to 1 within 1e-9 and keep the user's order."""

    weights: tuple[tuple[str, float], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the user's order."""
        return tuple(name for name, _ in self.weights)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The weights divided by their sum, in the user's order."""
        total = sum(weight for _, weight in self.weights)
        return tuple(weight / total for _, weight in self.weights)

    @property
    def sampling_order(self) -> tuple[int, ...]:
        """Positions of the names in alphabetical order, the order in which words meet them.

        A mapping has no order, so the same weights written in another order are the same law and
        must give the same data.
        """
        return tuple(sorted(range(len(self.weights)), key=lambda i: self.weights[i][0]))

    @property
    def thresholds(self) -> tuple[int, ...]:
        """Return floor(CDF * 2**64) in sampling order; how many are <= a word is the choice.

        Thresholds of 2**64 are left out, since no word reaches them.
        """
        ordered = [Decimal(repr(self.weights[i][1])) for i in self.sampling_order]
        cumulated = list(accumulate(ordered, _PRECISION.add))
        floors = [_floor_words(_PRECISION.divide(part, cumulated[-1])) for part in cumulated]
        return tuple(floor for floor in floors if floor < _WORDS)


def rate_thresholds(rates: Iterable[float]) -> tuple[int, ...]:
    """Return floor(cumulated rate * 2**64) of rates whose sum is at most 1; the rest is nothing.

    How many of them are <= a word is the place of the rate that it met; as many as there are rates
    means none. Thresholds of 2**64 are left out, since no word reaches them.
    """
    return _rate_thresholds(tuple(rates))


@lru_cache(maxsize=64)
def _rate_thresholds(rates: tuple[float, ...]) -> tuple[int, ...]:
    cumulated = accumulate((Decimal(repr(rate)) for rate in rates), _PRECISION.add)
    floors = [_floor_words(part) for part in cumulated]
    return tuple(floor for floor in floors if floor < _WORDS)


def _floor_words(probability: Decimal) -> int:
    return int(_PRECISION.multiply(probability, Decimal(_WORDS)).to_integral_value(ROUND_FLOOR))


def count_law(config: Config) -> PoissonCount:
    """Return the law of a driver's events in one interval."""
    return PoissonCount(config.event_rate_per_driver)


def type_law(config: Config) -> Categorical:
    """Return the law of an event's type."""
    return choice_law(config, "event_types")


def choice_law(config: Config, key: str) -> Categorical:
    """Return the categorical law that a configuration key holds; a probability becomes a flag's."""
    value = getattr(config, key)
    if isinstance(value, dict):
        return Categorical(tuple(value.items()))
    return Categorical((("true", value), ("false", 1.0 - value)))


def escaped(text: str) -> bytes:
    """Return a text as it stands between the quotes of a JSON string: UTF-8, shortest escapes."""
    return msgspec.json.encode(text)[1:-1]
