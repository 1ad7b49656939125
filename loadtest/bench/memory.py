"""Does the gateway's memory stay flat? ``python -m loadtest.bench.memory``: random lengths for ten minutes."""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from loadtest.bench import launch, runners, systems, traces, wrk
from loadtest.bench.ceiling import Session
from loadtest.bench.figures import Figures, Results
from loadtest.bench.goals import MEGABYTE, Goal
from loadtest.bench.processes import CannotRun
from serving.errors import DownstreamError
from serving.settings import read_available_cores

FILE = "memory.json"
TEXTS = 4096
INTERVAL = 1.0
LONG_ENOUGH = 9.5
"""Minutes: the goal is of ten."""
SETTLED = 0.1
"""Share of the time after which it counts as settled: every thread has met the longest texts by then."""


@dataclass(frozen=True)
class Course:
    """Memory over time: bytes (PSS) at the start, once it settled and at the end; bytes a minute since it settled."""

    minutes: float
    start: float
    settled: float
    end: float
    slope: float
    rate: float

    @property
    def growth(self) -> float:
        """Percent from settled to the end, by the slope: one sample more or less does not matter."""
        return 100 * self.slope * self.minutes * (1 - SETTLED) / self.settled

    def __str__(self) -> str:
        start, settled, end = (value / MEGABYTE for value in (self.start, self.settled, self.end))
        return (
            f"PSS {start:.0f} MB at the start, {settled:.0f} MB after {self.minutes * SETTLED:.1f} min, {end:.0f} MB "
            f"after {self.minutes:.1f} min; slope {self.slope / MEGABYTE:+.2f} MB a minute once it settled "
            f"({self.growth:+.1f} % in all), at {self.rate:.0f} rows/s"
        )


def course(times: Sequence[float], sizes: Sequence[float], rate: float = 0.0) -> Course:
    """The course of samples: seconds from the start of the load, bytes. Needs two samples after it settled."""
    at, size = np.array(times, np.float64), np.array(sizes, np.float64)
    later = at >= SETTLED * at[-1]
    slope, offset = np.polyfit(at[later], size[later], 1)
    settled = float(slope * at[later][0] + offset)
    return Course(at[-1] / 60, float(size[0]), settled, float(size[-1]), float(60 * slope), rate)


def goal(path: Path) -> Goal | None:
    """The goal of flat memory by the last run that left a file, None without one that was long enough."""
    if not path.is_file():
        return None
    known = Course(**json.loads(path.read_text("utf-8")))
    if known.minutes < LONG_ENOUGH:
        return None
    what = f"gateway: memory growth in {known.minutes:.0f} minutes of random lengths"
    return Goal(what, 5, False, known.growth, "%", str(known))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="python -m loadtest.bench.memory", description=__doc__)
    command.add_argument("model", type=Path, nargs="?", default=Path("model_repository/bench"), help="model directory")
    command.add_argument("--minutes", type=float, default=10.0, help="default 10")
    command.add_argument("--concurrency", type=int, default=16, help="callers (default 16)")
    command.add_argument("--output", type=Path, default=Path("bench-report"), help="folder for memory.json")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Load the gateway, sample its memory, and tell its course; 2 when it cannot be measured."""
    args, console = parser().parse_args(argv), Console()
    try:
        version = launch.version_folder(args.model)
        wrk.check_installed()
        session = Session(version, read_available_cores())
        with ExitStack() as stack:
            known = _load(stack, args, version, session, console)
    except (CannotRun, DownstreamError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / FILE).write_text(json.dumps(asdict(known)), "utf-8")
    console.print(str(known), soft_wrap=True, highlight=False)
    return 0


def _load(stack: ExitStack, args: argparse.Namespace, version: Path, session: Session, console: Console) -> Course:
    draw = random.Random(0)
    lengths = [draw.randint(traces.MIXED.least, session.longest) for _ in range(TEXTS)]
    trace = traces.Trace("random", traces.written(lengths, session.tokens, 0), "random lengths")
    (gateway,) = (one for one in systems.every(args.model.resolve().name) if one.name == "gateway")
    running = runners.start_all(stack, [gateway], version, [trace], session, Results(), console)
    if not running:
        raise CannotRun("the gateway cannot be started")
    (runner,), found = running, list[Figures]()
    wire, seconds = runner.wires[0], 60 * args.minutes
    requests = runner.requests(wire, trace)
    load = threading.Thread(
        target=lambda: found.append(wrk.run(runner.address(wire), requests, args.concurrency, seconds))
    )
    with runner.awake():
        begun, times, sizes = time.monotonic(), [0.0], [float(runner.memory())]
        load.start()
        while load.is_alive():
            load.join(INTERVAL)
            times.append(time.monotonic() - begun)
            sizes.append(float(runner.memory()))
    if not found:
        raise CannotRun("wrk ended without a result")
    return course(times, sizes, found[0].rate)


if __name__ == "__main__":
    sys.exit(main())
