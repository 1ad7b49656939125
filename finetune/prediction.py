"""PyTorch's answers over many rows, through the task's own encode and decode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from serving.tasks import Task
from serving.tensors import Row, Tensors, sizes, stack, unstack

TOKENS_PER_BATCH = 4096


def predict(
    model: PreTrainedModel,
    task: Task,
    encoded: Sequence[Tensors],
    progress: Callable[[int], Any] = lambda rows: None,
    most_tokens: int = TOKENS_PER_BATCH,
) -> list[Row]:
    """The decoded answers of a one-graph model, in the order of the rows, batched by like length.

    ``encoded`` are rows as ``task.encode`` gives them. ``progress`` is told the number of rows of each batch, which has
    ``most_tokens`` at most.
    """
    (graph,) = task.graphs.values()
    axes = [sizes(row, graph.inputs) for row in encoded]
    order = sorted(range(len(encoded)), key=lambda index: sum(axes[index].values()))
    answers: list[Row] = [{}] * len(encoded)
    was_training = model.training
    model.train(False)
    with torch.inference_mode():
        for indices in _batches(order, [sum(own.values()) for own in axes], most_tokens):
            batch = stack([encoded[index] for index in indices], graph.inputs)
            result = model(**{name: torch.from_numpy(array).to(model.device) for name, array in batch.items()})
            outputs = {field.name: result[field.name].float().cpu().numpy() for field in graph.outputs}
            rows = unstack(outputs, graph.outputs, [axes[index] for index in indices])
            for index, row in zip(indices, rows, strict=True):
                answers[index] = task.decode(encoded[index], row)
            progress(len(indices))
    model.train(was_training)
    return answers


def _batches(order: Sequence[int], lengths: Sequence[int], most_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    for index in order:
        if not batches or (len(batches[-1]) + 1) * lengths[index] > most_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches
