"""The ways from a PyTorch checkpoint to an FP32 graph, started in one process of its own and waited for.

``native``: transformers.exporters. ``native-fused``: with its fusions for ONNX Runtime. ``traced``: the older exporter
of torch. ``optimized``: that one with attention fused by ONNX Runtime's transformers optimizer.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from export import child
from export.child import ExportError
from serving.tensors import Graph, Tensors

NATIVE, FUSED, TRACED, OPTIMIZED = "native", "native-fused", "traced", "optimized"
# On CPUs the fusions of transformers.exporters were never the fastest, and on MiniLM slower than none.
ROUTES: Mapping[str, tuple[str, ...]] = {
    "cpu": (NATIVE, TRACED, OPTIMIZED),
    "cuda": (NATIVE, FUSED, TRACED, OPTIMIZED),
}
# Routes whose graphs hold standard operators only, which the quantizers know; in fused ones they miss a third.
UNFUSED = (NATIVE, TRACED)
# Those that promise fused attention.
FUSING: Mapping[str, tuple[str, ...]] = {"cpu": (OPTIMIZED,), "cuda": (FUSED, OPTIMIZED)}


def start(
    model: Path,
    auto_class: str,
    graph: Graph,
    example: Tensors,
    folder: Path,
    routes: Sequence[str] = ROUTES["cpu"],
    device: str = "cpu",
) -> subprocess.Popen[str]:
    """Start the exporter; ``example`` is one encoded row, resized here to two rows of unlike length.

    It writes ``ROUTE.onnx``, complete and its axes checked when it appears, or ``ROUTE.failed`` with the reason.
    """
    samples, declared = child.write_samples(folder / "samples.npz", graph, example), folder / "graph.json"
    declared.write_text(json.dumps(asdict(graph)), "utf-8")
    return child.start("export.route_graphs", model, auto_class, declared, samples, folder, device, ",".join(routes))


def finish(
    process: subprocess.Popen[str], folder: Path, routes: Sequence[str] = ROUTES["cpu"]
) -> dict[str, Path | str]:
    """Wait for the exporter: the graph of each route, or why there is none.

    Raises ExportError where no route worked, with the exporter's own last words.
    """
    output, _ = process.communicate()
    last_words = "\n".join(output.strip().splitlines()[-15:])
    made: dict[str, Path | str] = {}
    for route in routes:
        path, failed = folder / f"{route}.onnx", folder / f"{route}.failed"
        ended = f"the exporter ended before it, with exit code {process.returncode}"
        made[route] = path if path.is_file() else failed.read_text("utf-8") if failed.is_file() else ended
    if all(isinstance(result, str) for result in made.values()):
        reasons = "; ".join(f"{route}: {reason}" for route, reason in made.items())
        raise ExportError(f"the exporter failed ({reasons}):\n{last_words}")
    return made
