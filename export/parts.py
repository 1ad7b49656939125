"""The size of a graph by part of the model: where its bytes are, before and after quantization."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import onnx
from onnx import numpy_helper

EMBEDDINGS, ATTENTION, FEED_FORWARD, HEAD, OTHER = "embeddings", "attention", "feed-forward", "head", "other"
WHOLE = "graph"
# What modules of encoders are called (BERT, DistilBERT, RoBERTa, DeBERTa, ELECTRA, ALBERT, ModernBERT, MPNet); the
# first that matches decides, for attention has an output as a layer has.
NAMES: Final[Mapping[str, str]] = {
    EMBEDDINGS: r"embed",
    ATTENTION: r"attention|attn|sa_layer_norm|q_lin|k_lin|v_lin",
    FEED_FORWARD: r"intermediate|ffn|mlp|full_layer|output_layer_norm|layers?\W\d+\Woutput",
    HEAD: r"classifier|pooler|\bhead\b|score|lm_head|predictions|\bcls\b|qa_outputs|discriminator",
}
# A weight whose own name says nothing stands this near the operator that tells: dequantized, reshaped, multiplied,
# and then a bias with a name is added to it.
STEPS = 5
SCOPES = "pkg.torch.onnx.name_scopes"


def parts(path: Path) -> dict[str, int]:
    """Bytes by part of an ONNX file, in the order of ``NAMES``; they sum up to the size of the file.

    ``other`` is the structure of the graph and what its names do not tell. Any other format is one part, ``graph``.
    """
    size = path.stat().st_size
    if path.suffix != ".onnx":
        return {WHOLE: size}
    graph = onnx.load(path).graph
    found = dict.fromkeys(NAMES, 0)
    neighbours = _Neighbours(graph)
    for tensor in graph.initializer:
        part = next((part for words in neighbours.of(tensor.name) if (part := part_of(words))), OTHER)
        if part != OTHER:
            found[part] += len(tensor.raw_data) or numpy_helper.to_array(tensor).nbytes
    return {**{part: count for part, count in found.items() if count}, OTHER: size - sum(found.values())}


def part_of(words: str) -> str:
    """The part of a model that a name of a module, of an operator or of a tensor tells of; empty for none."""
    return next((part for part, names in NAMES.items() if re.search(names, words, re.IGNORECASE)), "")


class _Neighbours:
    """What stands around the weights of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        # Weights, and what is made of weights alone, as by dequantizing them.
        self._constants = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            if self._constants.issuperset(node.input):
                self._constants.update(node.output)
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)

    def of(self, name: str) -> Iterator[str]:
        """The names around a weight, the nearest first: its own, those of operators it goes through and their weights.

        An activation is called by where it comes from, so its name does not count.
        """
        yield name
        reached = [name]
        for _ in range(STEPS):
            nodes = [node for tensor in reached for node in self._consumers.get(tensor, [])]
            for node in nodes:
                # As torch's exporter records it; names of classes would not do, for they have the head's in them.
                yield from (entry.value for entry in node.metadata_props if entry.key == SCOPES)
                yield from (node.name, *(mate for mate in node.input if mate in self._constants))
            reached = [output for node in nodes for output in node.output]
