"""What an exported graph is worth: its answers on the validation split, by the backend that will serve it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.invariance import Invariance
from serving.backends import Backend
from serving.scoring import bootstrap
from serving.tasks import Task
from serving.tensors import Row, Tensors, sizes, stack, unstack


@dataclass(frozen=True)
class Candidate:
    """One graph, or PyTorch itself, measured on the validation split.

    ``interval`` is the 95 % bootstrap interval of ``metric``. ``agreement`` is the share of rows that get the
    reference's label; differences are of graph outputs against the reference. Times are for one row at a time;
    PyTorch's are not measured, nor is what batches change in its answers. ``verdict`` says why a graph was kept or not.
    """

    name: str
    answers: Sequence[Row]
    metric: str
    scores: dict[str, Any]
    interval: tuple[float, float]
    agreement: float
    largest_difference: float
    mean_difference: float
    size: int
    p50_ms: float | None
    p99_ms: float | None
    invariance: Invariance | None = None
    verdict: str = ""

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
            "bytes": self.size,
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            **({"in_batches": self.invariance.summary()} if self.invariance else {}),
            **({"verdict": self.verdict} if self.verdict else {}),
        }


def run_singly(
    backend: Backend, task: Task, encoded: Sequence[Tensors], progress: Callable[[int], Any]
) -> tuple[list[Row], list[float]]:
    """Answers and seconds of every row, one row per run: what batch mates change is another question."""
    ((name, graph),) = task.graphs.items()
    answers, seconds = [], []
    for row in encoded:
        begun = time.perf_counter()
        outputs = backend.run(name, stack([row], graph.inputs))
        seconds.append(time.perf_counter() - begun)
        (own,) = unstack(outputs, graph.outputs, [sizes(row, graph.inputs)])
        answers.append(task.decode(row, own))
        progress(1)
    return answers, seconds


def measure(
    name: str,
    task: Task,
    rows: Sequence[Row],
    answers: Sequence[Row],
    reference: Sequence[Row],
    seconds: Sequence[float],
    graph: Path | None,
) -> Candidate:
    """The candidate of these answers; ``rows`` hold the targets, ``reference`` are PyTorch's answers."""
    scores = task.score(answers, rows)
    metric = next(iter(scores))

    def resampled(indices: Any) -> float:
        return float(task.score([answers[i] for i in indices], [rows[i] for i in indices])[metric])

    differences = [output_difference(task, a, r) for a, r in zip(answers, reference, strict=True)]
    targets = [field.name for field in task.targets]
    same = [all(a[t] == r[t] for t in targets) for a, r in zip(answers, reference, strict=True)]
    return Candidate(
        name=name,
        answers=answers,
        metric=metric,
        scores=scores,
        interval=bootstrap(resampled, len(rows)),
        agreement=float(np.mean(same)),
        largest_difference=float(np.max(differences)),
        mean_difference=float(np.mean(differences)),
        size=graph.stat().st_size if graph else 0,
        p50_ms=round(1000 * float(np.median(seconds)), 3) if seconds else None,
        p99_ms=round(1000 * float(np.percentile(seconds, 99)), 3) if seconds else None,
    )


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
