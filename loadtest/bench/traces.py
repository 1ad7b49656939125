"""The texts that every system is asked: real short sentences, and made-up ones of mixed length."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SHORT_FILE = Path("../shared/data/sst2/dev.jsonl")
COUNT = 512
FEW = 64
VOCABULARY = """
the order arrived late and nobody told us why so we asked again but the answer was only that a new parcel would come
soon please check what went wrong with my account because the payment left twice this week while your app still shows
an open bill thank you for looking into it as quickly as you can we like the product
"""

Count = Callable[[str], int]


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths in tokens, special ones included."""

    median: float
    sigma: float
    least: int
    most: int

    def draw(self, count: int, seed: int) -> list[int]:
        """``count`` lengths in random order: the quantiles themselves, so that no draw is shorter than another."""
        normal = statistics.NormalDist(math.log(self.median), self.sigma)
        exact = [math.exp(normal.inv_cdf((number + 0.5) / count)) for number in range(count)]
        lengths = [round(min(max(length, self.least), self.most)) for length in exact]
        random.Random(seed).shuffle(lengths)
        return lengths


MIXED = Lengths(24, 0.9, 5, 256)
# As the SST-2 sentences are to a WordPiece tokenizer.
SHORT = Lengths(24.5, 0.46, 4, 55)


@dataclass(frozen=True)
class Trace:
    """Texts in the order in which they are sent, again and again, and what they are."""

    name: str
    texts: Sequence[str]
    about: str

    @property
    def few(self) -> Trace:
        """The first of them, for a single caller: in seconds it gets through all of these, whatever the system."""
        return Trace(f"{self.name}-few", self.texts[:FEW], self.about)


def mixed(count: Count, longest: int, size: int = COUNT, seed: int = 0) -> Trace:
    """Made-up texts of mixed length; none is longer than the ``longest`` that the model takes."""
    lengths = [min(length, longest) for length in MIXED.draw(size, seed)]
    about = f"{size} made-up texts, log-normal in tokens: median {MIXED.median:g}, sigma {MIXED.sigma:g}, clipped to "
    return Trace("mixed", written(lengths, count, seed), f"{about}{MIXED.least}..{min(MIXED.most, longest)}")


def short(count: Count, longest: int, file: Path = SHORT_FILE, seed: int = 0) -> Trace:
    """The sentences of a JSON-lines file (``sentence`` or ``text``), or made-up ones of about the length of SST-2's."""
    if file.is_file():
        rows = [json.loads(line) for line in file.read_text("utf-8").split("\n") if line.strip()]
        texts = [str(row.get("sentence", row.get("text"))) for row in rows]
        random.Random(seed).shuffle(texts)
        lengths = sorted(count(text) for text in texts)
        about = f"{len(texts)} sentences of {file.parent.name}/{file.name}, median {lengths[len(lengths) // 2]} tokens"
        return Trace("short", texts, about)
    lengths = [min(length, longest) for length in SHORT.draw(COUNT, seed)]
    about = f"{COUNT} made-up texts of about the length of SST-2's sentences, median {SHORT.median:g} tokens"
    return Trace("short", written(lengths, count, seed), about)


def written(lengths: Sequence[int], count: Count, seed: int) -> list[str]:
    """One text of known words for every length in tokens: as long as the words allow, and never longer."""
    draw, words = random.Random(seed), VOCABULARY.split()
    return [_cut(draw.choices(words, k=length), length, count) for length in lengths]


def _cut(words: Sequence[str], length: int, count: Count) -> str:
    fits, beyond = 1, len(words) + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        if count(" ".join(words[:middle])) <= length:
            fits = middle
        else:
            beyond = middle
    return " ".join(words[:fits])
