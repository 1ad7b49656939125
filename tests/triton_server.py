"""A real Triton server on free ports, for tests of what it answers and of what runs in it.

`make test` installs it into ``.venv-triton`` (tests/triton/install.py); ``needs_triton`` skips where it is absent::

    @needs_triton
    def test_something(tmp_path):
        backends = backends_folder(tmp_path / "backends")    # then add NAME/model.py, or a link to a folder with it
        with running_triton(model_repository, backends, "--model-control-mode=explicit") as server:
            ...  # server.http, server.grpc, server.metrics: host:port
        assert server.exit_code() == 0

Options may not switch off the metrics or the log at level info, by which the start is followed.
Close clients of HTTP inside the block: a connection that is left open holds the server up when it stops, and makes its
exit code 1.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import pytest

HOME = Path(__file__).parents[1] / ".venv-triton"
# No test waits this long. A model whose libraries cannot be loaded hangs at "loading" without a word.
START = 120.0
STOP = 40.0
# The last of the three services that start, after every model was loaded.
STARTED = re.compile(r"Started Metrics Service")
TAKEN = re.compile(r"Socket '\S+' already in use")


def why_absent() -> str | None:
    """Why there is no real Triton server here, or None."""
    marker = HOME / "absent"
    if marker.exists():
        return f"no real Triton server: {marker.read_text('utf-8')}"
    return None if (HOME / ".installed").exists() else "no real Triton server: `make test` installs it"


needs_triton = pytest.mark.skipif(why_absent() is not None, reason=why_absent() or "")


def backends_folder(folder: Path) -> Path:
    """Make a folder of backends that has the Python backend, to add Python-based ones to."""
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(HOME / "backends" / "python")
    return folder


class TritonServer:
    """A server and what it has logged so far.

    ``http``, ``grpc`` and ``metrics`` are its addresses, as host:port; ``regions`` are the files of shared memory that
    the interpreters of its models were seen to use.
    """

    def __init__(self, model_repository: Path, backends: Path, *options: str) -> None:
        ports = _free_ports(3)
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in ports)
        packages = HOME / "lib" / "python3.11" / "site-packages"
        home = packages / "pytriton" / "tritonserver"
        addresses = [f"--{face}-address=127.0.0.1" for face in ("http", "grpc", "metrics")]
        addresses += [f"--{face}-port={port}" for face, port in zip(("http", "grpc", "metrics"), ports, strict=True)]
        command = [
            home / "bin" / "tritonserver",
            f"--model-repository={model_repository.resolve()}",
            f"--backend-directory={backends.resolve()}",
            f"--cache-directory={home / 'caches'}",
            *addresses,
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            "--exit-timeout-secs=10",
            *options,
        ]
        libraries = [packages / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
        # The interpreter of the models is the first python3 on PATH. Their sys.path begins with the working directory:
        # where that were the project, they would import it by accident.
        environ = os.environ | {
            "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        }
        self.process = subprocess.Popen(
            command, cwd="/", env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        self._lines: list[str] = []
        self._unseen: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.regions: set[Path] = set()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout:
            for line in self.process.stdout:
                self._lines.append(line)
                self._unseen.put(line)
        self._unseen.put(None)

    @property
    def log(self) -> str:
        """Everything that the server and the interpreters of its models wrote until now."""
        return "".join(self._lines)

    def wait_for(self, pattern: re.Pattern[str], patience: float = START) -> re.Match[str]:
        """The first match in the lines of the log that were not waited for before."""
        deadline = time.monotonic() + patience
        while True:
            try:
                line = self._unseen.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {pattern.pattern!r} in {patience:.0f} s:\n{self.log}") from None
            assert line is not None, f"the server ended with code {self.process.wait()}:\n{self.log}"
            if match := pattern.search(line):
                return match

    def wait_until_ready(self) -> None:
        """Return once every model was loaded and the three ports are open."""
        self.wait_for(STARTED)
        # It logs that line before it tries: the port opens just after, or was taken, and the server ends.
        deadline = time.monotonic() + STOP
        while not self._serves_metrics():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self._reader.join(STOP)
                raise AssertionError(f"the server has no metrics:\n{self.log}")
            time.sleep(0.01)
        self._note_regions()

    def _serves_metrics(self) -> bool:
        with suppress(OSError, HTTPException), urlopen(f"http://{self.metrics}/metrics", timeout=2) as answer:
            return b"nv_" in answer.read()
        return False

    def exit_code(self) -> int:
        """Tell the server to stop, if it still runs, and wait for its end; the log is whole then."""
        self._note_regions()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP)
        self._reader.join(STOP)
        return code

    def end(self) -> None:
        """Stop the server whatever happens, and remove what a crash leaves: interpreters and their shared memory."""
        try:
            self.exit_code()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP)
        for process in self.interpreters():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for region in self.regions:
            region.unlink(missing_ok=True)
        self._reader.join(STOP)

    def _note_regions(self) -> None:
        self.regions.update(self.interpreters().values())

    def interpreters(self) -> dict[int, Path]:
        """The processes that run this server's models, by id, with the shared memory of each."""
        found = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_text("utf-8", "replace").split("\0") if entry.name.isdigit() else []
                # program, model, region, its size, how it grows, the server's process id, ...
                if len(words) > 5 and words[0].endswith("_backend_stub") and words[5] == str(self.process.pid):
                    found[int(entry.name)] = Path("/dev/shm") / words[2]
        return found


@contextmanager
def running_triton(model_repository: Path, backends: Path, *options: str) -> Iterator[TritonServer]:
    """A server that has loaded every model it was told to; raises AssertionError, with the log, if it cannot."""
    with ExitStack() as stack:
        for last in (False, False, True):
            server = TritonServer(model_repository, backends, *options)
            stack.callback(server.end)
            try:
                server.wait_until_ready()
                break
            except AssertionError:
                # Another process took a port between its choice and its use.
                if last or not TAKEN.search(server.log):
                    raise
        yield server


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
