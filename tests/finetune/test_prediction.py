"""PyTorch's answers: in the order of the rows, whatever they were batched with."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification

from finetune.prediction import predict
from serving.tasks.text_classification import TextClassification
from tests.finetune import toy


@pytest.fixture(scope="module")
def task(checkpoint: Path) -> TextClassification:
    return TextClassification.open(checkpoint / "assets")


def test_rows_keep_their_order_and_do_not_depend_on_their_batch(checkpoint: Path, task: TextClassification) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint / "model")
    rows = toy.rows(40, seed=9)
    Random(1).shuffle(rows)
    encoded = [task.encode({"text": row["text"]}) for row in rows]
    told: list[int] = []
    together = predict(model, task, encoded, told.append, 64)
    alone = [predict(model, task, [one])[0] for one in encoded]
    assert sum(told) == 40
    assert 1 < len(told) < 40
    assert [answer["label"] for answer in together] == [answer["label"] for answer in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-5)


def test_a_model_in_training_is_not_scored_with_dropout_and_goes_on_training(
    checkpoint: Path, task: TextClassification
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint / "model").train()
    encoded = [task.encode({"text": "warm sun"})]
    first, second = predict(model, task, encoded), predict(model, task, encoded)
    assert first[0]["logits"].tolist() == second[0]["logits"].tolist()
    assert model.training
