"""inference.GRPCInferenceService over the same Inference and Management: Triton's own stubs, on grpc.aio."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from serving import errors
from serving.errors import unexpected
from serving.gateway.grpc_health import Health, add_health
from serving.gateway.grpc_management import ManagementMethods
from serving.gateway.grpc_messages import parse_infer, render_infer
from serving.gateway.management import Management

CODES: dict[type[errors.DownstreamError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BundleError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotReady: grpc.StatusCode.UNAVAILABLE,
    errors.Overloaded: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
}

OPTIONS = [
    ("grpc.max_send_message_length", -1),
    # Clients that send keep-alive pings between calls must not be sent away.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
]

# Bytes of a text in UTF-8.
LONGEST_DETAILS = 2000
# Requests of one stream that are worked on at once; further ones are read when an answer was sent.
IN_FLIGHT = 64
FINAL = "triton_final_response"
# With this metadata the first error ends a stream as a status, instead of being a message in it.
STATUS_ERRORS = ("triton_grpc_error", "true")

Method = Callable[..., Awaitable[Any]]


def told(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Code and text of an error; one that nobody expected is logged and told by its id only."""
    for kind, code in CODES.items():
        if isinstance(error, kind):
            # Longer texts do not fit the trailers, where a byte may take three, and the client sees another code.
            return code, str(error).encode(errors="replace")[:LONGEST_DETAILS].decode(errors="ignore")
    return grpc.StatusCode.INTERNAL, unexpected(error)


def _answered(method: Method) -> Method:
    """Turn the errors of a method into status codes."""

    @functools.wraps(method)
    async def wrapped(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(self, request, context)
        except Exception as error:
            await context.abort(*told(error))

    return wrapped


async def _in_order(
    requests: AsyncIterator[Any], answer: Callable[[Any], Coroutine[Any, Any, Any]], closing: asyncio.Event
) -> AsyncGenerator[tuple[Any, asyncio.Task[Any]], None]:
    """Each request with the task that answers it, in order, a few at once; no task outlives the generator.

    Raises what the requests raise, after those before, and NotReady where they were cut off by ``closing``.
    """
    begun: asyncio.Queue[tuple[Any, asyncio.Task[Any]] | None] = asyncio.Queue()
    room = asyncio.Semaphore(IN_FLIGHT)
    tasks: set[asyncio.Task[Any]] = set()

    async def read() -> None:
        try:
            async for request in requests:
                await room.acquire()
                task = asyncio.create_task(answer(request))
                tasks.add(task)
                begun.put_nowait((request, task))
        finally:
            begun.put_nowait(None)

    reading = asyncio.create_task(read())
    ending = asyncio.create_task(closing.wait())
    ending.add_done_callback(lambda _: reading.cancel())
    try:
        while (item := await begun.get()) is not None:
            yield item
            tasks.remove(item[1])
            room.release()
        await asyncio.wait([reading])
        if reading.cancelled():
            raise errors.NotReady("the server is stopping")
        reading.result()
    finally:
        for task in (reading, ending, *tasks):
            task.cancel()
        await asyncio.gather(reading, ending, *tasks, return_exceptions=True)


class Servicer(ManagementMethods, service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """All methods; those of ManagementMethods and ModelInfer answer errors as status codes."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        return await self._infer(request, context.time_remaining())

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Answers in the order of the requests; an error is a message like any other, and the stream goes on."""
        ends_with_error = STATUS_ERRORS in [(key, value) for key, value in context.invocation_metadata() or ()]
        closing = self.management.inference.closing
        answered = _in_order(requests, lambda request: self._infer(request, context.time_remaining()), closing)
        async with aclosing(answered):
            try:
                async for request, answering in answered:
                    try:
                        message = await answering
                    except Exception as error:
                        code, text = told(error)
                        if ends_with_error:
                            await context.abort(code, text)
                        message = pb.ModelInferResponse(id=request.id)
                        yield pb.ModelStreamInferResponse(error_message=text, infer_response=message)
                    else:
                        message.parameters[FINAL].bool_param = True
                        yield pb.ModelStreamInferResponse(infer_response=message)
            except errors.NotReady as error:
                await context.abort(*told(error))
            except DecodeError as error:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"a request of the stream cannot be read: {error}"
                )

    async def _infer(self, request: Any, remaining: float | None) -> Any:
        inference = self.management.inference
        outcome = "gone"
        try:
            parsed = parse_infer(request, remaining, inference.regions)
            message = render_infer(await inference.infer(parsed, "grpc"), inference.regions)
            outcome = "ok"
            return message
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            inference.count(request.model_name, "grpc", outcome)


for _method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
    if not _method.client_streaming:
        setattr(Servicer, _method.name, _answered(getattr(Servicer, _method.name)))


def build_server(management: Management, max_body: int, *, shared: bool = False) -> grpc.aio.Server:
    """A gRPC server that is not listening yet; ``max_body`` bounds a request, in bytes; ``shared`` is its port."""
    own = [("grpc.max_receive_message_length", max_body), ("grpc.so_reuseport", int(shared))]
    server = grpc.aio.server(options=[*OPTIONS, *own])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(management), server)
    add_health(Health(management.inference), server)
    return server
