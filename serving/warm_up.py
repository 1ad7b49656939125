"""``model_warmup`` of a configuration as rows: they run before the model is ready, as in Triton."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tritonclient.grpc.model_config_pb2 import DataType, ModelWarmup

from serving import codec
from serving.codec import Tensor
from serving.columns import Schema
from serving.errors import BundleError, DownstreamError
from serving.tensors import NUMPY_TYPES, Row

FOLDER = "warmup"


def rows(sample: ModelWarmup, schema: Schema, folder: Path) -> Sequence[Row]:
    """The rows of one warm-up sample of the model directory ``folder``: one row, as often as the batch has rows.

    Raises BundleError that names the sample.
    """
    if sample.batch_size > schema.max_batch_size:
        raise BundleError(
            f"model_warmup '{sample.name}': batch_size {sample.batch_size} is more than max_batch_size "
            f"{schema.max_batch_size}; lower it"
        )
    try:
        row = schema.rows([_tensor(name, asked, schema, folder) for name, asked in sample.inputs.items()])
        return row * (sample.batch_size if schema.max_batch_size else 1)
    except (DownstreamError, OSError) as error:
        raise BundleError(f"model_warmup '{sample.name}': {error}; mend the sample or remove it") from error


def _tensor(name: str, asked: ModelWarmup.Input, schema: Schema, folder: Path) -> Tensor:
    datatype = DataType.Name(asked.data_type).removeprefix("TYPE_").replace("STRING", "BYTES")
    shape = [*([1] if schema.max_batch_size else []), *asked.dims]
    kind = asked.WhichOneof("input_data_type")
    if kind == "input_data_file":
        base = (folder / FOLDER).resolve()
        path = (base / asked.input_data_file).resolve()
        if not path.is_relative_to(base):
            raise BundleError(f"input '{name}': {asked.input_data_file!r} is outside {FOLDER}/")
        return codec.from_raw(name, datatype, shape, path.read_bytes())
    if datatype == "BYTES":
        # What Triton makes of zero and random data: empty texts, and texts of random bytes.
        array = np.full(shape, b"" if kind == "zero_data" else b"warm up", object)
    elif kind == "random_data" and np.dtype(NUMPY_TYPES[datatype]).kind == "f":
        array = np.random.default_rng(0).random(shape).astype(NUMPY_TYPES[datatype])
    else:
        array = np.zeros(shape, NUMPY_TYPES[datatype]) if math.prod(shape) else np.empty(shape, NUMPY_TYPES[datatype])
    return Tensor(name, datatype, array)
