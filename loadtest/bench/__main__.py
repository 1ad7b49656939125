"""``make bench``: the bare session, the gateway over HTTP and gRPC, and a plain FastAPI endpoint, in rounds."""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loadtest.bench import session
from loadtest.bench.texts import mixed
from serving.settings import read_available_cores

DEFAULT_MODEL = Path("model_repository/tickets")
CEILING = "bare session, in process"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description="Requests a second on texts of mixed length, every system in every round; ratios, not absolutes, "
        "are what one run can tell on a noisy machine.",
    )
    command.add_argument("model", type=Path, nargs="?", default=DEFAULT_MODEL, help="model directory")
    command.add_argument("--concurrency", type=int, default=16, help="callers of the closed loop (default 16)")
    command.add_argument("--rounds", type=int, default=3, help="default 3")
    command.add_argument("--seconds", type=float, default=6.0, help="per system and round (default 6)")
    command.add_argument("--output", type=Path, default=Path("bench-report"), help="default bench-report/")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 2 when there is no model to measure."""
    args = parser().parse_args(argv)
    versions = sorted((int(p.name), p) for p in args.model.glob("[0-9]*"))
    if not versions:
        print(f"bench: {args.model} has no version; run `make demo ONCE=1` first, or name a model directory")
        return 2
    version = versions[-1][1].resolve()
    args.output.mkdir(parents=True, exist_ok=True)
    texts = mixed(512)
    rows = args.output / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    with _servers(args.model.resolve(), version) as urls:
        systems: dict[str, Callable[[], Mapping[str, float]]] = {
            CEILING: lambda: {"rate": session.rows_per_second(version, texts, args.seconds)}
        }
        for system, url in urls.items():
            systems[system] = lambda url=url: _loaded(url, args, rows)  # type: ignore[misc]
        figures: dict[str, list[Mapping[str, float]]] = {system: [] for system in systems}
        for number in range(args.rounds):
            for system, measure in systems.items():
                figures[system].append(measure())
                print(f"round {number + 1}/{args.rounds}  {system:28} {figures[system][-1]['rate']:8.1f}/s", flush=True)
    _print(figures, args)
    (args.output / "bench.json").write_text(json.dumps(figures, indent=2), "utf-8")
    return 0


@contextmanager
def _servers(model: Path, version: Path) -> Iterator[dict[str, str]]:
    """The servers to compare, running; their URLs by name."""
    http, grpc, plain = _free_ports(3)
    with tempfile.TemporaryDirectory(prefix="downstream-bench-") as folder:
        (Path(folder) / model.name).symlink_to(model)
        commands = [
            ["-m", "serving", folder, "--http-port", str(http), "--grpc-port", str(grpc), "--log-level", "warning"],
            ["-m", "loadtest.bench.plain", str(version), str(plain)],
        ]
        processes = [subprocess.Popen([sys.executable, *command]) for command in commands]
        try:
            for port, process in zip((http, plain), processes, strict=True):
                _wait_ready(port, process)
            _print_start(processes[0].pid)
            yield {
                "gateway, HTTP JSON": f"http://127.0.0.1:{http}",
                "gateway, gRPC": f"grpc://127.0.0.1:{grpc}",
                "plain FastAPI, one at a time": f"http://127.0.0.1:{plain}",
            }
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _print_start(process: int) -> None:
    """What the gateway took from its start until it was ready (Linux only: read from /proc)."""
    fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    (resident,) = (n for n in Path(f"/proc/{process}/status").read_text("utf-8").splitlines() if "VmRSS" in n)
    print(f"gateway, start to ready: {seconds:.2f} s of CPU time, {int(resident.split()[1]) / 1024:.0f} MiB resident")


def _loaded(url: str, args: argparse.Namespace, rows: Path) -> dict[str, float]:
    """Figures of one closed-loop load test, run in a process of its own."""
    output = args.output / "loadtest"
    options = {
        "model": args.model.resolve().name,
        "input": rows,
        "concurrency": args.concurrency,
        "duration": args.seconds,
        "output": output,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "loadtest", url, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    report = json.loads((output / "report.json").read_text("utf-8"))
    latency = report["latency"]
    return {"rate": report["throughput"], "p50": latency["p50"], "p99": latency["p99"], "failed": report["failed"]}


def _print(figures: Mapping[str, Sequence[Mapping[str, float]]], args: argparse.Namespace) -> None:
    table = Table(
        title=f"{args.model.resolve().name}, {args.concurrency} callers, {args.rounds} rounds of {args.seconds:g} s"
    )
    for heading in ("", "rows/s", "spread", "of ceiling", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if not heading else "right")
    ceiling = statistics.median(figure["rate"] for figure in figures[CEILING])
    for system, rounds in figures.items():
        rates = [figure["rate"] for figure in rounds]
        rate = statistics.median(rates)
        latencies = [
            f"{statistics.median(figure[name] for figure in rounds):.1f}" if name in rounds[0] else "-"
            for name in ("p50", "p99")
        ]
        table.add_row(system, f"{rate:.1f}", f"{min(rates):.0f}..{max(rates):.0f}", f"{rate / ceiling:.2f}", *latencies)
    Console(width=110).print(table)
    print(f"{platform.machine()}, {read_available_cores()} of {os.cpu_count()} cores; medians over rounds; the load "
          "generator runs on the same cores")  # fmt: skip


def _wait_ready(port: int, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server on port {port} did not become ready")


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    sys.exit(main())
