"""``config.pbtxt`` of a bundle, written with the real ModelConfig protobuf."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from serving.bundle import flush
from serving.columns import Schema
from serving.model_config import BACKEND, FILE, declare
from serving.tasks import Task


def text(name: str, task: Task, max_batch_size: int, version: int) -> str:
    """The configuration of a model: rows in and out, dynamic batching, the latest version served.

    Class names are those of ``version``, the latest.
    """
    config = pb.ModelConfig(name=name, backend=BACKEND, max_batch_size=max_batch_size)
    declare(config, Schema.of(task, name, max_batch_size))
    for output, field in zip(config.output, task.outputs, strict=True):
        if field.shape and field.shape[-1] in task.axes:
            output.label_filename = f"{version}/{names_file(str(field.shape[-1]))}"
    config.dynamic_batching.SetInParent()
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=1)
    config.version_policy.latest.num_versions = 1
    return str(text_format.MessageToString(config))


def names_file(axis: str) -> str:
    """Where the names along an axis stand, within a version directory."""
    return f"{axis}.txt"


def write_names(folder: Path, task: Task) -> None:
    """Write what Triton's classification extension calls classes, a name a line: it cannot read the task's assets."""
    for axis, names in task.axes.items():
        (folder / names_file(axis)).write_text("".join(" ".join(name.split()) + "\n" for name in names), "utf-8")


def write(folder: Path, content: str) -> None:
    """Replace ``config.pbtxt`` of a model directory in one step."""
    sibling = folder / f".{FILE}.writing"
    sibling.write_text(content, "utf-8")
    flush(folder)
    sibling.replace(folder / "config.pbtxt")
