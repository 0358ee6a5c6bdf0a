"""The bytes of stream version 1, kept since the first day."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dirty_twin
import make_golden
import pytest
import twin
import yaml
from make_golden import AT, GOLDEN, LARGER, MANIFEST
from support import Cli, tree

from fleetsim.generate.model import STREAM_VERSION

CLOCK_AND_VERSIONS = {"generation_started", "generation_time", "generation_seconds", "versions"}


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """Return the manifest of the golden data."""
    return json.loads((GOLDEN / MANIFEST).read_text())


def stable(meta: Path) -> dict[str, Any]:
    """Return the keys of a batch's record that no clock and no version changes."""
    record = json.loads(meta.read_text())
    assert record.keys() >= CLOCK_AND_VERSIONS
    return {key: value for key, value in record.items() if key not in CLOCK_AND_VERSIONS}


def test_the_manifest_is_of_the_present_stream_version(manifest) -> None:
    """A raised version without `make golden` is noticed here."""
    assert manifest["stream_version"] == STREAM_VERSION


def test_the_golden_files_are_those_of_the_manifest(manifest) -> None:
    """No file was edited, added or lost."""
    assert make_golden.hashes(GOLDEN) == manifest["files"]
    assert len(manifest["files"]) == 14


def test_the_golden_files_stay_small() -> None:
    """They are read by people: under 90 kB in total."""
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 90_000


@pytest.mark.parametrize("name", make_golden.SETS)
def test_the_command_line_makes_the_golden_bytes(tmp_path: Path, fleetsim_cli: Cli, name) -> None:
    """Companies, events and ledgers byte for byte, the records in all but clock and versions."""
    for command in make_golden.commands(GOLDEN / make_golden.SETS[name], tmp_path):
        assert fleetsim_cli(*command).code == 0
    golden = GOLDEN / name
    names = sorted(path.relative_to(golden) for path in golden.rglob("*"))
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == names
    for name in names:
        if name.suffix == ".jsonl":
            assert (tmp_path / name).read_bytes() == (golden / name).read_bytes(), name
        elif name.suffix == ".json":
            assert stable(tmp_path / name) == stable(golden / name), name


def test_the_twin_makes_the_golden_bytes() -> None:
    """The golden data follow from the documented rules, too, and not only from the program."""
    config = yaml.safe_load((GOLDEN / "config.yaml").read_text())
    start_us = (twin.datetime.fromisoformat(AT) - twin.EPOCH) // twin.timedelta(microseconds=1)
    fleet = twin.companies(config, start_us, cohorts=2)
    assert (GOLDEN / "data" / "companies.jsonl").read_bytes() == twin.content(fleet)
    for ordinal, batch in enumerate(sorted((GOLDEN / "data" / "events").iterdir())):
        events = twin.events(config, fleet, start_us + ordinal * 900_000_000, ordinal)
        assert (batch / "events.jsonl").read_bytes() == twin.content(events)
        assert {event["event_type"] for event in events} == set(config["event_types"])
    assert {company["active"] for company in fleet} == {True, False}
    assert {company["geography"] for company in fleet} == set(config["geographies"])


def test_the_twin_makes_the_golden_defects() -> None:
    """Dirty lines and ledgers follow from the specification; every kind is among them."""
    config = yaml.safe_load((GOLDEN / "dirty.yaml").read_text())
    start_us = (twin.datetime.fromisoformat(AT) - twin.EPOCH) // twin.timedelta(microseconds=1)
    fleet = twin.companies(config, start_us, cohorts=2)
    assert (GOLDEN / "dirty" / "companies.jsonl").read_bytes() == twin.content(fleet)
    kinds = set()
    for ordinal, batch in enumerate(sorted((GOLDEN / "dirty" / "events").iterdir())):
        lines, ledger = dirty_twin.delivered(
            config, fleet, start_us + ordinal * 900_000_000, ordinal
        )
        assert (batch / "events.jsonl").read_bytes() == b"".join(lines)
        made = (GOLDEN / "dirty" / "ledger" / f"{batch.name}.jsonl").read_bytes()
        assert made == dirty_twin.ledger_lines(ledger)
        kinds |= {entry["kind"] for entry in ledger}
    assert kinds == set(dirty_twin.KINDS)


@pytest.mark.parametrize("name", make_golden.SETS)
def test_the_golden_batches_verify(fleetsim_cli: Cli, name) -> None:
    """`fleetsim verify` finds nothing in them."""
    outcome = fleetsim_cli("verify", GOLDEN / name)
    assert (outcome.code, outcome.out.count("reproduced")) == (0, 2)


def test_the_baseline_of_seed_42_has_3550_events(manifest) -> None:
    """The number that the documents quote."""
    first = manifest["baseline"][0]
    assert (first["seed"], first["ordinal"], first["event_count"]) == (42, 0, 3550)


@pytest.mark.parametrize("number", range(len(LARGER)), ids=str)
def test_the_baseline_has_the_golden_hashes(tmp_path, fleetsim_cli: Cli, manifest, number) -> None:
    """Batches of 3500 events whose bytes are not kept: companies, count and content agree."""
    seed, ordinal = LARGER[number]
    for command in make_golden.larger_commands(tmp_path, seed, ordinal):
        assert fleetsim_cli(*command).code == 0
    assert make_golden.larger_entry(tmp_path, seed, ordinal) == manifest["baseline"][number]


@pytest.mark.parametrize("jobs", [1, 2, 3, 7])
def test_the_kernel_makes_the_golden_hashes(
    tmp_path, fleetsim_cli: Cli, manifest, monkeypatch, jobs
) -> None:
    """The same batches by the compiled kernel, whatever the number of threads."""
    monkeypatch.setenv("FLEETSIM_KERNEL", "compiled")
    for number in (0, 2, 6):
        seed, ordinal = LARGER[number]
        folder = tmp_path / str(number)
        companies, events = make_golden.larger_commands(folder, seed, ordinal)
        assert fleetsim_cli(*companies).code == 0
        assert fleetsim_cli(*events, "--jobs", jobs).code == 0
        assert make_golden.larger_entry(folder, seed, ordinal) == manifest["baseline"][number]


def test_making_golden_data_again_is_refused() -> None:
    """While the stream version is the manifest's, the command exits 2 and touches nothing."""
    before = tree(GOLDEN)
    done = subprocess.run(
        [sys.executable, make_golden.__file__], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "made by stream version 1, which is still fleetsim's own" in done.stderr
    assert "next: if the bytes are meant to change, raise STREAM_VERSION" in done.stderr
    assert tree(GOLDEN) == before


@pytest.mark.parametrize("version", [None, 0])
def test_golden_data_of_another_version_are_made_again(tmp_path, monkeypatch, version) -> None:
    """Without a manifest, or with one of another version, the data and the manifest are written."""
    monkeypatch.setattr(make_golden, "LARGER", LARGER[:1])
    for config in make_golden.SETS.values():
        shutil.copy(GOLDEN / config, tmp_path)
    if version is not None:
        (tmp_path / MANIFEST).write_text(json.dumps({"stream_version": version}))
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "old").write_text("gone")
    assert make_golden.main(tmp_path) == 0
    made = json.loads((tmp_path / MANIFEST).read_text())
    assert made["stream_version"] == STREAM_VERSION
    assert made["files"] == make_golden.hashes(tmp_path)
    names = [path.relative_to(GOLDEN) for path in sorted(GOLDEN.rglob("*"))]
    assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))] == names
