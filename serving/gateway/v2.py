"""KServe v2 (Open Inference Protocol), once for HTTP and gRPC: messages to rows, answers to tensors; no framework."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from serving.engine import Engine
from serving.errors import InvalidInput, NotReady, Unsupported
from serving.gateway.codec import Tensor
from serving.metrics import Metrics
from serving.repository import Repository
from serving.tasks import Task
from serving.tensors import NUMPY_TYPES, Field, Row

log = logging.getLogger(__name__)

SERVER_NAME = "downstream"
EXTENSIONS = ("binary_tensor_data", "parameters")
MICROSECONDS = 1e-6


@dataclass(frozen=True)
class InferRequest:
    """One inference request; ``outputs`` are the names asked for, all if empty; ``timeout`` is in seconds."""

    model: str
    version: str
    inputs: Sequence[Tensor]
    outputs: Sequence[str] = ()
    id: str = ""
    timeout: float | None = None


@dataclass(frozen=True)
class InferResponse:
    """The answer to one inference request."""

    model: str
    version: str
    id: str
    outputs: Sequence[Tensor] = field(default_factory=tuple)


class Inference:
    """What both protocols do, over the repository. Every method raises only DownstreamError on purpose."""

    def __init__(self, repository: Repository, metrics: Metrics, timeout: float) -> None:
        self.repository, self._metrics, self._timeout = repository, metrics, timeout
        self.stopping = False

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
        task = engine.task
        return {
            "name": name,
            "versions": [str(number) for number in self.repository.versions(name)],
            "platform": f"downstream_{engine.bundle.manifest.backend}",
            "inputs": [_described(item, task) for item in task.inputs],
            "outputs": [_described(item, task) for item in task.outputs],
        }

    async def infer(self, request: InferRequest, protocol: str) -> InferResponse:
        """Answer every row of a request; the first row that fails fails the request, and names its index."""
        engine = self.repository.get(request.model, request.version)
        rows = _rows(request, engine)
        wanted = _wanted(request, engine.task)
        answers = await self.answer(engine, rows, request.timeout, protocol)
        for index, answer in enumerate(answers):
            if isinstance(answer, BaseException):
                if isinstance(answer, InvalidInput) and len(rows) > 1:
                    raise InvalidInput(f"row {index}: {answer}") from answer
                raise answer
        manifest = engine.bundle.manifest
        outputs = [_gathered(item, [answer[item.name] for answer in answers]) for item in wanted]
        return InferResponse(request.model, str(manifest.version), request.id, outputs)

    def count(self, model: str, protocol: str, outcome: str) -> None:
        """Count a finished request; a name that no model has is counted as such, so that callers make no series."""
        known = model if self.repository.versions(model) else "unknown"
        self._metrics.requests.labels(known, protocol, outcome).inc()

    async def answer(self, engine: Engine, rows: Sequence[Row], timeout: float | None, protocol: str) -> list[Any]:
        """Each row's answer, or the exception that it raised, in order."""
        begun = time.perf_counter()
        model = engine.bundle.manifest.name
        limit = timeout if timeout is not None else self._timeout
        answers = await asyncio.gather(*(engine.answer(row, limit) for row in rows), return_exceptions=True)
        self._metrics.request_seconds.labels(model, protocol).observe(time.perf_counter() - begun)
        return list(answers)


def unexpected(error: BaseException) -> str:
    """Log an error nobody expected with an id, and give the text that may leave the server."""
    number = uuid.uuid4().hex[:12]
    log.error("internal error %s", number, exc_info=error)
    return f"internal error, id {number}; the server's log has the details"


def refuse_unsupported(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise Unsupported for a parameter of an input or output that would change the answer if it were ignored."""
    for parameter in ("classification", "shared_memory_region"):
        if parameter in parameters:
            raise Unsupported(f"'{name}': the parameter {parameter} is not supported; leave it out")


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """The ``timeout`` parameter, in seconds. Raises InvalidInput when it is no positive number of microseconds."""
    value = parameters.get("timeout")
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(f"parameter 'timeout' must be a positive number of microseconds, got {value!r}")
    return value * MICROSECONDS


def _described(item: Field, task: Task) -> dict[str, Any]:
    return {"name": item.name, "datatype": item.dtype, "shape": [-1, *item.dims(task.axes)]}


def _wanted(request: InferRequest, task: Task) -> list[Field]:
    fields = {item.name: item for item in task.outputs}
    for name in request.outputs:
        if name not in fields:
            raise InvalidInput(
                f"unexpected inference output '{name}' for model '{request.model}'; the outputs are {', '.join(fields)}"
            )
    return [fields[name] for name in request.outputs] or list(task.outputs)


def _rows(request: InferRequest, engine: Engine) -> list[dict[str, Any]]:
    """The rows of a request's tensors. Raises InvalidInput in Triton's words."""
    task, model = engine.task, request.model
    fields = {item.name: item for item in task.inputs}
    given = {tensor.name: tensor for tensor in request.inputs}
    if len(given) != len(request.inputs):
        raise InvalidInput(f"an input is given twice for model '{model}'")
    required = [item.name for item in task.inputs if not item.optional]
    for name in given:
        if name not in fields:
            raise InvalidInput(
                f"unexpected inference input '{name}' for model '{model}'; the inputs are {', '.join(fields)}"
            )
    missing = [name for name in required if name not in given]
    if missing:
        raise InvalidInput(
            f"expected {len(required)} inputs but got {len(given)} inputs for model '{model}'. "
            f"Missing: {', '.join(missing)}"
        )
    for tensor in given.values():
        _check_tensor(tensor, fields[tensor.name], task, model)
    counts = {tensor.array.shape[0] for tensor in given.values()}
    if len(counts) > 1:
        raise InvalidInput(f"the inputs of model '{model}' have different batch sizes: {sorted(counts)}")
    (count,) = counts
    bound = engine.bundle.manifest.max_batch_size
    if not 1 <= count <= max(1, bound):
        raise InvalidInput(
            f"inference request batch-size must be <= {bound} for '{model}', and at least 1, got {count}"
        )
    return [{name: _cell(tensor, fields[name], index) for name, tensor in given.items()} for index in range(count)]


def _check_tensor(tensor: Tensor, item: Field, task: Task, model: str) -> None:
    if tensor.datatype != item.dtype:
        raise InvalidInput(
            f"inference input '{tensor.name}' data-type is '{tensor.datatype}', "
            f"but model '{model}' expects '{item.dtype}'"
        )
    wanted = [-1, *item.dims(task.axes)]
    found = list(tensor.array.shape)
    fits = len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True))
    # A column of scalars may come without its trailing 1: that is how people write it.
    if not fits and not (not item.shape and len(found) == 1):
        raise InvalidInput(
            f"unexpected shape for input '{tensor.name}' for model '{model}'. Expected {wanted}, got {found}"
        )


def _cell(tensor: Tensor, item: Field, index: int) -> Any:
    value = tensor.array[index]
    return value if item.shape else np.asarray(value, tensor.array.dtype).reshape(-1)[0]


def _gathered(item: Field, values: Sequence[Any]) -> Tensor:
    """One output of all rows, with the batch axis; scalars get Triton's trailing 1."""
    if item.dtype == "BYTES":
        array = np.empty(len(values), object)
        array[:] = values
    else:
        array = np.stack([np.asarray(value, NUMPY_TYPES[item.dtype]) for value in values])
    return Tensor(item.name, item.dtype, array if item.shape else array.reshape(-1, 1))
