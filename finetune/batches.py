"""Batches of rows of like length, by rows or by tokens, in an order that only seed and epoch decide."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

# Rows count as equally long within 15 %: enough to keep padding low and the batches well mixed.
LIKE_LENGTH = 1.15


class LengthBatches:
    """A batch sampler: every epoch has the same number of batches, so schedules and resuming are exact.

    Rows are ordered by length class, at random within a class, cut into batches of at most ``rows`` rows or
    ``tokens`` padded tokens, and the batches are shuffled. The same seed and epoch give the same batches, which is
    what lets an interrupted run go on where it stopped.
    """

    def __init__(self, lengths: Sequence[int], *, rows: int | None, tokens: int | None, seed: int) -> None:
        if (rows is None) == (tokens is None):
            raise ValueError("give exactly one of rows and tokens")
        self._lengths = lengths
        self._rows, self._tokens, self._seed = rows, tokens, seed
        self._classes = [_length_class(length) for length in lengths]
        self._longest = {
            kind: max(n for n, c in zip(lengths, self._classes, strict=True) if c == kind)
            for kind in set(self._classes)
        }
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate and transformers at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(1 for _ in self._cut(sorted(range(len(self._lengths)), key=self._classes.__getitem__)))

    def __iter__(self) -> Iterator[list[int]]:
        generator = random.Random(self._seed * 1_000_003 + self.epoch)
        order = list(range(len(self._lengths)))
        generator.shuffle(order)
        order.sort(key=self._classes.__getitem__)
        batches = list(self._cut(order))
        generator.shuffle(batches)
        return iter(batches)

    def _cut(self, order: Sequence[int]) -> Iterator[list[int]]:
        """Cut by the longest row of a length class, not by the rows at hand: so the count is the same each epoch."""
        batch: list[int] = []
        for index in order:
            longest = self._longest[self._classes[index]]
            full = (
                len(batch) == self._rows if self._rows else batch and (len(batch) + 1) * longest > (self._tokens or 0)
            )
            if full:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch


def _length_class(length: int) -> int:
    return math.ceil(math.log(max(length, 1)) / math.log(LIKE_LENGTH))
