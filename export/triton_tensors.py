"""The tensors of a configuration against those of its graph, as Triton's onnxruntime backend compares them at load.

The rules are those of github.com/triton-inference-server/onnxruntime_backend, src/onnxruntime_utils.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import onnx
from onnx import TensorProto
from tritonclient.grpc import model_config_pb2 as pb

from serving.errors import fault
from serving.tensors import NUMPY_TYPES, Array

ONNX_TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.DOUBLE: "FP64",
    TensorProto.BOOL: "BOOL",
    **{getattr(TensorProto, f"{sign}INT{bits}"): f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
Declared: TypeAlias = pb.ModelInput | pb.ModelOutput


def input_faults(config: pb.ModelConfig, model: onnx.ModelProto) -> Iterator[str]:
    """What of the inputs would keep Triton from loading the graph, or from running it in batches."""
    stored = {tensor.name for tensor in model.graph.initializer}
    graph = {value.name: value for value in model.graph.input if value.name not in stored}
    for name in sorted(graph.keys() - {one.name for one in config.input}):
        remedy = f"add input {{ name: {name!r} }} with its data_type and dims"
        yield fault("input", "an input of the graph is left out", [one.name for one in config.input], remedy)
    for one in config.input:
        if one.optional and one.name in graph:
            yield fault(f"input {one.name} optional", "the graph needs it", one.optional, "remove optional")
        yield from _compare("input", one, graph, config.max_batch_size)


def output_faults(config: pb.ModelConfig, model: onnx.ModelProto) -> Iterator[str]:
    """What of the outputs would keep Triton from loading the graph; it need not give all that the graph has."""
    graph = {value.name: value for value in model.graph.output}
    if not config.output:
        yield fault("output", "no output", [], f"the graph has {', '.join(graph)}")
    for one in config.output:
        yield from _compare("output", one, graph, config.max_batch_size)


def result_faults(config: pb.ModelConfig, rows: int, results: dict[str, Array], *, finite: bool) -> Iterator[str]:
    """What of a run's outputs is not as the configuration says; ``finite`` is whether its inputs were real data."""
    for one in config.output:
        array = results[one.name]
        wanted = [rows] * (config.max_batch_size > 0) + _dims(one)
        fits = array.ndim == len(wanted) and all(w in (-1, s) for s, w in zip(array.shape, wanted, strict=True))
        if not fits:
            yield fault(f"output {one.name} dims", f"a run gives shape {list(array.shape)}", wanted, "correct dims")
        datatype = pb.DataType.Name(one.data_type).removeprefix("TYPE_")
        if array.dtype != NUMPY_TYPES[datatype]:
            yield fault(f"output {one.name} data_type", f"a run gives {array.dtype}", datatype, "correct data_type")
        if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            remedy = "export the model again from a checkpoint that answers"
            yield fault(f"output {one.name}", "a run of the warm-up data gives no number", "NaN or infinity", remedy)


def _compare(kind: str, one: Declared, graph: dict[str, onnx.ValueInfoProto], max_batch_size: int) -> Iterator[str]:
    place = f"{kind} {one.name}"
    if one.name not in graph:
        yield fault(f"{kind} name", f"the graph has no such {kind}", one.name, f"it has {', '.join(graph) or 'none'}")
        return
    tensor = graph[one.name].type.tensor_type
    given = pb.DataType.Name(one.data_type)
    wanted = ONNX_TYPES.get(tensor.elem_type)
    if wanted is None:
        name = TensorProto.DataType.Name(tensor.elem_type)
        yield fault(place, "the graph's type is none that is checked here", name, "export a graph of plain numbers")
    elif given != f"TYPE_{wanted}":
        yield fault(f"{place} data_type", f"the graph has {wanted}", given, f"set data_type: TYPE_{wanted}")
    shape = [dimension.dim_value if dimension.HasField("dim_value") else -1 for dimension in tensor.shape.dim]
    dims = _dims(one)
    if max_batch_size and shape[:1] != [-1]:
        problem = f"is fixed in the graph, but max_batch_size is {max_batch_size}"
        remedy = "set max_batch_size: 0, or export the graph with a symbolic batch axis"
        yield fault(f"{place} batch axis", problem, shape, remedy)
        return
    body: Sequence[int] = shape[1:] if max_batch_size else shape
    if len(body) != len(dims) or any(size not in (-1, given) for size, given in zip(body, dims, strict=True)):
        without = " without its batch axis" if max_batch_size else ""
        text = f"do not fit the graph's shape {body}{without}"
        yield fault(f"{place} dims", text, dims, f"set dims: {body}")


def _dims(one: Declared) -> list[int]:
    return list(one.reshape.shape if one.HasField("reshape") else one.dims)
