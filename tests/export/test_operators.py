"""Operators are counted as the serving session runs them, and a promise that is not kept is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.operators import Operators, Promised, count, missing, promised, tally
from serving.errors import BundleError
from tests.export import families


def test_parts_of_a_gelu_are_one_operator_in_the_session_that_serves(tmp_path: Path) -> None:
    constants = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5), "w": np.eye(4)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Div", ["y", "root"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]),
        helper.make_node("Mul", ["y", "c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["z"]),
    ]
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xz")
    held = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], [z], held)
    path = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    found = count(path)
    assert (found.gelu, found.floating, found.integer) == (1, 1, 0)
    assert found.summary() == {"attention": 0, "gelu": 1, "layer_norm": 0, "integer": 0, "floating": 1}
    assert "Erf" not in found.by_type
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]


def test_operators_of_graphs_inside_nodes_count() -> None:
    inner = helper.make_graph([helper.make_node("MatMulInteger", ["a", "b"], ["c"])], "inner", [], [])
    node = helper.make_node("If", ["condition"], ["d"], then_branch=inner, else_branch=inner)
    assert tally(helper.make_model(helper.make_graph([node], "g", [], []))).integer == 2


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"cannot load .*g\.onnx"):
        count(tmp_path / "g.onnx")


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return families.save("albert", tmp_path_factory.mktemp("albert"))


def promise(model: Any, **options: bool) -> Promised:
    return promised(model, {name: np.ones((3, 5), np.int64) for name in ("input_ids", "attention_mask")}, **options)


def test_a_model_promises_what_it_runs_so_shared_layers_count_as_often(albert: Any) -> None:
    assert promise(albert) == Promised(attention=0, gelu=2, layer_norm=5, integer=0)
    assert promise(albert, fused_attention=True, integer=True) == Promised(2, 2, 5, 1)


def test_a_norm_of_constants_is_no_promise(tmp_path: Path) -> None:
    deberta = families.save("deberta-v2", tmp_path)
    norms = [module for module in deberta.modules() if isinstance(module, torch.nn.LayerNorm)]
    assert promise(deberta).layer_norm == len(norms) - 1


def test_a_promise_leaves_no_hook_behind(albert: Any) -> None:
    promise(albert)
    assert not [module for module in albert.modules() if module._forward_hooks]


def test_what_is_missing_is_said_in_numbers() -> None:
    found = Operators(attention=0, gelu=6, layer_norm=12, integer=0, floating=50)
    assert missing(found, Promised(gelu=6, layer_norm=12)) == []
    assert missing(found, Promised(attention=6, gelu=6, layer_norm=13, integer=1)) == [
        "fused attention: the optimized graph has 0, the model promises 6",
        "layer normalization as one operator: the optimized graph has 12, the model promises 13",
        "matrix products in integers: the optimized graph has 0, the model promises 1",
    ]
