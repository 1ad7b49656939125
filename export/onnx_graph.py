"""One PyTorch checkpoint to one FP32 ONNX graph, in a process of its own.

transformers.exporters patches torch globally while it runs, so nothing else may happen in that process.
Run as ``python -m export.onnx_graph MODEL_FOLDER AUTO_CLASS SAMPLES.npz OUTPUTS TARGET.onnx``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from serving.errors import DownstreamError
from serving.tensors import NUMPY_TYPES, Graph, Tensors, stack

# Traced sizes: never 1, which an exporter may take for broadcasting, and no two alike.
TRACED_LENGTHS = (7, 11)


class ExportError(DownstreamError):
    """The graph could not be made, or is not the model it was made from."""


def start(model: Path, auto_class: str, graph: Graph, example: Tensors, target: Path) -> subprocess.Popen[str]:
    """Start the exporter; ``example`` is one encoded row, resized here to two rows of unlike length."""
    rows = [{field.name: np.resize(example[field.name], length) for field in graph.inputs} for length in TRACED_LENGTHS]
    samples = target.with_suffix(".npz")
    np.savez(samples, **stack(rows, graph.inputs))  # type: ignore[arg-type]
    outputs = ",".join(field.name for field in graph.outputs)
    command = [sys.executable, "-m", "export.onnx_graph", str(model), auto_class, str(samples), outputs, str(target)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603


def finish(process: subprocess.Popen[str], graph: Graph, target: Path) -> None:
    """Wait for the exporter, then name and check the axes. Raises ExportError with the exporter's own last words."""
    output, _ = process.communicate()
    if process.returncode or not target.is_file():
        raise ExportError("the exporter failed:\n" + "\n".join(output.strip().splitlines()[-15:]))
    model = onnx.load(target)
    name_axes(model, graph)
    onnx.save(model, target)


def name_axes(model: onnx.ModelProto, graph: Graph) -> None:
    """Give symbolic axes the names of the task's fields. Raises ExportError where the exporter baked in a size."""
    _add_unread(model, graph)
    values = {value.name: value for value in [*model.graph.input, *model.graph.output]}
    baked = []
    for field in (*graph.inputs, *graph.outputs):
        if field.name not in values:
            raise ExportError(f"the graph has no {field.name!r}; it has {', '.join(values)}")
        dimensions = values[field.name].type.tensor_type.shape.dim
        for axis, (dimension, wanted) in enumerate(zip(dimensions, ("batch", *field.shape), strict=True)):
            is_output_class_axis = field in graph.outputs and axis > 0
            if isinstance(wanted, str) and not dimension.dim_param and not is_output_class_axis:
                baked.append(f"{field.name} axis {axis} ({wanted}) is fixed to {dimension.dim_value}")
            elif isinstance(wanted, str) and dimension.dim_param:
                dimension.dim_param = wanted
    if baked:
        raise ExportError(f"axes that must be dynamic were baked in: {'; '.join(baked)}")


def _add_unread(model: onnx.ModelProto, graph: Graph) -> None:
    """Declare the inputs that a tracer dropped because the model does not read them, as DeBERTa its token types.

    Raises ExportError for an input that no field fills.
    """
    found = {value.name for value in model.graph.input}
    unknown = sorted(found - {field.name for field in graph.inputs})
    if unknown:
        raise ExportError(f"the graph wants {', '.join(unknown)}, which no field of the task fills")
    for field in graph.inputs:
        if field.name not in found:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(NUMPY_TYPES[field.dtype]))
            model.graph.input.append(onnx.helper.make_tensor_value_info(field.name, kind, ["batch", *field.shape]))


def main(argv: Sequence[str]) -> int:
    """The child process: load, export, save with the weights inside the file."""
    import onnx_ir
    import torch
    import transformers
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    folder, auto_class, samples, outputs, target = argv
    model = getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32).eval()
    with np.load(samples) as arrays:
        inputs = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    exporter = OnnxExporter()  # type: ignore[no-untyped-call]
    exported = exporter.export(model, inputs, config=OnnxConfig(dynamic=True))  # type: ignore[arg-type]
    produced = [value.name for value in exported.program.graph.outputs]
    missing = set(outputs.split(",")) - set(produced)
    if missing:
        print(f"the model gives {produced}, the task wants {sorted(missing)}")
        return 1
    onnx_ir.save(exported.program, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
