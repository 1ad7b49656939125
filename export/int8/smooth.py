"""SmoothQuant: what is hard to quantize about activations, moved into the weights that multiply them.

Own code, because ONNX Runtime's option calls neural-compressor, whose releases since 3.0 have none for ONNX, and whose
2.6 stacks the activations of all rows in memory and so fails on rows of unlike length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tqdm import tqdm

from export.int8.products import Product, arrays, attribute, products
from export.int8.taps import tapped
from serving.tensors import Array, Graph, Tensors

SMALLEST = 1e-5
# A constant input of a node by its place, and what it is to be divided by.
Divided = tuple[onnx.NodeProto, int, Array]


def smooth(source: Path, target: Path, graph: Graph, rows: Sequence[Tensors], alpha: float = 0.7) -> None:
    """Write a graph of the same function, in which no input channel of a product is far larger than the others.

    Channel j of an activation X is divided by max|X_j|^alpha / max|W_j|^(1 - alpha), and row j of the weights that
    multiply it is multiplied by that; query, key and value, which share an input, share the factors. The division goes
    into the LayerNormalization, the scale or the product that makes X where nothing else reads X; else it is a Mul of
    its own. Names of products stay. Rows run one by one and leave one maximum of each channel behind. With ``alpha``
    0.7, static INT8 of MiniLM on SST-2 moved logits by 0.030 in the mean, unsmoothed by 0.043, and with 0.5, the
    paper's, by 0.057: what follows a Gelu gets worse.
    Source: Xiao et al., "SmoothQuant", ICML 2023, equation 4.
    """
    shared: dict[str, list[Product]] = defaultdict(list)
    for product in products(onnx.load(source)):
        shared[product.input].append(product)
    maxima = _channel_maxima(source, graph, rows, shared)
    model = _Rewritten(onnx.load(source))
    for name, readers in shared.items():
        matrices = [product.matrix(model.weights) for product in readers]
        factors = _factors(maxima[name], np.max([np.abs(matrix).max(axis=1) for matrix in matrices], axis=0), alpha)
        nodes = [model.nodes[product.name] for product in readers]
        for product, node in zip(readers, nodes, strict=True):
            model.divide(node, 1, 1 / (factors if product.transposed else factors[:, None]))
        if (folded := model.foldable(name, nodes, factors)) is None:
            model.insert_division(name, nodes, factors)
        else:
            for node, index, divisor in folded:
                model.divide(node, index, divisor)
    model.save(target)


def _channel_maxima(source: Path, graph: Graph, rows: Sequence[Tensors], names: Collection[str]) -> dict[str, Array]:
    """The largest absolute value of each channel of those tensors over the rows: shape (channels,)."""
    found: dict[str, Array] = {}
    with tapped(onnx.load(source), graph, names) as run:
        for row in tqdm(rows, desc="smoothing", unit="row", leave=False):
            for name, values in run(row).items():
                most = np.abs(values.reshape(-1, values.shape[-1])).max(axis=0)
                found[name] = np.maximum(found[name], most) if name in found else most
    return found


def _factors(activations: Array, weights: Array, alpha: float) -> Array:
    """The factor of each channel, FP32; 1 where a channel is always zero or multiplied by zero."""
    factors = np.maximum(activations, SMALLEST) ** alpha / np.maximum(weights, SMALLEST) ** (1 - alpha)
    dead = (activations < SMALLEST) | (weights < SMALLEST)
    return np.where(dead, 1.0, np.maximum(factors, SMALLEST)).astype(np.float32)


class _Rewritten:
    """A graph whose constants change; others that share a constant keep theirs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.weights = arrays(model)
        self.nodes = {node.name: node for node in model.graph.node}
        self.makers = {output: node for node in model.graph.node for output in node.output}
        self.outputs = {output.name for output in model.graph.output}

    def divide(self, node: onnx.NodeProto, index: int, divisor: Array) -> None:
        """Give a node a constant input of its own: the one it has, divided."""
        value = np.asarray(self.weights[node.input[index]] / divisor, np.float32)
        name = f"{node.input[index]}/{node.name}"
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        self.weights[name] = value
        node.input[index] = name

    def foldable(self, name: str, readers: Sequence[onnx.NodeProto], factors: Array) -> list[Divided] | None:
        """The constants whose division divides a tensor that only ``readers`` read; None where there are none."""
        node = self.makers.get(name)
        others = [n for n in self.model.graph.node if name in n.input and n not in readers]
        if node is None or others or name in self.outputs:
            return None
        constant = [
            self.weights[key].shape[-1:] == factors.shape if key in self.weights else False for key in node.input
        ]
        weight = factors[:, None] if attribute(node, "transB") else factors
        if node.op_type == "LayerNormalization" and all(constant[1:]):
            return [(node, index, factors) for index in range(1, len(node.input))]
        if node.op_type == "Mul" and sum(constant) == 1:
            return [(node, constant.index(True), factors)]
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in self.weights and all(constant[2:]):
            return [(node, 1, weight), *((node, index, factors) for index in range(2, len(node.input)))]
        if node.op_type == "Add" and sum(constant) == 1:
            bias = constant.index(True)
            product = self.makers.get(node.input[1 - bias])
            if product is not None and product.op_type == "MatMul":
                folded = self.foldable(node.input[1 - bias], [node], factors)
                return None if folded is None else [*folded, (node, bias, factors)]
        return None

    def insert_division(self, name: str, readers: Sequence[onnx.NodeProto], factors: Array) -> None:
        """Have ``readers`` read the tensor divided, which a Mul before the first of them does."""
        divided, scale = f"{name}/smoothed", f"{name}/factors"
        self.model.graph.initializer.append(numpy_helper.from_array(1 / factors, scale))
        nodes = self.model.graph.node
        first = min(list(nodes).index(reader) for reader in readers)
        for reader in readers:
            reader.input[0] = divided
        nodes.insert(first, helper.make_node("Mul", [name, scale], [divided], name=divided))

    def save(self, target: Path) -> None:
        """Write the graph without the constants that nothing reads any more."""
        graph = self.model.graph
        read = {name for node in graph.node for name in node.input} | self.outputs
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        onnx.save(self.model, target)
