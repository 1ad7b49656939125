"""A backend that runs only when a test lets it, so that requests can be caught in flight without waiting."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from serving.tensors import Array, Tensors

# No test waits this long; it ends one that would otherwise hang.
PATIENCE = 60.0


class HeldBackend:
    """Signals ``entered`` at the start of every run and waits for ``released``; ``failure`` is raised if it is set."""

    def __init__(self, labels: int) -> None:
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()
        self.failure: Exception | None = None
        self.batches: list[int] = []
        self.closed = False
        self._labels = labels

    def run(self, graph: str, batch: Tensors, timeout: float | None = None) -> Mapping[str, Array]:
        rows = len(next(iter(batch.values())))
        self.batches.append(rows)
        self.entered.release()
        if not self.released.wait(PATIENCE):
            raise TimeoutError("the test never released the run")
        if self.failure:
            raise self.failure
        return {"logits": np.tile(np.arange(self._labels, dtype=np.float32), (rows, 1))}

    def wait_until_running(self) -> None:
        """Return once a run has begun that nobody waited for yet."""
        assert self.entered.acquire(timeout=PATIENCE), "no run began"

    def close(self) -> None:
        self.closed = True
