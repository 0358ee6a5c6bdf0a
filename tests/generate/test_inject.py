"""Defects in the bytes: the slow twin makes the same dirty batch and ledger."""

from __future__ import annotations

import json
from typing import Any

import dirty_twin
import numpy as np
import pytest
import twin
from dirty_twin import KINDS
from fleets import BASE, CONFIGS, NASTY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetsim.generate.config import make_config
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.producer import Producer

AT = "2025-11-08T23:50:00Z"
AT_US = (twin.datetime.fromisoformat(AT) - twin.EPOCH) // twin.timedelta(microseconds=1)
ALL = {kind: 0.06 for kind in KINDS}


def fleet_of(rows: list[dict]) -> Fleet:
    """Return the companies of the twin as a fleet."""
    moments = [twin.datetime.fromisoformat(row["created_at"]) for row in rows]
    return Fleet(
        np.frombuffer("".join(row["company_id"] for row in rows).encode(), np.uint8).reshape(
            -1, 36
        ),
        np.array([row["active"] for row in rows]),
        np.array([(m - twin.EPOCH) // twin.timedelta(microseconds=1) for m in moments]),
        sha256="",
    )


def made(
    values: dict[str, Any],
    rows: list[dict],
    ordinal: int,
    *,
    kernel: Kernel = "numpy",
    jobs: int = 1,
    drivers: range | None = None,
    part: str | None = None,
    at_us: int = AT_US,
) -> tuple[bytes, bytes]:
    """Return the lines and the ledger that the generator makes."""
    config = make_config(values)
    ledger: list[bytes] = []
    with Producer(config, fleet_of(rows), 0, kernel=kernel, jobs=jobs) as producer:
        content = list(producer.content(at_us, ordinal, drivers, ledger=ledger.append, part=part))
    lines = b"".join(piece for _, piece in content)
    assert sum(events for events, _ in content) == lines.count(b"\n")
    return lines, b"".join(ledger)


@st.composite
def defects(draw: st.DrawFn) -> dict[str, Any]:
    """Return kinds with rates that sum to at most 1, some fields, expectations and delays."""
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, unique=True))
    parts = {kind: draw(st.integers(0, 8)) for kind in kinds}
    spare = draw(st.sampled_from([0, 1, 20]))
    total = 2 ** (sum(parts.values()) + spare).bit_length()
    if not spare and sum(parts.values()):
        kinds, parts, total = [kinds[0]], {kinds[0]: 1}, 1  # all of one kind
    made: dict[str, Any] = {}
    for kind in kinds:
        form: dict[str, Any] = {"rate": parts[kind] / total}
        if KINDS[kind][0] and draw(st.booleans()):
            form["fields"] = draw(
                st.lists(st.sampled_from(KINDS[kind][0]), min_size=1, unique=True)
            )
        if draw(st.booleans()):
            form["expect"] = draw(st.sampled_from(["accept", "reject", "once", "either"]))
        if kind == "late":
            form["batches"] = draw(st.integers(1, 3))
        made[kind] = form
    return made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS, defects(), st.sampled_from([0, 1, 2, 5, 2**64 - 1]), st.booleans())
def test_the_twin_makes_the_same_dirty_batch(values, kinds, ordinal, compiled) -> None:
    """Byte for byte, lines and ledger, whatever is configured."""
    values = values | {"defects": kinds}
    # Companies of a second cohort join later, so that late records are of fewer.
    rows = twin.companies(values, AT_US - 1_800_000_000, cohorts=2)
    lines, ledger = dirty_twin.delivered(values, rows, AT_US, ordinal)
    kernel: Kernel = "compiled" if compiled else "numpy"
    dirty, entries = made(values, rows, ordinal, kernel=kernel)
    assert dirty == b"".join(lines)
    assert entries == dirty_twin.ledger_lines(ledger)


@pytest.mark.parametrize("kernel", ["numpy", "compiled"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_both_paths_and_any_jobs_make_it(monkeypatch, kernel, jobs) -> None:
    """Copies go over the ends of pieces, and nothing depends on how large those are."""
    values = {
        **BASE, "number_of_companies": 500, "event_rate_per_driver": 2.0, "event_types": NASTY,
        "defects": ALL,
    }  # fmt: skip
    rows = twin.companies(values, AT_US - 3_600_000_000)
    lines, ledger = dirty_twin.delivered(values, rows, AT_US, 1)
    if kernel == "compiled":
        monkeypatch.setattr("fleetsim.generate.kernel.pieces.PIECE_BYTES", 30_000)
    monkeypatch.setattr("fleetsim.generate.events.CHUNK_EVENTS", 100)
    dirty, entries = made(values, rows, 1, kernel=kernel, jobs=jobs)
    assert dirty == b"".join(lines)
    assert entries == dirty_twin.ledger_lines(ledger)
    assert {entry["kind"] for entry in ledger} == set(KINDS)


def test_clean_lines_are_those_without_defects() -> None:
    """What nothing strikes stands byte for byte in the same order."""
    values = {**BASE, "number_of_companies": 300}
    rows = twin.companies(values, AT_US)
    clean = set(made(values, rows, 3)[0].splitlines())
    dirty, ledger = made({**values, "defects": ALL}, rows, 3)
    touched = {json.loads(entry)["line"] for entry in ledger.splitlines()}
    kept = [line for n, line in enumerate(dirty.splitlines(), 1) if n not in touched]
    assert set(kept) <= clean
    in_order = [line for line in made(values, rows, 3)[0].splitlines() if line in set(kept)]
    assert kept == in_order
