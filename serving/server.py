"""One server process: both protocols over one repository, alone or as one of several workers."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from serving.workers.crew import Alone
from serving.workers.ports import CANNOT_LISTEN, address, listen

log = logging.getLogger("serving")


class Server:
    """The ports and what answers on them; ``stop`` is set by SIGTERM and SIGINT."""

    def __init__(self, repository: Repository, metrics: Metrics, settings: Settings, crew: Alone | None = None) -> None:
        # Not above: both protocols take longer to import than a model to load, and the two can go on side by side.
        from serving.gateway.app import build_app
        from serving.gateway.grpc_v2 import build_server
        from serving.gateway.http_server import http_server
        from serving.gateway.management import Management
        from serving.gateway.v2 import Inference

        self._settings = settings
        self.repository = repository
        # Each worker writes traces of its own: several would spoil one file.
        mark = f".worker-{crew.number}" if crew else ""
        self.inference = Inference(self.repository, metrics, settings, mark)
        self.management = Management(self.inference, explicit=settings.model_control == "explicit", crew=crew)
        self._rpc = build_server(self.management, settings.max_body, shared=settings.workers > 1)
        self._http = http_server(build_app(self.management, metrics, settings.max_body), settings.drain_timeout)
        self._answering: asyncio.Task[None] | None = None
        self.stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)

    async def open(self) -> tuple[int, int] | None:
        """Open the ports and answer: the ports of HTTP and gRPC, or None, with a log line, where one is taken."""
        try:
            grpc_port = self._rpc.add_insecure_port(f"{address(self._settings)}:{self._settings.grpc_port}")
            listener = listen(self._settings)
        except (OSError, RuntimeError) as error:
            log.error(CANNOT_LISTEN, error)
            return None
        await self._rpc.start()
        self._answering = asyncio.create_task(self._http.serve([listener]))
        return listener.getsockname()[1], grpc_port

    async def drain(self) -> None:
        """Be not ready, answer what is in flight, close the ports and the models."""
        self.inference.stopping = True
        self.repository.stop()
        log.info("stopping: not ready, draining")
        if self._answering:
            await asyncio.sleep(self._settings.drain_delay)
            self._http.should_exit = True
            self.inference.closing.set()
            await asyncio.gather(self._answering, self._rpc.stop(self._settings.drain_timeout))

    async def close(self) -> None:
        """Close the models, once they are idle."""
        await asyncio.to_thread(self.repository.close)
        log.info("stopped")


def run(folder: Path, settings: Settings) -> int:
    """Serve in this process until SIGTERM or SIGINT; the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(folder, settings))


async def _serve(folder: Path, settings: Settings) -> int:
    """Open the ports, load and verify the models, answer until SIGTERM or SIGINT, drain."""
    metrics = Metrics(CollectorRegistry())
    repository = Repository(folder, settings, metrics)
    with _everything_kept():
        loading = asyncio.get_running_loop().run_in_executor(None, load, repository)
        server = Server(repository, metrics, settings)
        ports = await server.open()
    if ports is None:
        repository.stop()
        await loading
        return 2
    url = f"http://{address(settings)}:{ports[0]}"
    log.info("listening: %s  grpc://%s:%d", url, address(settings), ports[1])
    loading.add_done_callback(lambda _: tell(repository, url))
    await server.stop.wait()
    await asyncio.gather(server.drain(), loading)
    await server.close()
    return 0


@contextmanager
def _everything_kept() -> Iterator[None]:
    """What is imported and made inside stays: looking through it for garbage would only take time, now and later."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def load(repository: Repository) -> None:
    """Load every model; one that cannot be loaded is in the index, with the reason."""
    try:
        repository.load_all()
    except Exception:
        log.exception("loading the repository failed")


def tell(repository: Repository, url: str) -> None:
    """Log how loading ended, and how to ask what answers."""
    if repository.stopping or not repository.loaded:
        return
    for name in repository.engines():
        log.info("try: curl -s %s/v1/models/%s", url, name)
    if repository.ready:
        log.info("ready")
    else:
        log.error(
            "not ready: %s", "; ".join(f"{e.name}: {e.reason}" for e in repository.index() if e.reason) or "empty"
        )
