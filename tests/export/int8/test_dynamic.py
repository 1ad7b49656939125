"""INT8: the products of every weight are integer ones, and the file is smaller."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest

from export.int8.dynamic import dynamic_int8
from serving.backends import open_backend
from tests.export.int8.graphs import integer_products


@pytest.fixture(scope="module")
def dynamic(fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dynamic INT8 graph of the small model. Read only."""
    path = tmp_path_factory.mktemp("dynamic") / "int8.onnx"
    dynamic_int8(fp32 / "model.onnx", path, seven_bits=True)
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
    dynamic_int8(source, tmp_path / "int8.onnx", seven_bits=True)
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
        dynamic_int8(tmp_path / "bad.onnx", tmp_path / "int8.onnx", seven_bits=True)
    assert logging.getLogger("any").isEnabledFor(logging.WARNING)


def test_one_scale_for_each_product_where_that_is_asked_for(fp32: Path, tmp_path: Path) -> None:
    dynamic_int8(fp32 / "model.onnx", tmp_path / "int8.onnx", per_channel=False, seven_bits=True)
    graph = onnx.load(tmp_path / "int8.onnx").graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    weights = [node.input[1] for node in graph.node if node.op_type == "MatMulInteger"]
    assert [list(initializers[name.replace("_quantized", "_scale")].dims) for name in weights] == [[]] * 8


def test_seven_bits_are_half_the_range(fp32: Path, tmp_path: Path) -> None:
    largest = {}
    for seven_bits in (True, False):
        dynamic_int8(fp32 / "model.onnx", tmp_path / "int8.onnx", seven_bits=seven_bits)
        graph = onnx.load(tmp_path / "int8.onnx").graph
        weights = {node.input[1] for node in graph.node if node.op_type == "MatMulInteger"}
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in weights]
        largest[seven_bits] = max(int(np.abs(array.astype(int)).max()) for array in arrays)
    assert largest == {True: 64, False: 127}
