"""Whether a row's answer depends on the rows it runs with: measured, in padded batches against each row alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.backends import Backend
from serving.tasks import Task
from serving.tensors import Row, Tensors, sizes, stack, unstack

ROWS, BATCH = 256, 8
# Float kernels may round otherwise in other shapes, by far less than this; dynamic INT8 moved an SST-2 row by 37 %.
BOUND = 0.01


@dataclass(frozen=True)
class Invariance:
    """What random batches of unlike lengths changed.

    ``flips`` counts the rows with another label. ``difference`` is the largest of any output, as a share of that
    output's spread (its standard deviation over the rows).
    """

    rows: int
    flips: int
    difference: float

    @property
    def held(self) -> bool:
        """Whether the graph may be served in batches. One row alone proves nothing."""
        return self.rows > 1 and not self.flips and self.difference < BOUND

    def summary(self) -> dict[str, Any]:
        """The figures, for manifests and reports."""
        return {"rows": self.rows, "flips": self.flips, "difference": float(f"{self.difference:.3g}")}

    def __str__(self) -> str:
        return (
            f"in random batches of {BATCH}, {self.flips} of {self.rows} labels flip, largest difference "
            f"{100 * self.difference:.2g} % of the spread (below {100 * BOUND:g} % allowed): "
            + ("batch-invariant" if self.held else "each row is served alone")
        )


def measure_invariance(
    backend: Backend, task: Task, encoded: Sequence[Tensors], alone: Sequence[Row], outputs: Sequence[str]
) -> Invariance:
    """Run up to 256 of the rows in random batches; ``alone`` are their answers without batch mates.

    ``outputs`` are the fields of an answer that are compared as numbers.
    """
    chosen = random.Random(0).sample(range(len(encoded)), min(ROWS, len(encoded)))
    together = [
        answer
        for start in range(0, len(chosen), BATCH)
        for answer in _run(backend, task, [encoded[index] for index in chosen[start : start + BATCH]])
    ]
    pairs = [(answer, alone[index]) for answer, index in zip(together, chosen, strict=True)]
    targets = [field.name for field in task.targets]
    flips = sum(any(found[name] != wanted[name] for name in targets) for found, wanted in pairs)
    return Invariance(len(chosen), flips, max(_difference(name, pairs) for name in outputs))


def _run(backend: Backend, task: Task, rows: Sequence[Tensors]) -> list[Row]:
    ((name, graph),) = task.graphs.items()
    results = unstack(
        backend.run(name, stack(rows, graph.inputs)), graph.outputs, [sizes(row, graph.inputs) for row in rows]
    )
    return [task.decode(row, own) for row, own in zip(rows, results, strict=True)]


def _difference(name: str, pairs: Sequence[tuple[Row, Row]]) -> float:
    found, wanted = (np.concatenate([np.ravel(pair[side][name]) for pair in pairs]) for side in (0, 1))
    return float(np.max(np.abs(found - wanted), initial=0.0) / max(1e-6, float(np.std(wanted))))
