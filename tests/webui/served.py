"""The miniature host behind a port, in a process of its own: how quickly it answers, and what memory it holds."""

from __future__ import annotations

import contextlib
import http.client
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.serving import Served

ROOT = "/beyondfacial/v1"


class Server:
    """A running host, asked over plain HTTP."""

    def __init__(self, served: Served):
        self.port, self.pid, self.log = served.port, served.pid, served.log

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
            result = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
            readings.append(int(re.search(rf"{'VmHWM' if is_peak else 'VmRSS'}:\s*(\d+) kB", result)[1]) * 1024)
            time.sleep(0.2)
        return min(readings)

    def tell(self):
        """The end of what it has written."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]


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
