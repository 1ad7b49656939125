"""The repository that every server of the conformance suite serves, as ``downstream export`` would have written it."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export import triton_config
from serving.bundle import open_bundle
from serving.codec import Tensor
from serving.columns import Schema
from serving.model_config import FILE
from serving.tensors import Row
from tests.serving.bundles import GRAPH_FILES, answered, reseal, write_bundle

BACKEND = "onnxruntime"
TOPICS = ("arts", "money", "sports", "travel")


def write_repository(folder: Path, *, single: bool = True) -> Path:
    """Models ``intent``, ``topic`` in two versions, ``spare`` to load and unload, ``single`` without a batch axis."""
    write_model(folder, "intent")
    write_model(folder, "topic", 1, labels=TOPICS[:3])
    write_model(folder, "topic", 3, labels=TOPICS[:3], all_versions=True)
    write_model(folder, "spare")
    if single:
        write_model(folder, "single", max_batch_size=0)
    return folder


def write_model(folder: Path, name: str, version: int = 1, *, all_versions: bool = False, **options: object) -> Path:
    """Write one version of a model with the exporter's own ``config.pbtxt``; the version directory."""
    path = write_bundle(folder, name, version, backend=BACKEND, **options)  # type: ignore[arg-type]
    bundle = open_bundle(path)
    task, batch = bundle.open_task(), bundle.manifest.max_batch_size
    triton_config.write_names(path, task)
    reseal(path)
    config = text_format.Parse(triton_config.text(name, task, batch, version), ModelConfig())
    if not batch:
        config.ClearField("dynamic_batching")
    if all_versions:
        config.version_policy.all.SetInParent()
    (path.parent / FILE).write_text(text_format.MessageToString(config), "utf-8")
    return path


def expected(folder: Path, model: str, row: Row, version: int = 1) -> Row:
    """The answer of a row, by the graph alone: without engine, scheduler or wire."""
    path = folder / model / str(version)
    return answered(open_bundle(path).open_task(), BACKEND, path / GRAPH_FILES[BACKEND], row)


def encoded(folder: Path, text: str, model: str = "intent") -> dict[str, Tensor]:
    """The arrays of a text as a caller would send them: one row."""
    bundle = open_bundle(folder / model / "1")
    task = bundle.open_task()
    arrays = task.encode({"text": text})
    schema = Schema.of(task, model, bundle.manifest.max_batch_size)
    return {f.name: Tensor(f.name, f.dtype, arrays[f.name][None]) for f in schema.arrays}


def files_of(folder: Path, model: str) -> dict[str, bytes]:
    """The files of a model directory as a load request carries them, without ``config.pbtxt``."""
    root = folder / model
    return {
        f"file:{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != FILE
    }
