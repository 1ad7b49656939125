"""Wire tensors to rows and answers to wire tensors: the batch axis comes off and goes on here, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from serving import codec
from serving.codec import Tensor
from serving.errors import InvalidInput
from serving.tasks import Task
from serving.tensors import NUMPY_TYPES, Array, Field, Row


@dataclass(frozen=True)
class Schema:
    """What a model takes and gives on the wire.

    A row comes as ``inputs``, the columns of the task, or as ``arrays``, those of the graph, encoded by the caller.
    ``max_batch_size`` 0 means that tensors have no batch axis, as in Triton.
    """

    model: str
    inputs: tuple[Field, ...]
    arrays: tuple[Field, ...]
    outputs: tuple[Field, ...]
    axes: Mapping[str, Sequence[str]]
    max_batch_size: int
    # What was found out about the few ways in which requests name inputs: it would take longer than all else here.
    _complete: dict[tuple[str, ...], Mapping[str, Field]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, task: Task, model: str, max_batch_size: int) -> Schema:
        """The schema of a task's model."""
        first = next(iter(task.graphs.values()))
        return cls(model, task.inputs, first.inputs, task.outputs, task.axes, max_batch_size)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Every input that a request may name."""
        return (*self.inputs, *self.arrays)

    def shape(self, field: Field) -> list[int]:
        """The wire shape, -1 for the batch axis and for symbolic axes without named coordinates."""
        return [*([-1] if self.max_batch_size else []), *field.dims(self.axes)]

    def described(self, fields: Sequence[Field]) -> list[dict[str, Any]]:
        """Fields as v2 metadata has them."""
        return [{"name": field.name, "datatype": field.dtype, "shape": self.shape(field)} for field in fields]

    def wanted(self, names: Sequence[str]) -> list[Field]:
        """The outputs of these names, all where none is named. Raises InvalidInput for one that there is not."""
        fields = {field.name: field for field in self.outputs}
        for name in names:
            if name not in fields:
                raise InvalidInput(
                    f"unexpected inference output '{name}' for model '{self.model}'; "
                    f"the outputs are {', '.join(fields)}"
                )
        return [fields[name] for name in dict.fromkeys(names)] or list(self.outputs)

    def rows(self, tensors: Sequence[Tensor]) -> list[dict[str, Any]]:
        """The rows of a request's tensors. Raises InvalidInput, in Triton's words where it has some."""
        given = {tensor.name: tensor for tensor in tensors}
        if len(given) != len(tensors):
            raise InvalidInput(f"an input is given twice for model '{self.model}'")
        fields = self._chosen(tuple(given))
        for tensor in tensors:
            self._check(tensor, fields[tensor.name])
        if not self.max_batch_size:
            return [{name: next(iter(_values(tensor.array[None], fields[name]))) for name, tensor in given.items()}]
        counts = {tensor.array.shape[0] for tensor in tensors}
        if len(counts) > 1:
            raise InvalidInput(f"the inputs of model '{self.model}' have different batch sizes: {sorted(counts)}")
        (count,) = counts
        if not 1 <= count <= self.max_batch_size:
            raise InvalidInput(
                f"inference request batch-size must be <= {self.max_batch_size} for '{self.model}', "
                f"and at least 1, got {count}"
            )
        columns = [_values(tensor.array, fields[name]) for name, tensor in given.items()]
        return [dict(zip(given, values, strict=True)) for values in zip(*columns, strict=True)]

    def raw(self, data: bytes) -> Tensor:
        """The one input that a row needs, of nothing but its data: a text as it is, else raw elements of one row.

        Raises InvalidInput for a model that needs more.
        """
        required = [field for field in self.inputs if not field.optional]
        if len(required) != 1:
            raise InvalidInput(
                f"Raw request must only have 1 input to be deduced but model '{self.model}' needs "
                f"{', '.join(field.name for field in required)}; send JSON"
            )
        (field,) = required
        shape = [*([1] if self.max_batch_size else []), *field.dims(self.axes)]
        if field.dtype == "BYTES":
            array = np.empty(1, object)
            array[0] = data
            return Tensor(field.name, field.dtype, array.reshape([1] * len(shape)))
        known = math.prod(size for size in shape if size >= 0) * codec.stored(field.dtype).itemsize
        return codec.from_raw(field.name, field.dtype, [len(data) // known if s < 0 else s for s in shape], data)

    def _chosen(self, names: tuple[str, ...]) -> Mapping[str, Field]:
        """The fields of the given names, complete: all of one kind and none of the other."""
        if names in self._complete:
            return self._complete[names]
        known = {field.name: field for field in self.fields}
        for name in names:
            if name not in known:
                raise InvalidInput(
                    f"unexpected inference input '{name}' for model '{self.model}'; the inputs are {', '.join(known)}"
                )
        columns, arrays = ([f.name for f in kind if f.name in names] for kind in (self.inputs, self.arrays))
        if columns and arrays:
            raise InvalidInput(
                f"model '{self.model}' takes either {', '.join(f.name for f in self.inputs)} or "
                f"{', '.join(f.name for f in self.arrays)}, got {', '.join(names)}; send one of the two"
            )
        required = [field.name for field in (self.arrays if arrays else self.inputs) if not field.optional]
        missing = [name for name in required if name not in names]
        if missing or not names:
            raise InvalidInput(
                f"expected {len(required)} inputs but got {len(names)} inputs for model '{self.model}'. "
                f"Missing: {', '.join(missing or known)}"
            )
        return self._complete.setdefault(names, {name: known[name] for name in names})

    @cached_property
    def _accepted(self) -> Mapping[str, Sequence[Sequence[int]]]:
        """The wire shapes of each input. A column of scalars may come without its trailing 1, as people write it."""
        shapes = {field: self.shape(field) for field in self.fields}
        return {f.name: [shape] if f.shape else [shape, shape[:-1]] for f, shape in shapes.items()}

    def _check(self, tensor: Tensor, field: Field) -> None:
        if tensor.datatype != field.dtype:
            raise InvalidInput(
                f"inference input '{tensor.name}' data-type is '{tensor.datatype}', "
                f"but model '{self.model}' expects '{field.dtype}'"
            )
        found, accepted = tensor.array.shape, self._accepted[field.name]
        if not any(_fits(found, shape) for shape in accepted):
            raise InvalidInput(
                f"unexpected shape for input '{tensor.name}' for model '{self.model}'. "
                f"Expected {accepted[0]}, got {list(found)}"
            )

    def gathered(self, field: Field, answers: Sequence[Row]) -> Tensor:
        """One output of all rows, with the batch axis; scalars get Triton's trailing 1."""
        array: Array = np.array([answer[field.name] for answer in answers], NUMPY_TYPES[field.dtype])
        if not field.shape:
            array = array.reshape(-1, 1)
        return Tensor(field.name, field.dtype, array if self.max_batch_size else array[0])


def _fits(found: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(found) == len(wanted) and all(w in (-1, f) for f, w in zip(found, wanted, strict=True))


def _values(array: Array, field: Field) -> Iterable[Any]:
    """The values of all rows; scalars without the trailing axis that they have on the wire."""
    return array if field.shape else array.reshape(-1)
