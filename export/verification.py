"""What answers are worth: scored on the validation split, and held against PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.backends import Backend
from serving.scoring import bootstrap
from serving.tasks import Task
from serving.tensors import Row, Tensors, sizes, stack, unstack


@dataclass(frozen=True)
class Answered:
    """The answers of one graph, or of PyTorch itself, to the validation rows.

    ``interval`` is the 95 % bootstrap interval of ``metric``, the first of the ``scores``. ``agreement`` is the share
    of rows that get PyTorch's label; differences are absolute, of graph outputs against PyTorch's.
    """

    name: str
    answers: Sequence[Row]
    metric: str
    scores: dict[str, Any]
    interval: tuple[float, float]
    agreement: float
    largest_difference: float
    mean_difference: float

    @property
    def value(self) -> float:
        """The first metric."""
        return float(self.scores[self.metric])

    def summary(self) -> dict[str, Any]:
        """The figures, for manifests and reports."""
        return {
            self.metric: round(self.value, 5),
            "interval": [round(bound, 5) for bound in self.interval],
            "agreement": round(self.agreement, 5),
            "largest_difference": round(self.largest_difference, 5),
            "mean_difference": round(self.mean_difference, 5),
        }


def verify(name: str, task: Task, rows: Sequence[Row], answers: Sequence[Row], reference: Sequence[Row]) -> Answered:
    """What these answers are worth; ``rows`` hold the targets, ``reference`` are PyTorch's answers."""
    scores = task.score(answers, rows)
    metric = next(iter(scores))

    def resampled(indices: Any) -> float:
        return float(task.score([answers[i] for i in indices], [rows[i] for i in indices])[metric])

    differences = [output_difference(task, a, r) for a, r in zip(answers, reference, strict=True)]
    targets = [field.name for field in task.targets]
    same = [all(a[t] == r[t] for t in targets) for a, r in zip(answers, reference, strict=True)]
    return Answered(
        name=name,
        answers=answers,
        metric=metric,
        scores=scores,
        interval=bootstrap(resampled, len(rows)),
        agreement=float(np.mean(same)),
        largest_difference=float(np.max(differences)),
        mean_difference=float(np.mean(differences)),
    )


def run_singly(backend: Backend, task: Task, encoded: Sequence[Tensors]) -> list[Row]:
    """The answers of every row, one row per run."""
    ((name, graph),) = task.graphs.items()
    answers = []
    for row in encoded:
        outputs = backend.run(name, stack([row], graph.inputs))
        (own,) = unstack(outputs, graph.outputs, [sizes(row, graph.inputs)])
        answers.append(task.decode(row, own))
    return answers


def compared_outputs(task: Task) -> list[str]:
    """The outputs of a row that come from the graph as they are, and so can be held to a tolerance."""
    from_graphs = {field.name for graph in task.graphs.values() for field in graph.outputs}
    return [field.name for field in task.outputs if field.name in from_graphs]


def output_difference(task: Task, answer: Row, reference: Row) -> float:
    """The largest absolute difference of one row's graph outputs."""
    return max(
        float(np.max(np.abs(np.asarray(answer[name]) - np.asarray(reference[name])), initial=0.0))
        for name in compared_outputs(task)
    )
