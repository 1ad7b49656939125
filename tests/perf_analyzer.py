"""NVIDIA's load generator, for tests that a server is measured by it unchanged; `make test-full` installs it."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.triton_server import HOME

# No test waits this long; it ends one that would otherwise hang.
PATIENCE = 120.0


def why_absent() -> str | None:
    """Why there is no perf_analyzer here, or None."""
    marker = HOME / "perf_analyzer.absent"
    if marker.exists():
        return f"no perf_analyzer: {marker.read_text('utf-8')}"
    return None if (HOME / ".perf_analyzer").exists() else "no perf_analyzer: `make test-full` installs it"


needs_perf_analyzer = pytest.mark.skipif(why_absent() is not None, reason=why_absent() or "")


def perf_analyzer(model: str, address: str, *options: str) -> str:
    """What it prints of one short run; raises AssertionError, with that, if it fails.

    Its default waits until three windows agree within 10 %, which a busy machine never reaches: ``-s 999`` is off.
    """
    command = [HOME / "perf_analyzer", "-m", model, "-u", address, "--measurement-mode", "count_windows"]
    command += ["--measurement-request-count", "20", "-s", "999", *options]
    environ = os.environ | {"LD_LIBRARY_PATH": str(HOME / "perf_analyzer.libs")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
