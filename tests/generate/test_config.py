"""Configurations: what is read, and what is refused in one error that lists every fault."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from fleetsim.base.clock import batch_name, format_duration, format_time, parse_duration, parse_time
from fleetsim.base.errors import InputError
from fleetsim.base.strict import parse_scalar
from fleetsim.generate.config import Config, load_config, make_config, scalar_keys

NAN, INF = float("nan"), float("inf")


def refused(values: dict[str, Any]) -> InputError:
    """Return the error that a configuration raises."""
    with pytest.raises(InputError) as caught:
        make_config(values)
    return caught.value


def written(folder: Path, text: str | bytes, name: str = "config.yaml") -> Path:
    """Return a file with a content."""
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_baseline_is_the_source_documents_five_keys() -> None:
    """The committed baseline has five keys, and the others take their documented defaults."""
    config = load_config(ROOT / "experiments" / "001-baseline" / "config.yaml")
    assert config.as_dict() == {
        "seed": 42,
        "number_of_companies": 100,
        "drivers_per_company": 10,
        "event_rate_per_driver": 3.5,
        "company_onboarding_interval": "PT1H",
        "batch_interval": "PT15M",
        "event_types": {"start driving": 0.4, "stopped driving": 0.35, "delivered": 0.25},
        "geographies": {"US": 1.0},
        "active_fraction": 1.0,
    }


def test_yaml_and_json_are_the_same_configuration(tmp_path, small) -> None:
    """A name that ends in .json is read as JSON, any other as YAML."""
    as_json = written(tmp_path, json.dumps(small), "config.json")
    as_yaml = written(tmp_path, "".join(f"{key}: {value}\n" for key, value in small.items()))
    assert load_config(as_json) == load_config(as_yaml) == make_config(small)


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("1E2", 100.0), (".5", 0.5), ("3", 3.0), ("+2.5", 2.5)]
)
def test_numbers_are_read_as_yaml_1_2_has_them(tmp_path, small, text, value) -> None:
    """An exponent without a point is a number, which YAML 1.1 takes for text."""
    lines = [f"{k}: {v}" for k, v in small.items() if k != "event_rate_per_driver"]
    path = written(tmp_path, "\n".join([*lines, f"event_rate_per_driver: {text}"]))
    assert load_config(path).event_rate_per_driver == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("2025-11-08T12:00:00Z", "2025-11-08T12:00:00Z"),
        ("010", 10),
        ("1:30", "1:30"),
        ("true", True),
        ("null", None),
        ("", None),
        ("-.inf", -INF),
        ("{a: 1}", {"a": 1}),
        ("[unclosed", "[unclosed"),
    ],
)
def test_a_scalar_on_the_command_line_is_read_as_in_a_file(text, value) -> None:
    """Words, times and sexagesimal digits stay text, and text that is no YAML stays itself."""
    assert parse_scalar(text) == value


def test_values_given_replace_those_of_the_file(tmp_path, small) -> None:
    """An override counts, and is checked like the file."""
    path = written(tmp_path, json.dumps(small), "config.json")
    assert load_config(path, {"seed": 7}).seed == 7
    with pytest.raises(InputError, match="seed: found -1"):
        load_config(path, {"seed": -1})


def test_durations_are_kept_in_canonical_form(small) -> None:
    """Two spellings of one duration are one configuration."""
    config = make_config(small | {"batch_interval": "PT900S"})
    assert config == make_config(small | {"batch_interval": "PT0.25H"})
    assert config.batch_interval == "PT15M"
    assert config.interval_us == 900_000_000


def test_the_scalar_keys_have_their_plain_types() -> None:
    """The keys that hold one value, for the parameters of notebooks."""
    assert scalar_keys() == {
        "seed": int,
        "number_of_companies": int,
        "drivers_per_company": int,
        "event_rate_per_driver": float,
        "company_onboarding_interval": str,
        "batch_interval": str,
        "active_fraction": float,
    }


def test_the_effective_configuration_makes_itself_again(small) -> None:
    """as_dict is a valid configuration and the same one, also through JSON."""
    config = make_config(small | {"event_types": {"ä": 0.1, "b": 0.9}, "active_fraction": 1})
    assert make_config(json.loads(json.dumps(config.as_dict()))) == config
    assert isinstance(config, Config)


EDGES = [
    ("seed", 0),
    ("seed", 2**64 - 1),
    ("number_of_companies", 1),
    ("number_of_companies", 10**9),
    ("drivers_per_company", 10**6),
    ("event_rate_per_driver", 0),
    ("event_rate_per_driver", 10**4),
    ("active_fraction", 0),
    ("active_fraction", 1),
    ("company_onboarding_interval", "PT0.000001S"),
    ("company_onboarding_interval", "P2W"),
    ("company_onboarding_interval", "P999999999D"),
    ("batch_interval", "P1D"),
    ("event_types", {"only": 1}),
    ("event_types", {"a": 0.5, "b": 0.5 + 9e-10}),
]


@pytest.mark.parametrize(("key", "value"), EDGES)
def test_the_limits_themselves_are_allowed(small, key, value) -> None:
    """The ends of every range are valid."""
    make_config(small | {key: value})


WHOLE = [-1, 1.5, 1.0, True, "1", NAN, INF, -INF, None, [1]]
NUMBER = [-0.1, True, "1", NAN, INF, -INF, None, 10**400]
DURATION = [
    ("PT0S", "above zero"),
    ("P0D", "above zero"),
    ("-PT1H", "above zero"),
    ("1 hour", "ISO 8601 duration"),
    ("P1M", "months and years have no fixed length"),
    ("P1Y", "months and years have no fixed length"),
    ("PT0.0000001S", "ISO 8601 duration"),
    ("P9999999999W", "ISO 8601 duration"),
    ("PT15", "ISO 8601 duration"),
    ("", "ISO 8601 duration"),
    (900, "ISO 8601 duration"),
    (True, "ISO 8601 duration"),
    (None, "ISO 8601 duration"),
]
BAD = (
    [("seed", value, "from 0 to 2**64 - 1") for value in [*WHOLE, 2**64]]
    + [("number_of_companies", value, "from 1 to 1000000000") for value in [*WHOLE, 0, 10**9 + 1]]
    + [("drivers_per_company", value, "from 1 to 1000000") for value in [*WHOLE, 0, 10**6 + 1]]
    + [("event_rate_per_driver", value, "from 0 to 10000") for value in [*NUMBER, 10000.1]]
    + [("active_fraction", value, "from 0 to 1") for value in [*NUMBER, 1.1]]
    + [("company_onboarding_interval", value, text) for value, text in DURATION]
    + [("batch_interval", value, text) for value, text in [*DURATION, ("PT24H0.1S", "P1D")]]
    + [
        (key, value, text)
        for key in ("event_types", "geographies")
        for value, text in [
            ({}, "names to weights"),
            (None, "names to weights"),
            (["a"], "names to weights"),
            ({"a": "1"}, "names to weights"),
            ({"a": True}, "names to weights"),
            ({1: 1.0}, "names to weights"),
            ({"a": 0.5, "b": 0.6}, "sum to 1.1; allowed: a sum of 1 within 1e-9"),
            ({"a": 0.5, "b": 0.5 + 2e-9}, "a sum of 1 within 1e-9"),
            ({"a": 0.0}, "sum to 0"),
            ({"a": -0.5, "b": 1.5}, "a: found -0.5; allowed: a weight from 0 to 1"),
            ({"a": NAN, "b": 1.0}, "a: found nan"),
            ({"a": INF}, "a: found inf"),
            ({"": 1.0}, "1 to 200 characters"),
            ({"x" * 201: 1.0}, "1 to 200 characters"),
            ({"\ud800": 1.0}, "1 to 200 characters"),
            ({f"t{i}": 1 / 1001 for i in range(1001)}, "at most 1000"),
        ]
    ]
)


@pytest.mark.parametrize(("key", "value", "allowed"), BAD)
def test_a_value_out_of_its_range_is_refused(small, key, value, allowed) -> None:
    """The message names the key, what was found and what is allowed."""
    error = refused(small | {key: value})
    assert error.exit_code == 2
    assert all(fault.startswith(f"{key}: ") for fault in error.faults)
    assert "found" in str(error) or "sum" in str(error)
    assert allowed in str(error)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("sead", "seed"),
        ("numbr_of_companies", "number_of_companies"),
        ("event_rate", "event_rate_per_driver"),
        ("event_rat_per_driver", "event_rate_per_driver"),
        ("BATCH_INTERVAL", "batch_interval"),
        ("geography", "geographies"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_one(small, key, nearest) -> None:
    """Unknown keys are errors that say what may have been meant."""
    error = refused(small | {key: 1})
    assert f"{key}: unknown key (did you mean {nearest}?)" in str(error)


def test_an_unknown_key_without_a_near_one_lists_the_valid_keys(small) -> None:
    """Where nothing is near, the error still says what is allowed."""
    error = refused(small | {"zzz": 1})
    assert "zzz: unknown key; allowed: seed, number_of_companies" in str(error)


@pytest.mark.parametrize("key", ["seed", "number_of_companies", "company_onboarding_interval"])
def test_a_missing_key_is_refused(small, key) -> None:
    """The five keys of the source document have no defaults."""
    del small[key]
    assert refused(small).faults[0].startswith(f"{key}: missing; allowed: ")


def test_all_faults_come_in_one_error(tmp_path, small) -> None:
    """A file with five faults gives one error that lists them all under the file's name."""
    values = small | {"seed": -1, "batch_interval": "PT0S", "zeed": 1, "active_fraction": 2}
    del values["drivers_per_company"]
    path = written(tmp_path, json.dumps(values), "config.json")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: 5 faults\n")
    found = {fault.split(":")[0] for fault in caught.value.faults}
    assert found == {"seed", "batch_interval", "zeed", "active_fraction", "drivers_per_company"}


