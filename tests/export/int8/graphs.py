"""Small graphs of known weights, which need no training: one product, or a block with all that a graph can hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.int8.products import PRODUCTS, is_integer_product
from serving.backends import open_backend
from serving.tensors import Array, Field, Graph, Tensors, stack

WIDTH = 32
GRAPH = Graph((Field("x", "FP32", ("length", WIDTH)),), (Field("y", "FP32", ("length", WIDTH)),))


def saved(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, Array], width: int = WIDTH) -> Path:
    """A graph from ``x`` to ``y``, both of shape (batch, length, width)."""
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length", width]) for name in ("x", "y")
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [given], [made], tensors)
    onnx.save(onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[OPSET], ir_version=10)), path)
    return path


OPSET = helper.make_opsetid("", 20)


def one_product(path: Path, weight: Array) -> Path:
    """y = x @ weight, square."""
    return saved(path, [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], {"w": weight}, len(weight))


def block(path: Path, seed: int = 0, outlier: float = 1) -> Path:
    """A normalised block: two products that share an input, one after a plain product, one beside a residual.

    ``outlier`` is how much larger two channels of the normalised activation are, and how much smaller their weights.
    """
    generator = np.random.default_rng(seed)
    weights = {f"w{index}": matrix(generator) for index in range(5)}
    weights["scale"] = np.ones(WIDTH, np.float32)
    weights["scale"][[3, 20]] = outlier
    for name in ("w0", "w1"):
        weights[name][[3, 20]] /= outlier
    weights |= {name: generator.normal(size=WIDTH).astype(np.float32) for name in ("shift", "bias")}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["n"], name="norm"),
        helper.make_node("MatMul", ["n", "w0"], ["left"], name="left"),
        helper.make_node("MatMul", ["n", "w1"], ["right"], name="right"),
        helper.make_node("Mul", ["left", "right"], ["mixed"], name="mix"),
        helper.make_node("MatMul", ["mixed", "w2"], ["up"], name="up"),
        helper.make_node("Add", ["up", "bias"], ["biased"], name="bias_add"),
        helper.make_node("MatMul", ["biased", "w3"], ["down"], name="down"),
        helper.make_node("Add", ["down", "mixed"], ["sum"], name="residual"),
        helper.make_node("MatMul", ["sum", "w4"], ["y"], name="last"),
    ]
    return saved(path, nodes, weights)


def matrix(generator: np.random.Generator, width: int = WIDTH) -> Array:
    """A square matrix that keeps the size of what it multiplies."""
    return (generator.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32)


def rows(count: int, seed: int = 1, width: int = WIDTH) -> list[Tensors]:
    """Rows of 3 to 9 tokens."""
    generator = np.random.default_rng(seed)
    return [{"x": generator.normal(size=(3 + index % 7, width)).astype(np.float32)} for index in range(count)]


def answers(path: Path, given: list[Tensors]) -> list[Array]:
    """What a graph makes of each row alone."""
    backend = open_backend("onnxruntime", {"g": path})
    return [backend.run("g", stack([row], GRAPH.inputs))["y"][0] for row in given]


def distance(path: Path, reference: Path, given: list[Tensors]) -> float:
    """The relative error of a graph's answers against another's."""
    found, wanted = (np.concatenate(answers(graph, given)) for graph in (path, reference))
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def integer_products(path: Path) -> tuple[int, int]:
    """How many matrix products of a graph run in integers, and how many there are."""
    nodes = onnx.load(path).graph.node
    dequantized = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    # Of a static graph, ONNX Runtime makes one integer operator of a product and the DequantizeLinear before it.
    integer = [n for n in nodes if n.op_type == "MatMulInteger" or is_integer_product(n, dequantized)]
    return len(integer), sum(node.op_type in ("MatMulInteger", *PRODUCTS) for node in nodes)
