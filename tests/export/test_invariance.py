"""Whether rows move one another is measured, and what is said of it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.invariance import Invariance, measure_invariance
from serving.model import Model
from serving.tasks import Task, find
from serving.tensors import Array, Tensors


class Averaging:
    """A backend whose logits count a row's tokens, moved by ``share`` of the largest count of the batch."""

    def __init__(self, share: float) -> None:
        self.share = share

    def run(self, graph: str, batch: Tensors, timeout: float | None = None) -> dict[str, Array]:
        counts = batch["attention_mask"].sum(axis=1).astype(np.float64)
        counts += self.share * counts.max()
        return {"logits": np.stack([counts, np.full_like(counts, 12.5)], axis=1)}

    def close(self) -> None: ...


def measured(checkpoint: Path, share: float, rows: int = 40) -> Invariance:
    task: Task = find("text-classification").open(checkpoint / "assets")
    model = Model("averaging", task, Averaging(share), 8)
    encoded = [task.encode({"text": "sun " * (1 + index % 10), "text_pair": "warm " * 5}) for index in range(rows)]
    alone = [model.run([row])[0][0] for row in encoded]
    return measure_invariance(model, encoded, alone, ["logits"])


def test_a_graph_that_keeps_rows_apart_is_invariant(checkpoint: Path) -> None:
    found = measured(checkpoint, 0)
    assert found == Invariance(rows=32, batches=20, flips=0, difference=0)
    assert found.held
    assert "32 rows, each in 20 random batches of up to 8: 0 % of the labels flip" in str(found)


def test_a_graph_that_mixes_rows_is_not(checkpoint: Path) -> None:
    found = measured(checkpoint, 0.1)
    assert found.flips > 0
    assert found.flip_rate == found.flips / 640
    assert found.difference > 0.1
    assert not found.held


def test_one_row_proves_nothing(checkpoint: Path) -> None:
    assert not measured(checkpoint, 0, rows=1).held


@pytest.mark.parametrize(
    ("flips", "difference", "held"),
    [(0, 0.0099, True), (0, 0.01, False), (1, 0.0, False), (0, float("nan"), False)],
)
def test_a_flip_or_a_large_difference_is_enough(flips: int, difference: float, held: bool) -> None:
    assert Invariance(32, 20, flips, difference).held == held
