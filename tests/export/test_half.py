"""FP16 and BF16 graphs take and give what FP32 ones do, and are refused where nothing calculates in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export import half
from export.half import convert, supported
from serving.processor import Processor

WEIGHTS = np.array([[0.1, 1e-6], [1 / 3, 3.0], [-2.0, 5.0]], np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """x [batch, 3] times weights, plus a bias of which one value is beyond FP16."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Add", ["y", "bias"], ["z"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 2])
    bias = np.array([0.5, 1e6], np.float32)
    held = [numpy_helper.from_array(WEIGHTS, "w"), numpy_helper.from_array(bias, "bias")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [z], held), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.save(model, tmp_path / "fp32.onnx")
    return tmp_path / "fp32.onnx"


def answer(path: Path) -> np.ndarray:
    rows = np.array([[1.0, 2.0, -0.5], [0.25, 0.0, 1.0]], np.float32)
    (found,) = ReferenceEvaluator(onnx.load(path)).run(None, {"x": rows})
    return found


@pytest.mark.parametrize(
    ("precision", "kind", "tolerance"),
    [("fp16", TensorProto.FLOAT16, 1e-3), ("bf16", TensorProto.BFLOAT16, 1e-2)],
)
def test_weights_change_and_inputs_and_outputs_stay(
    source: Path, tmp_path: Path, precision: str, kind: int, tolerance: float
) -> None:
    target = tmp_path / "half.onnx"
    convert(source, target, precision)
    model = onnx.load(target)
    onnx.checker.check_model(model, full_check=True)
    assert {tensor.data_type for tensor in model.graph.initializer} == {kind}
    assert {v.type.tensor_type.elem_type for v in [*model.graph.input, *model.graph.output]} == {TensorProto.FLOAT}
    found, expected = answer(target), answer(source)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=tolerance)


def test_bf16_keeps_the_range_that_fp16_cuts(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "fp16.onnx", "fp16")
    convert(source, tmp_path / "bf16.onnx", "bf16")
    np.testing.assert_allclose(answer(tmp_path / "bf16.onnx"), answer(source), rtol=1e-2)
    assert answer(tmp_path / "fp16.onnx")[0, 1] < 1e5


@pytest.mark.parametrize(
    ("precision", "machine", "features", "reason"),
    [
        ("fp16", "aarch64", "Features: fp asimd fphp asimdhp", ""),
        ("fp16", "arm64", "", ""),
        ("fp16", "aarch64", "Features: fp asimd", "no FP16 arithmetic for this CPU (aarch64)"),
        ("fp16", "x86_64", "flags: avx512f avx512_fp16", "no FP16 arithmetic for this CPU (x86_64)"),
        ("bf16", "aarch64", "Features: asimdhp bf16", "multiplies no matrices in BF16 on a CPU"),
    ],
)
def test_a_cpu_that_only_converts_is_refused(precision: str, machine: str, features: str, reason: str) -> None:
    told = supported(precision, "cpu", Processor("", machine, frozenset(features.split())))
    assert reason in told
    assert bool(told) == bool(reason)
    assert not told or "give fp32 or int8" in told


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_cuda_needs_the_runtime_for_it(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "available", lambda: ["CPUExecutionProvider"])
    assert "install onnxruntime-gpu instead of onnxruntime" in supported(precision, "cuda")
    monkeypatch.setattr(half, "available", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert supported(precision, "cuda") == ""
