"""The systems that are compared: how each is started, asked and set up."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import launch, wires
from loadtest.bench.launch import Launch, Setup
from loadtest.bench.wires import Wire

JSON = ("-i", "http", "--input-tensor-format=json", "--output-tensor-format=json")
BINARY = ("-i", "http")
GRPC = ("-i", "grpc")
PROGRAMS = "loadtest.bench.peers"
DEFAULTS = "All settings are the defaults: one process, one runner thread a core."

GATEWAY_ROWS = ("gateway, HTTP JSON", "gateway, HTTP binary", "gateway, gRPC")
PLAIN_ROW = "plain FastAPI"


@dataclass(frozen=True)
class System:
    """One server: its wires, how it starts, and the program whose docstring, with ``setup``, states its settings.

    ``package`` is whose version is told, in the environment ``folder`` (None is this one).
    """

    name: str
    wires: Sequence[Wire]
    launch: Callable[[Setup], Launch]
    program: str
    package: str
    folder: Path | None = None
    patience: float = 120.0
    setup: str = ""

    def settings(self, cores: int) -> str:
        """What the docstring of its program says, and what a peer makes of the cores."""
        path = launch.ROOT / (self.program.replace(".", "/") + ".py")
        said = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split())
        if not self.program.startswith(PROGRAMS):
            return f"{said} {self.setup}".strip()
        return f"{said} Here: {cores} processes that run the graph, each with one thread inside a run."

    def version(self) -> str:
        """The version that is installed, or an empty text."""
        return launch.version_of(self.package, self.folder)


def every(model: str) -> list[System]:
    """All systems; ``model`` is the name that the gateway serves it by."""
    path = f"/v2/models/{model}/infer"
    json_row, binary_row, grpc_row = GATEWAY_ROWS
    gateway = [
        Wire(json_row, path, wires.v2_json, JSON, model),
        Wire(binary_row, path, wires.v2_binary, BINARY, model),
        Wire(grpc_row, v2=GRPC, model=model),
    ]
    triton = Wire("Triton, Python backend, gRPC", v2=GRPC, model="classifier")
    return [
        System("gateway", gateway, launch.gateway, "serving/__main__", "downstream", setup=DEFAULTS),
        System("plain", [Wire(PLAIN_ROW, path, wires.v2_json)], launch.plain, "loadtest.bench.plain", "fastapi"),
        _peer("mosec", "mosec", "/inference", wires.one_text),
        _peer("litserve", "LitServe", "/predict", wires.one_text),
        _peer("bentoml", "BentoML", "/classify", wires.text_list),
        _peer("mlserver", "MLServer", "/v2/models/classifier/infer", wires.v2_string),
        _peer("ray", "Ray Serve", "/", wires.one_text),
        System(
            "triton", [triton], launch.triton, "loadtest.bench.peers.triton_model", "nvidia-pytriton", launch.TRITON
        ),
    ]


def batching_rows(systems: Sequence[System]) -> list[str]:
    """The rows of the peers, all of which batch and pad."""
    return [wire.row for system in systems if system.program.startswith(PROGRAMS) for wire in system.wires]


def _peer(name: str, row: str, path: str, encode: Callable[[str], wires.Encoded]) -> System:
    program = f"{PROGRAMS}.{name}_server"
    return System(name, [Wire(row, path, encode)], launch.peer(name), program, name, launch.PEERS / name)
