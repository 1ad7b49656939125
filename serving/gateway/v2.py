"""KServe v2 (Open Inference Protocol), once for HTTP and gRPC: requests to rows, answers to tensors; no framework."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from serving.call import Call
from serving.columns import Schema
from serving.engine import Engine
from serving.errors import InvalidInput, NotReady
from serving.gateway import classification
from serving.gateway.log_settings import LogSettings
from serving.gateway.messages import Answered, InferRequest, InferResponse, Output
from serving.gateway.shared_memory import Regions
from serving.gateway.tracing import Tracing
from serving.manifest import MODEL_DIGEST
from serving.metrics import Metrics
from serving.repository import Repository
from serving.settings import Settings
from serving.tensors import Field, Row

SERVER_NAME = "downstream"
EXTENSIONS = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)


class Inference:
    """What both protocols do, over the repository. Every method raises only DownstreamError on purpose."""

    def __init__(self, repository: Repository, metrics: Metrics, settings: Settings, mark: str = "") -> None:
        self.repository, self._metrics, self._timeout = repository, metrics, settings.timeout
        self.regions = Regions(allowed=settings.allow_shared_memory, largest=settings.max_body)
        self.tracing = Tracing(settings.trace_file, mark)
        self.logging = LogSettings()
        self.stopping = False
        # Set when the ports close: what stays open as long as its client likes ends then.
        self.closing = asyncio.Event()

    def ready(self) -> bool:
        """Whether the server answers: loaded, complete, and not about to stop."""
        return self.repository.ready and not self.stopping

    def model_ready(self, name: str, model_version: str = "") -> bool:
        """Whether a model version answers. Raises NotFound for a model that the repository does not know."""
        try:
            self.repository.get(name, model_version)
        except NotReady:
            return False
        return not self.stopping

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and the extensions that this server really has."""
        return {"name": SERVER_NAME, "version": version("downstream"), "extensions": list(EXTENSIONS)}

    def model_metadata(self, name: str, model_version: str = "") -> dict[str, Any]:
        """Inputs and outputs with datatypes and wire shapes, the batch axis first."""
        engine = self.repository.get(name, model_version)
        schema = engine.schema
        return {
            "name": name,
            "versions": [model_version] if model_version else [str(v) for v in self.repository.versions(name)],
            "platform": SERVER_NAME,
            "inputs": schema.described(schema.fields),
            "outputs": schema.described(schema.outputs),
        }

    async def infer(self, request: InferRequest, protocol: str) -> InferResponse:
        """Answer every row of a request; the first row that fails fails the request, and names its index."""
        with self.repository.lease(request.model, request.version) as engine:
            schema = engine.schema
            rows = schema.rows(request.inputs if request.raw is None else [schema.raw(request.raw)])
            wanted = self._wanted(request, schema)
            call = Call(self._limit(request.timeout), request.wait, request.priority)
            answers = await self._answer(engine, rows, call, protocol, request.id)
        complete = _all(answers)
        outputs = []
        for field, output in wanted:
            tensor = schema.gathered(field, complete)
            if output.classes:
                tensor = classification.classified(tensor, field, schema, output.classes)
            outputs.append(Answered(tensor, output))
        manifest = engine.bundle.manifest
        parameters = {MODEL_DIGEST: manifest.digest} if request.digest else {}
        return InferResponse(request.model, str(manifest.version), request.id, outputs, parameters)

    def _wanted(self, request: InferRequest, schema: Schema) -> list[tuple[Field, Output]]:
        """The outputs to give, each once. Raises InvalidInput for a wrong one, before anything is run."""
        asked = {output.name: output for output in request.outputs}
        wanted = [
            (field, asked.get(field.name) or Output(field.name, binary=request.binary))
            for field in schema.wanted(list(asked))
        ]
        for field, output in wanted:
            if output.classes:
                classification.check(field, schema)
            if output.placement:
                self.regions.check(output.placement)
        return wanted

    async def predict(
        self, name: str, model_version: str, rows: Sequence[Row], timeout: float | None, protocol: str
    ) -> tuple[Engine, list[Row | BaseException]]:
        """Each row's answer, or the exception that it raised, in order; and the engine that answered."""
        with self.repository.lease(name, model_version) as engine:
            return engine, await self._answer(engine, rows, Call(self._limit(timeout)), protocol, "")

    def count(self, model: str, protocol: str, outcome: str) -> None:
        """Count a finished request; a name that no model has is counted as such, so that callers make no series."""
        known = model if self.repository.versions(model) else "unknown"
        self._metrics.requests.labels(known, protocol, outcome).inc()

    def _limit(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    async def _answer(
        self, engine: Engine, rows: Sequence[Row], call: Call, protocol: str, identifier: str
    ) -> list[Row | BaseException]:
        manifest = engine.bundle.manifest
        begun = time.monotonic_ns()
        answers = await engine.answer_all(rows, call)
        done = time.monotonic_ns()
        self._metrics.request_seconds.labels(manifest.name, protocol).observe((done - begun) * 1e-9)
        self.tracing.request(manifest.name, manifest.version, identifier, begun, done, call)
        return answers


def _all(answers: Sequence[Row | BaseException]) -> list[Row]:
    """The answers, if every row has one. Raises the first error there is, with the index of its row."""
    rows: list[Row] = []
    for index, answer in enumerate(answers):
        if isinstance(answer, InvalidInput) and len(answers) > 1:
            raise InvalidInput(f"row {index}: {answer}") from answer
        if isinstance(answer, BaseException):
            raise answer
        rows.append(answer)
    return rows
