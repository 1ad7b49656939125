"""What a run costs: seconds as a function of rows and length, fitted to a few measured runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CostModel:
    """t(rows, length) = base + token * rows * length + square * rows * length^2, in seconds.

    The three terms are what a Transformer encoder does: per run, per token, and per pair of tokens (attention).
    """

    base: float
    token: float
    square: float

    def __call__(self, rows: int, length: int) -> float:
        return self.base + rows * length * (self.token + self.square * length)


# Used until something was measured: all that matters is that longer costs more.
UNMEASURED = CostModel(base=1e-4, token=1e-4, square=0.0)


def fit(runs: Sequence[tuple[int, int, float]]) -> CostModel:
    """The non-negative least-squares fit to (rows, length, seconds), in relative error.

    Relative, so that short runs, which are most of the traffic, count as much as long ones.
    """
    rows, length, seconds = np.array(runs, np.float64).T
    terms = np.stack([np.ones_like(rows), rows * length, rows * length**2], axis=1) / seconds[:, None]
    active = [0, 1, 2]
    # Lawson and Hanson in small: drop the most negative term until none is.
    while True:
        solution = np.linalg.lstsq(terms[:, active], np.ones_like(seconds), rcond=None)[0]
        worst = int(np.argmin(solution))
        if solution[worst] >= 0:
            break
        del active[worst]
    values = np.zeros(3)
    values[active] = solution
    return CostModel(*map(float, values))
