"""ONNX Runtime as graphs are served by it: what runs them, on how many threads, and exactly where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.backends import onnxruntime, open_backend
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


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (["AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (
            ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
            ["CUDAExecutionProvider", "CPUExecutionProvider"],
        ),
    ],
)
def test_cuda_comes_first_where_it_is_there(
    available: list[str], chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "available", lambda: available)
    assert onnxruntime.providers() == chosen


def test_a_run_uses_the_thread_that_calls_it_and_keeps_no_plan_for_each_length() -> None:
    options = onnxruntime.session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert not options.enable_mem_pattern
