"""Whether a row's answer depends on the rows it runs with: measured, in padded batches against each row alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.model import Model
from serving.settings import read_available_cores
from serving.tensors import Row, Tensors

ROWS, BATCH, ARRANGEMENTS = 32, 8, 20
# Float kernels may round otherwise in other shapes, by far less than this; dynamic INT8 moved an SST-2 row by 37 %.
BOUND = 0.01


@dataclass(frozen=True)
class Invariance:
    """What it changed to run the same rows in other batches, of unlike lengths and drawn at random, ``batches`` times.

    ``flips`` counts the answers with another label among ``rows * batches``. ``difference`` is the largest of any
    output, as a share of that output's spread (its standard deviation over the rows).
    """

    rows: int
    batches: int
    flips: int
    difference: float

    @property
    def held(self) -> bool:
        """Whether the graph may be served in batches. One row alone proves nothing."""
        return self.rows > 1 and not self.flips and self.difference < BOUND

    @property
    def flip_rate(self) -> float:
        """Share of the answers that got another label."""
        return self.flips / max(1, self.rows * self.batches)

    def summary(self) -> dict[str, Any]:
        """The figures, for manifests and reports."""
        return {**self.__dict__, "difference": float(f"{self.difference:.3g}")}

    def __str__(self) -> str:
        return (
            f"{self.rows} rows, each in {self.batches} random batches of up to {BATCH}: {100 * self.flip_rate:.2g} % "
            f"of the labels flip, largest difference {100 * self.difference:.2g} % of the spread "
            f"(below {100 * BOUND:g} % allowed)"
        )


def measure_invariance(
    model: Model, encoded: Sequence[Tensors], alone: Sequence[Row], outputs: Sequence[str]
) -> Invariance:
    """Run up to 32 of the rows in 20 arrangements of random batches; ``alone`` are their answers without batch mates.

    ``outputs`` are the fields of an answer that are compared as numbers.
    """
    generator = random.Random(0)
    chosen = generator.sample(range(len(encoded)), min(ROWS, len(encoded)))
    orders = [generator.sample(chosen, len(chosen)) for _ in range(ARRANGEMENTS)]
    batches = [order[start : start + BATCH] for order in orders for start in range(0, len(order), BATCH)]
    with ThreadPoolExecutor(read_available_cores()) as pool:
        runs = pool.map(lambda batch: model.run([encoded[index] for index in batch])[0], batches)
        pairs = [
            (answer, alone[index])
            for batch, answers in zip(batches, runs, strict=True)
            for index, answer in zip(batch, answers, strict=True)
        ]
    targets = [field.name for field in model.task.targets]
    flips = sum(any(found[name] != wanted[name] for name in targets) for found, wanted in pairs)
    return Invariance(len(chosen), ARRANGEMENTS, flips, max(_difference(name, pairs) for name in outputs))


def _difference(name: str, pairs: Sequence[tuple[Row, Row]]) -> float:
    found, wanted = (np.concatenate([np.ravel(pair[side][name]) for pair in pairs]) for side in (0, 1))
    return float(np.max(np.abs(found - wanted), initial=0.0) / max(1e-6, float(np.std(wanted))))
