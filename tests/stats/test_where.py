"""Where the data depart most: the parts that a fault was put into stand first."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetsim.generate.config import Config, make_config
from fleetsim.stats import draw_columns, law_of, run_battery, sample_of
from fleetsim.stats.battery import BATTERY
from fleetsim.stats.sample import Columns, Sample, make_sample
from fleetsim.stats.times import TIED_BATCHES, tied_batches
from fleetsim.stats.where import _PARTS, SHOWN, Names, places_of, sentence_of

CONFIG = make_config(
    {
        "seed": 7,
        "number_of_companies": 20,
        "drivers_per_company": 10,
        "event_rate_per_driver": 5.0,
        "company_onboarding_interval": "PT1H",
    }
)
BATCHES = 3
NAMES = Names(
    batches=("B0", "B1", "B2"),
    types=("start driving", "stopped driving", "delivered"),
    drivers_per_company=10,
    company=lambda at: f"C{at}",
)


def columns() -> Columns:
    """Return three batches of the kit's own generator."""
    return draw_columns(CONFIG, BATCHES)


def sample(columns: Columns, config: Config = CONFIG) -> Sample:
    """Return what the tests look at."""
    return make_sample(
        columns,
        n_batches=BATCHES,
        n_drivers=200,
        n_types=3,
        drivers_per_company=10,
        length_us=config.interval_us,
    )


def first(name: str, changed: Columns) -> str:
    """Return where a test says that the data depart most."""
    return sentence_of(places_of(name, sample(changed), law_of(CONFIG))[0], NAMES)


def moved(which: np.ndarray, **values: object) -> Columns:
    """Return the columns with other values at some rows."""
    own = columns()
    parts = {name: getattr(own, name).copy() for name in ("batch", "driver", "kind", "offset_us")}
    for name, value in values.items():
        parts[name][which] = value
    return Columns(**parts)


def test_every_test_of_the_battery_can_say_where() -> None:
    """Those of the package have all an entry; nothing is entered for a test that is not there."""
    assert {entry.name for entry in BATTERY} == set(_PARTS)


def test_nothing_where_there_is_no_event() -> None:
    """And never more than a few parts."""
    empty = columns().take(np.zeros(0, np.int64))
    law = law_of(CONFIG)
    for name in _PARTS:
        assert places_of(name, sample(empty), law) == ()
        places = places_of(name, sample(columns()), law)
        assert len(places) <= SHOWN
        assert all(sentence_of(place, NAMES) for place in places)
        sizes = [abs(place.deviation) for place in places if place.part != "gap"]
        assert sizes == sorted(sizes, reverse=True)


def test_a_minute_that_is_crowded() -> None:
    """Half of the events in the last minute of each interval."""
    n = len(columns())
    half = np.arange(n) % 2 == 0
    crowded = moved(half, offset_us=CONFIG.interval_us - 1 - np.arange(n)[half] % 36_000_000)
    text = first("event_times_uniform", crowded)
    assert text.startswith("864 to 900 s: ")
    assert first("batch_times", crowded).endswith("standard deviations)")


def test_a_driver_a_company_a_number_a_type_and_a_batch() -> None:
    """Each is named with what it holds and what the law gives it."""
    n = len(columns())
    some = np.arange(n) % 5 == 0
    assert first("batch_drivers", moved(some, driver=57)).startswith("driver 007 of C5: ")
    assert first("company_totals", moved(some, driver=np.arange(n)[some] % 10 + 50)).startswith(
        "C5: "
    )
    numbered = moved(some, driver=np.arange(n)[some] % 20 * 10 + 3)
    assert first("driver_number_totals", numbered).startswith("drivers of number 003: ")
    assert first("event_types", moved(some, kind=2)).startswith("delivered: ")
    assert first("batch_totals", moved(some, batch=1)).startswith("batch B1: ")
    late = moved(some, offset_us=CONFIG.interval_us)
    assert first("event_times_inside", late).startswith("events outside their interval: ")


def test_offsets_of_two_batches_are_told_as_pairs() -> None:
    """The second batch has the events of the first: their number, and what chance gives."""
    every = columns()
    own = every.take(np.flatnonzero(every.batch == 0))
    twice = np.tile(np.arange(len(own)), 2)
    both = own.take(twice)
    both = Columns(np.repeat([0, 1], len(own)), both.driver, both.kind, both.offset_us)
    text = first("batch_ties", both)
    assert text.startswith(f"pairs of events of two batches with one offset: {len(own)} instead of")
    assert places_of("batch_ties", sample(every), law_of(CONFIG)) == ()


def test_the_law_is_not_at_fault_where_a_type_has_no_weight() -> None:
    """What the law never gives is the largest departure, without a figure that is infinite."""
    law = law_of(make_config(CONFIG.as_dict() | {"event_types": {"a": 1.0, "b": 0.0, "c": 0.0}}))
    place = places_of("event_types", sample(columns()), law)[0]
    assert place.expected == 0
    assert "inf" not in sentence_of(place, NAMES)


@pytest.mark.parametrize("name", ["event_types", "batch_totals"])
def test_only_tests_that_reject_or_are_suspects_say_where(name: str) -> None:
    """A fault-free battery is silent."""
    some = np.arange(len(columns())) % 4 == 0
    law = law_of(CONFIG)
    faulty = {row.entry.name: row for row in run_battery(sample(moved(some, kind=2)), law)}
    assert faulty["event_types"].places
    for row in run_battery(sample(columns()), law):
        assert bool(row.places) == (row.suspect or row.verdict == "fail")


def test_the_two_batches_that_share_offsets_are_named() -> None:
    """Of six batches the third and the fifth have the same times; no other two are told."""
    own = draw_columns(CONFIG, 6)
    offset = own.offset_us.copy()
    source = offset[own.batch == 2][:800]
    offset[np.flatnonzero(own.batch == 4)[: len(source)]] = source
    found = sample_of(Columns(own.batch, own.driver, own.kind, offset), CONFIG, 6)
    places = places_of("batch_ties", found, law_of(CONFIG))
    assert places[1].part == "shared"
    assert places[1].at == (2, 4)
    assert 790 < places[1].observed <= 810
    assert sentence_of(places[1], Names()) == (
        f"batch 3, batch 5: {places[1].observed:.0f} pairs of events with one offset, "
        f"{places[1].expected:.3g} expected"
    )


@given(rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=60), cut=st.data())
def test_shared_offsets_are_those_that_loops_count(rows, cut) -> None:
    """Offsets of two batches, in pieces of any size; of three only those that follow are told."""
    rows = sorted(rows)
    found: Counter[tuple[int, int]] = Counter()
    for (us, one), (other, two) in itertools.pairwise(rows):
        if us == other and one != two:
            found[one, two] += 1
    at = cut.draw(st.integers(0, len(rows)))
    table = np.array(rows, np.int64).reshape(-1, 2)
    pieces = [(part[:, 0], part[:, 1]) for part in (table[:at], table[at:])]
    most = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:TIED_BATCHES]
    assert tied_batches(pieces).tolist() == [[*pair, n] for pair, n in most]
