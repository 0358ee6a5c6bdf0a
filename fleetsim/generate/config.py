"""The configuration of a fleet: its keys, their types and limits, and how a file is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fleetsim.base.clock import format_duration, parse_duration
from fleetsim.base.errors import InputError, cut, found
from fleetsim.base.strict import allowed, check_fields, meta_of, read_mapping, whole

SEED_MAX = 2**64 - 1
_WEIGHT_TOLERANCE = 1e-9
_NAME_LENGTH = 200
_CHOICES_MAX = 1000

Seed = Annotated[
    int,
    Meta(
        ge=0,
        description="master seed of every random stream",
        extra={"le": SEED_MAX, "allowed": "a whole number from 0 to 2**64 - 1"},
    ),
]
_DURATION = "an ISO 8601 duration above zero, as PT15M"


_DEFECTS = "a mapping of kinds of defects to a rate, or to rate, fields, expect and batches"


def _weights(what: str) -> Meta:
    words = "a mapping of names to weights that sum to 1"
    return Meta(min_length=1, description=what, extra={"allowed": words})


class Defect(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of defect as it is injected, every value explicit.

    Attributes
    ----------
    rate : float
        Probability that a record has this defect.
    fields : tuple of str
        The keys that it may strike, in the order of `EVENT_FIELDS`; empty for a kind without any.
    expect : "accept", "reject", "once" or "either"
        What a right ingestion does with the line.
    batches : int
        How many batches later a late record comes; 0 for every other kind.
    """

    rate: float
    fields: tuple[str, ...]
    expect: str
    batches: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the canonical form, as a configuration file may have it."""
        form = {"rate": self.rate, "fields": list(self.fields), "expect": self.expect}
        return form | ({"batches": self.batches} if self.batches else {})


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A valid configuration; make one with `load_config` or `make_config`, which check it.

    Rates are events per driver and batch interval; durations are ISO 8601 text in canonical form.
    """

    seed: Seed
    number_of_companies: Annotated[int, whole("companies in one onboarding cohort", 1, 10**9)]
    drivers_per_company: Annotated[int, whole("drivers of each company, one truck each", 1, 10**6)]
    event_rate_per_driver: Annotated[
        float,
        Meta(
            ge=0,
            le=10**4,
            description="mean events per driver and batch interval",
            extra={"allowed": "a number from 0 to 10000"},
        ),
    ]
    company_onboarding_interval: Annotated[
        str,
        Meta(
            description="time from one onboarding cohort to the next, ISO 8601",
            extra={"allowed": _DURATION},
        ),
    ]
    batch_interval: Annotated[
        str,
        Meta(
            description="length of a batch's interval, ISO 8601, at most P1D",
            extra={"allowed": _DURATION + ", at most P1D"},
        ),
    ] = "PT15M"
    event_types: Annotated[
        dict[str, float], _weights("what an event may be, each with its probability")
    ] = msgspec.field(
        default_factory=lambda: {"start driving": 0.40, "stopped driving": 0.35, "delivered": 0.25}
    )
    geographies: Annotated[
        dict[str, float], _weights("where a company may be, each with its probability")
    ] = msgspec.field(default_factory=lambda: {"US": 1.0})
    active_fraction: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="probability that a company is active (one draw each)",
            extra={"allowed": "a number from 0 to 1"},
        ),
    ] = 1.0
    defects: Annotated[
        dict[str, Defect],
        Meta(
            description="faults that are injected, each kind with the rate of its records",
            extra={"allowed": _DEFECTS},
        ),
    ] = msgspec.field(default_factory=dict)

    @property
    def interval_us(self) -> int:
        """Length of a batch's interval [microseconds]."""
        return parse_duration(self.batch_interval) // timedelta(microseconds=1)

    @property
    def onboarding_us(self) -> int:
        """Time between two onboarding cohorts [microseconds]."""
        return parse_duration(self.company_onboarding_interval) // timedelta(microseconds=1)

    def as_dict(self) -> dict[str, Any]:
        """Return the effective configuration, every key with its value.

        `defects` is left out where there are none: such data are what they were before that key.
        """
        values = msgspec.structs.asdict(self)
        del values["defects"]
        if self.defects:
            values["defects"] = {kind: defect.as_dict() for kind, defect in self.defects.items()}
        return values

    def _repr_html_(self) -> str:
        from fleetsim.base.tables import Table  # where something is shown

        rows = []
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if field.name == "defects":
                value = {kind: defect.rate for kind, defect in value.items()}
            if isinstance(value, dict):
                value = ", ".join(f"{name} {weight:.12g}" for name, weight in value.items())
            about = meta_of(field.type).description or ""
            rows.append((field.name, str(value), about, allowed(field.type)))
        return Table(("key", "value", "what it is", "allowed"), tuple(rows))._repr_html_()


