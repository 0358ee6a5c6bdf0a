"""A strict ingestion by DuckDB: idempotent, safe against kills, and it waits for whole batches.

It reads every whole batch of the landing folder that it has not done yet, and writes two files for
it: the good records as Parquet, the refused lines as JSON Lines with the reason. The output of a
batch is named by the batch, not by the folder that brought it, and each file appears by renaming:
so a batch that comes again, or a start after a kill, changes nothing.
"""

import json
import os
import sys
from datetime import datetime
from pathlib import Path

import duckdb

FIELDS = ("event_id", "driver_id", "company_id", "truck_id", "event_type", "timestamp")
TYPES = ("start driving", "stopped driving", "delivered")
LATE_BATCHES = 1  # a record may come so many batches after its own
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"

# The first rule that a line breaks is its reason. NULL is a broken rule too.
RULES = f"""
    CASE
        WHEN NOT readable THEN 'not UTF-8'
        WHEN NOT json_valid(raw) OR json_type(raw) <> 'OBJECT' THEN 'no JSON object'
        WHEN len(list_distinct(json_keys(raw))) < len(json_keys(raw)) THEN 'a key twice'
        WHEN {" OR ".join(f"coalesce(json_type(raw, '$.{f}'), '') <> 'VARCHAR'" for f in FIELDS)}
            THEN 'a field is missing or no text'
        WHEN NOT regexp_full_match(event_id, '{UUID}') THEN 'no event_id'
        WHEN NOT coalesce(company_id IN (SELECT id FROM companies), false)
            OR NOT starts_with(driver_id, 'DRV-' || company_id || '-') THEN 'unknown company'
        WHEN NOT regexp_full_match(truck_id, 'TRK-[0-9]+') THEN 'no truck_id'
        WHEN NOT event_type IN {TYPES} THEN 'unknown event_type'
        WHEN NOT regexp_full_match(time, '{TIME}') OR moment IS NULL THEN 'no timestamp'
        WHEN moment < $earliest::TIMESTAMPTZ OR moment >= $end::TIMESTAMPTZ
            THEN 'outside of the interval'
    END
"""


def ingest(base: duckdb.DuckDBPyConnection, batch: Path, output: Path) -> None:
    """Write the accepted and the rejected lines of one whole batch."""
    meta = json.loads((batch / "batch_meta.json").read_text())
    accepted = output / "accepted" / f"{meta['batch_id']}.parquet"
    rejected = output / "rejected" / f"{meta['batch_id']}.jsonl"
    if accepted.exists() and rejected.exists():
        return
    start, end = (datetime.fromisoformat(meta[key]) for key in ("interval_start", "interval_end"))
    earliest = start - LATE_BATCHES * (end - start)
    lines = []
    for number, line in enumerate((batch / "events.jsonl").read_bytes().splitlines(), start=1):
        text = line.decode("utf-8", errors="replace")
        lines.append((number, text, text.encode() == line))
    read_lines(base, lines)
    base.execute(
        f"CREATE OR REPLACE TABLE judged AS SELECT *, {RULES} AS reason FROM parsed",
        {"earliest": earliest.isoformat(), "end": end.isoformat()},
    )
    # Of good lines with one event_id the first counts: the same again is dropped, another refused.
    base.execute("""
        CREATE OR REPLACE TABLE done AS
        SELECT *, first_value(raw) OVER same AS first_raw, row_number() OVER same AS place
        FROM judged WINDOW same AS (PARTITION BY event_id, reason IS NULL ORDER BY number)
    """)
    good = "reason IS NULL AND place = 1"
    other = "reason IS NULL AND place > 1 AND raw <> first_raw"
    columns = ", ".join(FIELDS[:-1])
    write(
        base,
        f"SELECT {columns}, moment AS timestamp FROM done WHERE {good} ORDER BY number",
        accepted,
        "PARQUET",
    )
    write(
        base,
        f"SELECT raw, coalesce(reason, 'another record has this event_id') AS reason FROM done "
        f"WHERE reason IS NOT NULL OR ({other}) ORDER BY number",
        rejected,
        "JSON",
    )


def read_lines(base: duckdb.DuckDBPyConnection, lines: list[tuple[int, str, bool]]) -> None:
    """Make the table `parsed` of the lines, with the fields of those that are JSON."""
    import pandas as pd

    raw = pd.DataFrame(lines, columns=["number", "raw", "readable"])
    base.register("lines", raw)
    fields = ", ".join(
        f"CASE WHEN json_valid(raw) THEN raw ->> '$.{field}' END AS "
        f"{'time' if field == 'timestamp' else field}"
        for field in FIELDS
    )
    base.execute(
        f"CREATE OR REPLACE TABLE parsed AS SELECT *, try_cast(time AS TIMESTAMPTZ) AS moment "
        f"FROM (SELECT *, {fields} FROM lines)"
    )
    base.unregister("lines")


def write(base: duckdb.DuckDBPyConnection, query: str, path: Path, form: str) -> None:
    """Write the rows of a query to a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    base.execute(f"COPY ({query}) TO '{partial}' (FORMAT {form})")
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def main() -> None:
    """Ingest all whole batches of the landing folder."""
    landing, output = Path(os.environ["FLEETSIM_LANDING"]), Path(os.environ["FLEETSIM_OUTPUT"])
    base = duckdb.connect()
    base.execute("SET TimeZone = 'UTC'")
    base.execute(
        f"CREATE TABLE companies AS SELECT company_id AS id FROM "
        f"read_json('{landing / 'companies.jsonl'}', format = 'newline_delimited')"
    )
    for batch in sorted((landing / "events").iterdir()):
        if (batch / "batch_meta.json").is_file():  # or else it is not whole yet
            ingest(base, batch, output)


if __name__ == "__main__":
    sys.exit(main())
