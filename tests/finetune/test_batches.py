"""Batches of like length: every row once an epoch, a fixed number of batches, an order of seed and epoch only."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.batches import LIKE_LENGTH, LengthBatches

# Of all lengths, and of lengths so near that they count as equal.
LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=80) | st.lists(
    st.integers(100, 115), min_size=20, max_size=80
)
TOKENS = st.integers(1, 2000)
BOUNDS = st.tuples(st.integers(1, 20), st.none()) | st.tuples(st.none(), TOKENS)
SEEDS = st.integers(0, 2**31 - 1)


def epoch(batches: LengthBatches, number: int) -> list[list[int]]:
    batches.set_epoch(number)
    return list(batches)


@settings(deadline=None)
@given(LENGTHS, BOUNDS, SEEDS, st.integers(0, 5))
def test_every_row_comes_exactly_once_an_epoch(
    lengths: list[int], bounds: tuple[int | None, int | None], seed: int, number: int
) -> None:
    batches = epoch(LengthBatches(lengths, rows=bounds[0], tokens=bounds[1], seed=seed), number)
    assert all(batches)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


@settings(deadline=None)
@given(LENGTHS, BOUNDS, SEEDS)
def test_every_epoch_has_as_many_batches_as_was_announced(
    lengths: list[int], bounds: tuple[int | None, int | None], seed: int
) -> None:
    batches = LengthBatches(lengths, rows=bounds[0], tokens=bounds[1], seed=seed)
    assert {len(epoch(batches, number)) for number in range(4)} == {len(batches)}


@settings(deadline=None)
@given(LENGTHS, TOKENS, SEEDS)
def test_padded_tokens_stay_within_the_bound_unless_a_row_alone_is_longer(
    lengths: list[int], tokens: int, seed: int
) -> None:
    for batch in LengthBatches(lengths, rows=None, tokens=tokens, seed=seed):
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= tokens or len(batch) == 1


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 20), SEEDS)
def test_rows_stay_within_the_bound_and_only_one_batch_is_not_full(lengths: list[int], rows: int, seed: int) -> None:
    sizes = sorted(len(batch) for batch in LengthBatches(lengths, rows=rows, tokens=None, seed=seed))
    assert sizes[-1] <= rows
    assert all(size == rows for size in sizes[1:])


@settings(deadline=None)
@given(LENGTHS, BOUNDS, SEEDS, st.integers(0, 5))
def test_seed_and_epoch_alone_decide(
    lengths: list[int], bounds: tuple[int | None, int | None], seed: int, number: int
) -> None:
    fresh = LengthBatches(lengths, rows=bounds[0], tokens=bounds[1], seed=seed)
    used = LengthBatches(lengths, rows=bounds[0], tokens=bounds[1], seed=seed)
    for before in range(3):
        epoch(used, before)
    random.seed(number)
    assert epoch(used, number) == epoch(fresh, number)


def test_another_epoch_and_another_seed_give_another_order_and_other_batch_mates() -> None:
    lengths = [random.Random(0).randint(3, 60) for _ in range(200)]
    batches = LengthBatches(lengths, rows=8, tokens=None, seed=1)
    first, second = epoch(batches, 0), epoch(batches, 1)
    other = epoch(LengthBatches(lengths, rows=8, tokens=None, seed=2), 0)
    assert first != second
    assert first != other
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


def test_batches_come_in_mixed_order_but_hold_rows_of_like_length() -> None:
    lengths = [1 + index % 100 for index in range(2000)]
    batches = list(LengthBatches(lengths, rows=10, tokens=None, seed=1))
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    assert padded <= LIKE_LENGTH * sum(lengths)
    first, last = batches[: len(batches) // 2], batches[len(batches) // 2 :]
    means = [sum(lengths[i] for batch in half for i in batch) / sum(map(len, half)) for half in (first, last)]
    assert abs(means[0] - means[1]) < 15


@pytest.mark.parametrize(("rows", "tokens"), [(None, None), (8, 64)])
def test_exactly_one_bound_is_given(rows: int | None, tokens: int | None) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        LengthBatches([1], rows=rows, tokens=tokens, seed=0)
