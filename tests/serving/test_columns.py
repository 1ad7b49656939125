"""Schemas: rows and tensors are two forms of the same thing, and what is no request of the model is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving import codec
from serving.codec import Tensor
from serving.columns import Schema
from serving.errors import InvalidInput
from serving.tasks.text_classification import TextClassification
from serving.tensors import Array, Field
from tests.serving.bundles import ARRAYS, LABELS, write_assets

TEXT = Field("text", "BYTES")
PAIR = Field("pair", "BYTES", optional=True)
YEAR = Field("year", "INT64", optional=True)
BOX = Field("box", "FP32", (4,), optional=True)
IDS = Field("ids", "INT64", ("length",))
MASK = Field("mask", "INT64", ("length",))
LABEL = Field("label", "BYTES")
SCORE = Field("score", "FP32")
LOGITS = Field("logits", "FP32", ("labels",))
SCHEMA = Schema("m", (TEXT, PAIR, YEAR, BOX), (IDS, MASK), (LABEL, SCORE, LOGITS), {"labels": LABELS}, 4)
WHOLE = replace(SCHEMA, max_batch_size=0)


def texts(*values: Any, shape: Sequence[int] | None = None) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape((len(values), 1) if shape is None else shape)


def tensors(**given: Array) -> list[Tensor]:
    fields = {field.name: field for field in SCHEMA.fields}
    return [Tensor(name, fields[name].dtype, array) for name, array in given.items()]


columns = st.fixed_dictionaries(
    {"text": st.binary() | st.text()},
    optional={
        "pair": st.text(),
        "year": st.integers(-(2**63), 2**63 - 1).map(np.int64),
        "box": arrays.arrays(np.float32, 4, elements=st.floats(width=32, allow_nan=False)),
    },
)
encoded = st.integers(0, 5).flatmap(
    lambda length: st.fixed_dictionaries(
        {"ids": arrays.arrays(np.int64, length), "mask": arrays.arrays(np.int64, length)}
    )
)


def as_tensors(rows: Sequence[Mapping[str, Any]], *, batched: bool, trailing: bool) -> list[Tensor]:
    """The rows as a client would put them into tensors."""
    fields = {field.name: field for field in SCHEMA.fields}
    found = []
    for name in rows[0]:
        field, first = fields[name], rows[0][name]
        kind = object if field.dtype == "BYTES" else np.asarray(first).dtype
        array: Array = np.empty((len(rows), *np.shape(first)), kind)
        for index, row in enumerate(rows):
            array[index] = row[name]
        if not field.shape and trailing:
            array = array.reshape(-1, 1)
        whole = array.reshape(array.shape[1:]) if len(rows) == 1 else array
        found.append(Tensor(name, field.dtype, array if batched else whole))
    return found


@settings(deadline=None)
@given(st.data(), st.integers(1, 4), st.sampled_from([columns, encoded]), st.booleans())
def test_rows_come_back_from_the_tensors_they_were_put_into(
    data: st.DataObject, count: int, kind: st.SearchStrategy[dict[str, Any]], trailing: bool
) -> None:
    first = data.draw(kind)
    alike = st.just(first) | kind.filter(
        lambda row: row.keys() == first.keys() and all(np.shape(row[name]) == np.shape(first[name]) for name in row)
    )
    rows = [first, *(data.draw(alike) for _ in range(count - 1))]
    found = SCHEMA.rows(as_tensors(rows, batched=True, trailing=trailing))
    assert len(found) == count
    for row, back in zip(rows, found, strict=True):
        assert_same(row, back)


@settings(deadline=None)
@given(columns | encoded, st.booleans())
def test_without_a_batch_axis_the_tensors_are_one_row(row: dict[str, Any], trailing: bool) -> None:
    (found,) = WHOLE.rows(as_tensors([row], batched=False, trailing=trailing))
    assert_same(row, found)


def assert_same(row: Mapping[str, Any], back: Mapping[str, Any]) -> None:
    assert row.keys() == back.keys()
    for name, value in row.items():
        np.testing.assert_array_equal(back[name], value)
        assert np.shape(back[name]) == np.shape(value), name
        assert isinstance(back[name], bytes | str | np.ndarray | np.generic)


answers = st.fixed_dictionaries(
    {
        "label": st.text(),
        "score": st.floats(0, 1, width=32).map(np.float32),
        "logits": arrays.arrays(np.float32, len(LABELS)),
    }
)


@settings(deadline=None)
@given(st.lists(answers, min_size=1, max_size=5))
def test_answers_are_gathered_in_order_with_the_declared_shape(given_answers: list[dict[str, Any]]) -> None:
    for field in SCHEMA.outputs:
        tensor = SCHEMA.gathered(field, given_answers)
        assert (tensor.name, tensor.datatype) == (field.name, field.dtype)
        assert list(tensor.array.shape) == [len(given_answers), *SCHEMA.shape(field)[1:]]
        for index, answer in enumerate(given_answers):
            value = tensor.array[index]
            np.testing.assert_array_equal(value if field.shape else value[0], answer[field.name])


@given(answers)
def test_answer_without_a_batch_axis_has_the_shape_of_the_metadata(answer: dict[str, Any]) -> None:
    for field in WHOLE.outputs:
        assert list(WHOLE.gathered(field, [answer]).array.shape) == WHOLE.shape(field)


def test_output_of_several_texts_a_row_is_gathered_too() -> None:
    field = Field("names", "BYTES", (2,))
    tensor = SCHEMA.gathered(field, [{"names": ["a", "bb"]}, {"names": ["", "é"]}])
    assert tensor.array.tolist() == [["a", "bb"], ["", "é"]]


def test_metadata_tells_datatype_and_shape_with_the_batch_axis_first() -> None:
    assert SCHEMA.described(SCHEMA.outputs) == [
        {"name": "label", "datatype": "BYTES", "shape": [-1, 1]},
        {"name": "score", "datatype": "FP32", "shape": [-1, 1]},
        {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
    ]
    assert [item["shape"] for item in WHOLE.described(WHOLE.fields)] == [[1], [1], [1], [4], [-1], [-1]]


@pytest.mark.parametrize(
    ("given_tensors", "said"),
    [
        ([], "expected 1 inputs but got 0 inputs for model 'm'. Missing: text"),
        (tensors(pair=texts("a")), "expected 1 inputs but got 1 inputs for model 'm'. Missing: text"),
        (tensors(ids=np.zeros((1, 2), np.int64)), "Missing: mask"),
        (tensors(text=texts("a"), mask=np.zeros((1, 2), np.int64)), "takes either text, pair, year, box or ids, mask"),
        ([Tensor("txt", "BYTES", texts("a"))], "unexpected inference input 'txt' for model 'm'; the inputs are text"),
        ([*tensors(text=texts("a")), *tensors(text=texts("b"))], "given twice"),
        ([Tensor("text", "INT64", np.zeros((1, 1), np.int64))], "data-type is 'INT64', but model 'm' expects 'BYTES'"),
        (tensors(text=texts("a", "b", shape=(1, 2))), r"'text' for model 'm'. Expected \[-1, 1\], got \[1, 2\]"),
        (tensors(text=texts("a", shape=())), r"Expected \[-1, 1\], got \[\]"),
        (tensors(text=texts("a"), box=np.zeros((1, 3), np.float32)), r"'box' .*Expected \[-1, 4\], got \[1, 3\]"),
        (tensors(text=texts("a"), box=np.zeros(4, np.float32)), r"'box' .*got \[4\]"),
        (tensors(text=texts("a", "b"), pair=texts("c")), r"different batch sizes: \[1, 2\]"),
        (tensors(text=texts("a", "b", "c", "d", "e")), "batch-size must be <= 4 for 'm', and at least 1, got 5"),
        (tensors(text=texts(shape=(0, 1))), "got 0"),
    ],
)
def test_what_is_no_request_of_the_model_is_refused(given_tensors: list[Tensor], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        SCHEMA.rows(given_tensors)


@pytest.mark.parametrize("array", [texts("a", shape=(1, 1)), texts("a", "b", shape=(2,))])
def test_model_without_a_batch_axis_takes_no_batch(array: Array) -> None:
    with pytest.raises(InvalidInput, match=r"Expected \[1\]"):
        WHOLE.rows(tensors(text=array))


def test_model_whose_inputs_are_all_optional_still_needs_one() -> None:
    with pytest.raises(InvalidInput, match="got 0 inputs"):
        replace(SCHEMA, inputs=(PAIR,)).rows([])


def test_outputs_are_those_that_are_asked_for_once_each_and_all_where_none_is() -> None:
    assert [field.name for field in SCHEMA.wanted(["logits", "label", "logits"])] == ["logits", "label"]
    assert SCHEMA.wanted([]) == list(SCHEMA.outputs)
    with pytest.raises(InvalidInput, match="'lable' for model 'm'; the outputs are label, score, logits"):
        SCHEMA.wanted(["label", "lable"])


@pytest.mark.parametrize("schema", [SCHEMA, WHOLE], ids=["batched", "whole"])
def test_raw_data_of_the_one_needed_input_is_a_row(schema: Schema) -> None:
    (row,) = schema.rows([schema.raw("héllo".encode())])
    assert row == {"text": "héllo".encode()}


@pytest.mark.parametrize(
    ("field", "data", "value"),
    [
        (Field("x", "INT64", ("length",)), np.arange(3, dtype="<i8"), [0, 1, 2]),
        (Field("x", "FP32", ("length", 2)), np.arange(4, dtype="<f4"), [[0, 1], [2, 3]]),
        (Field("x", "INT64", ()), np.array([7], "<i8"), 7),
        (Field("x", "BF16", ("length",)), np.array([0x3F80, 0x4000], "<u2"), [1, 2]),
    ],
)
@pytest.mark.parametrize("most", [4, 0])
def test_size_of_raw_numbers_tells_their_shape(field: Field, data: Array, value: object, most: int) -> None:
    schema = Schema("m", (field,), (), (LABEL,), {}, most)
    (row,) = schema.rows([schema.raw(data.tobytes())])
    np.testing.assert_array_equal(row["x"], value)


def test_raw_numbers_that_fill_no_shape_are_refused() -> None:
    schema = Schema("m", (Field("x", "INT64", ("length", 2)),), (), (LABEL,), {}, 4)
    with pytest.raises(InvalidInput, match="'x'"):
        schema.raw(bytes(24))


def test_raw_data_for_a_model_that_needs_more_than_one_input_is_refused() -> None:
    schema = replace(SCHEMA, inputs=(TEXT, replace(PAIR, optional=False)))
    with pytest.raises(InvalidInput, match=r"needs text, pair; send JSON"):
        schema.raw(b"a")


def test_schema_of_a_task_has_its_columns_and_the_arrays_of_its_graph(tmp_path: Any) -> None:
    schema = Schema.of(TextClassification.open(write_assets(tmp_path / "assets")), "intent", 4)
    assert [field.name for field in schema.fields] == ["text", "text_pair", *ARRAYS]
    sent = [codec.from_raw(name, "INT64", [2, 3], bytes(48)) for name in ARRAYS]
    assert [set(row) for row in schema.rows(sent)] == [set(ARRAYS)] * 2
