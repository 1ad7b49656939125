"""One PyTorch checkpoint to one FP32 ONNX graph for each route, in a process of its own.

transformers.exporters patches torch globally while it runs, so nothing else may happen in that process; and one process
makes all routes, since its imports take as long as most of them.
Run as ``python -m export.route_graphs MODEL_FOLDER AUTO_CLASS GRAPH.json SAMPLES.npz FOLDER DEVICE ROUTE,ROUTE``.
FOLDER gets ``ROUTE.onnx``, weights inside, axes named, complete when it appears; or ``ROUTE.failed`` with the reason.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.axes import name_axes
from export.child import ExportError
from export.torch_graph import named
from serving.tensors import Field, Graph

# With LayerNormalization and without Gelu, which ONNX Runtime's optimizer knows as it was written before opset 20.
TRACED_OPSET = 18


def main(argv: Sequence[str]) -> int:
    """The child process: load, then one file for each route, in an order that makes the quick ones first."""
    import torch
    import transformers

    folder, auto_class, declared, samples, target, device, routes = argv
    # Tracing is Python; more threads would spin on the cores that PyTorch answers the validation split on meanwhile.
    torch.set_num_threads(1)
    model = getattr(transformers, auto_class).from_pretrained(folder, dtype=torch.float32).eval()
    with np.load(samples) as arrays:
        inputs = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    make(model, inputs, read_graph(Path(declared)), Path(target), device, routes.split(","))
    return 0


def read_graph(path: Path) -> Graph:
    """The graph that ``dataclasses.asdict`` wrote as JSON."""
    fields = json.loads(path.read_text("utf-8"))
    inputs, outputs = (
        tuple(Field(**{**field, "shape": tuple(field["shape"])}) for field in fields[side])
        for side in ("inputs", "outputs")
    )
    return Graph(inputs, outputs)


def make(model: Any, inputs: Mapping[str, Any], graph: Graph, folder: Path, device: str, routes: Sequence[str]) -> None:
    """Write the graph of each route into the folder, or why there is none; ``inputs`` are tensors [batch, length]."""
    outputs = [field.name for field in graph.outputs]
    programs: dict[str, Any] = {}

    def native(path: Path) -> None:
        _save_native(_program(programs, model, inputs, outputs), path)

    def fused(path: Path) -> None:
        from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

        # What ``OnnxConfig(ort_fusions=...)`` does, in place and without tracing the model again: after native.
        fuse_for_onnxruntime(_program(programs, model, inputs, outputs), device)
        _save_native(programs.pop("native"), path)

    def traced(path: Path) -> None:
        _trace(model, inputs, outputs, path)

    def optimized(path: Path) -> None:
        source = folder / "optimized.traced"
        try:
            _trace(model, inputs, outputs, source)
            _optimize(source, path, model.config)
        finally:
            source.unlink(missing_ok=True)

    makers: Mapping[str, Callable[[Path], None]] = {
        "traced": traced, "optimized": optimized, "native": native, "native-fused": fused,
    }  # fmt: skip
    for route, maker in makers.items():
        if route in routes:
            write(folder, route, maker, graph)


def write(folder: Path, route: str, maker: Callable[[Path], None], graph: Graph) -> None:
    """Run the maker of a route; its file, or its reason, appears in one step."""
    unfinished, name = folder / f"{route}.writing", f"{route}.onnx"
    try:
        maker(unfinished)
        made = onnx.load(unfinished, format="protobuf")
        name_axes(made, graph)
        onnx.save(made, unfinished, format="protobuf")
    except Exception as error:  # exporters raise all kinds; another route may still work
        traceback.print_exc()
        unfinished.write_text(_told(error), "utf-8")
        name = f"{route}.failed"
    os.replace(unfinished, folder / name)


def _told(error: Exception) -> str:
    """The first line of an error: exporters append what they tried, in pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    words = lines[0][:500] if lines else "no reason was given"
    return words if isinstance(error, ExportError) else f"{type(error).__name__}: {words}"


def _program(programs: dict[str, Any], model: Any, inputs: Mapping[str, Any], outputs: Sequence[str]) -> Any:
    """The model as transformers.exporters have it, an ``onnx_ir.Model``; made once."""
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    if "native" not in programs:
        exporter = OnnxExporter()  # type: ignore[no-untyped-call]
        exported = exporter.export(model, dict(inputs), config=OnnxConfig(dynamic=True))
        produced = [value.name for value in exported.program.graph.outputs]
        missing = set(outputs) - set(produced)
        if missing:
            raise ExportError(f"the model gives {produced}, the task wants {sorted(missing)}")
        programs["native"] = exported.program
    return programs["native"]


def _save_native(program: Any, path: Path) -> None:
    import onnx_ir

    onnx_ir.save(program, path, format="protobuf")


def _trace(model: Any, inputs: Mapping[str, Any], outputs: Sequence[str], path: Path) -> None:
    """The TorchScript-based exporter of torch, by which ONNX Runtime runs most encoders faster than by the new one.

    Eager attention: what tracing makes of scaled_dot_product_attention guards each layer against rows without a token,
    which costs time, and no row of ours has none.
    """
    import torch

    axes = {name: {axis: f"axis{axis}" for axis in range(array.ndim)} for name, array in inputs.items()}
    with _eager(model), torch.inference_mode(), warnings.catch_warnings():
        # It is deprecated, and it warns of every size that becomes a constant: the sweep finds those that matter.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            named(model, list(inputs), outputs).eval(), tuple(inputs.values()), path, dynamo=False,
            opset_version=TRACED_OPSET,
            input_names=list(inputs), output_names=list(outputs),
            dynamic_axes={**axes, **{name: {0: "axis0"} for name in outputs}},
        )  # fmt: skip


@contextmanager
def _eager(model: Any) -> Any:
    """The model with eager attention while the block runs."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _optimize(source: Path, path: Path, config: Any) -> None:
    """ONNX Runtime's transformers optimizer: attention as one operator. Raises ExportError unless in every layer."""
    from onnxruntime.transformers.fusion_options import AttentionMaskFormat, FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    options = FusionOptions("bert")
    # The default format keeps the count of tokens only, which is wrong for a mask with holes.
    options.attention_mask_format = AttentionMaskFormat.AttentionMask
    # No faster as one operator, and it would hide the embeddings.
    options.enable_embed_layer_norm = False
    optimized = optimize_model(
        str(source), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size,
        optimization_options=options,
    )  # fmt: skip
    counts = optimized.get_fused_operator_statistics()
    fused = counts["Attention"] + counts["MultiHeadAttention"]
    if fused < config.num_hidden_layers:
        raise ExportError(
            f"ONNX Runtime's optimizer fuses attention in {fused} of {config.num_hidden_layers} layers "
            f"of {config.model_type}"
        )
    model = optimized.model
    # It imports every operator set that it knows, and an older ONNX Runtime refuses those that it does not.
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx") or entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.save(model, path, format="protobuf")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
