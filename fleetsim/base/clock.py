"""Instants and durations: microseconds since 1970 in UTC, and their ISO 8601 text."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from fleetsim.base.errors import found

#: Microseconds of a day.
DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: The first and the last microsecond that RFC 3339 can write: the years 1 to 9999.
FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


class Instant(NamedTuple):
    """One reading of both clocks: wall [ns since 1970, UTC] and monotonic [ns]."""

    wall_ns: int
    monotonic_ns: int

    @classmethod
    def now(cls) -> Instant:
        """Read both clocks."""
        return cls(time.time_ns(), time.monotonic_ns())

    @property
    def wall_us(self) -> int:
        """The wall clock floored to the microsecond."""
        return self.wall_ns // 1000

    def seconds_since(self, earlier: Instant) -> float:
        """Return the monotonic seconds from an earlier reading to this one."""
        return (self.monotonic_ns - earlier.monotonic_ns) / 1e9


def parse_time(given: str | datetime) -> int:
    """Return an ISO 8601 time with a zone, or a datetime with one, as microseconds since 1970 UTC.

    Raises
    ------
    ValueError
        Where it is no time, has no zone, is finer than a microsecond, or lies outside the years 1
        to 9999 in UTC. The message says what is allowed.
    """
    why = "a time with its zone, as 2025-11-08T12:00:00Z"
    try:
        moment = given if isinstance(given, datetime) else datetime.fromisoformat(given)
        if moment.tzinfo is None or moment.utcoffset() is None:
            if moment is given:
                why += "; a datetime has one by tzinfo=datetime.timezone.utc"
            raise ValueError("no zone")
        # Python cuts what is finer; a pandas Timestamp has it beside the microseconds.
        if (
            re.search(r"[.,]\d{7}", given)
            if isinstance(given, str)
            else getattr(given, "nanosecond", 0)
        ):
            why += ", with six decimals at most"
            raise ValueError("too fine")
        return (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError, TypeError):
        raise ValueError(f"found {found(given)}; allowed: {why}") from None


def format_time(us: int) -> str:
    """Return microseconds since 1970 as ``2025-11-08T12:00:00.000000Z``."""
    moment = _EPOCH + timedelta(microseconds=us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def batch_name(us: int) -> str:
    """Return the id of the batch that starts here: ``20251108T120000Z``, with a fraction if any."""
    moment = _EPOCH + timedelta(microseconds=us)
    # strftime does not pad years below 1000 on every platform; isoformat does.
    text = moment.replace(tzinfo=None).isoformat(
        timespec="microseconds" if moment.microsecond else "seconds"
    )
    return text.replace("-", "").replace(":", "") + "Z"


def parse_duration(text: str) -> timedelta:
    """Return an ISO 8601 duration of weeks, or of days, hours, minutes and seconds.

    Raises
    ------
    ValueError
        Where the text is none, is zero or negative, is finer than a microsecond, or counts in
        years or months, whose length is not fixed.
    """
    problem = ValueError(
        f"found {found(text)}; allowed: an ISO 8601 duration above zero in weeks, days, hours, "
        "minutes and seconds, as PT15M or P1DT12H (months and years have no fixed length)"
    )
    try:
        if weeks := re.fullmatch(r"P(\d{1,9})W", text, re.ASCII):  # msgspec knows no weeks
            text = f"P{7 * int(weeks[1])}D"
        duration = msgspec.convert(text, timedelta)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise problem from None
    if duration <= timedelta(0) or re.search(r"[.,]\d{7}", text):
        raise problem
    return duration


def format_duration(duration: timedelta) -> str:
    """Return the shortest ISO 8601 text of a duration above zero: ``PT15M``, ``P1DT12H``."""
    minutes, seconds = divmod(duration.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    date = f"{duration.days}D" if duration.days else ""
    time_ = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if duration.microseconds:
        time_ += f"{seconds}.{duration.microseconds:06d}".rstrip("0") + "S"
    elif seconds:
        time_ += f"{seconds}S"
    return f"P{date}" + (f"T{time_}" if time_ else "")
