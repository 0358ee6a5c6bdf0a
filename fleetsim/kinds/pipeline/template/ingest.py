"""An ingestion to begin with: it takes every line that is JSON, and refuses the others.

It may be written in any language, and imports nothing of fleetsim. It is started with two folders:

FLEETSIM_LANDING
    ``companies.jsonl``, and ``events/<batch_id>/`` with ``events.jsonl`` and ``batch_meta.json``.
FLEETSIM_OUTPUT
    Its own, kept from start to start: ``accepted/`` with the six columns as Parquet or JSON Lines,
    ``rejected/`` with each refused line as ``raw`` and why as ``reason``.

It ends with exit code 0.
"""

import json
import os
from pathlib import Path

landing, output = Path(os.environ["FLEETSIM_LANDING"]), Path(os.environ["FLEETSIM_OUTPUT"])

for batch in sorted((landing / "events").iterdir()):
    accepted, rejected = [], []
    for line in (batch / "events.jsonl").read_bytes().splitlines():
        raw = line.decode("utf-8", errors="replace")
        try:
            accepted.append(json.dumps(json.loads(raw)))
        except ValueError as error:
            rejected.append(json.dumps({"raw": raw, "reason": str(error)}))
    for name, lines in (("accepted", accepted), ("rejected", rejected)):
        (output / name).mkdir(exist_ok=True)
        (output / name / f"{batch.name}.jsonl").write_text("".join(f"{row}\n" for row in lines))
