"""gRPC in this process: a server on a free port for one script of calls, and the requests that tests send."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from serving.gateway.grpc_v2 import build_server
from serving.gateway.management import Management
from serving.gateway.v2 import Inference

Script = Callable[[Any], Awaitable[Any]]
LARGEST = 2**26


def over_channel(management: Management, script: Script) -> Any:
    """Run ``script(channel)`` against a server on a free port in this process."""

    async def played() -> Any:
        server = build_server(management, LARGEST)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await script(channel)
        finally:
            await server.stop(0)

    return asyncio.run(played())


def over_grpc(inference: Inference, script: Script) -> Any:
    """Run ``script(stub)`` against a server on a free port in this process; clients may load models."""
    return over_channel(Management(inference, explicit=True), lambda channel: script(GRPCInferenceServiceStub(channel)))


def refused(inference: Inference, script: Script) -> tuple[grpc.StatusCode, str]:
    """Code and text of the refusal that a script ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        over_grpc(inference, script)
    return caught.value.code(), str(caught.value.details())


def request(text: str = "hello", model: str = "intent", identifier: str = "") -> pb.ModelInferRequest:
    """One row, as typed contents."""
    message = pb.ModelInferRequest(model_name=model, id=identifier)
    item = message.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    item.contents.bytes_contents.append(text.encode())
    return message
