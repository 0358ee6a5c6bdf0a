"""The compiled kernel against its oracle, the plain NumPy path, byte for byte."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest
from fleets import BASE, CONFIGS, NASTY, content_of, make_fleet
from hypothesis import given, settings
from hypothesis import strategies as st
from support import AT_US

from fleetsim.base.clock import parse_time
from fleetsim.generate import producer as produce
from fleetsim.generate.config import make_config
from fleetsim.generate.encode import driver_digits, line_width, mean_width
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import machine, pieces
from fleetsim.generate.kernel.layout import event_layout
from fleetsim.generate.model import EVENT_FIELDS, Field, FieldKind
from fleetsim.generate.producer import Producer

pytest.importorskip("numba")
NIGHT_US = parse_time("2025-12-31T23:52:30Z")  # an interval across midnight and a year


def assert_equal_to_the_oracle(
    values: dict[str, Any],
    fleet: Fleet,
    start_us: int = NIGHT_US,
    ordinal: int = 0,
    jobs: int = 1,
) -> bytes:
    """Compare the two paths and return the bytes."""
    config = make_config(values)
    plain, compiled = (
        list(content_of(config, fleet, start_us, ordinal, kernel=kernel, jobs=jobs))
        for kernel in ("numpy", "compiled")
    )
    content = b"".join(lines for _, lines in plain)
    assert b"".join(lines for _, lines in compiled) == content
    assert all(lines.count(b"\n") == n for n, lines in compiled)
    return content


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({}, id="small"),
        pytest.param({"event_rate_per_driver": 0}, id="rate 0"),
        pytest.param({"event_rate_per_driver": 1e-6}, id="hardly any"),
        pytest.param({"event_rate_per_driver": 20}, id="sorted by insertion"),
        pytest.param({"event_rate_per_driver": 48}, id="sorted both ways"),
        pytest.param({"event_rate_per_driver": 1e4}, id="rate 1e4"),
        pytest.param({"event_types": NASTY}, id="nasty names"),
        pytest.param({"event_types": {"a": 1.0, "b": 0.0}}, id="last weight zero"),
        pytest.param({"event_types": {"a": 0.0, "b": 1.0}}, id="first weight zero"),
        pytest.param({"event_types": {f"t{i:03}": 0.005 for i in range(200)}}, id="many types"),
        pytest.param({"event_types": {"\0" * 200: 0.5, "x": 0.5}}, id="long names"),
        pytest.param({"batch_interval": "PT0.000001S"}, id="one microsecond"),
        pytest.param({"batch_interval": "P1D"}, id="a day"),
        pytest.param({"seed": 0}, id="seed 0"),
        pytest.param({"seed": 2**64 - 1}, id="largest seed"),
        pytest.param({"drivers_per_company": 1}, id="one driver each"),
        pytest.param({"drivers_per_company": 1001}, id="four digits"),
    ],
)
def test_the_kernel_equals_the_oracle(values) -> None:
    """Both paths make the same bytes."""
    assert_equal_to_the_oracle(BASE | values, make_fleet(7, frozenset({2, 5})))


@pytest.mark.parametrize(
    "start",
    [
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "9999-12-31T23:44:59.999999Z",
        "2024-02-28T23:50:00.000001Z",
    ],
)
def test_every_date_is_written_alike(start) -> None:
    """Both ends of the calendar, a time before 1970, and a leap day."""
    assert assert_equal_to_the_oracle(BASE, make_fleet(7), start_us=parse_time(start))


@pytest.mark.parametrize("ordinal", [1, 2**63, 2**64 - 1])
def test_the_whole_range_of_ordinals_is_addressed(ordinal) -> None:
    """No ordinal is taken for a signed number."""
    assert_equal_to_the_oracle(BASE | {"seed": 2**64 - 1}, make_fleet(7), ordinal=ordinal)


def test_wide_numbers_of_drivers_and_trucks() -> None:
    """A million drivers a company: seven digits of a truck, six of a driver, silent blocks."""
    values = BASE | {"drivers_per_company": 10**6, "event_rate_per_driver": 1e-4}
    content = assert_equal_to_the_oracle(values, make_fleet(3, frozenset({1})))
    assert re.search(rb'-9\d{5}","company_id', content)
    assert re.search(rb'"TRK-29\d{5}"', content)


@settings(max_examples=60)
@given(CONFIGS, st.integers(0, 2**64 - 1), st.integers(0, 10**17), st.data())
@pytest.mark.slow
def test_the_kernel_equals_the_oracle_for_any_configuration(values, ordinal, start_us, data):
    """Configurations and fleets that hypothesis makes up, in pieces of any size, by any threads."""
    companies = data.draw(st.integers(1, 40))
    inactive = data.draw(st.frozensets(st.integers(0, companies - 1)))
    piece = data.draw(st.sampled_from([1, 1000, 5000, 1 << 21]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE_BYTES", piece)
        fleet = make_fleet(companies, inactive)
        jobs = data.draw(st.sampled_from([1, 2, 3]))
        assert_equal_to_the_oracle(values, fleet, start_us, ordinal, jobs)


@pytest.mark.parametrize("room", [1, 2, 3, 7, 100, 10**5])
def test_pieces_cut_through_a_driver_change_nothing(monkeypatch, room) -> None:
    """Pieces of one event and of a whole batch, drivers with hundreds of events, and columns."""
    values = BASE | {"event_rate_per_driver": 200, "drivers_per_company": 2}
    fleet = make_fleet(4, frozenset({1}))
    config = make_config(values)
    monkeypatch.setattr(pieces, "PIECE_BYTES", room * line_width(config, 8))
    monkeypatch.setattr(pieces, "PIECE_EVENTS", room)
    assert_equal_to_the_oracle(values, fleet, jobs=2)
    drawn = []
    for kernel in ("numpy", "compiled"):
        rows = []
        with Producer(config, fleet, 0, columns=True, kernel=kernel, jobs=2) as producer:
            for piece in producer.pieces(NIGHT_US, 3):
                assert len(piece.columns) == piece.events
                names = sorted(piece.columns.drawn)
                columns = [piece.columns.driver, *(piece.columns.drawn[name] for name in names)]
                rows += [*zip(*(column.tolist() for column in columns), strict=True)]
                if piece.release:
                    piece.release()
        drawn.append(rows)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("jobs", [1, 2, 3, 7])
def test_threads_change_nothing(monkeypatch, jobs) -> None:
    """More pieces than there is room for, by one thread and by several."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1 << 20)
    values = BASE | {"event_rate_per_driver": 40, "number_of_companies": 500}
    content = assert_equal_to_the_oracle(values, make_fleet(500), jobs=jobs)
    assert len(content) > 7 * pieces.PIECE_BYTES


