"""The reconciliation beside its slow twin, and pipelines whose faults are known."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deliveries import (
    Delivered,
    broken,
    honest,
    kind_of,
    make_data,
    put_accepted,
    put_rejected_bytes,
    put_rejected_texts,
    run,
    run_arrivals,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reconcile_twin import reconciled, values_of

from fleetsim.base.clock import format_time
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.reconcile import (
    Arrival,
    Queries,
    Reconciliation,
    accepted_difference,
    outcome_difference,
    reconcile,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return three batches with defects of all kinds."""
    return make_data(tmp_path_factory.mktemp("dirty") / "data")


@pytest.fixture
def delivered(data: Path) -> Delivered:
    """Return the three batches, delivered once each."""
    made = Delivered(data)
    for ordinal in range(3):
        made.add(ordinal)
    return made


def outcomes(folder: Path) -> list[dict]:
    """Return the rows of the outcomes."""
    return pq.read_table(folder / "outcome.parquet").to_pylist()


def check_balance(found: Reconciliation) -> None:
    """Hold the balance to the lines and the rows."""
    balance = found.balance
    lines = balance.accepted + balance.deduplicated + balance.rejected + balance.unaccounted
    assert lines == found.delivered == sum(sum(row.values()) for row in found.matrix.values())
    rows = balance.accepted + balance.doubles + balance.unexpected
    assert rows == found.accepted_rows


def test_an_honest_pipeline_is_right_in_all_kinds(delivered: Delivered, tmp_path: Path):
    """No figure is wrong, and each kind has the one outcome that is right."""
    rows, refusals = honest(delivered.lines)
    output = tmp_path / "output"
    put_accepted(output, rows)
    put_rejected_texts(output, refusals)
    found = run(delivered, output)
    check_balance(found)
    assert set(found.matrix) == {"clean", *DEFECT_KINDS}
    for kind, row in found.matrix.items():
        right = {"rejected"} if kind in found.must_reject else {"accepted"}
        assert set(row) == right, kind
    assert found.refused == found.must_reject
    assert found.refusals_right == found.refusals_all == len(refusals) == found.rejected_rows
    assert (found.lost, found.unexpected, found.duplicated, found.altered) == (0, 0, 0, 0)
    assert (found.unaccounted, found.wrong) == (0, [])
    assert found.accepted_rows == len(rows)
    listed = outcomes(tmp_path)
    assert [(row["delivery"], row["line"]) for row in listed] == [
        (line.delivery, line.number) for line in delivered.lines
    ]
    assert [row["kind"] for row in listed] == [kind_of(line) or None for line in delivered.lines]
    assert [row["reason"] for row in listed] == [
        kind_of(line) if row["outcome"] == "rejected" else None
        for line, row in zip(delivered.lines, listed, strict=True)
    ]
    types = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "outcome.parquet")}
    assert types == {
        "batch_id": "string",
        "delivery": "int32",
        "line": "int64",
        "event_id": "string",
        "kind": "string",
        "expect": "string",
        "outcome": "string",
        "reason": "string",
    }


@pytest.mark.slow
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32), texts=st.booleans())
def test_equal_to_the_slow_twin(
    data: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, texts: bool
):
    """Outcomes, reasons and figures are those of the twin, whatever a pipeline breaks."""
    choose = random.Random(seed)  # noqa: S311
    folder = tmp_path_factory.mktemp("run")
    made = Delivered(data)
    for ordinal in choose.choice([[0, 1, 2], [0, 0, 1], [2, 1, 0, 1, 2]]):
        cut = choose.randrange(60) if choose.random() < 0.3 else None
        made.add(ordinal, cut, choose.randrange(200))
    output = folder / "output"
    rows, refusals = broken(made.lines, choose)
    put_accepted(output, rows)
    queries = Queries()
    if texts:
        refusals = put_rejected_texts(output, refusals)
    else:
        queries = put_rejected_bytes(output, refusals)
    found = run(made, output, queries)
    check_balance(found)
    twin = reconciled(made.lines, rows, refusals)
    mine = [(row["outcome"], row["reason"]) for row in outcomes(folder)]
    assert mine == [(line.outcome, line.reason) for line in made.lines]
    assert twin == {
        "accepted": found.balance.accepted,
        "rejected": found.balance.rejected,
        "lost": found.lost,
        "duplicated": found.duplicated,
        "altered": found.altered,
        "unaccounted": found.unaccounted,
        "right": found.refusals_right,
        "all": found.refusals_all,
        "unexpected": found.unexpected,
        "surplus": found.balance.surplus_rejections,
    }


