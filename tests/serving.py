"""Hosts as processes of their own, each behind a port of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
START_S = 300


class Served(NamedTuple):
    """A running host: where it answers, its process id, the file that it writes to."""

    port: int
    pid: int
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(module: str, log: Path, *flags: object, **environment: str) -> Iterator[Served]:
    """Run `python -m module --port ... flags` until the block ends; the test fails where it does not start."""
    port = free_port()
    command = [sys.executable, "-m", module, "--port", str(port), *map(str, flags)]
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env=os.environ | environment
        ) as process,
    ):
        served = Served(port, process.pid, log)
        try:
            until = time.monotonic() + START_S
            while not is_up(served.address):
                if process.poll() is not None or time.monotonic() > until:
                    pytest.fail(f"{module} did not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.2)
            yield served
        finally:
            process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/sdapi/v1/progress", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
