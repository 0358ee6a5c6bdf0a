"""An S3 server of moto for the tests of results on a storage; its secret is to be seen nowhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

BUCKET, SECRET = "fleet", "a-secret-that-nobody-may-see"
URL = f"s3://{BUCKET}/results"


@pytest.fixture(scope="module")
def results_server() -> Iterator[str]:
    """Return the endpoint of a server that ends with the module."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def results_url(results_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the URL of an empty place for results, which the environment gives access to."""
    import boto3
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # which knows the environment of another test
    monkeypatch.setenv("AWS_ENDPOINT_URL", results_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-that-nobody-may-see")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = boto3.resource("s3", endpoint_url=results_server).Bucket(BUCKET)
    bucket.create()
    yield URL
    bucket.objects.all().delete()
    bucket.delete()
