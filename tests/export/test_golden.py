"""Golden rows spread over labels and lengths, and carry PyTorch's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.golden import COUNT, FLOOR, choose, golden_rows, tolerance
from serving.tasks.text_classification import TextClassification
from serving.tensors import Row, Tensors
from tests.serving.bundles import write_assets


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TextClassification:
    return TextClassification.open(write_assets(tmp_path_factory.mktemp("golden") / "assets"))


def encoded(lengths: list[int]) -> list[Tensors]:
    return [dict.fromkeys(("input_ids", "attention_mask"), np.ones(length, np.int64)) for length in lengths]


def answers(labels: list[str]) -> list[Row]:
    return [{"label": label} for label in labels]


ROWS = st.lists(st.tuples(st.integers(0, 40).map(str), st.integers(1, 60)), min_size=1, max_size=120)
MANY_ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 60)), min_size=50, max_size=80)


@settings(deadline=None)
@given(ROWS)
def test_at_most_32_rows_over_as_many_labels_as_there_are(
    task: TextClassification, rows: list[tuple[str, int]]
) -> None:
    labels, lengths = [label for label, _ in rows], [length for _, length in rows]
    chosen = choose(task, [{}] * len(rows), encoded(lengths), answers(labels))
    assert len(set(chosen)) == len(chosen)
    assert 1 <= len(chosen) <= COUNT
    assert len({labels[index] for index in chosen}) == min(COUNT, len(set(labels)))


@settings(deadline=None)
@given(MANY_ROWS)
def test_the_shortest_and_the_longest_row_of_a_label_are_among_them(
    task: TextClassification, rows: list[tuple[str, int]]
) -> None:
    labels, lengths = [label for label, _ in rows], [length for _, length in rows]
    chosen = choose(task, [{}] * len(rows), encoded(lengths), answers(labels))
    for label in set(labels):
        own = [length for name, length in rows if name == label]
        picked = [lengths[index] for index in chosen if labels[index] == label]
        assert min(picked) == min(own)
        assert max(picked) == max(own)


def test_a_rare_label_is_not_crowded_out(task: TextClassification) -> None:
    labels = ["common"] * 500 + ["rare"] * 2
    chosen = choose(task, [{}] * 502, encoded([index % 50 + 1 for index in range(502)]), answers(labels))
    assert {500, 501} <= set(chosen)
    assert len(chosen) == 18


def test_a_golden_row_is_a_request_with_the_answer_of_pytorch(task: TextClassification) -> None:
    rows: list[dict[str, Any]] = [{"text": "a", "label": "refund"}, {"text": "b", "text_pair": "c", "label": "cancel"}]
    reference = [task.decode({}, {"logits": np.array([0.5, index, 0.25], np.float32)}) for index in range(2)]
    first, second = golden_rows(task, rows, [{}, {}], reference, [1, 0])
    assert first.row == {"text": "b", "text_pair": "c"}
    assert second.row == {"text": "a"}
    assert first.answer["label"] == "refund"
    assert first.answer["logits"] == [0.5, 1.0, 0.25]


def test_the_tolerance_is_what_this_graph_shows_with_a_margin(task: TextClassification) -> None:
    reference = [{"logits": np.array([1.0, 2.0, 3.0])}] * 3
    found = [{"logits": np.array([1.0, 2.0 + difference, 3.0])} for difference in (0.1, -0.2, 9.0)]
    assert tolerance(task, found, reference, [0, 1]) == {"logits": pytest.approx(0.3)}
    assert tolerance(task, reference, reference, [0, 1, 2]) == {"logits": FLOOR}
