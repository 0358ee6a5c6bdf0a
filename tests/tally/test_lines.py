"""The fast reader of events files against what was drawn, and against a slow twin."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tempfile
import tracemalloc
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from fleets import content_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import AT_US, examples

from fleetsim.batch.companies import read_companies
from fleetsim.generate import encode
from fleetsim.generate import events as generate
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.encode import encode_companies
from fleetsim.generate.events import draw_events
from fleetsim.generate.fleet import Fleet, draw_companies
from fleetsim.generate.model import Field, FieldKind, Purpose
from fleetsim.tally import lines
from fleetsim.tally import values as on_lines
from fleetsim.tally.lines import LineReader, Membership, RawLine

BASE: dict[str, Any] = {
    "seed": 42,
    "number_of_companies": 4,
    "drivers_per_company": 3,
    "event_rate_per_driver": 3.5,
    "company_onboarding_interval": "PT1H",
}
ODD_NAMES = (
    "Größe über alles",
    'say "stop"',
    "back\\slash",
    "trailing \\",
    "tab\tbell\x07nul\x00del\x7f",
    "a,b",
    "{curly}[square]",
    '","timestamp":"',
    '"}\n{"event_id":"',
    "🚚",
    "\u2028",
    "12",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEYS = ["event_id", "driver_id", "company_id", "truck_id", "event_type", "timestamp"]


class Read(NamedTuple):
    """All rows of a file joined, and what the reader says of the file."""

    number: list[int]
    driver: list[int]
    company: list[int]
    membership: list[int]
    drawn: dict[str, list[Any]]
    deviating: list[RawLine]
    strangers: list[RawLine]
    reader: LineReader


class World(NamedTuple):
    """A configuration, its fleet and who is eligible."""

    config: Config
    fleet: Fleet
    eligible: np.ndarray

    @classmethod
    def of(cls, **values: Any) -> World:
        """Make one; all companies join at `AT_US`."""
        config = make_config(BASE | values)
        drawn = draw_companies(config, 0, AT_US, config.number_of_companies)
        with tempfile.NamedTemporaryFile() as file:
            file.write(encode_companies(config, drawn))
            file.flush()
            fleet = read_companies(Path(file.name))
        return cls(config, fleet, fleet.eligible(AT_US))

    def content(self, ordinal: int = 0) -> bytes:
        """Return the events of one batch."""
        return b"".join(text for _, text in content_of(self.config, self.fleet, AT_US, ordinal))

    def read(self, content: bytes | Path, chunk_bytes: int = lines.CHUNK_BYTES) -> Read:
        """Read a file back, or bytes by way of one."""
        reader = LineReader(self.config, self.fleet)
        if isinstance(content, bytes):
            with tempfile.NamedTemporaryFile() as file:
                file.write(content)
                file.flush()
                parts = list(reader.read(Path(file.name), self.eligible, chunk_bytes=chunk_bytes))
        else:
            parts = list(reader.read(content, self.eligible, chunk_bytes=chunk_bytes))
        assert sum(part.lines for part in parts) == reader.lines
        assert all(len(part) + len(part.deviating) == part.lines for part in parts)
        names = [field.name for field in lines.EVENT_FIELDS if field.purpose]
        return Read(
            *(
                [x for part in parts for x in getattr(part, name).tolist()]
                for name in Read._fields[:4]
            ),
            {name: [x for part in parts for x in part.drawn[name].tolist()] for name in names},
            [line for part in parts for line in part.deviating],
            [line for part in parts for line in part.strangers],
            reader,
        )


@pytest.fixture(scope="module")
def world() -> World:
    """Return a small fleet, of which the second company is not eligible."""
    made = World.of(event_types={"start driving": 0.5, 'odd "ü\\\n': 0.25, "delivered": 0.25})
    eligible = made.eligible.copy()
    eligible[1] = False
    return made._replace(eligible=eligible)


# --- the slow twin


def split(content: bytes) -> list[bytes]:
    """Return the lines of a file with their ends."""
    ended = content.split(b"\n")
    return [line + b"\n" for line in ended[:-1]] + [last for last in ended[-1:] if last]


def is_uuid4(text: str) -> bool:
    """Return whether a text is a UUID of version 4 in its one canonical form."""
    try:
        made = uuid.UUID(text)
    except ValueError:
        return False
    return str(made) == text and made.version == 4 and made.variant == uuid.RFC_4122


def is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def slow(world: World, line: bytes) -> dict[str, Any] | None:
    """Return the values of a canonical line, or None; by json, uuid and datetime alone."""
    try:
        data = json.loads(line.decode())
        again = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except (ValueError, RecursionError):
        return None
    if again != line or not isinstance(data, dict) or list(data) != KEYS:
        return None
    if not all(isinstance(value, str) for value in data.values()):
        return None
    mark, driver_company, number = data["driver_id"][:4], *_cut(data["driver_id"][4:])
    truck = data["truck_id"].removeprefix("TRK-")
    if not (
        is_uuid4(data["event_id"])
        and is_uuid4(data["company_id"])
        and is_uuid4(driver_company)
        and mark == "DRV-"
        and is_number(number)
        and 3 <= len(number) <= 9
        and data["truck_id"].startswith("TRK-")
        and is_number(truck)
        and truck[0] != "0"
        and len(truck) <= 18
    ):
        return None
    try:
        moment = datetime.strptime(data["timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    if moment.isoformat(timespec="microseconds").replace("+00:00", "Z") != data["timestamp"]:
        return None
    ids = [bytes(row).decode() for row in world.fleet.company_id]
    company = ids.index(data["company_id"]) if data["company_id"] in ids else -1
    per_company = world.config.drivers_per_company
    driver = company * per_company + int(number)
    if company < 0:
        why = Membership.UNKNOWN_COMPANY
    elif not world.eligible[company]:
        why = Membership.NOT_ELIGIBLE
    elif driver_company != data["company_id"]:
        why = Membership.OTHER_COMPANY
    elif number not in [f"{i:0{max(3, len(str(per_company - 1)))}d}" for i in range(per_company)]:
        why = Membership.UNKNOWN_DRIVER
    elif int(truck) != driver + 1:
        why = Membership.OTHER_TRUCK
    else:
        why = Membership.MEMBER
    names = list(world.config.event_types)
    ident = uuid.UUID(data["event_id"]).int
    return {
        "driver": driver if why is Membership.MEMBER else -1,
        "company": company,
        "membership": why,
        "event_id": [ident >> 64, ident & (2**64 - 1)],
        "event_type": names.index(data["event_type"]) if data["event_type"] in names else -1,
        "timestamp": (moment - EPOCH) // timedelta(microseconds=1),
    }


def _cut(text: str) -> tuple[str, str]:
    return text[:36], text[37:] if text[36:37] == "-" else ""


def assert_as_slow(world: World, content: bytes, chunk_bytes: int = lines.CHUNK_BYTES) -> Counter:
    """Hold the reader to the slow twin on every line; return how often which case came up."""
    read = world.read(content, chunk_bytes)
    raw = [RawLine(i, line, len(line)) for i, line in enumerate(split(content), 1)]
    expected = [(line, slow(world, line.raw)) for line in raw]
    assert read.deviating == [line for line, values in expected if values is None]
    good = [(line, values) for line, values in expected if values is not None]
    assert read.number == [line.number for line, _ in good]
    for name in ("driver", "company", "membership"):
        assert getattr(read, name) == [values[name] for _, values in good]
    for name in ("event_id", "event_type", "timestamp"):
        assert read.drawn[name] == [values[name] for _, values in good]
    strange = [line for line, v in good if v["membership"] or v["event_type"] < 0]
    assert read.strangers == strange
    assert read.reader.lines == len(expected)
    assert read.reader.bytes == len(content)
    assert read.reader.sha256 == hashlib.sha256(content).hexdigest()
    cases = Counter(v["membership"] for _, v in good)
    cases["unknown type"] = sum(v["event_type"] < 0 for _, v in good)
    cases["deviating"] = len(read.deviating)
    return cases


# --- what was drawn comes back

names = st.one_of(
    st.sampled_from(ODD_NAMES),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
)


@settings(max_examples=examples(60))
@given(
    chosen=st.lists(names, min_size=1, max_size=6, unique=True),
    companies=st.integers(1, 12),
    drivers=st.sampled_from([1, 2, 11, 1001]),
    seed=st.integers(0, 2**64 - 1),
    events=st.integers(0, 60),
    chunk_bytes=st.sampled_from([1, 2, 253, 254, 255, 1000, 4096, 1 << 21]),
)
@example(list(ODD_NAMES), 5, 3, 1, 500, 997)
@example(["a"], 1, 1, 0, 0, 1)
def test_a_written_batch_reads_back_as_drawn(chosen, companies, drivers, seed, events, chunk_bytes):
    """Every column comes back exactly, whatever the names of types and the size of chunks."""
    weights = dict.fromkeys(chosen, 1 / len(chosen))
    world = World.of(
        event_types=weights,
        number_of_companies=companies,
        drivers_per_company=drivers,
        seed=seed,
        event_rate_per_driver=events / companies / drivers,
    )
    content = world.content()
    drawn = list(draw_events(world.config, world.eligible))
    read = world.read(content, chunk_bytes)
    position = [x for part in drawn for x in part.driver.tolist()]
    assert read.deviating == read.strangers == []
    assert read.number == list(range(1, len(position) + 1))
    assert read.driver == position
    assert read.company == [x // drivers for x in position]
    for name, values in read.drawn.items():
        kept = [x for part in drawn for x in part.drawn[name].tolist()]
        assert values == ([AT_US + x for x in kept] if name == "timestamp" else kept)
    assert read.reader.sha256 == hashlib.sha256(content).hexdigest()
    assert (read.reader.bytes, read.reader.lines) == (len(content), len(position))


def test_an_attribute_added_to_the_model_is_read_back(monkeypatch):
    """A second choice at the end and an id in the middle need no line of code in the reader."""
    fields = list(lines.EVENT_FIELDS)
    fields.insert(3, Field("trip_id", FieldKind.UUID, "", Purpose.COMPANY_ID))
    fields.append(
        Field("geography", FieldKind.CHOICE, "", Purpose.COMPANY_GEOGRAPHY, "geographies")
    )
    for module in (encode, generate, lines):
        monkeypatch.setattr(module, "EVENT_FIELDS", tuple(fields))
    world = World.of(geographies={"US": 0.5, "D": 0.5})
    content, drawn = world.content(), next(draw_events(world.config, world.eligible))
    read = world.read(content)
    assert len(read.number) == len(drawn) > 20
    assert read.drawn["trip_id"] == drawn.drawn["trip_id"].tolist()
    assert read.drawn["geography"] == drawn.drawn["geography"].tolist()
    assert set(read.drawn["geography"]) == {0, 1}
    swapped = content.replace(b'"geography":"US"', b'"geography":"XX"', 1)
    assert world.read(swapped).drawn["geography"].count(-1) == 1


def test_more_types_than_are_compared_at_once_are_all_found():
    """Where a slab holds many distinct names, each line still gets its own."""
    many = {f"type {i}": 1 / 200 for i in range(200)}
    world = World.of(event_types=many, event_rate_per_driver=100.0)
    drawn = next(draw_events(world.config, world.eligible))
    read = world.read(world.content())
    assert read.drawn["event_type"] == drawn.drawn["event_type"].tolist()
    assert len(set(read.drawn["event_type"])) > 150
    other = world._replace(config=make_config(BASE))
    assert set(other.read(world.content()).drawn["event_type"]) == {-1}


# --- agreement with the slow twin

BYTES = b'0123456789abcdefghABCDEFGZT-_"\\{}:,. u/\r\n\t\0\x7f\x80\xc3\xbc\xff'
REPLACED = (
    (b"DRV-", b"DRV"), (b"TRK-", b"TRK-0"), (b"TRK-1", b"TRK-"), (b"TRK-", b"TRK-" + b"9" * 17),
    (b"-001", b"-0001"), (b"-001", b"-01"), (b"-002", b"-003"), (b"-000", b"-0000000000"),
    (b"-000", b"-000000001"), (b"-4", b"-1"), (b"-8", b"-7"), (b"-a", b"-c"), (b"a", b"A"),
    (b"T12:", b"T24:"), (b"T12:", b"T23:"), (b":0", b":6"), (b"2025-11-08", b"2025-02-30"),
    (b"2025-11-08", b"2024-02-29"), (b"2025-11-08", b"1900-02-29"), (b"2025-11-08", b"2000-02-29"),
    (b"2025-11-08", b"0000-01-01"), (b"2025-11-08", b"0001-01-01"), (b"2025-11-08", b"9999-12-31"),
    (b"2025-11-08", b"1969-12-31"), (b"2025-11-08", b"2025-13-01"), (b"2025-11-08", b"2025-00-01"),
    (b"2025-11-08", b"2025-01-00"), (b"2025-11-08", b"2025-01-32"), (b"2025-11-08", b"2025-11-31"),
    (b'Z"', b'"'), (b'Z"', b'+00:00"'), (b'Z"', b'0Z"'), (b",", b", "), (b":", b": "),
    (b"driving", b"driving \\u00fc"), (b"driving", "dr\u00fcving".encode()),
    (b"driving", b"\\/"), (b"driving", b'\\"'), (b"driving", b"\\t"), (b"driving", b"\\u001f"),
    (b"driving", b"\\u001F"), (b"driving", b"\\ud83d\\ude9a"), (b"driving", b"\\ud800"),
    (b"driving", b"\xf0\x9f\x9a\x9a"), (b"driving", b"\xed\xa0\x80"), (b"driving", b"\x7f"),
    (b"start driving", b""), (b'"delivered"', b"null"), (b'"delivered"', b'"delivered","x":"y"'),
    (b"}\n", b"}\r\n"), (b"}\n", b"} \n"), (b"}\n", b"}"), (b"}\n", b"}\n\n"), (b"}\n", b"}\0\n"),
    (b"{", b"\xef\xbb\xbf{"), (b"{", b" {"), (b'"company_id"', b'"event_id"'),
)  # fmt: skip


def mutated(base: list[bytes], chance: random.Random) -> bytes:
    """Return a line with one or two changes."""
    line = bytearray(chance.choice(base))
    for _ in range(chance.choice((1, 1, 1, 2))):
        at = chance.randrange(len(line) or 1)
        match chance.randrange(7):
            case 0:
                line[at : at + 1] = bytes([line[at] ^ (1 << chance.randrange(8))]) if line else b""
            case 1:
                line[at:at] = bytes([chance.choice(BYTES)])
            case 2:
                del line[at : at + chance.choice((1, 1, 2, 36))]
            case 3:
                line[at : at + 1] = bytes([chance.choice(BYTES)])
            case 4:
                old, new = chance.choice(REPLACED)
                line[:] = line.replace(old, new, chance.choice((1, -1)))
            case 5:  # the same stretch of another line
                other, end = chance.choice(base), at + chance.choice((1, 4, 40, 90))
                line[at:end] = other[at:end]
            case 6:  # one value of another line, or two values of this one in each other's place
                parts, other = bytes(line).split(b'","'), chance.choice(base).split(b'","')
                i, k = chance.randrange(len(parts)), chance.randrange(len(parts))
                if chance.random() < 0.7:
                    parts[i] = other[i % len(other)]
                else:
                    parts[i], parts[k] = parts[k], parts[i]
                line[:] = b'","'.join(parts)
    return bytes(line)


@pytest.mark.parametrize("chunk_bytes", [1 << 21, 70_000, 251])
def test_mutated_lines_are_judged_as_the_slow_twin_judges_them(world, chunk_bytes):
    """Flips, insertions, deletions and swaps: the same lines are canonical, of the same values."""
    chance = random.Random(chunk_bytes)  # noqa: S311
    strange = split(World.of(seed=7).content())[:5]
    base = split(world.content()) + strange
    content = b"".join(
        chance.choice(base) if chance.random() < 0.2 else mutated(base, chance)
        for _ in range(12_000 if chunk_bytes > 1000 else 3_000)
    )
    cases = assert_as_slow(world, content, chunk_bytes)
    for case in [*Membership, "unknown type", "deviating"]:  # the test has seen every case
        assert cases[case] > 3, case


@settings(max_examples=examples(80))
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 2**16), st.integers(0, 3), st.binary(max_size=3)), max_size=6
    ),
    chunk_bytes=st.sampled_from([1, 3, 100, 1 << 21]),
)
def test_files_with_any_bytes_put_in_are_judged_as_the_slow_twin_judges_them(
    world, changes, chunk_bytes
):
    """Whatever bytes replace a stretch of a file, lines are found and judged as slowly."""
    content = bytearray(world.content()[:1500])
    for at, cut, put in changes:
        content[at % len(content) : at % len(content) + cut] = put
    assert_as_slow(world, bytes(content), chunk_bytes)


def test_every_byte_at_every_place_of_a_line_is_judged_as_the_slow_twin_judges_it(world):
    """Each byte of a line replaced by each of 48 others, among them all that look alike."""
    line = next(line for line in split(world.content()) if b"delivered" in line)
    content = b"".join(
        line[:at] + bytes([byte]) + line[at + 1 :] for at in range(len(line)) for byte in BYTES
    )
    assert_as_slow(world, content)


@pytest.mark.parametrize("byte", range(256))
def test_only_small_hex_digits_are_hex_digits(byte):
    """Of all bytes, 0-9 and a-f alone are digits of an id."""
    text = np.frombuffer(b"00000000-0000-4000-8000-000000000000" * 36, np.uint8).reshape(36, 36)
    text = text.copy()
    np.fill_diagonal(text, byte)
    places = [i for i in range(36) if i not in (8, 13, 18, 23, 19)]  # hyphens and the variant
    words, good = on_lines.read_uuids(text)
    assert set(good[places].tolist()) == {bytes([byte]) in [*map(bytes, zip(b"0123456789abcdef"))]}
    if good[0]:
        assert words[0, 0] == int(chr(byte), 16) << 60 | 0x4000


def test_every_date_of_many_years_is_counted_right():
    """Each date that the calendar has from the year 1 on, and none that it has not."""
    years = (*range(6), *range(1890, 2110), *range(9990, 10000))
    days = [f"{y:04d}-{m:02d}-{d:02d}" for y in years for m in range(14) for d in range(33)]
    text = "".join(f"{day}T23:59:59.999999Z" for day in days).encode()
    us, good = lines.read_times(np.frombuffer(text, np.uint8).reshape(-1, 27))
    for day, value, fits in zip(days, us.tolist(), good.tolist(), strict=True):
        try:
            moment = datetime.fromisoformat(f"{day}T23:59:59.999999+00:00")
        except ValueError:
            assert not fits, day
        else:
            assert fits, day
            assert value == (moment - EPOCH) // timedelta(microseconds=1)


# --- special cases


SPECIAL = {
    "blank": b"\n",
    "carriage return": b"\r\n",
    "spaces": b"   \n",
    "NUL bytes": b"\0" * 300 + b"\n",
    "invalid UTF-8": b"\xff\xfe" * 130 + b"\n",
    "not an object": b"[]\n",
    "deep nesting": b"[" * 5000 + b"\n",
    "an open string": b'{"event_id":"\n',
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 21])
def test_a_strange_line_is_handed_out_raw_with_its_number(world, name, chunk_bytes):
    """It stands alone, before, between and after good lines."""
    good, bad = split(world.content())[0], SPECIAL[name]
    read = world.read(bad + good + bad + bad + good + bad, chunk_bytes)
    assert read.deviating == [RawLine(n, bad, len(bad)) for n in (1, 3, 4, 6)]
    assert read.number == [2, 5]
    assert world.read(bad, chunk_bytes).deviating == [RawLine(1, bad, len(bad))]


@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 21])
def test_a_byte_order_mark_spoils_the_first_line_alone(world, chunk_bytes):
    """The second line is as good as ever."""
    good = split(world.content())[0]
    read = world.read(b"\xef\xbb\xbf" + good + good, chunk_bytes)
    assert [line.number for line in read.deviating] == [1]
    assert read.number == [2]


@pytest.mark.parametrize("cut", [1, 2, 100, 200])
def test_a_last_line_without_its_end_deviates(world, cut):
    """It has a number, and its bytes as they stand."""
    good = split(world.content())[0]
    read = world.read(good + good[:-cut])
    assert read.number == [1]
    assert read.deviating == [RawLine(2, good[:-cut], len(good) - cut)]
    assert read.reader.lines == 2


def test_an_empty_file_has_nosplit(world):
    """No row, and the hash of nothing."""
    read = world.read(b"")
    assert (read.reader.lines, read.reader.bytes) == (0, 0)
    assert read.number == read.deviating == []
    assert read.reader.sha256 == hashlib.sha256(b"").hexdigest()


def test_a_file_that_is_missing_or_a_folder_is_an_os_error(world, tmp_path):
    """The caller says what that means."""
    for path, said in ((tmp_path, "found a folder"), (tmp_path / "none", str(tmp_path / "none"))):
        with pytest.raises(OSError, match=said):
            world.read(path)


@pytest.mark.parametrize("chunk_bytes", [1000, 65_536, 1 << 18, 1 << 21])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_gigantic_line_is_cut_and_measured(world, chunk_bytes, end):
    """However the chunks fall, its number, first bytes and length are those of the file."""
    good = split(world.content())[0]
    text = good[:-5] + b"x" * 1_000_000 + end
    read = world.read(good + text + (good if end else b""), chunk_bytes)
    assert read.deviating == [RawLine(2, text[: lines.SHOWN_BYTES], len(text))]
    assert read.number == ([1, 3] if end else [1])


@pytest.mark.parametrize("more", range(-2, 3))
def test_the_limit_of_a_line_does_not_depend_on_the_chunks(world, more):
    """A line of just the length that is still read is whole; one byte more, and it is cut."""
    before, after = split(world.content())[0].split(b"TRK-")
    limit = LineReader(world.config, world.fleet)._limit
    tail = b'","event_type":"' + b"x" * (limit + more)
    line = before + b"TRK-1" + tail
    line = line[: limit + more - 45] + after[after.index(b'","timestamp') :]
    line = line[:300] + b"x" * (limit + more - len(line)) + line[300:]
    assert len(line) == limit + more
    reads = [world.read(line, chunk_bytes) for chunk_bytes in (999, 1 << 16, 1 << 21)]
    for read in reads:
        assert read.drawn["event_type"] == ([-1] if more <= 0 else [])
        assert [len(found.raw) for found in read.deviating + read.strangers] == [
            len(line) if more <= 0 else lines.SHOWN_BYTES
        ]


def peak_bytes(world: World, path: Path) -> tuple[int, int]:
    """Return how much memory reading a file takes at most, and how many lines it has."""
    reader = LineReader(world.config, world.fleet)
    tracemalloc.start()
    try:
        for _ in reader.read(path, world.eligible, chunk_bytes=1 << 14):
            pass
        return tracemalloc.get_traced_memory()[1], reader.lines
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", ["good", "strange", "blank", "no end"])
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(world, tmp_path, piece):
    """Five times the lines, good or not, take the same memory."""
    good = world.content()
    text = {
        "good": good,
        "strange": good.replace(b"TRK-", b"TRK-9"),
        "blank": b"\n" * 1000,
        "no end": b"x" * 1000,
    }[piece]
    content = text * (40_000 // len(text))
    path, peaks = tmp_path / "events.jsonl", []
    for times in (1, 5):
        path.write_bytes(content * times)
        peaks.append(peak_bytes(world, path)[0])
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 8_000_000


def test_a_file_beyond_four_gigabytes_keeps_its_count(world, monkeypatch):
    """A line of more than 2**32 bytes is one line with its true length; the next one is good."""
    good, hole = split(world.content())[0], 2**32 + 12_345

    class Hole(io.BytesIO):
        """Bytes behind a hole; no disk, and no time for making what is all NUL."""

        left = hole

        def readinto(self, view):
            count = min(len(view), self.left)
            self.left -= count
            return count or super().readinto(view)

    class NoHash(Hole):
        update = hexdigest = lambda *_: ""

    monkeypatch.setattr(lines, "open_plain", lambda *_, **__: Hole(b"\n" + good))
    monkeypatch.setattr(lines.hashlib, "sha256", NoHash)
    read = world.read(Path("events.jsonl"), 1 << 24)
    assert read.deviating == [RawLine(1, b"\0" * lines.SHOWN_BYTES, hole + 1)]
    assert read.number == [2]
    assert read.reader.bytes == hole + 1 + len(good)


def test_a_reader_that_is_left_early_can_be_used_again(world):
    """Leaving the rows halfway ends the helper; the next file starts from the beginning."""
    reader = LineReader(world.config, world.fleet)
    with tempfile.NamedTemporaryFile() as file:
        file.write(world.content())
        file.flush()
        rows = reader.read(Path(file.name), world.eligible, chunk_bytes=600)
        next(rows)
        rows.close()
        assert reader.sha256 == ""
        total = sum(part.lines for part in reader.read(Path(file.name), world.eligible))
    assert total == reader.lines == len(split(world.content()))


@settings(max_examples=examples(200))
@given(
    texts=st.lists(
        st.one_of(
            st.integers(0, 10**7).map(str),
            st.integers(0, 10**19).map(str),
            st.text("0123456789", min_size=0, max_size=9),
        ),
        min_size=1,
        max_size=20,
    ),
    after=st.sampled_from(['"', "/", ":", "\0", "\x7f", "\xb0", "\xff"]),
    padded=st.booleans(),
)
def test_numbers_of_any_length_are_read_as_python_reads_them(texts, after, padded):
    """Eight bytes at once, or one by one where a number is longer: the same value and width."""
    part = on_lines.Digits("n", least=1, most=18, padded=padded)
    pieces = [text.encode() + after.encode("latin-1") for text in texts]
    at = np.cumsum([0, *map(len, pieces[:-1])])
    buffer = np.frombuffer(b"".join(pieces) + bytes(32), np.uint8)
    value, width, good = on_lines.read_numbers(buffer, at, part)
    for i, text in enumerate(texts):
        allowed = 1 <= len(text) <= 18 and (padded or text[0] != "0")
        assert good[i] == allowed
        if allowed:
            assert (value[i], width[i]) == (int(text), len(text))
