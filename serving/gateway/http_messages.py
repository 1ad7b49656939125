"""The bodies of v2 inference over HTTP: JSON, and JSON with the raw data of tensors behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from serving import codec
from serving.errors import InvalidInput, fault, shown
from serving.gateway.messages import (
    Answered,
    InferRequest,
    InferResponse,
    check_reserved,
    check_values,
    digest_of,
    flag_of,
    output_of,
    placement_of,
    priority_of,
    timeout_of,
)
from serving.gateway.shared_memory import Regions

Headers = Mapping[bytes, bytes]

JSON_LENGTH = b"inference-header-content-length"
TIMEOUT = b"x-request-timeout-ms"
JSON = {"content-type": "application/json"}
# No header holds a longer number, and int() refuses very long ones with an error of its own.
DIGITS = 18
# Where the data of an input may be.
SOURCES = ("data", "binary_data_size", "shared_memory_region")


def parse_infer(model: str, version: str, headers: Headers, body: bytes, regions: Regions) -> InferRequest:
    """The request of an infer body.

    With ``Inference-Header-Content-Length`` the body is that much JSON, then the raw data of the inputs that carry
    ``binary_data_size``, in order; a length of 0 means that the whole body is the data of the one input there is.
    Raises InvalidInput, NotFound for a shared memory region that is not registered.
    """
    length = _json_length(headers, body)
    if length == 0 and JSON_LENGTH in headers:
        return InferRequest(model, version, (), raw=body, timeout=header_timeout(headers), binary=True)
    message = json_object(body[:length])
    parameters = mapping(message, "parameters")
    check_reserved(parameters)
    check_values(parameters)
    inputs = []
    position = length
    for item in _items(message, "inputs"):
        tensor, used = _input(item, memoryview(body)[position:], regions)
        inputs.append(tensor)
        position += used
    if position != len(body):
        raise InvalidInput(f"unexpected additional input data for model '{model}': {len(body) - position} bytes")
    asked = _items(message, "outputs") if message.get("outputs") is not None else []
    return InferRequest(
        model,
        version,
        inputs,
        [output_of(_named(item), mapping(item, "parameters")) for item in asked],
        id=identifier(message),
        timeout=header_timeout(headers),
        wait=timeout_of(parameters),
        priority=priority_of(parameters),
        digest=digest_of(parameters),
        binary=flag_of(parameters, "binary_data_output", False),
    )


def _input(item: Mapping[str, Any], rest: memoryview, regions: Regions) -> tuple[codec.Tensor, int]:
    """A tensor of the request, and how many bytes behind the JSON are its."""
    name, datatype, shape = _described(item)
    parameters = mapping(item, "parameters")
    placement = placement_of(name, parameters)
    found = {**parameters, "data": item.get("data")}
    given = [key for key in SOURCES if found.get(key) is not None]
    if len(given) > 1:
        raise InvalidInput(f"input '{name}': must have only one of {', '.join(SOURCES)}, got {', '.join(given)}")
    if placement:
        return codec.from_raw(name, datatype, shape, regions.read(placement)), 0
    size = parameters.get("binary_data_size")
    if size is None:
        return codec.from_json(name, datatype, shape, item.get("data")), 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
        raise InvalidInput(
            f"input '{name}': binary_data_size must be 0 to the {len(rest)} bytes that are left, got {shown(size)}"
        )
    return codec.from_raw(name, datatype, shape, rest[:size]), size


def render_infer(response: InferResponse, regions: Regions) -> tuple[Mapping[str, str], bytes]:
    """Headers and body of an infer answer; JSON alone, or JSON with the raw data of the binary outputs behind it.

    Outputs that are asked for in shared memory are left there.
    """
    outputs, blobs = [], []
    for answered in response.outputs:
        item, blob = _output(answered, regions)
        outputs.append(item)
        blobs += blob
    message: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.parameters:
        message["parameters"] = response.parameters
    message["outputs"] = outputs
    head = orjson.dumps({"id": response.id, **message} if response.id else message, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return JSON, head
    headers = {"content-type": "application/octet-stream", JSON_LENGTH.decode(): str(len(head))}
    return headers, b"".join([head, *blobs])


def _output(answered: Answered, regions: Regions) -> tuple[dict[str, Any], list[bytes]]:
    tensor, asked = answered.tensor, answered.asked
    item: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.array.shape)}
    if not asked.placement and not asked.binary:
        # Numbers are written from the array itself: no Python object each, no digit more than its precision has.
        data = codec.to_json(tensor) if tensor.datatype == "BYTES" else np.ascontiguousarray(tensor.array).reshape(-1)
        return {**item, "data": data}, []
    blob = codec.to_raw(tensor)
    if asked.placement:
        regions.write(asked.placement, blob)
        return item, []
    return {**item, "parameters": {"binary_data_size": len(blob)}}, [blob]


def header_timeout(headers: Headers) -> float | None:
    """Seconds of ``X-Request-Timeout-Ms``. Raises InvalidInput."""
    value = headers.get(TIMEOUT)
    if value is None:
        return None
    if not value.isdigit() or len(value) > DIGITS or int(value) == 0:
        raise InvalidInput(
            f"header X-Request-Timeout-Ms must be a positive number of milliseconds, got {value.decode('latin-1')!r}"
        )
    return int(value) / 1000


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises InvalidInput."""
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"failed to parse the request JSON: {error}") from None
    if not isinstance(message, dict):
        raise InvalidInput(f"the request must be a JSON object, got {type(message).__name__}")
    return message


def identifier(message: Mapping[str, Any]) -> str:
    """The ``id`` of a request. Raises InvalidInput."""
    value = message.get("id", "")
    if not isinstance(value, str):
        raise InvalidInput(fault("id", "must be a text", value, "quote it"))
    return value


def mapping(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object within the message, empty if it is not there. Raises InvalidInput."""
    value = message.get(key, {})
    if not isinstance(value, dict):
        raise InvalidInput(fault(key, "must be an object", value, "see the /docs of this server"))
    return value


def _json_length(headers: Headers, body: bytes) -> int:
    value = headers.get(JSON_LENGTH)
    if value is None:
        return len(body)
    if not value.isdigit() or len(value) > DIGITS or int(value) > len(body):
        raise InvalidInput(
            f"Inference-Header-Content-Length {value!r} is no length within the body of {len(body)} bytes"
        )
    return int(value)


def _items(message: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    items = message.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidInput(fault(key, "must be a list of objects", items, "see the /docs of this server"))
    return items


def _named(item: Mapping[str, Any]) -> str:
    name = item.get("name")
    if not isinstance(name, str):
        raise InvalidInput(fault("name", "must be a text", name, "every input and output has a name"))
    return name


def _described(item: Mapping[str, Any]) -> tuple[str, str, list[int]]:
    name, datatype, shape = _named(item), item.get("datatype"), item.get("shape")
    if not isinstance(datatype, str) or not isinstance(shape, list):
        raise InvalidInput(
            f"input '{name}': needs a datatype (text) and a shape (list), got {shown(datatype)} and {shown(shape)}"
        )
    return name, datatype, shape
