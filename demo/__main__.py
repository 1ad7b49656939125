"""``downstream demo``: the whole line once, offline, on generated support tickets."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc

from demo.tickets import write_splits
from export.__main__ import main as export
from finetune.__main__ import main as finetune
from loadtest.__main__ import main as loadtest

RECIPE = Path("finetune/recipes/tickets.yaml")
DATA, RUN, REPOSITORY, NAME = Path("demo-data"), Path("runs/tickets"), Path("model_repository"), "tickets"
TICKET = "I was charged twice for order 48213 and nobody answers my mails. I want the second payment back."
READY_SECONDS = 60


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream demo",
        description="Generate tickets, fine-tune, export to INT8, serve, predict over REST and gRPC, load-test.",
    )
    command.add_argument("--once", action="store_true", help="stop the server at the end instead of leaving it up")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code of the first stage that fails."""
    args = parser().parse_args(argv)
    started = time.monotonic()
    if not RECIPE.is_file():
        print(f"downstream demo: {RECIPE} is not here; run it from the root of the project", file=sys.stderr)
        return 2
    _say(1, f"support tickets -> {DATA}/")
    write_splits(DATA)
    stages: list[tuple[str, Callable[[Sequence[str]], int], list[str]]] = [
        ("fine-tune", finetune, [str(RECIPE), "--overwrite"]),
        # One of the 400 validation rows is a quarter of a point: the usual bound of one point would fail by chance.
        ("export to INT8 ONNX and verify", export, [str(RUN), "--precision", "int8", "--tolerance", "2"]),
    ]
    for number, (title, stage, words) in enumerate(stages, 2):
        _say(number, title)
        code = stage(words)
        if code:
            return code
    _say(4, "serve")
    http, grpc = _free_port(8000), _free_port(8001)
    command = [sys.executable, "-m", "serving", str(REPOSITORY), "--http-port", str(http), "--grpc-port", str(grpc)]
    with subprocess.Popen(command) as server:
        try:
            return _show(server, http, grpc, once=args.once, started=started)
        except KeyboardInterrupt:
            return 0
        finally:
            server.send_signal(signal.SIGTERM)


def _show(server: subprocess.Popen[bytes], http: int, grpc: int, *, once: bool, started: float) -> int:
    """Ask the running server over both protocols, load-test it, and leave it up if wanted."""
    url = f"http://127.0.0.1:{http}"
    if not _becomes_ready(server, url):
        print("downstream demo: the server did not become ready; its log is above", file=sys.stderr)
        return 1
    _say(5, "predict")
    print(f'  "{TICKET}"\n  REST  {_over_rest(url)}\n  gRPC  {_over_grpc(grpc)}')
    _say(6, "load test: 50 requests a second for 10 s, open loop")
    code = loadtest([url, "--model", NAME, "--rate", "50", "--duration", "10", "--input", str(DATA / "test.csv"),
                     "--output", "loadtest-report"])  # fmt: skip
    if code:
        return code
    minutes = (time.monotonic() - started) / 60
    print(f"\nDone in {minutes:.1f} minutes. Reports to open in a browser:")
    for report in (RUN / "report.html", RUN / "export" / "export_report.html", Path("loadtest-report/report.html")):
        print(f"  {report.resolve().as_uri()}")
    if not once:
        print(f"\nThe server is up: {url}/docs. Try:\n  curl -s {url}/v1/models/{NAME}:predict \\\n"
              f"    -d '{json.dumps({'instances': [{'text': 'the app crashes when I open settings'}]})}'\n"
              "Ctrl-C stops it.")  # fmt: skip
        server.wait()
    return 0


def _say(number: int, title: str) -> None:
    print(f"\n=== {number}/6 {title}", flush=True)


def _becomes_ready(server: subprocess.Popen[bytes], url: str) -> bool:
    deadline = time.monotonic() + READY_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5):  # noqa: S310
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _over_rest(url: str) -> str:
    request = urllib.request.Request(  # noqa: S310
        f"{url}/v1/models/{NAME}:predict", json.dumps({"instances": [{"text": TICKET}]}).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        (prediction,) = json.load(response)["predictions"]
    return _shown(prediction["label"], prediction["score"])


def _over_grpc(port: int) -> str:
    text: Any = tritonclient.grpc.InferInput("text", [1, 1], "BYTES")
    text.set_data_from_numpy(np.array([[TICKET]], object))
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}") as client:
        answer = client.infer(NAME, [text], client_timeout=30)
    return _shown(answer.as_numpy("label").item().decode(), answer.as_numpy("score").item())


def _shown(label: str, score: float) -> str:
    return f"{label} ({100 * score:.1f} %)"


def _free_port(wanted: int) -> int:
    """The usual port where it is free, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port")


if __name__ == "__main__":
    sys.exit(main())
