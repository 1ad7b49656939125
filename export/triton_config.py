"""``config.pbtxt`` of a bundle, written with the real ModelConfig protobuf."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from serving.bundle import flush
from serving.model_config import BACKEND, FILE
from serving.tasks import Task
from serving.tensors import Field


def text(name: str, task: Task, max_batch_size: int) -> str:
    """The configuration of a model: rows in and out, dynamic batching, the latest version served."""
    config = pb.ModelConfig(name=name, backend=BACKEND, max_batch_size=max_batch_size)
    for field in task.inputs:
        config.input.add(
            name=field.name, data_type=data_type(field), dims=field.dims(task.axes), optional=field.optional
        )
    for field in task.outputs:
        config.output.add(name=field.name, data_type=data_type(field), dims=field.dims(task.axes))
    config.dynamic_batching.SetInParent()
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    config.version_policy.latest.num_versions = 1
    return str(text_format.MessageToString(config))


def write(folder: Path, content: str) -> None:
    """Replace ``config.pbtxt`` of a model directory in one step."""
    sibling = folder / f".{FILE}.writing"
    sibling.write_text(content, "utf-8")
    flush(folder)
    sibling.replace(folder / FILE)


def data_type(field: Field) -> int:
    """The number of a field's datatype in ModelConfig."""
    return int(pb.DataType.Value("TYPE_STRING" if field.dtype == "BYTES" else f"TYPE_{field.dtype}"))
