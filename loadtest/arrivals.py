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


def bursts(rate: float, seed: int, period: float = 1.0, share: float = 0.25) -> Iterator[float]:
    """Poisson arrivals in bursts, ``rate`` a second in the mean: seconds from 0, ever later, without end.

    Each ``period`` of seconds begins with its ``share`` of time in which all arrivals fall, then nobody comes.
    """
    for at in poisson(rate / share, seed):
        whole, within = divmod(at, period * share)
        yield whole * period + within
