"""Training rows that stand for all of them: export learns the ranges of a static INT8 graph from these."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from serving.tasks import Task
from serving.tensors import Row, Tensors, sizes

COUNT = 128


def choose(task: Task, rows: Sequence[Row], encoded: Sequence[Tensors], seed: int) -> list[Row]:
    """Up to 128 of the rows, as spread over the labels and, within each, over the lengths as all of them are."""
    (graph,) = task.graphs.values()
    targets = [field.name for field in task.targets]
    order = list(range(len(rows)))
    # The sort is stable: which of the rows of one label and length come first is up to the seed.
    random.Random(seed).shuffle(order)
    order.sort(
        key=lambda i: (str([rows[i].get(name) for name in targets]), max(sizes(encoded[i], graph.inputs).values()))
    )
    picks = np.linspace(0, len(order) - 1, min(COUNT, len(order))).round().astype(int)
    return [rows[order[pick]] for pick in picks]
