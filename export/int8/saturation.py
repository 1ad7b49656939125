"""Overflow of 16-bit sums: which CPUs add pairs of 8-bit products in 16 bits, and whether a graph would notice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export.int8.integers import MOST, IntegerProduct, integer_parts
from export.int8.taps import spread, tapped
from serving import processor
from serving.tensors import Array, Graph, Tensors

LIMIT = 2**15 - 1
# Enough tokens to meet the channels that are large in every text; so many, too, that a rare one may be missed.
ROWS, TOKENS = 32, 1024
CHUNK = 1024


@dataclass(frozen=True)
class PairSums:
    """The sums of two neighbouring products of one matrix product: u8[k] * s8[k, n] + u8[k + 1] * s8[k + 1, n].

    ``overflows`` of ``total`` sums leave 16 signed bits on the rows that were seen, ``largest`` is the largest absolute
    one among them, and no activation whatever can make it larger than ``bound``.
    """

    name: str
    layer: str
    overflows: int
    total: int
    largest: int
    bound: int


@dataclass(frozen=True)
class Saturation:
    """The pair sums of every integer product of a graph, in its order."""

    products: tuple[PairSums, ...]

    @property
    def overflows(self) -> int:
        """How many sums of the rows that were seen would overflow."""
        return sum(found.overflows for found in self.products)

    @property
    def needs(self) -> tuple[str, ...]:
        """Instructions that a CPU of the x86 kind must have to add these sums exactly: none where none can overflow.

        Rows that are yet to come may go further than those that were seen, so the bound decides.
        """
        return ("vnni",) if any(found.bound > LIMIT for found in self.products) else ()


def saturates() -> bool:
    """Whether this CPU adds pairs of 8-bit products in 16 bits, which overflow: x86 without VNNI."""
    return not processor.read().has(processor.VNNI)


def predict(fp32: Path, int8: Path, graph: Graph, rows: Sequence[Tensors]) -> Saturation:
    """The pair sums of ``int8``, static or dynamic, on up to 1,024 tokens of up to 32 of the rows.

    ``fp32`` is the graph it was made of, and gives the activations; this CPU need not saturate itself.
    """
    original = onnx.load(fp32)
    parts = integer_parts(original, onnx.load(int8))
    chosen = spread(rows, ROWS)
    seen: dict[str, list[Array]] = {part.product.name: [] for part in parts}
    with tapped(original, graph, {part.product.input for part in parts}) as run:
        for row in chosen:
            found = run(row)
            for part in parts:
                integers, _, _ = part.quantized(found[part.product.input])
                tokens = integers.reshape(-1, integers.shape[-1])
                seen[part.product.name].append(_some(tokens, TOKENS // len(chosen)))
    return Saturation(tuple(pair_sums(part, np.concatenate(seen[part.product.name])) for part in parts if chosen))


def _some(tokens: Array, most: int) -> Array:
    return tokens[spread(range(len(tokens)), max(1, most))]


def pair_sums(part: IntegerProduct, tokens: Array) -> PairSums:
    """The sums that one product makes of these quantized tokens, u8 of shape (tokens, inputs).

    Only sums whose weights and largest activations may come to an overflow, or to a new record, are computed.
    Source: Intel, VPMADDUBSW, which ONNX Runtime's AVX2 and AVX512 kernels use where there is no VNNI.
    """
    weight = part.weight.astype(np.int32)
    if len(weight) % 2:  # as the kernels do, with zeros
        weight, tokens = np.pad(weight, ((0, 1), (0, 0))), np.pad(tokens, ((0, 0), (0, 1)))
    most = tokens.max(axis=0).astype(np.int32)
    possible = _bounds(weight, most).ravel()
    overflows, largest = 0, 0
    # First those that may overflow and the most promising others, then whatever may be larger than the largest yet.
    first = possible > LIMIT
    first[np.argpartition(possible, -min(CHUNK, possible.size))[-CHUNK:]] = True
    for indices in _chunks(np.flatnonzero(first)):
        sums = np.abs(_sums(weight, tokens, indices))
        overflows, largest = overflows + int(np.sum(sums > LIMIT)), max(largest, int(sums.max()))
    for indices in _chunks(np.flatnonzero(~first & (possible > largest))):
        largest = max(largest, int(np.abs(_sums(weight, tokens, indices)).max()))
    bound = int(_bounds(weight, np.full_like(most, MOST)).max())
    return PairSums(part.product.name, part.product.layer, overflows, possible.size * len(tokens), largest, bound)


def _bounds(weight: Array, most: Array) -> Array:
    """No sum of activations from 0 to ``most`` is larger: shape (pairs, outputs)."""
    scaled = weight * most[:, None]
    up, down = np.maximum(scaled, 0), np.maximum(-scaled, 0)
    return np.asarray(np.maximum(up[::2] + up[1::2], down[::2] + down[1::2]))


def _sums(weight: Array, tokens: Array, indices: Array) -> Array:
    """The sums of chosen (pair, output) for every token, int32 of shape (tokens, chosen)."""
    pairs, outputs = np.divmod(indices, weight.shape[1])
    even, odd = (tokens[:, 2 * pairs + side] * weight[2 * pairs + side, outputs] for side in (0, 1))
    return np.asarray(even + odd)


def _chunks(indices: Array) -> Iterator[Array]:
    for start in range(0, len(indices), CHUNK):
        yield indices[start : start + CHUNK]
