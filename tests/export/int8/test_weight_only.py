"""Weights of 4 and 8 bits: smaller files, answers near those of FP32."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest

from export.int8.weight_only import weight_only
from serving.backends import open_backend
from serving.tensors import Array, stack
from tests.export.int8.graphs import GRAPH, answers, block, distance, rows

BOUNDS = {8: 0.03, 4: 0.35}


@pytest.mark.parametrize("bits", [4, 8])
def test_answers_are_near_and_fewer_bits_take_less_space(tmp_path: Path, bits: Literal[4, 8]) -> None:
    fp32, small = block(tmp_path / "fp32.onnx"), tmp_path / "small.onnx"
    weight_only(fp32, small, bits=bits)
    assert 0 < distance(small, fp32, rows(6)) < BOUNDS[bits]
    kinds = [node.op_type for node in onnx.load(small).graph.node]
    assert kinds.count("MatMulNBits") == 5
    stored = {tensor.name: len(tensor.raw_data) for tensor in onnx.load(small).graph.initializer}
    # Five matrices of 32 x 32, each with 32 scales.
    assert sum(size for name, size in stored.items() if name.startswith("w")) == 5 * (128 * bits + 32 * 4)


def test_a_row_has_the_same_answer_alone_and_in_a_batch(tmp_path: Path) -> None:
    weight_only(block(tmp_path / "fp32.onnx"), tmp_path / "small.onnx", bits=8)
    given = [row for row in rows(21) if len(row["x"]) == 5]
    backend = open_backend("onnxruntime", {"g": tmp_path / "small.onnx"})
    together: Array = backend.run("g", stack(given, GRAPH.inputs))["y"]
    for found, wanted in zip(together, answers(tmp_path / "small.onnx", given), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
