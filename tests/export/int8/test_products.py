"""What counts as a product with constant weights, and what as an integer one."""

from __future__ import annotations

from pathlib import Path

import onnx

from export.int8.products import products
from tests.export.int8.graphs import integer_products
from tests.export.test_axes import written


def test_a_graph_without_weights_has_no_integer_product(tmp_path: Path) -> None:
    path = written(tmp_path / "g.onnx", ["b", "s"], ["b", "s"], ["b", 2])
    assert integer_products(path) == (0, 0)
    assert products(onnx.load(path)) == []


def test_products_are_named_after_the_modules_that_made_them(fp32: Path) -> None:
    found = products(onnx.load(fp32 / "model.onnx"))
    layers = [product.layer.removeprefix("bert.") for product in found]
    assert layers[:3] == [f"encoder.layer.0.attention.self.{part}" for part in ("query", "key", "value")]
    assert layers[-2:] == ["pooler.dense", "classifier"]
    assert len({product.name for product in found}) == 8


def test_without_such_records_the_weight_or_the_node_gives_the_name(fp32: Path) -> None:
    model = onnx.load(fp32 / "model.onnx")
    for node in model.graph.node:
        del node.metadata_props[:]
    found = products(model)
    assert [product.layer.removeprefix("bert.") for product in found[-2:]] == ["pooler.dense", "classifier"]
    assert found[0].layer == found[0].name
