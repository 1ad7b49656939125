"""A backend without a model, for tests and for measuring everything around a model.

A graph file is JSON: ``{"outputs": {name: [sizes after the batch axis]}, "delay": seconds}``. Outputs depend on the
row's input ids only, never on batch mates or padding.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving.errors import BundleError
from serving.tensors import Array, Tensors


class Stub:
    """Answers every graph with numbers that are a function of its input arrays."""

    def __init__(self, graphs: Mapping[str, Mapping[str, Any]]) -> None:
        self._graphs = graphs

    def run(self, graph: str, batch: Tensors, timeout: float | None = None) -> dict[str, Array]:
        described = self._graphs[graph]
        if described.get("delay"):
            time.sleep(described["delay"])
        seed = sum(array.reshape(len(array), -1).sum(axis=1, dtype=np.float64) for array in batch.values())
        outputs = {}
        for name, sizes in described["outputs"].items():
            count = int(np.prod(sizes))
            values = np.sin(np.outer(seed, np.arange(1, count + 1)))
            outputs[name] = values.reshape(len(values), *sizes).astype(np.float32)
        return outputs

    def close(self) -> None:
        pass


def open_graphs(graphs: Mapping[str, Path]) -> Stub:
    """Read the described graphs. Raises BundleError when one is not readable."""
    try:
        return Stub({name: json.loads(path.read_text("utf-8")) for name, path in graphs.items()})
    except (OSError, ValueError) as error:
        raise BundleError(f"stub graphs cannot be read: {error}") from error
