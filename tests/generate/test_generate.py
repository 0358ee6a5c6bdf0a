"""The generator against its slow twin, byte for byte, and facts that hold for every fleet."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest
import twin
from fleets import BASE, CONFIGS, NASTY, content_of
from hypothesis import given, settings
from hypothesis import strategies as st
from support import AT_US, examples

from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.generate import events as generate
from fleetsim.generate.config import make_config
from fleetsim.generate.encode import driver_digits, encode_companies
from fleetsim.generate.events import count_events, draw_events
from fleetsim.generate.fleet import Fleet, draw_companies

HOUR_US = 3_600_000_000


def make_fleet(rows: list[dict[str, Any]]) -> Fleet:
    """Return the fleet that a companies file with these lines lists."""
    ids = "".join(row["company_id"] for row in rows).encode()
    joined = [datetime.fromisoformat(row["created_at"]) for row in rows]
    return Fleet(
        company_id=np.frombuffer(ids, np.uint8).reshape(-1, 36),
        active=np.array([row["active"] for row in rows]),
        created_us=np.array(
            [(moment - twin.EPOCH) // twin.timedelta(microseconds=1) for moment in joined]
        ),
        sha256="",
    )


def fast_companies(values: dict[str, Any], base_us: int, cohorts: int = 1) -> bytes:
    """Return the companies file by the generator."""
    config = make_config(values)
    total = config.number_of_companies * cohorts
    blocks = range(-(-total // 1024))
    return b"".join(
        encode_companies(config, draw_companies(config, block, base_us, total)) for block in blocks
    )


def fast_events(
    values: dict[str, Any], rows: list[dict[str, Any]], start_us: int, ordinal: int = 0
) -> bytes:
    """Return a batch by the generator."""
    pieces = content_of(make_config(values), make_fleet(rows), start_us, ordinal)
    return b"".join(lines for _, lines in pieces)


def read(content: bytes) -> list[dict[str, Any]]:
    """Return the rows of JSON Lines."""
    return [json.loads(line) for line in content.splitlines()]


def assert_equal_to_the_twin(
    values: dict[str, Any], start_us: int = AT_US, ordinal: int = 0, cohorts: int = 1
) -> list[dict[str, Any]]:
    """Compare companies and events with the twin's and return the events."""
    rows = twin.companies(values, AT_US, cohorts)
    assert fast_companies(values, AT_US, cohorts) == twin.content(rows)
    expected = twin.events(values, rows, start_us, ordinal)
    assert fast_events(values, rows, start_us, ordinal) == twin.content(expected)
    return expected


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="small"),
        pytest.param({"number_of_companies": 1, "drivers_per_company": 1024}, id="one whole block"),
        pytest.param({"number_of_companies": 5, "drivers_per_company": 411}, id="block edges"),
        pytest.param({"number_of_companies": 1100, "drivers_per_company": 1}, id="company blocks"),
        pytest.param({"number_of_companies": 1, "drivers_per_company": 1001}, id="four digits"),
        pytest.param({"drivers_per_company": 1000}, id="three digits"),
        pytest.param({"event_rate_per_driver": 0}, id="rate 0"),
        pytest.param({"event_rate_per_driver": 0.01, "number_of_companies": 700}, id="rate 0.01"),
        pytest.param(
            {"event_rate_per_driver": 1e4, "number_of_companies": 1, "drivers_per_company": 2},
            id="rate 1e4",
        ),
        pytest.param({"event_types": NASTY}, id="nasty names"),
        pytest.param({"geographies": NASTY, "number_of_companies": 60}, id="nasty places"),
        pytest.param({"event_types": {"a": 1.0, "b": 0.0}}, id="last weight zero"),
        pytest.param({"event_types": {"a": 0.0, "b": 1.0}}, id="first weight zero"),
        pytest.param({"event_types": {f"t{i}": 0.1 for i in range(10)}}, id="tenths"),
        pytest.param({"batch_interval": "PT0.000001S"}, id="one microsecond"),
        pytest.param({"batch_interval": "PT0.000003S"}, id="three microseconds"),
        pytest.param({"batch_interval": "P1D"}, id="a day across midnight"),
        pytest.param({"seed": 0}, id="seed 0"),
        pytest.param({"seed": 2**64 - 1}, id="largest seed"),
        pytest.param({"active_fraction": 0.5, "number_of_companies": 40}, id="inactive companies"),
        pytest.param({"active_fraction": 0.3, "drivers_per_company": 700}, id="inactive blocks"),
    ],
)
def test_generator_equals_the_twin(values) -> None:
    """Companies and events have the bytes that the plain-Python twin makes."""
    assert_equal_to_the_twin(BASE | values)


