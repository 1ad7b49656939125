"""The arrivals of an open loop are those of independent users, and the same for the same seed."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.arrivals import bursts, poisson

RATES = st.floats(0.01, 10_000)
SEEDS = st.integers(0, 2**32)


@settings(deadline=None)
@given(RATES, SEEDS)
def test_arrivals_only_go_forward(rate: float, seed: int) -> None:
    times = list(islice(poisson(rate, seed), 200))
    assert times[0] > 0
    assert all(before <= after for before, after in pairwise(times))


@settings(deadline=None)
@given(RATES, SEEDS)
def test_arrivals_come_at_the_rate_and_as_irregularly_as_independent_users(rate: float, seed: int) -> None:
    count = 2000
    gaps = np.diff([0.0, *islice(poisson(rate, seed), count)]) * rate
    # Of exponential gaps the mean and the deviation are 1; the bounds are seven standard errors away.
    assert abs(gaps.mean() - 1) < 7 / count**0.5
    assert abs(gaps.std() - 1) < 7 * (2 / count) ** 0.5


@settings(deadline=None)
@given(RATES, SEEDS)
def test_the_same_seed_gives_the_same_arrivals(rate: float, seed: int) -> None:
    assert list(islice(poisson(rate, seed), 20)) == list(islice(poisson(rate, seed), 20))
    assert list(islice(poisson(rate, seed), 20)) != list(islice(poisson(rate, seed + 1), 20))


@settings(deadline=None)
@given(st.floats(1, 1000), SEEDS)
def test_bursts_fall_into_the_first_quarter_of_every_second_and_come_at_the_rate_in_the_mean(
    rate: float, seed: int
) -> None:
    count = 2000
    times = np.array(list(islice(bursts(rate, seed), count)))
    assert (np.diff(times) >= 0).all()
    assert (times % 1 <= 0.25 + 1e-6).all()
    assert abs(times[-1] / (count / rate) - 1) < 7 / count**0.5 + rate / count
