"""Dask schedulers and workers, and an S3 server, as processes on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import wait_until

#: Of the environment; it may appear nowhere.
SECRET = "wJalrXUtnFEMI-a-secret-that-nobody-sees"  # noqa: S105 (of no account)
BUCKET = "fleet"


@contextmanager
def process(words: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a Python process, which is killed at the end."""
    with open(log, "ab") as output:
        child = subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield child
        finally:
            child.kill()
            child.wait()


@dataclass
class DaskProcesses:
    """A scheduler with its workers.

    Attributes
    ----------
    address : str
    scheduler : Popen
    workers : list of Popen
    """

    address: str
    scheduler: subprocess.Popen[bytes]
    folder: Path
    stack: ExitStack
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread, and wait until the scheduler knows it."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        words = ["-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1"]
        words += ["--no-nanny", "--no-dashboard", "--local-directory", str(self.folder)]
        worker = self.stack.enter_context(process(words, log, **environment))
        self.workers.append(worker)
        wait_until(lambda: b"Registered to" in log.read_bytes(), "a worker")
        return worker

    def logs(self) -> str:
        """Return what all of them said."""
        return "".join(log.read_text() for log in sorted(self.folder.glob("*.log")))


@dataclass
class Store:
    """An S3 server with one bucket."""

    url: str
    server: subprocess.Popen[bytes]

    @property
    def fs(self) -> Any:
        """A file system that remembers nothing."""
        import s3fs

        return s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def names(self, prefix: str) -> list[str]:
        """Return the objects below a prefix."""
        found: list[str] = self.fs.find(f"{BUCKET}/{prefix}")
        return found

    def everything(self) -> bytes:
        """Return all bytes of all objects, and their names."""
        fs = self.fs
        return b"\n".join(name.encode() + b"\n" + fs.cat(name) for name in fs.find(BUCKET))


@contextmanager
def s3_server(
    folder: Path, patch: pytest.MonkeyPatch, *, bucket: bool = True, **environment: str
) -> Iterator[Store]:
    """Yield an S3 server, which this process and its children find by the usual environment."""
    log = folder / "moto.log"
    words = ["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with process(words, log, PYTHONUNBUFFERED="1", **environment) as server:

        def url() -> str | None:
            words = log.read_text().split()
            return next((word for word in words if word.startswith("http://127")), None)

        found = wait_until(url, "an S3 server")
        patch.setenv("AWS_ENDPOINT_URL", found)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAFLEETSIMTESTS")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", str(folder / "none"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
        forget_storages()
        store = Store(found, server)
        wait_until(lambda: _answers(found), "an S3 server")
        if bucket:
            store.fs.mkdir(BUCKET)
        yield store


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 (our own)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def forget_storages() -> None:
    """Let the next URL be looked up by the environment as it is then."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def stop(child: subprocess.Popen[bytes]) -> None:
    """Kill a process as a machine that fails would."""
    child.send_signal(signal.SIGKILL)
    child.wait()
