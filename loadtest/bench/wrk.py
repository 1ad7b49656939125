"""Closed loops over HTTP by wrk, a load generator in C: Python would take half of two cores for itself."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from loadtest.bench.figures import Figures
from loadtest.bench.processes import CannotRun

SCRIPT = Path(__file__).with_name("requests.lua")
ABSENT = "wrk is not installed: `apt-get install wrk` (Debian, Ubuntu) or `brew install wrk`"
TIMEOUT = 60


def check_installed() -> None:
    """Raises CannotRun, with what to install, where wrk is not here."""
    if not shutil.which("wrk"):
        raise CannotRun(ABSENT)


def write_requests(path: Path, requests: Sequence[bytes]) -> None:
    """Whole HTTP requests as ``requests.lua`` reads them."""
    path.write_bytes(b"".join(b"%d\n%b" % (len(one), one) for one in requests))


def run(address: str, requests: Path, concurrency: int, seconds: float) -> Figures:
    """Load ``host:port`` with so many connections for about so many seconds. Raises CannotRun."""
    command = ["wrk", "--threads", "1", "--connections", str(concurrency), "--duration", f"{math.ceil(seconds)}s"]
    command += ["--timeout", f"{TIMEOUT}s", "--script", str(SCRIPT), f"http://{address}/"]
    done = subprocess.run(  # noqa: S603
        command,
        env=os.environ | {"REQUESTS": str(requests)},
        capture_output=True,
        text=True,
        timeout=seconds + 2 * TIMEOUT,
        check=False,
    )
    return read(done.stdout, done.stderr)


def read(output: str, errors: str = "") -> Figures:
    """The figures in what wrk printed. Raises CannotRun where there are none."""
    found = [line.removeprefix("RESULT ") for line in output.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise CannotRun(f"wrk gave no result: {(errors or output).strip()[-200:]}")
    summary = json.loads(found[-1])
    seconds = summary["microseconds"] / 1e6
    good = summary["requests"] - summary["refused"]
    return Figures(
        rate=good / seconds,
        p50=summary["p50"] / 1e3 if good else None,
        p99=summary["p99"] / 1e3 if good else None,
        failed=summary["refused"] + summary["broken"],
        seconds=seconds,
    )
