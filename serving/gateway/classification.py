"""The classification extension of KServe v2: the best classes of an output as texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.codec import Tensor
from serving.columns import Schema
from serving.errors import InvalidInput
from serving.tensors import Field


def check(field: Field, schema: Schema) -> None:
    """Raise InvalidInput for an output whose values are texts, and so no scores of classes."""
    if field.dtype == "BYTES":
        numeric = ", ".join(f.name for f in schema.outputs if f.dtype != "BYTES" and f.shape)
        raise InvalidInput(f"class result not available for output '{field.name}', which is text; ask for {numeric}")


def classified(tensor: Tensor, field: Field, schema: Schema, classes: int) -> Tensor:
    """The ``classes`` largest values of each row, as ``VALUE:INDEX:LABEL``: BYTES of shape [batch, classes].

    The label is left out where the output's axis has no names.
    Source: Triton's classification extension and src/classification.cc, whose form of a value has six decimals.
    """
    axis = field.shape[-1] if field.shape else None
    labels: Sequence[str] = schema.axes.get(axis, ()) if isinstance(axis, str) else ()
    rows = tensor.array if schema.max_batch_size else tensor.array[np.newaxis]
    flat = rows.reshape(len(rows), -1)
    count = min(classes, flat.shape[1])
    # Stable, so that of equal values the first comes first.
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    texts = np.empty((len(flat), count), object)
    for row, indices in enumerate(order):
        texts[row] = [_text(float(flat[row, index]), int(index), labels) for index in indices]
    return Tensor(tensor.name, "BYTES", texts if schema.max_batch_size else texts[0])


def _text(value: float, index: int, labels: Sequence[str]) -> str:
    return f"{value:.6f}:{index}" + (f":{labels[index]}" if index < len(labels) else "")