def test_a_long_silence_is_scanned_in_parts(monkeypatch) -> None:
    """A call of the kernel ends after so many drivers, so that signals are heard."""
    monkeypatch.setattr(pieces, "_SCAN", np.uint64(10))
    values = BASE | {"drivers_per_company": 999, "event_rate_per_driver": 0.01}
    assert assert_equal_to_the_oracle(values, make_fleet(5, frozenset({0, 1, 3})))


def test_widths_bound_and_match_the_lines() -> None:
    """No line is longer than the width says, one is as long, and the mean is near."""
    values = BASE | {"event_rate_per_driver": 300, "event_types": NASTY}
    config = make_config(values)
    lines = assert_equal_to_the_oracle(values, make_fleet(7)).splitlines(keepends=True)
    assert max(map(len, lines)) == line_width(config, 21)
    assert sum(map(len, lines)) / len(lines) == pytest.approx(mean_width(config, 21), rel=0.001)
    assert driver_digits(config) == 3


# Which path is taken.


def test_another_order_of_the_fields_is_followed(monkeypatch) -> None:
    """Text and order come from the data model, for both paths; a second choice is no matter."""
    again = Field("again", FieldKind.CHOICE, "", EVENT_FIELDS[4].purpose, "geographies")
    changed = (EVENT_FIELDS[5], again, *EVENT_FIELDS[:5], EVENT_FIELDS[5])
    for module in ("events", "encode", "kernel.layout"):
        monkeypatch.setattr(f"fleetsim.generate.{module}.EVENT_FIELDS", changed)
    values = BASE | {"geographies": {"DE": 0.5, "US": 0.5}}
    content = assert_equal_to_the_oracle(values, make_fleet(7))
    assert content.startswith(b'{"timestamp":"2025-12-31T23:5')
    assert b'"again":"DE"' in content


