"""INT8: the products of every weight are integer ones, and the file is smaller."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from export.quantize import dynamic_int8, integer_products

from serving.backends import open_backend
from tests.export.test_onnx_graph import written


@pytest.fixture(scope="module")
def dynamic(fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dynamic INT8 graph of the small model. Read only."""
    path = tmp_path_factory.mktemp("dynamic") / "int8.onnx"
    dynamic_int8(fp32 / "model.onnx", path)
    return path


def test_every_product_with_a_weight_is_an_integer_one(fp32: Path, dynamic: Path) -> None:
    """One layer: query, key, value, output, two feed-forward, pooler, classifier; the two of attention stay FP32."""
    assert integer_products(fp32 / "model.onnx") == (0, 10)
    assert integer_products(dynamic) == (8, 10)


def test_weights_are_signed_per_channel_and_the_file_is_smaller(fp32: Path, dynamic: Path) -> None:
    graph = onnx.load(dynamic).graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    weights = [node.input[1] for node in graph.node if node.op_type == "MatMulInteger"]
    assert {initializers[name].data_type for name in weights} == {onnx.TensorProto.INT8}
    for name in weights:
        scale = initializers[name.replace("_quantized", "_scale")]
        assert list(scale.dims) == list(initializers[name].dims[1:])
    assert dynamic.stat().st_size < 0.9 * (fp32 / "model.onnx").stat().st_size


def test_the_source_is_left_as_it_is_and_the_answers_are_close(fp32: Path, tmp_path: Path) -> None:
    source, before = fp32 / "model.onnx", (fp32 / "model.onnx").read_bytes()
    dynamic_int8(source, tmp_path / "int8.onnx")
    assert source.read_bytes() == before
    ids = np.arange(5, 17).reshape(1, -1)
    batch = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "attention_mask": np.ones_like(ids)}
    wanted, found = (
        open_backend("onnxruntime", {"model": path}).run("model", batch)["logits"]
        for path in (source, tmp_path / "int8.onnx")
    )
    assert 0 < np.max(np.abs(wanted - found)) < 0.1 * np.max(np.abs(wanted))


def test_logging_is_as_before_even_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception, match="pars"):
        dynamic_int8(tmp_path / "bad.onnx", tmp_path / "int8.onnx")
    assert logging.getLogger("any").isEnabledFor(logging.WARNING)


def test_a_graph_without_weights_has_no_integer_product(tmp_path: Path) -> None:
    path = written(tmp_path / "g.onnx", ["b", "s"], ["b", "s"], ["b", 2])
    assert integer_products(path) == (0, 0)
