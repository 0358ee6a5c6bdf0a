"""What a defect does to a line: from the clean line and four words to the line as delivered.

Every patch takes the line with its line feed and the words, and gives the new line and what the
ledger says of it. Where a value stands in a line follows from `EVENT_FIELDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from fleetsim.base.clock import LAST_US, format_time
from fleetsim.generate.config import Config
from fleetsim.generate.encode import driver_digits
from fleetsim.generate.model import EVENT_FIELDS, Field, FieldKind, escaped
from fleetsim.generate.strikes import earliest_late

#: Name of an event type that no configuration has, or gets a number until none has.
UNDEFINED = "undefined event"

_UUID_WIDTH, _TIME_WIDTH, _SHIFT = 36, 27, 64
_FIRST_US = -62_135_596_800_000_000  # the year 1
_NOT_UTF8 = (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\xaf")
_KEYS = tuple(field.name.encode() for field in EVENT_FIELDS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


#: The keys that `extra_field` adds; their numbers follow those of the fields.
EXTRA_KEYS = (b"speed_kmh", b"odometer_km", b"note")

Span = Callable[[bytes], tuple[int, int]]
#: From a line and its words to the new line, the number of the field that was struck (-1 for
#: none), and the values that would have stood there and do, as JSON.
Patch = Callable[[bytes, list[int]], tuple[bytes, int, bytes, bytes]]


def spans_of(config: Config) -> tuple[Span, ...]:
    """Return for each field what finds its value in a line: its first byte and the one after."""
    widths = [_width(config, field) for field in EVENT_FIELDS]
    spans: list[Span] = []
    at, anchor = 1, None  # bytes from the line's start, or from the end of a value of any width
    for number, field in enumerate(EVENT_FIELDS):
        at += len(f'"{field.name}":"')
        width, behind = widths[number], _behind(widths, number)
        if width is not None and anchor is None:
            spans.append(_fixed(at, width))
            at += width + len('",')
            continue
        if behind is None:
            spans.append(_quoted(at))
        elif width is None:
            spans.append(_to_the_end(at, anchor, behind))
        else:
            spans.append(_from_the_end(behind, width))
        anchor, at = spans[-1], len('",')
    return tuple(spans)


def _behind(widths: list[int | None], number: int) -> int | None:
    """Return the bytes of a line behind a field's value; None where they differ."""
    size = len('"}\n')
    for field, width in zip(EVENT_FIELDS[number + 1 :], widths[number + 1 :], strict=True):
        if width is None:
            return None
        size += len(f',"{field.name}":""') + width
    return size


def _width(config: Config, field: Field) -> int | None:
    """Return the bytes of a field's value; None where they differ from line to line."""
    if field.kind in (FieldKind.UUID, FieldKind.COMPANY):
        return _UUID_WIDTH
    if field.kind is FieldKind.DRIVER:
        return len("DRV--") + _UUID_WIDTH + driver_digits(config)
    return _TIME_WIDTH if field.kind is FieldKind.TIME else None


def _fixed(start: int, width: int) -> Span:
    span = (start, start + width)
    return lambda line: span


def _quoted(start: int) -> Span:
    """Return what finds a value that holds no quote, as a truck's number."""
    return lambda line: (start, line.index(b'"', start))


def _to_the_end(at: int, anchor: Span | None, tail: int) -> Span:
    """Return what finds the last value of any width: what follows has one width."""
    if anchor is None:
        return lambda line: (at, len(line) - tail)
    return lambda line: (anchor(line)[1] + at, len(line) - tail)


def _from_the_end(tail: int, width: int) -> Span:
    return lambda line: (len(line) - tail - width, len(line) - tail)


def uuid4(high: int, low: int) -> bytes:
    """Return the text of the UUID of version 4 that two words stand for."""
    high = high & 0xFFFFFFFFFFFF0FFF | 0x4000
    low = low & 0x3FFFFFFFFFFFFFFF | 0x8000000000000000
    text = b"%016x%016x" % (high, low)
    return b"-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def undefined_name(config: Config) -> str:
    """Return a name that no event type of the configuration has."""
    name, number = UNDEFINED, 2
    while name in config.event_types:
        name, number = f"{UNDEFINED} {number}", number + 1
    return name


def names_not_configured(config: Config, name: str) -> tuple[bytes, ...]:
    """Return what stands in place of a type's name, one text for each variant, as in a line."""
    texts = (undefined_name(config), name.swapcase(), f"{name} ")
    return tuple(escaped(texts[0] if text in config.event_types else text) for text in texts)


def longest_name(config: Config) -> int:
    """Return the bytes of the longest event type that a line may have, with a defect or without."""
    texts = list(config.event_types)
    if config.defects:
        texts += [undefined_name(config), *(name.swapcase() for name in texts)]
        texts += [f"{name} " for name in config.event_types]
    return max(len(text.encode()) for text in texts)


