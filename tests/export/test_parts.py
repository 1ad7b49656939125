"""Where the bytes of a graph are: told from names as exporters give them, before and after quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.int8.dynamic import dynamic_int8
from export.parts import part_of, parts


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("bert.embeddings.word_embeddings.weight", "embeddings"),
        ("bert.encoder.layer.3.attention.output.dense.bias", "attention"),
        ("bert.encoder.layer.3.intermediate.dense.weight", "feed-forward"),
        ("/model/bert/encoder/layer.3/output/dense/MatMul", "feed-forward"),
        ("bert.pooler.dense.weight", "head"),
        ("distilbert.transformer.layer.0.attention.q_lin.weight", "attention"),
        ("distilbert.transformer.layer.0.ffn.lin1.bias", "feed-forward"),
        ("pre_classifier.weight", "head"),
        ("deberta.encoder.rel_embeddings.weight", "embeddings"),
        ("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn_output.weight", "feed-forward"),
        ("albert.encoder.albert_layer_groups.0.albert_layers.0.full_layer_layer_norm.bias", "feed-forward"),
        ("model.layers.1.attn.Wqkv.weight", "attention"),
        ("model.layers.1.mlp.Wi.weight", "feed-forward"),
        ("head.dense.weight", "head"),
        ("mpnet.encoder.relative_attention_bias.weight", "attention"),
        ("Attention_0_qkv_weight", "attention"),
        ("val_130", ""),
        ("onnx::MatMul_512", ""),
    ],
)
def test_parts_are_told_by_the_names_of_every_family(name: str, part: str) -> None:
    assert part_of(name) == part


def save(path: Path, product: str, bias: str, scopes: str = "") -> None:
    """A graph that looks up embeddings and multiplies them with a weight whose name says nothing."""
    table, weight = np.ones((10, 64), np.float32), np.ones((64, 32), np.float32)
    nodes = [
        helper.make_node("Gather", ["bert.embeddings.word_embeddings.weight", "ids"], ["rows"], "lookup"),
        helper.make_node("Relu", ["rows"], ["relu"], "relu"),
        helper.make_node("MatMul", ["relu", "val_7"], ["product"], product),
        helper.make_node("Add", ["product", bias], ["out"], product.replace("MatMul", "Add")),
    ]
    for node in nodes[2:] if scopes else []:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 32])],
        [
            numpy_helper.from_array(table, "bert.embeddings.word_embeddings.weight"),
            numpy_helper.from_array(weight, "val_7"),
            numpy_helper.from_array(np.ones(32, np.float32), bias),
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.mark.parametrize(
    ("product", "bias", "scopes"),
    [
        ("node_MatMul_7", "val_8", "['', 'bert', 'bert.encoder.layer.0.attention.self.query', 'linear']"),
        ("/model/bert/encoder/layer.0/attention/self/query/MatMul", "onnx::Add_8", ""),
        ("node_MatMul_7", "bert.encoder.layer.0.attention.self.query.bias", ""),
    ],
    ids=["recorded by torch's exporter", "traced", "by its bias"],
)
def test_a_weight_without_a_name_belongs_to_its_operator(tmp_path: Path, product: str, bias: str, scopes: str) -> None:
    path = tmp_path / "graph.onnx"
    save(path, product, bias, scopes)
    found = parts(path)
    assert found["embeddings"] == 10 * 64 * 4
    assert found["attention"] == (64 + 1) * 32 * 4
    assert sum(found.values()) == path.stat().st_size


def test_quantization_makes_the_same_parts_smaller(tmp_path: Path) -> None:
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    save(before, "node_MatMul_7", "bert.encoder.layer.0.attention.self.query.bias")
    dynamic_int8(before, after, per_channel=False, seven_bits=True)
    floats, integers = parts(before), parts(after)
    for part in ("embeddings", "attention"):
        assert integers[part] < 0.4 * floats[part]
    assert sum(integers.values()) == after.stat().st_size


def test_what_names_do_not_tell_is_other(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    save(path, "node_MatMul_7", "val_8")
    assert "attention" not in parts(path)
    assert parts(path)["other"] > (64 + 1) * 32 * 4


def test_other_formats_are_one_part(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"12345")
    assert parts(path) == {"graph": 5}
