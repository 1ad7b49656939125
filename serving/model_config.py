"""``config.pbtxt`` as Triton reads it: the real ModelConfig protobuf, its JSON form, and the schema it declares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from serving.columns import Schema
from serving.errors import BundleError, InvalidInput, fault, listed
from serving.manifest import MODEL_DIGEST
from serving.tensors import Field

FILE = "config.pbtxt"
# Of a bundle; a repository may hold models of Triton's other backends beside them.
BACKEND = "downstream"
# What a model may be called: a plain directory name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def parse(folder: Path) -> ModelConfig:
    """The configuration of a model directory as it is. Raises BundleError that names the line when it is not valid."""
    path = folder / FILE
    config = ModelConfig()
    try:
        text_format.Parse(path.read_text("utf-8"), config)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); export the model again") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a Triton model configuration: {error}") from error
    return config


def read(folder: Path) -> ModelConfig:
    """The configuration of a model to serve. Raises BundleError when it is not valid or names another model."""
    config = parse(folder)
    if config.name and config.name != folder.name:
        raise BundleError(f"{folder / FILE}: name is {config.name!r}, the directory {folder.name!r}; make them equal")
    return config


def from_json(name: str, text: str) -> ModelConfig:
    """The configuration of a model from its JSON form. Raises InvalidInput."""
    try:
        config = json_format.Parse(text, ModelConfig())
    except json_format.ParseError as error:
        raise InvalidInput(
            f"config: not the JSON of a Triton model configuration: {error}; GET /v2/models/{name}/config shows one"
        ) from None
    if config.name and config.name != name:
        raise InvalidInput(fault("config: name", "is another model's", config.name, f"give {name!r} or leave it out"))
    return config


def is_ours(config: ModelConfig) -> bool:
    """Whether this project's backend runs the model; others in a repository are Triton's alone."""
    return config.backend in ("", BACKEND) and not config.platform


def candidates(config: ModelConfig, available: list[int]) -> tuple[list[int], int]:
    """The versions that ``version_policy`` allows, newest first, and how many of them it wants served."""
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    allowed = set(available) & set(policy.specific.versions) if choice == "specific" else set(available)
    count = len(allowed) if choice in ("all", "specific") else max(1, policy.latest.num_versions)
    return sorted(allowed, reverse=True), count


def chosen_versions(config: ModelConfig, available: list[int]) -> list[int]:
    """The versions that ``version_policy`` wants served, of those there are; without one, the latest."""
    allowed, count = candidates(config, available)
    return sorted(allowed[:count])


def declare(config: ModelConfig, schema: Schema) -> None:
    """Write the inputs and outputs of a model into its configuration.

    Every input is optional, since a row comes either as the task's columns or as the graph's arrays. Arrays may be
    ragged: rows of unlike length are batched behind the server's own batcher.
    """
    for field in schema.fields:
        config.input.add(
            name=field.name,
            data_type=data_type(field),
            dims=field.dims(schema.axes),
            optional=True,
            allow_ragged_batch=-1 in field.dims(schema.axes),
        )
    for field in schema.outputs:
        config.output.add(name=field.name, data_type=data_type(field), dims=field.dims(schema.axes))


def check(config: ModelConfig, schema: Schema) -> None:
    """Raise BundleError where the configuration declares other inputs or outputs than the model has."""
    faults = []
    for kind, declared, fields in (("input", config.input, schema.fields), ("output", config.output, schema.outputs)):
        known = {field.name: field for field in fields}
        for item in declared:
            field = known.get(item.name)
            if field is None:
                faults.append(fault(kind, "the model has none of this name", item.name, f"it has {', '.join(known)}"))
                continue
            found = (DataType.Name(item.data_type), list(item.dims))
            wanted = (DataType.Name(data_type(field)), field.dims(schema.axes))
            if found != wanted:
                faults.append(fault(f"{kind} {item.name}", "is declared otherwise", found, f"the model has {wanted}"))
    if faults:
        raise BundleError(f"{FILE}: {listed(faults)}")


def completed(config: ModelConfig, schema: Schema, digest: str) -> ModelConfig:
    """The configuration with what it leaves out filled in, as Triton shows it, and the digest of the version.

    That is among the parameters, since the metadata of a model has no place for it over gRPC.
    """
    full = ModelConfig()
    full.CopyFrom(config)
    full.name, full.backend = schema.model, BACKEND
    full.parameters[MODEL_DIGEST].string_value = digest
    if not full.input and not full.output:
        declare(full, schema)
    if not full.HasField("version_policy"):
        full.version_policy.latest.num_versions = 1
    if not full.instance_group:
        full.instance_group.add(name=schema.model, kind="KIND_CPU", count=1)
    for group in full.instance_group:
        group.name, group.count = group.name or schema.model, max(1, group.count)
    return full


def to_json(message: Any) -> dict[str, Any]:
    """A protobuf message as Triton writes it in JSON: every plain field is there, and 64-bit integers are numbers."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            found[field.name] = {str(key): _plain(field.message_type.fields[1], value[key]) for key in value}
        elif field.is_repeated:
            found[field.name] = [_plain(field, item) for item in value]
        else:
            found[field.name] = _plain(field, value)
    return found


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type:
        return to_json(value)
    return field.enum_type.values_by_number[value].name if field.enum_type else value


def data_type(field: Field) -> int:
    """The TYPE_... of a field."""
    return int(DataType.Value("TYPE_STRING" if field.dtype == "BYTES" else f"TYPE_{field.dtype}"))
