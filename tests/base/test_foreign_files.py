"""What foreign files may do to a reader: nest, expand, be huge, or be no file at all."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import AT, AT_US, Cli, Project

from fleetsim.base.clock import parse_time
from fleetsim.base.errors import InputError, found
from fleetsim.base.files import open_plain, read_plain
from fleetsim.base.strict import decode_struct, parse_scalar, read_mapping
from fleetsim.base.yaml12 import MAX_DEPTH, MAX_VALUES, YAMLError, load_yaml

DEEP = 100_000


def aliases(levels: int = 8) -> str:
    """Return a few hundred bytes that stand for 9**levels values."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for i in range(levels):
        one, other = chr(ord("a") + i), chr(ord("b") + i)
        lines.append(f"{other}: &{other} [{', '.join([f'*{one}'] * 9)}]")
    return "\n".join(lines)


def refusal(path: Path) -> str:
    """Return why a file is refused as a configuration; the message is short."""
    with pytest.raises(InputError) as caught:
        read_mapping(path, "configuration")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert len(text.removeprefix(str(path))) < 500
    return text


# --- YAML and JSON


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * DEEP, f"nested deeper than {MAX_DEPTH} levels"),
        ("{a: " * DEEP, f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * DEEP, f"nested deeper than {MAX_DEPTH} levels"),
        (
            "- &a0 [x]\n" + "\n".join(f"- &a{i} [*a{i - 1}]" for i in range(1, 80)),
            f"nested deeper than {MAX_DEPTH} levels",
        ),
        (aliases(), f"holds more than {MAX_VALUES} values, aliases followed"),
        (
            "".join(f"k{i}: 1\n" for i in range(30_000)),
            f"holds more than {MAX_VALUES} values",
        ),
        ("&a [*a]", "the alias 'a' stands for what holds it"),
        ("a: !!bool maybe", "found 'maybe'; !!bool is true or false"),
        ("a: !!bool [a]", "expected a scalar node"),
        ("a: !!int x", "invalid literal for int"),
        ("a: !!float x", "could not convert string to float"),
        ("a: !!null [a]", "expected a scalar node"),
        ("a: !!map x", "expected a mapping node"),
        ("a: !!seq x", "expected a sequence node"),
        ("a: !!timestamp x", "found the tag '!!timestamp'; allowed: plain values, without tags"),
        ("a: !!timestamp 2025-11-08", "found the tag '!!timestamp'"),
        ("a: !!binary '%%'", "found the tag '!!binary'"),
        ("a: !!set {a, b}", "found the tag '!!set'"),
        ("a: !!omap [a: 1]", "found the tag '!!omap'"),
        ("a: !!python/object:os.system x", "found the tag '!!python/object:os.system'"),
        ("{!!merge m: {a: 1}}", "found the tag '!!merge'"),
        ("a: !own x", "found the tag '!own'"),
        ("a: !" + "t" * 5000 + " x", "t… (5001 characters); allowed: plain values"),
        ("k" * 900 + ": 1\n" + "k" * 900 + ": 2\n", "k… (900 characters)"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: \x07", "control characters are not allowed"),
        ("[a]: 1", "found unhashable key"),
    ],
    ids=range(27),
)
def test_yaml_beyond_plain_values_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """Deep, large, or of another tag: bad input like any other, before anything is built."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    message = refusal(path)
    assert "not valid YAML" in message
    assert problem in message


def test_what_a_configuration_needs_of_yaml_stays() -> None:
    """Anchors and aliases, core tags, and lists as deep as allowed."""
    text = "{a: &x {b: [1, 2.5, ~, true, no]}, c: *x, d: !!str 1, e: !!int '7'}"
    inner = {"b": [1, 2.5, None, True, "no"]}
    assert load_yaml(text) == {"a": inner, "c": inner, "d": "1", "e": 7}
    deep: Any = load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH - 1):
        (deep,) = deep
    assert deep == []
    with pytest.raises(YAMLError, match="nested deeper"):
        load_yaml("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    with pytest.raises(YAMLError, match="no text"):
        load_yaml("\udcff")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": ' + "[" * DEEP, "nested deeper than 64 levels"),
        ('{"a": ' * DEEP, "nested deeper than 64 levels"),
        (json.dumps({"a": [1] * 60_000}), "holds more than 50000 values"),
        ('{"a": 1, ' + ", ".join(f'"k{i}": 1' for i in range(40_000)) + ', "a": 2}', "key 'a'"),
        ('{"' + "k" * 900 + '": 1, "' + "k" * 900 + '": 1}', "k… (900 characters)"),
    ],
    ids=range(5),
)
def test_json_is_held_to_the_same_limits(tmp_path: Path, text: str, problem: str) -> None:
    """Brackets inside of texts count for nothing."""
    path = tmp_path / "c.json"
    path.write_text(text)
    assert problem in refusal(path)
    path.write_text(json.dumps({"a": "[" * 200 + '\\"[', "b": ["x"]}))
    assert read_mapping(path, "configuration") == {"a": "[" * 200 + '\\"[', "b": ["x"]}


class _Row(msgspec.Struct):
    a: int


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": 1, "b": ' + b"[" * DEEP + b"]" * DEEP + b"}", "nested deeper than 64 levels"),
        (b'{"a": 1, "b": [' + b"[]," * 2_000_000 + b"1]}", "holds more than 2000000 values"),
        (b'{"a": "' + b"x" * 10_000 + b'"}', "Expected `int`, got `str`"),
    ],
    ids=range(3),
)
def test_a_record_is_foreign_data_too(content: bytes, problem: str) -> None:
    """What its struct passes over is looked at as well."""
    with pytest.raises(InputError) as caught:
        decode_struct(content, Path("r.json"), _Row)
    assert f"r.json: damaged: {problem}" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value",
    ["[" * DEEP, "[" * 9_000, "x" * 100_000, aliases(), "!!bool maybe", "!!float x", "\udcff"],
)
def test_a_value_of_the_command_line_is_bad_input(fleetsim_cli: Cli, value: str) -> None:
    """No signal, no minute, no 'unexpected': exit 2 with one short message."""
    outcome = fleetsim_cli("run", "000-smoke", "-p", "seed", value)
    assert (outcome.code, outcome.out) == (2, "")
    assert "seed: found" in outcome.err
    assert "unexpected" not in outcome.err
    assert len(outcome.err) < 600


def test_a_value_keeps_its_yaml_meaning() -> None:
    """What is no YAML is text."""
    assert [parse_scalar(text) for text in ("1e-3", "no", "[", "[1]")] == [1e-3, "no", "[", [1]]


def test_very_many_unknown_keys_are_counted(tmp_path: Path, fleetsim_cli: Cli) -> None:
    """Fifty are told one by one, with what is near."""
    path = tmp_path / "c.json"
    path.write_text(json.dumps({f"seed{i}": i for i in range(20_000)}))
    outcome = fleetsim_cli("companies", "--config", path, "--output", tmp_path / "o")
    assert outcome.code == 2
    assert "seed0: unknown key (did you mean seed?)" in outcome.err
    assert "19950 more unknown keys" in outcome.err
    assert len(outcome.err) < 40_000


# --- what a message repeats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "'x'"),
        ("x" * 198, repr("x" * 198)),
        ("x" * 10_000, "'" + "x" * 198 + "… (10000 characters)"),
        (b"x" * 10_000, "b'" + "x" * 197 + "… (10000 bytes)"),
        ([1, ("a",), {"b": None}], "[1, ('a',), {'b': None}]"),
        (list(range(10_000)), repr(list(range(10_000)))[:199] + "… (10000 items)"),
        (10**5000, "a whole number of about 5000 digits"),
        (10**300, "1" + "0" * 198 + "… (301 characters)"),
        (2**64, str(2**64)),
    ],
    ids=range(9),
)
def test_a_value_is_cut_with_its_length(value: object, text: str) -> None:
    """200 characters, then how long it is."""
    assert found(value) == text


def test_a_value_that_expands_is_not_expanded() -> None:
    """Only what is shown is looked at: here 9**30 values."""
    value: Any = ["x"]
    for _ in range(30):
        value = [value] * 9
    assert found(value).endswith("… (9 items)")


def test_a_message_is_bounded_whatever_it_is_made_of() -> None:
    """Where, faults and their number; the error keeps them all."""
    error = InputError("w" * 10_000, *["f" * 10_000] * 1000)
    assert len(str(error)) < 250_000
    assert "and 900 more" in str(error)
    assert len(error.faults) == 1000


# --- what is no plain file


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may be short only
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)


SPECIAL = {
    "a FIFO": _fifo,
    "a socket": _socket,
    "a character device": _zero,
    "a folder": _folder,
}


@pytest.fixture(params=[*SPECIAL, "1000000000000 bytes"])
def odd(request: pytest.FixtureRequest) -> tuple[str, Callable[[Path], None]]:
    """Return what stands in place of a file: its name in messages, and what makes it."""
    return request.param, SPECIAL.get(request.param, _sparse)


@pytest.mark.parametrize("name", ["c.yaml", "c.json"])
def test_a_configuration_is_a_plain_file(tmp_path: Path, odd: Any, name: str) -> None:
    """Refused at once: nothing is waited for, and nothing is read."""
    what, make = odd
    make(tmp_path / name)
    assert f"found {what}" in refusal(tmp_path / name)


def test_a_file_that_grows_is_read_to_its_limit(tmp_path: Path) -> None:
    """A size of zero says nothing, as in /proc."""
    path = tmp_path / "x"
    path.write_bytes(b"x" * 11)
    assert read_plain(path, 11) == b"x" * 11
    with pytest.raises(InputError, match=r"found 11 bytes; allowed: a plain file of at most 10"):
        read_plain(path, 10)
    if Path("/proc/self/maps").exists():
        with pytest.raises(InputError, match="found 11 bytes or more; allowed"):
            read_plain(Path("/proc/self/maps"), 10)


def test_a_descriptor_is_closed_where_a_file_is_refused(tmp_path: Path) -> None:
    """A thousand refusals leave none open."""
    _fifo(tmp_path / "f")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(20):
        with pytest.raises(InputError):
            open_plain(tmp_path / "f")
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after == before


@pytest.fixture
def made(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a project with a batch."""
    assert fleetsim_cli(*project.make_events()).code == 0
    return project


