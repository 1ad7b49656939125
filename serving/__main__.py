"""``downstream serve``: a model repository to answers over HTTP and gRPC."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import uvloop
from prometheus_client import CollectorRegistry

from serving import explain
from serving import settings as settings_module
from serving.errors import DownstreamError
from serving.gateway.app import build_app
from serving.gateway.grpc_v2 import build_server
from serving.gateway.management import Management
from serving.gateway.v2 import Inference
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings

log = logging.getLogger("serving")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream serve",
        description="Serve every model of a repository over REST (KServe v2 and :predict) and gRPC.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  downstream serve model_repository/
  downstream serve model_repository/ --host 0.0.0.0 --http-port 80 --runners 4
  DOWNSTREAM_DRAIN_DELAY=5 downstream serve model_repository/       in Kubernetes

A model becomes ready only after it has reproduced its golden rows. SIGTERM: not ready at once, requests in flight
are answered, then exit code 0. Settings: command line over environment over --config file over default.""",
    )
    command.add_argument("repository", type=Path, help="folder of model directories, as written by downstream export")
    command.add_argument(
        "--explain", action="store_true", help="load the models, print what runs cost and how rows are scheduled, exit"
    )
    settings_module.add_arguments(command)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop; the exit code."""
    args = parser().parse_args(argv)
    try:
        settings = settings_module.resolve(args, os.environ)
        if not args.repository.is_dir():
            raise DownstreamError(f"{args.repository}: no such folder; give the folder that downstream export wrote to")
    except DownstreamError as error:
        print(f"downstream serve: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    log.setLevel(settings.log_level.upper())
    if args.explain:
        return explain.run(args.repository, settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(args.repository, settings))


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers of its own: what a signal means is decided here, for both protocols."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(folder: Path, settings: Settings) -> int:
    """Open the ports, load and verify the models, answer until SIGTERM or SIGINT, drain."""
    metrics = Metrics(CollectorRegistry())
    repository = Repository(folder, settings, metrics)
    inference = Inference(repository, metrics, settings)
    management = Management(inference, explicit=settings.model_control == "explicit")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    rpc = build_server(management, settings.max_body)
    ipv6 = ":" in settings.host
    address, family = (f"[{settings.host}]", socket.AF_INET6) if ipv6 else (settings.host, socket.AF_INET)
    try:
        grpc_port = rpc.add_insecure_port(f"{address}:{settings.grpc_port}")
        listener = socket.create_server((settings.host, settings.http_port), family=family, backlog=2048)
        # Inherited by accepted sockets: without it each answer waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, RuntimeError) as error:
        log.error("cannot listen: %s; another server may use the port: give --http-port and --grpc-port", error)
        return 2
    config = uvicorn.Config(
        build_app(management, metrics, settings.max_body),
        log_level="warning",
        access_log=False,
        lifespan="off",
        # Above the idle time of usual proxies: they must be the ones to close.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=round(settings.drain_timeout),
    )
    http = _Uvicorn(config)
    await rpc.start()
    serving = asyncio.create_task(http.serve([listener]))
    http_port = listener.getsockname()[1]
    log.info("listening: http://%s:%d  grpc://%s:%d", address, http_port, address, grpc_port)

    loading = asyncio.create_task(asyncio.to_thread(_load, repository, f"http://{address}:{http_port}"))
    await stop.wait()
    inference.stopping = True
    repository.stop()
    log.info("stopping: not ready, draining")
    await asyncio.sleep(settings.drain_delay)
    http.should_exit = True
    inference.closing.set()
    await asyncio.gather(serving, rpc.stop(settings.drain_timeout), loading)
    await asyncio.to_thread(repository.close)
    log.info("stopped")
    return 0


def _load(repository: Repository, url: str) -> None:
    try:
        repository.load_all()
    except Exception:
        log.exception("loading the repository failed")
        return
    if repository.stopping:
        return
    for name in repository.engines():
        log.info("try: curl -s %s/v1/models/%s", url, name)
    if repository.ready:
        log.info("ready")
    else:
        log.error(
            "not ready: %s", "; ".join(f"{e.name}: {e.reason}" for e in repository.index() if e.reason) or "empty"
        )


if __name__ == "__main__":
    sys.exit(main())
