"""Injected defects by hand: a small twin of the injection, for the tests of what reads ledgers.

Clean batches on the disk are made dirty line by line, their records follow, and a ledger is
written beside them. Which record has which defect is drawn by NumPy, one draw a record.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.base.clock import format_time, parse_time
from fleetsim.generate.config import Config
from fleetsim.generate.defects import DEFECT_KINDS

OTHER_ID = "00000000-0000-4000-8000-000000000000"


@dataclass
class Line:
    """A delivered line without its line feed, and its entry in the ledger, if any."""

    raw: bytes
    entry: dict[str, Any] | None = None


@dataclass
class Late:
    """Late records on their way: by ordinal of the batch that brings them."""

    lines: dict[int, list[Line]] = field(default_factory=dict)


def _compact(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def _strike(kind: str, raw: bytes, name: str, config: Config, start: int) -> tuple[bytes, Any]:
    """Return a line with a defect, and what was injected."""
    record = json.loads(raw)
    old = record.get(name)
    other: dict[str, Callable[[], Any]] = {
        "null_value": lambda: None,
        "wrong_type": lambda: [old],
        "malformed_timestamp": lambda: old.replace("-", "/"),
        "naive_timestamp": lambda: old.removesuffix("Z"),
        "invalid_enum": lambda: old + " ",
        "out_of_interval": lambda: format_time(start + config.interval_us),
    }
    if kind in other:
        record[name] = other[kind]()
        return _compact(record), record[name]
    if kind == "missing_field":
        del record[name]
        return _compact(record), None
    if kind == "orphan_reference":
        return raw.replace(old.encode(), OTHER_ID.encode()), OTHER_ID
    if kind == "extra_field":
        return raw[:-1] + b',"speed_kmh":50}', 50
    if kind == "duplicate_key":
        return raw[:-1] + f',"{name}":"{OTHER_ID}"}}'.encode(), OTHER_ID
    if kind == "corrupt_record":
        return raw[: len(raw) // 2], "cut"
    if kind == "invalid_utf8":
        return raw.replace(str(old).encode(), str(old).encode() + b"\xff", 1), None
    raise AssertionError(kind)


def _entry(kind: str, raw: bytes, record: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    entry = dict.fromkeys(
        (
            "batch_id",
            "line",
            "kind",
            "event_id",
            "field",
            "original",
            "injected",
            "copy_of",
            "from_batch",
        )
    )
    return entry | {
        "kind": kind,
        "event_id": record["event_id"],
        "sha256": hashlib.sha256(raw).hexdigest(),
        "expect": DEFECT_KINDS[kind].expect,
        **more,
    }


def _dirty(
    clean: list[bytes], kinds: list[str], config: Config, start: int, late: list[Line], batch: str
) -> list[Line]:
    """Return the delivered lines of a file whose records have these kinds of defects."""
    choose = random.Random(start)  # noqa: S311
    lines: list[Line] = []
    copies: dict[int, list[Line]] = {}
    originals: dict[int, Line] = {}
    for i, (raw, kind) in enumerate(zip(clean, kinds, strict=True)):
        record = json.loads(raw)
        made = Line(raw)
        if kind == "late":
            late.append(Line(raw, _entry(kind, raw, record, from_batch=batch)))
        elif kind in ("duplicate", "conflicting_duplicate"):
            again, name = raw, None
            if kind == "conflicting_duplicate":
                name = "timestamp"
                us = parse_time(record[name])
                other = start + (us - start + 1) % config.interval_us
                again = _compact(record | {name: format_time(other)})
            copy = Line(again, _entry(kind, again, record, field=name))
            copies.setdefault(min(i + choose.randint(1, 20), len(clean) - 1), []).append(copy)
            originals[id(copy)] = made
        elif kind:
            fields = DEFECT_KINDS[kind].fields
            name = choose.choice(fields) if fields else ""
            struck, injected = _strike(kind, raw, name, config, start)
            original = record.get(name) if name else None
            made = Line(
                struck,
                _entry(
                    kind, struck, record, field=name or None, original=original, injected=injected
                ),
            )
        if kind != "late":
            lines.append(made)
        lines += copies.pop(i, [])
    places = {id(line): number for number, line in enumerate(lines, 1)}
    for line in lines:
        if id(line) in originals and line.entry:
            line.entry["copy_of"] = places[id(originals[id(line)])]
    return lines


def draw_kinds(rates: Mapping[str, float], size: int, rng: np.random.Generator) -> list[str]:
    """Return the kind of each of some records; empty for none."""
    names = [*rates, ""]
    chances = [*rates.values(), max(0.0, 1 - sum(rates.values()))]
    return [names[i] for i in rng.choice(len(names), size=size, p=chances)]


def _write(path: Path, lines: list[bytes]) -> str | None:
    """Write the lines in the format of a file; return the hash of the content, if it has one."""
    content = b"".join(line + b"\n" for line in lines)
    if path.name.endswith(".parquet"):
        rows = [json.loads(line) for line in lines]
        schema = pq.read_schema(path)
        for row in rows:
            row["timestamp"] = parse_time(row["timestamp"]) if row["timestamp"] else None
        columns = {}
        for name in schema.names:
            kind = pa.int64() if name == "timestamp" else pa.string()
            columns[name] = pa.array([row[name] for row in rows], kind)
        columns["timestamp"] = columns["timestamp"].cast(schema.field("timestamp").type)
        pq.write_table(pa.table(columns), path)
        return None
    packed = content
    if path.name.endswith(".gz"):
        packed = gzip.compress(content)
    elif path.name.endswith(".zst"):
        packed = pa.Codec("zstd").compress(content, asbytes=True)
    path.write_bytes(packed)
    return hashlib.sha256(content).hexdigest()


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of an events file of any format, without their line feeds."""
    if path.name.endswith(".parquet"):
        from fleetsim.batch.rows import read_rows

        with read_rows(path) as stream:
            return stream.read().splitlines()
    content = path.read_bytes()
    if path.name.endswith(".gz"):
        content = gzip.decompress(content)
    elif path.name.endswith(".zst"):
        content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    return content.splitlines()


