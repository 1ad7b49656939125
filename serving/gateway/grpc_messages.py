"""ModelInferRequest and ModelInferResponse to what both wires understand, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tritonclient.grpc import service_pb2 as pb

from serving import codec
from serving.errors import InvalidInput
from serving.gateway.messages import (
    InferRequest,
    InferResponse,
    check_reserved,
    check_values,
    digest_of,
    output_of,
    placement_of,
    priority_of,
    timeout_of,
)
from serving.gateway.shared_memory import Regions

# Which field of InferTensorContents holds the data of a datatype.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
# The one parameter with the reserved prefix that a request may have: it is about the stream, not the model.
EMPTY_FINAL = "triton_enable_empty_final_response"


def parse_infer(request: Any, remaining: float | None, regions: Regions) -> InferRequest:
    """The request of a ModelInferRequest; ``remaining`` is in seconds until the call's deadline.

    Raises InvalidInput, also when raw and typed contents are mixed, and NotFound for an unknown region.
    """
    parameters = plain_parameters(request.parameters)
    parameters.pop(EMPTY_FINAL, None)
    check_reserved(parameters)
    check_values(parameters)
    return InferRequest(
        request.model_name,
        request.model_version,
        _inputs(request, regions),
        [output_of(item.name, plain_parameters(item.parameters)) for item in request.outputs],
        id=request.id,
        timeout=remaining,
        wait=timeout_of(parameters),
        priority=priority_of(parameters),
        digest=digest_of(parameters),
    )


def plain_parameters(parameters: Any) -> dict[str, Any]:
    """InferParameter or ModelRepositoryParameter values by name."""
    if not parameters:
        return {}
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None) for name, value in parameters.items()
    }


def _inputs(request: Any, regions: Regions) -> list[codec.Tensor]:
    raw: Sequence[bytes] = request.raw_input_contents
    if raw and any(item.HasField("contents") for item in request.inputs):
        raise InvalidInput("raw_input_contents and typed contents cannot be mixed; use one for all inputs")
    placements = [placement_of(item.name, plain_parameters(item.parameters)) for item in request.inputs]
    wanted = placements.count(None)
    if raw and len(raw) != wanted:
        raise InvalidInput(f"raw_input_contents has {len(raw)} elements for {wanted} inputs")
    data = iter(raw)
    inputs = []
    for item, placement in zip(request.inputs, placements, strict=True):
        if placement is None and not raw:
            inputs.append(_typed(item))
        else:
            content = next(data) if placement is None else regions.read(placement)
            inputs.append(codec.from_raw(item.name, item.datatype, item.shape, content))
    return inputs


def _typed(item: Any) -> codec.Tensor:
    field = CONTENTS.get(item.datatype)
    if field is None:
        raise InvalidInput(f"input '{item.name}': {item.datatype} has no typed contents; send raw_input_contents")
    values = list(getattr(item.contents, field))
    if item.datatype == "BYTES":
        raw = b"".join(len(value).to_bytes(4, "little") + value for value in values)
        return codec.from_raw(item.name, item.datatype, item.shape, raw)
    return codec.from_json(item.name, item.datatype, list(item.shape), values)


def render_infer(response: InferResponse, regions: Regions) -> Any:
    """The ModelInferResponse; every output is raw, and empty where its bytes are left in shared memory."""
    message = pb.ModelInferResponse(model_name=response.model, model_version=response.version, id=response.id)
    for name, value in response.parameters.items():
        message.parameters[name].string_param = value
    for answered in response.outputs:
        tensor, placement = answered.tensor, answered.asked.placement
        message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        content = codec.to_raw(tensor)
        if placement:
            regions.write(placement, content)
            content = b""
        message.raw_output_contents.append(content)
    return message
