"""The ceiling: tokenize and run in process, one row a run, one thread a core, nothing around it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from serving.backends import open_backend
from serving.bundle import open_bundle
from serving.settings import read_available_cores
from serving.tensors import stack


def rows_per_second(folder: Path, texts: Sequence[str], seconds: float) -> float:
    """Rows a second of the bundle's graph over the texts, in turn, on as many threads as cores."""
    bundle = open_bundle(folder)
    task = bundle.open_task()
    backend = open_backend(bundle.manifest.backend, bundle.graph_files())
    ((name, graph),) = task.graphs.items()
    turn = itertools.cycle(texts)
    counts: list[int] = []
    deadline = time.perf_counter() + seconds

    def work() -> None:
        done = 0
        while time.perf_counter() < deadline:
            encoded = task.encode({"text": next(turn)})
            backend.run(name, stack([encoded], graph.inputs))
            done += 1
        counts.append(done)

    threads = [threading.Thread(target=work) for _ in range(read_available_cores())]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds
