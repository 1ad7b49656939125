"""Rows and batches: checking tells every fault, stacking pads, unstacking gives every row back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.errors import InvalidInput
from serving.tensors import NUMPY_TYPES, Field, check, sizes, stack, unstack

TEXT = Field("text", "BYTES")
PAIR = Field("pair", "BYTES", optional=True)
BOX = Field("box", "FP32", (4,))
POINTS = Field("points", "FP32", ("points", 2), pad=-1)
IDS = Field("ids", "INT64", ("length",), pad=9)
MASK = Field("mask", "INT64", ("length",))


def test_checked_row_has_text_as_str_and_numbers_as_arrays_of_the_fields_type() -> None:
    row = check({"text": b"caf\xc3\xa9", "box": [1, 2, 3, 4], "points": [[0, 1], [2, 3]]}, (TEXT, PAIR, BOX, POINTS))
    assert row["text"] == "café"
    assert row["box"].dtype == np.float32
    assert row["points"].tolist() == [[0, 1], [2, 3]]
    assert "pair" not in row


@pytest.mark.parametrize("value", ["a", b"a", np.bytes_(b"a"), np.str_("a"), np.array("a"), np.array([b"a"], object)])
def test_text_may_come_in_any_form_a_wire_has(value: object) -> None:
    assert check({"text": value}, [TEXT]) == {"text": "a"}


def test_every_fault_of_a_row_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        check({"text": 5, "boxes": [1], "box": [1, 2], "points": [1, 2]}, (TEXT, BOX, POINTS, IDS))
    text = str(caught.value)
    assert text.startswith("5 faults")
    for part in (
        "boxes: unknown column",
        "text: not a text",
        "box: has shape [2]",
        "points: has 1 axes",
        "ids: missing",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"\xff", "not UTF-8 at byte 0"),
        ("a\ud800", "lone surrogate"),
        (b"\xed\xa0\x80", "not UTF-8"),
        (["a"], "not a text"),
        (None, "missing"),
        (np.array(["a", "b"], object), "size 1"),
    ],
)
def test_what_is_no_text_is_refused_by_name(value: object, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"text.*{problem}"):
        check({"text": value}, [TEXT])


@pytest.mark.parametrize("value", ["three", [300], [[1]], {}])
def test_what_is_no_array_of_the_field_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidInput, match="levels"):
        check({"levels": value}, [Field("levels", "UINT8", ("length",))])


def test_every_datatype_but_bytes_holds_a_number() -> None:
    for datatype in NUMPY_TYPES.keys() - {"BYTES"}:
        array = check({"x": [True if datatype == "BOOL" else 1]}, [Field("x", datatype, ("n",))])["x"]
        assert array.dtype == NUMPY_TYPES[datatype], datatype
        assert array.tolist() == [1], datatype


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT64", [1.5]),
        ("INT64", [1.0]),
        ("INT64", ["1"]),
        ("INT64", [True, False]),
        ("INT64", [None]),
        ("INT64", [2**64]),
        ("UINT8", np.array([1.5])),
        ("BOOL", [1]),
        ("FP32", ["1.5"]),
        ("FP32", [True]),
    ],
)
def test_value_of_another_type_is_refused_and_not_converted(datatype: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match="x: holds values of another type"):
        check({"x": value}, [Field("x", datatype, ("n",))])


def test_numbers_may_be_given_in_a_narrower_type_and_an_empty_list_has_none() -> None:
    assert check({"x": [1, 2]}, [Field("x", "FP32", ("n",))])["x"].tolist() == [1.0, 2.0]
    assert check({"x": np.array([1], np.int32)}, [Field("x", "INT64", ("n",))])["x"].dtype == np.int64
    assert check({"x": []}, [Field("x", "INT64", ("n",))])["x"].shape == (0,)


def test_sizes_are_those_of_symbolic_axes_only() -> None:
    row = {"ids": np.zeros(3), "points": np.zeros((5, 2)), "box": np.zeros(4)}
    assert sizes(row, (IDS, POINTS, BOX)) == {"length": 3, "points": 5}


def test_dims_of_symbolic_axes_are_minus_one_unless_their_coordinates_are_known() -> None:
    field = Field("logits", "FP32", ("length", "labels", 2))
    assert field.dims({}) == [-1, -1, 2]
    assert field.dims({"labels": ("no", "yes", "maybe")}) == [-1, 3, 2]


def test_dims_of_a_scalar_are_one_since_triton_has_no_scalars() -> None:
    assert TEXT.dims({}) == [1]


def test_shorter_rows_are_padded_at_the_end_with_the_fields_own_value() -> None:
    rows = [{"ids": np.array([1, 2, 3]), "mask": np.ones(3, int)}, {"ids": np.array([4]), "mask": np.ones(1, int)}]
    batch = stack(rows, (IDS, MASK))
    assert batch["ids"].tolist() == [[1, 2, 3], [4, 9, 9]]
    assert batch["mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["ids"].dtype == rows[0]["ids"].dtype


def one_row(length: int, points: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "ids": arrays.arrays(np.int64, (length,)),
            "mask": arrays.arrays(np.int64, (length,)),
            "points": arrays.arrays(np.float32, (points, 2)),
            "box": arrays.arrays(np.float32, (4,)),
        }
    )


one = st.tuples(st.integers(0, 6), st.integers(0, 4)).flatmap(lambda shape: one_row(*shape))


@settings(deadline=None)
@given(st.lists(one, min_size=1, max_size=5))
def test_unstack_gives_back_what_was_stacked(rows: list[dict[str, Any]]) -> None:
    fields = (IDS, MASK, POINTS, BOX)
    batch = stack(rows, fields)
    assert {len(array) for array in batch.values()} == {len(rows)}
    back = unstack(batch, fields, [sizes(row, fields) for row in rows])
    for before, after in zip(rows, back, strict=True):
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array)
            assert after[name].dtype == array.dtype


def test_axis_that_the_row_does_not_bound_is_kept_whole() -> None:
    """The labels of a classifier are symbolic too, but no input says how many there are."""
    logits = Field("logits", "FP32", ("labels",))
    (row,) = unstack({"logits": np.array([[1.0, 2.0]])}, [logits], [{"length": 1}])
    assert row["logits"].tolist() == [1, 2]
