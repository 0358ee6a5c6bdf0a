"""A zoo of pipelines: a strict ingestion in plain Python, and the same with one known fault.

    python zoo.py FAULT

Each fault is one branch. It imports nothing of fleetsim, as every pipeline.
"""

import json
import os
import re
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

FIELDS = ("event_id", "driver_id", "company_id", "truck_id", "event_type", "timestamp")
TYPES = ("start driving", "stopped driving", "delivered")
LATE_BATCHES = 1
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

FAULT = sys.argv[1] if len(sys.argv) > 1 else "honest"
LANDING, OUTPUT = Path(os.environ["FLEETSIM_LANDING"]), Path(os.environ["FLEETSIM_OUTPUT"])
ACCEPTED, REJECTED = OUTPUT / "accepted", OUTPUT / "rejected"


class Refused(Exception):
    """Why a line is refused."""


def once(pairs):
    """Return an object whose keys stand once each."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Refused("a key twice")
    return made


def read(line, companies, earliest, end):
    """Return the six values of a line."""
    try:
        row = json.loads(line.decode(), object_pairs_hook=once)
    except (UnicodeDecodeError, ValueError) as error:
        raise Refused(f"no JSON: {error}") from None
    if not isinstance(row, dict):
        raise Refused("no object")
    if FAULT == "rejects_extra_fields" and set(row) - set(FIELDS):
        raise Refused("another field")
    for name in FIELDS:
        if FAULT == "takes_null_for_text" and name in row and row[name] is None:
            row[name] = "None" if name != "timestamp" else f"{end:%Y-%m-%dT%H:%M:%S.%f}Z"
            return row
        if not isinstance(row.get(name), str):
            raise Refused(f"{name} is missing or no text")
    if not UUID.fullmatch(row["event_id"]):
        raise Refused("no event_id")
    if row["company_id"] not in companies or not row["driver_id"].startswith(
        f"DRV-{row['company_id']}-"
    ):
        raise Refused("unknown company")
    if FAULT == "trims_and_lowers":
        row["event_type"] = row["event_type"].strip().lower()
    if row["event_type"] not in TYPES:
        raise Refused("unknown event_type")
    if not TIME.fullmatch(row["timestamp"]):
        raise Refused("no timestamp")
    try:
        moment = datetime.fromisoformat(row["timestamp"])
    except ValueError:
        raise Refused("no timestamp") from None
    late = moment > end if FAULT == "accepts_the_end" else moment >= end
    if moment < earliest or late:
        raise Refused("outside of the interval")
    return row


def altered(row):
    """Return a good row as a faulty pipeline writes it."""
    if FAULT == "cuts_microseconds":
        return row | {"timestamp": row["timestamp"][:-8] + "Z"}
    if FAULT == "shifts_a_zone":
        return row | {"timestamp": row["timestamp"][:-1] + "+01:00"}
    if FAULT == "lowers_a_truck":
        return row | {"truck_id": row["truck_id"].lower()}
    if FAULT == "swaps_two_columns":
        return row | {"driver_id": row["truck_id"], "truck_id": row["driver_id"]}
    return row


def is_late(line, error, start, end):
    """Return whether a line comes from the batch before."""
    if not str(error).startswith("outside"):
        return False
    return start - (end - start) <= datetime.fromisoformat(json.loads(line)["timestamp"]) < start


def ingest(batch, companies):
    """Return the accepted rows and the refused lines of a batch."""
    meta = json.loads((batch / "batch_meta.json").read_text())
    start, end = (datetime.fromisoformat(meta[key]) for key in ("interval_start", "interval_end"))
    late = 0 if FAULT in ("loses_late", "drops_late_in_silence") else LATE_BATCHES
    earliest = start - late * (end - start)
    good, bad, seen, lines = [], [], {}, (batch / "events.jsonl").read_bytes().splitlines()
    minutes = set()
    if FAULT == "drops_the_last_line":
        lines = lines[:-1]
    for line in lines:
        raw = line.decode(errors="replace")
        try:
            row = read(line, companies, earliest, end)
        except Refused as error:
            if FAULT == "stops_at_the_first_bad_line":
                break
            if FAULT == "fails_and_ends_with_0" and "utf-8" in str(error):
                return [], []
            if FAULT == "drops_refused_lines":
                continue
            if FAULT == "drops_late_in_silence" and is_late(line, error, start, end):
                continue
            bad.append((raw, str(error)))
            if FAULT == "reports_a_refusal_twice":
                bad.append((raw, str(error)))
            continue
        first = seen.setdefault(row["event_id"], (line, len(good)))
        if first[0] is not line:
            if line == first[0]:
                if FAULT == "keeps_duplicates":
                    good.append(row)
                continue
            if FAULT == "keeps_the_second":
                good[first[1]] = row
                bad.append((first[0].decode(), "replaced"))
                continue
            if FAULT == "accepts_both":
                good.append(row)
                continue
            bad.append((raw, "another record has this event_id"))
            continue
        minute = (row["driver_id"], row["timestamp"][:16])
        if FAULT == "deduplicates_by_driver_and_minute" and minute in minutes:
            continue
        minutes.add(minute)
        good.append(row)
    if FAULT == "invents_a_row":
        good.append(good[0] | {"event_id": "00000000-0000-4000-8000-000000000000"})
    return [altered(row) for row in good], bad


def write(path, lines):
    """Write a file whole or not at all; a faulty pipeline writes it line by line."""
    path.parent.mkdir(exist_ok=True)
    if FAULT == "is_not_atomic":
        with open(path, "w") as file:
            for line in lines:
                file.write(line + "\n")
                file.flush()
                time.sleep(0.001)
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(line + "\n" for line in lines))
    os.replace(partial, path)


def main():
    """Ingest all whole batches."""
    companies = {
        json.loads(line)["company_id"]
        for line in (LANDING / "companies.jsonl").read_bytes().splitlines()
    }
    latest = max((path.stem for path in ACCEPTED.glob("*.jsonl")), default="")
    for batch in sorted((LANDING / "events").iterdir()):
        if FAULT == "reads_half_a_file":
            if (batch / "events.jsonl").is_file() and not (batch / "batch_meta.json").is_file():
                half_read(batch, companies)
                continue
        elif not (batch / "batch_meta.json").is_file():
            continue
        name = json.loads((batch / "batch_meta.json").read_text())["batch_id"]
        if FAULT == "names_by_the_folder":
            name = batch.name
        target, refused = ACCEPTED / f"{name}.jsonl", REJECTED / f"{name}.jsonl"
        if FAULT == "depends_on_order" and batch.name[:16] < latest[:16]:
            continue
        if FAULT == "appends_on_repeat":
            name = f"{name}-{(batch / 'batch_meta.json').stat().st_ino}"
            target, refused = ACCEPTED / f"{name}.jsonl", REJECTED / f"{name}.jsonl"
        if target.exists() and refused.exists():
            continue
        if FAULT == "is_not_atomic" and target.exists():
            continue
        good, bad = ingest(batch, companies)
        rows = [json.dumps({name: row[name] for name in FIELDS}) for row in good]
        write(refused, [json.dumps({"raw": raw, "reason": reason}) for raw, reason in bad])
        write(target, rows)
    if FAULT == "ends_with_1":
        sys.exit(1)


def half_read(batch, companies):
    """Take what is there for the whole batch."""
    start = datetime.strptime(batch.name, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    times = {"interval_start": start, "interval_end": start + timedelta(minutes=15)}
    meta = {"batch_id": batch.name} | {key: f"{time:%FT%TZ}" for key, time in times.items()}
    target = ACCEPTED / f"{batch.name}.jsonl"
    if target.exists():
        return
    (OUTPUT / "scratch").mkdir(exist_ok=True)
    copy = OUTPUT / "scratch" / batch.name
    copy.mkdir(exist_ok=True)
    (copy / "events.jsonl").write_bytes((batch / "events.jsonl").read_bytes())
    (copy / "batch_meta.json").write_text(json.dumps(meta))
    good, bad = ingest(copy, companies)
    write(REJECTED / f"{batch.name}.jsonl", [json.dumps({"raw": r, "reason": w}) for r, w in bad])
    write(target, [json.dumps({name: row[name] for name in FIELDS}) for row in good])


if __name__ == "__main__":
    main()
