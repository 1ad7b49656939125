"""The checkpoint as a floating-point graph, and PyTorch's own answers that every graph is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import transformers
from tqdm import tqdm

from export import onnx_graph
from export.sweep import Swept, sweep
from finetune.checkpoint import MODEL, Checkpoint
from finetune.prediction import predict
from serving.backends import open_backend
from serving.tasks import Task
from serving.tensors import Row, Tensors, check

BACKEND = "onnxruntime"


@dataclass(frozen=True)
class Floats:
    """The floating-point graph: the file to serve, the file to quantize, and what the sweep over shapes found."""

    to_serve: Path
    to_quantize: Path
    backend: str
    sweep: Sequence[Swept]


def make_floats(
    checkpoint: Checkpoint, task: Task, encoded: Sequence[Tensors], folder: Path
) -> tuple[list[Row], Floats]:
    """PyTorch's answers to the rows, and the graph, swept against PyTorch. Raises ExportError."""
    ((name, graph),) = task.graphs.items()
    weights, path = checkpoint.folder / MODEL, folder / "fp32.onnx"
    print("exporting to ONNX (about 20 s), while PyTorch answers the validation split")
    example = task.encode(check(task.example, task.inputs))
    process = onnx_graph.start(weights, task.auto_class, graph, example, path)
    try:
        model = getattr(transformers, task.auto_class).from_pretrained(weights).eval()
        with tqdm(total=len(encoded), desc="PyTorch", unit="row") as bar:
            reference = predict(model, task, encoded, bar.update)
        onnx_graph.finish(process, graph, path)
    finally:
        process.kill()
    backend = open_backend(BACKEND, {name: path})
    swept = sweep(model, backend, name, graph, model.config.vocab_size, min(task.max_sizes.values()))
    print(f"shapes: {len(swept)} swept, batch 1 to 5; largest relative difference "
          f"{max(found.difference for found in swept):.2g}")  # fmt: skip
    return reference, Floats(path, path, BACKEND, swept)
