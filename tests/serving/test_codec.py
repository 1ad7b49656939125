"""v2 tensors and their bytes: what goes out comes back, and what is no tensor is refused by name."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ml_dtypes import bfloat16
from tritonclient.grpc import InferInput
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from serving.codec import BINARY_ONLY, Tensor, from_json, from_raw, to_json, to_raw
from serving.errors import InvalidInput
from serving.tensors import NUMPY_TYPES, Array

NUMERIC = sorted(NUMPY_TYPES.keys() - {"BYTES"})
shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)


@st.composite
def numbers(draw: st.DrawFn, datatypes: Sequence[str] = NUMERIC) -> Tensor:
    datatype = draw(st.sampled_from(datatypes))
    array = draw(arrays.arrays(np.uint16 if datatype == "BF16" else NUMPY_TYPES[datatype], shapes))
    # A value of BF16 is the upper half of an FP32.
    return Tensor("x", datatype, (array.astype(np.uint32) << 16).view(np.float32) if datatype == "BF16" else array)


@st.composite
def texts(draw: st.DrawFn, elements: st.SearchStrategy[Any]) -> Tensor:
    shape = draw(shapes)
    array = np.empty(shape, object)
    array.reshape(-1)[:] = draw(st.lists(elements, min_size=array.size, max_size=array.size))
    return Tensor("x", "BYTES", array)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    assert (found.name, found.datatype) == (wanted.name, wanted.datatype)
    assert found.array.dtype == wanted.array.dtype
    np.testing.assert_array_equal(found.array, wanted.array)


@settings(deadline=None)
@given(numbers() | texts(st.binary()))
def test_raw_form_comes_back_as_it_went(tensor: Tensor) -> None:
    assert_same(from_raw(tensor.name, tensor.datatype, tensor.array.shape, to_raw(tensor)), tensor)


@settings(deadline=None)
@given(numbers([name for name in NUMERIC if name not in BINARY_ONLY]) | texts(st.text()))
def test_json_form_comes_back_as_it_went(tensor: Tensor) -> None:
    data = orjson.loads(orjson.dumps(to_json(tensor)))
    if None in data:  # NaN or infinity, which JSON does not have
        assert not np.isfinite(tensor.array).all()
        return
    assert_same(from_json(tensor.name, tensor.datatype, tensor.array.shape, data), tensor)


@settings(deadline=None)
@given(texts(st.binary() | st.text()))
def test_raw_bytes_are_those_of_the_triton_client(tensor: Tensor) -> None:
    flat = tensor.array.reshape(-1)
    assert to_raw(tensor) == b"".join(serialize_byte_tensor(np.array([value], object)).item() for value in flat)
    back = deserialize_bytes_tensor(to_raw(tensor))
    assert list(back) == [value.encode() if isinstance(value, str) else value for value in flat]


@settings(deadline=None)
@given(
    st.sampled_from(sorted(NUMPY_TYPES)), st.lists(st.integers(0, 3), min_size=1, max_size=3), st.binary(max_size=64)
)
def test_any_bytes_are_either_a_tensor_of_that_shape_or_refused_by_name(
    datatype: str, shape: list[int], data: bytes
) -> None:
    refusal = "'x'"
    try:
        tensor = from_raw("x", datatype, shape, data)
        assert tensor.array.shape == tuple(shape)
        assert datatype == "BOOL" or to_raw(tensor) == data  # any byte but 0 is true
    except InvalidInput as error:
        refusal = str(error)
    assert "'x'" in refusal


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.text() | st.sampled_from(sorted(NUMPY_TYPES)), st.lists(json_values, max_size=3), json_values)
def test_any_json_is_either_a_tensor_or_refused_by_name(datatype: str, shape: list[Any], data: Any) -> None:
    refusal = "'x'"
    try:
        with np.errstate(over="ignore"):
            assert from_json("x", datatype, shape, data).array.shape == tuple(shape)
    except InvalidInput as error:
        refusal = str(error)
    assert "'x'" in refusal


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]], [[[1], [2], [3]], [[4], [5], [6]]]])
def test_json_data_may_be_flat_or_nested(data: list[Any]) -> None:
    assert from_json("x", "INT32", [2, 3], data).array.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_json_data_may_be_nested_as_deep_as_the_parser_takes() -> None:
    data = orjson.loads(b"[" * 1000 + b"1, 2" + b"]" * 1000)
    assert from_json("x", "INT64", [2], data).array.tolist() == [1, 2]
    assert from_json("x", "INT64", [4], [1, [[2], 3], [], 4]).array.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT64", [1.5]),
        ("INT64", ["1"]),
        ("INT64", [True]),
        ("INT64", [2**63]),
        ("UINT8", [256]),
        ("UINT8", [-1]),
        ("BOOL", [1]),
        ("FP32", ["1.5"]),
        ("FP32", [None]),
        ("FP32", [True]),
        ("BYTES", [1]),
        ("BYTES", [None]),
        ("BYTES", [{"text": "a"}]),
        ("BYTES", "a"),
        ("BYTES", None),
    ],
)
def test_json_value_of_another_type_is_refused_and_not_converted(datatype: str, data: Any) -> None:
    with pytest.raises(InvalidInput, match=f"input 'x': data is not {datatype}"):
        from_json("x", datatype, [1], data)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([3], "wants 3 elements, got 2"),
        ([], "wants 1 elements, got 2"),
        ([2, -1], "non-negative"),
        ([2.0], "non-negative"),
        ([True, 2], "non-negative"),
        (["2"], "non-negative"),
        ([1] * 80 + [2], "81 axes, at most 8"),
        ([2**62] * 100_000, "100000 axes, at most 8"),
    ],
)
def test_shape_that_does_not_fit_is_refused(shape: list[Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=f"input 'x': .*{said}"):
        from_json("x", "INT32", shape, [1, 2])


def test_empty_axis_beside_one_that_numpy_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'x'"):
        from_raw("x", "INT32", [0, 2**63], b"")


@pytest.mark.parametrize("reader", [from_json, from_raw])
def test_unknown_datatype_is_refused_with_the_known_ones(reader: Any) -> None:
    with pytest.raises(InvalidInput, match=r"'x': unknown datatype 'STRING'.*BYTES"):
        reader("x", "STRING", [1], b"")


def test_fp16_has_no_json_form() -> None:
    with pytest.raises(InvalidInput, match="binary"):
        from_json("x", "FP16", [1], [1.0])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x01\x00", "inside a length"),
        (b"\x05\x00\x00\x00abc", "5 bytes runs past the end"),
        (b"\x01\x00\x00\x00a\x00", "inside a length"),
        (b"\x01\x00\x00\x00a\x01\x00\x00\x00b", "wants 1 elements, got 2"),
        (b"", "wants 1 elements, got 0"),
    ],
)
def test_bytes_data_that_is_cut_or_too_long_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"'x': .*{said}"):
        from_raw("x", "BYTES", [1], data)


def test_number_that_is_cut_is_refused() -> None:
    with pytest.raises(InvalidInput, match="7 bytes are no whole number of INT64"):
        from_raw("x", "INT64", [1], b"\x00" * 7)


def test_raw_numbers_are_little_endian() -> None:
    assert from_raw("x", "UINT16", [1], b"\x01\x00").array.tolist() == [1]
    assert to_raw(Tensor("x", "FP32", np.array([1.5], ">f4"))) == struct.pack("<f", 1.5)


def test_json_has_null_for_what_is_no_finite_number() -> None:
    array: Array = np.array([1.5, math.nan, math.inf, -math.inf], np.float32)
    assert to_json(Tensor("x", "FP32", array)) == [1.5, None, None, None]


@settings(deadline=None)
@given(arrays.arrays(np.float32, shapes))
def test_bf16_is_rounded_as_the_triton_client_does(array: Array) -> None:
    """The client takes ml_dtypes.bfloat16 and sends its bytes."""
    with np.errstate(all="ignore"):
        rounded = array.astype(bfloat16)
    item = InferInput("x", list(array.shape), "BF16")
    item.set_data_from_numpy(rounded)
    sent = item._get_content() if array.size else b""
    found = to_raw(Tensor("x", "BF16", array))
    numbers = ~np.isnan(array).reshape(-1)
    assert np.array_equal(np.frombuffer(found, "<u2")[numbers], np.frombuffer(sent or b"", "<u2")[numbers])
    np.testing.assert_array_equal(from_raw("x", "BF16", array.shape, found).array, rounded.astype(np.float32))


def test_bf16_of_a_nan_is_no_infinity() -> None:
    """The payload of this NaN lies in the half that is cut."""
    nan = np.array([0x7F800001], np.uint32).view(np.float32)
    assert np.isnan(from_raw("x", "BF16", [1], to_raw(Tensor("x", "BF16", nan))).array).all()
