"""Golden rows: a few validation rows with PyTorch's answers, and how closely this graph reproduces them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.verification import compared_outputs
from serving.bundle import GoldenRow, plain
from serving.tasks import Task
from serving.tensors import NUMPY_TYPES, Row, Tensors, sizes

COUNT = 32
# What another CPU of the same kind may add to the difference seen here.
MARGIN = 1.5
FLOOR = 1e-3


@dataclass(frozen=True)
class Proof:
    """The golden rows of an export: with PyTorch's answers, encoded, and how closely the graph must answer them."""

    rows: Sequence[GoldenRow]
    encoded: Sequence[Tensors]
    tolerance: Mapping[str, float]


def prove(
    task: Task,
    rows: Sequence[Row],
    encoded: Sequence[Tensors],
    reference: Sequence[Row],
    answers: Sequence[Row],
) -> Proof:
    """The proof of a graph that gave these ``answers`` to the rows, where PyTorch gave those of the ``reference``.

    What the graph does not give itself (probabilities) is derived by ``task`` as it will be served.
    """
    chosen = choose(task, rows, encoded, reference)
    return Proof(
        golden_rows(task, rows, encoded, reference, chosen),
        [encoded[index] for index in chosen],
        tolerance(task, answers, reference, chosen),
    )


def choose(task: Task, rows: Sequence[Row], encoded: Sequence[Tensors], reference: Sequence[Row]) -> list[int]:
    """Indices of up to 32 rows that spread over the predicted labels and, within each, over the lengths."""
    (graph,) = task.graphs.values()
    lengths = [max(sizes(row, graph.inputs).values()) for row in encoded]
    targets = [field.name for field in task.targets]
    groups: dict[str, list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda i: (lengths[i], i)):
        groups.setdefault(str([reference[index][name] for name in targets]), []).append(index)
    share = max(1, COUNT // len(groups))
    chosen = []
    for key in sorted(groups):
        members = groups[key]
        picks = np.linspace(0, len(members) - 1, min(share, len(members))).round().astype(int)
        chosen += [members[pick] for pick in sorted(set(picks.tolist()))]
    return chosen[:COUNT]


def golden_rows(
    task: Task, rows: Sequence[Row], encoded: Sequence[Tensors], reference: Sequence[Row], chosen: Sequence[int]
) -> list[GoldenRow]:
    """The chosen rows, inputs only, with the answers that the reference's graph outputs come to."""
    inputs = [field.name for field in task.inputs]
    (graph,) = task.graphs.values()
    golden = []
    for i in chosen:
        outputs = {f.name: np.asarray(reference[i][f.name], NUMPY_TYPES[f.dtype]) for f in graph.outputs}
        row = {name: rows[i][name] for name in inputs if name in rows[i]}
        golden.append(GoldenRow(row, plain(task.decode(encoded[i], outputs))))
    return golden


def tolerance(task: Task, answers: Sequence[Row], reference: Sequence[Row], chosen: Sequence[int]) -> dict[str, float]:
    """Per output, the largest difference on the golden rows with a margin: what a load elsewhere may show."""
    return {
        name: max(FLOOR, MARGIN * max(_difference(answers[i][name], reference[i][name]) for i in chosen))
        for name in compared_outputs(task)
    }


def _difference(found: object, wanted: object) -> float:
    return float(np.max(np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64)), initial=0.0))
