"""Every wire there is, as one function of columns: what a test asks over one, it can ask over all."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import np_to_triton_dtype

from serving.errors import DownstreamError
from serving.gateway.grpc_v2 import CODES
from serving.gateway.http_errors import STATUS
from serving.tensors import Array
from tests.serving.server_process import ServerProcess

OUTPUTS = ("label", "score", "probabilities", "logits")

Columns = Mapping[str, Sequence[str | bytes] | Array]


@dataclass(frozen=True)
class Answer:
    """What came back: every output that was asked for, BYTES decoded."""

    id: str
    model: str
    version: str
    outputs: dict[str, Array]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Wire:
    """One client library of Triton; over HTTP, data goes as ``binary`` or as JSON."""

    name: str
    library: ModuleType
    binary: bool = True

    @property
    def is_http(self) -> bool:
        """Whether this is HTTP, not gRPC."""
        return "http" in self.name

    def client(self, server: ServerProcess) -> Any:
        """A client of the library, open."""
        return self.library.InferenceServerClient(server.http if self.is_http else server.grpc)

    def ask(self, server: ServerProcess, columns: Columns, **options: Any) -> Answer:
        """One request over a connection of its own. Raises InferenceServerException."""
        if not self.name.endswith("aio"):
            client = self.client(server)
            try:
                return self.answer(client.infer(**self.request(columns, **options)), options.get("outputs") or OUTPUTS)
            finally:
                client.close()

        async def asked() -> Answer:
            async with self.client(server) as client:
                result = await client.infer(**self.request(columns, **options))
                return self.answer(result, options.get("outputs") or OUTPUTS)

        return asyncio.run(asked())

    def request(
        self, columns: Columns, *, model: str = "intent", outputs: Sequence[str] | None = None, **options: Any
    ) -> dict[str, Any]:
        """The arguments of the library's ``infer``."""
        # Over HTTP the library asks for binary outputs unless each output is named.
        wanted = outputs or (OUTPUTS if self.is_http and not self.binary else None)
        return {
            "model_name": model,
            "inputs": [self._input(name, values) for name, values in columns.items()],
            "outputs": wanted and [self._output(name) for name in wanted],
            **options,
        }

    def _input(self, name: str, values: Any) -> Any:
        array = values if isinstance(values, np.ndarray) else column(values)
        item = self.library.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        item.set_data_from_numpy(array, **({"binary_data": self.binary} if self.is_http else {}))
        return item

    def _output(self, name: str) -> Any:
        options = {"binary_data": self.binary} if self.is_http else {}
        return self.library.InferRequestedOutput(name, **options)

    def answer(self, result: Any, names: Sequence[str]) -> Answer:
        """The library's result in one form for all wires."""
        found = result.get_response()
        if not isinstance(found, dict):
            parameters = {name: value.string_param for name, value in found.parameters.items()}
            found = {
                "id": found.id,
                "model_name": found.model_name,
                "model_version": found.model_version,
                "parameters": parameters,
            }
        outputs = {name: result.as_numpy(name) for name in names}
        decoded = {
            name: array if array.dtype != np.object_ else np.vectorize(text)(array) for name, array in outputs.items()
        }
        told = found.get("parameters", {})
        return Answer(found.get("id", ""), found["model_name"], found["model_version"], decoded, told)

    def status(self, error: type[DownstreamError]) -> str:
        """What the library's exception says is the status of such an error."""
        return str(STATUS[error]) if self.is_http else str(CODES[error])


def text(value: str | bytes) -> str:
    """A BYTES element as text; JSON has texts already."""
    return value if isinstance(value, str) else value.decode()


def column(values: Sequence[str | bytes]) -> Array:
    """Texts as the v2 protocol has a column of scalars: shape [rows, 1]."""
    array = np.empty((len(values), 1), object)
    array[:, 0] = [value.encode() if isinstance(value, str) else value for value in values]
    return array


WIRES = (
    Wire("http json", tritonclient.http, binary=False),
    Wire("http binary", tritonclient.http),
    Wire("http json aio", tritonclient.http.aio, binary=False),
    Wire("http binary aio", tritonclient.http.aio),
    Wire("grpc", tritonclient.grpc),
    Wire("grpc aio", tritonclient.grpc.aio),
)


def post(server: ServerProcess, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """A POST of exactly these bytes; the status and the JSON of the answer."""
    connection = http.client.HTTPConnection(server.http, timeout=60)
    try:
        connection.request("POST", path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
