"""A server under measurement: its processes together, suspended while others are measured."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

IDLE_SHARE = 0.05
POLL = 0.02


class CannotRun(Exception):
    """A system, or a load generator, that is not here or does not work; the text is the reason."""


class Processes:
    """A program and whatever it starts; ``log`` gets what they print. Raises CannotRun where it is not there."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        self.started = time.monotonic()
        try:
            with log.open("wb") as file:
                # In a session of its own, so that Ctrl-C in the terminal reaches the bench alone.
                self.root = psutil.Popen(
                    list(command),
                    env=os.environ | dict(environ),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise CannotRun(f"{command[0]}: {error.strerror}") from error

    def tree(self) -> list[psutil.Process]:
        """The program and everything below it. Worker processes make sessions and groups of their own."""
        with suppress(psutil.NoSuchProcess):
            return [self.root, *self.root.children(recursive=True)]
        return []

    def wait_until(self, ready: Callable[[], bool], patience: float) -> float:
        """Seconds from the start until ``ready``. Raises CannotRun, with the end of the log, where it never is."""
        while time.monotonic() - self.started < patience:
            if self.root.poll() is not None:
                raise CannotRun(f"ended with code {self.root.returncode}: {self.last_words()}")
            if ready():
                return time.monotonic() - self.started
            time.sleep(POLL)
        raise CannotRun(f"gave no answer within {patience:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of the log that says something."""
        lines = [line.strip() for line in self.log.read_text("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:200] if lines else "it printed nothing"

    def suspend(self) -> None:
        """Stop the clock of every process; nothing of the state is lost."""
        self._each("suspend")

    def resume(self) -> None:
        """Let every process run on."""
        self._each("resume")

    def settle(self, patience: float = 10.0, interval: float = 0.2) -> None:
        """Return once the processes are idle: work that was left to them would else be done in the next measurement."""
        deadline = time.monotonic() + patience
        before = self._processor()
        while time.monotonic() < deadline:
            time.sleep(interval)
            now = self._processor()
            if now - before <= IDLE_SHARE * interval + 1e-9:
                return
            before = now

    def memory(self) -> int:
        """Bytes of all processes, what they share counted once (PSS, /proc/PID/smaps_rollup)."""
        return round(sum(self._read(lambda process: process.memory_full_info().pss)))

    def _processor(self) -> float:
        return sum(self._read(lambda process: sum(process.cpu_times()[:2])))

    def _read(self, what: Callable[[psutil.Process], float]) -> list[float]:
        values = []
        for process in self.tree():
            with suppress(psutil.Error):
                values.append(what(process))
        return values

    def _each(self, action: str) -> None:
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                getattr(process, action)()

    def stop(self, patience: float = 10.0) -> None:
        """End all processes: SIGTERM to the program, SIGKILL to what is still there after ``patience`` seconds."""
        tree = self.tree()
        self.resume()
        with suppress(psutil.NoSuchProcess):
            self.root.terminate()
        _, alive = psutil.wait_procs(tree, timeout=patience)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=patience)
