"""Drift by layer: the damaged product is named first, and its own error is told from what came before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.int8.drift import measure_drift, sensitive
from export.int8.dynamic import dynamic_int8
from export.int8.static import static_int8
from tests.export.int8.graphs import GRAPH, block, rows

NAMES = ["left", "right", "up", "down", "last"]


@pytest.fixture(params=["static", "dynamic"])
def graphs(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A block in FP32 and in INT8."""
    fp32, int8 = block(tmp_path / "fp32.onnx"), tmp_path / "int8.onnx"
    if request.param == "static":
        static_int8(fp32, int8, GRAPH, rows(16), seven_bits=True)
    else:
        dynamic_int8(fp32, int8, seven_bits=True)
    return fp32, int8


def coarser(path: Path, weight: str, step: int) -> None:
    """Leave the integers of a weight only every ``step``-th value."""
    model = onnx.load(path)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == f"{weight}_quantized")
    integers = numpy_helper.to_array(tensor).astype(int)
    tensor.CopyFrom(numpy_helper.from_array((integers // step * step).astype(np.int8), tensor.name))
    onnx.save(model, path)


def test_every_integer_product_is_measured_and_all_drift_a_little(graphs: tuple[Path, Path]) -> None:
    found = measure_drift(*graphs, GRAPH, rows(8, seed=5))
    assert sorted(drift.name for drift in found) == sorted(NAMES)
    assert [drift.own for drift in found] == sorted((drift.own for drift in found), reverse=True)
    assert all(0.001 < drift.own < 0.05 and 0.001 < drift.accumulated < 0.1 for drift in found)


def test_a_product_that_is_quantized_too_coarsely_stands_first(graphs: tuple[Path, Path]) -> None:
    before = {drift.name: drift for drift in measure_drift(*graphs, GRAPH, rows(8, seed=5))}
    coarser(graphs[1], "w2", 32)
    worst, *others = measure_drift(*graphs, GRAPH, rows(8, seed=5))
    assert worst.name == "up"
    assert worst.own > 5 * before["up"].own
    for drift in others:
        assert drift.own == pytest.approx(before[drift.name].own)
    # What comes after it inherits its error, what comes before does not.
    after = {drift.name: drift.accumulated for drift in others}
    assert after["down"] > 3 * before["down"].accumulated
    assert after["left"] == pytest.approx(before["left"].accumulated)


def test_sensitive_products_can_be_left_in_floats(tmp_path: Path) -> None:
    fp32, int8 = block(tmp_path / "fp32.onnx", outlier=60), tmp_path / "int8.onnx"
    static_int8(fp32, int8, GRAPH, rows(16), seven_bits=True)
    drift = measure_drift(fp32, int8, GRAPH, rows(8))
    names = sensitive(drift, 2)
    assert names == tuple(found.name for found in drift[:2])
    static_int8(fp32, tmp_path / "mixed.onnx", GRAPH, rows(16), seven_bits=True, floats=names)
    mixed = measure_drift(fp32, tmp_path / "mixed.onnx", GRAPH, rows(8))
    assert {found.name for found in mixed} == set(NAMES) - set(names)
    kept = {node.name: node.input[1] for node in onnx.load(tmp_path / "mixed.onnx").graph.node if node.name in NAMES}
    weights = {tensor.name for tensor in onnx.load(fp32).graph.initializer}
    assert {name for name, weight in kept.items() if weight in weights} == set(names)
