"""The generate extension of KServe v2: plain JSON fields in, plain JSON fields out.

Source: Triton's docs/protocol/extension_generate.md; what it leaves open is as a real server does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from serving import codec
from serving.codec import Tensor
from serving.columns import Schema
from serving.gateway.http_messages import identifier, mapping
from serving.gateway.messages import InferRequest, InferResponse, check_values, digest_of, priority_of, timeout_of
from serving.tensors import Field


def request_of(message: Mapping[str, Any], schema: Schema, version: str, timeout: float | None) -> InferRequest:
    """The request of a generate body: fields that name an input are that, others are parameters.

    Raises InvalidInput.
    """
    fields = {field.name: field for field in schema.fields}
    parameters = dict(mapping(message, "parameters"))
    inputs = []
    for name, value in message.items():
        if name in fields:
            inputs.append(_tensor(fields[name], value, schema))
        elif name not in ("id", "parameters"):
            parameters[name] = value
    check_values(parameters, f"; the inputs are {', '.join(fields)}")
    return InferRequest(
        schema.model,
        version,
        inputs,
        id=identifier(message),
        timeout=timeout,
        wait=timeout_of(parameters),
        priority=priority_of(parameters),
        digest=digest_of(parameters),
    )


def _tensor(field: Field, value: Any, schema: Schema) -> Tensor:
    """One field as a tensor: a column of scalars is as many rows, anything else is one row."""
    data = value if isinstance(value, list) else [value]
    count = sum(1 for _ in codec.flattened(data))
    dims = schema.shape(field)
    if schema.max_batch_size:
        dims[0] = count if not field.shape else 1
    known = prod(size for size in dims if size >= 0) or 1
    return codec.from_json(field.name, field.dtype, [count // known if size < 0 else size for size in dims], data)


def rendered(response: InferResponse) -> dict[str, Any]:
    """The body of a generate answer: every output by its name, one element without its list."""
    answer: dict[str, Any] = {"id": response.id} if response.id else {}
    answer |= {"model_name": response.model, "model_version": response.version, **response.parameters}
    for answered in response.outputs:
        values = codec.to_json(answered.tensor)
        answer[answered.tensor.name] = values[0] if len(values) == 1 else values
    return answer
