"""What tests of a cluster share: a real S3 interface, and a search that is run as its user runs it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import boto3
import pytest

ROOT = Path(__file__).resolve().parents[2]
S3_KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The variables that lead to a server with S3's interface (moto), and in it an empty bucket, `bucket`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    environ = S3_KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    until_s = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(environ["AWS_ENDPOINT_URL"], timeout=5).close()
            break
        except OSError:
            assert server.poll() is None and time.monotonic() < until_s, "the moto server did not start"
            time.sleep(0.2)
    open_bucket(environ).create_bucket(Bucket="bucket")
    yield environ
    server.terminate()
    server.wait()


def open_bucket(environ: dict[str, str]) -> boto3.client:
    return boto3.client(
        "s3",
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        region_name=environ["AWS_DEFAULT_REGION"],
        aws_access_key_id="tests",
        aws_secret_access_key="tests",
    )


def list_keys(environ: dict[str, str], prefix: str) -> list[str]:
    with closing(open_bucket(environ)) as client:
        found = client.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])
        return sorted(entry["Key"] for entry in found)
