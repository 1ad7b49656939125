"""The management half of KServe v2 over HTTP: configuration, statistics, repository, trace, log, shared memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving import model_config
from serving.errors import InvalidInput, Unsupported, fault, shown
from serving.gateway.http_messages import json_object, mapping
from serving.gateway.http_v2 import read_body
from serving.gateway.management import Management
from serving.gateway.openapi import failures, json_body

Json = dict[str, Any]
BodyOf = Callable[[Request], Awaitable[Json]]

NO_CUDA = "CUDA shared memory is not supported: this server runs on the CPU"
UNREAD: Json = {"responses": failures(404, 503)}
CHANGED: Json = {"responses": failures(400, 413, 501, 503)}


def management_routes(management: Management, max_body: int) -> APIRouter:
    """Every route, ready to be included in an application; ``max_body`` bounds a body, in bytes."""
    router = APIRouter()

    async def body_of(request: Request) -> Json:
        body = await read_body(request.receive, dict(request.scope["headers"]), max_body)
        if body is None:
            # Nobody hears this; what matters is that half a body changes nothing.
            raise InvalidInput("the client left in the middle of its request")
        return json_object(body) if body else {}

    _add_models(router, management)
    _add_repository(router, management, body_of)
    _add_trace(router, management, body_of)
    _add_logging(router, management, body_of)
    _add_shared_memory(router, management, body_of)
    _add_cuda(router)
    return router


def _add_models(router: APIRouter, management: Management) -> None:
    # Before the route of a model: a model of the name "stats" gives way, as in Triton.
    @router.get("/v2/models/stats", tags=["statistics"], summary="Counts and times of all models")
    async def all_statistics() -> Json:
        return {"model_stats": await management.statistics()}

    # A route each, here and below: what is no part of the path must not be read from the query, which is ignored.
    @router.get("/v2/models/{model}/stats", tags=["statistics"], summary="Counts and times of a model", **UNREAD)
    async def statistics(model: str) -> Json:
        return {"model_stats": await management.statistics(model)}

    @router.get(
        "/v2/models/{model}/versions/{version}/stats", tags=["statistics"], summary="The same of one version", **UNREAD
    )
    async def version_statistics(model: str, version: str) -> Json:
        return {"model_stats": await management.statistics(model, version)}

    @router.get("/v2/models/{model}/config", tags=["metadata"], summary="Triton's ModelConfig of a model", **UNREAD)
    async def config(model: str) -> Json:
        return model_config.to_json(management.config(model))

    @router.get(
        "/v2/models/{model}/versions/{version}/config", tags=["metadata"], summary="The same of one version", **UNREAD
    )
    async def version_config(model: str, version: str) -> Json:
        return model_config.to_json(management.config(model, version))


def _add_repository(router: APIRouter, management: Management, body_of: BodyOf) -> None:
    @router.post(
        "/v2/repository/index", tags=["repository"], summary="Every version, its state, and why it is not ready",
        openapi_extra=json_body({"ready": False}), responses=failures(400, 413, 501),
    )  # fmt: skip
    async def index(request: Request) -> list[dict[str, str]]:
        ready = (await body_of(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidInput(fault("ready", "must be true or false", ready, "leave it out for all versions"))
        return management.index(ready=ready)

    @router.post(
        "/v2/repository/models/{model}/load", tags=["repository"], summary="Load or reload a model",
        response_class=Response,
        openapi_extra=json_body({"parameters": {}}), responses=failures(400, 404, 413, 501, 503),
    )  # fmt: skip
    async def load(model: str, request: Request) -> Response:
        await management.load(model, mapping(await body_of(request), "parameters"))
        return Response()

    @router.post(
        "/v2/repository/models/{model}/unload", tags=["repository"], summary="Stop serving a model",
        response_class=Response,
        openapi_extra=json_body({"parameters": {"unload_dependents": False}}),
        responses=failures(400, 404, 413, 501, 503),
    )  # fmt: skip
    async def unload(model: str, request: Request) -> Response:
        # No model here depends on another, so unload_dependents changes nothing.
        mapping(await body_of(request), "parameters")
        await management.unload(model)
        return Response()


def _add_trace(router: APIRouter, management: Management, body_of: BodyOf) -> None:
    @router.get("/v2/trace/setting", tags=["trace"], summary="Which requests are traced")
    async def trace() -> Json:
        return await management.trace_settings()

    @router.get("/v2/models/{model}/trace/setting", tags=["trace"], summary="The same of one model", **UNREAD)
    async def model_trace(model: str) -> Json:
        return await management.trace_settings(model)

    body = json_body({"trace_rate": "1", "trace_level": ["OFF"]})

    @router.post("/v2/trace/setting", tags=["trace"], summary="Change it", openapi_extra=body, **CHANGED)
    async def change_trace(request: Request) -> Json:
        return await management.trace_settings("", await body_of(request))

    @router.post(
        "/v2/models/{model}/trace/setting", tags=["trace"], summary="Change it for one model", openapi_extra=body,
        responses=failures(400, 404, 413, 501, 503),
    )  # fmt: skip
    async def change_model_trace(model: str, request: Request) -> Json:
        return await management.trace_settings(model, await body_of(request))


def _add_logging(router: APIRouter, management: Management, body_of: BodyOf) -> None:
    settings = management.inference.logging

    @router.get("/v2/logging", tags=["logging"], summary="What the server logs")
    async def logging() -> Json:
        return settings.settings()

    @router.post(
        "/v2/logging", tags=["logging"], summary="Change it", openapi_extra=json_body({"log_verbose_level": 0}),
        **CHANGED,
    )  # fmt: skip
    async def change_logging(request: Request) -> Json:
        return await management.log_settings(await body_of(request))


def _add_shared_memory(router: APIRouter, management: Management, body_of: BodyOf) -> None:
    regions = management.inference.regions
    tags: list[str | Enum] = ["shared memory"]

    @router.get("/v2/systemsharedmemory/status", tags=tags, summary="The registered regions")
    async def status() -> list[Json]:
        return regions.status()

    @router.get("/v2/systemsharedmemory/region/{region}/status", tags=tags, summary="One of them", **UNREAD)
    async def region_status(region: str) -> list[Json]:
        return regions.status(region)

    @router.post(
        "/v2/systemsharedmemory/region/{region}/register", tags=tags, summary="Register a region of /dev/shm",
        response_class=Response,
        openapi_extra=json_body({"key": "/input_data", "offset": 0, "byte_size": 1024}), **CHANGED,
    )  # fmt: skip
    async def register(region: str, request: Request) -> Response:
        body = await body_of(request)
        key, numbers = body.get("key"), [body.get("offset", 0), body.get("byte_size")]
        if not isinstance(key, str) or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
            raise InvalidInput(f"a region needs key (text), byte_size and offset (bytes), got {shown(body)}")
        await management.change("register", region, key, *numbers)
        return Response()

    @router.post(
        "/v2/systemsharedmemory/unregister", tags=tags, summary="Unregister all regions", response_class=Response
    )
    async def unregister() -> Response:
        await management.change("unregister")
        return Response()

    @router.post(
        "/v2/systemsharedmemory/region/{region}/unregister", tags=tags, summary="Unregister a region",
        response_class=Response,
    )  # fmt: skip
    async def unregister_region(region: str) -> Response:
        await management.change("unregister", region)
        return Response()


def _add_cuda(router: APIRouter) -> None:
    """What clients ask at their start is answered; the rest is not there, and so not in the document either."""

    @router.get("/v2/cudasharedmemory/status", include_in_schema=False)
    async def status() -> list[Json]:
        return []

    @router.get("/v2/cudasharedmemory/region/{region}/status", include_in_schema=False)
    async def region_status(region: str) -> Json:
        raise Unsupported(NO_CUDA)

    @router.post("/v2/cudasharedmemory/region/{region}/register", include_in_schema=False)
    async def register(region: str) -> Json:
        raise Unsupported(NO_CUDA)

    @router.post("/v2/cudasharedmemory/unregister", include_in_schema=False)
    @router.post("/v2/cudasharedmemory/region/{region}/unregister", include_in_schema=False)
    async def unregister(region: str = "") -> Response:
        return Response()
