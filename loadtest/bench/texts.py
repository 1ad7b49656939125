"""Texts of mixed length: log-normal in words, as real traffic is, and the same for the same seed."""

from __future__ import annotations

import math
import random

# Of the text's length in words, which for plain English is close to tokens.
MEDIAN, SIGMA, SHORTEST, LONGEST = 24, 0.9, 5, 256
VOCABULARY = """
the order arrived late and nobody told us why so we asked again but the answer was only that a new parcel would come
soon please check what went wrong with my account because the payment left twice this week while your app still shows
an open bill thank you for looking into it as quickly as you can we like the product
"""


def mixed(count: int, seed: int = 0) -> list[str]:
    """``count`` texts with log-normal numbers of words (median 24, sigma 0.9, clipped to 5..256)."""
    generator, words = random.Random(seed), VOCABULARY.split()
    lengths = [generator.lognormvariate(math.log(MEDIAN), SIGMA) for _ in range(count)]
    return [" ".join(generator.choices(words, k=round(min(max(n, SHORTEST), LONGEST)))) for n in lengths]
