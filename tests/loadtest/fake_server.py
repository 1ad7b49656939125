"""A tiny v2 server inside the test process, over HTTP or gRPC, whose answers a test decides."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import web
from tritonclient.grpc import service_pb2 as v2
from tritonclient.grpc.service_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

TEXT = [("text", "BYTES", [-1]), ("text_pair", "BYTES", [-1])]


@dataclass
class Fake:
    """What the server has and says; ``received`` are the inputs of each request, ``name -> (datatype, shape, data)``.

    ``answer`` gets the number of a request, from 0, and returns None or the HTTP status and message of a failure;
    a request of status 0 is never answered.
    """

    models: dict[str, tuple[str, str]] = field(default_factory=lambda: {"intent": ("READY", "")})
    inputs: list[tuple[str, str, list[int]]] = field(default_factory=lambda: list(TEXT))
    example: dict[str, Any] | None = None
    index: bool = True
    answer: Callable[[int], tuple[int, str] | None] = lambda _number: None
    received: list[dict[str, tuple[str, list[int], Any]]] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    """Seconds that each request gave the server."""


@contextmanager
def http(fake: Fake) -> Iterator[str]:
    """The URL of a server over HTTP, in a thread with an event loop of its own, on a port that was free."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = web.AppRunner(_application(fake), handle_signals=False, access_log=None, shutdown_timeout=0.1)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    try:
        yield f"http://127.0.0.1:{asyncio.run_coroutine_threadsafe(start(), loop).result(10)}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def _application(fake: Fake) -> web.Application:
    async def ready(_request: web.Request) -> web.Response:
        return web.Response()

    async def index(_request: web.Request) -> web.Response:
        if not fake.index:
            return web.json_response({"error": "no index"}, status=404)
        return web.json_response(
            [
                {"name": name, "version": "1", "state": state, "reason": why}
                for name, (state, why) in fake.models.items()
            ]
        )

    async def metadata(request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if name not in fake.models:
            return web.json_response({"error": f"unknown model {name}"}, status=404)
        inputs = [{"name": name, "datatype": dtype, "shape": shape} for name, dtype, shape in fake.inputs]
        return web.json_response({"name": name, "inputs": inputs, "outputs": []})

    async def example(_request: web.Request) -> web.Response:
        if fake.example is None:
            return web.json_response({"error": "no such route"}, status=404)
        return web.json_response({"example": fake.example})

    async def infer(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        fake.deadlines.append(asked["parameters"]["timeout"] / 1e6)
        fake.received.append({one["name"]: (one["datatype"], one["shape"], one["data"]) for one in asked["inputs"]})
        if failure := fake.answer(len(fake.received) - 1):
            if failure[0] == 0:
                await asyncio.Event().wait()
            return web.json_response({"error": failure[1]}, status=failure[0])
        return web.json_response({"model_name": "intent", "outputs": []})

    application = web.Application()
    application.router.add_get("/v2/health/ready", ready)
    application.router.add_post("/v2/repository/index", index)
    application.router.add_get("/v2/models/{model}", metadata)
    application.router.add_get("/v1/models/{model}", example)
    application.router.add_post("/v2/models/{model}/infer", infer)
    return application


@contextmanager
def over_grpc(fake: Fake) -> Iterator[str]:
    """The URL of a server over gRPC, on a port that was free."""
    # Not grpc.aio: its event loop may not run in two threads of a process, and the load test has one already.
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_GRPCInferenceServiceServicer_to_server(_Servicer(fake), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


CODES = {
    0: grpc.StatusCode.CANCELLED,
    400: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class _Servicer(GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def ServerReady(self, _request: Any, _context: Any) -> Any:
        return v2.ServerReadyResponse(ready=True)

    def RepositoryIndex(self, _request: Any, context: Any) -> Any:
        if not self._fake.index:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no index")
        response = v2.RepositoryIndexResponse()
        for name, (state, reason) in self._fake.models.items():
            response.models.add(name=name, version="1", state=state, reason=reason)
        return response

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        if request.name not in self._fake.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        response = v2.ModelMetadataResponse(name=request.name)
        for name, dtype, shape in self._fake.inputs:
            response.inputs.add(name=name, datatype=dtype, shape=shape)
        return response

    def ModelInfer(self, request: Any, context: Any) -> Any:
        contents = zip(request.inputs, request.raw_input_contents, strict=True)
        self._fake.deadlines.append(context.time_remaining())
        self._fake.received.append(
            {one.name: (one.datatype, list(one.shape), _elements(one.datatype, raw)) for one, raw in contents}
        )
        if failure := self._fake.answer(len(self._fake.received) - 1):
            if failure[0] == 0:
                given_up = threading.Event()
                context.add_callback(given_up.set)
                given_up.wait()
            context.abort(CODES[failure[0]], failure[1])
        return v2.ModelInferResponse(model_name="intent")


def _elements(dtype: str, raw: bytes) -> list[Any]:
    if dtype == "INT64":
        return list(struct.unpack(f"<{len(raw) // 8}q", raw))
    texts, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return texts
