"""The four client libraries of Triton, called in the same way and answering in the same form."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving.tensors import Array

LIBRARIES = (tritonclient.http, tritonclient.http.aio, tritonclient.grpc, tritonclient.grpc.aio)
OUTPUTS = ("label", "score", "probabilities", "logits")


class Addressed(Protocol):
    """A running server."""

    http: str
    grpc: str


@dataclass(frozen=True)
class Failure:
    """A refusal: its status as HTTP has it, or the name of its gRPC code; and what it says."""

    status: str
    text: str


class Client:
    """A client of one library; coroutines are run to their end, protobufs become plain values."""

    def __init__(self, library: ModuleType, server: Addressed) -> None:
        self.library = library
        self.is_http = library.__name__.startswith("tritonclient.http")
        self.is_aio = library.__name__.endswith("aio")
        self._runner = asyncio.Runner()
        address = server.http if self.is_http else server.grpc

        async def opened() -> Any:
            return library.InferenceServerClient(address)

        self.raw = self.run(opened()) if self.is_aio else library.InferenceServerClient(address)

    def run(self, value: Any) -> Any:
        """The value, or the result of it where it is a coroutine."""
        return self._runner.run(value) if inspect.iscoroutine(value) else value

    def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method of ``raw``. What comes back is plain; errors are those of the library."""
        return plain(self.run(method(*args, **options)))

    def fails(self, method: Callable[..., Any], *args: Any, **options: Any) -> Failure:
        """The refusal that a call must end with."""
        try:
            found = self.call(method, *args, **options)
        except InferenceServerException as error:
            return Failure(str(error.status()).removeprefix("StatusCode."), str(error.message()))
        raise AssertionError(f"{method.__name__} was answered: {found}")

    def close(self) -> None:
        """Close the connection and the event loop."""
        self.run(self.raw.close())
        self._runner.close()

    def inputs(self, columns: Mapping[str, Any], *, binary: bool = True) -> list[Any]:
        """Texts, as lists, and arrays, as the library's inputs; texts become a column."""
        return [self._input(name, value, binary) for name, value in columns.items()]

    def _input(self, name: str, value: Any, binary: bool) -> Any:
        array = value if isinstance(value, np.ndarray) else texts(value)
        item = self.library.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        item.set_data_from_numpy(array, **({"binary_data": binary} if self.is_http else {}))
        return item

    def outputs(self, names: Sequence[str], *, binary: bool = True, **options: Any) -> list[Any]:
        """Requested outputs; ``class_count`` asks for the best classes."""
        http = {"binary_data": binary} if self.is_http else {}
        return [self.library.InferRequestedOutput(name, **http, **options) for name in names]

    def infer(self, columns: Mapping[str, Any], model: str = "intent", **options: Any) -> dict[str, Array]:
        """Every output of one request, BYTES as texts."""
        result = self.run(self.raw.infer(model, self.inputs(columns), **options))
        return arrays(result)

    def refused(self, columns: Mapping[str, Any], model: str = "intent", **options: Any) -> Failure:
        """The refusal of one request."""
        return self.fails(self.raw.infer, model, self.inputs(columns), **options)


def texts(values: Sequence[str | bytes]) -> Array:
    """Texts as a column of shape [rows, 1]."""
    array = np.empty((len(values), 1), object)
    array[:, 0] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


def arrays(result: Any) -> dict[str, Array]:
    """The outputs of a library's result; BYTES as texts."""
    response = result.get_response()
    names = (
        [o["name"] for o in response["outputs"]] if isinstance(response, dict) else [o.name for o in response.outputs]
    )
    found = {name: result.as_numpy(name) for name in names}
    return {
        name: np.vectorize(lambda v: v if isinstance(v, str) else v.decode())(array) if array.dtype == object else array
        for name, array in found.items()
    }


def header(result: Any) -> dict[str, Any]:
    """Id, model and version of a result."""
    response = result.get_response()
    if not isinstance(response, dict):
        response = {"id": response.id, "model_name": response.model_name, "model_version": response.model_version}
    return {"id": response.get("id", ""), "model": response["model_name"], "version": response["model_version"]}


def plain(value: Any) -> Any:
    """Protobufs as dictionaries, with integers as numbers; anything else as it is."""
    if isinstance(value, Message):
        found = json_format.MessageToDict(
            value, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return {name: _numbers(name, part) for name, part in found.items()}
    return value


def _numbers(name: str, value: Any) -> Any:
    """64-bit integers as numbers: the JSON of protobufs has them as texts."""
    if isinstance(value, dict):
        return {key: _numbers(key, part) for key, part in value.items()}
    if isinstance(value, list):
        return [_numbers(name, part) for part in value]
    is_number = isinstance(value, str) and value.removeprefix("-").isdigit() and name not in ("version", "versions")
    return int(value) if is_number else value
