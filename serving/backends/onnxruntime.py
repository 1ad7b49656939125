"""ONNX graphs on ONNX Runtime: one session per graph, shared by all runner threads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from serving.backends import Remedy
from serving.errors import BundleError
from serving.processor import VNNI
from serving.tensors import Array, Tensors

if TYPE_CHECKING:
    import onnxruntime as ort

# Source: onnxruntime_session_options_config_keys.h, kOrtSessionOptionsAvx2PrecisionMode: slower products of U8 with U8
# in place of those of U8 with S8, which overflow.
PRECISE = ("session.x64quantprecision", "1")
REMEDIES = {VNNI: Remedy({"precise": True}, "runs in the precise mode, slower; export here for a faster graph")}
CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


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


def open_graphs(graphs: Mapping[str, Path], precise: bool = False) -> OnnxRuntime:
    """Sessions for ONNX files, on the GPU where ONNX Runtime has one; ``precise`` ones cannot overflow.

    Raises BundleError when ONNX Runtime refuses a file.
    """
    try:
        return OnnxRuntime({name: open_session(path, session_options(precise)) for name, path in graphs.items()})
    except Exception as error:  # ONNX Runtime's exceptions have no common root
        raise BundleError(f"ONNX Runtime cannot load {', '.join(map(str, graphs.values()))}: {error}") from error


def session_options(precise: bool = False) -> ort.SessionOptions:
    """The options that graphs are served with; export counts operators and measures speed with the same."""
    options = _runtime().SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # A plan per input shape would be kept for every new length, and memory would only grow.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    if precise:
        options.add_session_config_entry(*PRECISE)
    return options


def open_session(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    """One session. Raises what ONNX Runtime raises."""
    return _runtime().InferenceSession(str(path), options, providers=providers())


def providers() -> list[str]:
    """What runs graphs, first choice first: CUDA where ONNX Runtime was built with it, and the CPU for the rest."""
    return [name for name in (CUDA, CPU) if name in available()]


def available() -> list[str]:
    """The names of all that ONNX Runtime was built with."""
    return list(_runtime().get_available_providers())


def _runtime() -> ModuleType:
    # Since 1.29 ONNX Runtime tells its maker what it runs, unless this is set before it is first imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime  # type: ignore[no-any-return]
