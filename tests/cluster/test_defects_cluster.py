"""Batches with defects by workers and on an object store: the same ledgers, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cluster_support import BUCKET
from dirty_twin import KINDS
from support import AT, NAME, Cli, Project

from fleetsim.base.storage import place
from fleetsim.batch.ledger import ledger_path, read_ledger
from fleetsim.batch.meta import read_meta

SIZES = {"number_of_companies": 100, "drivers_per_company": 50, "event_rate_per_driver": 2}


@pytest.fixture
def dirty(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a project with every kind of defect, and its batch in parts on the disk."""
    project.write(**SIZES, defects={kind: 0.02 for kind in KINDS})
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    assert fleetsim_cli(*project.make_events("--part-events", 2500)).code == 0
    return project


def at(project: Project, output: object, *options: object) -> list[object]:
    """Return the command that makes the batch in parts somewhere else."""
    words = project.make_events("--part-events", 2500, *options)
    words[words.index("--output") + 1] = output
    return words


def test_workers_write_the_same_ledgers(dirty, fleetsim_cli, tmp_path: Path) -> None:
    """Each part's ledger stands beside the batch, byte for byte."""
    output = tmp_path / "out" / "events"
    assert fleetsim_cli(*at(dirty, output, "--scheduler", "local:2")).code == 0
    here, there = read_meta(dirty.batch), read_meta(output / NAME)
    assert here.parts == there.parts
    assert len(here.parts) == 4
    for part in here.parts:
        one, other = (ledger_path(batch, part.name) for batch in (dirty.batch, output / NAME))
        assert one.read_bytes() == other.read_bytes()
    assert [path.name for path in (tmp_path / "out" / "ledger").iterdir()] == [NAME]
    assert fleetsim_cli("verify", output, "--companies", dirty.companies).code == 0


@pytest.mark.parametrize("options", [(), ("--scheduler", "local:2")], ids=["here", "workers"])
def test_an_object_store_holds_batch_and_ledgers(dirty, fleetsim_cli, s3, options) -> None:
    """In parts and in one object; verify and a second command find them as they are."""
    output = f"s3://{BUCKET}/data/events"
    words = at(dirty, output, *options)
    done = fleetsim_cli(*words)
    assert (done.code, done.err) == (0, "")
    batch = place(f"{output}/{NAME}")
    for part in read_meta(dirty.batch).parts:
        path = ledger_path(batch, part.name)
        assert path.read_bytes() == ledger_path(dirty.batch, part.name).read_bytes()
        assert len(list(read_ledger(path, part.ledger_sha256))) > 50
    assert fleetsim_cli("verify", output, "--companies", dirty.companies).code == 0
    before = s3.everything()
    assert "stood there already" in fleetsim_cli(*words).out
    assert s3.everything() == before
    # Another form of the batch takes the place of all of it.
    single = dirty.make_events("--force")
    single[single.index("--output") + 1] = output
    assert fleetsim_cli(*single).code == 0
    assert s3.names("data/ledger") == [f"{BUCKET}/data/ledger/{NAME}.jsonl"]
    assert fleetsim_cli("verify", output, "--companies", dirty.companies).code == 0
    dirty.write(defects={})
    assert fleetsim_cli(*single).code == 0
    assert s3.names("data/ledger") == []


@pytest.mark.parametrize("parts", [False, True])
def test_an_error_on_an_object_store_leaves_neither(
    dirty, fleetsim_cli, s3, monkeypatch, parts
) -> None:
    """Where the record cannot be written, the ledger's objects go with the batch's."""
    output = f"s3://{BUCKET}/data/events"
    words = at(dirty, output) if parts else dirty.make_events()
    words[words.index("--output") + 1] = output
    seen: list[list[str]] = []

    def fail(*_: object) -> None:
        seen.append(s3.names("data/ledger"))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("fleetsim.batch.publish.Stage.publish", fail)
    assert fleetsim_cli(*words).code == 1
    assert seen
    assert seen[0]  # the ledger is there before the record
    assert s3.names("data") == []


def test_what_a_dead_job_left_of_a_ledger_is_cleared(dirty, fleetsim_cli, s3) -> None:
    """When its batch is made again; without a record there is no batch, and no ledger."""
    output = f"s3://{BUCKET}/data/events"
    s3.fs.pipe(f"{BUCKET}/data/ledger/{NAME}.jsonl", b"left by a dead job")
    assert fleetsim_cli(*at(dirty, output)).code == 0
    names = s3.names("data/ledger")
    assert len(names) == 4
    assert all(name.startswith(f"{BUCKET}/data/ledger/{NAME}/part-") for name in names)
    # An equal batch whose ledger was lost is not equal.
    s3.fs.rm(names[0])
    done = fleetsim_cli(*at(dirty, output))
    assert done.code == 2
    assert "part-000000.jsonl is missing" in done.err
    record = json.loads(s3.fs.cat(f"{BUCKET}/data/events/{NAME}/batch_meta.json"))
    assert record["defects"]["ledger_sha256"] is None
