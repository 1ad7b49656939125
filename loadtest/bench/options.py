"""The command line of the bench."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.traces import SHORT_FILE

SYSTEMS = ("ceiling", "gateway", "plain", "mosec", "litserve", "bentoml", "mlserver", "ray", "triton")
TRACES = ("short", "mixed")
DESCRIPTION = """\
Rows a second, latency, memory and start of the gateway beside the bare session, a plain FastAPI program, five serving
frameworks and a real Triton server: the same texts, the same ONNX file, the same cores, in interleaved rounds.

Only ratios inside one run mean something, on a quiet machine. While one system is measured all others are suspended.
What cannot be installed or started is in the table with its reason."""
EXAMPLES = """\
examples:
  python -m loadtest.bench                                   everything on model_repository/bench, 20 to 25 minutes
  python -m loadtest.bench --quick --systems ceiling gateway plain       a first look, a minute
  python -m loadtest.bench model_repository/mine --markdown table.md     another model; tables to include in a document
  python -m loadtest.bench --traces mixed --concurrency 64 --no-open-loop --rounds 5
  python -m loadtest.bench.memory --minutes 10               does the gateway's memory stay flat?

Ctrl-C ends it, and what was measured until then is reported. Exit codes: 0 measured, 2 nothing could be measured.
Needs wrk; gRPC and open loops also perf_analyzer, which `make bench` installs together with the frameworks."""


@dataclass(frozen=True)
class Options:
    """What is measured, how often and for how long (``seconds`` for each measurement)."""

    model: Path
    rounds: int
    seconds: float
    systems: tuple[str, ...]
    traces: tuple[str, ...]
    concurrency: tuple[int, ...]
    open_loop: bool
    short: Path
    output: Path
    markdown: Path | None


def parse(argv: Sequence[str] | None = None) -> Options:
    """The options of a command line. Raises SystemExit(2) where it is wrong."""
    values = vars(parser().parse_args(argv))
    if values.pop("quick"):
        values |= {"rounds": 1, "seconds": 1.0, "concurrency": [1, 64], "open_loop": False}
    many = {name: tuple(dict.fromkeys(values[name])) for name in ("systems", "traces", "concurrency")}
    return Options(**values | many)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("model", type=Path, nargs="?", default=Path("model_repository/bench"), help="directory of a text-"
        "classification model (default model_repository/bench, which `make bench` makes)")  # fmt: skip
    add("--rounds", type=_least(int, 1), default=3, help="every system in every round (default 3)")
    add("--seconds", type=_least(float, 0.5), default=3.0, help="per measurement; slow systems are given up to three "
        "times as long, so that enough answers come (default 3)")  # fmt: skip
    add("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, metavar="NAME", help=f"of {', '.join(SYSTEMS)}")
    add("--traces", nargs="+", choices=TRACES, default=TRACES, metavar="NAME", help="short, mixed (default both)")
    add("--concurrency", nargs="+", type=_least(int, 1), default=(1, 16, 64), metavar="N",
        help="callers of the closed loops (default 1 16 64)")  # fmt: skip
    add("--open-loop", action=argparse.BooleanOptionalAction, default=True, help="also random arrivals at 0.5, 0.8 and "
        "1.2 of each system's own capacity, and bursts, on the mixed trace")  # fmt: skip
    add("--quick", action="store_true", help="one round of 1 s, 1 and 64 callers, no open loop: a first look")
    add("--short", type=Path, default=SHORT_FILE, metavar="FILE", help="JSON lines for the short trace (default "
        "%(default)s, or made-up texts where that is not there)")  # fmt: skip
    add("--output", type=Path, default=Path("bench-report"), metavar="FOLDER", help="default bench-report/")
    add("--markdown", type=Path, metavar="FILE", help="also the tables, goals, settings and machine as Markdown")
    return made


def _least(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is too small; give {least} or more")
        return value

    return read
