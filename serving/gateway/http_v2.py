"""The hot HTTP routes as plain ASGI: v2 infer and generate, and the friendly ``:predict``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

from serving.bundle import plain
from serving.errors import DownstreamError, InvalidInput, fault, shown
from serving.gateway import compression, generate
from serving.gateway.http_errors import BodyTooLarge, described
from serving.gateway.http_messages import DIGITS, JSON, Headers, header_timeout, json_object, parse_infer, render_infer
from serving.gateway.messages import digest_of
from serving.gateway.v2 import Inference
from serving.manifest import MODEL_DIGEST
from serving.tasks import Task
from serving.tensors import Row

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Answer = tuple[Mapping[str, str], bytes]

V2 = re.compile(r"/v2/models/([^/]+)(?:/versions/([0-9]+))?/(infer|generate|generate_stream)")
PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/([0-9]+))?:(predict)")
MAX_INSTANCES = 1024


class HotRoutes:
    """Answers the hot routes; everything else goes to ``rest``, the FastAPI application."""

    def __init__(self, inference: Inference, max_body: int, rest: Callable[[Scope, Receive, Send], Awaitable[None]]):
        self._inference, self._max_body, self._rest = inference, max_body, rest
        self._handlers = {
            "infer": self._infer,
            "generate": self._generate,
            "generate_stream": self._generate_stream,
            "predict": self._predict,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = scope["type"] == "http" and (V2.fullmatch(scope["path"]) or PREDICT.fullmatch(scope["path"]))
        if not match:
            await self._rest(scope, receive, send)
        elif scope["method"] != "POST":
            await _send(send, 405, {"allow": "POST", **JSON}, orjson.dumps({"error": "Method Not Allowed"}))
        else:
            await self._respond(self._handlers[match[3]], match[1], match[2] or "", scope, receive, send)

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
            status, (extra, content) = 200, _encoded(answer, headers)
            outcome = "ok"
        except Exception as error:
            outcome = type(error).__name__
            status, text, more = described(error)
            extra, content = {**JSON, **more}, orjson.dumps({"error": text})
        finally:
            self._inference.count(model, "http", outcome)
        await _send(send, status, extra, content)

    async def _infer(self, model: str, version: str, headers: Headers, body: bytes) -> Answer:
        request = parse_infer(model, version, headers, body, self._inference.regions)
        response = await self._inference.infer(request, "http")
        return render_infer(response, self._inference.regions)

    async def _generate(self, model: str, version: str, headers: Headers, body: bytes) -> Answer:
        schema = self._inference.repository.get(model, version).schema
        request = generate.request_of(json_object(body), schema, version, header_timeout(headers))
        return JSON, orjson.dumps(generate.rendered(await self._inference.infer(request, "http")))

    async def _generate_stream(self, model: str, version: str, headers: Headers, body: bytes) -> Answer:
        """Server-sent events: one, since no task gives its answer in parts."""
        _, content = await self._generate(model, version, headers, body)
        return {"content-type": "text/event-stream; charset=utf-8"}, b"data: " + content + b"\n\n"

    async def _predict(self, model: str, version: str, headers: Headers, body: bytes) -> Answer:
        """Rows in, rows out; a row that fails says so in its own place and the others are answered."""
        task = self._inference.repository.get(model, version).task
        message = json_object(body)
        rows = message.get("instances")
        unknown = message.keys() - {"instances", MODEL_DIGEST}
        if unknown:
            keys = f"the keys are instances and {MODEL_DIGEST}"
            raise InvalidInput(fault(min(unknown), "unknown key", message[min(unknown)], keys))
        told = digest_of(message)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            example = orjson.dumps({"instances": [task.example]}).decode()
            raise InvalidInput(fault("instances", "must be a list of rows", rows, f"send for example {example}"))
        if len(rows) > MAX_INSTANCES:
            raise InvalidInput(fault("instances", "too many rows", len(rows), f"send at most {MAX_INSTANCES} at once"))
        timeout = header_timeout(headers)
        engine, answers = await self._inference.predict(model, version, rows, timeout, "http")
        if isinstance(answers[0], BaseException) and all(isinstance(answer, BaseException) for answer in answers):
            raise answers[0]
        predictions = {"predictions": [_prediction(answer, engine.task) for answer in answers]}
        digest = {MODEL_DIGEST: engine.bundle.manifest.digest} if told else {}
        return JSON, orjson.dumps(predictions | digest)


def _encoded(answer: Answer, asked: Headers) -> Answer:
    """The answer in the encoding that the caller accepts, where that gains something."""
    headers, content = answer
    encoding = compression.accepted(asked.get(b"accept-encoding", b"").decode("latin-1"))
    smaller = compression.compressed(content, encoding)
    return (headers, content) if smaller is None else ({**headers, "content-encoding": encoding}, smaller)


async def _send(send: Send, status: int, headers: Mapping[str, str], content: bytes) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes | None:
    """The whole request body, decompressed, or None when the client left.

    Raises BodyTooLarge beyond ``limit`` bytes, Unsupported and InvalidInput as ``decompressed`` does.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and (len(announced) > DIGITS or int(announced) > limit):
        raise BodyTooLarge(
            f"the request body has {shown(announced.decode())} bytes, the limit is {limit}; send fewer rows at once"
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
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            encoding = headers.get(b"content-encoding", b"identity").decode("latin-1")
            return compression.decompressed(body, encoding, limit)


async def _unless_gone(work: Awaitable[Answer], receive: Receive) -> Answer | None:
    """The result of ``work``, or None when the client leaves first: then the work is cancelled, not computed."""
    own = asyncio.current_task()
    assert own is not None
    left = False

    def leave(gone: asyncio.Future[Message]) -> None:
        nonlocal left
        if not gone.cancelled():
            left = True
            own.cancel()

    gone = asyncio.ensure_future(receive())
    gone.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        own.uncancel()
        return None
    finally:
        gone.remove_done_callback(leave)
        gone.cancel()


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