def test_a_long_value_is_shown_shortened(small) -> None:
    """A message stays readable whatever the value was."""
    error = refused(small | {"seed": "x" * 10_000})
    assert len(str(error)) < 300
    assert f"found '{'x' * 198}… (10000 characters); allowed: a whole number" in str(error)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "c.yaml", "the file is empty; a configuration is a mapping"),
        ("# nothing\n", "c.yaml", "the file is empty"),
        ("", "c.json", "the file is empty"),
        (" \n", "c.json", "the file is empty"),
        ("- seed\n- 42\n", "c.yaml", "found a list; a configuration is a mapping"),
        ("seed", "c.yaml", "found text; a configuration is a mapping"),
        ("42", "c.yaml", "found a number"),
        ("true", "c.json", "found a truth value"),
        ("[1]", "c.json", "found a list"),
        ("seed: 42\nseed: 43\n", "c.yaml", "on line 2: duplicate key 'seed'"),
        ("event_types:\n  a: 0.5\n  a: 0.5\n", "c.yaml", "on line 3: duplicate key 'a'"),
        ('{"seed": 1, "seed": 2}', "c.json", "duplicate key 'seed'"),
        ("seed: [1\n", "c.yaml", "not valid YAML on line 2"),
        ("seed: 1\n\tx: 2\n", "c.yaml", "not valid YAML on line 2"),
        ("a: 1\n---\nb: 2\n", "c.yaml", "not valid YAML on line 2"),
        ("seed: !!python/object:os.system 1\n", "c.yaml", "not valid YAML on line 1"),
        ("seed: *nobody\n", "c.yaml", "not valid YAML on line 1"),
        ("seed: " + "9" * 5000, "c.yaml", "not valid YAML on line 1"),
        ("[" * 5000, "c.yaml", "not valid YAML"),
        ("[" * 100_000, "c.json", "not valid JSON"),
        ('{\n"seed": 1,\n}', "c.json", "not valid JSON on line [23]"),
        (b"seed: \xff\n", "c.yaml", "not UTF-8 text: byte 6"),
        (b"seed: \x00\n", "c.yaml", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, name, message) -> None:
    """Empty, broken, doubled and wrongly encoded files are named with the place of the fault."""
    path = written(tmp_path, content, name)
    with pytest.raises(InputError, match=re.escape(str(path)) + r"[^\n]*") as caught:
        load_config(path)
    assert re.search(message, str(caught.value))


