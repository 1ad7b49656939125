"""A graph that is right only where it was traced, or only without padding, is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification

from export.child import TRACED_LENGTHS, ExportError
from export.sweep import answers, compare
from serving.backends import Backend, open_backend
from serving.tasks.text_classification import TextClassification
from serving.tensors import Array, Tensors

Outputs = dict[str, Array]


class Altered:
    """A backend whose inputs or outputs are changed on the way."""

    def __init__(
        self,
        backend: Backend,
        before: Callable[[Tensors], Tensors] = lambda batch: batch,
        after: Callable[[Array], Array] = lambda logits: logits,
    ) -> None:
        self._backend, self._before, self._after = backend, before, after

    def run(self, graph: str, batch: Tensors) -> Outputs:
        return {"logits": self._after(self._backend.run(graph, self._before(batch))["logits"])}

    def close(self) -> None:
        self._backend.close()


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(checkpoint / "model").eval()


@pytest.fixture(scope="module")
def task(checkpoint: Path) -> TextClassification:
    return TextClassification.open(checkpoint / "assets")


@pytest.fixture(scope="module")
def backend(fp32: Path) -> Backend:
    return open_backend("onnxruntime", {"model": fp32 / "model.onnx"})


def swept(model: Any, task: TextClassification, backend: Any, longest: int = 32) -> Any:
    return compare(answers(model, task.graphs["model"], model.config.vocab_size, longest), backend, "model")


def test_the_real_graph_is_pytorch_at_every_shape(model: Any, task: TextClassification, backend: Backend) -> None:
    results = swept(model, task, backend)
    assert {result.rows for result in results} == {1, 2, 3, 4, 5}
    assert {result.length for result in results} == {3, 5, 16, 32}
    assert not {result.length for result in results} & set(TRACED_LENGTHS)
    assert max(result.difference for result in results) < 1e-4


def test_no_length_is_beyond_what_the_model_takes(model: Any, task: TextClassification, backend: Backend) -> None:
    assert {result.length for result in swept(model, task, backend, longest=4)} == {3, 4}


def test_an_answer_that_is_wrong_at_batch_1_only_is_named(
    model: Any, task: TextClassification, backend: Backend
) -> None:
    broken = Altered(backend, after=lambda logits: logits + (len(logits) == 1))
    with pytest.raises(ExportError) as caught:
        swept(model, task, broken)
    told = str(caught.value)
    assert all(f"batch 1 x length {length} (" in told for length in (3, 5, 16, 32))
    assert "batch 2" not in told


@pytest.mark.parametrize(
    "broken",
    [
        {"before": lambda batch: {**batch, "attention_mask": np.ones_like(batch["attention_mask"])}},
        {"after": lambda logits: logits[:, :1]},
        {"after": lambda logits: logits * np.nan},
        {"after": lambda logits: logits[::-1]},
        {"after": lambda logits: logits * 1.01},
    ],
    ids=["ignores the mask", "lost a label", "not a number", "swaps rows", "a percent off"],
)
def test_other_wrong_graphs_are_found(
    model: Any, task: TextClassification, backend: Backend, broken: dict[str, Any]
) -> None:
    with pytest.raises(ExportError, match="differs from PyTorch"):
        swept(model, task, Altered(backend, **broken))


def test_one_set_of_answers_serves_several_graphs(model: Any, task: TextClassification, backend: Backend) -> None:
    answered = answers(model, task.graphs["model"], model.config.vocab_size, 32)
    assert len(compare(answered, backend, "model")) == len(answered) == 20
    with pytest.raises(ExportError, match="differs from PyTorch"):
        compare(answered, Altered(backend, after=lambda logits: logits * 1.01), "model")


def test_a_graph_that_knows_the_first_token_type_only_is_found(
    model: Any, task: TextClassification, backend: Backend
) -> None:
    blind = Altered(backend, lambda batch: {**batch, "token_type_ids": np.zeros_like(batch["token_type_ids"])})
    with pytest.raises(ExportError, match="differs from PyTorch"):
        swept(model, task, blind)
