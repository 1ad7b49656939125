"""FP32 ONNX to static INT8: one scale of each activation, learnt from training rows, so that no row moves another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from tqdm import tqdm

from export.quantize import QUANTIZED_OPS, is_integer_product, quantizable, saturates
from serving.tensors import Graph, Tensors, stack


def static_int8(source: Path, target: Path, graph: Graph, rows: Sequence[Tensors]) -> None:
    """Write the INT8 graph (QDQ, which ONNX Runtime fuses) beside the FP32 one; ``rows`` are encoded, to calibrate on.

    Weights are those of ``quantize.dynamic_int8``. Activations get 8 unsigned bits between the least and the largest
    value of the rows: memory holds these two of each activation, whatever the rows are.
    """
    with quantizable(source) as model:
        constants = {tensor.name for tensor in model.graph.initializer}
        # Products of two activations (attention) stay in floats, as in the dynamic graph.
        floats = [n.name for n in model.graph.node if n.op_type == "MatMul" and n.input[1] not in constants]
        with tqdm(rows, desc="calibrating", unit="row", leave=False) as bar:
            quantize_static(
                model, target, _Rows(stack([row], graph.inputs) for row in bar),
                quant_format=QuantFormat.QDQ, op_types_to_quantize=QUANTIZED_OPS, nodes_to_exclude=floats,
                per_channel=True, reduce_range=saturates(),
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": False, "WeightSymmetric": True,
                    "OpTypesToExcludeOutputQuantization": QUANTIZED_OPS,
                },
            )  # fmt: skip
    quantized = onnx.load(target)
    _free_others(quantized)
    onnx.save(quantized, target)


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    """Batches of one row, as ONNX Runtime asks for them."""

    def __init__(self, batches: Iterator[Tensors]) -> None:
        self.batches = batches

    def get_next(self) -> Tensors | None:
        return next(self.batches, None)


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
