"""inference.GRPCInferenceService over the same Inference and Management: Triton's own stubs, on grpc.aio."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from serving import errors
from serving.gateway.grpc_health import Health, add_health
from serving.gateway.grpc_management import ManagementMethods
from serving.gateway.grpc_messages import parse_infer, render_infer
from serving.gateway.management import Management
from serving.gateway.v2 import unexpected

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
    ("grpc.so_reuseport", 0),
]

LONGEST_DETAILS = 1000
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
            # Longer texts do not fit the trailers, and the client would see another code.
            return code, str(error)[:LONGEST_DETAILS]
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


class Servicer(ManagementMethods, service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """All methods; those of ManagementMethods and ModelInfer answer errors as status codes."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        return await self._infer(request, context.time_remaining())

    async def ModelStreamInfer(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Answers in the order of the requests; an error is a message like any other, and the stream goes on."""
        ends_with_error = STATUS_ERRORS in [(key, value) for key, value in context.invocation_metadata() or ()]
        waiting: asyncio.Queue[tuple[str, asyncio.Task[Any]] | None] = asyncio.Queue(IN_FLIGHT)

        async def read() -> None:
            async for request in requests:
                await waiting.put((request.id, asyncio.create_task(self._infer(request, context.time_remaining()))))
            await waiting.put(None)

        reading = asyncio.create_task(read())
        try:
            while (item := await waiting.get()) is not None:
                identifier, answering = item
                try:
                    message = await answering
                except Exception as error:
                    code, text = told(error)
                    if ends_with_error:
                        await context.abort(code, text)
                    yield pb.ModelStreamInferResponse(
                        error_message=text, infer_response=pb.ModelInferResponse(id=identifier)
                    )
                    continue
                message.parameters[FINAL].bool_param = True
                yield pb.ModelStreamInferResponse(infer_response=message)
        finally:
            reading.cancel()
            while not waiting.empty():
                left = waiting.get_nowait()
                if left:
                    left[1].cancel()

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


def build_server(management: Management, max_body: int) -> grpc.aio.Server:
    """A gRPC server that is not listening yet; ``max_body`` bounds a request, in bytes."""
    server = grpc.aio.server(options=[*OPTIONS, ("grpc.max_receive_message_length", max_body)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(management), server)
    add_health(Health(management.inference), server)
    return server
