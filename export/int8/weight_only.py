"""FP32 ONNX to weights of 4 or 8 bits that are multiplied block by block: what is read from memory shrinks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from export.int8.products import quantizable

# Activations are quantized to 8 bits too, block by block of each token: no batch mate has a part in that.
INTEGER_ACCURACY = 4


def weight_only(source: Path, target: Path, *, bits: Literal[4, 8], block: int = 32) -> None:
    """Write a graph whose MatMul with constant weights are MatMulNBits, an operator of ONNX Runtime's own domain.

    Each output has a scale for every ``block`` inputs (a power of two, at least 16). Gemm and embeddings stay as they
    are. It pays where reading weights is the time: generating token by token.
    Source: ONNX Runtime, "Contrib Operators", MatMulNBits.
    """
    with quantizable(source) as model:
        quantizer = MatMulNBitsQuantizer(
            model, bits=bits, block_size=block, is_symmetric=True, accuracy_level=INTEGER_ACCURACY,
            op_types_to_quantize=("MatMul",),
        )  # fmt: skip
        quantizer.process()
        onnx.save(quantizer.model.model, target)
