"""Triton's Python-based backend ``downstream``: rows in, rows out, by the engine that the gateway uses.

``downstream triton-backend install`` puts it into Triton as ``backends/downstream/model.py``, with this package beside
it. Source: triton-inference-server/python_backend README, "Python based backends".
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from serving.bundle import open_bundle
from serving.call import Call
from serving.codec import Tensor
from serving.engine import Engine
from serving.errors import (
    DeadlineExceeded,
    DownstreamError,
    InvalidInput,
    NotReady,
    Overloaded,
    Unsupported,
    unexpected,
)
from serving.settings import Settings, for_model, read_available_cores
from serving.tensors import NUMPY_TYPES, Array, Row

# What each error is called in TritonError; the server makes its HTTP status and its gRPC code of that.
CODES = {
    InvalidInput: "INVALID_ARG",
    Unsupported: "UNSUPPORTED",
    Overloaded: "UNAVAILABLE",
    NotReady: "UNAVAILABLE",
    DeadlineExceeded: "UNAVAILABLE",  # as Triton calls its own queue timeouts
}
MICROSECONDS = 1e-6


class TritonPythonModel:
    """One instance of one model version; its share of the cores runs batches of rows of like length."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Open and verify the bundle. Raises TritonModelException, which keeps the version from becoming ready."""
        self._utils = import_module("triton_python_backend_utils")
        try:
            _check_numpy(self._utils)
            self._engine = _loaded(args)
        except DownstreamError as error:
            raise self._utils.TritonModelException(str(error)) from error

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """The responses of all requests of a Triton batch, in order; a bad row fails its own request only."""
        rows = [self._rows(request) for request in requests]
        queued = iter(self._engine.submit_all([row for found in rows if isinstance(found, list) for row in found]))
        futures = [found if isinstance(found, Exception) else [next(queued) for _ in found] for found in rows]
        return [
            self._failed(found) if isinstance(found, Exception) else self._answered(request, found)
            for request, found in zip(requests, futures, strict=True)
        ]

    def finalize(self) -> None:
        """Let the rows in flight finish, and release the graphs."""
        self._engine.close()

    def _rows(self, request: Any) -> list[tuple[Row, Call]] | Exception:
        """The rows of a request, or why it has none."""
        schema = self._engine.schema
        tensors = []
        for field in schema.fields:
            found = self._utils.get_input_tensor_by_name(request, field.name)
            if found is not None:
                tensors.append(Tensor(field.name, field.dtype, found.as_numpy()))
        call = Call(timeout=request.timeout() * MICROSECONDS or None)
        try:
            return [(row, call) for row in schema.rows(tensors)]
        except InvalidInput as error:
            return error

    def _answered(self, request: Any, futures: Sequence[Future[Row] | Exception]) -> Any:
        answers = []
        for index, future in enumerate(futures):
            try:
                if isinstance(future, Exception):
                    raise future
                answers.append(future.result())
            except InvalidInput as error:
                return self._failed(InvalidInput(f"row {index}: {error}") if len(futures) > 1 else error)
            except Exception as error:
                return self._failed(error)
        schema, wanted = self._engine.schema, request.requested_output_names()
        tensors = [schema.gathered(field, answers) for field in schema.outputs if field.name in wanted]
        return self._utils.InferenceResponse(
            output_tensors=[self._utils.Tensor(tensor.name, _plain(tensor.array)) for tensor in tensors]
        )

    def _failed(self, error: Exception) -> Any:
        name = next((code for kind, code in CODES.items() if isinstance(error, kind)), "INTERNAL")
        text = str(error) if isinstance(error, DownstreamError) else unexpected(error)
        triton_error = self._utils.TritonError(text, getattr(self._utils.TritonError, name))
        return self._utils.InferenceResponse(output_tensors=[], error=triton_error)


def _loaded(args: Mapping[str, str]) -> Engine:
    """The engine of an instance, from what Triton tells it. Raises DownstreamError."""
    config = json.loads(args["model_config"])
    parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
    settings, _ = for_model(Settings(), parameters)
    instances = sum(group.get("count", 1) for group in config.get("instance_group", [])) or 1
    if not settings.runners:
        settings = dataclasses.replace(settings, runners=max(1, read_available_cores() // instances))
    bundle = open_bundle(Path(args["model_repository"]) / args["model_version"])
    manifest = dataclasses.replace(
        bundle.manifest,
        name=args["model_name"],
        version=int(args["model_version"]),
        max_batch_size=config["max_batch_size"],
    )
    return Engine.load(dataclasses.replace(bundle, manifest=manifest), settings)


def _check_numpy(utils: Any) -> None:
    """Raise NotReady where this Triton garbles the arrays of a newer numpy: up to 24.10 it reads numpy 1 only."""
    for datatype in ("INT64", "FP32"):
        array = np.arange(5, dtype=NUMPY_TYPES[datatype])
        if not np.array_equal(utils.Tensor("check", array).as_numpy(), array):
            raise NotReady(
                f"this Triton release corrupts arrays of numpy {np.__version__}; "
                "install 'numpy<2' into the interpreter that it starts"
            )


def _plain(array: Array) -> Array:
    """An array that owns its memory in one piece, as the server's side reads it."""
    return np.ascontiguousarray(array)
