"""FP32 ONNX to static INT8: one scale of each activation, learnt from training rows, so that no row moves another."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data

from export.int8.calibration import Method, Ranges, ranges
from export.int8.products import PRODUCTS, QUANTIZED_OPS, is_integer_product, products, quantizable
from serving.errors import InvalidInput, fault
from serving.tensors import Graph, Tensors


def static_int8(
    source: Path, target: Path, graph: Graph, rows: Sequence[Tensors], *,
    method: Method = "minmax", seven_bits: bool, floats: Collection[str] = (),
) -> None:  # fmt: skip
    """Write the INT8 graph (QDQ, which ONNX Runtime fuses) beside the FP32 one; ``rows`` are encoded, to calibrate on.

    Weights are those of ``dynamic.dynamic_int8`` per channel. Activations get 8 unsigned bits over the range that
    ``calibration.ranges`` learns by that ``method``. ``floats`` names products that stay in floating point.
    Raises InvalidInput for a name that is no product with constant weights.
    """
    with quantizable(source) as model:
        known = {product.name for product in products(model)}
        if unknown := sorted(set(floats) - known):
            remedy = f"name some of {', '.join(sorted(known))}"
            raise InvalidInput(fault("floats", "is no product of the graph", unknown, remedy))
        learnt = ranges(source, graph, rows, method)
        # Products of two activations (attention) stay in floats, as in the dynamic graph.
        excluded = [n.name for n in model.graph.node if n.op_type in PRODUCTS and n.name not in known - set(floats)]
        with tempfile.TemporaryDirectory() as folder:
            quantize_static(
                model, target, quant_format=QuantFormat.QDQ, op_types_to_quantize=QUANTIZED_OPS,
                nodes_to_exclude=excluded, per_channel=True, reduce_range=seven_bits,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibration_cache_path=_cached(learnt, Path(folder) / "ranges.json"),
                extra_options={
                    "ActivationSymmetric": False, "WeightSymmetric": True,
                    "OpTypesToExcludeOutputQuantization": QUANTIZED_OPS,
                },
            )  # fmt: skip
    quantized = onnx.load(target)
    _free_others(quantized)
    onnx.save(quantized, target)


def _cached(learnt: Ranges, path: Path) -> Path:
    """Ranges where ONNX Runtime looks for them; to it, all that have two ends are of the min-max kind."""
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in learnt.items()}
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), path)
    return path


def _free_others(model: onnx.ModelProto) -> None:
    """Give every other consumer of a quantized activation, such as a residual addition, the floats it was made of.

    They would lose what the integers lose and be no faster. What a Gather of quantized weights gives stays: only
    between integers does ONNX Runtime run it on integers.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    dequantized = {output for output, node in makers.items() if node.op_type == "DequantizeLinear"}
    floats: dict[str, str] = {}
    for output in dequantized:
        quantizer = makers.get(makers[output].input[0])
        if quantizer and not _is_gathered(quantizer.input[0], makers):
            floats[output] = quantizer.input[0]
    for node in model.graph.node:
        if not is_integer_product(node, dequantized):
            for index, name in enumerate(node.input):
                node.input[index] = floats.get(name, name)


def _is_gathered(name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    return name in makers and makers[name].op_type == "Gather"
