"""The rows that a static INT8 graph is calibrated on stand for all training rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from finetune import calibration
from serving.tasks import Task, find
from serving.tensors import Row, Tensors
from tests.finetune import toy


def learnt(checkpoint: Path) -> tuple[Task, list[dict[str, str]], list[Tensors]]:
    """A task with 600 rows, a fifth of which are bad."""
    task = find("text-classification").open(checkpoint / "assets")
    made = [row for index, row in enumerate(toy.rows(1000)) if row["label"] == toy.GOOD or index % 8 == 1]
    return task, made, [task.encode({"text": row["text"]}) for row in made]


def lengths(task: Task, rows: list[Row]) -> list[int]:
    return sorted(len(task.encode({"text": row["text"]})["input_ids"]) for row in rows)


def test_they_are_spread_over_labels_and_lengths(checkpoint: Path) -> None:
    task, rows, encoded = learnt(checkpoint)
    chosen = calibration.choose(task, rows, encoded, seed=13)
    assert len(chosen) == 128
    assert all(row in rows for row in chosen)
    counts, all_counts = (Counter(row["label"] for row in these) for these in (chosen, rows))
    for label, count in all_counts.items():
        assert abs(counts[label] / 128 - count / len(rows)) < 0.02
    quantiles = [np.quantile(lengths(task, these), [0, 0.25, 0.5, 0.75, 1]) for these in (chosen, list(rows))]
    assert np.max(np.abs(quantiles[0] - quantiles[1])) <= 1


def test_the_seed_decides_which(checkpoint: Path) -> None:
    task, rows, encoded = learnt(checkpoint)
    first, again, other = (calibration.choose(task, rows, encoded, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_few_rows_are_all_taken(checkpoint: Path) -> None:
    task, rows, encoded = learnt(checkpoint)
    assert sorted(map(str, calibration.choose(task, rows[:5], encoded[:5], 13))) == sorted(map(str, rows[:5]))
