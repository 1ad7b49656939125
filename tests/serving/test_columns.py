"""Wire tensors to rows and back: every batch size, with the batch axis and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.codec import Tensor
from serving.columns import Schema
from serving.errors import InvalidInput
from serving.tasks.text_classification import TextClassification
from tests.serving.bundles import LABELS, write_assets


def schema(folder: Path, max_batch_size: int) -> Schema:
    return Schema.of(TextClassification.open(write_assets(folder / "assets")), "m", max_batch_size)


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    return schema(tmp_path_factory.mktemp("batched"), 8)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    return schema(tmp_path_factory.mktemp("single"), 0)


def column(name: str, values: list[Any], *shape: int) -> Tensor:
    array = np.empty(len(values), object)
    array[:] = values
    return Tensor(name, "BYTES", array.reshape(shape or (len(values), 1)))


def ids(*shape: int, name: str = "input_ids") -> Tensor:
    return Tensor(name, "INT64", np.arange(int(np.prod(shape))).reshape(shape))


def test_rows_keep_their_order_and_their_own_values(batched: Schema) -> None:
    @settings(deadline=None)
    @given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=8))
    def holds(pairs: list[tuple[str, str]]) -> None:
        first, second = zip(*pairs, strict=True)
        rows = batched.rows([column("text", list(first)), column("text_pair", list(second))])
        assert rows == [{"text": a, "text_pair": b} for a, b in pairs]

    holds()


def test_answers_are_gathered_with_the_batch_axis_and_without(batched: Schema, single: Schema) -> None:
    answers = [{"label": name, "score": 0.5, "logits": np.arange(3.0) + n} for n, name in enumerate(LABELS)]
    fields = {field.name: field for field in batched.outputs}
    assert batched.gathered(fields["label"], answers).array.tolist() == [[name] for name in LABELS]
    assert batched.gathered(fields["score"], answers).array.shape == (3, 1)
    assert batched.gathered(fields["logits"], answers).array.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert single.gathered(fields["label"], answers[:1]).array.tolist() == [LABELS[0]]
    assert single.gathered(fields["logits"], answers[:1]).array.shape == (3,)


def test_shapes_on_the_wire_have_a_batch_axis_only_where_there_is_one(batched: Schema, single: Schema) -> None:
    assert [item["shape"] for item in batched.described(batched.fields)] == [[-1, 1], [-1, 1], [-1, -1], [-1, -1]]
    assert [item["shape"] for item in single.described(single.fields)] == [[1], [1], [-1], [-1]]


def test_row_without_a_batch_axis_is_one_row(single: Schema) -> None:
    assert single.rows([column("text", ["a"], 1)]) == [{"text": "a"}]
    (row,) = single.rows([ids(5), ids(5, name="attention_mask")])
    assert row["input_ids"].tolist() == [0, 1, 2, 3, 4]


def test_arrays_are_cut_into_rows(batched: Schema) -> None:
    rows = batched.rows([ids(2, 3), ids(2, 3, name="attention_mask")])
    assert [row["input_ids"].tolist() for row in rows] == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([], "expected 1 inputs but got 0 inputs for model 'm'. Missing: text"),
        ([ids(1, 3)], "Missing: attention_mask"),
        ([column("text", ["a"]), ids(1, 3)], "either text, text_pair or input_ids, attention_mask"),
        ([column("text", ["a"] * 9)], "must be <= 8 for 'm', and at least 1, got 9"),
        ([column("text", [], 0, 1)], "at least 1, got 0"),
        ([column("text", ["a"], 1, 1, 1)], r"Expected \[-1, 1\], got \[1, 1, 1\]"),
        ([ids(1, 3), ids(2, 3, name="attention_mask")], r"different batch sizes: \[1, 2\]"),
    ],
)
def test_tensors_that_are_no_rows_are_refused(batched: Schema, tensors: list[Tensor], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        batched.rows(tensors)


def test_batch_axis_where_there_is_none_is_refused(single: Schema) -> None:
    with pytest.raises(InvalidInput, match=r"Expected \[1\], got \[1, 1\]"):
        single.rows([column("text", ["a"], 1, 1)])


def test_raw_body_is_the_text_that_the_model_needs(batched: Schema, single: Schema) -> None:
    for one in (batched, single):
        assert one.rows([one.raw(b"\x05\x00 is no length here")]) == [{"text": b"\x05\x00 is no length here"}]


def test_outputs_that_are_asked_for_come_in_that_order_and_all_where_none_is(batched: Schema) -> None:
    assert [field.name for field in batched.wanted(["logits", "label"])] == ["logits", "label"]
    assert [field.name for field in batched.wanted([])] == ["label", "score", "probabilities", "logits"]
    with pytest.raises(InvalidInput, match="'lable' for model 'm'; the outputs are label, score"):
        batched.wanted(["lable"])
