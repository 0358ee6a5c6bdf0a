"""Audit and verify: on workers and on an object store they find what they find here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import AT, NAME, Cli, Project

from fleetsim.tally import reading

pytestmark = pytest.mark.cluster
pytest.importorskip("distributed")
s3fs = pytest.importorskip("s3fs")

DATA = "s3://audits/data"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an S3 server of its own."""
    log = tmp_path_factory.mktemp("moto") / "log"
    with open(log, "wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 120
        while "http://127" not in log.read_text():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield next(word for word in log.read_text().split() if word.startswith("http://127"))
    finally:
        child.kill()
        child.wait()


@pytest.fixture
def storage(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the file system of an empty bucket, which every process finds by the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    if fs.exists("audits"):
        fs.rm("audits", recursive=True)
    fs.mkdir("audits")
    return fs


@pytest.fixture(params=["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def form(request: pytest.FixtureRequest) -> str:
    """Return each format."""
    return str(request.param)


def make(project: Project, cli: Cli, *options: object) -> Project:
    """Make two batches of some parts each, some of whose ids stand twice."""
    project.write(event_rate_per_driver=1.0, number_of_companies=4, drivers_per_company=1000)
    project.companies.unlink()
    assert cli(*project.make_companies("--at", AT)).code == 0
    assert cli(*project.make_events("--part-events", 1000, "--batches", 2, *options)).code == 0
    return project


def audited(project: Project, cli: Cli, *options: object, data: object = None) -> dict[str, Any]:
    """Return the audit as plain data."""
    data = data or project.config.parent
    done = cli("audit", data, "--config", project.config, "--json", *options)
    assert done.err == ""
    assert done.code in (0, 3)
    found: dict[str, Any] = json.loads(done.out)
    return found


def put(project: Project, storage: Any) -> None:
    """Copy a data set to the storage."""
    storage.put(str(project.companies), f"{DATA}/companies.jsonl")
    storage.put(str(project.events), f"{DATA}/events", recursive=True)


def bend(path: Path) -> None:
    """Let the last id of a file be the first one, and cut off a line of it."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[0][:49] + lines[-1][49:]
    path.write_bytes(b"".join([b"x\n", *lines]))


def test_workers_find_what_this_process_finds(project: Project, fleetsim_cli: Cli) -> None:
    """The same audit to the last digit, of honest parts and of bent ones."""
    data = make(project, fleetsim_cli)
    here = audited(data, fleetsim_cli)
    assert here["findings"] == []
    assert audited(data, fleetsim_cli, "--scheduler", "local:2") == here
    bend(data.batch / "part-000001.jsonl")
    here = audited(data, fleetsim_cli)
    assert (here["fault_counts"]["line"], here["fault_counts"]["duplicate"]) == (1, 1)
    assert audited(data, fleetsim_cli, "--scheduler", "local:2") == here


def test_a_storage_is_read_like_a_disk(
    project: Project, fleetsim_cli: Cli, storage: Any, form: str
) -> None:
    """Every format: audited here and on workers, and verified; other prefixes are no batches."""
    data = make(project, fleetsim_cli, "--format", form)
    here = audited(data, fleetsim_cli)
    assert here["findings"] == []
    put(data, storage)
    storage.pipe(f"{DATA}/events/20251108T130000Z/part-000000.jsonl", b"left by a writer")
    assert audited(data, fleetsim_cli, data=DATA) == here
    if form in ("jsonl", "parquet"):
        assert audited(data, fleetsim_cli, "--scheduler", "local:2", data=DATA) == here
    done = fleetsim_cli("verify", DATA)
    assert (done.code, done.err, done.out.count("reproduced")) == (0, "", 2)


def test_a_bent_or_missing_object_is_found(
    project: Project, fleetsim_cli: Cli, storage: Any
) -> None:
    """The control: by the audit of the set or of the batch, and by verify."""
    data = make(project, fleetsim_cli)
    bend(data.batch / "part-000001.jsonl")
    (data.batch / "part-000002.jsonl").unlink()
    here = audited(data, fleetsim_cli)
    put(data, storage)
    assert audited(data, fleetsim_cli, data=DATA) == here
    batch = audited(data, fleetsim_cli, data=f"{DATA}/events/{NAME}")
    assert f"{NAME}: part-000002.jsonl is missing" in batch["findings"]
    assert f"{NAME}/part-000001.jsonl line 1: not valid JSON" in str(batch["findings"])
    done = fleetsim_cli("verify", DATA)
    assert (done.code, done.err) == (3, "")
    assert f"{NAME}: part-000001.jsonl: line 1 is 'x'" in done.out
    assert f"{NAME}: part-000002.jsonl: missing" in done.out


def test_damaged_archives_on_a_storage_are_findings(
    project: Project, fleetsim_cli: Cli, storage: Any, form: str
) -> None:
    """What a reader says of cut content is no failure of the storage."""
    data = make(project, fleetsim_cli, "--format", form)
    path = data.batch / f"part-000001.{form}"
    path.write_bytes(path.read_bytes()[:-100])
    here = audited(data, fleetsim_cli)
    assert here["findings"] != []
    put(data, storage)
    assert audited(data, fleetsim_cli, data=DATA) == here


def test_what_the_storage_refuses_is_one_clear_error(
    project: Project, fleetsim_cli: Cli, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket and a set that are not there, and an object that breaks off while it is read."""
    data = make(project, fleetsim_cli)
    put(data, storage)
    for url, code, text in (
        ("s3://nobody/data", 2, "no such bucket"),
        ("s3://audits/nothing", 2, "no such folder"),
    ):
        done = fleetsim_cli("audit", url, "--config", data.config)
        assert (done.code, done.out) == (code, "")
        assert text in done.err
    missing = fleetsim_cli(
        "audit", DATA, "--config", data.config, "--companies", "s3://audits/nothing.jsonl"
    )
    assert (missing.code, "no such file" in missing.err) == (2, True)

    own = s3fs.S3File._fetch_range

    def broken(file: Any, *span: int) -> Any:
        if "part-" in file.path:
            raise PermissionError(13, "a text of the library")
        return own(file, *span)

    monkeypatch.setattr(s3fs.S3File, "_fetch_range", broken)
    for command in (["audit", DATA, "--config", data.config], ["verify", DATA]):
        done = fleetsim_cli(*command)
        assert (done.code, done.out) == (1, ""), done.err
        assert "access denied" in done.err
        assert "text of the library" not in done.err
        assert done.err.count("\n") == 1


def test_workers_that_see_other_files_are_an_error(
    project: Project, fleetsim_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another companies file nor a missing part there may pass for what is here."""
    data = make(project, fleetsim_cli)
    for name, text in (("companies", "cannot use the companies"), ("path", "does not see this")):
        own = reading.Reading._task

        def task(self: Any, file: int, name: str = name, own: Any = own) -> Any:
            made = own(self, file)
            return msgspec.structs.replace(made, **{name: "/nowhere/x.jsonl"})

        with monkeypatch.context() as patch:
            patch.setattr(reading.Reading, "_task", task)
            words = ["audit", data.config.parent, "--config", data.config]
            done = fleetsim_cli(*words, "--scheduler", "local:1")
        assert (done.code, done.out) == (1, "")
        assert text in done.err
