"""What the OpenAPI document says beyond what FastAPI sees: the hot routes, errors, and bodies that are read by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serving.manifest import MODEL_DIGEST

_ERRORS = {
    400: "The request is wrong; the text names the field, the value and the remedy",
    404: "No such model, version or region",
    405: "The route takes another method",
    413: "The body is over the limit",
    501: "A feature of the protocol that this server does not offer",
    503: "Not ready, or overloaded (see Retry-After)",
    504: "The deadline passed before the row was run",
}


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside success, as FastAPI takes it."""
    body = _content(_object(error={"type": "string"}))
    return {status: {"description": _ERRORS[status], "content": body} for status in statuses}


def json_body(example: dict[str, Any]) -> dict[str, Any]:
    """An optional JSON object as the body of a route, with an example."""
    return {"requestBody": {"required": False, "content": _content({"type": "object"}, example)}}


def _content(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **({"example": example} if example is not None else {})}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _responses(success: dict[str, Any]) -> dict[str, Any]:
    failed = {str(status): answer for status, answer in failures(400, 404, 413, 501, 503, 504).items()}
    return {"200": success, **failed}


def _post(summary: str, body: dict[str, Any], success: dict[str, Any], parameters: list[Any]) -> dict[str, Any]:
    return {
        "post": {
            "summary": summary,
            "tags": ["inference"],
            "parameters": parameters,
            "requestBody": {"required": True, "content": body},
            "responses": _responses(success),
        }
    }


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


_TIMEOUT = {
    "name": "X-Request-Timeout-Ms",
    "in": "header",
    "schema": {"type": "integer", "minimum": 1},
    "description": "Deadline in milliseconds; rows that cannot make it are refused at once",
}
_TENSOR = _object(
    name={"type": "string"},
    datatype={"type": "string"},
    shape={"type": "array", "items": {"type": "integer"}},
    data={"type": "array", "items": {}},
)
_TELL = {"type": "boolean", "description": "Have the answer tell the digest of the version that gave it"}
_TOLD = {"type": "string", "description": "Digest of the version that answered, if the request asks for it"}
_INFER = _content(
    _object(
        id={"type": "string"}, inputs={"type": "array", "items": _TENSOR}, parameters=_object(**{MODEL_DIGEST: _TELL})
    ),
    {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["I want my money back"]}]},
)
_INFERRED = {
    "description": "One tensor per output",
    "content": _content(
        _object(model_name={"type": "string"}, model_version={"type": "string"},
                parameters=_object(**{MODEL_DIGEST: _TOLD}), outputs={"type": "array", "items": _TENSOR})
    ),
}  # fmt: skip
_PREDICT = _content(
    _object(instances={"type": "array", "items": {"type": "object"}, "minItems": 1}, **{MODEL_DIGEST: _TELL}),
    {"instances": [{"text": "I want my money back"}, {"text": "The app crashes on start"}]},
)
_PREDICTED = {
    "description": "One prediction per row, in order; a row that failed has `error` instead",
    "content": _content(_object(predictions={"type": "array", "items": {"type": "object"}}, **{MODEL_DIGEST: _TOLD})),
}

_GENERATE = _content({"type": "object"}, {"text": "I want my money back"})
_GENERATED = {"description": "Every output by its name", "content": _content({"type": "object"})}
_EVENTS = {
    "description": "Server-sent events, each `data: ` and a JSON object",
    "content": {"text/event-stream": {"schema": {}}},
}
_MODEL, _VERSION = [_path("model"), _TIMEOUT], [_path("model"), _path("version"), _TIMEOUT]


def _hot() -> Iterator[tuple[str, dict[str, Any]]]:
    for model, parameters in (("{model}", _MODEL), ("{model}/versions/{version}", _VERSION)):
        yield f"/v1/models/{model}:predict", _post("Rows to predictions", _PREDICT, _PREDICTED, parameters)
        yield f"/v2/models/{model}/infer", _post("KServe v2 inference, JSON or binary", _INFER, _INFERRED, parameters)
        yield f"/v2/models/{model}/generate", _post("Inputs as plain fields", _GENERATE, _GENERATED, parameters)
        yield f"/v2/models/{model}/generate_stream", _post("The same, as events", _GENERATE, _EVENTS, parameters)


HOT_PATHS: dict[str, Any] = dict(_hot())