def malformed_times(text: bytes) -> tuple[bytes, ...]:
    """Return what is no instant, made of the parts of one: one text for each variant."""
    return (
        text[:5] + b"13" + text[7:],  # month 13
        text[:8] + b"32" + text[10:],  # day 32
        text[:5] + b"02-30" + text[10:],  # February 30
        text[:11] + b"25" + text[13:],  # hour 25
        text[:14] + b"60" + text[16:],  # minute 60
        text[:17] + b"61" + text[19:],  # second 61
        text[:-1] + b"+100:00",  # a zone that is none; DuckDB takes +25:00
        b"%b/%b/%b %b" % (text[8:10], text[5:7], text[:4], text[11:19]),
        text[:11],  # cut behind the T; DuckDB takes what is cut behind the hour
        b"",
    )


class Patches:
    """The patches of a configuration's kinds, for a batch that starts at `start_us`."""

    def __init__(self, config: Config, start_us: int) -> None:
        self._config = config
        self._start_us, self._length = start_us, config.interval_us
        self._before_us = earliest_late(config, start_us)
        self._start = _EPOCH + timedelta(microseconds=start_us)
        self.spans = spans_of(config)
        self._digits = driver_digits(config)
        self._undefined = escaped(undefined_name(config))
        names = sorted(config.event_types)
        self._names = [escaped(name) for name in names]
        self._place = {name: place for place, name in enumerate(self._names)}
        self._invalid = {escaped(name): names_not_configured(config, name) for name in names}
        self._number = {field.name: number for number, field in enumerate(EVENT_FIELDS)}
        self._times: dict[int, bytes] = {}

    def of(self, kind: str) -> Patch:
        """Return the patch of a kind; duplicates and late records have none."""
        fields = [self._number[name] for name in self._config.defects[kind].fields]
        make: Callable[[list[int]], Patch] = getattr(self, f"_{kind}")
        return make(fields)

    def _missing_field(self, fields: list[int]) -> Patch:
        spans, n = self.spans, len(fields)

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            field = fields[w[0] * n >> _SHIFT]
            start, end = spans[field](line)
            key = start - len(_KEYS[field]) - 4
            # With the comma before it, or behind the first.
            cut, rest = (key - 1, end + 1) if field else (key, end + 2)
            return line[:cut] + line[rest:], field, line[start - 1 : end + 1], b"null"

        return patch

    def _null_value(self, fields: list[int]) -> Patch:
        spans, n = self.spans, len(fields)

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            field = fields[w[0] * n >> _SHIFT]
            start, end = spans[field](line)
            new = line[: start - 1] + b"null" + line[end + 1 :]
            return new, field, line[start - 1 : end + 1], b"null"

        return patch

    def _wrong_type(self, fields: list[int]) -> Patch:
        spans, n = self.spans, len(fields)

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            field = fields[w[0] * n >> _SHIFT]
            start, end = spans[field](line)
            original = line[start - 1 : end + 1]
            variant = w[1] >> 62
            if variant == 0:
                injected = b"%d" % (w[2] * 10**6 >> _SHIFT)
            elif variant == 1:
                injected = b"true" if w[2] >> 63 else b"false"
            elif variant == 2:
                injected = b"[" + original + b"]"
            else:
                injected = b'{"value":' + original + b"}"
            return line[: start - 1] + injected + line[end + 1 :], field, original, injected

        return patch

    def _in_place(
        self, fields: list[int], value: Callable[[bytes, list[int], int], bytes]
    ) -> Patch:
        """Return a patch that puts another text between a value's quotes."""
        spans, n = self.spans, len(fields)

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            field = fields[w[0] * n >> _SHIFT]
            start, end = spans[field](line)
            text = value(line[start:end], w, field)
            new = line[:start] + text + line[end:]
            return new, field, line[start - 1 : end + 1], b'"' + text + b'"'

        return patch

    def _malformed_timestamp(self, fields: list[int]) -> Patch:
        return self._in_place(fields, lambda text, w, _: malformed_times(text)[w[1] * 10 >> _SHIFT])

    def _naive_timestamp(self, fields: list[int]) -> Patch:
        return self._in_place(fields, lambda text, w, _: text[:-1])

    def _invalid_enum(self, fields: list[int]) -> Patch:
        invalid = self._invalid
        return self._in_place(fields, lambda text, w, _: invalid[text][w[1] * 3 >> _SHIFT])

    def _out_of_interval(self, fields: list[int]) -> Patch:
        return self._in_place(fields, lambda text, w, _: self._outside(w))

    def _outside(self, w: list[int]) -> bytes:
        """Return a time before all that may come late, the interval's end, or one after it."""
        start_us, length = self._start_us, self._length
        end_us, variant = start_us + length, w[1] * 3 >> _SHIFT
        if variant == 1:
            return self._time(end_us)
        far = w[2] * length >> _SHIFT
        us = end_us + 1 + far if variant else self._before_us - 1 - far
        return self._time(us if _FIRST_US <= us <= LAST_US else end_us)

    def _time(self, us: int) -> bytes:
        """Return the text of a time, of which the second is remembered for the next ones."""
        second, fraction = divmod(us, 1_000_000)
        text = self._times.get(second)
        if text is None:
            if len(self._times) > 10_000:
                self._times.clear()
            text = self._times[second] = format_time(second * 1_000_000).encode()[:19]
        return b"%b.%06dZ" % (text, fraction)

    def _orphan_reference(self, fields: list[int]) -> Patch:
        company = fields[0]
        driver = next(i for i, f in enumerate(EVENT_FIELDS) if f.kind is FieldKind.DRIVER)
        spans = self.spans

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            start, end = spans[company](line)
            text = uuid4(w[2], w[3])
            original = line[start - 1 : end + 1]
            new = line[:start] + text + line[end:]
            at = spans[driver](line)[0] + len("DRV-")  # of the same width, so nothing moved
            new = new[:at] + text + new[at + _UUID_WIDTH :]
            return new, company, original, b'"' + text + b'"'

        return patch

    def _extra_field(self, fields: list[int]) -> Patch:
        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            variant = w[1] * 3 >> _SHIFT
            if variant == 0:
                value = b"%d" % (w[2] * 131 >> _SHIFT)
            elif variant == 1:
                value = b"%d" % (w[2] * 10**6 >> _SHIFT)
            else:
                value = b'"test drive"'
            new = b'%b,"%b":%b}\n' % (line[:-2], EXTRA_KEYS[variant], value)
            return new, len(EVENT_FIELDS) + variant, b"null", value

        return patch

    def _duplicate_key(self, fields: list[int]) -> Patch:
        spans, n = self.spans, len(fields)

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            field = fields[w[0] * n >> _SHIFT]
            start, end = spans[field](line)
            other = b'"' + self.other(field, line[start:end], w[2], w[3], w[2]) + b'"'
            new = b'%b,"%b":%b}\n' % (line[:-2], _KEYS[field], other)
            return new, field, line[start - 1 : end + 1], other

        return patch

    def _corrupt_record(self, fields: list[int]) -> Patch:
        spans = self.spans

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            variant = w[1] * 3 >> _SHIFT
            if variant == 0:
                new = line[: 1 + (w[2] * (len(line) - 2) >> _SHIFT)] + b"\n"
                return new, -1, b"null", b'"cut"'
            if variant == 2:
                return line[:-1] + line, -1, b"null", b'"two records"'
            start, end = spans[w[0] * len(spans) >> _SHIFT](line)
            # Between a backslash and what it escapes a quote would be a part of the value.
            at = start + (w[2] * (end - start + 1) >> _SHIFT)
            if b"\\" in line[start:end]:
                at = end
            return line[:at] + b'"' + line[at:], -1, b"null", b'"stray quote"'

        return patch

    def _invalid_utf8(self, fields: list[int]) -> Patch:
        spans, n = self.spans, len(fields)

        def patch(line: bytes, w: list[int]) -> tuple[bytes, int, bytes, bytes]:
            field = fields[w[0] * n >> _SHIFT]
            start, end = spans[field](line)
            new = line[:end] + _NOT_UTF8[w[1] >> 62] + line[end:]
            return new, field, line[start - 1 : end + 1], b"null"

        return patch

    def conflicting(self, kind: str) -> Patch:
        """Return the patch of a second record that has another value."""
        fields = [self._number[name] for name in self._config.defects[kind].fields]
        return self._in_place(
            fields, lambda text, w, field: self.other(field, text, w[2], w[3], w[3])
        )

    def other(self, field: int, text: bytes, high: int, low: int, word: int) -> bytes:
        """Return another value that a field may have, as it stands in a line.

        Parameters
        ----------
        field : int
        text : bytes
            The value that is there.
        high, low : int
            The words of a UUID.
        word : int
            The word of what needs one.
        """
        kind = EVENT_FIELDS[field].kind
        if kind in (FieldKind.UUID, FieldKind.COMPANY):
            return uuid4(high, low)
        if kind is FieldKind.DRIVER:
            return b"DRV-%b-%b" % (uuid4(high, low), text[-self._digits :])
        if kind is FieldKind.TRUCK:
            return b"TRK-%d" % (int(text[4:]) + 1)
        if kind is FieldKind.TIME:
            moment: Any = datetime.fromisoformat(text.decode()) - self._start
            offset = moment // _MICROSECOND + 1 + (word * (self._length - 1) >> _SHIFT)
            return self._time(self._start_us + offset % self._length)
        names = self._names
        if len(names) == 1:
            return self._undefined
        step = 1 + (word * (len(names) - 1) >> _SHIFT)
        return names[(self._place[text] + step) % len(names)]
