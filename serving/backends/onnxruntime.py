"""ONNX graphs on ONNX Runtime: one session per graph, shared by all runner threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from serving.errors import BundleError
from serving.tensors import Array, Tensors

if TYPE_CHECKING:
    import onnxruntime as ort


class OnnxRuntime:
    """Sessions by graph name; each ``run`` uses the calling thread only, so N runners use N cores."""

    def __init__(self, sessions: Mapping[str, ort.InferenceSession]) -> None:
        self.sessions = {
            name: (session, [output.name for output in session.get_outputs()]) for name, session in sessions.items()
        }

    def run(self, graph: str, batch: Tensors, timeout: float | None = None) -> dict[str, Array]:
        session, names = self.sessions[graph]
        return dict(zip(names, session.run(names, dict(batch)), strict=True))

    def close(self) -> None:
        self.sessions.clear()


def open_graphs(graphs: Mapping[str, Path]) -> OnnxRuntime:
    """Sessions for ONNX files. Raises BundleError when ONNX Runtime refuses one."""
    # Since 1.29 ONNX Runtime tells its maker what it runs, unless this is set before it is first imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # A plan per input shape would be kept for every new length, and memory would only grow.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        return OnnxRuntime(
            {
                name: ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                for name, path in graphs.items()
            }
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common root
        raise BundleError(f"ONNX Runtime cannot load {', '.join(map(str, graphs.values()))}: {error}") from error
