"""The hot HTTP routes as plain ASGI: v2 infer (JSON and binary tensors) and the friendly ``:predict``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import orjson

from serving.bundle import plain
from serving.errors import DownstreamError, InvalidInput, Unsupported, fault
from serving.gateway import codec
from serving.gateway.http_errors import BodyTooLarge, described
from serving.gateway.v2 import Inference, InferRequest, InferResponse, refuse_unsupported, timeout_of
from serving.tasks import Task
from serving.tensors import Row

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]

INFER = re.compile(r"^/v2/models/([^/]+)(?:/versions/([0-9]+))?/infer$")
PREDICT = re.compile(r"^/v1/models/([^/:]+)(?:/versions/([0-9]+))?:predict$")
JSON_LENGTH = b"inference-header-content-length"
TIMEOUT = b"x-request-timeout-ms"
MAX_INSTANCES = 1024
JSON = {"content-type": "application/json"}
# No header holds a longer number, and int() refuses very long ones with an error of its own.
DIGITS = 18


class HotRoutes:
    """Answers the hot routes; everything else goes to ``rest``, the FastAPI application."""

    def __init__(self, inference: Inference, max_body: int, rest: Callable[[Scope, Receive, Send], Awaitable[None]]):
        self._inference, self._max_body, self._rest = inference, max_body, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for pattern, handle in ((INFER, self._infer), (PREDICT, self._predict)):
                match = pattern.match(scope["path"])
                if match and scope["method"] == "POST":
                    await self._respond(handle, match[1], match[2] or "", scope, receive, send)
                    return
                if match:
                    await _send(send, 405, {"allow": "POST", **JSON}, orjson.dumps({"error": "Method Not Allowed"}))
                    return
        await self._rest(scope, receive, send)

    async def _respond(self, handle: Any, model: str, version: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        outcome = "gone"
        try:
            body = await read_body(receive, headers, self._max_body)
            if body is None:
                return
            answer = await _unless_gone(handle(model, version, headers, body), receive)
            if answer is None:
                return
            status, (extra, content) = 200, answer
            outcome = "ok"
        except Exception as error:
            outcome = type(error).__name__
            status, text, more = described(error)
            extra, content = {**JSON, **more}, orjson.dumps({"error": text})
        finally:
            self._inference.count(model, "http", outcome)
        await _send(send, status, extra, content)

    async def _infer(self, model: str, version: str, headers: Headers, body: bytes) -> tuple[Mapping[str, str], bytes]:
        request, binary = parse_infer(model, version, headers, body)
        response = await self._inference.infer(request, "http")
        return render_infer(response, binary)

    async def _predict(
        self, model: str, version: str, headers: Headers, body: bytes
    ) -> tuple[Mapping[str, str], bytes]:
        """Rows in, rows out; a row that fails says so in its own place and the others are answered."""
        engine = self._inference.repository.get(model, version)
        message = _json_object(body)
        rows = message.get("instances")
        unknown = message.keys() - {"instances"}
        if unknown:
            raise InvalidInput(fault(min(unknown), "unknown key", message[min(unknown)], "the only key is instances"))
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            example = orjson.dumps({"instances": [engine.task.example]}).decode()
            raise InvalidInput(fault("instances", "must be a list of rows", rows, f"send for example {example}"))
        if len(rows) > MAX_INSTANCES:
            raise InvalidInput(fault("instances", "too many rows", len(rows), f"send at most {MAX_INSTANCES} at once"))
        answers = await self._inference.answer(engine, rows, _header_timeout(headers), "http")
        if all(isinstance(answer, BaseException) for answer in answers):
            raise answers[0]
        predictions = [_prediction(answer, engine.task) for answer in answers]
        return JSON, orjson.dumps({"predictions": predictions})


async def _send(send: Send, status: int, headers: Mapping[str, str], content: bytes) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes | None:
    """The whole request body, or None when the client left.

    Raises BodyTooLarge beyond ``limit`` bytes, and Unsupported for a compressed body.
    """
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding != b"identity":
        raise Unsupported(f"Content-Encoding {encoding.decode('latin-1')!r} is not supported; send the body as it is")
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise BodyTooLarge(
            f"the request body has {int(announced)} bytes, the limit is {limit}; send fewer rows at once"
        )
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(f"the request body is over the limit of {limit} bytes; send fewer rows at once")
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _unless_gone(work: Awaitable[Any], receive: Receive) -> Any:
    """The result of ``work``, or None when the client leaves first: then the work is cancelled, not computed."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            return None
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def parse_infer(model: str, version: str, headers: Headers, body: bytes) -> tuple[InferRequest, set[str] | bool]:
    """The request of an infer body, and which outputs to answer in binary: a set of names, or all or none.

    With ``Inference-Header-Content-Length`` the body is that much JSON, then the raw data of the inputs that carry
    ``binary_data_size``, in order. Raises InvalidInput.
    """
    length = _json_length(headers, body)
    message = _json_object(body[:length])
    parameters = _mapping(message, "parameters")
    inputs = []
    position = length
    for item in _items(message, "inputs"):
        name, datatype, shape = _described(item)
        refuse_unsupported(name, _mapping(item, "parameters"))
        size = _mapping(item, "parameters").get("binary_data_size")
        if size is None:
            inputs.append(codec.from_json(name, datatype, shape, item.get("data")))
            continue
        if not isinstance(size, int) or size < 0 or position + size > len(body):
            raise InvalidInput(
                f"input '{name}': binary_data_size {size!r} is more than the {len(body) - position} left"
            )
        inputs.append(codec.from_raw(name, datatype, shape, memoryview(body)[position : position + size]))
        position += size
    if position != len(body):
        raise InvalidInput(f"unexpected additional input data for model '{model}': {len(body) - position} bytes")
    asked = _items(message, "outputs") if message.get("outputs") else []
    names = [_named(item) for item in asked]
    for name, item in zip(names, asked, strict=True):
        refuse_unsupported(name, _mapping(item, "parameters"))
    default = bool(parameters.get("binary_data_output", False))
    binary = {
        name
        for name, item in zip(names, asked, strict=True)
        if _mapping(item, "parameters").get("binary_data", default)
    }
    identifier = message.get("id", "")
    if not isinstance(identifier, str):
        raise InvalidInput(fault("id", "must be a text", identifier, "quote it"))
    timeout = timeout_of(parameters) or _header_timeout(headers)
    return InferRequest(model, version, inputs, names, identifier, timeout), binary if asked else default


