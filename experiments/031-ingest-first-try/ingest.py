"""What everyone writes first: pandas, new folders only, appended to one file.

Nothing here looks wrong, and a count of rows would not find much. Compare 030-ingest-duckdb.
"""

import json
import os
from pathlib import Path

import pandas as pd

COLUMNS = ["event_id", "driver_id", "company_id", "truck_id", "event_type", "timestamp"]

landing, output = Path(os.environ["FLEETSIM_LANDING"]), Path(os.environ["FLEETSIM_OUTPUT"])
(output / "accepted").mkdir(exist_ok=True)
done_file = output / "done.txt"
done = set(done_file.read_text().split()) if done_file.exists() else set()
companies = pd.read_json(landing / "companies.jsonl", lines=True)

for batch in sorted((landing / "events").iterdir()):
    if batch.name in done:
        continue
    rows = []
    with open(batch / "events.jsonl", encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue  # not JSON
    events = pd.DataFrame(rows)
    times = pd.to_datetime(events["timestamp"], utc=True, errors="coerce", format="ISO8601")
    events = events.assign(timestamp=times).dropna(subset=COLUMNS)
    events = events[events["company_id"].isin(companies["company_id"])]
    events = events.drop_duplicates("event_id")
    with open(output / "accepted" / "events.jsonl", "a", encoding="utf-8") as file:
        for event in events[COLUMNS].to_dict("records"):
            event["timestamp"] = event["timestamp"].isoformat()
            file.write(json.dumps(event) + "\n")
    with open(done_file, "a", encoding="utf-8") as file:
        file.write(batch.name + "\n")
