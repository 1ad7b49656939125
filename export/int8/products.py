"""The matrix products of an ONNX graph: which have constant weights, which run in integers, which module made them."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import numpy_helper

from serving.tensors import Array

PRODUCTS = ("MatMul", "Gemm")
# Embeddings are half of a small encoder's size; matrix products are its time.
QUANTIZED_OPS = ["MatMul", "Gemm", "Gather"]
SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class Product:
    """A product of an activation and a constant matrix in a floating-point graph.

    ``name`` is the node's, ``layer`` the module of the model that made it, ``input``, ``output`` and ``weight`` name
    tensors. The weight has shape (inputs, outputs), or its transpose where ``transposed``.
    """

    name: str
    kind: str
    layer: str
    input: str
    output: str
    weight: str
    transposed: bool

    def matrix(self, weights: dict[str, Array]) -> Array:
        """The weight of shape (inputs, outputs), out of the arrays of a graph's initializers."""
        return weights[self.weight].T if self.transposed else weights[self.weight]


def products(model: onnx.ModelProto) -> list[Product]:
    """The products with constant weights, in the order of the graph; attention's two activations are none."""
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    return [
        Product(
            node.name, node.op_type, _layer(node), node.input[0], node.output[0], node.input[1],
            transposed=attribute(node, "transB"),
        )
        for node in model.graph.node
        if node.op_type in PRODUCTS and node.input[1] in matrices and not attribute(node, "transA")
    ]  # fmt: skip


def attribute(node: onnx.NodeProto, name: str) -> bool:
    """Whether a node has that flag."""
    return any(found.name == name and found.i for found in node.attribute)


def arrays(model: onnx.ModelProto) -> dict[str, Array]:
    """The initializers of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _layer(node: onnx.NodeProto) -> str:
    """The module that PyTorch's exporter recorded, else what the weight is called, else the node's name."""
    scopes = [entry.value for entry in node.metadata_props if entry.key == SCOPES]
    if scopes:
        # From the model down to the operator itself.
        modules = [scope for scope in ast.literal_eval(scopes[0])[:-1] if scope]
        return str(modules[-1]) if modules else node.name
    return node.input[1].removesuffix(".weight") if node.input[1].endswith(".weight") else node.name


def is_integer_product(node: onnx.NodeProto, dequantized: set[str]) -> bool:
    """Whether a node multiplies two matrices that come from DequantizeLinear."""
    return node.op_type in PRODUCTS and dequantized.issuperset(node.input[:2])


@contextmanager
def quantizable(source: Path) -> Iterator[onnx.ModelProto]:
    """The graph as ONNX Runtime's quantizers take it, and their warnings off while the block runs."""
    model = onnx.load(source)
    # They transpose Gemm weights in place and then trip over the shapes recorded for them.
    weights = {initializer.name for initializer in model.graph.initializer}
    kept = [info for info in model.graph.value_info if info.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    # Their advice to pre-process is for graphs of the old exporter; this one knows its shapes.
    logging.disable(logging.WARNING)
    try:
        yield model
    finally:
        logging.disable(logging.NOTSET)
