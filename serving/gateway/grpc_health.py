"""grpc.health.v1, which load balancers and Kubernetes probes ask.

Source: the gRPC Health Checking Protocol (grpc/grpc doc/health-checking.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from serving.errors import NotFound
from serving.gateway.v2 import Inference

# Besides the empty name, the one that stands for the whole server; any other is that of a model.
SERVICE = "inference.GRPCInferenceService"
# Seconds between two looks at what a watcher was told.
PERIOD = 0.5
STATUS = pb.HealthCheckResponse.ServingStatus


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """SERVING while the server, or the model of the asked name, is ready."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def Check(self, request: Any, context: Any) -> Any:
        status = self._status(request.service)
        if status == STATUS.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no model of the name '{request.service}'")
        return pb.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        last, closing = None, self._inference.closing
        while not closing.is_set():
            status = self._status(request.service)
            if status != last:
                last = status
                yield pb.HealthCheckResponse(status=status)
            with suppress(TimeoutError):
                await asyncio.wait_for(closing.wait(), PERIOD)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")

    def _status(self, service: str) -> int:
        try:
            ready = self._inference.ready() if service in ("", SERVICE) else self._inference.model_ready(service)
        except NotFound:
            return int(STATUS.SERVICE_UNKNOWN)
        return int(STATUS.SERVING if ready else STATUS.NOT_SERVING)


def add_health(health: Health, server: grpc.aio.Server) -> None:
    """Have a server answer the health service."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
