"""The graph's axes are symbolic and named; one that has a size baked in is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export.axes import name_axes
from export.child import ExportError
from serving.tensors import Field, Graph

GRAPH = Graph(
    (Field("input_ids", "INT64", ("length",), pad=7), Field("attention_mask", "INT64", ("length",))),
    (Field("logits", "FP32", ("labels",)),),
)
Dims = list[int | str]


def written(path: Path, ids: Dims, mask: Dims, logits: Dims, output: str = "logits") -> Path:
    """A graph with these shapes: the logits are the sum of the masked ids, twice."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["total"], keepdims=1),
        helper.make_node("Concat", ["total", "total"], [output], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, dims)
        for name, dims in (("input_ids", ids), ("attention_mask", mask))
    ]
    axis = onnx.numpy_helper.from_array(np.array([1], np.int64), "axis")
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, logits)
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", inputs, [result], [axis])), path, format="protobuf")
    return path


def named(path: Path) -> Path:
    model = onnx.load(path)
    name_axes(model, GRAPH)
    onnx.save(model, path)
    return path


def shapes(path: Path) -> dict[str, Dims]:
    graph = onnx.load(path).graph
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }


def test_symbolic_axes_get_the_names_of_the_task(tmp_path: Path) -> None:
    path = written(tmp_path / "g.onnx", ["s0", "s1"], ["s0", "s1"], ["s0", 2])
    assert shapes(named(path)) == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "logits": ["batch", 2],
    }


@pytest.mark.parametrize(
    ("ids", "mask", "logits", "told"),
    [
        ([2, "s"], ["b", "s"], ["b", 2], [r"input_ids axis 0 \(batch\) is fixed to 2"]),
        (["b", "s"], ["b", 11], ["b", 2], [r"attention_mask axis 1 \(length\) is fixed to 11"]),
        (["b", "s"], ["b", "s"], [2, 2], [r"logits axis 0 \(batch\) is fixed to 2"]),
        ([2, 11], ["b", "s"], ["b", 2], ["input_ids axis 0", "input_ids axis 1"]),
    ],
)
def test_a_graph_with_a_baked_axis_is_refused(
    tmp_path: Path, ids: Dims, mask: Dims, logits: Dims, told: list[str]
) -> None:
    path = written(tmp_path / "g.onnx", ids, mask, logits)
    with pytest.raises(ExportError, match=".*".join(["must be dynamic were baked in", *told])):
        named(path)


def test_a_graph_without_the_wanted_output_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "g.onnx", ["b", "s"], ["b", "s"], ["b", 2], output="scores")
    with pytest.raises(ExportError, match=r"has no 'logits'; it has input_ids, attention_mask, scores"):
        named(path)


def test_the_real_exporter_leaves_every_axis_symbolic(fp32: Path) -> None:
    found = shapes(fp32 / "model.onnx")
    logits: Any = found.pop("logits")
    assert found.keys() == {"input_ids", "token_type_ids", "attention_mask"}
    assert all(dims == ["batch", "length"] for dims in found.values())
    assert logits[0] == "batch"


def test_the_weights_are_inside_the_file(fp32: Path) -> None:
    model = onnx.load(fp32 / "model.onnx", load_external_data=False)
    assert not [tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    onnx.checker.check_model(model)