@pytest.mark.parametrize("ordinal", [1, 2**64 - 1])
def test_generator_equals_the_twin_at_any_ordinal(ordinal) -> None:
    """The whole range of ordinals is addressed."""
    assert_equal_to_the_twin(BASE, ordinal=ordinal)


def test_generator_equals_the_twin_for_later_cohorts() -> None:
    """With 3 cohorts, an interval 1.5 hours later holds the first two."""
    events = assert_equal_to_the_twin(BASE, start_us=AT_US + HOUR_US * 3 // 2, cohorts=3)
    assert {int(event["truck_id"][4:]) for event in events} <= set(range(1, 2 * 7 * 3 + 1))


def test_generator_equals_the_twin_in_the_years_one_and_9999() -> None:
    """Timestamps are right at both ends of the calendar and before 1970."""
    first, last = -62_135_596_800_000_000, 253_402_300_800_000_000 - 900_000_000
    for start_us in (first, -1, last):
        rows = twin.companies(BASE, start_us)
        assert fast_companies(BASE, start_us) == twin.content(rows)
        expected = twin.content(twin.events(BASE, rows, start_us))
        assert fast_events(BASE, rows, start_us) == expected


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
def test_the_size_of_a_chunk_has_no_influence(monkeypatch, chunk) -> None:
    """A block drawn in many slices gives the bytes of one drawn at once."""
    monkeypatch.setattr(generate, "CHUNK_EVENTS", chunk)
    values = BASE | {"drivers_per_company": 50, "active_fraction": 0.6, "number_of_companies": 25}
    assert_equal_to_the_twin(values)


def test_a_chunk_of_one_event_is_made_of_one_driver(monkeypatch) -> None:
    """The monkeypatched chunk really cuts a block, or the test above would show nothing."""
    config = make_config(BASE)
    eligible = np.ones(7, np.bool_)
    assert len(list(draw_events(config, eligible))) == 1
    monkeypatch.setattr(generate, "CHUNK_EVENTS", 1)
    chunks = list(draw_events(config, eligible))
    assert len(chunks) > 10
    assert all(len(set(chunk.driver.tolist())) == 1 for chunk in chunks)


@settings(max_examples=examples(25))
@given(CONFIGS, st.integers(0, 2**64 - 1), st.integers(0, 10**17))
def test_generator_equals_the_twin_for_any_configuration(values, ordinal, start_us) -> None:
    """Configurations that hypothesis makes up give the twin's bytes, too."""
    rows = twin.companies(values, start_us, 2)[: values["number_of_companies"] + 1]
    total = values["number_of_companies"] * 2
    config = make_config(values)
    made = encode_companies(config, draw_companies(config, 0, start_us, total))
    assert made.splitlines()[: len(rows)] == twin.content(rows).splitlines()
    expected = twin.events(values, rows, start_us, ordinal)
    assert fast_events(values, rows, start_us, ordinal) == twin.content(expected)


@settings(max_examples=examples(25))
@given(CONFIGS, st.integers(0, 2**64 - 1), st.integers(1, 30))
def test_more_companies_keep_the_events_of_the_first(values, ordinal, more) -> None:
    """A larger fleet has the smaller one's events first, in the same bytes."""
    larger = values | {"number_of_companies": values["number_of_companies"] + more}
    small_rows, large_rows = read(fast_companies(values, 0)), read(fast_companies(larger, 0))
    assert large_rows[: len(small_rows)] == small_rows
    kept = fast_events(values, small_rows, 0, ordinal)
    assert fast_events(larger, large_rows, 0, ordinal).startswith(kept)


@settings(max_examples=examples(25))
@given(CONFIGS, st.data())
def test_nobodys_events_depend_on_anothers_eligibility(values, data) -> None:
    """Companies made inactive take their own events along and leave all others as they were."""
    rows = read(fast_companies(values | {"active_fraction": 1.0}, 0))
    silent = data.draw(st.sets(st.sampled_from([row["company_id"] for row in rows])))
    changed = [row | {"active": row["company_id"] not in silent} for row in rows]
    everyone = fast_events(values, rows, 0).splitlines()
    expected = [line for line in everyone if json.loads(line)["company_id"] not in silent]
    assert fast_events(values, changed, 0).splitlines() == expected


@settings(max_examples=examples(25))
@given(CONFIGS, st.integers(0, 2**64 - 1))
def test_count_events_is_the_number_of_lines(values, ordinal) -> None:
    """Counting without drawing gives what drawing gives, also over two blocks."""
    config = make_config(values)
    fleet = make_fleet(read(fast_companies(values, 0)))
    lines = [
        line for _, piece in content_of(config, fleet, 0, ordinal) for line in piece.splitlines()
    ]
    assert count_events(config, fleet.eligible(0), ordinal) == len(lines)


@settings(max_examples=examples(25))
@given(CONFIGS, st.integers(0, 2**64 - 1))
def test_offsets_are_in_the_interval_and_sorted_within_a_driver(values, ordinal) -> None:
    """Every offset is in [0, length), drivers ascend, and offsets ascend within a driver."""
    config = make_config(values)
    for events in draw_events(config, np.ones(config.number_of_companies, np.bool_), ordinal):
        offsets = events.drawn["timestamp"]
        assert 0 <= offsets.min() <= offsets.max() < config.interval_us
        steps = np.diff(events.driver)
        assert steps.min(initial=0) >= 0
        assert np.diff(offsets)[steps == 0].min(initial=0) >= 0


def test_the_clock_changes_nothing_but_the_timestamps() -> None:
    """One seed and ordinal under two intervals give one content but for the instants' shift."""
    rows = read(fast_companies(BASE, 0))
    one, two = (read(fast_events(BASE, rows, start)) for start in (0, 7_777_777))
    shift = twin.timedelta(microseconds=7_777_777)
    for early, late in zip(one, two, strict=True):
        moments = [datetime.fromisoformat(row.pop("timestamp")) for row in (early, late)]
        assert moments[1] - moments[0] == shift
        assert early == late


@pytest.mark.parametrize("change", ["seed", "ordinal"])
def test_another_seed_or_ordinal_shares_no_event(change) -> None:
    """No event id of one batch stands in the other."""
    rows = read(fast_companies(BASE, 0))
    one = read(fast_events(BASE, rows, 0))
    values = BASE | {"seed": 43} if change == "seed" else BASE
    two = read(fast_events(values, rows, 0, ordinal=0 if change == "seed" else 1))
    assert not {row["event_id"] for row in one} & {row["event_id"] for row in two}


def test_event_ids_are_distinct_over_batches() -> None:
    """50 000 events of 10 ordinals have as many ids."""
    config = make_config(BASE | {"number_of_companies": 143, "drivers_per_company": 10})
    eligible = np.ones(143, np.bool_)
    ids = np.concatenate(
        [e.drawn["event_id"] for n in range(10) for e in draw_events(config, eligible, n)]
    )
    assert len(ids) > 49_000
    assert len(np.unique(ids, axis=0)) == len(ids)


def test_the_order_of_the_weights_does_not_matter() -> None:
    """The same weights written in another order give the same bytes."""
    types = {"start driving": 0.40, "stopped driving": 0.35, "delivered": 0.25}
    backwards = dict(reversed(types.items()))
    rows = read(fast_companies(BASE, 0))
    one, two = (fast_events(BASE | {"event_types": t}, rows, 0) for t in (types, backwards))
    assert one == two


def test_the_defaults_are_those_of_the_design() -> None:
    """Leaving the optional keys out is the same as writing their documented defaults."""
    config, written = make_config(BASE), make_config(BASE | twin.DEFAULTS)
    assert config == written


def test_a_separate_attribute_of_companies_shifts_no_other() -> None:
    """Other geographies and another active_fraction leave every company's id as it was."""
    other = BASE | {"geographies": {"DE": 0.5, "US": 0.5}, "active_fraction": 0.5}
    ids = [[row["company_id"] for row in read(fast_companies(v, 0))] for v in (BASE, other)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("drivers", "digits"), [(1, 3), (999, 3), (1000, 3), (1001, 4), (10**6, 6)]
)
def test_driver_numbers_are_as_wide_as_the_fleet_needs(drivers, digits) -> None:
    """The last number of the fleet decides, and three digits are the least."""
    assert driver_digits(make_config(BASE | {"drivers_per_company": drivers})) == digits


def test_a_company_joins_in_time_for_an_interval_that_starts_then() -> None:
    """created_at <= interval_start counts; a microsecond earlier does not."""
    fleet = make_fleet(twin.companies(BASE, AT_US))
    assert fleet.eligible(AT_US).all()
    assert not fleet.eligible(AT_US - 1).any()


def test_a_file_and_the_twin_list_the_same_fleet(tmp_path) -> None:
    """What is written, read back, is the fleet that the other tests put together."""
    values = BASE | {"active_fraction": 0.5}
    path = tmp_path / "companies.jsonl"
    write_companies(make_config(values), path, at_us=AT_US, now_us=0, cohorts=2)
    read_back, expected = read_companies(path), make_fleet(twin.companies(values, AT_US, 2))
    for name in ("company_id", "active", "created_us"):
        assert np.array_equal(getattr(read_back, name), getattr(expected, name))
