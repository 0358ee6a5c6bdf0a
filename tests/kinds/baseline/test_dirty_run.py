"""Runs of a configuration with defects: the ledgers of their own batches tell what is in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import AT_US
from sweeps import SMOKE, generate_here, smoke_project

from fleetsim.base.clock import Instant
from fleetsim.base.yaml12 import load_yaml
from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.batch.ledger import ledger_path, read_ledger
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.write import write_batches
from fleetsim.experiment.steps import open_run
from fleetsim.generate.config import make_config
from fleetsim.generate.defects import DEFECT_KINDS
from fleetsim.kinds.baseline.run import Run
from fleetsim.measure.cold import content_fingerprint
from fleetsim.report.compare.readback import read_back

CRITERIA = (
    "event_count_expected",
    "batch_directory",
    "jsonl_valid",
    "batch_meta",
    "timestamps_in_interval",
    "event_type_weights",
)
RATES: dict[str, Any] = dict.fromkeys(DEFECT_KINDS, 0.01) | {"late": 0.03}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Run]:
    """Return a function that opens a run with defects, whose data are made in this process."""
    monkeypatch.setattr("fleetsim.measure.cold.run_child", generate_here)
    smoke_project(tmp_path, criteria=CRITERIA, batches=4, replicates=50)
    config = tmp_path / "experiments" / SMOKE / "config.yaml"
    clean = load_yaml(config.read_text(encoding="utf-8"))
    monkeypatch.setenv("FLEETSIM_ROOT", str(tmp_path))

    def made() -> Run:
        config.write_text(json.dumps({**clean, "defects": RATES}), encoding="utf-8")
        run = open_run(SMOKE, results=str(tmp_path / "results"))
        assert isinstance(run, Run)
        return run

    return made


def verdicts(run: Run) -> dict[str, str]:
    """Return the verdicts of a run whose data are made."""
    run.test()
    run.judge()
    return {row.id: str(row.verdict) for row in run._record.criteria}


def batches_of(run: Run) -> list[Path]:
    """Return the batches of a run under way."""
    return sorted((run.folder / "data" / "raw" / "events").iterdir())


def test_an_honest_dirty_run_passes(make: Callable[[], Run]) -> None:
    """Every criterion passes, the tests of the kinds among the tests; two tables are shown."""
    run = make()
    run.generate()
    shown = str(run.inspect())
    assert "explained by the ledger" in run.inspect()._repr_html_().lower()
    assert all(kind in shown for kind in DEFECT_KINDS)
    found = verdicts(run)
    assert set(found.values()) == {"pass"}, found
    evidence = run.evidence()
    names = [test.name for test in evidence.tests if test.name.startswith("defects_")]
    assert names == [f"defects_{kind}" for kind in RATES]
    assert evidence.mean == pytest.approx(1600 * (1 - 0.12 - 0.03))
    assert evidence.drawn == pytest.approx(1600)
    entries = [e for batch in batches_of(run) for e in read_ledger(ledger_path(batch))]
    assert evidence.tally.explained is not None
    assert evidence.tally.explained.lines == len(entries)
    assert evidence.tally.events == evidence.tally.lines - len(entries)
    alt = run.plot("replicates").alt
    assert "Poisson law of mean 1600" in alt
    assert f"this run has {evidence.replicates[0]}" in alt
    run.finish(engine="library")  # which draws nothing more
    whole = read_back(run.final)
    assert whole.data is not None
    assert whole.data.faults == 0
    assert whole.data.rate == pytest.approx(4.0 * 0.85)


def test_repeats_at_other_moments_have_the_same_fingerprint(tmp_path: Path) -> None:
    """Times within dirty lines follow the clock; records and defects do not, and are seen."""
    config = make_config(
        {
            "seed": 3,
            "number_of_companies": 20,
            "drivers_per_company": 5,
            "event_rate_per_driver": 4.0,
            "company_onboarding_interval": "PT1H",
            "defects": RATES,
        }
    )
    now = Instant.now()
    write_companies(config, tmp_path / "companies.jsonl", at_us=0, now_us=now.wall_us)
    fleet = read_companies(tmp_path / "companies.jsonl")
    prints = []
    for start_us in (AT_US, AT_US + 86_399_123_456):
        output = tmp_path / str(start_us) / "events"
        options = WriteOptions(batches=2)
        made = write_batches(config, fleet, output, start_us=start_us, started=now, options=options)
        paths = [result.path for result in made]
        prints.append([content_fingerprint(path) for path in paths])
    assert prints[0] == prints[1]
    path = ledger_path(paths[0])
    path.write_bytes(path.read_bytes().replace(b'"null_value"', b'"extra_field"', 1))
    assert content_fingerprint(paths[0]) != prints[1][0]
    events = paths[1] / "events.jsonl"
    touched = {entry.line for entry in read_ledger(ledger_path(paths[1]))}
    clean = next(number for number in range(1, 100) if number not in touched)
    lines = events.read_bytes().splitlines(keepends=True)
    lines[clean - 1] = lines[clean - 1].replace(b"TRK-", b"TRK-1")
    events.write_bytes(b"".join(lines))
    assert content_fingerprint(paths[1]) != prints[1][1]


def repaired(batch: Path) -> None:
    """Repair a defect, and leave its entry in the ledger."""
    entry = next(e for e in read_ledger(ledger_path(batch)) if e.kind == "extra_field")
    path = batch / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    struck = json.loads(lines[entry.line - 1])
    struck.popitem()
    lines[entry.line - 1] = json.dumps(struck, separators=(",", ":")).encode() + b"\n"
    path.write_bytes(b"".join(lines))


def without_ledger(batch: Path) -> None:
    """Take the ledger away."""
    ledger_path(batch).unlink()


@pytest.mark.parametrize("spoil", [repaired, without_ledger])
def test_what_the_ledger_does_not_explain_fails_the_run(
    make: Callable[[], Run], spoil: Callable[[Path], None]
) -> None:
    """The criterion of the lines says so."""
    run = make()
    run.generate()
    spoil(batches_of(run)[1])
    run.inspect()
    assert verdicts(run)["jsonl_valid"] == "fail"
