"""A real server that speaks S3, on a port of this machine, for as long as a test needs it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyarrow import fs

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def object_store(*, refuse: bool = False) -> Iterator[str]:
    """Run moto's server; gives the query that an ``s3://`` address needs to reach it.

    Args:
        refuse: answer every request that it has no permission.
    """
    program = Path(os.environ.get("MOTO_SERVER") or Path(sys.executable).with_name("moto_server"))
    if not program.is_file():
        pytest.skip("no S3 server: install moto[server] 5.2 or newer, and name its moto_server in MOTO_SERVER")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = own | ({"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if refuse else {})
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        _wait(server, port)
        yield f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    finally:
        server.terminate()
        server.wait()


def put(store: str, path: str, content: bytes) -> None:
    """Write ``bucket/key`` and the bucket where it is missing."""
    filesystem, _ = fs.FileSystem.from_uri(f"s3://x/{store}&allow_bucket_creation=true")
    filesystem.create_dir(path.partition("/")[0])
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.skip("moto_server did not start")
