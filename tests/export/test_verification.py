"""What is said of a graph: measured one row at a time, against PyTorch and against the targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.verification import compared_outputs, measure, run_singly
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
    told: list[int] = []
    found, seconds = run_singly(Watched(), task, encoded, told.append)
    assert shapes == [(1, len(row["input_ids"])) for row in encoded]
    assert told == [1] * 4
    assert len(seconds) == 4
    for row, given in zip(requests, found, strict=True):
        assert given["logits"].tolist() == answered(task, "stub", graph, row)["logits"].tolist()


def test_the_figures_of_a_candidate(task: TextClassification, tmp_path: Path) -> None:
    (tmp_path / "graph").write_bytes(b"12345")
    reference = [answer(task, str(row["label"])) for row in ROWS]
    answers: list[Row] = [*reference[:2], answer(task, "refund"), answer(task, "thanks", 2.5)]
    candidate = measure("int8", task, ROWS, answers, reference, [0.001, 0.002, 0.003, 0.004], tmp_path / "graph")
    assert candidate.metric == "accuracy"
    assert candidate.value == 0.75
    assert candidate.agreement == 0.75
    assert candidate.largest_difference == 2.0
    assert candidate.mean_difference == pytest.approx((2.0 + 0.5) / 4)
    assert candidate.size == 5
    assert candidate.p50_ms == 2.5
    assert candidate.interval[0] <= 0.75 <= candidate.interval[1]
    assert candidate.interval[0] < candidate.interval[1]


def test_pytorch_agrees_with_itself_and_has_no_latency(task: TextClassification) -> None:
    reference = [answer(task, str(row["label"])) for row in ROWS]
    candidate = measure("pytorch", task, ROWS, reference, reference, [], None)
    assert (candidate.value, candidate.agreement, candidate.largest_difference) == (1.0, 1.0, 0.0)
    assert (candidate.size, candidate.p50_ms, candidate.p99_ms) == (0, None, None)


def test_only_what_comes_from_the_graph_is_compared(task: TextClassification) -> None:
    assert compared_outputs(task) == ["logits"]


def test_an_answer_of_another_shape_is_no_small_difference(task: TextClassification) -> None:
    wrong: Array = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="shape"):
        measure("x", task, ROWS[:1], [{"label": "cancel", "logits": wrong}], [answer(task, "cancel")], [], None)
