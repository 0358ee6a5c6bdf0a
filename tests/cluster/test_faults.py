"""What goes wrong between machines is told in one clear error, and leaves no half batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cluster_support import BUCKET, SECRET, forget_storages, s3_server, stop
from support import NAME, PATIENCE, Cli, Outcome, Project, wait_until

import fleetsim


def make(project: Project, *options: object, output: object = None) -> list[object]:
    """Return the command that makes a batch somewhere."""
    words = project.make_events(*options)
    if output:
        words[words.index("--output") + 1] = output
    return words


def assert_refused(done: Outcome, *words: str) -> None:
    """Hold an outcome to exit code 2 and a message, without a traceback or a secret."""
    assert done.code == 2, done.err
    for word in words:
        assert word in done.err, done.err
    assert "Traceback" not in done.err
    assert SECRET not in done.err + done.out


# Schedulers and workers.


@pytest.mark.parametrize(
    "address", ["10.0.0.1:8786", "http://host:1", "local", "local:0", "local:x", ""]
)
def test_an_address_of_another_form_is_refused(project, fleetsim_cli, address) -> None:
    """The message names the forms that are allowed."""
    done = fleetsim_cli(*make(project, "--scheduler", address))
    if address:
        assert_refused(done, "--scheduler", "tcp://HOST:PORT", "local:N")
        assert not project.events.exists()


def test_jobs_and_workers_are_not_asked_for_together(project, fleetsim_cli) -> None:
    """Threads of this process would make nothing."""
    assert_refused(fleetsim_cli(*make(project, "--scheduler", "local:1", "--jobs", 2)), "--jobs")


def test_a_scheduler_that_does_not_answer(project, fleetsim_cli, monkeypatch) -> None:
    """Nothing listens there."""
    monkeypatch.setattr("fleetsim.base.cluster._PATIENCE", 1)
    done = fleetsim_cli(*make(project, "--scheduler", "tcp://127.0.0.1:9"))
    assert_refused(done, "no Dask scheduler answers at tcp://127.0.0.1:9", "dask scheduler")


def test_a_scheduler_without_workers(project, fleetsim_cli, start_dask, monkeypatch) -> None:
    """The message says how to start one."""
    monkeypatch.setattr("fleetsim.base.cluster._PATIENCE", 1)
    dask = start_dask(0)
    done = fleetsim_cli(*make(project, "--scheduler", dask.address))
    assert_refused(done, "has no workers", f"dask worker {dask.address}")


def patched(folder: Path, content: str) -> str:
    """Return a PYTHONPATH on which Python runs something at its start."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(content)
    return str(folder)


def test_a_scheduler_of_another_version(project, fleetsim_cli, start_dask, tmp_path) -> None:
    """Both versions are named."""
    code = """
import importlib.metadata
def version(name, real=importlib.metadata.version):
    return "1999.1.0" if name == "distributed" else real(name)
importlib.metadata.version = version
"""
    path = patched(tmp_path / "old", code)
    dask = start_dask(1, PYTHONPATH=path)
    done = fleetsim_cli(*make(project, "--scheduler", dask.address))
    import distributed

    assert_refused(done, "1999.1.0", distributed.__version__)


def test_a_worker_of_another_version(project, fleetsim_cli, start_dask, tmp_path) -> None:
    """It is refused beside a good one, with both versions named; nothing is made."""
    dask = start_dask(1)
    path = patched(tmp_path / "old", "import fleetsim\nfleetsim.__version__ = '0.0.1'\n")
    dask.add_worker(PYTHONPATH=path)
    done = fleetsim_cli(*make(project, "--scheduler", dask.address))
    assert_refused(done, "fleetsim 0.0.1", f"this program is {fleetsim.__version__}")
    assert done.err.count("worker tcp://") == 1
    assert not project.events.exists()


def test_a_worker_of_other_sources(project, fleetsim_cli, start_dask, tmp_path) -> None:
    """The same version, but not the same program."""
    code = (
        "import fleetsim.base.project\nfleetsim.base.project.source_hash = lambda: 'deadbeef' * 8\n"
    )
    dask = start_dask(0)
    dask.add_worker(PYTHONPATH=patched(tmp_path / "changed", code))
    done = fleetsim_cli(*make(project, "--scheduler", dask.address))
    assert_refused(done, "source deadbeef", "this program has source")


