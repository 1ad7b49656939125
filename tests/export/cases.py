"""Cases for gates, written in code: text classification with as many rows as wanted, right or wrong as told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.gates.case import Case, Structure
from export.invariance import Invariance
from export.trial import Measured, Speedup
from export.verification import Answered, verify
from serving.tasks.text_classification import TextClassification
from serving.tensors import Row
from tests.serving.bundles import LABELS, write_assets

INVARIANT = Invariance(rows=32, batches=20, flips=0, difference=0.0)


def task(folder: Path) -> TextClassification:
    """The task of the test bundles."""
    return TextClassification.open(write_assets(folder / "assets"))


def answer(own: TextClassification, label: str, sure: float = 2.0) -> Row:
    """An answer whose logits are ``sure`` for that label and 0 for the others."""
    return own.decode({}, {"logits": sure * np.eye(3, dtype=np.float32)[LABELS.index(label)]})


def measured(**changes: Any) -> Measured:
    """What an INT8 graph looks like on a good day."""
    figures: dict[str, Any] = {
        "p50_ms": 2.0, "p99_ms": 4.0, "rows_per_second": 500.0, "memory": 10**8, "load_seconds": 0.1,
        "invariance": INVARIANT, "speedup": Speedup(1.8, 1.7, 1.9),
    }  # fmt: skip
    return Measured(**{**figures, **changes})


def answered(
    own: TextClassification, name: str, rows: Sequence[Row], labels: Sequence[str], sure: float = 2.0
) -> Answered:
    """These labels, as the answers of a graph; PyTorch gives the right ones."""
    right = [answer(own, str(row["label"])) for row in rows]
    return verify(name, own, rows, [answer(own, label, sure) for label in labels], right)


def case(own: TextClassification, wrong: Sequence[int] = (), *, rows: int = 300, **changes: Any) -> Case:
    """A case whose judged graph answers the rows ``wrong`` with another label; row ``i`` has label ``i % 3``."""
    targets: list[Row] = [{"text": "x" * (1 + index % 40), "label": LABELS[index % 3]} for index in range(rows)]
    labels = [str(row["label"]) for row in targets]
    judged = [LABELS[(index + 1) % 3] if index in set(wrong) else label for index, label in enumerate(labels)]
    reference = answered(own, "pytorch", targets, labels)
    figures: dict[str, Any] = {
        "task": own, "rows": targets, "lengths": [3 + index % 40 for index in range(rows)], "reference": reference,
        "floats": answered(own, "fp32", targets, labels), "judged": answered(own, "int8-static", targets, judged),
        "measured": measured(), "structure": Structure({"integer": 4}), "promises_invariance": True,
        "tolerance": 1.0,
    }  # fmt: skip
    return Case(**{**figures, **changes})
