"""The command line of ``downstream loadtest``, read into one frozen value."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

DESCRIPTION = """\
Send inference requests to a server that speaks the Open Inference Protocol (KServe v2), and report latency,
throughput and errors as report.json and report.html.

Two ways to load a server:
  --rate R         open loop: requests arrive at random (Poisson) at R a second, whether or not earlier ones were
                   answered, as independent users do. Latency counts from the moment a request was due, so a
                   stall of the server is felt by every request that was due during it. Use it to learn what
                   users will see at a given traffic.
  --concurrency N  closed loop: N callers, each sends again as soon as it has its answer. Use it to learn the
                   greatest throughput; its latencies flatter a server that stalls."""

EXAMPLES = """\
examples:
  downstream loadtest http://localhost:8000
      the only ready model, 8 callers for 10 seconds, with the example row of the model
  downstream loadtest grpc://localhost:8001 --model intent --rate 50 --duration 60 --input rows.jsonl
      50 requests a second for a minute over gRPC, with your own rows
  downstream loadtest http://localhost:8000 --rate 50 --max-p99 100 --max-error-rate 0.001
      a gate for CI: exit code 1 if the 99th percentile is above 100 ms or more than 1 of 1,000 requests fail
  downstream loadtest http://localhost:8000 --concurrency 32 --rows 8 --requests 5000
      5,000 requests of 8 rows each

exit codes: 0 all limits hold, 1 a limit is broken, 2 the test could not start, 130 stopped by Ctrl-C
(the report of what was measured is written all the same)."""


@dataclass(frozen=True)
class Settings:
    """What to send, how fast, for how long, and what is good enough.

    ``rate`` is in requests a second, ``duration``, ``warmup`` and ``timeout`` in seconds, ``max_p50`` and ``max_p99``
    in milliseconds. Of ``rate`` and ``concurrency``, and of ``duration`` and ``requests``, exactly one is not None.
    """

    url: str
    model: str | None = None
    rate: float | None = None
    concurrency: int | None = 8
    duration: float | None = 10.0
    requests: int | None = None
    warmup: float = 1.0
    timeout: float = 30.0
    rows: int = 1
    input: Path | None = None
    seed: int = 0
    output: Path = Path("loadtest-report")
    max_p50: float | None = None
    max_p99: float | None = None
    max_error_rate: float = 0.0
    min_throughput: float | None = None
    command: str = ""

    @property
    def load(self) -> str:
        """The kind of load in words."""
        if self.rate is not None:
            return f"open loop, {self.rate:g} requests a second"
        return f"closed loop, {self.concurrency} {'caller' if self.concurrency == 1 else 'callers'}"


def parse(argv: Sequence[str] | None) -> Settings:
    """The settings of a command line. Raises SystemExit(2) with the usage where it is wrong."""
    given = list(sys.argv[1:] if argv is None else argv)
    values = vars(_parser().parse_args(given))
    if values["rate"] is None and values["concurrency"] is None:
        values["concurrency"] = 8
    if values["duration"] is None and values["requests"] is None:
        values["duration"] = 10.0
    return Settings(**values, command=shlex.join(["downstream", "loadtest", *given]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="downstream loadtest",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("url", metavar="URL", type=_url, help="http://host:port or grpc://host:port (https, grpcs with TLS)")
    add("--model", metavar="NAME", help="model to ask; may be left out where just one is ready")
    load = parser.add_argument_group("load").add_mutually_exclusive_group()
    load.add_argument("--rate", metavar="R", type=_positive, help="requests a second, open loop")
    load.add_argument("--concurrency", metavar="N", type=_count, help="callers, closed loop (default 8)")
    length = parser.add_argument_group("length").add_mutually_exclusive_group()
    length.add_argument("--duration", metavar="SECONDS", type=_positive, help="how long to measure (default 10)")
    length.add_argument("--requests", metavar="N", type=_count, help="how many requests to measure")
    add("--warmup", metavar="SECONDS", type=_nonnegative, default=1.0, help="load not counted, at first (default 1)")
    add("--timeout", metavar="SECONDS", type=_positive, default=30.0, help="of a request, told the server (default 30)")
    add("--rows", metavar="N", type=_count, default=1, help="rows in a request (default 1)")
    add(
        "--input",
        metavar="FILE",
        type=Path,
        help="rows to send: .jsonl (an object a line), .csv (with header) or .txt (a text a line)",
    )
    add("--seed", metavar="N", type=int, default=0, help="of arrival times and the order of rows (default 0)")
    add("--output", metavar="DIR", type=Path, default=Path("loadtest-report"), help="default loadtest-report/")
    limits = parser.add_argument_group("limits, each turns the exit code to 1")
    limits.add_argument("--max-p50", metavar="MS", type=_positive, help="median latency in milliseconds")
    limits.add_argument("--max-p99", metavar="MS", type=_positive, help="99th percentile of latency in milliseconds")
    limits.add_argument(
        "--max-error-rate", metavar="FRACTION", type=_fraction, default=0.0, help="share that may fail (default 0)"
    )
    limits.add_argument("--min-throughput", metavar="R", type=_positive, help="good answers a second")
    return parser


def _url(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme not in {"http", "https", "grpc", "grpcs"} or not rest.strip("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is no server; give http://host:port or grpc://host:port")
    return text.rstrip("/")


def _number(accepted: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and accepted(value)):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return read


_positive = _number(lambda value: value > 0, "a number above 0")
_nonnegative = _number(lambda value: value >= 0, "0 or a number above it")
_fraction = _number(lambda value: 0 <= value <= 1, "a fraction between 0 and 1")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
