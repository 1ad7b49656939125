"""A graph as an older ONNX Runtime reads it: opset converted, IR version lowered, or what is too new for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from google.protobuf.message import Message
from onnx import TensorProto, version_converter

from export.child import ExportError
from export.triton_releases import Release

# onnx.proto, "enum Version": the IR version that brought a tensor type, and what else is not in older ones.
# onnx.checker lets all of it pass under any IR version.
FIRST_IR_OF_TYPES: Mapping[int, int] = {
    TensorProto.FLOAT8E4M3FN: 9,
    TensorProto.FLOAT8E4M3FNUZ: 9,
    TensorProto.FLOAT8E5M2: 9,
    TensorProto.FLOAT8E5M2FNUZ: 9,
    TensorProto.UINT4: 10,
    TensorProto.INT4: 10,
    TensorProto.FLOAT4E2M1: 11,
    TensorProto.FLOAT8E8M0: 12,
    TensorProto.UINT2: 13,
    TensorProto.INT2: 13,
}
# A type that is not in the table is either as old as all releases, or newer than this table.
NEWEST_KNOWN_TYPE = max(FIRST_IR_OF_TYPES)
FIRST_IR_OF_FIELDS = {"overload": 10, "device_configurations": 11, "configuration": 11}
REMARKS, FIRST_IR_OF_REMARKS = "metadata_props", 10


def opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set, ``ai.onnx``; 0 where a graph imports none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def fit(model: onnx.ModelProto, release: Release) -> tuple[onnx.ModelProto, list[str]]:
    """The graph as the release reads it, and what had to be changed for that, in words.

    Raises ExportError that says what of the graph is too new.
    """
    changes = []
    if opset(model) > release.opset:
        changes.append(f"opset {opset(model)} converted to {release.opset}")
        model = _convert(model, release)
    if model.ir_version > release.ir:
        changes.append(f"IR version {model.ir_version} lowered to {release.ir}")
        model = _lower(model, release)
    return model, changes


def _convert(model: onnx.ModelProto, release: Release) -> onnx.ModelProto:
    try:
        converted = version_converter.convert_version(model, release.opset)
        onnx.checker.check_model(converted)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise ExportError(
            f"the graph has opset {opset(model)} and cannot be converted to {release.opset}, the highest of {release}: "
            f"{str(error).strip().splitlines()[-1]}; give a newer --triton-release"
        ) from error
    return converted


def _lower(model: onnx.ModelProto, release: Release) -> onnx.ModelProto:
    newer = sorted(set(_newer(model, release.ir)))
    if newer:
        raise ExportError(
            f"the graph has IR version {model.ir_version} and {release} cannot read what it uses of it: "
            f"{', '.join(newer)}; give a newer --triton-release"
        )
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    if release.ir < FIRST_IR_OF_REMARKS:
        # Where nodes come from in the Python code; nothing runs by it.
        for message in messages(lowered):
            if REMARKS in message.DESCRIPTOR.fields_by_name:
                message.ClearField(REMARKS)
    lowered.ir_version = release.ir
    onnx.checker.check_model(lowered)
    return lowered


def _newer(model: onnx.ModelProto, ir: int) -> Iterator[str]:
    """What a graph uses that came with a later IR version: tensor types and fields."""
    for message in messages(model):
        names = message.DESCRIPTOR.fields_by_name
        for name in ("data_type", "elem_type"):
            if name in names and _first_ir(getattr(message, name)) > ir:
                yield f"tensors of type {TensorProto.DataType.Name(getattr(message, name))}"
        if isinstance(message, onnx.NodeProto) and message.op_type == "Cast":
            for attribute in message.attribute:
                if attribute.name == "to" and _first_ir(attribute.i) > ir:
                    yield f"tensors of type {TensorProto.DataType.Name(attribute.i)}"
        for name, first in FIRST_IR_OF_FIELDS.items():
            if name in names and getattr(message, name) and first > ir:
                yield f"{message.DESCRIPTOR.name}.{name}"


def _first_ir(data_type: int) -> int:
    if data_type > NEWEST_KNOWN_TYPE:
        return onnx.IR_VERSION
    return FIRST_IR_OF_TYPES.get(data_type, 0)


def messages(message: Message) -> Iterator[Message]:
    """A message and all that it holds, graphs inside nodes and functions included."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                yield from messages(inner)
