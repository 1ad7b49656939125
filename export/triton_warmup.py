"""Warm-up requests of a Triton model: real rows as raw files under ``warmup/``, run at every load before it is ready.

A file holds one row of one input in row-major order, little-endian (common/protobuf/model_config.proto, ModelWarmup).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from serving.errors import fault
from serving.model_config import data_type
from serving.tensors import NUMPY_TYPES, Array, Field, Tensors

FOLDER = "warmup"
SAMPLES = 4


def choose(rows: Sequence[Tensors], fields: Sequence[Field]) -> list[Tensors]:
    """Up to 4 encoded rows of unlike size, the smallest and the largest among them."""
    by_size = {sum(row[field.name].size for field in fields): row for row in reversed(rows)}
    sizes = sorted(by_size)
    picks = np.linspace(0, len(sizes) - 1, min(SAMPLES, len(sizes))).round().astype(int)
    return [by_size[sizes[pick]] for pick in picks]


def write(model: Path, config: pb.ModelConfig, version: int, rows: Sequence[Tensors], fields: Sequence[Field]) -> None:
    """Write the files of these rows into ``model/warmup/`` and name them in the configuration.

    The version in their names keeps apart what the configuration of the version before still reads.
    """
    (model / FOLDER).mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        sample = config.model_warmup.add(name=f"golden row {number}", batch_size=1)
        for field in fields:
            array = np.ascontiguousarray(row[field.name], np.dtype(NUMPY_TYPES[field.dtype]).newbyteorder("<"))
            name = f"{version}-{number}-{field.name}"
            (model / FOLDER / name).write_bytes(array.tobytes())
            sample.inputs[field.name].data_type = data_type(field)
            sample.inputs[field.name].dims.extend(array.shape)
            sample.inputs[field.name].input_data_file = name


def files(config: pb.ModelConfig) -> set[str]:
    """The names of the files that a configuration reads."""
    given = (given for sample in config.model_warmup for given in sample.inputs.values())
    return {one.input_data_file for one in given if one.WhichOneof("input_data_type") == "input_data_file"}


def read(model: Path, config: pb.ModelConfig, faults: list[str]) -> list[Tensors]:
    """The requests that Triton would make, each with a batch axis of 1 where the model has one.

    What Triton would stumble over is added to ``faults``, and that request left out.
    """
    requests: list[Tensors] = []
    for sample in config.model_warmup:
        found: list[str] = []
        arrays = dict(_arrays(model, config, sample, found))
        if not found:
            requests.append(arrays)
        faults += found
    return requests


def _arrays(
    model: Path, config: pb.ModelConfig, sample: pb.ModelWarmup, faults: list[str]
) -> Iterator[tuple[str, Array]]:
    place = f"model_warmup {sample.name!r}"
    most = max(1, config.max_batch_size)
    if not 1 <= sample.batch_size <= most:
        faults.append(fault(f"{place} batch_size", "out of range", sample.batch_size, f"give 1 to {most}"))
    declared = {one.name: one for one in config.input}
    for name in sorted({one.name for one in config.input if not one.optional} - set(sample.inputs)):
        faults.append(fault(f"{place} inputs", "an input is missing", sorted(sample.inputs), f"add {name}"))
    for name, given in sample.inputs.items():
        where = f"{place} {name}"
        if name not in declared:
            faults.append(fault(where, "no such input", name, f"the inputs are {', '.join(declared)}"))
            continue
        array = _array(model, given, declared[name], where, faults)
        if array is not None:
            yield name, array[None] if config.max_batch_size else array


def _array(
    model: Path, given: pb.ModelWarmup.Input, declared: pb.ModelInput, where: str, faults: list[str]
) -> Array | None:
    """One input of one request, or None with what is wrong added to the faults."""
    wanted, shape = list(declared.dims), list(given.dims)
    before = len(faults)
    if given.data_type != declared.data_type:
        remedy = f"set data_type: {pb.DataType.Name(declared.data_type)}"
        faults.append(fault(f"{where} data_type", "is not the input's", pb.DataType.Name(given.data_type), remedy))
    fits = len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))
    if not fits or any(size < 0 for size in shape):
        faults.append(fault(f"{where} dims", f"do not fit the input's {wanted}", shape, "give the size of every axis"))
    source = given.WhichOneof("input_data_type")
    if source is None:
        faults.append(fault(where, "has no data", source, "set input_data_file, zero_data or random_data"))
    datatype = pb.DataType.Name(declared.data_type).removeprefix("TYPE_")
    if len(faults) > before or datatype not in NUMPY_TYPES:
        return None
    kind = np.dtype(NUMPY_TYPES[datatype])
    if source != "input_data_file":
        return np.zeros(shape, kind)
    path = model / FOLDER / given.input_data_file
    size = path.stat().st_size if path.is_file() else None
    if size != prod(shape) * kind.itemsize:
        problem = "is missing" if size is None else f"has {size} bytes instead of {prod(shape) * kind.itemsize}"
        remedy = f"export the model again, or write {datatype} of shape {shape} there"
        faults.append(fault(f"{where} input_data_file", problem, f"{FOLDER}/{given.input_data_file}", remedy))
        return None
    return np.fromfile(path, kind.newbyteorder("<")).astype(kind).reshape(shape)


def zeros(config: pb.ModelConfig, length: int) -> Tensors:
    """A request of zeros, for a model that has no warm-up of its own; free axes get ``length``."""
    request: Mapping[str, Array] = {
        one.name: np.zeros(
            [1] * (config.max_batch_size > 0) + [length if size < 0 else size for size in one.dims],
            NUMPY_TYPES[pb.DataType.Name(one.data_type).removeprefix("TYPE_")],
        )
        for one in config.input
    }
    return request
