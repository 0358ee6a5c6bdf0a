"""The reconciliation beside its slow twin, and pipelines whose faults are known."""

from __future__ import annotations

import random
from pathlib import Path

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
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reconcile_twin import reconciled

from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.reconcile import Queries, Reconciliation, accepted_difference, outcome_difference


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
