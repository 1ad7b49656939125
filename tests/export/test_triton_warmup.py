"""Warm-up: a few real rows, spread over the lengths, as the bytes that Triton reads back as those rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from export import triton_warmup
from export.triton_warmup import SAMPLES, choose, files, read, zeros
from serving import model_config
from serving.tensors import NUMPY_TYPES, Field, Tensors

FIELDS = (Field("ids", "INT64", ("length",)), Field("weights", "FP32", ("length", 2)))


def row(length: int, fill: float = 1) -> Tensors:
    return {"ids": np.arange(length), "weights": np.full((length, 2), fill, np.float32)}


def declared(fields: tuple[Field, ...], batch: int = 4) -> pb.ModelConfig:
    config = pb.ModelConfig(max_batch_size=batch)
    for field in fields:
        config.input.add(name=field.name, data_type=model_config.data_type(field), dims=field.dims({}))
    return config


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40))
def test_few_rows_of_unlike_length_with_the_shortest_and_the_longest(lengths: list[int]) -> None:
    chosen = [len(one["ids"]) for one in choose([row(length) for length in lengths], FIELDS)]
    assert len(chosen) == min(SAMPLES, len(set(lengths)))
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(lengths)
    assert (chosen[0], chosen[-1]) == (min(lengths), max(lengths))


NUMBERS = sorted(set(NUMPY_TYPES) - {"BYTES"})


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NUMBERS), st.integers(1, 3), st.integers(0, 2**32)), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    st.integers(0, 4),
)
def test_what_is_written_is_read_back(inputs: list[tuple[str, int, int]], lengths: list[int], batch: int) -> None:
    fields = tuple(Field(f"f{i}", kind, ("length",) * rank) for i, (kind, rank, _) in enumerate(inputs))
    rows = []
    for length in lengths:
        one = {}
        for field, (kind, rank, seed) in zip(fields, inputs, strict=True):
            bits = np.random.default_rng(seed).integers(0, 100, (length,) * rank)
            one[field.name] = bits.astype(NUMPY_TYPES[kind])
        rows.append(one)
    with tempfile.TemporaryDirectory() as folder:
        config = declared(fields, batch)
        triton_warmup.write(Path(folder), config, 7, rows, fields)
        faults: list[str] = []
        found = read(Path(folder), config, faults)
        assert faults == []
        assert {path.name for path in (Path(folder) / "warmup").iterdir()} == files(config)
    for given_row, read_row in zip(rows, found, strict=True):
        for field in fields:
            array = read_row[field.name][0] if batch else read_row[field.name]
            assert array.dtype == given_row[field.name].dtype
            assert np.array_equal(array, given_row[field.name])


def test_the_files_are_little_endian_whatever_the_row_is(tmp_path: Path) -> None:
    config = declared(FIELDS[:1])
    big = {"ids": np.array([1, 256], ">i4")}
    triton_warmup.write(tmp_path, config, 3, [big], FIELDS[:1])
    content = (tmp_path / "warmup" / "3-0-ids").read_bytes()
    assert content == (1).to_bytes(8, "little") + (256).to_bytes(8, "little")
    given_input = config.model_warmup[0].inputs["ids"]
    assert (config.model_warmup[0].batch_size, given_input.data_type, list(given_input.dims)) == (1, pb.TYPE_INT64, [2])


def test_versions_do_not_share_files(tmp_path: Path) -> None:
    older, newer = declared(FIELDS), declared(FIELDS)
    triton_warmup.write(tmp_path, older, 1, [row(3, fill=1)], FIELDS)
    triton_warmup.write(tmp_path, newer, 2, [row(5, fill=2)], FIELDS)
    assert not files(older) & files(newer)
    assert len(read(tmp_path, older, [])[0]["ids"][0]) == 3


def test_a_request_with_a_fault_is_left_out_and_the_others_are_read(tmp_path: Path) -> None:
    config = declared(FIELDS)
    triton_warmup.write(tmp_path, config, 1, [row(3), row(5)], FIELDS)
    (tmp_path / "warmup" / "1-0-ids").unlink()
    faults: list[str] = []
    found = read(tmp_path, config, faults)
    assert [one["ids"].shape for one in found] == [(1, 5)]
    assert len(faults) == 1
    assert "model_warmup 'golden row 0' ids" in faults[0]


def test_zeros_have_the_shape_of_the_inputs() -> None:
    fields = (*FIELDS, Field("fixed", "BOOL", (7,)))
    shapes = {name: (array.shape, array.dtype.kind) for name, array in zeros(declared(fields), 8).items()}
    assert shapes == {"ids": ((1, 8), "i"), "weights": ((1, 8, 2), "f"), "fixed": ((1, 7), "b")}
    assert zeros(declared(FIELDS, batch=1), 8)["ids"].shape == (1, 8)
    assert zeros(declared(FIELDS, batch=0), 8)["ids"].shape == (8,)


def test_a_model_without_a_batch_axis_is_warmed_up_one_by_one(tmp_path: Path) -> None:
    config = declared(FIELDS, batch=0)
    triton_warmup.write(tmp_path, config, 1, [row(3)], FIELDS)
    config.model_warmup[0].batch_size = 2
    faults: list[str] = []
    assert read(tmp_path, config, faults) == []
    assert ["batch_size: out of range, got 2; give 1 to 1" in line for line in faults] == [True]
