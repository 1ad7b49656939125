"""What the OpenAPI document says of the hot routes, which are plain ASGI and so not seen by FastAPI."""

from __future__ import annotations

from typing import Any

_ERRORS = {
    "400": "The request is wrong; the text names the field, the value and the remedy",
    "404": "No such model or version",
    "413": "The body is over the limit",
    "501": "A feature of the protocol that this server does not offer",
    "503": "Not ready, or overloaded (see Retry-After)",
    "504": "The deadline passed before the row was run",
}


def _content(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **({"example": example} if example is not None else {})}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _responses(success: dict[str, Any]) -> dict[str, Any]:
    failed = _content(_object(error={"type": "string"}))
    return {"200": success} | {status: {"description": text, "content": failed} for status, text in _ERRORS.items()}


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
_INFER = _content(
    _object(id={"type": "string"}, inputs={"type": "array", "items": _TENSOR}, parameters={"type": "object"}),
    {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["I want my money back"]}]},
)
_INFERRED = {
    "description": "One tensor per output",
    "content": _content(
        _object(model_name={"type": "string"}, model_version={"type": "string"},
                outputs={"type": "array", "items": _TENSOR})
    ),
}  # fmt: skip
_PREDICT = _content(
    _object(instances={"type": "array", "items": {"type": "object"}, "minItems": 1}),
    {"instances": [{"text": "I want my money back"}, {"text": "The app crashes on start"}]},
)
_PREDICTED = {
    "description": "One prediction per row, in order; a row that failed has `error` instead",
    "content": _content(_object(predictions={"type": "array", "items": {"type": "object"}})),
}

HOT_PATHS: dict[str, Any] = {
    "/v1/models/{model}:predict": _post(
        "Rows as JSON to predictions as JSON", _PREDICT, _PREDICTED, [_path("model"), _TIMEOUT]
    ),
    "/v2/models/{model}/infer": _post(
        "KServe v2 inference; JSON, or the binary tensor extension", _INFER, _INFERRED, [_path("model"), _TIMEOUT]
    ),
    "/v2/models/{model}/versions/{version}/infer": _post(
        "KServe v2 inference of one version", _INFER, _INFERRED, [_path("model"), _path("version"), _TIMEOUT]
    ),
}
