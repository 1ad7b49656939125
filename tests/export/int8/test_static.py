"""Static INT8: integer products as in the dynamic graph, and no row that moves another."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from export.int8.static import static_int8
from finetune.checkpoint import open_checkpoint
from serving.backends import open_backend
from serving.bundle import open_bundle
from serving.errors import InvalidInput
from serving.tasks import Task
from serving.tensors import Array, Tensors, stack
from tests.export.int8.graphs import GRAPH, block, distance, integer_products, rows


def encoded(checkpoint: Path, task: Task) -> list[Tensors]:
    rows = open_checkpoint(checkpoint).validation()
    return [task.encode({name: row[name] for name in ("text", "text_pair")}) for row in rows]


def optimized(path: Path, folder: Path) -> list[onnx.NodeProto]:
    """The operators that ONNX Runtime makes of a graph."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(onnx.load(folder / "optimized.onnx").graph.node)


def test_every_product_with_a_weight_runs_in_integers(int8: Path, tmp_path: Path) -> None:
    assert open_bundle(int8).manifest.precision == "int8-static"
    assert integer_products(int8 / "model.onnx") == (8, 10)
    kinds = [node.op_type for node in optimized(int8 / "model.onnx", tmp_path)]
    assert kinds.count("MatMulIntegerToFloat") + kinds.count("QGemm") == 8
    assert "DynamicQuantizeLinear" not in kinds


def test_weights_are_signed_per_channel_and_the_file_is_smaller(fp32: Path, int8: Path) -> None:
    graph = onnx.load(int8 / "model.onnx").graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    weights = [makers[node.input[1]].input for node in products if makers[node.input[1]].op_type == "DequantizeLinear"]
    assert len(weights) == 8
    for weight, scale, _ in weights:
        assert initializers[weight].data_type == onnx.TensorProto.INT8
        assert initializers[scale].dims[0] in initializers[weight].dims
    assert (int8 / "model.onnx").stat().st_size < 0.9 * (fp32 / "model.onnx").stat().st_size


def test_residual_additions_get_floats_and_embeddings_stay_integers(int8: Path, tmp_path: Path) -> None:
    nodes = optimized(int8 / "model.onnx", tmp_path)
    dequantized = {node.output[0]: node for node in nodes if node.op_type == "DequantizeLinear"}
    gathered = {node.output[0] for node in nodes if node.op_type == "Gather"}
    # All that is made floats again are rows of the embedding tables.
    assert dequantized
    assert {node.input[0] for node in dequantized.values()} <= gathered


def test_a_row_has_the_same_answer_alone_and_in_any_batch(int8: Path, checkpoint: Path) -> None:
    task = open_bundle(int8).open_task()
    (graph,) = task.graphs.values()
    backend = open_backend("onnxruntime", {"g": int8 / "model.onnx"})
    rows = encoded(checkpoint, task)
    rows.append(task.encode({"text": "sun " * 40, "text_pair": "rain " * 40}))

    def logits(batch: list[Tensors]) -> Array:
        return np.asarray(backend.run("g", stack(batch, graph.inputs))["logits"])

    alone = np.concatenate([logits([row]) for row in rows])
    generator = np.random.default_rng(0)
    for size in (2, 3, 8, len(rows)):
        for _ in range(4):
            chosen = generator.permutation(len(rows))[:size]
            np.testing.assert_allclose(logits([rows[index] for index in chosen]), alone[chosen], atol=1e-5)


def test_the_source_is_left_as_it_is_and_logging_too(fp32: Path, checkpoint: Path, tmp_path: Path) -> None:
    source, before = fp32 / "model.onnx", (fp32 / "model.onnx").read_bytes()
    task = open_bundle(fp32).open_task()
    (graph,) = task.graphs.values()
    static_int8(source, tmp_path / "int8.onnx", graph, encoded(checkpoint, task)[:4], seven_bits=True)
    assert source.read_bytes() == before
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(Exception, match="pars"):
        static_int8(tmp_path / "bad.onnx", tmp_path / "int8.onnx", graph, [], seven_bits=True)
    assert logging.getLogger("any").isEnabledFor(logging.WARNING)


def test_only_standard_operators_are_used(int8: Path) -> None:
    assert {node.domain for node in onnx.load(int8 / "model.onnx").graph.node} == {""}


def test_a_name_that_is_no_product_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"floats.*'middle'.*left, right"):
        static_int8(
            block(tmp_path / "g.onnx"), tmp_path / "int8.onnx", GRAPH, rows(2), seven_bits=True, floats=["middle"]
        )


def test_every_method_gives_answers_near_those_of_floats(tmp_path: Path) -> None:
    source = block(tmp_path / "fp32.onnx")
    for method in ("minmax", "entropy", "percentile"):
        static_int8(source, tmp_path / "int8.onnx", GRAPH, rows(16), method=method, seven_bits=True)
        assert integer_products(tmp_path / "int8.onnx") == (5, 5)
        assert 0 < distance(tmp_path / "int8.onnx", source, rows(6, seed=9)) < 0.1
