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


def parts(path: Path) -> dict[str, int]:
    """Bytes by part of an ONNX file, in the order of ``NAMES``; they sum up to the size of the file.

    ``other`` is the structure of the graph and what its names do not tell. Any other format is one part, ``graph``.
    """
    size = path.stat().st_size
    if path.suffix != ".onnx":
        return {WHOLE: size}
    graph = onnx.load(path).graph
    found = dict.fromkeys(NAMES, 0)
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    for tensor in graph.initializer:
        part = next((part for words in _told(tensor.name, consumers) if (part := part_of(words))), OTHER)
        if part != OTHER:
            found[part] += len(tensor.raw_data) or numpy_helper.to_array(tensor).nbytes
    return {**{part: count for part, count in found.items() if count}, OTHER: size - sum(found.values())}


def part_of(words: str) -> str:
    """The part of a model that a name of a module, of an operator or of a tensor tells of; empty for none."""
    return next((part for part, names in NAMES.items() if re.search(names, words, re.IGNORECASE)), "")


def _told(name: str, consumers: Mapping[str, list[onnx.NodeProto]]) -> Iterator[str]:
    """The names around a tensor, the nearest first: its own, then of the operators it goes through and their inputs."""
    yield name
    reached = [name]
    for _ in range(STEPS):
        nodes = [node for tensor in reached for node in consumers.get(tensor, [])]
        for node in nodes:
            # As torch's exporter records it, the class names of the model left out: they have the head's in them.
            scopes = [entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"]
            yield from (*scopes, node.name, *node.input)
        reached = [output for node in nodes for output in node.output]
