"""SmoothQuant: the same function, easier to quantize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from export.int8.products import products
from export.int8.smooth import smooth
from export.int8.static import static_int8
from finetune.checkpoint import open_checkpoint
from serving.backends import open_backend
from serving.bundle import open_bundle
from serving.tensors import stack
from tests.export.int8.graphs import GRAPH, answers, block, distance, rows


@pytest.fixture
def smoothed(tmp_path: Path) -> tuple[Path, Path]:
    """A block with outliers, before and after."""
    before = block(tmp_path / "before.onnx", outlier=60)
    smooth(before, tmp_path / "after.onnx", GRAPH, rows(16))
    return before, tmp_path / "after.onnx"


def test_the_function_is_the_same(smoothed: tuple[Path, Path]) -> None:
    for found, wanted in zip(*(answers(path, rows(6, seed=9)) for path in smoothed), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_int8_is_closer_after_it(smoothed: tuple[Path, Path], tmp_path: Path) -> None:
    errors = []
    for index, path in enumerate(smoothed):
        int8 = tmp_path / f"{index}.onnx"
        static_int8(path, int8, GRAPH, rows(16), seven_bits=True)
        errors.append(distance(int8, smoothed[0], rows(6, seed=9)))
    assert errors[1] < 0.5 * errors[0]


def test_it_is_folded_where_nothing_else_reads_the_input(smoothed: tuple[Path, Path]) -> None:
    before, after = (onnx.load(path).graph for path in smoothed)
    added = {node.name for node in after.node} - {node.name for node in before.node}
    # Into the normalisation for left and right, and into product and bias for down; up shares its input with a
    # residual, and the input of last is a sum of two activations.
    assert added == {"mixed/smoothed", "sum/smoothed"}
    names = {tensor.name for tensor in after.initializer}
    assert "scale" not in names
    assert len(names) == len(before.initializer) + len(added)


def test_products_keep_their_names(smoothed: tuple[Path, Path]) -> None:
    before, after = ([product.name for product in products(onnx.load(path))] for path in smoothed)
    assert before == after


def test_a_real_model_answers_as_before(fp32: Path, checkpoint: Path, tmp_path: Path) -> None:
    """Query, key and value share an input with a residual; the last two products are Gemm."""
    task = open_bundle(fp32).open_task()
    (graph,) = task.graphs.values()
    texts = open_checkpoint(checkpoint).validation()[:8]
    given = [task.encode({name: row[name] for name in ("text", "text_pair")}) for row in texts]
    smooth(fp32 / "model.onnx", tmp_path / "s.onnx", graph, given, alpha=0.7)
    wanted, found = (
        [open_backend("onnxruntime", {"g": path}).run("g", stack([row], graph.inputs))["logits"] for row in given]
        for path in (fp32 / "model.onnx", tmp_path / "s.onnx")
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert [tensor for tensor in onnx.load(tmp_path / "s.onnx").graph.initializer if "/" in tensor.name]
