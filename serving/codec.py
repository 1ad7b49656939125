"""v2 tensors to bytes and back: JSON data and the raw form of the binary extension and of gRPC."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.errors import InvalidInput, shown
from serving.tensors import NUMPY_TYPES, Array

MAX_AXES = 8
# Half precision has no form but the binary one, in JSON as in gRPC's typed contents.
BINARY_ONLY = ("FP16", "BF16")
_LENGTH = struct.Struct("<I")
# What a JSON value must be for each datatype, by numpy's kinds: truth, integers, floating point, text.
_KINDS: Mapping[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float), "O": (str,)}
_WANTED = {bool: "true or false", int: "whole numbers", float: "numbers", str: "texts"}
_JSON_TYPES = {datatype: _KINDS[np.dtype(kind).kind] for datatype, kind in NUMPY_TYPES.items()}


@dataclass(frozen=True)
class Tensor:
    """A named v2 tensor; ``array`` has the wire shape, BYTES as objects (``bytes`` or ``str``)."""

    name: str
    datatype: str
    array: Array


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """A tensor of JSON data, flat or nested, row-major. Raises InvalidInput that names the input."""
    kind = _numpy_type(name, datatype)
    if datatype in BINARY_ONLY:
        raise InvalidInput(f"input '{name}': {datatype} has no JSON form; send it as binary data")
    try:
        wanted = _JSON_TYPES[datatype]
        values = list(flattened(data))
        # numpy would make 1 of 1.5, of "1" and of true.
        if strangers := [value for value in values if type(value) not in wanted]:
            raise ValueError(f"got {shown(strangers[0])}, give {_WANTED[wanted[-1]]}")
        flat = np.array(values, dtype=kind)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"input '{name}': data is not {datatype}: {error}") from None
    return Tensor(name, datatype, _reshaped(name, flat, shape))


def from_raw(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """A tensor of raw bytes: little-endian, row-major; BYTES elements are each preceded by a uint32 length.

    Raises InvalidInput when there are too few or too many bytes.
    """
    _numpy_type(name, datatype)
    if datatype == "BYTES":
        elements = _split(name, data)
        flat = np.empty(len(elements), object)
        flat[:] = elements
    else:
        if len(data) % stored(datatype).itemsize:
            raise InvalidInput(f"input '{name}': {len(data)} bytes are no whole number of {datatype} elements")
        flat = np.frombuffer(data, stored(datatype))
        if datatype == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return Tensor(name, datatype, _reshaped(name, flat, shape))


def stored(datatype: str) -> np.dtype[Any]:
    """How the elements of a numeric datatype lie in raw data."""
    return np.dtype("<u2" if datatype == "BF16" else NUMPY_TYPES[datatype]).newbyteorder("<")


def to_json(tensor: Tensor) -> list[Any]:
    """The data as a flat JSON list; BYTES must be UTF-8. NaN and infinities become null, as JSON has none."""
    flat = tensor.array.reshape(-1)
    if tensor.datatype == "BYTES":
        return [value if isinstance(value, str) else value.decode() for value in flat]
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return [value if math.isfinite(value) else None for value in flat.tolist()]
    return flat.tolist()


def to_raw(tensor: Tensor) -> bytes:
    """The data as raw bytes, the inverse of from_raw."""
    if tensor.datatype == "BF16":
        return _upper_halves(np.ascontiguousarray(tensor.array, np.float32)).tobytes()
    if tensor.datatype != "BYTES":
        return np.ascontiguousarray(tensor.array, tensor.array.dtype.newbyteorder("<")).tobytes()
    parts = []
    for value in tensor.array.reshape(-1):
        encoded = value.encode() if isinstance(value, str) else value
        parts += [_LENGTH.pack(len(encoded)), encoded]
    return b"".join(parts)


def _upper_halves(array: Array) -> Array:
    """FP32 to the nearest BF16, ties to even, as ml_dtypes and so Triton's client does; NaN stays NaN."""
    bits = array.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(array), bits >> 16 | 0x40, rounded).astype("<u2")


def _numpy_type(name: str, datatype: str) -> type[np.generic]:
    if datatype not in NUMPY_TYPES:
        raise InvalidInput(f"input '{name}': unknown datatype {datatype!r}; the datatypes are {', '.join(NUMPY_TYPES)}")
    return NUMPY_TYPES[datatype]


def _reshaped(name: str, flat: Array, shape: Sequence[int]) -> Array:
    # First of all: the product of a long list of large numbers takes minutes to compute.
    if len(shape) > MAX_AXES:
        raise InvalidInput(f"input '{name}': shape has {len(shape)} axes, at most {MAX_AXES} are taken")
    if any(not isinstance(size, int) or isinstance(size, bool) or size < 0 for size in shape):
        raise InvalidInput(f"input '{name}': shape must be a list of non-negative integers, got {shown(list(shape))}")
    if math.prod(shape) != len(flat):
        raise InvalidInput(f"input '{name}': shape {list(shape)} wants {math.prod(shape)} elements, got {len(flat)}")
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError) as error:  # more axes, or a longer one, than numpy has
        raise InvalidInput(f"input '{name}': shape {str(list(shape))[:80]} cannot be had: {error}") from None


def _split(name: str, data: bytes | memoryview) -> list[bytes]:
    elements = []
    position, end = 0, len(data)
    while position < end:
        if position + 4 > end:
            raise InvalidInput(f"input '{name}': BYTES data ends inside a length")
        (length,) = _LENGTH.unpack_from(data, position)
        position += 4
        if position + length > end:
            raise InvalidInput(f"input '{name}': BYTES element of {length} bytes runs past the end of the data")
        elements.append(bytes(data[position : position + length]))
        position += length
    return elements


def flattened(data: Any) -> Iterable[Any]:
    """The values of a list, nested as deep as it may be. Raises ValueError when it is no list."""
    if not isinstance(data, list):
        raise ValueError("data must be a list")
    if list not in set(map(type, data)):
        return data
    return _unnested(data)


def _unnested(data: list[Any]) -> Iterable[Any]:
    # No recursion: each value would climb through every level, and there may be as many as the JSON parser takes.
    open_lists = [iter(data)]
    while open_lists:
        for value in open_lists[-1]:
            if isinstance(value, list):
                open_lists.append(iter(value))
                break
            yield value
        else:
            open_lists.pop()
