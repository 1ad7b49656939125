"""ONNX Runtime in its precise mode: 8-bit products that are exact on every processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from serving.backends import open_backend
from serving.processor import VNNI

DEPTH = 64


def largest_products(path: Path) -> Path:
    """A graph that multiplies unsigned rows with weights that are all as large as 8 bits with a sign allow."""
    weights = numpy_helper.from_array(np.full((DEPTH, 8), 127, np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["rows", "weights"], ["sums"])],
        "largest",
        [helper.make_tensor_value_info("rows", TensorProto.UINT8, ["batch", DEPTH])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, ["batch", 8])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_sums_of_the_largest_products_are_exact_also_without_vnni(tmp_path: Path) -> None:
    """In its fast mode, a processor without VNNI gives half of this: each pair of products stops at 32767."""
    backend = open_backend("onnxruntime", {"model": largest_products(tmp_path / "model.onnx")}, [VNNI])
    sums = backend.run("model", {"rows": np.full((1, DEPTH), 255, np.uint8)})["sums"]
    np.testing.assert_array_equal(sums, np.full((1, 8), 255 * 127 * DEPTH))
    backend.close()
