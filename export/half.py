"""FP32 ONNX to FP16 or BF16, inputs and outputs as they are, for devices that calculate in them."""

from __future__ import annotations

import logging
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from export.graph_version import messages
from serving import processor
from serving.backends.onnxruntime import CUDA, available
from serving.processor import Processor
from serving.tensors import Tensors

FP16, BF16 = "fp16", "bf16"
BFLOAT16 = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)


def supported(precision: str, device: str, cpu: Processor | None = None) -> str:
    """Why a precision is of no use on a device (``cpu`` or ``cuda``), with what to do instead; empty where it is.

    ``cpu`` is this host's by default.
    On x86 ONNX Runtime has no FP16 arithmetic, whatever the CPU has (mlas, halfgemm.cpp): it converts to FP32 and back,
    and a MiniLM was up to 8 % slower than in FP32.
    """
    if device == "cuda":
        if CUDA in available():
            return ""
        return f"{precision} on cuda: ONNX Runtime has no {CUDA} here; install onnxruntime-gpu instead of onnxruntime"
    remedy = "give fp32 or int8, or export where a GPU is"
    if precision == BF16:
        return f"bf16 on cpu: ONNX Runtime multiplies no matrices in BF16 on a CPU; {remedy}"
    cpu = cpu or processor.read()
    # macOS has no /proc, and calls "arm64" what has FP16 since the first of its kind.
    if cpu.machine == "arm64" or (cpu.machine == "aarch64" and "asimdhp" in cpu.features):
        return ""
    return f"fp16 on cpu: ONNX Runtime has no FP16 arithmetic for this CPU ({cpu.machine}), only conversions; {remedy}"


def convert(source: Path, target: Path, precision: str) -> None:
    """Write the graph in FP16 or BF16; operators that need FP32, and inputs and outputs, stay.

    FP16 ends at 65504, and weights beyond are clipped; BF16 has the range of FP32 and 8 bits of precision.
    """
    model = onnx.load(source)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    originals = {name: numpy_helper.to_array(tensor) for name, tensor in weights.items()} if precision == BF16 else {}
    # It warns of every value that it clips to the range.
    logging.disable(logging.WARNING)
    try:
        converted = convert_float_to_float16(model, keep_io_types=True)
    finally:
        logging.disable(logging.NOTSET)
    if precision == BF16:
        _to_bfloat16(converted, originals)
    # The converter appends its Cast nodes, but a node comes after what it reads (onnx, docs/IR.md).
    OnnxModel(converted).topological_sort()
    onnx.save(converted, target)


def _to_bfloat16(model: onnx.ModelProto, originals: Tensors) -> None:
    """Make BF16 of all that is FP16, with the weights as they were before FP16 cut them."""
    for message in messages(model):
        if isinstance(message, onnx.TensorProto) and message.data_type == TensorProto.FLOAT16:
            array = originals.get(message.name, numpy_helper.to_array(message))
            message.CopyFrom(numpy_helper.from_array(array.astype(BFLOAT16), message.name))
        elif isinstance(message, onnx.TypeProto.Tensor) and message.elem_type == TensorProto.FLOAT16:
            message.elem_type = TensorProto.BFLOAT16
        elif isinstance(message, onnx.NodeProto) and message.op_type == "Cast":
            for attribute in message.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.BFLOAT16
