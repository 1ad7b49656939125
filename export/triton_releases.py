"""Releases of Triton Inference Server: the ONNX Runtime inside, and the newest graphs that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from serving.errors import InvalidInput, fault

# github.com/triton-inference-server/server, docs/introduction/compatibility.md, "ONNX Runtime Versions", where 26.08 is
# the newest. 24.10 is server 2.51.0. 25.08 is left out: it carries a state of ONNX Runtime that was never released.
RUNTIMES: Mapping[str, str] = {
    "24.04": "1.17.3",
    "24.05": "1.18.0",
    "24.06": "1.18.0",
    "24.07": "1.18.1",
    "24.08": "1.18.1",
    "24.09": "1.19.2",
    "24.10": "1.19.2",
    "24.11": "1.19.2",
    "24.12": "1.20.1",
    "25.01": "1.20.1",
    "25.02": "1.20.1",
    "25.03": "1.21.0",
    "25.04": "1.21.0",
    "25.05": "1.22.0",
    "25.06": "1.22.0",
    "25.07": "1.22.0",
    "25.09": "1.23.0",
    "25.10": "1.23.1",
    "25.11": "1.23.2",
    "25.12": "1.23.2",
    "26.01": "1.23.2",
    "26.02": "1.24.1",
    "26.03": "1.24.2",
    "26.04": "1.24.4",
    "26.05": "1.24.4",
    "26.06": "1.24.4",
    "26.07": "1.27.0",
    "26.08": "1.28.0",
}
# Highest opset of ai.onnx and highest IR version. Up to 1.20 as onnxruntime.ai/docs/reference/compatibility.html has
# them; each was also measured with the published package of every version above, by what it is the first to refuse.
LIMITS: Mapping[str, tuple[int, int]] = {
    "1.17": (20, 9),
    "1.18": (21, 10),
    "1.19": (21, 10),
    "1.20": (21, 10),
    "1.21": (22, 10),
    "1.22": (22, 10),
    "1.23": (23, 11),
    "1.24": (25, 13),
    "1.27": (26, 13),
    "1.28": (26, 13),
}
# ONNX Runtime reads all that older ones read, so what fits an old release serves on every newer one.
DEFAULT = "24.10"


@dataclass(frozen=True)
class Release:
    """One release; ``opset`` and ``ir`` are the highest that its ONNX Runtime ``runtime`` loads."""

    name: str
    runtime: str
    opset: int
    ir: int

    def __str__(self) -> str:
        return f"Triton {self.name} (ONNX Runtime {self.runtime}: opset up to {self.opset}, IR version up to {self.ir})"


def find(name: str) -> Release:
    """The release of that name, as ``24.10``. Raises InvalidInput that lists the known ones."""
    if name not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise InvalidInput(fault("--triton-release", "unknown release", name, f"the releases are {known}"))
    runtime = RUNTIMES[name]
    opset, ir = LIMITS[runtime.rpartition(".")[0]]
    return Release(name, runtime, opset, ir)
