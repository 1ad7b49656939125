"""Overflow of 16-bit sums: predicted from integers, and so seen on a CPU that has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.int8.dynamic import dynamic_int8
from export.int8.integers import integer_parts
from export.int8.saturation import LIMIT, predict, saturates
from export.int8.static import static_int8
from serving.tensors import Array, Field, Graph, stack
from tests.export.int8.graphs import GRAPH, WIDTH, matrix, one_product, rows


def weights(width: int = WIDTH) -> Array:
    """Small random weights, but for two pairs of large ones of one sign in the second output."""
    weight = 0.1 * matrix(np.random.default_rng(0), width)
    weight[4:8, 1] = 1
    return weight


def quantized(folder: Path, kind: str, *, seven_bits: bool) -> tuple[Path, Path]:
    """A product in FP32 and in INT8."""
    fp32, int8 = one_product(folder / "fp32.onnx", weights()), folder / "int8.onnx"
    if kind == "static":
        static_int8(fp32, int8, GRAPH, rows(16), seven_bits=seven_bits)
    else:
        dynamic_int8(fp32, int8, seven_bits=seven_bits)
    return fp32, int8


def pairs(fp32: Path, int8: Path, row: Array) -> tuple[Array, Array]:
    """All sums of pairs of one row, shape (tokens, pairs, outputs), and the factors that make floats of sums."""
    (part,) = integer_parts(onnx.load(fp32), onnx.load(int8))
    integers, scale, zero = part.quantized(row[np.newaxis])
    products = integers[0].astype(int)[:, :, None] * part.weight.astype(int)
    offset = zero * part.weight.astype(int).sum(axis=0)
    return products[:, ::2] + products[:, 1::2], np.stack([offset, scale * part.weight_scale])


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_predicted_are_the_overflows_that_counting_finds(kind: str, tmp_path: Path) -> None:
    graphs = quantized(tmp_path, kind, seven_bits=False)
    given = rows(16)
    (found,) = predict(*graphs, GRAPH, given).products
    sums = np.concatenate([pairs(*graphs, row["x"])[0] for row in given])
    assert found.overflows == np.sum(np.abs(sums) > LIMIT) > 0
    assert found.total == sums.size
    assert found.largest == np.abs(sums).max()
    assert found.bound >= found.largest
    assert predict(*graphs, GRAPH, given).needs == ("vnni",)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_seven_bits_cannot_overflow(kind: str, tmp_path: Path) -> None:
    graphs = quantized(tmp_path, kind, seven_bits=True)
    saturation = predict(*graphs, GRAPH, rows(16))
    (found,) = saturation.products
    assert (saturation.overflows, saturation.needs) == (0, ())
    sums = np.concatenate([pairs(*graphs, row["x"])[0] for row in rows(16)])
    assert found.largest == np.abs(sums).max() <= found.bound <= LIMIT


def run(path: Path, row: Array, *, precise: bool = False) -> Array:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, stack([{"x": row}], GRAPH.inputs))[0][0])


@pytest.mark.skipif(not saturates(), reason="this CPU adds pairs of 8-bit products without overflow")
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_this_cpu_does_what_is_predicted(kind: str, tmp_path: Path) -> None:
    """With 8 bits the answers are those of sums cut at 16 bits; with 7, or in the precise mode, those of exact ones."""
    row = rows(1, seed=3)[0]["x"]
    row[0, 4:8] = 3  # where the large weights are
    graphs = quantized(tmp_path, kind, seven_bits=False)
    sums, (offset, scale) = pairs(*graphs, row)
    exact, cut = ((kept.sum(axis=1) - offset) * scale for kept in (sums, np.clip(sums, -LIMIT - 1, LIMIT)))
    assert np.abs(cut - exact).max() > 0.1
    np.testing.assert_allclose(run(graphs[1], row), cut, atol=1e-4)
    np.testing.assert_allclose(run(graphs[1], row, precise=True), exact, atol=1e-4)
    graphs = quantized(tmp_path, kind, seven_bits=True)
    sums, (offset, scale) = pairs(*graphs, row)
    np.testing.assert_allclose(run(graphs[1], row), (sums.sum(axis=1) - offset) * scale, atol=1e-4)


def test_tokens_are_sampled_and_an_odd_width_is_padded(tmp_path: Path) -> None:
    fp32, int8 = one_product(tmp_path / "fp32.onnx", weights(33)), tmp_path / "int8.onnx"
    graph = Graph((Field("x", "FP32", ("length", 33)),), ())
    long = [{"x": np.ones((500, 33), np.float32)} for _ in range(100)]
    static_int8(fp32, int8, graph, long[:2], seven_bits=False)
    (found,) = predict(fp32, int8, graph, long).products
    assert found.total == 1024 * 17 * 33
