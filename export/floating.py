"""The checkpoint as a floating-point graph, and PyTorch's own answers that every graph is held against."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from export import operators, route_choice, routes, structure, sweep, torch_graph
from export.operators import Promised
from export.route_choice import BACKEND, Route
from export.structure import Structure
from export.sweep import Swept
from finetune.checkpoint import MODEL, Checkpoint
from finetune.prediction import predict
from serving.backends import open_backend
from serving.backends.onnxruntime import CUDA, available
from serving.settings import read_available_cores
from serving.tasks import Task
from serving.tensors import Row, Tensors, check

ONNX = "onnx"
SUFFIXES = {ONNX: ".onnx", torch_graph.TORCHSCRIPT: ".pt", torch_graph.PT2: ".pt2"}
TORCH_BACKEND = "torchscript"
# Small batches: the exporter takes memory at the same time, and on a CPU larger ones are no faster.
TOKENS_PER_BATCH = 1024


@dataclass(frozen=True)
class Floats:
    """The floating-point graph to serve and the one to quantize, which may be another; ``promised`` is of the latter.

    ``routes`` are the ways to an ONNX graph that were tried, ``swept`` what was found over shapes never traced.
    """

    to_serve: Path
    to_quantize: Path | None
    backend: str
    swept: Sequence[Swept]
    structure: Structure
    promised: Promised
    routes: Sequence[Route] = ()


def device() -> str:
    """What will run graphs here: ``cuda`` where ONNX Runtime was built with it, or ``cpu``."""
    return "cuda" if CUDA in available() else "cpu"


def make_floats(
    checkpoint: Checkpoint, task: Task, encoded: Sequence[Tensors], folder: Path, to: str
) -> tuple[list[Row], Floats]:
    """PyTorch's answers to the rows, and the graph in a format. Raises ExportError where it is not PyTorch's."""
    ((name, graph),) = task.graphs.items()
    weights, example = checkpoint.folder / MODEL, task.encode(check(task.example, task.inputs))
    print(f"exporting to {to} (20 to 30 s), while PyTorch answers the validation split")
    target = folder / f"fp32{SUFFIXES[to]}"
    if to == ONNX:
        process = routes.start(weights, task.auto_class, graph, example, folder, routes.ROUTES[device()], device())
    else:
        process = torch_graph.start(to, weights, task.auto_class, graph, example, target)
    with _killed(process), _half_of_the_cores():
        model = getattr(transformers, task.auto_class).from_pretrained(weights).eval()
        with tqdm(total=len(encoded), desc="PyTorch", unit="row") as bar:
            reference = predict(model, task, encoded, bar.update, TOKENS_PER_BATCH)
        shapes = sweep.answers(model, graph, model.config.vocab_size, min(task.max_sizes.values()))
        if to == ONNX:
            made = routes.finish(process, folder, routes.ROUTES[device()])
            floats = _onnx(model, route_choice.choose(made, shapes, encoded, name, graph), shapes, name)
        else:
            torch_graph.finish(process, target)
            swept = sweep.compare(shapes, open_backend(TORCH_BACKEND, {name: target}), name)
            floats = Floats(target, None, TORCH_BACKEND, swept, Structure(), Promised())
    print(f"shapes: {len(floats.swept)} swept, batch 1 to 5; largest relative difference "
          f"{max(found.difference for found in floats.swept):.2g}")  # fmt: skip
    return reference, floats


@contextmanager
def _killed(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _half_of_the_cores() -> Iterator[None]:
    """The exporter has the other core: threads that wait for one another would make both many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, read_available_cores() // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _onnx(model: Any, choice: route_choice.Choice, shapes: Sequence[sweep.Answered], name: str) -> Floats:
    print(choice)
    batch = shapes[-1].batch
    promised = operators.promised(model, batch)
    served = choice.to_serve
    attention = int(model.config.num_hidden_layers) if served.name in routes.FUSING[device()] else 0
    counted = served.operators or operators.count(served.path)
    return Floats(
        to_serve=served.path,
        to_quantize=choice.to_quantize.path if choice.to_quantize else None,
        backend=BACKEND,
        swept=sweep.compare(shapes, open_backend(BACKEND, {name: served.path}), name),
        structure=structure.of_operators(counted, replace(promised, attention=attention)),
        promised=replace(promised, integer=1),
        routes=choice.routes,
    )
