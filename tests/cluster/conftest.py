"""Fixtures of processes on loopback."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster_support import DaskProcesses, Store, process, s3_server
from support import wait_until

if importlib.util.find_spec("distributed") is None:  # `make test-cluster` sees to it
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder as a test of clusters and storages."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture
def start_dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., DaskProcesses]]:
    """Return a function that starts a scheduler and some workers."""
    with ExitStack() as stack:

        def start(workers: int, **environment: str) -> DaskProcesses:
            folder = tmp_path_factory.mktemp("dask")
            log = folder / "scheduler.log"
            words = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
            scheduler = stack.enter_context(process([*words, "--no-dashboard"], log, **environment))

            def address() -> str | None:
                words = log.read_text().split()
                return next((word for word in words if word.startswith("tcp://")), None)

            found = wait_until(address, "a scheduler")
            dask = DaskProcesses(found, scheduler, folder, stack)
            for _ in range(workers):
                dask.add_worker()
            return dask

        yield start


@pytest.fixture
def s3(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """Return an S3 server with an empty bucket."""
    with s3_server(tmp_path_factory.mktemp("s3"), monkeypatch) as store:
        yield store