@cache  # a sweep asks for every point
def scalar_keys() -> Mapping[str, type]:
    """Return the configuration keys that hold one plain value, with their Python types."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(Config)}
    plain = {name: getattr(kind, "__origin__", kind) for name, kind in kinds.items()}
    return {name: kind for name, kind in plain.items() if kind in (int, float, str)}


def load_config(path: Path | str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration file.

    Parameters
    ----------
    path : Path or str
        YAML, or JSON where the name ends in ``.json``.
    overrides : mapping, optional
        Values that replace those of the file.

    Raises
    ------
    InputError
        One error that lists every fault of the file.
    """
    return make_config(read_mapping(path, "configuration"), overrides, source=str(path))


def make_config(
    data: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    source: str = "configuration",
) -> Config:
    """Return the configuration that a mapping describes; `source` names it in the error.

    Raises
    ------
    InputError
        One error that lists every fault.
    """
    data = {**data, **(overrides or {})}
    defects = data.pop("defects", {})
    values, faults = check_fields(Config, data)
    for key in ("company_onboarding_interval", "batch_interval"):
        if key in values:
            values[key] = _duration(key, values[key], faults)
    for key in ("event_types", "geographies"):
        if key in values:
            faults.extend(f"{key}: {fault}" for fault in _weight_faults(values[key]))
    if defects != {}:
        from fleetsim.generate.defects import read_defects  # which clean data do not need

        values["defects"], wrong = read_defects(defects, allowed(_type_of("defects")))
        faults += wrong
    if faults:
        raise InputError(source, *faults)
    return Config(**values)


def _type_of(key: str) -> Any:
    return next(field.type for field in msgspec.structs.fields(Config) if field.name == key)


def _duration(key: str, text: str, faults: list[str]) -> str:
    try:
        duration = parse_duration(text)
    except ValueError as error:
        faults.append(f"{key}: {error}")
        return text
    if key == "batch_interval" and duration > timedelta(days=1):
        faults.append(f"{key}: found {found(text)}; allowed: at most P1D")
    return format_duration(duration)


def _weight_faults(weights: dict[str, float]) -> list[str]:
    faults = []
    if len(weights) > _CHOICES_MAX:
        faults.append(f"found {len(weights)} names; allowed: at most {_CHOICES_MAX}")
    for name, weight in weights.items():
        if not 0 < len(name) <= _NAME_LENGTH or not _encodable(name):
            faults.append(f"found the name {found(name)}; allowed: 1 to {_NAME_LENGTH} characters")
        if not 0 <= weight <= 1:
            faults.append(f"{cut(name)}: found {weight!r}; allowed: a weight from 0 to 1")
    total = math.fsum(weights.values())
    if not abs(total - 1) <= _WEIGHT_TOLERANCE:
        faults.append(f"the weights sum to {total:.12g}; allowed: a sum of 1 within 1e-9")
    return faults


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which UTF-8 cannot write
        return False
    return True