def test_a_field_that_the_kernel_does_not_know_is_left_to_numpy(monkeypatch, caplog) -> None:
    """One warning, the same content; asked for by name, the kernel refuses."""
    monkeypatch.setattr(
        "fleetsim.generate.kernel.layout.EVENT_FIELDS", (Field("new", FieldKind.FLAG, ""),)
    )
    monkeypatch.setattr(produce, "LARGE", 0)
    monkeypatch.setattr(produce, "_warned", set())
    config, fleet = make_config(BASE), make_fleet(7)
    assert event_layout(config) is None
    for _ in range(2):
        assert list(content_of(config, fleet, AT_US, 0))
    assert caplog.text.count("the compiled kernel is not used: it does not know every field") == 1
    with pytest.raises(produce.FleetsimError, match="the compiled kernel cannot be used: it does"):
        list(content_of(config, fleet, AT_US, 0, kernel="compiled"))


def test_without_numba_the_plain_path_takes_over(monkeypatch, caplog) -> None:
    """One warning, however many batches; the same content."""
    monkeypatch.setitem(sys.modules, "fleetsim.generate.kernel.pieces", None)
    monkeypatch.setattr(produce, "LARGE", 0)
    monkeypatch.setattr(produce, "_warned", set())
    config, fleet = make_config(BASE), make_fleet(7)
    contents = [
        b"".join(lines for _, lines in content_of(config, fleet, AT_US, 0, jobs=jobs))
        for jobs in (1, 2)
    ]
    assert contents[0] == contents[1] != b""
    assert caplog.text.count("the compiled kernel is not used: numba cannot be loaded") == 1


@pytest.mark.parametrize(
    ("events", "ready", "compiled", "threads"),
    [
        (9_999, True, False, 1),
        (10_000, True, True, 1),
        (10_000, False, False, 1),
        (199_999, True, True, 1),
        (200_000, True, True, 3),
        (999_999, False, False, 1),
        (1_000_000, True, True, 3),
        (1_000_000, False, True, 3),
    ],
)
def test_the_size_chooses_the_path(monkeypatch, events, ready, compiled, threads) -> None:
    """From 10,000 events on where machine code lies ready, from a million on in any case."""
    monkeypatch.setattr(machine, "IMAGES", True)
    loaded = machine.kernels()
    monkeypatch.setattr(machine, "kept_kernels", lambda: loaded if ready else None)
    with Producer(make_config(BASE), make_fleet(7), events, jobs=3) as producer:
        assert (producer._piece_maker is not None) == compiled
        assert producer.threads.jobs == threads
    with Producer(make_config(BASE), make_fleet(7), events, kernel="numpy") as producer:
        assert producer._piece_maker is None


@pytest.mark.parametrize(("events", "compiled"), [(49_999, False), (50_000, True)])
def test_where_llvm_loads_machine_code_it_is_for_larger_batches(
    monkeypatch, events, compiled
) -> None:
    """Loading LLVM takes as long as NumPy takes for tens of thousands of events."""
    monkeypatch.setattr(machine, "IMAGES", False)
    loaded = machine.kernels()
    monkeypatch.setattr(machine, "kept_kernels", lambda: loaded)
    with Producer(make_config(BASE), make_fleet(7), events) as producer:
        assert (producer._piece_maker is not None) == compiled


def test_without_numba_and_machine_code_middle_batches_are_made_without_a_word(
    monkeypatch, caplog
) -> None:
    """As they always were; large ones warn."""
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setattr(machine, "_host", machine._host.__wrapped__)
    monkeypatch.setattr(machine, "kept_kernels", machine._kept_kernels.__wrapped__)
    with Producer(make_config(BASE), make_fleet(7), 100_000) as producer:
        assert producer._piece_maker is None
    assert caplog.text == ""
