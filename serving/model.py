"""Task and graph of one bundle: rows to arrays to answers, without a queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from serving.backends import Backend
from serving.columns import Schema
from serving.tasks import Task
from serving.tensors import Row, Tensors, check, sizes, stack, unstack


@dataclass(frozen=True)
class Stages:
    """When a run passed each stage, in nanoseconds of the monotonic clock: see Timing."""

    begun: int
    stacked: int
    inferred: int
    decoded: int


class Model:
    """Encodes rows and answers batches of them; ``run`` is called from several threads at once."""

    def __init__(self, name: str, task: Task, backend: Backend, max_batch_size: int) -> None:
        ((self._graph_name, self.graph),) = task.graphs.items()
        self.task, self.backend = task, backend
        self._encoded = {field.name for field in self.graph.inputs}
        self.schema = Schema.of(task, name, max_batch_size)

    def check(self, row: Row) -> Row:
        """The row with every column in its type; a row may hold the graph's own arrays instead. Raises InvalidInput."""
        if row and row.keys() <= self._encoded:
            return check(row, self.graph.inputs, self.task.max_sizes)
        return check(row, self.task.inputs)

    def encode(self, checked: Row) -> Tensors:
        """The arrays of a checked row, which are its own where the caller encoded it. Raises InvalidInput."""
        return checked if checked.keys() <= self._encoded else self.task.encode(checked)

    def length(self, encoded: Tensors) -> int:
        """What an encoded row costs, in tokens."""
        return max(sizes(encoded, self.graph.inputs).values(), default=1)

    def run(self, rows: Sequence[Tensors], timeout: float | None = None) -> tuple[list[Row], Stages]:
        """The answers of encoded rows as one batch, in order; after ``timeout`` seconds nobody waits for them."""
        begun = time.monotonic_ns()
        batch = stack(rows, self.graph.inputs)
        stacked = time.monotonic_ns()
        outputs = self.backend.run(self._graph_name, batch, timeout)
        inferred = time.monotonic_ns()
        split = unstack(outputs, self.graph.outputs, [sizes(row, self.graph.inputs) for row in rows])
        answers = [self.task.decode(encoded, row) for encoded, row in zip(rows, split, strict=True)]
        return answers, Stages(begun, stacked, inferred, time.monotonic_ns())