PLACES = {
    "companies": ("companies.jsonl", "companies", "events", "verify", "audit"),
    "record": ("events/{}/batch_meta.json", "events", "verify", "audit"),
    "events": ("events/{}/events.jsonl", "verify", "audit"),
}


@pytest.mark.parametrize(
    ("place", "command"), [(place, name) for place, row in PLACES.items() for name in row[1:]]
)
def test_every_command_refuses_what_is_no_plain_file(
    made: Project, fleetsim_cli: Cli, odd: Any, place: str, command: str
) -> None:
    """Companies, records and events: an error or a finding, and no traceback."""
    what, make = odd
    if place == "events" and make is _sparse:
        pytest.skip("events may be as large as they like")
    path = made.config.parent / PLACES[place][0].format(made.batch.name)
    path.unlink()
    make(path)
    commands = {
        "companies": made.make_companies("--cohorts", 2),
        "events": made.make_events(),
        "verify": ["verify", made.batch],
        "audit": ["audit", made.config.parent, "--config", made.config],
    }
    outcome = fleetsim_cli(*commands[command])
    assert outcome.code in (2, 3)
    assert "unexpected" not in outcome.err
    said = outcome.out + outcome.err
    if (place, command) == ("companies", "companies") and make is _folder:
        assert "a folder stands here" in said
    elif (place, make) == ("companies", _sparse):
        assert "line 1 has more than 65536 bytes" in said
    elif place == "record" or command != "audit":
        assert what in said or "no batch here" in said or "is not a batch" in said


