"""Shapes that were never traced, against PyTorch: a graph that is right only where it was traced is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from export.child import TRACED_LENGTHS, ExportError
from serving.backends import Backend
from serving.tensors import Array, Graph, Tensors

BATCHES = (1, 2, 3, 4, 5)
LENGTHS = (3, 5, 16, 37, 64, 128)
# Of the largest absolute value of the output; FP32 kernels of both sides sum in different orders.
RELATIVE = 1e-3


@dataclass(frozen=True)
class Swept:
    """The largest relative difference at one shape."""

    rows: int
    length: int
    difference: float


@dataclass(frozen=True)
class Answered:
    """One batch of random ids, and the outputs PyTorch gives for it; arrays are [rows, ...]."""

    rows: int
    length: int
    batch: Tensors
    outputs: Tensors


def answers(model: Any, graph: Graph, vocabulary: int, longest: int) -> list[Answered]:
    """PyTorch's answers at batch 1 to 5 and several lengths, half of the rows padded, to compare graphs with."""
    kinds = getattr(model.config, "type_vocab_size", None) or 1
    answered = []
    for rows in BATCHES:
        for length in sorted({min(length, longest) for length in LENGTHS} - set(TRACED_LENGTHS)):
            batch = dict(_random_batch(graph, rows, length, vocabulary, min(2, kinds)))
            with torch.inference_mode():
                outputs = model(**{field: torch.from_numpy(array) for field, array in batch.items()})
            found = {field.name: outputs[field.name].float().numpy() for field in graph.outputs}
            answered.append(Answered(rows, length, batch, found))
    return answered


def compare(answered: Sequence[Answered], backend: Backend, name: str, tolerance: float = RELATIVE) -> list[Swept]:
    """Compare a graph with PyTorch's answers. Raises ExportError that names the shapes where they differ."""
    results = []
    for one in answered:
        found = backend.run(name, one.batch)
        difference = max(_relative(found[output], expected) for output, expected in one.outputs.items())
        results.append(Swept(one.rows, one.length, difference))
    wrong = [
        f"batch {s.rows} x length {s.length} ({s.difference:.3g})" for s in results if not s.difference < tolerance
    ]
    if wrong:
        raise ExportError(f"the graph differs from PyTorch by more than {tolerance:g} at: {', '.join(wrong)}")
    return results


def _random_batch(graph: Graph, rows: int, length: int, vocabulary: int, kinds: int) -> Iterator[tuple[str, Array]]:
    generator = np.random.default_rng(rows * 1000 + length)
    # Every second row is half padding; what stands under the mask must not matter.
    used = np.array([length if row % 2 == 0 else max(1, length // 2) for row in range(rows)])
    mask = (np.arange(length) < used[:, None]).astype(np.int64)
    for field in graph.inputs:
        if field.name == "attention_mask":
            yield field.name, mask
        elif field.name == "input_ids":
            ids = generator.integers(5, vocabulary, (rows, length))
            yield field.name, np.where(mask == 1, ids, int(field.pad))
        else:
            # Token types: a graph traced with the first kind only must answer the second as well.
            yield field.name, generator.integers(0, kinds, (rows, length)) * mask


def _relative(found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(found - expected)) / max(1e-6, np.max(np.abs(expected))))
