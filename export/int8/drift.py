"""How far each integer product is from its floating-point original: by its own doing, and with all before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.int8.integers import IntegerProduct, integer_parts
from export.int8.taps import spread, tapped
from serving.tensors import Array, Graph, Tensors

ROWS = 32


@dataclass(frozen=True)
class Drift:
    """The relative error ||int8 - fp32|| / ||fp32|| (Frobenius) of one product's output over some rows.

    ``own`` is what quantizing this product's weights and input does to it, in exact arithmetic; ``accumulated`` is what
    comes out of it when both graphs run whole on this CPU. The inverse square of either is a signal-to-noise ratio.
    """

    name: str
    layer: str
    kind: str
    own: float
    accumulated: float


def measure_drift(fp32: Path, int8: Path, graph: Graph, rows: Sequence[Tensors]) -> list[Drift]:
    """The drift of every integer product over up to 32 of the rows, the largest of its own first.

    ``fp32`` is the graph that ``int8``, static or dynamic, was made of: where it was smoothed, the smoothed one.
    """
    original, quantized = onnx.load(fp32), onnx.load(int8)
    parts = integer_parts(original, quantized)
    for part in parts:
        _simulate(original, part)
    outputs = {part.product.output for part in parts}
    simulated = {_simulated(part) for part in parts}
    sums = {part.product.name: np.zeros(3) for part in parts}
    with tapped(original, graph, outputs | simulated) as run, tapped(quantized, graph, outputs) as run_quantized:
        for row in spread(rows, ROWS):
            _add(sums, parts, run(row), run_quantized(row))
    found = [_drift(part, *sums[part.product.name]) for part in parts]
    return sorted(found, key=lambda drift: -drift.own)


def sensitive(drift: Sequence[Drift], count: int) -> tuple[str, ...]:
    """The names of that many products with the largest drift of their own, to be left in floating point."""
    return tuple(found.name for found in sorted(drift, key=lambda found: -found.own)[:count])


def _simulated(part: IntegerProduct) -> str:
    return f"{part.product.output}:simulated"


def _simulate(model: onnx.ModelProto, part: IntegerProduct) -> None:
    """Give the floating-point graph the product a second time, of what the integers stand for."""
    product, name = part.product, part.product.name
    initializers, nodes = model.graph.initializer, model.graph.node
    rounded = part.dequantized_weight()
    matrix = np.ascontiguousarray(rounded.T if product.transposed else rounded)
    initializers.append(numpy_helper.from_array(matrix, f"{name}:weight"))
    grid = [f"{name}:scale", f"{name}:zero"]
    if part.scale is None or part.zero is None:
        nodes.append(helper.make_node("DynamicQuantizeLinear", [product.input], [f"{name}:integers", *grid]))
    else:
        initializers.append(numpy_helper.from_array(np.array(part.scale, np.float32), grid[0]))
        initializers.append(numpy_helper.from_array(np.array(part.zero, np.uint8), grid[1]))
        nodes.append(helper.make_node("QuantizeLinear", [product.input, *grid], [f"{name}:integers"]))
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}:integers", *grid], [f"{name}:input"]))
    twin = onnx.NodeProto()
    twin.CopyFrom(next(node for node in nodes if node.name == name))
    twin.name, twin.output[0] = f"{name}:simulated", _simulated(part)
    twin.input[:2] = [f"{name}:input", f"{name}:weight"]
    nodes.append(twin)


def _add(sums: Mapping[str, Array], parts: Sequence[IntegerProduct], exact: Tensors, quantized: Tensors) -> None:
    """Add the squares of one row: own error, accumulated error, and what they are relative to."""
    for part in parts:
        wanted = exact[part.product.output]
        own, accumulated = exact[_simulated(part)] - wanted, quantized[part.product.output] - wanted
        sums[part.product.name] += [np.sum(np.square(values)) for values in (own, accumulated, wanted)]


def _drift(part: IntegerProduct, own: float, accumulated: float, original: float) -> Drift:
    product = part.product
    relative = [float(np.sqrt(error / max(original, 1e-12))) for error in (own, accumulated)]
    return Drift(product.name, product.layer, product.kind, *relative)
