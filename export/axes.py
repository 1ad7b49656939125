"""The axes of an exported graph: batch and length stayed symbolic, and are called what the task calls them."""

from __future__ import annotations

import numpy as np
import onnx

from export.child import ExportError
from serving.tensors import NUMPY_TYPES, Graph


def name_axes(model: onnx.ModelProto, graph: Graph) -> None:
    """Give symbolic axes the names of the task's fields. Raises ExportError where the exporter baked in a size."""
    _add_unread(model, graph)
    values = {value.name: value for value in [*model.graph.input, *model.graph.output]}
    baked = []
    for field in (*graph.inputs, *graph.outputs):
        if field.name not in values:
            raise ExportError(f"the graph has no {field.name!r}; it has {', '.join(values)}")
        dimensions = values[field.name].type.tensor_type.shape.dim
        for axis, (dimension, wanted) in enumerate(zip(dimensions, ("batch", *field.shape), strict=True)):
            is_output_class_axis = field in graph.outputs and axis > 0
            if isinstance(wanted, str) and not dimension.dim_param and not is_output_class_axis:
                baked.append(f"{field.name} axis {axis} ({wanted}) is fixed to {dimension.dim_value}")
            elif isinstance(wanted, str) and dimension.dim_param:
                dimension.dim_param = wanted
    if baked:
        raise ExportError(f"axes that must be dynamic were baked in: {'; '.join(baked)}")


def _add_unread(model: onnx.ModelProto, graph: Graph) -> None:
    """Declare the inputs that a tracer dropped because the model does not read them, as DeBERTa its token types.

    Raises ExportError for an input that no field fills.
    """
    found = {value.name for value in model.graph.input}
    unknown = sorted(found - {field.name for field in graph.inputs})
    if unknown:
        raise ExportError(f"the graph wants {', '.join(unknown)}, which no field of the task fills")
    for field in graph.inputs:
        if field.name not in found:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(NUMPY_TYPES[field.dtype]))
            model.graph.input.append(onnx.helper.make_tensor_value_info(field.name, kind, ["batch", *field.shape]))
