"""The best classes as texts: order, ties, what is no number, labels, rows, and outputs that have none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.codec import Tensor
from serving.columns import Schema
from serving.errors import InvalidInput
from serving.gateway.classification import check, classified
from serving.tensors import Field

PROBABILITIES = Field("probabilities", "FP32", ("labels",))
SCHEMA = Schema("m", (), (), (Field("label", "BYTES"), PROBABILITIES), {"labels": ("no", "yes", "Größe")}, 4)


def best(values: Any, classes: int, field: Field = PROBABILITIES, schema: Schema = SCHEMA) -> Any:
    tensor = classified(Tensor("probabilities", "FP32", np.array(values, np.float32)), field, schema, classes)
    assert tensor.datatype == "BYTES"
    return tensor.array.tolist()


def test_classes_come_best_first_with_value_index_and_label() -> None:
    assert best([[0.2, 0.75, 0.05]], 2) == [["0.750000:1:yes", "0.200000:0:no"]]


def test_every_row_has_its_own_classes() -> None:
    assert best([[0.5, 0.25, 0.25], [0, 0, 1]], 1) == [["0.500000:0:no"], ["1.000000:2:Größe"]]


@pytest.mark.parametrize("classes", [3, 4, 2**40])
def test_more_classes_than_there_are_give_all(classes: int) -> None:
    assert best([[3, 1, 2]], classes) == [["3.000000:0:no", "2.000000:2:Größe", "1.000000:1:yes"]]


def test_equal_values_keep_their_order() -> None:
    assert best([[1, 2, 1], [0, 0, 0]], 3) == [
        ["2.000000:1:yes", "1.000000:0:no", "1.000000:2:Größe"],
        ["0.000000:0:no", "0.000000:1:yes", "0.000000:2:Größe"],
    ]


def test_what_is_no_number_comes_last_and_infinity_where_it_belongs() -> None:
    assert best([[np.nan, -np.inf, np.inf]], 3) == [["inf:2:Größe", "-inf:1:yes", "nan:0:no"]]


def test_values_are_written_as_the_standard_library_of_cpp_does() -> None:
    assert best([[1e20, 1e-7, -2.25]], 3) == [
        ["100000002004087734272.000000:0:no", "0.000000:1:yes", "-2.250000:2:Größe"]
    ]


def test_axis_without_names_gives_the_index_alone() -> None:
    field = Field("logits", "FP32", ("classes",))
    assert best([[0.5, 2.25]], 1, field) == [["2.250000:1"]]
    assert best([[0.5]], 5, Field("score", "FP32")) == [["0.500000:0"]]


def test_index_beyond_the_labels_stands_alone() -> None:
    short = replace(SCHEMA, axes={"labels": ("no",)})
    assert best([[1, 2]], 2, schema=short) == [["2.000000:1", "1.000000:0:no"]]


def test_model_without_a_batch_axis_has_none_in_its_classes() -> None:
    assert best([0.2, 0.7, 0.1], 2, schema=replace(SCHEMA, max_batch_size=0)) == ["0.700000:1:yes", "0.200000:0:no"]


def test_text_has_no_classes_and_is_told_what_has() -> None:
    check(PROBABILITIES, SCHEMA)
    with pytest.raises(InvalidInput, match="'label', which is text; ask for probabilities"):
        check(Field("label", "BYTES"), SCHEMA)
