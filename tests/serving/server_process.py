"""``python -m serving`` as its users run it: a process of its own, on free ports, told to stop by a signal."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# No test waits this long; it ends one that would otherwise hang.
PATIENCE = 60.0
ROOT = Path(__file__).parents[2]
LISTENING = re.compile(r"http://(127\.0\.0\.1:\d+) +grpc://(127\.0\.0\.1:\d+)")


class ServerProcess:
    """A server and what it has logged so far; ``http`` and ``grpc`` are its addresses, as host:port."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "serving", str(folder), *options]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("DOWNSTREAM_")}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.http = self.grpc = ""

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def wait_until_loaded(self) -> None:
        """Return once the ports are open and every model was tried."""
        self.http, self.grpc = self.wait_for(LISTENING).groups()
        self.wait_for(re.compile(r"serving: (ready|not ready)"))

    def wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """The first match in what is logged from now on."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            assert line is not None, "the server ended:\n" + "".join(self.log)
            self.log.append(line)
            match = pattern.search(line)
            if match:
                return match

    def stop(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Wait for the end; the log is whole then."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while line := self._lines.get(timeout=PATIENCE):
            self.log.append(line)
        return code

    def kill(self) -> None:
        """End it now if it still runs."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr
        self.process.stderr.close()


@contextmanager
def running(folder: Path, *options: str) -> Iterator[ServerProcess]:
    """A server on free ports that has tried to load every model."""
    server = ServerProcess(folder, "--http-port", "0", "--grpc-port", "0", *options)
    try:
        server.wait_until_loaded()
        yield server
    finally:
        server.kill()
