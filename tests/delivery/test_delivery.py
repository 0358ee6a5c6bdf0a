"""Deliveries: their plan, the landing folder that batches appear in, and what has arrived."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wait_until

from fleetsim.batch.meta import EVENTS_NAME, META_NAME
from fleetsim.delivery.arrivals import arrivals_of
from fleetsim.delivery.landing import Landing, half_of
from fleetsim.delivery.plan import (
    COPY,
    CUT,
    FORMS,
    Delivery,
    Relation,
    read_deliveries,
    read_variants,
    relation,
)

REFERENCE = (Delivery(0), Delivery(1), Delivery(2))


@given(st.lists(st.tuples(st.integers(0, 9999), st.sampled_from(FORMS)), min_size=1, max_size=20))
def test_deliveries_are_read_as_they_stand(rows):
    """An ordinal alone is a whole batch."""
    given_rows = [
        batch if form == "whole" and batch % 2 else {"batch": batch, "as": form}
        for batch, form in rows
    ]
    made, faults = read_deliveries(given_rows, "deliveries")
    assert faults == []
    assert made == tuple(Delivery(batch, form) for batch, form in rows)


@pytest.mark.parametrize("rows", [None, 7, "0", {}, [], {"batch": 0}, [0] * 10_001])
def test_deliveries_are_a_list_of_some(rows):
    """Anything else is one fault."""
    made, faults = read_deliveries(rows, "variants.again")
    assert made == ()
    assert len(faults) == 1
    assert faults[0].startswith("variants.again: found ")
    assert "allowed: a list of deliveries" in faults[0]


NO_DELIVERIES = [
    *(-1, 10_000, True, 1.0, "1", None, [], {}),
    *({"as": "cut"}, {"batch": 0, "as": "half"}, {"batch": True}, {"batch": 0, "form": "cut"}),
    *({"batch": "0"}, {"batch": 0, "as": None}),
]


@pytest.mark.parametrize("row", NO_DELIVERIES)
def test_a_wrong_delivery_is_named_by_its_place(row):
    """The others are read."""
    made, faults = read_deliveries([0, row, 1], "deliveries")
    assert made == (Delivery(0), Delivery(1))
    assert len(faults) == 1
    assert faults[0].startswith("deliveries[2]: found ")
    assert faults[0].endswith("{batch: ORDINAL, as: copy} or {..., as: cut}")


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ({"a b": [1, 0, 2]}, "variants.a b: found 'a b'; allowed: a name of letters"),
        ({"reference": [1, 0, 2]}, "variants.reference: found 'reference'; allowed: a name"),
        ({"v": [0, 1, 2]}, "variants.v: it is the reference; allowed: another order"),
        ({"v": [0, 1]}, "variants.v: batch 2 never comes whole; deliveries has 0, 1, 2"),
        ({"v": [0, 1, 2, 7]}, "variants.v: found batch 7, which deliveries has not"),
        (
            {"v": [0, 1, 2, {"batch": 0, "as": "cut"}]},
            "variants.v: batch 0 is cut at last; allowed: the whole file after it",
        ),
        ({"v": [0, "x", 1, 2]}, "variants.v[2]: found 'x'; allowed: the ordinal"),
        ([[0, 1]], "variants: found [[0, 1]]; allowed: a mapping of names"),
        ({3: [0, 1, 2]}, "variants: found {3: [0, 1, 2]}; allowed: a mapping of names"),
    ],
)
def test_a_wrong_variant_is_one_fault(rows, fault):
    """It says what would do."""
    made, faults = read_variants(rows, REFERENCE)
    assert made == {}
    assert len(faults) == 1, faults
    assert faults[0].startswith(fault)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([2, 0, 1], Relation.ORDER),
        ([0, 1, 1, 2], Relation.REPEAT),
        ([0, {"batch": 0, "as": "copy"}, 1, 2], Relation.REPEAT),
        ([2, 1, 0, 0], Relation.REPEAT),
        ([{"batch": 0, "as": "cut"}, 0, 1, 2], Relation.PARTIAL),
        ([{"batch": 0, "as": "cut"}, 2, 2, 1, 0], Relation.PARTIAL),
    ],
)
def test_what_a_variant_tries(rows, wanted):
    """Half a file before anything else, then a repeat, then the order."""
    made, faults = read_variants({"v": rows}, REFERENCE)
    assert faults == []
    assert relation(made["v"], REFERENCE) is wanted


@given(st.permutations(range(5)))
def test_another_order_is_no_repeat(order):
    """Whatever the order."""
    reference = tuple(map(Delivery, range(5)))
    assert relation(tuple(map(Delivery, order)), reference) is Relation.ORDER


@pytest.fixture
def source(tmp_path):
    """Return companies and a batch of many lines."""
    batch = tmp_path / "made" / "20251108T120000Z"
    batch.mkdir(parents=True)
    lines = "".join(f'{{"event_id":"{number:06}"}}\n' for number in range(5000))
    (batch / EVENTS_NAME).write_text(lines)
    (batch / META_NAME).write_text('{"batch_id": "20251108T120000Z"}\n')
    (tmp_path / "companies.jsonl").write_text('{"company_id": "a"}\n')
    return batch


def landing_of(folder: Path) -> Landing:
    """Return a new landing folder."""
    return Landing(folder / "landing", folder / "companies.jsonl")


def test_a_whole_batch_arrives_beside_the_companies(tmp_path, source):
    """With all its files, and nothing else."""
    landing = landing_of(tmp_path)
    final = landing.deliver(source, Delivery(0))
    assert final == tmp_path / "landing" / "events" / source.name
    assert {p.name: p.read_bytes() for p in final.iterdir()} == {
        p.name: p.read_bytes() for p in source.iterdir()
    }
    assert [p.name for p in final.parent.iterdir()] == [source.name]
    companies = tmp_path / "landing" / "companies.jsonl"
    assert companies.read_bytes() == (tmp_path / "companies.jsonl").read_bytes()
    assert landing.is_intact()


def test_a_copy_has_a_folder_of_another_name(tmp_path, source):
    """The batch itself is left as it is."""
    landing = landing_of(tmp_path)
    first, copy = landing.deliver(source, Delivery(0)), landing.deliver(source, Delivery(0, COPY))
    assert (first.name, copy.name) == (source.name, f"{source.name}-copy")
    assert (copy / EVENTS_NAME).read_bytes() == (source / EVENTS_NAME).read_bytes()
    assert (copy / META_NAME).is_file()


def test_a_cut_batch_is_half_a_file_without_its_record(tmp_path, source):
    """The whole one then takes its place."""
    landing = landing_of(tmp_path)
    cut = landing.deliver(source, Delivery(0, CUT))
    assert [path.name for path in cut.iterdir()] == [EVENTS_NAME]
    half, content = (cut / EVENTS_NAME).read_bytes(), (source / EVENTS_NAME).read_bytes()
    assert content.startswith(half)
    assert 0 < len(half) < len(content)
    whole = landing.deliver(source, Delivery(0))
    assert whole == cut
    assert (whole / EVENTS_NAME).read_bytes() == content
    assert (whole / META_NAME).is_file()


@given(st.lists(st.binary(max_size=9).map(lambda raw: raw.replace(b"\n", b"")), max_size=12))
def test_half_a_file_ends_within_a_line(tmp_path_factory, lines):
    """Never behind a line feed: a reader by lines would take it for whole."""
    path = tmp_path_factory.getbasetemp() / "half.jsonl"
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(content)
    half = half_of(path)
    assert content.startswith(half)
    assert len(half) <= len(content) // 2
    assert not half.endswith(b"\n")


def test_nobody_sees_half_a_batch(tmp_path, source):
    """A watcher that looks all the time finds both files whole, or no folder."""
    landing, seen, stop = landing_of(tmp_path), set(), threading.Event()
    events = tmp_path / "landing" / "events"
    sizes = {path.name: path.stat().st_size for path in source.iterdir()}

    def watch() -> None:
        while not stop.is_set():
            for folder in [path for path in events.iterdir() if path.name[0] != "."]:
                try:
                    own = folder.stat().st_ino
                    there = {path.name: path.stat().st_size for path in folder.iterdir()}
                    replaced = folder.stat().st_ino != own
                except FileNotFoundError:
                    replaced = True
                if not replaced:  # or what we looked into was cleared away meanwhile
                    seen.add(tuple(sorted(there.items())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(60):
            form = COPY if number % 3 == 2 else "whole"
            landing.deliver(source, Delivery(0, form))
            for folder in list(events.iterdir()) if number % 2 else ():
                folder.rename(tmp_path / f"gone-{number}-{folder.name}")
        landing.deliver(source, Delivery(0))
        wait_until(lambda: seen, "a look at a batch")
    finally:
        stop.set()
        watcher.join()
    assert seen == {tuple(sorted(sizes.items()))}


def test_a_deleted_folder_is_made_again(tmp_path, source):
    """It is noticed, and the next batch arrives all the same."""
    landing = landing_of(tmp_path)
    landing.deliver(source, Delivery(0)).joinpath(META_NAME).unlink()
    assert landing.is_intact()
    (tmp_path / "landing" / "events").rename(tmp_path / "gone")
    assert not landing.is_intact()
    assert (landing.deliver(source, Delivery(0)) / META_NAME).is_file()
    assert landing.is_intact()
    (tmp_path / "landing" / "companies.jsonl").write_text("")
    assert not landing.is_intact()


def test_arrivals_say_what_came(source):
    """A cut one says how many whole lines it has, and what stands behind them."""
    arrivals = arrivals_of((Delivery(0, CUT), Delivery(0), Delivery(0, COPY)), [source])
    assert [one.delivery for one in arrivals] == [1, 2, 3]
    assert {one.batch_id for one in arrivals} == {source.name}
    assert {one.events for one in arrivals} == {source / EVENTS_NAME}
    assert [one.ledger for one in arrivals] == [None] * 3
    cut, *others = arrivals
    assert [(one.lines, one.fragment) for one in others] == [(None, None)] * 2
    half = half_of(source / EVENTS_NAME)
    assert cut.lines == half.count(b"\n")
    assert half.endswith(b"\n" + cut.fragment)


def test_arrivals_have_the_ledger_of_their_batch(tmp_path):
    """It stands beside the folder of batches, where no pipeline looks."""
    batch = tmp_path / "events" / "20251108T120000Z"
    batch.mkdir(parents=True)
    (batch / EVENTS_NAME).write_text("{}\n")
    ledger = tmp_path / "ledger" / f"{batch.name}.jsonl"
    ledger.parent.mkdir()
    ledger.write_text("")
    assert arrivals_of((Delivery(0),), [batch])[0].ledger == ledger
