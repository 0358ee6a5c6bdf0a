"""The same bytes from one process, from any number of workers, and on an object store."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_support import BUCKET, SECRET, stop
from support import AT, NAME, PATIENCE, Cli, Project, wait_until

from fleetsim.base.storage import place
from fleetsim.batch.meta import read_meta

#: Ten thousand drivers in ten blocks of the address space, and some 20,000 events.
SIZES = {"number_of_companies": 100, "drivers_per_company": 100, "event_rate_per_driver": 2}


@pytest.fixture
def fleet(project: Project, fleetsim_cli: Cli) -> Project:
    """Return a project with a fleet that is made in parts, and its batch in one file."""
    project.write(**SIZES)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", AT)).code == 0
    assert fleetsim_cli(*project.make_events()).code == 0
    return project


def events_hash(batch: Path) -> str:
    """Return the hash of a batch's events, all files in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted((path for path in batch.iterdir() if path.suffix == ".jsonl"), key=str):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def in_parts(project: Project, output: object, *options: object) -> list[object]:
    """Return the command that makes the batch in parts somewhere else."""
    words = project.make_events("--part-events", 2500, *options)
    words[words.index("--output") + 1] = output
    return words


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_local_workers_make_the_same_bytes(fleet, fleetsim_cli, tmp_path, workers) -> None:
    """However many they are; the record tells of a batch like any other."""
    done = fleetsim_cli(*in_parts(fleet, tmp_path / "out", "--scheduler", f"local:{workers}"))
    assert (done.code, done.err) == (0, "")
    batch = tmp_path / "out" / NAME
    assert events_hash(batch) == read_meta(fleet.batch).sha256
    meta = read_meta(batch)
    assert {path.name for path in batch.iterdir()} == {"batch_meta.json", *meta.files}
    assert len(meta.files) == 8
    whole = read_meta(fleet.batch)
    assert (meta.event_count, meta.bytes) == (whole.event_count, whole.bytes)
    assert fleetsim_cli("verify", batch, "--companies", fleet.companies).code == 0


@pytest.mark.parametrize("format", ["jsonl.gz", "jsonl.zst", "parquet"])
def test_workers_make_every_format(fleet, fleetsim_cli, tmp_path, format) -> None:
    """The files of two workers are those of this process."""
    for name, options in (("here", ()), ("there", ("--scheduler", "local:2"))):
        words = in_parts(fleet, tmp_path / name, "--format", format, *options)
        assert fleetsim_cli(*words).code == 0
    here, there = (read_meta(tmp_path / name / NAME) for name in ("here", "there"))
    assert here.parts == there.parts
    assert (
        fleetsim_cli("verify", tmp_path / "there" / NAME, "--companies", fleet.companies).code == 0
    )


