"""NVIDIA's perf_analyzer: gRPC, and arrivals at random or as listed, where a server speaks v2 completely."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from loadtest.bench.figures import Figures
from loadtest.bench.processes import CannotRun

HOME = Path(".venv-triton")
# It merges three windows into one reading; a longer wait for stable ones is turned off, for a shared machine has none.
WINDOWS = 3
SHORTEST_WINDOW = 0.5
PATIENCE = 180.0
# With several threads all of them send the same text at the same time: a batcher then has nothing to pad, and a cache
# answers most. One thread, which does not wait for answers, sends the texts in turn.
IN_TURN = ("--async", "--max-threads", "1")
LATE = re.compile(r"([\d.]+)% of the requests were delayed")


def why_absent(home: Path = HOME) -> str:
    """Why it cannot be run here, or an empty text."""
    marker = home / "perf_analyzer.absent"
    if marker.is_file():
        return f"no perf_analyzer: {marker.read_text('utf-8').strip()}"
    return "" if (home / "perf_analyzer").is_file() else "no perf_analyzer: `make bench` installs it"


def write_texts(path: Path, texts: Sequence[str]) -> None:
    """The texts as perf_analyzer reads them: one row a request, in turn."""
    path.write_text(json.dumps({"data": [{"text": {"content": [text], "shape": [1]}} for text in texts]}), "utf-8")


def write_intervals(path: Path, arrivals: Iterable[float]) -> None:
    """Arrival times in seconds as the microseconds between them, which it repeats for ever."""
    moments = np.fromiter(arrivals, np.float64)
    gaps = np.maximum(np.rint(1e6 * np.diff(moments, prepend=0.0)), 1).astype(int)
    path.write_text("".join(f"{gap}\n" for gap in gaps), "utf-8")


def closed(address: str, model: str, wire: Sequence[str], texts: Path, concurrency: int, seconds: float) -> Figures:
    """So many callers; ``wire`` are the options that choose the protocol. Raises CannotRun."""
    order = IN_TURN if concurrency > 1 else ()
    figures, _ = _run(address, model, texts, seconds, [*wire, "--concurrency-range", str(concurrency), *order])
    return figures


def open_loop(
    address: str, model: str, wire: Sequence[str], texts: Path, rate: float | Path, seconds: float
) -> tuple[Figures, float]:
    """Poisson arrivals of ``rate`` a second, or those of an intervals file; and the share it sent late.

    Latency counts from the real sending, so what was sent late looks better than it was. Raises CannotRun.
    """
    arrivals = ["--request-intervals", str(rate)]
    if not isinstance(rate, Path):
        arrivals = ["--request-rate-range", f"{rate:.3f}", "--request-distribution", "poisson"]
    return _run(address, model, texts, seconds, [*wire, *arrivals, *IN_TURN])


def _run(address: str, model: str, texts: Path, seconds: float, options: Sequence[str]) -> tuple[Figures, float]:
    export = texts.with_name("perf_analyzer.json")
    export.unlink(missing_ok=True)
    window = round(1000 * max(seconds / WINDOWS, SHORTEST_WINDOW))
    command = [str(HOME.resolve() / "perf_analyzer"), "-m", model, "-u", address, "--input-data", str(texts)]
    command += ["--measurement-mode", "time_windows", "-p", str(window), "-s", "999", "-r", "10", "--percentile", "99"]
    command += ["--profile-export-file", str(export), *options]
    environ = os.environ | {"LD_LIBRARY_PATH": str(HOME.resolve() / "perf_analyzer.libs")}
    try:
        done = subprocess.run(  # noqa: S603
            command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotRun(f"perf_analyzer did not end within {PATIENCE:.0f} s") from None
    if done.returncode or not export.is_file():
        raise CannotRun(f"perf_analyzer: {_reason(done.stdout + done.stderr)}")
    late = LATE.search(done.stdout + done.stderr)
    return read(export.read_text("utf-8")), float(late[1]) / 100 if late else 0.0


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line or "ailed" in line), lines[-1] if lines else "no word")[:200]


def read(exported: str) -> Figures:
    """The figures of a profile export: answers within its windows. Raises CannotRun where there are none."""
    (experiment,) = json.loads(exported)["experiments"]
    begin, end = experiment["window_boundaries"][0], experiment["window_boundaries"][-1]
    answered = [
        (one["timestamp"], one["response_timestamps"][-1])
        for one in experiment["requests"]
        if one["response_timestamps"] and begin <= one["response_timestamps"][-1] <= end
    ]
    if not answered:
        raise CannotRun("perf_analyzer got no answer")
    sent, ended = np.array(answered, np.int64).T
    p50, p99 = np.percentile((ended - sent) / 1e6, [50, 99])
    return Figures(len(answered) / ((end - begin) / 1e9), float(p50), float(p99), 0, (end - begin) / 1e9)
