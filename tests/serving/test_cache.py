"""Kept answers: within their bytes, the most recently used ones, and only for the very same row."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.cache import OVERHEAD, AnswerCache, key

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


rows = st.dictionaries(
    st.sampled_from(["text", "text_pair", "ids"]),
    st.text(max_size=3) | st.lists(st.integers(-2, 2), max_size=3).map(np.array) | st.floats(allow_nan=False),
    min_size=1,
)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        type(first[name]) is type(second[name])
        and np.shape(first[name]) == np.shape(second[name])
        and np.asarray(first[name]).dtype == np.asarray(second[name]).dtype
        and np.asarray(first[name]).tobytes() == np.asarray(second[name]).tobytes()
        for name in first
    )


@given(rows, rows)
def test_keys_are_equal_exactly_for_equal_rows(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert key(first) == key(dict(reversed(first.items())))
    assert (key(first) == key(second)) == same(first, second)


def test_columns_are_not_taken_for_one_another() -> None:
    assert key({"text": "ab", "text_pair": "c"}) != key({"text": "a", "text_pair": "bc"})
    assert key({"text": "1"}) != key({"text": np.array(49, np.uint8)})
