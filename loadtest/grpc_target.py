"""A server under test over gRPC.

Source: Open Inference Protocol, GRPCInferenceService (github.com/kserve/open-inference-protocol), in the messages of
tritonclient.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import grpc
from tritonclient.grpc import service_pb2 as v2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from loadtest.target import PATIENCE, CannotStart, Column, Failure, Row, Tensor, not_ready

REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}


class GrpcTarget:
    """A server at ``grpc://host:port``; ``timeout`` is in seconds for each request, and is its deadline on the wire.

    All requests share one connection. Make it inside the event loop.
    """

    def __init__(self, url: str, timeout: float) -> None:
        scheme, _, address = url.partition("://")
        self._url = url
        self._timeout = timeout
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            # A proxy of the environment would be measured with the server.
            ("grpc.enable_http_proxy", 0),
        ]
        if scheme == "grpcs":
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), options)
        else:
            self._channel = grpc.aio.insecure_channel(address, options)
        self._stub = GRPCInferenceServiceStub(self._channel)
        # Requests are serialised before the test, and answers are not read: the time measured is the server's.
        self._infer = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", None, None)

    async def reach(self) -> None:
        """Raises CannotStart where no v2 server answers at the URL."""
        try:
            await self._stub.ServerReady(v2.ServerReadyRequest(), timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise CannotStart(f"{self._url} speaks gRPC, but not KServe v2; check the port") from error
            raise CannotStart(
                f"{self._url} cannot be reached ({error.details()}); "
                "check that the server runs, its host and port, and that the port speaks gRPC (else use http://)"
            ) from error

    async def models(self) -> Mapping[str, str]:
        """``name -> why it is not ready``, empty text for a ready one; nothing where the server has no index."""
        try:
            index = await self._stub.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=PATIENCE)
        except grpc.aio.AioRpcError:
            return {}
        return not_ready([(one.name, one.state, one.reason) for one in index.models])

    async def columns(self, model: str) -> tuple[Column, ...]:
        """The inputs of the model. Raises CannotStart where the server does not know it."""
        try:
            metadata = await self._stub.ModelMetadata(v2.ModelMetadataRequest(name=model), timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            raise CannotStart(
                f"the server gives no metadata of model {model!r}: {error.code().name}: {error.details()}"
            ) from error
        return tuple(Column(one.name, one.datatype, tuple(one.shape)) for one in metadata.inputs)

    async def example(self, model: str) -> Row | None:
        """None: the protocol has no examples, and where the HTTP port of the server is cannot be known."""
        return None

    def encode(self, model: str, tensors: Sequence[Tensor]) -> bytes:
        """One request as it goes over the wire, with raw contents."""
        inputs = [
            v2.ModelInferRequest.InferInputTensor(name=one.name, datatype=one.dtype, shape=one.array.shape)
            for one in tensors
        ]
        request = v2.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=map(_raw, tensors))
        serialised: bytes = request.SerializeToString()
        return serialised

    async def infer(self, model: str, request: bytes) -> Failure | None:
        """Send one request and wait for its whole answer; None is a good answer."""
        try:
            await self._infer(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            said = error.details() or "(no message)"
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return Failure("timeout", said)
            return Failure(f"gRPC {error.code().name}", said[:500], error.code() in REFUSED)
        return None

    async def close(self) -> None:
        """Drop the connection."""
        await self._channel.close(None)


def _raw(tensor: Tensor) -> bytes:
    """Little-endian elements, row-major; of BYTES each element is its length as a 32-bit number, then its bytes."""
    if tensor.dtype != "BYTES":
        return tensor.array.astype(tensor.array.dtype.newbyteorder("<")).tobytes()
    texts = [text.encode() for text in tensor.array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