def test_a_worker_without_fleetsim(project, fleetsim_cli, start_dask, tmp_path) -> None:
    """As on a machine where it was not installed."""
    dask = start_dask(0)
    code = "import sys\nsys.modules['fleetsim'] = None\n"
    dask.add_worker(PYTHONPATH=patched(tmp_path / "without", code))
    done = fleetsim_cli(*make(project, "--scheduler", dask.address))
    assert_refused(done, "has no fleetsim")


def test_a_scheduler_that_dies_in_the_middle(project, start_dask, fleetsim_cli) -> None:
    """One error, exit code 1, no half batch."""
    project.write(number_of_companies=100, drivers_per_company=100, event_rate_per_driver=400)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", "2025-01-01T00:00:00Z")).code == 0
    dask = start_dask(1)
    words = make(project, "--part-events", 100_000, "--scheduler", dask.address)
    child = subprocess.Popen(
        [sys.executable, "-m", "fleetsim", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: list(project.events.glob(".*/part-*")), "a part")
    stop(dask.scheduler)
    _, wrong = child.communicate(timeout=PATIENCE)
    assert child.returncode == 1, wrong
    assert "the Dask scheduler is gone" in wrong
    assert "Traceback" not in wrong
    assert list(project.events.iterdir()) == []


def test_a_task_that_kills_its_workers(project, fleetsim_cli, start_dask, tmp_path) -> None:
    """After some of them the work is given up, and the message says of what they died."""
    code = (
        "import os, fleetsim.batch.parts\n"
        "fleetsim.batch.parts.write_events = lambda *a, **k: os._exit(9)\n"
    )
    dask = start_dask(0)
    path = patched(tmp_path / "deadly", code)
    for _ in range(4):
        dask.add_worker(PYTHONPATH=path)
    done = fleetsim_cli(*make(project, "--scheduler", dask.address))
    assert done.code == 1
    assert "workers died of the same task" in done.err
    assert "Traceback" not in done.err
    assert list(project.events.iterdir()) == []


def _hears() -> tuple[int, bool]:
    """Return a worker's process, and whether Ctrl-C would be held back in what it starts."""
    return os.getpid(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_worker_started_again_holds_no_interrupt_back() -> None:
    """A kernel that it starts takes interrupts, as one of the first worker's does."""
    from fleetsim.base.cluster import connect

    with connect("local:1") as cluster:
        client = cluster.client
        ((first, held),) = client.run(_hears).values()
        assert not held
        os.kill(first, signal.SIGKILL)

        def again() -> bool:
            found = list(client.run(_hears, on_error="ignore").values())
            return bool(found) and found[0][0] != first

        wait_until(again, "another worker")
        assert [held for _, held in client.run(_hears).values()] == [False]


def test_no_worker_is_left(project, fleetsim_cli, start_dask, monkeypatch) -> None:
    """Nobody comes in place of the only one that died: an end, not a wait for ever."""
    monkeypatch.setattr("fleetsim.base.cluster._LOOK", 0.2)
    monkeypatch.setattr("fleetsim.base.cluster._FETCH", 1)
    monkeypatch.setattr("fleetsim.base.cluster._ALONE", 1)
    project.write(number_of_companies=100, drivers_per_company=100, event_rate_per_driver=400)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", "2025-01-01T00:00:00Z")).code == 0
    dask = start_dask(1)

    def kill() -> None:
        wait_until(lambda: list(project.events.glob(".*/part-*")), "a part")
        stop(dask.workers[0])

    killing = threading.Thread(target=kill)
    killing.start()
    done = fleetsim_cli(*make(project, "--part-events", 100_000, "--scheduler", dask.address))
    killing.join()
    assert (done.code, "all workers are gone" in done.err) == (1, True), done.err
    assert list(project.events.iterdir()) == []


def test_memory_is_no_place_for_workers(project, fleetsim_cli) -> None:
    """Each process has its own."""
    done = fleetsim_cli(*make(project, "--scheduler", "local:1", output="memory://x/events"))
    assert_refused(done, "memory://")


# Storages.


def test_a_bucket_that_is_missing(project, fleetsim_cli, s3) -> None:
    """For companies and batches, before anything is made."""
    assert_refused(fleetsim_cli(*make(project, output="s3://nowhere/x")), "no such bucket")
    words = project.make_companies()
    words[words.index("--output") + 1] = "s3://nowhere/companies.jsonl"
    assert_refused(fleetsim_cli(*words), "no such bucket")
    words = make(project, output=f"s3://{BUCKET}/x")
    words[words.index("--companies") + 1] = f"s3://{BUCKET}/none.jsonl"
    assert_refused(fleetsim_cli(*words), "no such file")


def test_access_that_is_denied(project, fleetsim_cli, tmp_path, monkeypatch) -> None:
    """By a server that knows nobody."""
    folder = tmp_path / "moto"
    folder.mkdir()
    with s3_server(folder, monkeypatch, bucket=False, INITIAL_NO_AUTH_ACTION_COUNT="0"):
        done = fleetsim_cli(*make(project, output=f"s3://{BUCKET}/x"))
    assert_refused(done, f"s3://{BUCKET}", "access")


def test_no_credentials(project, fleetsim_cli, s3, monkeypatch) -> None:
    """The message says which are looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_storages()
    done = fleetsim_cli(*make(project, output=f"s3://{BUCKET}/x"))
    assert_refused(done, "no credentials found", "AWS_ACCESS_KEY_ID")


def test_a_storage_that_cannot_be_reached(project, fleetsim_cli, s3, monkeypatch) -> None:
    """Nothing listens there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    forget_storages()
    done = fleetsim_cli(*make(project, output=f"s3://{BUCKET}/x"))
    assert_refused(done, "cannot be reached")


class _Skewed(BaseHTTPRequestHandler):
    """Answers as S3 does to a request whose time is off."""

    def do_HEAD(self) -> None:
        self._refuse()

    def do_GET(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        body = (
            b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request "
            b"time and the current time is too large.</Message></Error>"
        )
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def skewed() -> Iterator[str]:
    """Return the URL of a storage whose clock is another."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Skewed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_clock_that_is_off(project, fleetsim_cli, s3, skewed, monkeypatch) -> None:
    """The message says to set it, and does not repeat the storage's words."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", skewed)
    forget_storages()
    done = fleetsim_cli(*make(project, output=f"s3://{BUCKET}/x"))
    assert_refused(done, "clock")


def test_an_upload_that_breaks_off(project, fleetsim_cli, s3, monkeypatch) -> None:
    """The server dies in the middle: exit code 1, and nothing reads as a batch."""
    project.write(number_of_companies=100, drivers_per_company=100, event_rate_per_driver=100)
    project.companies.unlink()
    assert fleetsim_cli(*project.make_companies("--at", "2025-01-01T00:00:00Z")).code == 0
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    words = make(project, "--part-events", 50_000, output=f"s3://{BUCKET}/x")
    child = subprocess.Popen(
        [sys.executable, "-m", "fleetsim", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: s3.names("x"), "an object")
    assert not any("batch_meta" in name for name in s3.names("x"))
    stop(s3.server)
    _, wrong = child.communicate(timeout=PATIENCE)
    assert child.returncode == 1, wrong
    assert f"s3://{BUCKET}/x/{NAME}" in wrong
    assert "Traceback" not in wrong
    assert SECRET not in wrong


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s4://bucket/x", "found the scheme 's4'"),
        ("gs://bucket/x", "library for gs:// is not installed"),
        ("s3://", "names no place"),
        (f"s3://AKIA:{SECRET}@bucket/x", "credentials come from the environment"),
        (f"s3://bucket/x?X-Amz-Signature={SECRET}", "credentials come from the environment"),
    ],
)
def test_a_url_that_cannot_be_used(project, fleetsim_cli, url, message) -> None:
    """What is wrong with it is said, without what may be secret."""
    assert_refused(fleetsim_cli(*make(project, output=url)), message)


def test_a_url_without_the_extra_says_what_to_install(project, fleetsim_cli, monkeypatch) -> None:
    """And so does a scheduler."""
    for name in ("upath", "distributed"):
        monkeypatch.setitem(sys.modules, name, None)
    assert_refused(fleetsim_cli(*make(project, output="s3://a/b")), "fleetsim[cluster]")
    assert_refused(fleetsim_cli(*make(project, "--scheduler", "local:1")), "fleetsim[cluster]")


def test_no_error_tells_a_secret(project: Project, fleetsim_cli: Cli, s3, monkeypatch) -> None:
    """Not even with --debug, where the environment's credentials are wrong."""
    done = fleetsim_cli("--debug", *make(project, output="s3://nowhere/x"))
    assert done.code == 2
    assert SECRET not in done.err
