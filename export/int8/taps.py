"""What flows through a graph: chosen tensors as extra outputs, one row at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import onnx

from serving.backends import open_backend
from serving.tensors import Array, Graph, Tensors, stack

BACKEND = "onnxruntime"
Tap = Callable[[Tensors], dict[str, Array]]
T = TypeVar("T")


@contextmanager
def tapped(model: onnx.ModelProto, graph: Graph, names: Collection[str]) -> Iterator[Tap]:
    """A function from one encoded row to the named tensors of the graph, each with a batch axis of 1.

    It runs on the backend that serves, with the extra outputs as the only difference: an operator is not fused with
    the next one where its output is asked for. The model gets the outputs too.
    """
    known = {output.name for output in model.graph.output}
    # The runtime knows their types and shapes.
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tapped.onnx"
        onnx.save(model, path)
        backend = open_backend(BACKEND, {"tapped": path})

        def run(row: Tensors) -> dict[str, Array]:
            found = backend.run("tapped", stack([row], graph.inputs))
            return {name: found[name] for name in names}

        try:
            yield run
        finally:
            backend.close()


def spread(items: Sequence[T], most: int) -> list[T]:
    """Up to that many of the items, evenly spaced."""
    step = max(1.0, len(items) / most)
    return [items[int(index * step)] for index in range(min(len(items), most))]
