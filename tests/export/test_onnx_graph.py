"""The graph's axes are symbolic and named; one that has a size baked in is refused."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export import onnx_graph
from export.onnx_graph import ExportError, finish, start
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


def ended(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def shapes(path: Path) -> dict[str, Dims]:
    graph = onnx.load(path).graph
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }


def test_symbolic_axes_get_the_names_of_the_task(tmp_path: Path) -> None:
    path = written(tmp_path / "g.onnx", ["s0", "s1"], ["s0", "s1"], ["s0", 2])
    finish(ended("true"), GRAPH, path)
    assert shapes(path) == {
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
        finish(ended("true"), GRAPH, path)


def test_a_graph_without_the_wanted_output_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "g.onnx", ["b", "s"], ["b", "s"], ["b", 2], output="scores")
    with pytest.raises(ExportError, match=r"has no 'logits'; it has input_ids, attention_mask, scores"):
        finish(ended("true"), GRAPH, path)


def test_the_last_words_of_a_failed_exporter_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "g.onnx", ["b", "s"], ["b", "s"], ["b", 2])
    with pytest.raises(ExportError, match="cannot trace this"):
        finish(ended("sh", "-c", "echo cannot trace this; exit 1"), GRAPH, path)
    with pytest.raises(ExportError, match="the exporter failed"):
        finish(ended("true"), GRAPH, tmp_path / "none.onnx")


def test_it_is_traced_on_rows_of_unlike_length_and_never_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(onnx_graph.subprocess, "Popen", lambda command, **options: commands.append(command))
    example = {"input_ids": np.arange(1, 6), "attention_mask": np.ones(5, np.int64)}
    start(tmp_path / "model", "AutoModel", GRAPH, example, tmp_path / "g.onnx")
    assert commands[0][1:5] == ["-m", "export.onnx_graph", str(tmp_path / "model"), "AutoModel"]
    with np.load(tmp_path / "g.npz") as samples:
        mask, ids = samples["attention_mask"], samples["input_ids"]
    assert mask.shape == ids.shape == (2, 11)
    assert mask.sum(axis=1).tolist() == [7, 11]
    assert ids[0, 7:].tolist() == [7] * 4


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