def test_nothing_came_out(delivered: Delivered, tmp_path: Path):
    """An output without files has no rows: all records are lost, and no refusals are reported."""
    found = run(delivered, tmp_path / "output")
    check_balance(found)
    assert (found.accepted_rows, found.rejected_rows) == (0, None)
    assert found.lost == found.matrix["clean"]["unaccounted"] + sum(
        found.matrix[kind]["unaccounted"] for kind in ("extra_field", "late")
    )
    assert found.refused == found.must_reject  # not accepted, and that is all that can be seen


def test_a_difference_is_a_count_of_rows(delivered: Delivered, tmp_path: Path):
    """Of two accepted multisets, and of two outcomes, whatever their order."""
    rows, _ = honest(delivered.lines)
    folders = [tmp_path / name for name in ("a", "b")]
    changed = [*rows[1:], rows[3], ("x", None, "c", "t", "e", 1)]
    for folder, part in zip(folders, (rows, changed[::-1]), strict=True):
        put_accepted(folder / "output", part)
        run(delivered, folder / "output")
    kept = [folder / "kept.parquet" for folder in folders]
    assert accepted_difference(kept[0], kept[0]) == 0
    assert accepted_difference(*kept) == accepted_difference(*reversed(kept)) == 3
    listed = [folder / "outcome.parquet" for folder in folders]
    assert outcome_difference(listed[0], listed[0]) == 0
    changes = sum(
        (one["outcome"] != other["outcome"])
        for one, other in zip(outcomes(folders[0]), outcomes(folders[1]), strict=True)
    )
    assert outcome_difference(*listed) == 2 * changes > 0


def test_wrong_lines_come_with_their_evidence(delivered: Delivered, tmp_path: Path):
    """The first ten of each wrong cell, in the order of their lines; then rows of no line."""
    rows, refusals = honest(delivered.lines)
    clean = [line for line in delivered.lines if not kind_of(line)]
    lines = {values_of(line.raw)[0]: line for line in clean}
    rows = [row for row in rows if row in lines or kind_of_row(row, delivered) == "late"]
    first = [values_of(line.raw)[0] for line in clean]
    lost, altered, twice = set(first[3:30:2]), first[40], first[41]
    given = [row for row in rows if row is not None and row not in lost and row != altered]
    given += [twice, (*altered[:3], "TRK-x", *altered[4:]), ("who", None, "c", "t", "e", -1)]
    bad = next(line for line in delivered.lines if kind_of(line) == "wrong_type")
    given.append((bad.entry["event_id"], "d", "c", "t", "e", None))
    output = tmp_path / "output"
    put_accepted(output, given)
    put_rejected_texts(output, [*refusals, ("none of ours\t", "odd"), (bad.raw, "again")])
    found = run(delivered, output)
    check_balance(found)
    cells: dict = {}
    for wrong in found.wrong:
        cells.setdefault((wrong.kind, wrong.outcome), []).append(wrong)
    silent = cells[None, "unaccounted"]
    assert len(silent) == 10
    assert [wrong.line for wrong in silent] == [lines[row].number for row in first[3:23:2]]
    assert [wrong.text for wrong in silent] == [lines[row].raw.decode() for row in first[3:23:2]]
    assert all(wrong.came_out is None and wrong.delivery == 1 for wrong in silent)
    (changed,) = cells[None, "altered"]
    assert changed.event_id == altered[0]
    assert changed.came_out["truck_id"] == "TRK-x"
    assert changed.came_out["timestamp"] == format_time(altered[5])
    (double,) = cells[None, "accepted twice"]
    assert list(double.came_out.values())[:5] == list(twice[:5])
    (both,) = cells["wrong_type", "accepted and rejected"]
    assert (both.field, both.original) == (bad.entry["field"], bad.entry["original"])
    assert both.came_out["driver_id"] == "d"
    assert both.came_out["timestamp"] is None
    (unexpected,) = cells[None, "unexpected"]
    assert unexpected.came_out["event_id"] == unexpected.event_id == "who"
    surplus = cells[None, "surplus rejection"]
    assert {(wrong.text, wrong.reason) for wrong in surplus} == {
        ("none of ours\\x09", "odd"),
        (bad.raw.decode(), "again"),
    }
    assert found.altered == found.duplicated == found.unexpected == 1
    assert found.lost == 14 + found.matrix.get("extra_field", {}).get("unaccounted", 0)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Reconciliation) == found


