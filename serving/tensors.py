"""Named columns and arrays: one declaration for rows, requests, graphs and schemas.

Datatypes are those of the KServe v2 protocol (Open Inference Protocol, "Tensor Data Types").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidInput, fault, listed

Array = NDArray[Any]
Tensors = Mapping[str, Array]
Row = Mapping[str, Any]

NUMPY_TYPES: Mapping[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    # numpy has no bfloat16; FP32 holds each of its values exactly.
    "BF16": np.float32,
    "BYTES": np.object_,
}


# What a value of each kind may be given as, by numpy's kinds: truth values, signed and unsigned integers, floats.
_GIVEN_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}


@dataclass(frozen=True)
class Field:
    """One named column of a row, or one array of a graph, without its batch axis.

    ``dtype`` is a v2 datatype. ``shape`` holds fixed sizes and names of symbolic axes (``"length"``);
    ``()`` is a scalar. ``pad`` fills symbolic axes when rows are stacked. ``bounds`` are the least and the largest
    value that a caller's array may hold.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] = ()
    doc: str = ""
    pad: float = 0
    optional: bool = False
    bounds: tuple[int, int] | None = None

    def dims(self, axes: Mapping[str, Sequence[str]]) -> list[int]:
        """The shape on the wire, without the batch axis: -1 for a symbolic axis without named coordinates.

        A scalar is [1]: Triton has no scalars.
        """
        known = [d if isinstance(d, int) else (len(axes[d]) if d in axes else -1) for d in self.shape]
        return known or [1]


@dataclass(frozen=True)
class Graph:
    """The arrays that go into and come out of one exported graph, without the batch axis."""

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]


def check(row: Row, fields: Sequence[Field], max_sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The row with every value in its field's type: text as ``str``, numbers as arrays.

    ``max_sizes`` bounds symbolic axes. Raises InvalidInput that lists every fault of the row: unknown, missing and
    ill-typed columns, values out of bounds, and axes that are too long or of unlike size.
    """
    faults = []
    known = {field.name for field in fields}
    names = ", ".join(field.name for field in fields)
    for name in row:
        if name not in known:
            faults.append(fault(str(name), "unknown column", row[name], f"the columns are {names}"))
    checked: dict[str, Any] = {}
    for field in fields:
        value = row.get(field.name)
        if value is None:
            if not field.optional:
                faults.append(fault(field.name, "missing", value, f"give {_wanted(field)}"))
            continue
        try:
            checked[field.name] = _typed(value, field)
        except (TypeError, ValueError, OverflowError) as error:
            faults.append(fault(field.name, str(error), value, f"give {_wanted(field)}"))
    if max_sizes and not faults:
        faults = _wrong_sizes(checked, fields, max_sizes)
    if faults:
        raise InvalidInput(listed(faults))
    return checked


def _wrong_sizes(row: Tensors, fields: Sequence[Field], max_sizes: Mapping[str, int]) -> list[str]:
    """What is wrong with the sizes of symbolic axes, which arrays of one row share."""
    faults = []
    for axis, most in max_sizes.items():
        found = {f.name: row[f.name].shape[f.shape.index(axis)] for f in fields if f.name in row and axis in f.shape}
        if len(set(found.values())) > 1:
            faults.append(fault(axis, "is not the same in all arrays", found, "send arrays of one size"))
        elif found and not 1 <= max(found.values()) <= most:
            faults.append(fault(axis, "is out of bounds", max(found.values()), f"send 1 to {most}"))
    return faults


def _wanted(field: Field) -> str:
    if field.dtype == "BYTES" and not field.shape:
        return "a text"
    return f"{field.dtype} of shape {list(field.shape)}" if field.shape else f"a number ({field.dtype})"


def _typed(value: object, field: Field) -> Any:
    if field.dtype == "BYTES" and not field.shape:
        if isinstance(value, np.ndarray | np.generic):
            value = value.item()
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise ValueError(f"not UTF-8 at byte {error.start}") from None
        if not isinstance(value, str):
            raise TypeError("not a text")
        if not (value.isascii() or _is_text(value)):
            raise ValueError("holds a lone surrogate, which is not text")
        return value
    kind = np.dtype(NUMPY_TYPES[field.dtype])
    given = np.asarray(value)
    # numpy would make 1 of 1.5, of "1" and of true.
    if given.size and given.dtype.kind not in _GIVEN_KINDS.get(kind.kind, given.dtype.kind):
        raise TypeError("holds values of another type")
    array = np.asarray(value, dtype=kind)
    if array.ndim != len(field.shape):
        raise ValueError(f"has {array.ndim} axes instead of {len(field.shape)}")
    for size, wanted in zip(array.shape, field.shape, strict=True):
        if isinstance(wanted, int) and size != wanted:
            raise ValueError(f"has shape {list(array.shape)}")
    if field.bounds and array.size and not field.bounds[0] <= array.min() <= array.max() <= field.bounds[1]:
        raise ValueError(f"holds values outside {field.bounds[0]} to {field.bounds[1]}")
    return array


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def sizes(tensors: Tensors, fields: Sequence[Field]) -> dict[str, int]:
    """The size of each symbolic axis, as these arrays of one row have it."""
    found: dict[str, int] = {}
    for field in fields:
        if field.name in tensors:
            for size, axis in zip(tensors[field.name].shape, field.shape, strict=True):
                if isinstance(axis, str):
                    found[axis] = size
    return found


def stack(rows: Sequence[Tensors], fields: Sequence[Field]) -> dict[str, Array]:
    """Many rows as one batch: each field gains a leading batch axis, shorter rows are padded at the end.

    ``rows[i][name]`` has the field's own shape; the result has shape ``(len(rows), ...)``.
    """
    if len(rows) == 1:
        # The most frequent batch: a view, nothing is copied.
        return {field.name: rows[0][field.name][np.newaxis] for field in fields}
    batch: dict[str, Array] = {}
    for field in fields:
        arrays = [row[field.name] for row in rows]
        first = arrays[0]
        if all(array.shape == first.shape for array in arrays):
            batch[field.name] = np.stack(arrays)
            continue
        longest = np.max([array.shape for array in arrays], axis=0)
        padded = np.full((len(arrays), *longest), field.pad, dtype=first.dtype)
        for index, array in enumerate(arrays):
            padded[index][tuple(slice(size) for size in array.shape)] = array
        batch[field.name] = padded
    return batch


def unstack(batch: Tensors, fields: Sequence[Field], axes: Sequence[Mapping[str, int]]) -> list[dict[str, Array]]:
    """The inverse of stack: row ``i`` gets its arrays back, cut to the sizes ``axes[i]`` of its symbolic axes."""
    rows: list[dict[str, Array]] = []
    for index, own in enumerate(axes):
        row = {}
        for field in fields:
            cut = [slice(own.get(axis)) if isinstance(axis, str) else slice(None) for axis in field.shape]
            row[field.name] = batch[field.name][(index, *cut)]
        rows.append(row)
    return rows