def test_a_byte_order_mark_is_no_fault(tmp_path, small) -> None:
    """Editors of Windows write one."""
    path = written(tmp_path, b"\xef\xbb\xbf" + json.dumps(small).encode(), "config.json")
    assert load_config(path) == make_config(small)


def test_a_missing_file_is_refused(tmp_path) -> None:
    """The message says what was expected there."""
    with pytest.raises(InputError, match=r"none\.yaml: no such file; a configuration is expected"):
        load_config(tmp_path / "none.yaml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path) -> None:
    """A file that cannot be read is a plain error as well."""
    with pytest.raises(InputError, match="found a folder; allowed: a configuration"):
        load_config(tmp_path)


@given(st.integers(1, 10**15))
def test_a_duration_survives_its_text(us) -> None:
    """Every duration of whole microseconds is read back from its canonical text."""
    duration = timedelta(microseconds=us)
    assert parse_duration(format_duration(duration)) == duration


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_a_time_survives_its_text(us) -> None:
    """Every microsecond of the years 1 to 9999 is read back from its text, batch ids included."""
    assert parse_time(format_time(us)) == us
    assert parse_time(batch_name(us)) == us


@pytest.mark.parametrize(
    "text", ["2025-11-08T12:00:00", "noon", "", "2025-13-01T00:00:00Z", "0001-01-01T00:00:00+01:00"]
)
def test_a_time_without_zone_or_sense_is_refused(text) -> None:
    """The message says what is allowed."""
    with pytest.raises(ValueError, match=r"found .*; allowed: a time with its zone"):
        parse_time(text)


def test_a_time_is_taken_to_utc() -> None:
    """A time east of Greenwich becomes one in UTC; one with nanoseconds is refused, not cut."""
    assert parse_time("2025-11-08T13:00:00+01:00") == parse_time("2025-11-08T12:00:00Z")
    with pytest.raises(ValueError, match=r"'2025-11-08T12:00:00\.123456999Z'; .*six decimals"):
        parse_time("2025-11-08T12:00:00.123456999Z")
    assert format_time(parse_time("2025-11-08T12:00:00.123456Z")).endswith(".123456Z")
    assert batch_name(parse_time("2025-11-08T12:00:00Z")) == "20251108T120000Z"
    assert batch_name(parse_time("2025-11-08T12:00:00.5Z")) == "20251108T120000.500000Z"
