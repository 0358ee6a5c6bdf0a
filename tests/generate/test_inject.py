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
from support import examples

from fleetsim.generate.config import make_config
from fleetsim.generate.fleet import Fleet
from fleetsim.generate.kernel import Kernel
from fleetsim.generate.patches import malformed_times
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


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
        monkeypatch.setattr("fleetsim.generate.kernel.dirty._STRIKES", 50)
    monkeypatch.setattr("fleetsim.generate.events.CHUNK_EVENTS", 100)
    dirty, entries = made(values, rows, 1, kernel=kernel, jobs=jobs)
    assert dirty == b"".join(lines)
    assert entries == dirty_twin.ledger_lines(ledger)
    assert {entry["kind"] for entry in ledger} == set(KINDS)


def test_hashes_need_no_functions_of_c(monkeypatch) -> None:
    """Where those behind hashlib are hidden, the ledger has the same hashes."""
    values = {**BASE, "number_of_companies": 60, "defects": ALL}
    rows = twin.companies(values, AT_US)
    with_them = made(values, rows, 1, kernel="compiled")
    monkeypatch.setattr("fleetsim.generate.kernel.dirty._functions_of_openssl", lambda: None)
    assert made(values, rows, 1, kernel="compiled") == with_them
    assert with_them == made(values, rows, 1)


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


INSTANTS = [
    "2025-11-08T23:50:00.000000Z",
    "2024-02-29T00:00:00.000001Z",
    "2025-01-01T09:05:59.999999Z",
    "0001-01-01T00:00:00.000000Z",
    "9999-12-31T23:59:59.999999Z",
]


@pytest.mark.parametrize("variant", range(10))
def test_no_parser_takes_a_malformed_timestamp(variant) -> None:
    """Neither Python nor DuckDB reads one as an instant; the original both do.

    The eighth, DD/MM/YYYY, is one that lenient readers (dateutil, pandas with ``dayfirst``) take.
    """
    import duckdb

    for instant in INSTANTS:
        malformed = malformed_times(instant.encode())
        assert [text.decode() for text in malformed] == dirty_twin.malformed(instant)
        text = malformed[variant].decode()
        twin.datetime.fromisoformat(instant)
        with pytest.raises(ValueError, match=r".*"):
            twin.datetime.fromisoformat(text)
        for kind in ("TIMESTAMP", "TIMESTAMPTZ"):
            query = f"SELECT TRY_CAST(? AS {kind})"
            assert duckdb.execute(query, [instant]).fetchall() != [(None,)]
            assert duckdb.execute(query, [text]).fetchall() == [(None,)], (kind, text)
    assert len(malformed) == 10


def test_the_undefined_name_is_one_that_nobody_configured() -> None:
    """It gets a number where it is taken, and so do the variants that would be configured names."""
    types = {
        "undefined event": 0.25,
        "undefined event 2": 0.25,
        "go": 0.25,
        "GO": 0.125,
        "go ": 0.125,
    }
    values = {**BASE, "number_of_companies": 200, "event_types": types,
              "defects": {"invalid_enum": 0.5, "conflicting_duplicate": 0.5}}  # fmt: skip
    rows = twin.companies(values, AT_US)
    lines, ledger = dirty_twin.delivered(values, rows, AT_US)
    dirty, entries = made(values, rows, 0)
    assert dirty == b"".join(lines)
    assert entries == dirty_twin.ledger_lines(ledger)
    injected = {e["injected"] for e in ledger if e["kind"] == "invalid_enum"}
    assert "undefined event 3" in injected
    assert not injected & set(types)


@pytest.mark.parametrize("start", ["0001-01-01T00:00:00Z", "9999-12-31T23:44:59.999998Z"])
def test_times_stay_within_the_years_that_have_a_name(start) -> None:
    """What would lie outside of the years 1 to 9999 becomes the end of the interval."""
    at_us = (twin.datetime.fromisoformat(start) - twin.EPOCH) // twin.timedelta(microseconds=1)
    values = {**BASE, "number_of_companies": 50, "defects": {"out_of_interval": 0.5, "late": 0.3}}
    rows = twin.companies(values, at_us)
    lines, ledger = dirty_twin.delivered(values, rows, at_us, 0)
    dirty, entries = made(values, rows, 0, at_us=at_us)
    assert dirty == b"".join(lines)
    assert entries == dirty_twin.ledger_lines(ledger)


def test_late_records_come_so_many_batches_later() -> None:
    """Each is missing from its own batch, and stands in one later batch with its own time."""
    values = {**BASE, "number_of_companies": 300,
              "defects": {"late": {"rate": 0.1, "batches": 2}}}  # fmt: skip
    rows = twin.companies(values, AT_US)
    length = 900_000_000
    clean = {key: value for key, value in values.items() if key != "defects"}
    missing = []
    for ordinal in range(4):
        at_us = AT_US + ordinal * length
        whole = made(clean, rows, ordinal, at_us=at_us)[0].splitlines()
        dirty = made(values, rows, ordinal, at_us=at_us)[0].splitlines()
        own = [line for line in dirty if line in set(whole)]
        late = [line for line in dirty if line not in set(whole)]
        missing.append([line for line in whole if line not in set(own)])
        assert sorted(late) == sorted(missing[ordinal - 2] if ordinal >= 2 else [])
    assert all(missing)