def kind_of_row(row: tuple, delivered: Delivered) -> str:
    """Return the kind of the line whose values a row has."""
    return next(kind_of(line) for line in delivered.lines if values_of(line.raw)[0] == row)


def test_parts_and_packed_files_are_the_same_lines(
    data: Path, delivered: Delivered, tmp_path: Path
):
    """A batch may come as packed files, or as a list of parts."""
    arrival = delivered.arrivals[0]
    content = (Path(str(arrival.events)) / "events.jsonl").read_bytes()
    rows, _ = honest(delivered.lines)
    put_accepted(tmp_path / "output", rows)
    packed = tmp_path / "events.jsonl.gz"
    packed.write_bytes(gzip.compress(content))
    zstd = tmp_path / "events.jsonl.zst"
    zstd.write_bytes(pa.Codec("zstd").compress(content, asbytes=True))
    found = []
    for events in (arrival.events, packed, zstd):
        given = msgspec.structs.replace(arrival, events=events)
        found.append(reconcile([given], Queries(), tmp_path / "output"))
    assert found[0] == found[1] == found[2]
    assert found[0].delivered == content.count(b"\n")
    halves = [tmp_path / "part-0.jsonl", tmp_path / "part-1.jsonl"]
    middle = content.index(b"\n", len(content) // 2) + 1
    halves[0].write_bytes(content[:middle])
    halves[1].write_bytes(content[middle:])
    ledger = tmp_path / arrival.batch_id
    ledger.mkdir()
    before = content[:middle].count(b"\n")
    entries = map(json.loads, Path(str(arrival.ledger)).read_bytes().splitlines())
    parts: list[list[dict]] = [[], []]
    for entry in entries:
        late = entry["line"] > before
        parts[late].append(entry | {"line": entry["line"] - before * late})
    for number, part in enumerate(parts):
        lines = [json.dumps(entry) + "\n" for entry in part]
        (ledger / f"part-{number}.jsonl").write_text("".join(lines))
    given = msgspec.structs.replace(arrival, events=halves, ledger=ledger)
    assert reconcile([given], Queries(), tmp_path / "output") == found[0]


@pytest.mark.parametrize("form", ["parquet", "jsonl.gz"])
def test_batches_of_other_formats(tmp_path: Path, form: str):
    """A batch of Parquet is its rows, with the kinds that it can hold."""
    kinds = [k for k, kind in DEFECT_KINDS.items() if kind.columns or form != "parquet"]
    made = make_data(tmp_path / "data", "--format", form, defects=dict.fromkeys(kinds, 0.02))
    batch = sorted((made / "events").iterdir())[0]
    ledger = made / "ledger" / f"{batch.name}.jsonl"
    arrival = Arrival(delivery=1, batch_id=batch.name, events=batch, ledger=ledger)
    found = reconcile([arrival], Queries(), tmp_path / "output")
    meta = json.loads((batch / "batch_meta.json").read_text())
    assert found.delivered == meta["event_count"]
    assert set(found.matrix) - {"clean"} <= set(kinds)
    assert len(found.matrix) > 5


def test_lines_by_hand_are_read_too(tmp_path: Path):
    """Other ids than UUIDs, blanks and other keys do no harm; nor do bytes that are no UTF-8."""
    record = {
        "event_id": "e-1",
        "driver_id": "d",
        "company_id": "c",
        "truck_id": "t",
        "event_type": 'ü "x"',
        "timestamp": "2025-11-08T12:00:00Z",
    }
    lines = [json.dumps(record), json.dumps(record | {"event_id": "e-2", "more": 1})]
    events = tmp_path / "events.jsonl"
    events.write_bytes("\r\n".join(lines).encode() + b"\r\n\xff\n")
    arrival = Arrival(delivery=1, batch_id="b", events=events)
    us = 1_762_603_200_000_000
    rows = [("e-1", "d", "c", "t", 'ü "x"', us), ("e-2", "d", "c", "other", 'ü "x"', us)]
    put_accepted(tmp_path / "output", rows)
    put_rejected_texts(tmp_path / "output", [(b"\xff", "bytes")])
    found = run_arrivals([arrival], tmp_path / "output")
    assert [row["outcome"] for row in outcomes(tmp_path)] == ["accepted", "altered", "rejected"]
    assert [row["event_id"] for row in outcomes(tmp_path)] == ["e-1", "e-2", None]
    assert (found.unexpected, found.balance.surplus_rejections) == (0, 0)
