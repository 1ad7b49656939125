"""FP32 ONNX to dynamic INT8: signed weights, activations quantized as they come."""

from __future__ import annotations

from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from export.int8.products import QUANTIZED_OPS, quantizable


def dynamic_int8(source: Path, target: Path, *, per_channel: bool = True, seven_bits: bool) -> None:
    """Write the INT8 graph beside the FP32 one.

    Signed weights: unsigned ones ran no faster than FP32 on AVX512-VNNI. ``per_channel``: a scale for each output of a
    product, else one for all. ``seven_bits``: weights that cannot overflow on a CPU without VNNI (``saturation``):
    8 bits moved the answers of a small model by 23 % there, and 7 bits by 1 %.
    """
    with quantizable(source) as model:
        quantize_dynamic(
            model, target, weight_type=QuantType.QInt8, op_types_to_quantize=QUANTIZED_OPS, per_channel=per_channel,
            reduce_range=seven_bits,
        )  # fmt: skip
