"""Text classification beyond the contract of every task: its labels, its assets, what its answer means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.bundle import write_json
from serving.errors import BundleError, InvalidInput
from serving.tasks.text_classification import LABELS as LABELS_FILE
from serving.tasks.text_classification import TextClassification
from serving.tensors import check
from tests.serving.bundles import LABELS, write_assets


@pytest.fixture
def task(tmp_path: Path) -> TextClassification:
    return TextClassification.open(write_assets(tmp_path / "assets"))


def test_answer_is_the_most_probable_label_with_its_probability(task: TextClassification) -> None:
    answer = task.decode({}, {"logits": np.log(np.array([1, 7, 2], np.float32))})
    assert answer["label"] == LABELS[1]
    assert answer["score"] == pytest.approx(0.7)
    np.testing.assert_allclose(answer["probabilities"], [0.1, 0.7, 0.2], rtol=1e-6)


def test_labels_are_learned_sorted_and_once(tmp_path: Path) -> None:
    rows = [{"text": "x", "label": label} for label in ("b", "a", "b", 3)]
    assert TextClassification.learn(rows) == {LABELS_FILE: ["3", "a", "b"]}


def test_model_config_and_labels_agree(task: TextClassification) -> None:
    config = task.model_config()
    assert config["num_labels"] == len(LABELS)
    for number, label in config["id2label"].items():
        assert config["label2id"][label] == number
        assert task.label({"label": label})["labels"] == number


@pytest.mark.parametrize("labels", [[], ["one"], ["twice", "twice"]])
def test_labels_that_are_no_choice_are_refused(labels: list[str], tmp_path: Path) -> None:
    assets = write_assets(tmp_path / "assets")
    write_json(assets / LABELS_FILE, labels)
    with pytest.raises(BundleError, match="at least two different labels"):
        TextClassification.open(assets)


def test_missing_labels_are_refused_with_their_path(tmp_path: Path) -> None:
    assets = write_assets(tmp_path / "assets")
    (assets / LABELS_FILE).unlink()
    with pytest.raises(BundleError, match=LABELS_FILE):
        TextClassification.open(assets)


@pytest.mark.parametrize(
    ("pair", "inputs"),
    [
        ("never", [("text", False)]),
        ("sometimes", [("text", False), ("text_pair", True)]),
        ("always", [("text", False), ("text_pair", False)]),
    ],
)
def test_second_text_is_taken_as_it_was_trained(pair: str, inputs: list[tuple[str, bool]], tmp_path: Path) -> None:
    task = TextClassification.open(write_assets(tmp_path / "assets", pair=pair))
    assert [(field.name, field.optional) for field in task.inputs] == inputs
    assert check(task.example, task.inputs), "the example is a row of this very model"
    both = {"text": "a", "text_pair": "b"}
    if pair == "never":
        with pytest.raises(InvalidInput, match="text_pair: unknown column"):
            check(both, task.inputs)
    else:
        assert len(task.encode(check(both, task.inputs))["input_ids"]) == 5
    if pair == "always":
        with pytest.raises(InvalidInput, match="text_pair: missing"):
            check({"text": "a"}, task.inputs)
