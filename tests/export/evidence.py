"""Evidence of an export as a search leaves it, made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.evidence import Candidate, Evidence
from export.gates.case import Verdict
from export.int8.drift import Drift
from export.invariance import Invariance
from export.route_choice import Route
from export.structure import Structure
from export.sweep import Swept
from export.trial import Graphed, Measured, Speedup
from export.verification import Answered
from serving.manifest import Manifest

REASON = "all our servers have <VNNI>"
GATES = ("parity", "accuracy", "speed", "batch-invariance", "saturation", "graph", "calibration")
FIGURES: dict[str, dict[str, Any]] = {
    "accuracy": {
        "paired": [
            {"name": "all rows", "rows": 1234, "lost": 11, "gained": 8, "p": 0.32, "points": 0.243},
            {"name": "label 'refund'", "rows": 77, "lost": 9, "gained": 2, "p": 0.0327, "points": 9.09},
        ]
    },
    "saturation": {"overflows": 12431, "sums": 9437184, "needs": ["vnni"]},
    "calibration": {
        "pytorch": {"temperature": 1.402, "raw": 0.0398, "error": 0.0179},
        "graph": {"temperature": 1.431, "raw": 0.0412, "error": 0.0187},
    },
}


def graph(path: Path, **weights: int) -> Path:
    """An ONNX file with weights of so many floats, each used by one operator."""
    tensors = [numpy_helper.from_array(np.zeros(size, np.float32), name) for name, size in weights.items()]
    nodes = [helper.make_node("Identity", [tensor.name], [f"{tensor.name}_out"]) for tensor in tensors]
    outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], outputs, tensors)), path)
    return path


def answered(name: str, value: float, **changes: Any) -> Answered:
    """What answers are worth, with two classes, of which one is called like markup."""
    per_class = {"good": {"f1": value}, "<b>bad</b>": {"f1": value - 0.05}}
    figures: dict[str, Any] = {
        "answers": [{}] * 1234, "metric": "accuracy", "scores": {"accuracy": value, "per_class": per_class},
        "interval": (value - 0.01, value + 0.01), "agreement": 0.9925, "largest_difference": 0.25,
        "mean_difference": 0.01,
    }  # fmt: skip
    return Answered(name=name, **{**figures, **changes})


def verdicts(name: str, failed: str = "", accepted: str = "") -> tuple[Verdict, ...]:
    """Those of every gate, with a sentence that tells which gate and which graph."""
    return tuple(
        Verdict(
            gate,
            gate != failed,
            f"what {gate} found of {name}",
            FIGURES.get(gate, {}),
            accepted if gate == failed else "",
        )
        for gate in GATES
    )


def candidate(
    name: str, path: Path, value: float, rows: float, *, failed: str = "", accepted: str = "", kept: bool = False
) -> Candidate:
    """One graph with its figures; ``failed`` is the gate that it fails."""
    speedup = None if name == "fp32" else Speedup(1.82, 1.75, 1.9)
    invariance = Invariance(32, 20, 16 if "dynamic" in name else 0, 0.37 if "dynamic" in name else 0.0)
    return Candidate(
        graphed=Graphed(path, "onnxruntime", ("vnni",)),
        answered=answered(name, value),
        measured=Measured(4.611, 9.683, rows, 181_000_000, 0.5, invariance, speedup),
        structure=Structure({"attention": 6, "integer": 0 if name == "fp32" else 38}),
        seconds=0.0 if name == "fp32" else 11.25,
        verdicts=verdicts(name, failed, accepted),
        kept=kept,
    )


def searched(folder: Path) -> Evidence:
    """A whole search: one graph fails, one is kept although a gate fails, one is outdone."""
    floats = graph(folder / "fp32.onnx", embeddings=4000, attention=1000)
    integers = graph(folder / "int8.onnx", embeddings=1000, attention=250)
    layer = "bert.encoder.layer"
    return Evidence(
        reference=answered("pytorch", 0.9102, agreement=1.0),
        sweep=[Swept(1, 3, 2e-7), Swept(2, 3, 4e-7), Swept(1, 5, 1e-7), Swept(2, 5, 3e-7)],
        candidates=[
            candidate("fp32", floats, 0.9101, 331),
            candidate("int8-static", integers, 0.8716, 702, failed="accuracy"),
            candidate("int8-smooth", integers, 0.9055, 701, failed="saturation", accepted=REASON, kept=True),
            candidate("int8-dynamic", integers, 0.8981, 512),
        ],
        routes=[
            Route("native", Path("native.onnx"), p50_ms=9.613, opset=20, ir=10),
            Route("traced", Path("traced.onnx"), p50_ms=9.184, ratio=1.05, opset=18, ir=8),
            Route("optimized", Path(), "no attention to fuse"),
        ],
        served_route="traced",
        quantized_route="native",
        drift=[
            Drift("node_MatMul_12", f"{layer}.10.output.dense", "MatMul", 0.0451, 0.0621),
            Drift("node_MatMul_7", f"{layer}.2.attention.self.query", "MatMul", 0.0123, 0.0234),
            Drift("node_linear_9", "classifier", "Gemm", 0.0041, 0.0822),
        ],
        remarks=["int8-entropy could not be made: no rows"],
        bundle=manifest(),
    )  # fmt: skip


def failed(folder: Path) -> Evidence:
    """A search in which no graph of integers passes."""
    evidence = searched(folder)
    evidence.candidates = [replace(one, kept=False) for one in evidence.candidates[:2]]
    evidence.failure = "gate failed: accuracy: what accuracy found of int8-static"
    return evidence


def manifest() -> Manifest:
    """That of the bundle, sealed."""
    return Manifest(
        name="toy", version=7, task="text-classification", backend="onnxruntime", precision="int8-smooth",
        graphs={"model": "model.onnx"}, tolerance={"logits": 0.3}, max_batch_size=32, licence="apache-2.0",
        source={"base_model": "org/base-model", "data_digest": "d5841f6f", "recipe": {"epochs": 3}},
        host={"cores": 2},
    ).sealed()  # fmt: skip
