"""The miniature host behind a port, in a process of its own: how quickly it answers, and what memory it holds."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from demo.miniwebui.host import REPOSITORY

ROOT = "/beyondfacial/v1"


class Server:
    """The miniature host in a process of its own."""

    def __init__(self, models_dir, identities):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        flags = ["--models-dir", models_dir, "--port", self.port, "--beyondfacial-models-dir", identities]
        command = [sys.executable, "-m", "demo.miniwebui", *map(str, flags)]
        self.log = open(Path(identities) / "log", "w+b")  # noqa: SIM115, PTH123  closed by close
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        deadline = time.monotonic() + 120
        while self.ask("GET", f"{ROOT}/version")[0] != 200:
            assert self.process.poll() is None, self.tell()
            assert time.monotonic() < deadline, self.tell()
            time.sleep(0.2)

    def ask(self, method, path, body=None, headers=()):
        """Status (0: the connection ended without one) and seconds."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        begin = time.perf_counter()
        status = 0
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # answered before all was sent
                connection.request(method, path, body, dict(headers))
            with contextlib.suppress(http.client.HTTPException, OSError):
                answer = connection.getresponse()
                answer.read()
                status = answer.status
        except OSError:
            pass
        finally:
            connection.close()
        return status, time.perf_counter() - begin

    def memory(self, is_peak=False):
        """Bytes that the process holds once it is at rest, or has held at most."""
        readings = []
        for _ in range(1 if is_peak else 10):
            result = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
            readings.append(int(re.search(rf"{'VmHWM' if is_peak else 'VmRSS'}:\s*(\d+) kB", result)[1]) * 1024)
            time.sleep(0.2)
        return min(readings)

    def tell(self):
        """The end of what it has written."""
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")[-3000:]

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


HEARTBEAT = """
import http.client, sys, time
beats = []
while True:
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=120)
    begin = time.perf_counter()
    connection.request("GET", sys.argv[2])
    status = connection.getresponse().status
    print(status, time.perf_counter() - begin, flush=True)
    connection.close()
    time.sleep(0.05)
"""


@contextlib.contextmanager
def heartbeat(server):
    """Asks for something small all the time, in a process of its own; gives a list of (status, seconds)."""
    beats = []
    command = [sys.executable, "-c", HEARTBEAT, str(server.port), f"{ROOT}/version"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield beats
        finally:
            process.terminate()
            beats += [tuple(map(float, line.split())) for line in process.stdout if line.endswith("\n")]
