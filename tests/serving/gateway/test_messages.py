"""Parameters of requests and outputs: what they mean, and that a wrong one is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from serving.errors import InvalidInput
from serving.gateway.messages import (
    Output,
    Placement,
    check_reserved,
    check_values,
    flag_of,
    output_of,
    placement_of,
    priority_of,
    timeout_of,
)

REGION = {"shared_memory_region": "r", "shared_memory_byte_size": 8}


@pytest.mark.parametrize(("value", "seconds"), [(None, None), (0, None), (1, 1e-6), (2_500_000, 2.5)])
def test_timeout_is_in_microseconds(value: int | None, seconds: float | None) -> None:
    assert timeout_of({} if value is None else {"timeout": value}) == seconds


@pytest.mark.parametrize("value", [-1, 1.5, "1000", True, [1]])
def test_timeout_that_is_no_positive_integer_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="'timeout'"):
        timeout_of({"timeout": value})


def test_priority_is_the_models_default_where_it_is_not_given() -> None:
    assert (priority_of({}), priority_of({"priority": 0}), priority_of({"priority": 9})) == (0, 0, 9)


@pytest.mark.parametrize("value", [-1, 1.5, "1", True, None])
def test_priority_that_is_no_level_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="'priority'"):
        priority_of({"priority": value})


def test_names_of_the_protocol_are_reserved() -> None:
    check_reserved({"tritonx": 1, "sequence_id": 5})
    with pytest.raises(InvalidInput, match="reserved for Triton usage, got 'triton_x'"):
        check_reserved({"a": 1, "triton_x": 1})


def test_parameters_are_single_values() -> None:
    check_values({"a": 1, "b": 1.5, "c": "x", "d": True})
    for value in (None, [1], {"a": 1}):
        with pytest.raises(InvalidInput, match=r"parameter 'a' has invalid type.*; the inputs are text"):
            check_values({"a": value}, "; the inputs are text")


@pytest.mark.parametrize("value", [0, 1, "true", None, []])
def test_flag_that_is_no_truth_value_is_refused(value: object) -> None:
    assert flag_of({"a": True}, "a", False)
    assert flag_of({}, "a", True)
    with pytest.raises(InvalidInput, match="'a' must be true or false"):
        flag_of({"a": value}, "a", False)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, Output("o")),
        ({"binary_data": False}, Output("o")),
        ({"binary_data": True}, Output("o", binary=True)),
        ({"classification": 2}, Output("o", classes=2)),
        ({"classification": 2, "binary_data": True}, Output("o", classes=2, binary=True)),
        ({"classification": 0, "unknown": 1}, Output("o")),
        ({**REGION, "binary_data": False}, Output("o", placement=Placement("r", 8))),
        ({**REGION, "shared_memory_offset": 4}, Output("o", placement=Placement("r", 8, 4))),
    ],
)
def test_output_is_what_its_own_parameters_say(parameters: dict[str, Any], expected: Output) -> None:
    assert output_of("o", parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"classification": -1}, "output 'o': classification must be a number of classes, got -1"),
        ({"classification": "2"}, "classification must be"),
        ({"classification": 1.5}, "classification must be"),
        ({"classification": True}, "classification must be"),
        ({"classification": None}, "classification must be"),
        ({"binary_data": 1}, "'binary_data' must be true or false, got 1"),
        ({**REGION, "classification": 1}, "both 'shared_memory_region' and 'classification', got both for 'o'"),
        ({**REGION, "binary_data": True}, "both 'shared_memory_region' and 'binary_data'"),
    ],
)
def test_output_that_contradicts_itself_is_refused(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        output_of("o", parameters)


@pytest.mark.parametrize(
    "changes",
    [
        {"shared_memory_region": 5},
        {"shared_memory_byte_size": None},
        {"shared_memory_byte_size": -1},
        {"shared_memory_byte_size": "8"},
        {"shared_memory_byte_size": True},
        {"shared_memory_offset": -1},
        {"shared_memory_offset": 0.5},
        {"shared_memory_offset": None},
    ],
)
def test_place_in_shared_memory_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="'text': a shared memory tensor needs"):
        placement_of("text", {**REGION, **changes})


def test_tensor_without_a_region_lies_in_the_message() -> None:
    assert placement_of("text", {"shared_memory_byte_size": 8}) is None
