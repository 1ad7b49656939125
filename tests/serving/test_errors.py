"""Errors name the field, the value and the remedy, and several come in one go."""

from __future__ import annotations

from typing import Any

import pytest

from serving.errors import fault, listed, shown


def test_fault_names_field_value_and_remedy() -> None:
    assert fault("shape", "is wrong", [2], "send [1]") == "shape: is wrong, got [2]; send [1]"


def test_fault_does_not_echo_a_long_value() -> None:
    line = fault("text", "is wrong", "x" * 10_000, "send less")
    assert len(line) < 200
    assert "xxx..." in line


@pytest.mark.parametrize("value", [["x"] * 10**6, {"x": ["y" * 100] * 100}, "x" * 10**6, 10**300, b"x" * 10**6])
def test_large_value_is_cut(value: object) -> None:
    assert len(shown(value)) <= 80


@pytest.mark.parametrize("value", [["a", {"b": None}], {"a": [1, 2.5, True]}, "it's", b"\xff", 7, None])
def test_small_value_is_shown_as_python_writes_it(value: object) -> None:
    assert shown(value) == repr(value)


def test_value_that_is_nested_deeper_than_python_can_recurse_is_shown_all_the_same() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        repr(deep)
    assert "[[" in fault("instances", "is wrong", deep, "send rows")


def test_one_fault_is_told_plainly_and_several_are_counted() -> None:
    assert listed(["a: wrong"]) == "a: wrong"
    assert listed(["a: wrong", "b: wrong"]).splitlines() == ["2 faults:", "  - a: wrong", "  - b: wrong"]
