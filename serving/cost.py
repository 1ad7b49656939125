"""What a run costs: seconds as a function of rows and length, fitted to a few runs and corrected by every later one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
from numpy.typing import NDArray


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

    @property
    def is_sound(self) -> bool:
        """Whether every run is predicted to take a finite time above nothing."""
        terms = (self.base, self.token, self.square)
        return all(isfinite(term) and term >= 0 for term in terms) and sum(terms) > 0


# Used until something was measured: all that matters is that longer costs more.
UNMEASURED = CostModel(base=1e-4, token=1e-4, square=0.0)


def fit(runs: Sequence[tuple[int, int, float]]) -> CostModel:
    """The non-negative least-squares fit to (rows, length, seconds), in relative error.

    Relative, so that short runs, which are most of the traffic, count as much as long ones.
    """
    shapes = _terms(runs)
    terms = shapes / np.array([seconds for _, _, seconds in runs])[:, None]
    return _solved(terms.T @ terms, terms.sum(axis=0))


class Learner:
    """Corrects a cost model by the runs that are made, which ``learn`` is told of; ``model`` is the best known.

    Least squares in relative error with forgetting: after ``MEMORY`` runs one counts a third of what it did. Beside
    them count runs that are only imagined (``IMAGINED``, ``EACH`` many), as the model that it began with predicts them,
    times how much slower runs have been than that: what was not seen since, rows alone where all run in batches, keeps
    its proportion, and noise among batches of one size does not look like a cost of each run. One that was interrupted
    counts as one that took ``OUTLIER`` times what is predicted: one moves little, and many in a row, which are no
    accident, move the model step by step. While all runners are busy each is slower than alone, and that is what is
    learned: it is then that predictions matter.
    """

    MEMORY = 512
    EVERY = 32
    OUTLIER = 3.0
    IMAGINED = ((1, 8), (1, 32), (1, 128), (8, 8), (8, 32))
    EACH = 16

    def __init__(self, model: CostModel) -> None:
        self.model = model
        self._began = model
        self._lock = threading.Lock()
        self._runs: list[tuple[int, int, float]] = []
        shapes = _terms(self.IMAGINED)
        imagined = shapes / (shapes @ _values(model))[:, None]
        self._imagined = self.EACH * (imagined.T @ imagined), self.EACH * imagined.sum(axis=0)
        self._products, self._seen = np.zeros((3, 3)), np.zeros(3)
        self._weight = self._slowness = 0.0

    def learn(self, rows: int, length: int, seconds: float) -> bool:
        """Count one run; whether it corrected the model, as every ``EVERY`` do. From several threads at once."""
        # Written so that NaN is left out.
        if not 0 < seconds < inf:
            return False
        with self._lock:
            self._runs.append((rows, length, seconds))
            if len(self._runs) < self.EVERY:
                return False
            self._correct()
            self._runs.clear()
            return True

    def _correct(self) -> None:
        shapes = _terms(self._runs)
        predicted, began = shapes @ _values(self.model), shapes @ _values(self._began)
        seconds = np.array([seconds for _, _, seconds in self._runs])
        seen = np.clip(seconds, predicted / self.OUTLIER, predicted * self.OUTLIER) / began
        terms, kept = shapes / began[:, None], 1 - self.EVERY / self.MEMORY
        self._products = kept * self._products + terms.T @ terms
        self._seen = kept * self._seen + terms.T @ seen
        self._weight = kept * self._weight + len(seen)
        self._slowness = kept * self._slowness + float(seen.sum())
        products, imagined = self._imagined
        model = _solved(self._products + products, self._seen + imagined * self._slowness / self._weight)
        if model.is_sound:
            self.model = model


def _terms(runs: Sequence[tuple[int, int] | tuple[int, int, float]]) -> NDArray[np.float64]:
    """What the three terms of the model are multiplied by, a line for each run."""
    return np.array([(1, rows * length, rows * length**2) for rows, length, *_ in runs], np.float64)


def _values(model: CostModel) -> NDArray[np.float64]:
    return np.array([model.base, model.token, model.square])


def _solved(products: NDArray[np.float64], seen: NDArray[np.float64]) -> CostModel:
    """The non-negative solution of normal equations: Lawson and Hanson in small, dropping the most negative term."""
    # In units of each term's size, since that of a run and that of a token squared are far apart.
    unit = np.sqrt(np.diag(products))
    scaled, right = products / np.outer(unit, unit), seen / unit
    values, active = np.zeros(3), [0, 1, 2]
    while active:
        solution = np.linalg.lstsq(scaled[np.ix_(active, active)], right[active])[0]
        worst = int(np.argmin(solution))
        if solution[worst] >= 0:
            values[active] = solution
            break
        del active[worst]
    return CostModel(*map(float, values / unit))
