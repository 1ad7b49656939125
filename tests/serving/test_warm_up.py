"""Warm-up samples of a configuration become rows, or a fault that names the sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.columns import Schema
from serving.errors import BundleError
from serving.tasks.text_classification import TextClassification
from serving.warm_up import rows
from tests.serving.bundles import config_of, write_assets

TEXT = "inputs { key: 'text' value { data_type: TYPE_STRING dims: 1 %s } }"
IDS = "inputs { key: '%s' value { data_type: TYPE_INT64 dims: 3 %s } }"


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    return Schema.of(TextClassification.open(write_assets(tmp_path_factory.mktemp("task") / "assets")), "m", 4)


def sampled(text: str, schema: Schema, folder: Path) -> list[dict[str, object]]:
    (sample,) = config_of(f"model_warmup {{ name: 'first' {text} }}").model_warmup
    return [dict(row) for row in rows(sample, schema, folder)]


def test_one_row_is_taken_as_often_as_the_batch_has_rows(schema: Schema, tmp_path: Path) -> None:
    found = sampled(f"batch_size: 3 {TEXT % 'random_data: true'}", schema, tmp_path)
    assert len(found) == 3
    assert found[0] == found[2]
    assert sampled(f"batch_size: 0 {TEXT % 'random_data: true'}", schema, tmp_path) == []


def test_file_has_the_raw_form_of_one_row(schema: Schema, tmp_path: Path) -> None:
    (tmp_path / "warmup").mkdir()
    (tmp_path / "warmup" / "text").write_bytes(b"\x05\x00\x00\x00hello")
    file = "input_data_file: 'text'"
    assert sampled(f"batch_size: 1 {TEXT % file}", schema, tmp_path) == [{"text": b"hello"}]


@pytest.mark.parametrize("data", ["zero_data: true", "random_data: true"])
def test_numbers_are_such_that_the_model_takes_them(schema: Schema, tmp_path: Path, data: str) -> None:
    text = f"batch_size: 1 {IDS % ('input_ids', data)} {IDS % ('attention_mask', data)}"
    (row,) = sampled(text, schema, tmp_path)
    np.testing.assert_array_equal(row["input_ids"], [0, 0, 0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"batch_size: 5 {TEXT % 'random_data: true'}", "batch_size 5 is more than max_batch_size 4"),
        (f"batch_size: 1 {TEXT % 'zero_data: true'}".replace("'text'", "'txt'"), "'txt'"),
        ("batch_size: 1 " + TEXT % "input_data_file: 'absent'", "absent"),
        ("batch_size: 1 " + TEXT % "input_data_file: '../config.pbtxt'", "outside warmup/"),
        ("batch_size: 1 " + IDS % ("input_ids", "zero_data: true"), "attention_mask"),
    ],
)
def test_sample_that_cannot_be_run_is_told_by_its_name(schema: Schema, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BundleError, match=f"model_warmup 'first': .*{said}"):
        sampled(text, schema, tmp_path)
