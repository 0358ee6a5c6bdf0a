"""Make the golden data of tests/generate/golden again, after STREAM_VERSION was raised on purpose.

`make golden` runs this file. It refuses while the manifest was made by the present stream version:
golden data that no longer reproduce mean that the generator's bytes changed, and hiding that is the
one thing this must not do.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fleetsim.generate.model import STREAM_VERSION

GOLDEN = Path(__file__).resolve().parent / "golden"
BASELINE = GOLDEN.parents[2] / "experiments" / "001-baseline" / "config.yaml"
MANIFEST = "manifest.json"
#: The data sets, each a folder, by the configuration it is made from: clean, and with defects.
SETS = {"data": "config.yaml", "dirty": "dirty.yaml"}

#: Two cohorts and two batches; the first interval crosses midnight.
AT = "2025-11-08T23:50:00Z"
#: Batches of the baseline of which only hashes are kept: (seed, ordinal).
BASELINE_AT = "2025-11-08T12:00:00Z"
LARGER = [(42, 0), (42, 1), (42, 2**64 - 1), (0, 0), (1, 0), (7, 3), (2**64 - 1, 0)]


def commands(config: Path, data: Path) -> list[list[str]]:
    """Return the arguments of fleetsim that make the golden data set in a folder."""
    return _commands(data, AT, ["--config", str(config)], ["--cohorts", "2"], ["--batches", "2"])


def larger_commands(data: Path, seed: int, ordinal: int) -> list[list[str]]:
    """Return the arguments of fleetsim that make one batch of the baseline in a folder."""
    both = ["--config", str(BASELINE), "--seed", str(seed)]
    return _commands(data, BASELINE_AT, both, [], ["--ordinal", str(ordinal)])


def _commands(
    data: Path, at: str, both: list[str], companies: list[str], events: list[str]
) -> list[list[str]]:
    file, folder = str(data / "companies.jsonl"), str(data / "events")
    return [
        ["companies", *both, "--output", file, "--at", at, *companies],
        ["events", *both, "--companies", file, "--output", folder, "--interval-start", at, *events],
    ]


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def larger_entry(data: Path, seed: int, ordinal: int) -> dict[str, Any]:
    """Return what the manifest keeps of one batch of the baseline."""
    (batch,) = (data / "events").iterdir()
    return {
        "seed": seed,
        "ordinal": ordinal,
        "event_count": json.loads((batch / "batch_meta.json").read_text())["event_count"],
        "companies_sha256": sha256(data / "companies.jsonl"),
        "content_sha256": sha256(batch / "events.jsonl"),
    }


def hashes(golden: Path) -> dict[str, str]:
    """Return the hash of every golden file but the manifest."""
    files = [path for path in sorted(golden.rglob("*")) if path.is_file()]
    return {
        path.relative_to(golden).as_posix(): sha256(path) for path in files if path.name != MANIFEST
    }


def _run(arguments: list[list[str]]) -> None:
    for words in arguments:
        subprocess.run([sys.executable, "-m", "fleetsim", *words], check=True)


def make(golden: Path) -> None:
    """Write the data sets and the manifest beside the configurations of a golden folder."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, config in SETS.items():
            _run(commands(golden / config, Path(scratch) / name))
        larger = []
        for number, (seed, ordinal) in enumerate(LARGER):
            folder = Path(scratch) / str(number)
            _run(larger_commands(folder, seed, ordinal))
            larger.append(larger_entry(folder, seed, ordinal))
        for name in SETS:
            shutil.rmtree(golden / name, ignore_errors=True)
            shutil.copytree(Path(scratch) / name, golden / name)
    manifest = {
        "stream_version": STREAM_VERSION,
        "files": hashes(golden),
        "baseline": larger,
    }
    (golden / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def main(golden: Path = GOLDEN) -> int:
    """Make the golden data unless the present stream version made them; return the exit code."""
    manifest = golden / MANIFEST
    if manifest.exists():
        version = json.loads(manifest.read_text())["stream_version"]
        if version == STREAM_VERSION:
            sys.stderr.write(
                f"{manifest}: made by stream version {version}, which is still fleetsim's own: "
                "nothing is written.\n"
                "  next: if the bytes are meant to change, raise STREAM_VERSION in "
                "fleetsim/generate/model.py, note it as output-changing in CHANGELOG.md, and run "
                "this again; if not, the change of the bytes is a bug\n"
            )
            return 2
    make(golden)
    return 0


if __name__ == "__main__":
    sys.exit(main())
