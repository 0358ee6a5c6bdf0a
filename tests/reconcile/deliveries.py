"""Dirty deliveries and made-up pipelines for the tests of the reconciliation."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from reconcile_twin import FIELDS, Line, Row, values_of

from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.reconcile import Arrival, Queries, Reconciliation, reconcile

CONFIG: dict[str, Any] = {
    "seed": 7,
    "number_of_companies": 4,
    "drivers_per_company": 20,
    "event_rate_per_driver": 5.0,
    "company_onboarding_interval": "PT1H",
    "defects": dict.fromkeys(DEFECT_KINDS, 0.02),
}
AT = "2025-11-08T12:00:00Z"
ACCEPTED_KINDS = ("extra_field", "late")


def make_data(folder: Path, *options: str, **changes: Any) -> Path:
    """Make three batches with defects of all kinds; return the data set."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    common = ["--config", "config.json"]
    batch = ["--companies", "companies.jsonl", "--output", "events", "--interval-start", AT]
    for words in (
        ["companies", *common, "--output", "companies.jsonl", "--at", AT],
        ["events", *common, *batch, "--batches", "3", *options],
    ):
        command = [sys.executable, "-m", "fleetsim", *words]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@dataclass
class Delivered:
    """Deliveries as the reconciliation takes them, and as the twin does."""

    data: Path
    arrivals: list[Arrival] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def add(self, ordinal: int, lines: int | None = None, fragment: int = 0) -> None:
        """Deliver a batch, whole or cut behind some lines and some bytes of the next."""
        batch = sorted((self.data / "events").iterdir())[ordinal]
        number = len(self.arrivals) + 1
        ledger = self.data / "ledger" / f"{batch.name}.jsonl"
        entries = {}
        if ledger.exists():
            made = map(json.loads, ledger.read_bytes().splitlines())
            entries = {entry["line"]: entry for entry in made}
        raws = (batch / "events.jsonl").read_bytes().split(b"\n")[:-1]
        piece = raws[lines][:fragment] if lines is not None and fragment else None
        for place, raw in enumerate(raws[:lines], 1):
            self.lines.append(Line(number, place, raw, entries.get(place)))
        if piece is not None and lines is not None:
            entry = {"kind": "fragment", "expect": "either", "event_id": None}
            self.lines.append(Line(number, lines + 1, piece, entry))
        self.arrivals.append(
            Arrival(
                delivery=number,
                batch_id=batch.name,
                events=batch,
                ledger=ledger if entries else None,
                lines=lines,
                fragment=piece,
            )
        )


def kind_of(line: Line) -> str:
    """Return the kind of a line's defect; empty for none."""
    return line.entry["kind"] if line.entry else ""


def is_good(line: Line) -> bool:
    """Return whether a right ingestion accepts the record of a line."""
    return kind_of(line) in ("", "duplicate", *ACCEPTED_KINDS)


def honest(lines: Iterable[Line]) -> tuple[list[Row], list[tuple[bytes | str, str]]]:
    """Return what a right ingestion puts out: each record once, each bad line refused."""
    rows: dict[bytes, Row] = {}
    refusals: list[tuple[bytes | str, str]] = []
    for line in lines:
        if is_good(line):
            values, _ = values_of(line.raw)
            assert values is not None
            rows[line.raw] = values
        else:
            refusals.append((line.raw, kind_of(line)))
    return list(rows.values()), refusals


def _altered(row: Row, choose: random.Random) -> Row:
    values = list(row)
    at = choose.randrange(6)
    values[at] = choose.choice([None, "", 12345 if at == 5 else "altered"])
    if at == 5 and values[at] == "":
        values[at] = 0
    return tuple(values)


def broken(
    lines: list[Line], choose: random.Random
) -> tuple[list[Row], list[tuple[bytes | str, str]]]:
    """Return what a pipeline with random faults puts out."""
    rows: list[Row] = []
    refusals: list[tuple[bytes | str, str]] = []
    accepts, rejects = choose.choice([(0.9, 0.05), (0.5, 0.5), (0.2, 0.9)])
    for line in lines:
        values, _ = values_of(line.raw)
        if values is None and line.entry and line.entry["event_id"]:
            values = (line.entry["event_id"], "d", "c", "t", "e", 5)
        likely = accepts if is_good(line) else 1 - accepts
        while values is not None and choose.random() < likely:
            rows.append(values if choose.random() < 0.8 else _altered(values, choose))
            likely /= 4
        likely = rejects if is_good(line) else 0.9
        while choose.random() < likely:
            end = choose.choice([b"", b"\n", b"\r\n"])
            raw: bytes | str = line.raw + end
            refusals.append((raw, choose.choice(["bad", "worse"])))
            likely /= 6
    for number in range(choose.randrange(4)):
        rows.append((choose.choice([None, "", f"new-{number}"]), "a", "b", "c", "d", number))
        refusals.append((b"never delivered %d" % number, "strange"))
    choose.shuffle(rows)
    return rows, refusals


def table_of(rows: list[Row]) -> pa.Table:
    """Return accepted rows as a table with instants."""
    columns = {name: pa.array([row[i] for row in rows], pa.string())
               for i, name in enumerate(FIELDS[:5])}  # fmt: skip
    times = pa.array([row[5] for row in rows], pa.timestamp("us", "UTC"))
    return pa.table({**columns, "timestamp": times})


def put_accepted(output: Path, rows: list[Row], name: str = "part.parquet") -> None:
    """Write accepted rows where the default query looks."""
    (output / "accepted").mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(rows), output / "accepted" / name)


def put_rejected_bytes(output: Path, refusals: list[tuple[bytes | str, str]]) -> Queries:
    """Write refused lines as bytes to Parquet; return the queries for it."""
    (output / "rejected").mkdir(parents=True, exist_ok=True)
    raws = [raw.encode() if isinstance(raw, str) else raw for raw, _ in refusals]
    reasons = pa.array([reason for _, reason in refusals], pa.string())
    table = pa.table({"raw": pa.array(raws, pa.binary()), "reason": reasons})
    pq.write_table(table, output / "rejected" / "all.parquet")
    query = "SELECT * FROM read_parquet('{output}/rejected/*.parquet')"
    return Queries(rejected=query)


def put_rejected_texts(
    output: Path, refusals: list[tuple[bytes | str, str]]
) -> list[tuple[bytes | str, str]]:
    """Write refused lines where the default query looks; return them as the texts they became."""
    (output / "rejected").mkdir(parents=True, exist_ok=True)
    texts: list[tuple[bytes | str, str]] = []
    with (output / "rejected" / "all.jsonl").open("w") as file:
        for raw, reason in refusals:
            text = raw if isinstance(raw, str) else raw.decode(errors="replace")
            texts.append((text, reason))
            file.write(json.dumps({"raw": text, "reason": reason}) + "\n")
    return texts


def run(given: Delivered, output: Path, queries: Queries | None = None) -> Reconciliation:
    """Reconcile, with the outcomes beside the output."""
    return run_arrivals(given.arrivals, output, queries)


def run_arrivals(
    arrivals: list[Arrival], output: Path, queries: Queries | None = None
) -> Reconciliation:
    """Reconcile arrivals, with the outcomes beside the output."""
    return reconcile(
        arrivals,
        Queries() if queries is None else queries,
        output,
        outcome=output.parent / "outcome.parquet",
        keep_accepted=output.parent / "kept.parquet",
    )
