"""The HTTP application: FastAPI for management, docs and metrics; the hot routes as plain ASGI in front of it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from starlette.exceptions import HTTPException

from serving import errors
from serving.bundle import plain
from serving.gateway.http_errors import described
from serving.gateway.http_management import management_routes
from serving.gateway.http_v2 import HotRoutes
from serving.gateway.management import Management
from serving.gateway.openapi import HOT_PATHS, failures
from serving.gateway.v2 import Inference
from serving.manifest import MODEL_DIGEST
from serving.metrics import Metrics
from serving.metrics_sum import exposed, lasting, summed
from serving.workers.crew import Alone

DESCRIPTION = """Verified models over REST. The same models answer gRPC (`inference.GRPCInferenceService`).

* `POST /v1/models/{name}:predict`: rows as JSON, for people and browsers.
* `/v2/...`: KServe v2 (Open Inference Protocol), as `tritonclient` speaks it, JSON or binary tensors."""


def build_app(management: Management, metrics: Metrics, max_body: int) -> HotRoutes:
    """The ASGI application of a server; ``max_body`` bounds a request, in bytes."""
    inference = management.inference
    # The pages of /docs come from this server, not from a content network: clusters are often closed.
    app = FastAPIOffline(
        title="downstream", description=DESCRIPTION, version=inference.server_metadata()["version"],
        redirect_slashes=False,
    )  # fmt: skip
    # First, so that /v2/models/stats is not taken for a model of that name.
    app.include_router(management_routes(management, max_body))
    _add_health(app, inference)
    _add_metadata(app, inference)
    _add_metrics(app, inference, metrics, management.crew)
    _add_errors(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return HotRoutes(inference, max_body, app)


def _add_health(app: FastAPI, inference: Inference) -> None:
    @app.get("/v2/health/live", tags=["health"], summary="The process answers", response_class=Response)
    async def live() -> Response:
        return Response()

    @app.get(
        "/v2/health/ready", tags=["health"], summary="Every model has proved itself and answers",
        responses=failures(503), response_class=Response,
    )  # fmt: skip
    async def ready() -> Response:
        if inference.ready():
            return Response()
        waiting = [f"{e.name}: {e.reason or e.state}" for e in inference.repository.index() if e.state != "READY"]
        reason = "stopping" if inference.stopping else "; ".join(waiting) or "no model is loaded"
        raise errors.NotReady(f"Server not ready: {reason}")

    unread = failures(404, 503)

    @app.get(
        "/v2/models/{model}/ready", tags=["health"], summary="The model answers", responses=unread,
        response_class=Response,
    )  # fmt: skip
    async def model_ready(model: str) -> Response:
        return _ready(inference, model)

    @app.get(
        "/v2/models/{model}/versions/{version}/ready", tags=["health"], summary="The version answers",
        responses=unread, response_class=Response,
    )  # fmt: skip
    async def version_ready(model: str, version: str) -> Response:
        return _ready(inference, model, version)


def _ready(inference: Inference, model: str, version: str = "") -> Response:
    if not inference.model_ready(model, version):
        raise errors.NotReady("Model version not ready")
    return Response()


def _metadata(inference: Inference, model: str, version: str = "") -> dict[str, Any]:
    """What both protocols tell, and the digest, for which gRPC's message has no field: there, config has it."""
    digest = inference.repository.get(model, version).bundle.manifest.digest
    return {**inference.model_metadata(model, version), "parameters": {MODEL_DIGEST: digest}}


def _add_metadata(app: FastAPI, inference: Inference) -> None:
    @app.get("/v2", tags=["metadata"], summary="Name, version and extensions of the server")
    async def server() -> dict[str, Any]:
        return inference.server_metadata()

    unread = failures(404, 503)

    @app.get("/v2/models/{model}", tags=["metadata"], summary="Inputs, outputs and digest of a model", responses=unread)
    async def model(model: str) -> dict[str, Any]:
        return _metadata(inference, model)

    @app.get(
        "/v2/models/{model}/versions/{version}", tags=["metadata"], summary="The same of one version",
        responses=unread,
    )  # fmt: skip
    async def model_version(model: str, version: str) -> dict[str, Any]:
        return _metadata(inference, model, version)

    @app.get("/v1/models", tags=["metadata"], summary="The models that answer")
    async def models() -> dict[str, list[str]]:
        return {"models": sorted(inference.repository.engines())}

    @app.get(
        "/v1/models/{model}", tags=["metadata"], summary="What a model is: task, labels, quality, an example row",
        responses=unread,
    )  # fmt: skip
    async def about(model: str) -> dict[str, Any]:
        engine = inference.repository.get(model)
        manifest, task = engine.bundle.manifest, engine.task
        return {
            "name": model,
            "ready": inference.model_ready(model),
            "versions": inference.repository.versions(model),
            "task": manifest.task,
            "precision": manifest.precision,
            "digest": manifest.digest,
            "licence": manifest.licence,
            "axes": {name: list(coordinates) for name, coordinates in task.axes.items()},
            "example": plain(task.example),
            "quality": manifest.quality,
            "source": manifest.source,
        }


def _add_metrics(app: FastAPI, inference: Inference, metrics: Metrics, crew: Alone) -> None:
    async def own() -> list[Metric]:
        for name, versions in inference.repository.engines().items():
            metrics.waiting_rows.labels(name).set(sum(engine.waiting for engine in versions.values()))
            metrics.predicted_wait.labels(name).set(max(engine.predicted_wait() for engine in versions.values()))
            metrics.shared_rows.labels(name).set(sum(engine.shared_rows for engine in versions.values()))
            pays = [engine.cache.worth.pays for engine in versions.values() if engine.cache]
            if pays:
                metrics.response_cache_pays.labels(name).set(all(pays))
        told, before = list(metrics.registry.collect()), crew.told_before("metrics")
        return summed([told, lasting(before)]) if before else told

    crew.actions["metrics"] = own

    @app.get("/metrics", tags=["metrics"], summary="Prometheus metrics", response_class=PlainTextResponse)
    async def exposition() -> Response:
        told = await crew.everyone("metrics")
        families = summed([families if fresh else lasting(families) for families, fresh in told])
        return Response(generate_latest(exposed(families)), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    async def answer(request: Request, error: Exception) -> JSONResponse:
        status, text, headers = described(error)
        return JSONResponse({"error": text}, status, headers)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in error.errors())
        return JSONResponse({"error": faults}, 422)

    app.add_exception_handler(errors.DownstreamError, answer)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, answer)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The document of the FastAPI routes and of the hot ones, which FastAPI does not see."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document["paths"] |= HOT_PATHS
        app.openapi_schema = document
    return app.openapi_schema
