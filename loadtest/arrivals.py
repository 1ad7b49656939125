"""When requests arrive in an open loop."""

from __future__ import annotations

import random
from collections.abc import Iterator


def poisson(rate: float, seed: int) -> Iterator[float]:
    """Arrival times of a Poisson process of ``rate`` a second: seconds from 0, ever later, without end.

    Independent users together make such arrivals; evenly spaced ones would hide the queue that bursts cause.
    """
    draw = random.Random(seed)
    at = 0.0
    while True:
        at += draw.expovariate(rate)
        yield at