def render_infer(response: InferResponse, binary: set[str] | bool) -> tuple[Mapping[str, str], bytes]:
    """Headers and body of an infer answer; JSON alone, or JSON with the raw data of the binary outputs behind it."""
    outputs, blobs = [], []
    for tensor in response.outputs:
        item: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.array.shape)}
        if binary is True or (binary and tensor.name in binary):
            blob = codec.to_raw(tensor)
            item["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            item["data"] = codec.to_json(tensor)
        outputs.append(item)
    message = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    head = orjson.dumps({"id": response.id, **message} if response.id else message)
    if not blobs:
        return JSON, head
    headers = {"content-type": "application/octet-stream", JSON_LENGTH.decode(): str(len(head))}
    return headers, b"".join([head, *blobs])


def _prediction(answer: Row | BaseException, task: Task) -> dict[str, Any]:
    """One row for people: arrays along a named axis become objects by name."""
    if isinstance(answer, DownstreamError):
        return {"error": str(answer)}
    if isinstance(answer, BaseException):
        return {"error": described(answer)[1]}
    row = plain(answer)
    for item in task.outputs:
        if len(item.shape) == 1 and item.shape[0] in task.axes:
            row[item.name] = dict(zip(task.axes[str(item.shape[0])], row[item.name], strict=True))
    return row


def _json_length(headers: Headers, body: bytes) -> int:
    value = headers.get(JSON_LENGTH)
    if value is None:
        return len(body)
    if not value.isdigit() or len(value) > DIGITS or int(value) > len(body):
        raise InvalidInput(
            f"Inference-Header-Content-Length {value!r} is no length within the body of {len(body)} bytes"
        )
    return int(value)


def _header_timeout(headers: Headers) -> float | None:
    value = headers.get(TIMEOUT)
    if value is None:
        return None
    if not value.isdigit() or len(value) > DIGITS or int(value) == 0:
        raise InvalidInput(
            f"header X-Request-Timeout-Ms must be a positive number of milliseconds, got {value.decode('latin-1')!r}"
        )
    return int(value) / 1000


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"failed to parse the request JSON: {error}") from None
    if not isinstance(message, dict):
        raise InvalidInput(f"the request must be a JSON object, got {type(message).__name__}")
    return message


def _items(message: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    items = message.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidInput(fault(key, "must be a list of objects", items, "see the /docs of this server"))
    return items


def _mapping(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = message.get(key, {})
    if not isinstance(value, dict):
        raise InvalidInput(fault(key, "must be an object", value, "see the /docs of this server"))
    return value


def _named(item: Mapping[str, Any]) -> str:
    name = item.get("name")
    if not isinstance(name, str):
        raise InvalidInput(fault("name", "must be a text", name, "every input and output has a name"))
    return name


def _described(item: Mapping[str, Any]) -> tuple[str, str, list[int]]:
    name, datatype, shape = _named(item), item.get("datatype"), item.get("shape")
    if not isinstance(datatype, str) or not isinstance(shape, list):
        raise InvalidInput(
            f"input '{name}': needs a datatype (text) and a shape (list), got {datatype!r} and {shape!r}"
        )
    return name, datatype, shape
