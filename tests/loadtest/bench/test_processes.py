"""A system's processes are suspended, resumed and ended together."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from loadtest.bench.processes import CannotRun, Processes

# A parent with a child in a session of its own that ignores SIGTERM, as worker processes of some frameworks do.
CHILD = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
PARENT = f"""
import signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", {CHILD!r}], start_new_session=True)
signal.pause()
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes([sys.executable, "-c", PARENT], {}, tmp_path, tmp_path / "log.txt")
    started.wait_until(lambda: "up" in started.log.read_text(), patience=60)
    yield started
    started.stop(patience=0.1)


def eventually(holds: Callable[[], bool]) -> bool:
    """Signals take effect a moment after they were sent."""
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            return False
    return True


def states(processes: Processes) -> set[str]:
    return {process.status() for process in processes.tree()}


def test_the_whole_tree_is_suspended_and_resumed(processes: Processes) -> None:
    assert len(processes.tree()) == 2
    processes.suspend()
    assert eventually(lambda: states(processes) == {psutil.STATUS_STOPPED})
    processes.resume()
    assert eventually(lambda: psutil.STATUS_STOPPED not in states(processes))


def test_suspended_processes_that_ignore_the_signal_are_ended_too(processes: Processes) -> None:
    tree = processes.tree()
    processes.suspend()
    processes.stop(patience=0.1)
    assert eventually(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in tree))


def test_idle_processes_are_settled_and_have_a_size(processes: Processes) -> None:
    processes.settle(interval=0.01)
    assert processes.memory() > 1_000_000


def test_a_program_that_ends_says_its_last_words(tmp_path: Path) -> None:
    program = "import sys; print('starting'); sys.exit('no such model')"
    failing = Processes([sys.executable, "-c", program], {}, tmp_path, tmp_path / "log.txt")
    with pytest.raises(CannotRun, match="ended with code 1: no such model"):
        failing.wait_until(lambda: False, patience=60)


def test_a_program_that_never_answers_is_given_up(processes: Processes) -> None:
    with pytest.raises(CannotRun, match="no answer within"):
        processes.wait_until(lambda: False, patience=0)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="no-such-program"):
        Processes(["no-such-program"], {}, tmp_path, tmp_path / "log.txt")
