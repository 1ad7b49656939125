"""A process of its own that makes a graph: exporters patch torch while they run, and take its memory with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from serving.errors import DownstreamError
from serving.tensors import Graph, Tensors, stack

# Traced sizes: never 1, which an exporter may take for broadcasting, and no two alike.
TRACED_LENGTHS = (7, 11)


class ExportError(DownstreamError):
    """The graph could not be made, or is not the model it was made from."""


def write_samples(target: Path, graph: Graph, example: Tensors) -> Path:
    """What the child traces with, beside the target: ``example``, one encoded row, as two rows of unlike length."""
    rows = [{field.name: np.resize(example[field.name], length) for field in graph.inputs} for length in TRACED_LENGTHS]
    samples = target.with_suffix(".npz")
    np.savez(samples, **stack(rows, graph.inputs))  # type: ignore[arg-type]
    return samples


def start(module: str, *words: object) -> subprocess.Popen[str]:
    """Start ``python -m MODULE WORDS``; what it says is kept for ``finish``."""
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603


def finish(process: subprocess.Popen[str], target: Path) -> None:
    """Wait for the file. Raises ExportError with the child's own last words."""
    output, _ = process.communicate()
    if process.returncode or not target.is_file():
        raise ExportError("the exporter failed:\n" + "\n".join(output.strip().splitlines()[-15:]))
