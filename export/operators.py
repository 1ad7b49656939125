"""What a graph runs as: its operators after ONNX Runtime optimized it in a session like the one that serves."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch

from serving.backends.onnxruntime import open_session, session_options
from serving.errors import BundleError
from serving.tensors import Tensors

# onnxruntime, docs/ContribOperators.md; Attention, Gelu and the norms are operators of ai.onnx too.
ATTENTION = {
    "Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention", "PackedMultiHeadAttention",
    "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "QAttention", "QOrderedAttention",
    "LongformerAttention", "QOrderedLongformerAttention", "SparseAttention",
}  # fmt: skip
GELU = {"Gelu", "FastGelu", "BiasGelu", "QuickGelu", "QOrderedGelu", "GemmFastGelu", "BiasSplitGelu"}
LAYER_NORM = {
    "LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization", "QEmbedLayerNormalization",
    "QOrderedLayerNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization",
    "RMSNormalization",
}  # fmt: skip
INTEGER = {
    "MatMulInteger", "MatMulInteger16", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm",
    "QAttention", "QOrderedMatMul", "MatMulNBits", "DynamicQuantizeLSTM",
}  # fmt: skip
FLOAT = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "FusedMatMulActivation", "GemmFastGelu", "TransposeMatMul"}


@dataclass(frozen=True)
class Operators:
    """How many operators of each kind the optimized graph has; ``by_type`` counts all of them.

    ``floating`` are the matrix products left in floating point, those of two activations included.
    """

    attention: int
    gelu: int
    layer_norm: int
    integer: int
    floating: int
    by_type: dict[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, int]:
        """The figures, for manifests and reports."""
        return {name: getattr(self, name) for name in ("attention", "gelu", "layer_norm", "integer", "floating")}


@dataclass(frozen=True)
class Promised:
    """The least number of operators of each kind that the graph of a model must have."""

    attention: int = 0
    gelu: int = 0
    layer_norm: int = 0
    integer: int = 0


LABELS = {
    "attention": "fused attention",
    "gelu": "GELU as one operator",
    "layer_norm": "layer normalization as one operator",
    "integer": "matrix products in integers",
}
# What is told of a graph: those that are promised, and what is left.
NAMES = {**LABELS, "floating": "matrix products in floats"}


def count(path: Path) -> Operators:
    """The operators of the optimized graph. Raises BundleError where ONNX Runtime refuses the file."""
    with tempfile.TemporaryDirectory(prefix="downstream-operators-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = session_options()
        options.optimized_model_filepath = str(optimized)
        # The weights go to a file of their own, which is not read again.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        try:
            open_session(path, options)
        except Exception as error:  # ONNX Runtime's exceptions have no common root
            raise BundleError(f"ONNX Runtime cannot load {path}: {error}") from error
        return tally(onnx.load(optimized, load_external_data=False))


def tally(model: onnx.ModelProto) -> Operators:
    """The operators of a graph as it is."""
    found = Counter(node.op_type for node in _nodes(model.graph))

    def total(kinds: set[str]) -> int:
        return sum(found[kind] for kind in kinds)

    return Operators(
        total(ATTENTION), total(GELU), total(LAYER_NORM), total(INTEGER), total(FLOAT), dict(found.most_common())
    )


def promised(model: Any, batch: Tensors, *, fused_attention: bool = False, integer: bool = False) -> Promised:
    """What the graph of a PyTorch model must have: an operator for each norm and GELU that it runs on this batch.

    ``fused_attention`` where the route fuses it (``routes.FUSING``), one operator for each layer; without, it may be
    left in parts. ``integer`` where the graph is quantized: at least one product. The batch has two rows or more.
    """
    rows = len(next(iter(batch.values())))
    ran: Counter[str] = Counter()

    def ran_one(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        # What has no row axis is a constant, as DeBERTa's relative positions: its norm is folded away.
        if inputs and len(inputs[0]) == rows:
            ran["gelu"] += "GELU" in type(module).__name__.upper()
            ran["layer_norm"] += type(module).__name__.endswith(("LayerNorm", "RMSNorm"))

    hooks = [module.register_forward_hook(ran_one) for module in model.modules() if not list(module.children())]
    try:
        with torch.inference_mode():
            model(**{name: torch.from_numpy(array) for name, array in batch.items()})
    finally:
        for hook in hooks:
            hook.remove()
    attention = int(model.config.num_hidden_layers) if fused_attention else 0
    return Promised(attention, ran["gelu"], ran["layer_norm"], int(integer))


def missing(operators: Operators, wanted: Promised) -> list[str]:
    """What was promised and is not there, in sentences; empty for a graph that keeps its promises."""
    sentences = []
    for name, label in LABELS.items():
        found, least = getattr(operators, name), getattr(wanted, name)
        if found < least:
            sentences.append(f"{label}: the optimized graph has {found}, the model promises {least}")
    return sentences


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of graphs inside nodes included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