def make_dirty(
    config: Config,
    batches: list[Path],
    ledger: Path,
    *,
    seed: int = 0,
    rates: Mapping[str, float] | None = None,
) -> int:
    """Inject defects into clean batches, which follow one another; return how many there are.

    Parameters
    ----------
    config : Config
        With `defects`, which the records then name.
    batches : list of Path
        In the order of their intervals.
    ledger : Path
        The folder of the ledgers, which is made.
    seed : int
        Of the draws.
    rates : mapping, optional
        Those that are really drawn, where they are not the configuration's.
    """
    drawn = {k: d.rate for k, d in config.defects.items()} if rates is None else rates
    rng, late = np.random.default_rng(seed), Late()
    total = 0
    for number, batch in enumerate(batches):
        meta = json.loads((batch / "batch_meta.json").read_bytes())
        names = [part["name"] for part in meta.get("parts") or ()]
        files = names or [f"events.{meta['format']}"]
        later = number + config.defects["late"].batches if "late" in config.defects else number
        coming: list[Line] = []
        brought = late.lines.pop(number, [])
        delivered = []
        for name in files:
            clean = read_lines(batch / name)
            kinds = draw_kinds(drawn, len(clean), rng)
            start = parse_time(meta["interval_start"])
            lines = _dirty(clean, kinds, config, start, coming, meta["batch_id"])
            lines += brought
            brought = []
            delivered.append(lines)
            total += write_file(batch, name, lines, ledger, meta, bool(names))
        late.lines[later] = coming
        finish_record(batch, meta, config, sum(map(len, delivered)))
    return total


def write_file(
    batch: Path, name: str, lines: list[Line], ledger: Path, meta: dict[str, Any], part: bool
) -> int:
    """Write a file and its ledger, and note both in the record; return how many entries it has."""
    content = _write(batch / name, [line.raw for line in lines])
    entries = []
    for number, line in enumerate(lines, 1):
        if line.entry is not None:
            entry = line.entry | {"batch_id": meta["batch_id"], "line": number}
            entries.append(entry | ({"part": name} if part else {}))
    path = ledger / f"{meta['batch_id']}.jsonl"
    if part:
        path = ledger / meta["batch_id"] / f"{name.partition('.')[0]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(_compact(entry) + b"\n" for entry in entries))
    packed = (batch / name).read_bytes()
    facts = {
        "bytes": len(packed),
        "sha256": hashlib.sha256(packed).hexdigest(),
        "content_sha256": content,
    }
    own = hashlib.sha256(path.read_bytes()).hexdigest()
    if part:
        row = next(row for row in meta["parts"] if row["name"] == name)
        row.update(facts, rows=len(lines), ledger_sha256=own)
    else:
        meta.update(facts)
    meta["defects"] = {"rates": {}, "ledger_sha256": None if part else own}
    return len(entries)


def finish_record(batch: Path, meta: dict[str, Any], config: Config, lines: int) -> None:
    """Write the record of a batch whose files were written."""
    meta["event_count"] = lines
    if meta.get("parts"):
        meta["bytes"] = sum(row["bytes"] for row in meta["parts"])
    meta["config"] = config.as_dict() | {"seed": meta["seed"]}
    meta["defects"]["rates"] = {kind: defect.rate for kind, defect in config.defects.items()}
    (batch / "batch_meta.json").write_text(json.dumps(meta, indent=2) + "\n")
