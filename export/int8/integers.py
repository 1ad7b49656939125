"""The integer products of an INT8 graph: their weights and scales, and what they make of an activation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from export.int8.products import Product, arrays, attribute, is_integer_product, products
from serving.tensors import Array

LEAST, MOST = 0, 255


@dataclass(frozen=True)
class IntegerProduct:
    """One product of a floating-point graph as its INT8 graph has it.

    ``weight`` are integers of shape (inputs, outputs); ``weight_scale`` and ``weight_zero`` fit them. ``scale`` and
    ``zero`` are the activation's, None where each row gets its own (dynamic).
    """

    product: Product
    weight: Array
    weight_scale: Array
    weight_zero: Array
    scale: float | None
    zero: int | None

    def quantized(self, values: Array) -> tuple[Array, float, int]:
        """The unsigned 8-bit integers of one row's activation, their scale and their zero point.

        Source: ONNX operators QuantizeLinear and DynamicQuantizeLinear.
        """
        scale, zero = self.scale, self.zero
        if scale is None or zero is None:
            low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
            scale = (high - low) / MOST or 1.0
            zero = int(np.clip(np.rint(-low / scale), LEAST, MOST))
        return np.clip(np.rint(values / np.float32(scale)) + zero, LEAST, MOST).astype(np.uint8), scale, zero

    def dequantized_weight(self) -> Array:
        """The matrix that the integers stand for, in FP32."""
        return np.asarray((self.weight.astype(np.float32) - self.weight_zero) * self.weight_scale, np.float32)


def integer_parts(fp32: onnx.ModelProto, int8: onnx.ModelProto) -> list[IntegerProduct]:
    """The products of ``fp32`` that run in integers in ``int8``, a static or dynamic graph made of it, in its order."""
    known = {product.name: product for product in products(fp32)}
    found = {part.product.name: part for part in (*_static(known, int8), *_dynamic(known, int8))}
    return [found[name] for name in known if name in found]


def _static(known: dict[str, Product], int8: onnx.ModelProto) -> Iterator[IntegerProduct]:
    """Products between two DequantizeLinear: of a weight, and of a QuantizeLinear."""
    weights = arrays(int8)
    makers = {output: node for node in int8.graph.node for output in node.output}
    dequantized = {name for name, node in makers.items() if node.op_type == "DequantizeLinear"}
    for node in int8.graph.node:
        if node.name not in known or not is_integer_product(node, dequantized):
            continue
        activation, weight = ([weights.get(name) for name in makers[name].input] for name in node.input[:2])
        (_, scale, zero), (integers, weight_scale, weight_zero) = activation, weight
        if scale is not None and zero is not None and integers is not None and weight_scale is not None:
            matrix = integers.T if attribute(node, "transB") else integers
            offsets = np.zeros_like(weight_scale, np.int32) if weight_zero is None else weight_zero.astype(np.int32)
            yield IntegerProduct(known[node.name], matrix, weight_scale, offsets, float(scale), int(zero))


def _dynamic(known: dict[str, Product], int8: onnx.ModelProto) -> Iterator[IntegerProduct]:
    """MatMulInteger under the names that ONNX Runtime's quantizer gives them; a Gemm it splits first."""
    weights = arrays(int8)
    named = {f"{name}{part}_quant": product for name, product in known.items() for part in ("", "_MatMul")}
    for node in int8.graph.node:
        if node.op_type == "MatMulInteger" and node.name in named and node.input[1] in weights:
            scale, zero = (weights[node.input[1].removesuffix("_quantized") + end] for end in ("_scale", "_zero_point"))
            yield IntegerProduct(
                named[node.name], weights[node.input[1]], scale, zero.astype(np.int32), scale=None, zero=None
            )
