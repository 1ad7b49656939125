"""ONNX graphs for Triton's ``onnxruntime`` backend."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from export import graph_version, triton_accelerator, triton_tensors
from export.triton_accelerator import Accelerator
from export.triton_kind import Kind
from export.triton_releases import Release
from serving.errors import fault


def load(path: Path) -> onnx.ModelProto:
    """The graph without its weights' files. Raises ValueError when it is none."""
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    # Of other bytes too a protobuf may come, with nothing in it.
    if not model.graph.node:
        raise ValueError("it has no nodes")
    return model


def describe(model: onnx.ModelProto, release: Release) -> str:
    """Opset and IR version, beside the highest that the release reads."""
    return f"opset {graph_version.opset(model)} of {release.opset}, IR version {model.ir_version} of {release.ir}"


def fit(source: Path, path: Path, release: Release) -> list[str]:
    """Write the graph as the release reads it; what was changed. Raises ExportError when it cannot be."""
    model, changes = graph_version.fit(onnx.load(source), release)
    if changes:
        onnx.save(model, path)
    else:
        shutil.copyfile(source, path)
    return changes


def version_faults(model: onnx.ModelProto, release: Release) -> Iterator[str]:
    """What of the graph is too new for the release."""
    remedy = "export the model again with this --triton-release, or run a newer release"
    limits = {"opset": (graph_version.opset(model), release.opset), "IR version": (model.ir_version, release.ir)}
    for name, (given, most) in limits.items():
        if given > most:
            yield fault(name, f"is above {most}, the highest of Triton {release.name}", given, remedy)


KIND = Kind(
    backend="onnxruntime",
    runner="onnxruntime",
    engine="ONNX Runtime",
    file="model.onnx",
    noun="ONNX graph",
    load=load,
    describe=describe,
    server=str,
    oldest=lambda release: f"Triton {release.name} and newer",
    fit=fit,
    configure=Accelerator.configure,
    input_faults=triton_tensors.input_faults,
    output_faults=triton_tensors.output_faults,
    version_faults=version_faults,
    config_faults=triton_accelerator.faults,
)
