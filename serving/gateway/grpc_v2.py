"""inference.GRPCInferenceService over the same Inference: Triton's own stubs, on grpc.aio."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from serving import errors
from serving.errors import InvalidInput
from serving.gateway import codec
from serving.gateway.v2 import Inference, InferRequest, refuse_unsupported, timeout_of, unexpected

CODES: dict[type[errors.DownstreamError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.BundleError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
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

# Which field of InferTensorContents holds the data of a datatype.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

Method = Callable[..., Awaitable[Any]]


def _answered(method: Method) -> Method:
    """Turn the errors of a method into status codes."""

    @functools.wraps(method)
    async def wrapped(self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await method(self, request, context)
        except errors.DownstreamError as error:
            code = next(code for kind, code in CODES.items() if isinstance(error, kind))
            # Longer texts do not fit the trailers, and the client would see another code.
            await context.abort(code, str(error)[:LONGEST_DETAILS])
        except Exception as error:
            await context.abort(grpc.StatusCode.INTERNAL, unexpected(error))

    return wrapped


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The methods of the Open Inference Protocol and of the model repository; others answer UNIMPLEMENTED."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    @_answered
    async def ServerLive(self, request: Any, context: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    @_answered
    async def ServerReady(self, request: Any, context: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._inference.ready())

    @_answered
    async def ModelReady(self, request: Any, context: Any) -> Any:
        try:
            ready = self._inference.model_ready(request.name, request.version)
        except errors.NotFound:
            ready = False  # as Triton: clients wait for a model that is to come
        return pb.ModelReadyResponse(ready=ready)

    @_answered
    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        return pb.ServerMetadataResponse(**self._inference.server_metadata())

    @_answered
    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        return pb.ModelMetadataResponse(**self._inference.model_metadata(request.name, request.version))

    @_answered
    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        response = pb.RepositoryIndexResponse()
        for entry in self._inference.repository.index():
            if entry.state == "READY" or not request.ready:
                response.models.add(name=entry.name, version=str(entry.version), state=entry.state, reason=entry.reason)
        return response

    @_answered
    async def ModelInfer(self, request: Any, context: Any) -> Any:
        outcome = "gone"
        try:
            response = await self._inference.infer(parse_infer(request, context.time_remaining()), "grpc")
            outcome = "ok"
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self._inference.count(request.model_name, "grpc", outcome)
        message = pb.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
        for tensor in response.outputs:
            message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
            message.raw_output_contents.append(codec.to_raw(tensor))
        return message


async def _unsupported(self: Servicer, request: Any, context: Any) -> Any:
    raise errors.Unsupported("this server does not offer the method")


# Not left to the generated base class, which logs a traceback for every call.
for _method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
    if _method.name not in vars(Servicer):
        setattr(Servicer, _method.name, _answered(_unsupported))


def parse_infer(request: Any, remaining: float | None) -> InferRequest:
    """The request of a ModelInferRequest; the sooner of its ``timeout`` and the call's deadline counts.

    Raises InvalidInput, also when raw and typed contents are mixed.
    """
    raw: Sequence[bytes] = request.raw_input_contents
    if raw and any(item.HasField("contents") for item in request.inputs):
        raise InvalidInput("raw_input_contents and typed contents cannot be mixed; use one for all inputs")
    if raw and len(raw) != len(request.inputs):
        raise InvalidInput(f"raw_input_contents has {len(raw)} elements for {len(request.inputs)} inputs")
    for item in (*request.inputs, *request.outputs):
        refuse_unsupported(item.name, item.parameters)
    inputs = [
        codec.from_raw(item.name, item.datatype, item.shape, raw[index]) if raw else _typed(item)
        for index, item in enumerate(request.inputs)
    ]
    parameters = {name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
                  for name, value in request.parameters.items()}  # fmt: skip
    limits = [limit for limit in (timeout_of(parameters), remaining) if limit is not None]
    return InferRequest(
        request.model_name,
        request.model_version,
        inputs,
        [item.name for item in request.outputs],
        request.id,
        min(limits, default=None),
    )


def _typed(item: Any) -> codec.Tensor:
    field = CONTENTS.get(item.datatype)
    if field is None:
        raise InvalidInput(f"input '{item.name}': {item.datatype} has no typed contents; send raw_input_contents")
    values = list(getattr(item.contents, field))
    if item.datatype == "BYTES":
        raw = b"".join(len(value).to_bytes(4, "little") + value for value in values)
        return codec.from_raw(item.name, item.datatype, item.shape, raw)
    return codec.from_json(item.name, item.datatype, list(item.shape), values)


def build_server(inference: Inference, max_body: int) -> grpc.aio.Server:
    """A gRPC server that is not listening yet; ``max_body`` bounds a request, in bytes."""
    server = grpc.aio.server(options=[*OPTIONS, ("grpc.max_receive_message_length", max_body)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(inference), server)
    return server
