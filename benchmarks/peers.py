"""The same work by what one would use instead of the kit, each as its users would write it.

    python benchmarks/peers.py NAME COMPANIES OUTPUT

COMPANIES is a companies file, OUTPUT the file of JSON Lines to write: 100 drivers a company, a
Poisson count of rate 10 for each, types by weight, uniform times in the interval, in the order of
company, driver and time, with fsync at the end. Nothing of the kit is imported here, and of the
libraries only what a peer needs.
"""

# ruff: noqa: S311, S608 (no secrets are drawn here, and nobody else writes the SQL)

from __future__ import annotations

import json
import math
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

RATE, DRIVERS = 10.0, 100
TYPES = {"start driving": 0.40, "stopped driving": 0.35, "delivered": 0.25}
START = datetime(2025, 11, 8, 12, tzinfo=UTC)
LENGTH_US = 900_000_000
COMPANIES_AT_ONCE = 100  # of the peers that make whole columns: what stays in the caches is faster

Event = dict[str, Any]


def with_polars(companies: str, output: str) -> None:
    """Draw with NumPy, make text of it by expressions of polars, many rows at once."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng()
    types, weights = pl.Series(list(TYPES)), list(TYPES.values())
    four_digits = pl.Series([f"{i:04x}" for i in range(1 << 16)])
    fleet = pl.read_ndjson(companies).with_row_index("position").filter("active")
    start = np.datetime64(START.replace(tzinfo=None), "us")
    driver = pl.int_range(DRIVERS, dtype=pl.Int64, eager=True).alias("number").to_frame()
    drivers = driver.select("number", text=pl.col("number").cast(pl.String).str.zfill(3))
    with open(output, "wb") as file:
        for part in fleet.select("position", "company_id").iter_slices(COMPANIES_AT_ONCE):
            roster = part.join(drivers, how="cross", maintain_order="left_right").select(
                "company_id",
                driver_id=pl.format("DRV-{}-{}", "company_id", "text"),
                truck_id=pl.format("TRK-{}", pl.col("position") * DRIVERS + pl.col("number") + 1),
            )
            counts = rng.poisson(RATE, len(roster))
            n = int(counts.sum())
            key = np.repeat(np.arange(len(roster)), counts) * LENGTH_US
            row, offset = np.divmod(np.sort(key + rng.integers(0, LENGTH_US, n)), LENGTH_US)
            words = rng.integers(0, 1 << 16, (8, n), dtype=np.uint16)
            words[3] = words[3] & 0x0FFF | 0x4000
            words[4] = words[4] & 0x3FFF | 0x8000
            a, b, c, d, e, f, g, h = (four_digits.gather(word) for word in words)
            roster[row].select(
                event_id=pl.concat_str(a, b, pl.lit("-"), c, pl.lit("-"), d, pl.lit("-"))
                + pl.concat_str(e, pl.lit("-"), f, g, h),
                driver_id="driver_id",
                company_id="company_id",
                truck_id="truck_id",
                event_type=types.gather(rng.choice(len(types), n, p=weights)),
                timestamp=pl.Series(start + offset).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
            ).write_ndjson(file)
        file.flush()
        os.fsync(file.fileno())


def with_duckdb(companies: str, output: str) -> None:
    """Do it all in one statement of SQL; a Poisson count is how many sums of its law are below."""
    import duckdb

    laws = [math.exp(-RATE) * RATE**k / math.factorial(k) for k in range(80)]
    sums = [math.fsum(laws[: k + 1]) for k in range(80)]
    first, second, third = TYPES
    # Rows need not wait for each other: the order is kept all the same, since one thread reads so
    # small a source, and the check holds it.
    duckdb.execute("SET preserve_insertion_order = false")
    duckdb.execute(
        f"""
        COPY (
            WITH company AS (
                SELECT company_id, active, row_number() OVER () - 1 AS position
                FROM read_ndjson(
                    $companies, columns = {{company_id: 'VARCHAR', active: 'BOOLEAN'}}
                )
            ), driver AS (
                SELECT company_id, position, unnest(range({DRIVERS})) AS number
                FROM company WHERE active
            ), counted AS (
                SELECT *, random() AS u FROM driver
            ), event AS (
                SELECT
                    'DRV-' || company_id || '-' || format('{{:03d}}', number) AS driver_id,
                    company_id,
                    'TRK-' || (position * {DRIVERS} + number + 1) AS truck_id,
                    unnest(list_sort(list_transform(
                        range(len(list_filter($sums, lambda s: s <= u))),
                        lambda k: floor(random() * {LENGTH_US})::BIGINT
                    ))) AS us
                FROM counted
            ), drawn AS (
                SELECT *, random() AS kind FROM event
            )
            SELECT
                uuid()::VARCHAR AS event_id, driver_id, company_id, truck_id,
                CASE
                    WHEN kind < {TYPES[first]} THEN '{first}'
                    WHEN kind < {TYPES[first] + TYPES[second]} THEN '{second}'
                    ELSE '{third}'
                END AS event_type,
                strftime(
                    TIMESTAMP '{START:%Y-%m-%d %H:%M:%S}' + to_microseconds(us),
                    '%Y-%m-%dT%H:%M:%S.%fZ'
                ) AS timestamp
            FROM drawn
        ) TO '{output}' (FORMAT json)
        """,
        {"companies": companies, "sums": sums},
    )
    with open(output, "ab") as file:
        os.fsync(file.fileno())


def with_pandas(companies: str, output: str) -> None:
    """Draw with NumPy, and write data frames of many rows by `to_json`."""
    from uuid import uuid4

    import numpy as np
    import pandas as pd

    rng = np.random.default_rng()
    types, weights = np.array(list(TYPES), object), list(TYPES.values())
    fleet = pd.read_json(companies, lines=True, dtype=False)
    fleet["position"] = np.arange(len(fleet))
    fleet = fleet[fleet["active"]]
    start = pd.Timestamp(START)
    numbers = pd.DataFrame({"number": np.arange(DRIVERS)})
    with open(output, "w") as file:
        for first in range(0, len(fleet), COMPANIES_AT_ONCE):
            part = fleet.iloc[first : first + COMPANIES_AT_ONCE]
            roster = part[["company_id", "position"]].merge(numbers, how="cross")
            number = roster["number"].astype(str).str.zfill(3)
            roster["driver_id"] = "DRV-" + roster["company_id"] + "-" + number
            truck = roster["position"] * DRIVERS + roster["number"] + 1
            roster["truck_id"] = "TRK-" + truck.astype(str)
            counts = rng.poisson(RATE, len(roster))
            n = int(counts.sum())
            key = np.repeat(np.arange(len(roster)), counts) * LENGTH_US
            row, offset = np.divmod(np.sort(key + rng.integers(0, LENGTH_US, n)), LENGTH_US)
            events = roster.take(row)[["driver_id", "company_id", "truck_id"]]
            events.insert(0, "event_id", [str(uuid4()) for _ in range(n)])
            events["event_type"] = rng.choice(types, n, p=weights)
            events["timestamp"] = start + pd.to_timedelta(offset, unit="us")
            events.to_json(file, orient="records", lines=True, date_format="iso", date_unit="us")
        file.flush()
        os.fsync(file.fileno())


def with_orjson(companies: str, output: str) -> None:
    """Loop over drivers and their events; NumPy draws for a company, orjson makes each line."""
    from uuid import uuid4

    import numpy as np
    import orjson

    rng = np.random.default_rng()
    types, weights = list(TYPES), list(TYPES.values())
    start = np.datetime64(START.replace(tzinfo=None), "us")
    with open(companies, "rb") as lines, open(output, "wb") as file:
        for position, line in enumerate(lines):
            company = orjson.loads(line)
            if not company["active"]:
                continue
            company_id = company["company_id"]
            counts = rng.poisson(RATE, DRIVERS)
            n = int(counts.sum())
            kinds = rng.choice(len(types), n, p=weights).tolist()
            key = np.repeat(np.arange(DRIVERS), counts) * LENGTH_US
            offsets = np.sort(key + rng.integers(0, LENGTH_US, n)) % LENGTH_US
            drawn = zip(kinds, np.datetime_as_string(start + offsets).tolist(), strict=True)
            for number, count in enumerate(counts.tolist()):
                driver_id = f"DRV-{company_id}-{number:03d}"
                truck_id = f"TRK-{position * DRIVERS + number + 1}"
                for _ in range(count):
                    kind, time = next(drawn)
                    event = {
                        "event_id": uuid4(),
                        "driver_id": driver_id,
                        "company_id": company_id,
                        "truck_id": truck_id,
                        "event_type": types[kind],
                        "timestamp": time + "Z",
                    }
                    file.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())


def with_faker(companies: str, output: str) -> None:
    """Loop in Python; Faker makes each value."""
    from faker import Faker

    fake = Faker()
    weights = OrderedDict(TYPES)
    end = START + timedelta(microseconds=LENGTH_US)

    def events() -> Iterator[Event]:
        for driver in _drivers(companies):
            times = sorted(
                fake.date_time_between_dates(START, end, tzinfo=UTC) for _ in range(_poisson())
            )
            for time in times:
                yield {
                    "event_id": fake.uuid4(),
                    **driver,
                    "event_type": fake.random_element(weights),
                    "timestamp": _text(time),
                }

    _write(events(), output)


def with_mimesis(companies: str, output: str) -> None:
    """Loop in Python; Mimesis makes each value."""
    from mimesis import Cryptographic, Numeric
    from mimesis.random import Random

    cryptographic, numeric, random = Cryptographic(), Numeric(), Random()

    def events() -> Iterator[Event]:
        for driver in _drivers(companies):
            offsets = (numeric.integer_number(0, LENGTH_US - 1) for _ in range(_poisson()))
            for offset in sorted(offsets):
                yield {
                    "event_id": cryptographic.uuid(),
                    **driver,
                    "event_type": random.weighted_choice(TYPES),
                    "timestamp": _text(START + timedelta(microseconds=offset)),
                }

    _write(events(), output)


def _drivers(companies: str) -> Iterator[Event]:
    with open(companies, encoding="utf-8") as lines:
        for position, line in enumerate(lines):
            company = json.loads(line)
            if company["active"]:
                for number in range(DRIVERS):
                    yield {
                        "driver_id": f"DRV-{company['company_id']}-{number:03d}",
                        "company_id": company["company_id"],
                        "truck_id": f"TRK-{position * DRIVERS + number + 1}",
                    }


def _poisson() -> int:
    """Return a Poisson count: arrivals before the end, as the standard library can draw them."""
    from random import random

    count, product = 0, random()
    limit = math.exp(-RATE)
    while product > limit:
        count += 1
        product *= random()
    return count


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _write(events: Iterator[Event], output: str) -> None:
    with open(output, "w", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
        file.flush()
        os.fsync(file.fileno())


PEERS: dict[str, Callable[[str, str], None]] = {
    "polars": with_polars,
    "duckdb": with_duckdb,
    "pandas": with_pandas,
    "orjson": with_orjson,
    "mimesis": with_mimesis,
    "faker": with_faker,
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](*sys.argv[2:])
