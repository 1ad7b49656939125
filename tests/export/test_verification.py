"""What is said of a graph: measured one row at a time, against PyTorch and against the targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.verification import compared_outputs, run_singly, verify
from serving.backends import open_backend
from serving.tasks.text_classification import TextClassification
from serving.tensors import Array, Row, Tensors
from tests.serving.bundles import LABELS, answered, write_assets, write_graph

ROWS: list[Row] = [
    {"text": "a", "label": "cancel"},
    {"text": "a much longer text", "label": "refund"},
    {"text": "b", "text_pair": "c", "label": "thanks"},
    {"text": "d", "label": "thanks"},
]


@pytest.fixture
def task(tmp_path: Path) -> TextClassification:
    return TextClassification.open(write_assets(tmp_path / "assets"))


def answer(task: TextClassification, label: str, sure: float = 2.0) -> Row:
    return task.decode({}, {"logits": sure * np.eye(3, dtype=np.float32)[LABELS.index(label)]})


def test_rows_are_run_one_by_one_without_padding(task: TextClassification, tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "model.json", "stub")
    backend = open_backend("stub", {"model": graph})
    shapes: list[tuple[int, ...]] = []

    class Watched:
        def run(self, name: str, batch: Tensors) -> Any:
            shapes.append(batch["input_ids"].shape)
            return backend.run(name, batch)

        def close(self) -> None:
            backend.close()

    requests = [{name: value for name, value in row.items() if name != "label"} for row in ROWS]
    encoded = [task.encode(row) for row in requests]
    found = run_singly(Watched(), task, encoded)
    assert shapes == [(1, len(row["input_ids"])) for row in encoded]
    for row, given in zip(requests, found, strict=True):
        assert given["logits"].tolist() == answered(task, "stub", graph, row)["logits"].tolist()


def test_the_figures_of_an_answered_split(task: TextClassification) -> None:
    reference = [answer(task, str(row["label"])) for row in ROWS]
    answers: list[Row] = [*reference[:2], answer(task, "refund"), answer(task, "thanks", 2.5)]
    found = verify("int8", task, ROWS, answers, reference)
    assert found.metric == "accuracy"
    assert found.value == 0.75
    assert found.agreement == 0.75
    assert found.largest_difference == 2.0
    assert found.mean_difference == pytest.approx((2.0 + 0.5) / 4)
    assert found.interval[0] <= 0.75 <= found.interval[1]
    assert found.interval[0] < found.interval[1]


def test_pytorch_agrees_with_itself(task: TextClassification) -> None:
    reference = [answer(task, str(row["label"])) for row in ROWS]
    found = verify("pytorch", task, ROWS, reference, reference)
    assert (found.value, found.agreement, found.largest_difference) == (1.0, 1.0, 0.0)


def test_only_what_comes_from_the_graph_is_compared(task: TextClassification) -> None:
    assert compared_outputs(task) == ["logits"]


def test_an_answer_of_another_shape_is_no_small_difference(task: TextClassification) -> None:
    wrong: Array = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="shape"):
        verify("x", task, ROWS[:1], [{"label": "cancel", "logits": wrong}], [answer(task, "cancel")])
