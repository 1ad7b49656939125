"""Kept answers: within their bytes, the most recently used ones, and only for the very same row."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.cache import OVERHEAD, AnswerCache, Worth, key
from serving.flights import identity
from serving.tensors import Field, Tensors

ROOM = OVERHEAD + 1
keys = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])


@given(st.lists(st.tuples(st.booleans(), keys)), st.integers(1, 3))
def test_it_is_a_least_recently_used_cache_of_so_many_bytes(moves: list[tuple[bool, bytes]], room: int) -> None:
    cache, model = AnswerCache(room * ROOM), {}
    for puts, name in moves:
        if puts:
            cache.put(name, {"x": name.decode()})
            model.pop(name, None)
            model[name] = {"x": name.decode()}
            while len(model) > room:
                del model[next(iter(model))]
        else:
            found = cache.get(name)
            assert found == model.get(name)
            if found:
                model[name] = model.pop(name)
        assert cache.size == len(model) * ROOM


def test_answer_that_is_too_large_is_not_kept_and_drives_nothing_out() -> None:
    cache = AnswerCache(2 * ROOM)
    cache.put(b"small", {"x": "1"})
    cache.put(b"large", {"x": np.zeros(10_000)})
    assert cache.get(b"large") is None
    assert cache.get(b"small") == {"x": "1"}


FIELDS = [Field(name, "INT64", ("length",)) for name in ("ids", "mask", "types")]
numbers = st.lists(st.integers(-2, 2), max_size=3)
rows = st.dictionaries(
    st.sampled_from(["ids", "mask", "types"]),
    st.builds(np.array, numbers, dtype=st.sampled_from([np.int64, np.int32, np.float32, np.object_])),
    min_size=1,
)


def digest(row: Tensors) -> bytes:
    return key(identity(row, FIELDS))


def same(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and first[name].tolist() == second[name].tolist() for name in first
    )


@given(rows, rows)
def test_keys_are_equal_exactly_for_equal_arrays(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert digest(first) == digest(dict(reversed(first.items())))
    assert (digest(first) == digest(second)) == same(first, second)


def test_arrays_are_not_taken_for_one_another() -> None:
    one, two = np.array([1]), np.array([1, 2])
    assert digest({"ids": one, "mask": two}) != digest({"ids": two, "mask": one})
    assert digest({"ids": one}) != digest({"mask": one})
    assert digest({"ids": np.array([[1, 2]])}) != digest({"ids": np.array([[1], [2]])})


def looked_up(worth: Worth, rows: int, spent: float, saved: float) -> int:
    """How many of so many rows were looked up."""
    asked = 0
    for _ in range(rows):
        if worth.ask():
            worth.count(spent, saved)
            asked += 1
    return asked


def test_rows_are_looked_up_as_long_as_hits_save_more_than_that_takes() -> None:
    worth = Worth()
    assert looked_up(worth, 5 * Worth.WINDOW, spent=1e-5, saved=2e-5) == 5 * Worth.WINDOW
    assert worth.pays


def test_rows_are_not_looked_up_where_that_does_not_pay_but_for_a_window_now_and_then() -> None:
    worth = Worth()
    assert looked_up(worth, Worth.WINDOW, spent=1e-5, saved=0.0) == Worth.WINDOW
    assert not worth.pays
    assert looked_up(worth, Worth.REST, spent=1e-5, saved=0.0) == 0
    assert looked_up(worth, Worth.WINDOW + Worth.REST, spent=1e-5, saved=0.0) == Worth.WINDOW


def test_rows_are_looked_up_again_once_that_pays() -> None:
    worth = Worth()
    looked_up(worth, Worth.WINDOW + Worth.REST, spent=1e-5, saved=0.0)
    assert looked_up(worth, 9 * Worth.WINDOW, spent=1e-5, saved=1e-3) == 9 * Worth.WINDOW
    assert worth.pays