def test_a_companies_file_that_goes_on_is_counted_no_further_than_need_be(
    project: Project, fleetsim_cli: Cli
) -> None:
    """Right lines followed by a terabyte of nothing."""
    with project.companies.open("r+b") as file:
        file.truncate(10**12)
    outcome = fleetsim_cli(*project.make_companies())
    assert outcome.code == 2
    assert "companies or more, more than the 5 asked for" in outcome.err


# --- times


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-08T12:00:00.1234567Z",
        "2025-11-08T12:00:00.0000000Z",
        "2025-11-08T12:00:00,123456789+01:00",
        "20251108T120000.1234567Z",
        "2025-11-08T12:00:00+01:00:00.1234567",
    ],
)
def test_more_than_six_decimals_are_refused(text: str) -> None:
    """Python cuts them: another time than was written."""
    with pytest.raises(ValueError, match=r"allowed: a time with its zone.*six decimals at most"):
        parse_time(text)


def test_times_of_the_command_line_are_not_cut(project: Project, fleetsim_cli: Cli) -> None:
    """--interval-start and --at, with exit 2."""
    late = "2025-11-08T12:00:00.0000001Z"
    for command in (
        project.make_events("--interval-start", late),
        project.make_companies("--at", late),
    ):
        outcome = fleetsim_cli(*command)
        assert outcome.code == 2
        assert "six decimals at most" in outcome.err


def test_a_datetime_with_a_zone_is_a_time() -> None:
    """A naive one is refused with the way to give it one."""
    moment = datetime(2025, 11, 8, 12, 0, 0, 5, tzinfo=UTC)
    assert parse_time(moment) == AT_US + 5
    assert parse_time(moment.astimezone(timezone(timedelta(hours=2)))) == AT_US + 5
    with pytest.raises(ValueError, match=r"found datetime.*tzinfo=datetime\.timezone\.utc"):
        parse_time(moment.replace(tzinfo=None))
    with pytest.raises(ValueError, match="allowed: a time with its zone") as caught:
        parse_time(AT + "x" * 10_000)
    assert len(str(caught.value)) < 350