def test_a_worker_that_is_killed_is_replaced(fleet, start_dask, tmp_path) -> None:
    """SIGKILL in the middle: its parts are made again by the other, with the same bytes."""
    dask = start_dask(2)
    fleet.write(event_rate_per_driver=400)
    out = tmp_path / "out"
    words = in_parts(fleet, out, "--part-events", 100_000, "--scheduler", dask.address)
    child = subprocess.Popen(
        [sys.executable, "-m", "fleetsim", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # One part is there and others are under way: not all work is still to come, nor done.
    wait_until(lambda: list(out.glob(".*/part-*")) and list(out.glob(".*/.part-*")), "a part")
    stop(dask.workers[0])
    _, wrong = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0, wrong
    assert "Traceback" not in wrong
    meta = read_meta(out / NAME)
    assert len(meta.files) == 10
    assert {path.name for path in (out / NAME).iterdir()} == {"batch_meta.json", *meta.files}
    single = fleet.make_events()
    single[single.index("--output") + 1] = tmp_path / "single"
    subprocess.run([sys.executable, "-m", "fleetsim", *map(str, single)], check=True)
    assert events_hash(out / NAME) == read_meta(tmp_path / "single" / NAME).sha256


def test_an_interrupted_command_leaves_nothing(fleet, start_dask, tmp_path) -> None:
    """Nor do workers that go on with what they had; the next command makes the batch."""
    dask = start_dask(1)
    fleet.write(event_rate_per_driver=400)
    out = tmp_path / "out"
    words = in_parts(fleet, out, "--part-events", 100_000, "--scheduler", dask.address)
    child = subprocess.Popen(
        [sys.executable, "-m", "fleetsim", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: list(out.glob(".*/part-*")), "a part")
    child.terminate()
    _, wrong = child.communicate(timeout=PATIENCE)
    assert (child.returncode, "Traceback" in wrong) == (143, False), wrong
    assert list(out.iterdir()) == []
    fleet.write(event_rate_per_driver=2)
    again = in_parts(fleet, out, "--scheduler", dask.address)
    subprocess.run([sys.executable, "-m", "fleetsim", *map(str, again)], check=True)
    assert events_hash(out / NAME) == read_meta(fleet.batch).sha256


def test_an_object_store_holds_the_same_bytes(fleet, fleetsim_cli, s3) -> None:
    """Companies and batches, in one object or in parts, by this process or by workers."""
    base = f"s3://{BUCKET}/data"
    companies = fleet.make_companies("--at", AT)
    companies[companies.index("--output") + 1] = f"{base}/companies.jsonl"
    assert fleetsim_cli(*companies).code == 0
    assert s3.fs.cat(f"{BUCKET}/data/companies.jsonl") == fleet.companies.read_bytes()
    remote = Project(fleet.config, f"{base}/companies.jsonl", Path())
    expected = read_meta(fleet.batch).sha256
    for name, options in (
        ("one", ()),
        ("parts", ("--part-events", 2500)),
        ("workers", ("--part-events", 2500, "--scheduler", "local:2")),
    ):
        words = remote.make_events(*options)
        words[words.index("--output") + 1] = f"{base}/{name}"
        done = fleetsim_cli(*words)
        assert (done.code, done.err) == (0, "")
        assert events_hash(place(f"{base}/{name}/{NAME}")) == expected
        again = fleetsim_cli(*words)
        assert (again.code, "stood there already" in again.out) == (0, True)
    assert fleetsim_cli(*companies[:-2], "--cohorts", 2).code == 0  # extended in its place
    assert s3.fs.cat(f"{BUCKET}/data/companies.jsonl").startswith(fleet.companies.read_bytes())
    assert SECRET.encode() not in s3.everything()


def test_a_batch_without_a_record_is_absent_and_is_cleared(fleet, fleetsim_cli, s3) -> None:
    """A dead job's parts are gone when the next one has made the batch; so are a replaced one's."""
    output = f"s3://{BUCKET}/events"
    for name in ("part-000000.jsonl", "part-000099.jsonl"):
        s3.fs.pipe(f"{BUCKET}/events/{NAME}/{name}", b"left by a dead job")
    assert fleetsim_cli(*in_parts(fleet, output)).code == 0
    assert f"{BUCKET}/events/{NAME}/part-000099.jsonl" not in s3.names("events")
    assert events_hash(place(f"{output}/{NAME}")) == read_meta(fleet.batch).sha256
    refused = fleetsim_cli(*in_parts(fleet, output, "--ordinal", 7))
    assert (refused.code, "ordinal is 0, asked for 7" in refused.err) == (2, True)
    words = fleet.make_events("--ordinal", 7, "--force")
    words[words.index("--output") + 1] = output
    assert fleetsim_cli(*words).code == 0
    assert s3.names("events") == [
        f"{BUCKET}/events/{NAME}/batch_meta.json",
        f"{BUCKET}/events/{NAME}/events.jsonl",
    ]
    meta = json.loads(s3.fs.cat(f"{BUCKET}/events/{NAME}/batch_meta.json"))
    assert meta["ordinal"] == 7
