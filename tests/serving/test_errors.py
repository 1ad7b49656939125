"""Errors name the field, the value and the remedy, and several come in one go."""

from __future__ import annotations

from serving.errors import fault, listed


def test_fault_names_field_value_and_remedy() -> None:
    assert fault("shape", "is wrong", [2], "send [1]") == "shape: is wrong, got [2]; send [1]"


def test_fault_does_not_echo_a_long_value() -> None:
    line = fault("text", "is wrong", "x" * 10_000, "send less")
    assert len(line) < 200
    assert "xxx..." in line


def test_one_fault_is_told_plainly_and_several_are_counted() -> None:
    assert listed(["a: wrong"]) == "a: wrong"
    assert listed(["a: wrong", "b: wrong"]).splitlines() == ["2 faults:", "  - a: wrong", "  - b: wrong"]
