"""Graphs that a remote Triton Inference Server runs, over gRPC: tensors there, text and verification here.

A graph file is JSON: ``{"address": "host:8001", "model": "tickets_graph", "version": "1"}``.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from serving.errors import BundleError, DeadlineExceeded, InvalidInput, NotReady, Overloaded
from serving.tensors import Array, Tensors

Result = TypeVar("Result")

# Seconds until a server that does not answer is taken to be away, where no deadline says otherwise.
PATIENCE = 30.0
# Seconds for an answer to the question whether it is ready: who asks that asks again, and may be told to stop.
ANSWERS = 5.0
# gRPC's own default waits up to two minutes before it tries a server again that was away.
CHANNEL = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 2000)]
DATATYPES = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"}


@dataclass(frozen=True)
class Remote:
    """A model of a Triton server; without a ``version``, that server chooses."""

    address: str
    model: str
    version: str = ""

    def __str__(self) -> str:
        return f"model '{self.model}'{f' version {self.version}' if self.version else ''} at {self.address}"


class Triton:
    """Remote graphs by name. The client runs on an event loop in a thread of its own; callers wait for it in theirs."""

    def __init__(self, graphs: Mapping[str, Remote]) -> None:
        self._graphs = dict(graphs)
        self._clients: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton", daemon=True)
        self._thread.start()

    def connect(self) -> None:
        """Make sure that every graph is there. Raises NotReady while its server is away or has not loaded it."""
        for remote in self._graphs.values():
            if not self._wait(self._is_ready(remote)):
                raise NotReady(f"{remote}, which runs the graph, is not ready; load it there")

    def run(self, graph: str, batch: Tensors, timeout: float | None = None) -> dict[str, Array]:
        return self._wait(self._infer(self._graphs[graph], batch, PATIENCE if timeout is None else timeout))

    def close(self) -> None:
        for client in self._clients.values():
            self._wait(client.close())
        self._clients.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _client(self, address: str) -> Any:
        # Here and not at the top: a Triton server, which has none of this, imports the backends too.
        from tritonclient.grpc.aio import InferenceServerClient

        if address not in self._clients:
            self._clients[address] = InferenceServerClient(address, channel_args=CHANNEL)
        return self._clients[address]

    async def _is_ready(self, remote: Remote) -> bool:
        with _told(remote):
            ready = await self._client(remote.address).is_model_ready(
                remote.model, remote.version, client_timeout=ANSWERS
            )
            return bool(ready)

    async def _infer(self, remote: Remote, batch: Tensors, timeout: float) -> dict[str, Array]:
        from tritonclient.grpc import InferInput

        if timeout <= 0:
            raise DeadlineExceeded("Request timeout expired")
        inputs = []
        for name, array in batch.items():
            item = InferInput(name, list(array.shape), DATATYPES.get(array.dtype.name, array.dtype.name.upper()))
            item.set_data_from_numpy(array)
            inputs.append(item)
        with _told(remote):
            result = await self._client(remote.address).infer(
                remote.model, inputs, remote.version, timeout=int(timeout * 1e6), client_timeout=timeout
            )
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


@contextmanager
def _told(remote: Remote) -> Iterator[None]:
    """Turns what the client library raises into what this project calls it."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        raise _translated(remote, str(error.status()), str(error.message())) from error


def _translated(remote: Remote, status: str, message: str) -> Exception:
    said = f"{remote}, which runs the graph: {message}"
    match status.removeprefix("StatusCode."):
        case "DEADLINE_EXCEEDED" | "CANCELLED":
            return DeadlineExceeded(f"Request timeout expired at {said}")
        case "RESOURCE_EXHAUSTED":
            return Overloaded(said)
        case "INVALID_ARGUMENT":
            return InvalidInput(said)
        case "UNAVAILABLE" | "NOT_FOUND":
            return NotReady(f"{said}; is the server up, and the model loaded?")
        case other:
            return RuntimeError(f"{said} ({other})")


def open_graphs(graphs: Mapping[str, Path]) -> Triton:
    """Connect to the described graphs. Raises BundleError when a description is not readable, NotReady as connect."""
    remotes = {}
    for name, path in graphs.items():
        try:
            remotes[name] = Remote(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise BundleError(
                f"{path}: cannot be read: {error}; it must hold address, model and version as JSON"
            ) from error
    return connected(remotes)


def connected(graphs: Mapping[str, Remote]) -> Triton:
    """A backend over these remote graphs. Raises NotReady while one is away."""
    backend = Triton(graphs)
    try:
        backend.connect()
    except BaseException:
        backend.close()
        raise
    return backend


def parse_address(text: str, name: str, version: int) -> Remote:
    """The remote graph of a model, from ``HOST:PORT[/MODEL]``. Raises InvalidInput."""
    address, _, model = text.partition("/")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput(f"--triton-graphs: got {text!r}; give HOST:PORT or HOST:PORT/MODEL, as triton:8001")
    return Remote(address, (model or "{name}_graph").replace("{name}", name), str(version))
